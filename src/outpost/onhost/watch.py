"""Check the host every few minutes, and send alarms past the mail queue (LOG-04).

Each check is a function that yields alarms about the host itself: its queue, certificates, DNSSEC
signatures, virus signatures, disks, backup, wrong logins, units, memory, damaged messages. What changed is sent: a new alarm, one that is
over, and once a day what still lasts. What could not be sent is tried again at the next check.

Standard library only, and all checks in one file, as they are one table.
``python3 -m outpost.onhost.watch`` checks and sends; with ``look`` it prints the alarms only.
"""

import calendar
import json
import os
import re
import shlex
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from outpost.onhost.tell import TROUBLES, News, tell

SETTINGS = Path("/etc/outpost/watch.json")
STATE = Path("/var/lib/outpost-watch/state.json")
MEMORY = Path("/run/outpost-watch/state.json")
"""Where the state is kept while its disk is full or read-only."""
MOUNTS = Path("/proc/1/mountinfo")
"""Mounts as systemd has them: in the unit of these checks all are read-only."""
DAY = 86400
LOOP = 3
"""Restarts by systemd after which a unit counts as looping, until it has run for `CALM`."""
CALM = 600
CLOCK = 2.0
"""Seconds that the clock may be off; chronyd corrects a jump slowly, unless it starts."""
OUT_OF_MEMORY = "fe6faa94e7774663a0da52717891d8ef"
"""systemd's message when the kernel ended a process of a unit (systemd-journald's catalogue)."""
OF_A_SESSION = re.compile(r"[a-z-]++\(([^@)/]++)[^)]*+\)(?:<[^<>]*+>)*+: Error: ")
"""Begins a line of Dovecot about a user who has logged in, or about a delivery."""
DAMAGED = re.compile(r"/srv/mail/([^/\s]+)/Maildir/(?:\.[^/\n]+/)?(?:cur|new)/[^/\s:)]+(?::2,[A-Za-z]*)?")
MOST_DAMAGED = 5
WRONG_CODES = 5
"""Of a second factor, within ten minutes, after which the accounts service takes none for a while (`outpost.onhost.accounts`)."""
PROBE = 150.0
"""Seconds for one check: a check that hangs is an alarm, and does not delay the others. The scanner may take 120."""


@dataclass(frozen=True)
class Alarm:
    """Something that needs a person: a subject, which is the same at each check, and a text with figures and a remedy."""

    about: str
    text: str

    # LOG-04: without it a file's name that is not UTF-8, or a line feed in a unit's name, makes a message that cannot be sent, and no
    # alarm of this host arrives any more; and the answer of a stranger's server could have any length.
    def __post_init__(self) -> None:
        for name, longest in (("about", 200), ("text", 1500)):
            plain = "".join(sign if sign.isprintable() else "?" for sign in getattr(self, name)[:longest])
            object.__setattr__(self, name, plain)


Settings = dict[str, Any]
Probe = Callable[[Settings, float], Iterator[Alarm]]


def output_of(*command: str) -> str:
    """A command's output; empty if there is no such command.

    Raises:
        subprocess.TimeoutExpired: It has not ended in time. That is not an empty output.
    """
    with suppress(OSError):
        return subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False, timeout=100
        ).stdout
    return ""


def journal(*words: str) -> list[str]:
    """Lines of the journal (journalctl(1)); a stranger's name in one may contain what Python takes for the end of a line."""
    return [line for line in output_of("journalctl", "--quiet", *words).split("\n") if line]


def queue(settings: Settings, now: float) -> Iterator[Alarm]:
    """Mail that has waited for too long, or that is on hold without anybody knowing."""
    waiting = [json.loads(line) for line in output_of("postqueue", "-j").split("\n") if line]
    large = {file.name for file in Path("/var/lib/outpost-policy/large").glob("*")}
    late = [
        one
        for one in waiting
        if now - one["arrival_time"] > settings["queue_age"] and one["queue_name"] != "hold"
    ]
    if late:
        oldest = min(late, key=lambda one: int(one["arrival_time"]))
        reasons = [one.get("delay_reason", "") for one in oldest["recipients"]]
        yield Alarm(
            "queue",
            f"{len(late)} of {len(waiting)} messages have waited for more than {_span(settings['queue_age'])}, the oldest for "
            f"{_span(now - oldest['arrival_time'])}: {next(filter(None, reasons), 'not tried yet')}. See {_typed(settings, 'queue')}",
        )
    held = [one for one in waiting if one["queue_name"] == "hold" and one["queue_id"] not in large]
    if held:
        yield Alarm(
            "hold",
            f"{len(held)} messages are on hold until someone runs {_typed(settings, 'queue', '--release all')}",
        )


def certificates(settings: Settings, now: float) -> Iterator[Alarm]:
    """Certificates that expire soon: their renewal has failed for a while."""
    for file in sorted(Path(settings["tls"]).glob("*.pem")):
        end = output_of("openssl", "x509", "-noout", "-enddate", "-in", str(file)).strip().partition("=")[2]
        if end and (left := ssl.cert_time_to_seconds(end) - now) < settings["certificate_age"]:
            yield Alarm(
                f"certificate {file.name}",
                f"{file.name} {'expires in ' + _span(left) if left > 0 else 'has expired'}: "
                f"`systemctl status outpost-certificate`, or {_typed(settings, 'rotate due')}",
            )


def zone_signatures(settings: Settings, now: float) -> Iterator[Alarm]:
    """DNSSEC signatures that expire soon: the primary does not sign, or does not reach this host."""
    for zone in settings["zones"]:
        answer = output_of(
            "kdig", f"@{settings['asked']}", "+dnssec", "+noall", "+answer", "+time=5", zone, "SOA"
        )
        found = re.findall(r"\sRRSIG\s+SOA\s+\d+\s+\d+\s+\d+\s+(\d{14})\s", answer)
        ends = [calendar.timegm(time.strptime(text, "%Y%m%d%H%M%S")) for text in found]
        if not ends:
            yield Alarm(
                f"signatures {zone}", f"this host gives no signed answer for {zone}: `systemctl status knot`"
            )
        elif (left := min(ends) - now) < settings["signature_age"]:
            yield Alarm(
                f"signatures {zone}",
                f"signatures of {zone} expire in {_span(left)}: check that the primary signs",
            )


def virus_signatures(settings: Settings, now: float) -> Iterator[Alarm]:
    """A scanner whose signatures are old."""
    files = [file for name in settings["virus_signatures"] for file in Path("/").glob(name.lstrip("/"))]
    newest = max((file.stat().st_mtime for file in files), default=0.0)
    if settings["virus_signatures"] and now - newest > settings["virus_age"]:
        age = f"{_span(now - newest)} old" if files else "not there"
        yield Alarm("virus signatures", f"virus signatures are {age}: `journalctl -u clamav-freshclam`")


def scanner(settings: Settings, _now: float) -> Iterator[Alarm]:
    """A scanner that refuses everything, or that could not load the latest signatures."""
    if "clamav-daemon.service" not in _declared_units(Path(settings["applied"])):
        return  # the host's first apply is running
    again = "then `systemctl restart clamav-daemon`"
    answer = _scanned(settings["scanner"])
    if not answer.endswith(("OK", "FOUND")):
        yield Alarm(
            "scanner",
            f"the virus scanner answers {answer[:80]!r}, so all mail waits (451): `journalctl --unit=clamav-daemon` shows why, {again}",
        )
    since = f"--since=-{settings['recent']}s"
    loads = "--grep=^Started |Database correctly reloaded|load failed|Malformed database|reload.* failed"
    lines = journal("--output=cat", "--unit=clamav-daemon.service", since, loads)
    # each start loads them
    if lines and "correctly" not in lines[-1] and not lines[-1].startswith("Started "):
        yield Alarm(
            "scanner signatures",
            f"the virus scanner could not load new signatures and uses the old ones ({lines[-1][:80]}): "
            f"`journalctl --unit=clamav-daemon` names the file; remove it, `freshclam`, {again}",
        )


def _scanned(path: str) -> str:
    """clamd's answer about a harmless octet (clamd(8), INSTREAM)."""
    try:
        with socket.socket(socket.AF_UNIX) as clamd:
            clamd.settimeout(120)  # right after its start it first loads signatures
            clamd.connect(path)
            clamd.sendall(b"zINSTREAM\0" + b"\0\0\0\1x" + bytes(4))
            return clamd.recv(200).decode(errors="replace").strip("\0\n ")
    except OSError as error:
        return str(error)


def disks(settings: Settings, _now: float) -> Iterator[Alarm]:
    """Volumes that fill up, by bytes or by inodes, or that the kernel made read-only because their disk fails."""
    mounts = {line.split()[4]: line.split() for line in MOUNTS.read_text().splitlines()}
    for path in settings["volumes"]:
        if path in mounts and "ro" in (*mounts[path][5].split(","), *mounts[path][-1].split(",")):
            yield Alarm(
                f"disk {path} read-only",
                f"{path} is read-only: `dmesg --level=err,warn` shows whether its disk fails; "
                f"`mount -o remount,rw {shlex.quote(path)}` when it is repaired",
            )
    seen: set[int] = set()
    for path in map(Path, settings["volumes"]):
        if not path.exists() or path.stat().st_dev in seen:
            continue
        seen.add(path.stat().st_dev)
        space, nodes = shutil.disk_usage(path), os.statvfs(path)
        used = {
            "space": 100 * (1 - space.free / space.total) if space.total else 0,
            "inodes": 100 * (1 - nodes.f_favail / nodes.f_files) if nodes.f_files else 0,
        }
        for what, percent in used.items():
            if percent > settings["disk_percent"]:
                count = " --inodes" * (what == "inodes")
                yield Alarm(
                    f"disk {path} {what}",
                    f"{percent:.0f} % of the {what} of {path} is used: "
                    f"`du -x{count} -d 3 {shlex.quote(str(path))} | sort -n | tail` shows by what; delete it, or enlarge the disk",
                )


def clock(settings: Settings, now: float) -> Iterator[Alarm]:
    """A clock that follows no time server, or is off: codes of a second factor, TSIG and certificates fail."""
    tracking = output_of("chronyc", "-c", "tracking").strip().split(",")
    runs = _since(_shown(("StateChangeTimestamp",), "chrony.service")[0], now)
    if len(tracking) < 14 or runs < min(CALM, settings["clock_age"]):
        return  # a daemon that is down is an alarm of its own
    if tracking[13] == "Not synchronised" or now - float(tracking[3]) > settings["clock_age"]:
        yield Alarm(
            "clock",
            "the clock has followed no time server for a while: `chronyc -n sources` shows which of them answer; "
            "allow UDP 123 to them, or name others in [time] servers",
        )
    elif abs(off := float(tracking[4])) > CLOCK:
        yield Alarm(
            "clock", f"the clock is {abs(off):.0f} seconds off: `systemctl restart chrony.service` sets it"
        )


def backup(settings: Settings, now: float) -> Iterator[Alarm]:
    """No backup for too long, or none since its directory was made."""
    stamp = Path(settings["backup"]) if settings["backup"] else None
    if stamp is None:
        return
    if stamp.with_name("full").exists():
        yield Alarm(
            "backup quota",
            "the backup server accepts no more archives of this host: they use up backup.quota. Find out what grew, "
            f"then raise backup.quota and run {_typed(settings, 'backup', '--other-end')}",
        )
    made = stamp.stat().st_mtime if stamp.exists() else 0.0
    since = made or (stamp.parent.stat().st_mtime if stamp.parent.exists() else 0.0)
    if now - since > settings["backup_age"]:
        last = f"{_span(now - made)} old" if made else "not made yet"
        yield Alarm("backup", f"the last backup is {last}: `journalctl -u outpost-backup`")


def logins(settings: Settings, _now: float) -> Iterator[Alarm]:
    """Somebody is guessing passwords: at one account until it was locked, or at many.

    A program that keeps an old password tries it all day: the same account from the same place counts once. `outpost verify` guesses at
    an account of a domain that cannot exist (RFC 2606).
    """
    # mail programs, webmail, calendars, policy
    sources = (
        "dovecot.service",
        "outpost-accounts.service",
        "outpost-davlogins.service",
        "outpost-logins.service",
    )
    lines = journal("--output=cat", *(f"--unit={unit}" for unit in sources), "--since=-10min")
    wrong = {
        (match[1], match[2])
        for line in lines
        if re.match(
            r"[a-z]+-login: .*auth failed|webmail login refused: wrong password|calendar login refused", line
        )
        and (match := re.search(r"user=<([^>]*)>.*?rip=([^,\s]+)", line))
    }
    # LOG-04: only from a line's beginning. Dovecot logs the name that a stranger tries, which may hold such words.
    locked = re.compile(r"login shut: (.+), \d+ different")
    named = {match[1] for match in filter(None, map(locked.match, lines))}
    shut = sorted(name for name in named if not name.endswith(".invalid"))
    # AUT-06: webmail asks for a code only after the right password; at this rate a guessed code is right within a year
    code = re.compile(r"webmail login refused: wrong (?:code|passkey), user=<([^>]*)>, rip=(\S+)")
    tried = Counter((match[1], match[2]) for match in filter(None, map(code.match, lines)))
    for user, place in sorted(who for who, times in tried.items() if times >= WRONG_CODES):
        yield Alarm(
            f"second factor {user}",
            f"{WRONG_CODES} wrong codes from {place} after the right password of {user}: ask this user; if it was somebody else, "
            f"run {_typed(settings, 'user passwd', shlex.quote(user))}",
        )
    if shut or len(wrong) > settings["wrong_logins"]:
        places = sorted({place for _, place in wrong})
        accounts = f"{len({user for user, _ in wrong} | set(shut))} accounts" + (
            f", {', '.join(shut[:5])} locked for a while" if shut else ""
        )
        yield Alarm(
            "logins",
            f"wrong passwords within ten minutes for {accounts}, from {', '.join(places[:5]) or 'places that no line names'}: "
            "`journalctl --unit=outpost-logins --unit=dovecot --since=-10min`",
        )


def logs(settings: Settings, now: float) -> Iterator[Alarm]:
    """Lines that have not reached the collector for a while, for any reason."""
    place = _noted(Path(settings["logs"])).split()
    behind = [f"--after-cursor={place[0]}"] if place else []
    oldest = journal("--output=json", "--output-fields=_PID", "--lines=+1", *behind)
    if not oldest:
        return
    age = now - int(json.loads(oldest[0])["__REALTIME_TIMESTAMP"]) / 1e6
    if not place:  # nothing was sent yet: lines from before its first start are not late
        age = min(age, _since(_shown(("StateChangeTimestamp",), "outpost-logs.service")[0], now))
    if age > settings["logs_age"]:
        yield Alarm(
            "logs",
            f"the collector has accepted no lines of this host for {_span(age)}: `journalctl -u outpost-logs`",
        )


def _noted(path: Path) -> str:
    """The content of a service's own file; empty if the service made it a link, or something without an end."""
    with suppress(OSError):
        number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(number, "rb") as file:
            return file.read(4096).decode(errors="replace") if stat.S_ISREG(os.fstat(number).st_mode) else ""
    return ""


def units(settings: Settings, now: float) -> Iterator[Alarm]:
    """Units that should run and do not, that restart again and again, or that never came up."""
    names = ("Id", "Type", "LoadState", "ActiveState", "SubState", "NRestarts", "StateChangeTimestamp")
    shown = {one["Id"]: one for one in _shown(names, "*") if "Id" in one}
    wanted = _declared_units(Path(settings["applied"]))
    for unit in sorted({*wanted, *(name for name, one in shown.items() if one["LoadState"] == "loaded")}):
        found = shown.get(unit, {"ActiveState": "inactive"})
        state, since = found["ActiveState"], _since(found, now)
        restarts = int(found.get("NRestarts") or 0)
        if state == "failed":
            yield Alarm(f"unit {unit}", f"{unit} has failed: `systemctl status {unit}`")
        elif restarts >= LOOP and (state != "active" or since < CALM):
            yield Alarm(
                f"unit {unit}",
                f"{unit} fails again and again, {restarts} restarts so far: `journalctl --unit={unit}` shows why; "
                f"`systemctl reset-failed {unit}; systemctl restart {unit}` when the cause is repaired",
            )
        elif unit in wanted and state == "activating" and found.get("Type") != "oneshot" and since > CALM:
            yield Alarm(
                f"unit {unit}", f"{unit} has not come up for {_span(since)}: `systemctl status {unit}`"
            )
        elif unit in wanted and state not in ("active", "activating", "reloading", "refreshing"):
            yield Alarm(f"unit {unit}", f"{unit} does not run: `systemctl restart {unit}`")


def _shown(names: tuple[str, ...], units: str) -> list[dict[str, str]]:
    """Properties of units, by their names in systemctl(1)."""
    answer = output_of("systemctl", "show", units, f"--property={','.join(names)}", "--timestamp=unix")
    return [dict(line.partition("=")[::2] for line in one.splitlines()) for one in answer.split("\n\n")]


def _declared_units(applied: Path) -> set[str]:
    """Units that the roles declare, from the records of the last apply: no list has to repeat them."""
    lines = (line for record in applied.glob("*") for line in record.read_text().splitlines())
    return {line.removeprefix("unit ") for line in lines if line.startswith("unit ")}


def _since(unit: dict[str, str], now: float) -> float:
    """Seconds that a unit has been in its state."""
    moment = unit.get("StateChangeTimestamp", "").removeprefix("@")
    return now - float(moment) if moment else 0.0


def memory(settings: Settings, _now: float) -> Iterator[Alarm]:
    """Processes that the kernel killed because their daemon, or the host, had no memory left; systemd logs each."""
    since = f"--since=-{settings['recent']}s"
    lines = journal("--output=json", since, f"MESSAGE_ID={OUT_OF_MEMORY}", "_PID=1")
    killed = Counter(str(json.loads(line).get("UNIT", "a process")) for line in lines)
    for unit, times in sorted(killed.items()):
        yield Alarm(
            f"memory {unit}",
            f"the kernel ended a process of {unit} for lack of memory, {times} times: "
            f"`systemctl show --property=MemoryPeak,MemoryMax {unit}` shows whether it reached its limit; else give the host more",
        )


def corrupt(settings: Settings, _now: float) -> Iterator[Alarm]:
    """Messages that Postfix accepted and can no longer read: it moves their files aside and never tries them again."""
    names = sorted(file.name for file in Path(settings["corrupt"]).glob("*"))
    if names:
        yield Alarm(
            "corrupt",
            f"{len(names)} accepted messages are damaged and will not be delivered ({', '.join(names[:3])}): {_typed(settings, 'queue')} shows "
            f"what is left of each; ask the senders for another, then `rm {shlex.quote(settings['corrupt'] + '/' + names[0])}`",
        )


def questions(settings: Settings, _now: float) -> Iterator[Alarm]:
    """What must be true on a site's server; each is asked by a command."""
    for name, command in settings["questions"].items():
        asked = ("sh", "-c", command)
        if subprocess.run(
            asked, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=100
        ).returncode:
            yield Alarm(
                name, f"not true: {name}. {_typed(settings, 'machines up', '--on USER@SERVER')} repairs it"
            )


def filter_memory(settings: Settings, _now: float) -> Iterator[Alarm]:
    """What the filter remembers of sent mail: Redis forgets it first when it is full, and takes nothing new when it cannot save."""
    lines = output_of("redis-cli", "-s", settings["redis"], "info").splitlines()
    info = dict(line.partition(":")[::2] for line in lines)
    used, most = (int(info.get(key) or 0) for key in ("used_memory", "maxmemory"))
    effect = "then notifications about messages of the office count as forged"
    if most and (percent := 100 * used / most) > settings["disk_percent"]:
        typed = f"redis-cli -s {settings['redis']}"
        yield Alarm(
            "filter memory",
            f"{percent:.0f} % of the memory of Redis is used; when it is full, it forgets what was sent, and {effect}: "
            f"`{typed} --scan --pattern 'RS*' | xargs -r {typed} del` lets the filter learn from the beginning",
        )
    if info.get("rdb_last_bgsave_status") == "err":
        yield Alarm(
            "filter not saved",
            f"Redis cannot save its data, so it takes none, and {effect}: `journalctl --unit=redis-server` shows why, "
            "and `df -h /var/lib/redis` whether the disk is full",
        )


def damaged(settings: Settings, _now: float) -> Iterator[Alarm]:
    """Messages on the store that cannot be read: the session of a program that asks for one ends."""
    since = f"--since=-{settings['recent']}s"
    lines = journal("--output=cat", "--unit=dovecot.service", since, "--grep=Error: .*/srv/mail/")
    # LOG-04: the user's own files alone. A stranger tries to log in with any name, a user calls a folder as he likes, and Dovecot logs both.
    files = {
        match[0]
        for line in lines
        if (session := OF_A_SESSION.match(line))
        for match in DAMAGED.finditer(line)
        if match[1] == session[1]
    }
    for name in sorted(file for file in files if Path(file).is_file())[:MOST_DAMAGED]:
        user = Path(name).relative_to("/srv/mail").parts[0]
        yield Alarm(
            f"damaged {user}",
            f"a message of {user} cannot be read, and the session of each program that fetches it ends: "
            f"`mv {shlex.quote(name)} /root/`, then {_typed(settings, 'restore mailbox', shlex.quote(user))} restores it from the backup",
        )


PROBES: dict[str, Probe] = {
    probe.__name__: probe
    for probe in (
        queue, certificates, zone_signatures, virus_signatures, scanner, disks, clock, backup, logins, logs, units, memory, corrupt, damaged,
        filter_memory, questions,
    )
}  # fmt: skip


def alarms(settings: Settings, now: float) -> list[Alarm]:
    """Everything that needs a person now; a check that fails is an alarm, too."""
    found: list[Alarm] = []
    signal.signal(signal.SIGALRM, _too_late)
    for name in settings["probes"]:
        try:
            # LOG-04: without it a scanner that takes each word of a question slowly, or a FIFO, ends the unit before anything is sent
            signal.setitimer(signal.ITIMER_REAL, PROBE)
            found += PROBES[name](settings, now)
        except Exception as error:
            found.append(
                Alarm(f"watch {name}", f"{name} could not be checked: {type(error).__name__}: {error}")
            )
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    return found


class TooLateError(Exception):
    """A check takes too long. No error of the system: those are suppressed where a question has no answer."""


def _too_late(*_signal: object) -> None:
    raise TooLateError(f"no answer within {PROBE:.0f} s")


def news(sent: dict[str, float], found: list[Alarm], now: float) -> tuple[list[Alarm], list[str]]:
    """What has to be sent: new alarms, alarms that have lasted for another day, and the subjects of what is over.

    Args:
        sent: Subject of each alarm that was sent → when it was sent last.
    """
    fresh = [alarm for alarm in found if now - sent.get(alarm.about, 0.0) >= DAY]
    return fresh, sorted(sent.keys() - {alarm.about for alarm in found})


def main(arguments: list[str]) -> int:
    settings = json.loads(SETTINGS.read_text())
    now = time.time()
    if arguments == ["test"]:
        trial = News(f"{settings['host']}: test alarm", "This is a test alarm.\n", {"host": settings["host"]})
        silent = (path.partition("?")[0] for path in settings["tell"] if not _took(path, trial))
        found = [Alarm(f"path {path}", "alarms cannot be sent by this path") for path in silent]
    else:
        found = alarms(settings, now)
    if arguments:
        for alarm in found:
            sys.stdout.write(json.dumps(asdict(alarm)) + "\n")
        return 0
    sent: dict[str, float] = {}
    for file in (STATE, MEMORY):  # the later one, if it exists
        with suppress(OSError, ValueError):
            sent = json.loads(file.read_text())
    fresh, over = news(sent, found, now)
    for alarm in fresh:
        sys.stderr.write(f"<2>ALARM {alarm.about}: {alarm.text}\n")
    if (fresh or over) and not _sent(settings, fresh, over):
        return 0  # not remembered, so it is tried again; a failed unit would be one more alarm that cannot be sent
    sent |= {alarm.about: now for alarm in fresh}
    text = json.dumps({about: at for about, at in sent.items() if about not in over})
    try:
        _written(STATE, text)
        MEMORY.unlink(missing_ok=True)
    except OSError:  # LOG-04: without it the alarms of a full disk are sent again at every check
        _written(MEMORY, text)
    return 0


def _written(file: Path, text: str) -> None:
    partial = file.with_suffix(".new")
    partial.write_text(text)
    partial.replace(file)


def _sent(settings: Settings, fresh: list[Alarm], over: list[str]) -> bool:
    """Whether at least one path accepted it, or only the journal is configured."""
    host = settings["host"]
    subject = f"{host}: " + (", ".join(alarm.about for alarm in fresh) or f"over: {', '.join(over)}")
    lines = [f"ALARM {alarm.about}: {alarm.text}" for alarm in fresh] + [f"OVER {about}" for about in over]
    data = {"host": host, "alarms": [asdict(alarm) for alarm in fresh], "over": over}
    took = [_took(path, News(subject, "\n".join(lines) + "\n", data)) for path in settings["tell"]]
    return any(took) or not settings["tell"]


def _took(path: str, news: News) -> bool:
    try:
        tell(path, news)
    except (*TROUBLES, ValueError) as trouble:
        sys.stderr.write(f"<3>{path.partition('?')[0]} could not be sent: {trouble}\n")
        return False
    return True


def _typed(settings: Settings, command: str, more: str = "") -> str:
    """A command of the controller, as it is typed there for this office."""
    return f"`./outpost {command} {settings.get('office', 'OFFICE')} {more}".rstrip() + "`"


def _span(seconds: float) -> str:
    for unit, size in (("days", DAY), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
