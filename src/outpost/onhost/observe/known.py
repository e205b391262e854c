"""The known state: what was explained or accepted at the end of the last apply, and the differences from it."""

import contextlib
import functools
import os
import pathlib
import shlex
import shutil
import subprocess
import sys

from outpost.onhost.observe import declared
from outpost.onhost.observe.daemons import MADE_BY_THE_SERVER, SIGNED, discreet
from outpost.onhost.observe.declared import CONTRACT, contract_of
from outpost.onhost.observe.expected import SHAPED, SHAPER, Expected
from outpost.onhost.observe.facts import SEVERAL, is_grave, parts, words
from outpost.onhost.observe.kept_answers import sealed
from outpost.onhost.observe.network import moved
from outpost.onhost.observe.packages import is_lower, verified_today, without_source
from outpost.onhost.observe.reading import content, fingerprint, lines_in, lines_of, unseen

STATE, APPLIED, KNOWN, VERIFIED = map(
    pathlib.Path, (declared.STATE, declared.APPLIED, declared.KNOWN, declared.VERIFIED)
)
LIMITS = "/etc/systemd/system/{unit}.d/limits.conf"
FOUND = STATE / "found"
"""What existed before the first apply, and nobody has accepted."""
SEAL = "seal\t"
"""First line of a file of facts that an apply wrote begins with it."""
DECLARED = STATE / "declared"
"""Files as last declared, to which a failed apply goes back (`outpost.converge.guard`)."""
OF_COPIES = f"{SEAL}copies\n"
"""Second line of the known state, since those copies are sealed, too."""


def unfinished() -> bool:
    """Whether an apply changed something after the known state was written."""
    try:
        noted = KNOWN.stat().st_mtime_ns
    except OSError:
        return True
    return any(record.stat().st_mtime_ns > noted for record in APPLIED.glob("*"))


def newer(now: set[str], before: set[str]) -> set[str]:
    """Expected changes of versions: a package is new, gone, or newer than before, and a source of apt has it."""
    new, old = (
        {line.split("\t")[1]: line for line in lines if line.startswith("version\t")}
        for lines in (now - before, before - now)
    )
    both = set(new) & set(old)
    lower = {name for name in both if is_lower(new[name].split("\t")[2], old[name].split("\t")[2])}
    if new:
        lower |= without_source({name: line.split("\t")[2] for name, line in new.items()})
    gone = set(old) - set(new)
    if gone and subprocess.run(["apt-get", "-qq", "check"], capture_output=True, check=False).returncode:
        lower |= gone  # packages that need it are still installed
    return {line for lines in (new, old) for name, line in lines.items() if name not in lower}


def facts_of(path: pathlib.Path) -> set[str] | None:
    """The lines of the known state; None if it does not exist."""
    try:
        lines = content(str(path)).split("\n")
    except OSError:
        return None
    return {line for line in lines if line.count("\t") > 1 and not line.startswith(SEAL)}


# SYS-08: without it root writes the digests of his files into the known state, and no plan names them.
def edited(path: pathlib.Path) -> bool:
    """Whether something other than an apply wrote it; a caller without the office's secret cannot tell."""
    try:
        seal, _, facts = content(str(path)).partition("\n")
    except OSError:
        return False
    wanted = sealed(path.name, facts.encode(errors="surrogateescape")).decode()
    return bool(wanted) and seal != f"{SEAL}{wanted}"


# SYS-08: without it root edits the copy, and an apply that fails for any reason installs his file.
def seal(path: str | os.PathLike[str]) -> None:
    """Record that an apply made a copy of declared files; nothing if the caller has no secret."""
    copy = pathlib.Path(path)
    if made := sealed(copy.name, copy.read_bytes()):
        copy.with_suffix(".seal").write_bytes(made)


def is_sealed(path: str) -> bool:
    """Whether an apply made it; true for all copies from before the first apply that sealed them."""
    copy = pathlib.Path(path)
    wanted = sealed(copy.name, copy.read_bytes())
    with contextlib.suppress(FileNotFoundError):
        return not wanted or copy.with_suffix(".seal").read_bytes() == wanted
    return not edited(KNOWN) and not _seals_copies()


def _as_installed(copy: pathlib.Path) -> bool:
    """Whether the files of a copy are those on the host, which are as declared after this apply."""
    compare = ["tar", "--compare", f"--file={copy}", "--directory=/"]
    with contextlib.suppress(subprocess.TimeoutExpired):
        return not subprocess.run(compare, capture_output=True, check=False, timeout=60).returncode
    return False


def _seals_copies() -> bool:
    return not KNOWN.exists() or OF_COPIES in content(str(KNOWN))


class Judged:
    """A scan compared with the known state.

    Attributes:
        first: Nothing is known yet, or the observer is another one: what it sees for the first time is neither drift nor known.
        appeared, vanished: What a plan reports.
        moved: Addresses and routes that are now on another interface than their neighbours; they count as faults.
        learned: What appeared or vanished, and an apply accepts because it started the daemon that answers so.
        found: Things from before the first apply, or that only an edited known state names; no person has accepted them yet.
        edited: Something else than an apply wrote the known state.
        next: What is known from then on.
    """

    def __init__(self, states: list[str], faults: list[str]) -> None:
        known, now = facts_of(KNOWN), set(states)
        before = known or set()
        expected = Expected(contract_of(CONTRACT), now, before)
        hidden = unseen(faults)
        self.is_new, self.edited = known is None, edited(KNOWN)
        self.moved = [
            fact for fact in moved(before, now) if not expected.accepted(parts(fact)[1].replace(" ", "\t", 1))
        ]
        self.first = known is None or not any(fact.startswith("observer\t") for fact in now & before)
        found = {
            fact for fact in (facts_of(FOUND) or set()) & now if words(fact) and not expected.accepted(fact)
        }
        if known is not None:
            before = {fact for fact in before if not expected.is_roles(fact)}
        now = {fact for fact in now if not expected.is_roles(fact)}
        # A fact that opens the host is known because it is explained or accepted. Any other one was written there by hand: it is neither kept
        # nor restored. In an edited state this holds for all facts; one that opens nothing may be the platform's, and waits for a decision.
        fresh = Expected(contract_of(CONTRACT), now, set())
        fresh.witnesses = before
        grave = (fact for fact in before if is_grave(fact) and (fact in now or _cannot_come_back(fact)))
        forged = {fact for fact in (before if self.edited else grave) if not fresh.explains(fact)}
        before -= forged
        new, gone = now - before, {fact for fact in before - now if parts(fact)[0] not in hidden}
        passing = newer(now, before) if known is not None else set()
        passing |= {fact for fact in new if _is_version(fact) and expected.accepted(fact)}
        # SYS-08: without it a package that somebody installed by hand, or an older version, explains other changes by hand.
        by_hand = {
            parts(fact)[1] for fact in new if fact.startswith("package\t") and not expected.explains(fact)
        }
        expected.arrived = {fact for fact in passing & new if parts(fact)[1] not in by_hand}
        if passing & before:  # an upgrade, or the removal of a package, changes these as well
            there = {parts(fact)[1] for fact in now if fact.startswith("mode\t")}
            aliases = {fact for fact in new | gone if fact.startswith("alias\t")}
            astray = {
                parts(fact)[1] for fact in aliases & new if not expected.leads_to_a_package(*parts(fact)[1:])
            }
            passing |= {fact for fact in aliases if parts(fact)[1] not in astray}
            passing |= {fact for fact in gone if fact.startswith("mode\t") and parts(fact)[1] not in there}
        older = {fact for fact in new - passing if _is_version(fact)} if known is not None else set()
        good = {fact for fact in new - older if fact in passing or expected.explains(fact)}
        good |= {fact for fact in new if parts(fact)[0] == "effective" and _is_newer(fact, before)}
        # SYS-06: without it an edited version is known if its repair fails once, and the package's own is an older one for ever
        dubious = {parts(fact)[1].partition(":")[0] for fact in new - good if parts(fact)[0] == "control"}
        edits = {fact for fact in new | gone if _is_version(fact) and parts(fact)[1] in dubious}
        new, gone, good = new - edits, gone - edits, good - edits
        if known is None:
            good |= {fact for fact in new if not is_grave(fact)}
        wrong = new - good | forged & now
        stands = {parts(fact)[:2] for fact in wrong if parts(fact)[0] not in SEVERAL}
        replaced = {parts(fact)[:2] for fact in good if parts(fact)[0] not in SEVERAL}
        away = {
            fact
            for fact in gone
            if fact in passing
            or parts(fact)[:2] in replaced
            or _is_newer(fact, now)
            or (expected.dismisses(fact) and not _is_version(fact) and parts(fact)[:2] not in stands)
        }
        if self.first:  # not drift: it existed before the observer could see it
            # each observer compares these with what Debian signed
            programs = {parts(fact)[1] for fact in wrong if known is not None and parts(fact)[0] == "program"}
            found |= {
                fact
                for fact in wrong
                if (known is None or parts(fact)[:2] not in {parts(each)[:2] for each in gone})
                # no person can accept a daemon's own answer: it follows from its files and its start
                and words(fact)
                and not expected.contradicts(fact)
                and parts(fact)[1] not in programs
            }
        found |= {fact for fact in forged & now if not is_grave(fact) and words(fact)}
        self.found = found & wrong
        self.appeared, self.vanished = wrong - self.found, gone - away
        started = {fact for fact in self.appeared if _was_started(fact, there=True)}
        started |= {fact for fact in self.vanished if _was_started(fact, there=False)}
        self.learned = started
        self.next = (before - away - (started & before)) | good | (started & now)
        written = known or set(), facts_of(FOUND) or set()
        self.news = self.is_new or self.edited or (self.next, self.found) != written


def _cannot_come_back(fact: str) -> bool:
    """Whether a removed thing has no copy, or is an account or a right, which need none."""
    kind, thing, value = parts(fact)
    if kind == "file" and not value.startswith("link to "):
        return fingerprint(f"{STATE}/known-files{thing}") != value
    return kind in ("account", "member", "keeper")


def _is_version(fact: str) -> bool:
    """A removed package that others need is reported as that."""
    return fact.startswith("version\t")


def _is_newer(fact: str, others: set[str]) -> bool:
    """Whether a daemon's answer is from another version: versions have different defaults."""
    kind, thing, _ = parts(fact)
    if kind != "effective":
        return False
    unit = thing.rpartition("@")[0]
    named = {parts(other)[1] for other in others if other.startswith(f"effective\t{unit}@")}
    return thing not in named and (bool(named) or thing.endswith("@systemd"))


def _was_started(fact: str, *, there: bool) -> bool:
    """Whether the daemon of this answer was started, or read its files, after the known state was written. Then its files explain the answer.

    Args:
        there: Whether the daemon gives this answer now, or gave it before.
    """
    kind, thing, value = parts(fact)
    if kind == "queue" and value.startswith(SHAPED):
        return _started_since(SHAPER)
    unit = thing.rpartition("@")[0] if kind == "effective" else value
    if kind not in ("effective", "loopback"):
        return False
    if unit == "ca-certificates":
        return bundle_is_its_sources()
    if thing.endswith("@systemd") and value.partition("=")[0] in limits_in_file(unit):
        return there is (value in limits_in_file(unit).values())  # systemd applies them to a running daemon
    if unit == "knot-zones":  # a reload of a zone leaves no trace at the unit
        return there is (value in records_in_files())
    return unit == "apt" or _started_since(unit)


@functools.cache
def _started_since(unit: str) -> bool:
    if not KNOWN.exists() or not unit.endswith(".service"):
        return False
    names = "ActiveState,StateChangeTimestamp,ExecMainStartTimestamp"
    lines = lines_of(f"systemctl show --timestamp=unix --property={names} -- {shlex.quote(unit)}")
    moments = [int(line.partition("=@")[2]) for line in lines if line.partition("=@")[2].isdigit()]
    return "ActiveState=active" in lines and bool(moments) and max(moments) > KNOWN.stat().st_mtime


@functools.cache
def limits_in_file(unit: str) -> dict[str, str]:
    """Names of limits → lines of a unit's declared file, with sizes in bytes as systemd prints them (systemd.resource-control(5)).

    The file is compared itself.
    """
    lines = lines_in(LIMITS.format(unit=unit))
    found = (line.partition("=")[::2] for line in lines if "=" in line and line[0] != "#")
    return {key: f"{key}={int(size[:-1]) * 2**20 if size.endswith('M') else size}" for key, size in found}


@functools.cache
def records_in_files() -> frozenset[str]:
    """Records of the zone files, in the form in which Knot shows the zones that it serves (kzonecheck(1)).

    The files themselves are compared separately.
    """
    found: set[str] = set()
    for file in pathlib.Path(SIGNED).glob("*.zone"):
        origin, path = map(shlex.quote, (file.stem, str(file)))
        for line in lines_of(f"kzonecheck --print --origin {origin} -- {path}"):
            owner, _, *rest = *line.split(), "", ""
            record = " ".join((owner, *rest)).strip()
            if not line.startswith(";") and not MADE_BY_THE_SERVER.match(record):
                found.add(discreet(record))
    return frozenset(found)


def bundle_is_its_sources(root: str = "/") -> bool:
    """Whether the trusted authorities are those of packages and the office, which are compared separately (update-ca-certificates(8))."""
    top = pathlib.Path(root)
    # all of them, whatever /etc/ca-certificates.conf selects: it is no file of the package's, and anybody who is root edits it
    places = ("usr/share/ca-certificates", "usr/local/share/ca-certificates")
    files = [file for place in places for file in sorted((top / place).rglob("*.crt"))]
    given = {block for file in files for block in _certificates(file)}
    return given == set(_certificates(top / "etc/ssl/certs/ca-certificates.crt"))


def _certificates(file: pathlib.Path) -> list[str]:
    begin = "-----BEGIN CERTIFICATE-----"
    with contextlib.suppress(OSError):  # a path that is no plain file is a finding of its own
        return ["".join(part.split()) for part in content(str(file)).split(begin)[1:]]
    return []


def compared(states: list[str], faults: list[str]) -> dict[str, object]:
    """What `look` prints: how the present state differs from the known one, and the faults."""
    judged = Judged(states, faults)
    forged = [f"edited\t{KNOWN}\t"] if judged.edited else []  # the next apply examines all of it and seals it
    return {
        "first": judged.is_new,
        "unfinished": unfinished(),
        "news": judged.news,
        "appeared": sorted(judged.appeared),
        "vanished": sorted(judged.vanished),
        "learned": sorted((*judged.learned, *forged)),
        "found": sorted(judged.found),
        "faults": [*faults, *judged.moved, *forged],
    }


def remember(states: list[str], faults: list[str], began: float) -> None:
    """Write what is explained and accepted; nothing after a scan that could not see everything."""
    if blind := [line for line in faults if line.startswith("blind\t")]:
        _, probe, why = blind[0].split("\t")
        sys.exit(f"nothing is remembered, because {probe} cannot be observed: {why}")
    judged = Judged(states, faults)
    STATE.mkdir(mode=0o700, exist_ok=True)
    if not verified_today() and not any(fact.startswith("program\t") for fact in states):
        VERIFIED.touch(mode=0o600)
        os.utime(VERIFIED, (began, began))
    keep_copies(judged.next, set(states))
    # the first apply makes most copies before this program is installed
    if not (KNOWN.exists() and _seals_copies()):
        for copy in filter(_as_installed, DECLARED.glob("*.tar")):
            seal(copy)
    _written(FOUND, judged.found)
    _written(KNOWN, judged.next)


def _written(path: pathlib.Path, facts: set[str]) -> None:
    new = path.with_suffix(".new")
    new.touch(mode=0o600)
    lines = "".join(f"{line}\n" for line in sorted(facts))
    made = sealed(path.name, (OF_COPIES + lines).encode(errors="surrogateescape")).decode()
    new.write_text(f"{SEAL}{made}\n{OF_COPIES}{lines}" if made else lines, errors="surrogateescape")
    new.replace(path)


def keep_copies(keep: set[str], states: set[str]) -> None:
    """Files that no package and no office can restore: copies of their last good content."""
    shadow = STATE / "known-files" / "etc" / "shadow"
    if not any(line.startswith("shadow\t") for line in states - keep):
        shadow.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        shadow.touch(mode=0o600)
        shadow.write_bytes(pathlib.Path("/etc/shadow").read_bytes())
    for line in keep:
        kind, path, value = line.split("\t", 2)
        copy = STATE / "known-files" / path.lstrip("/")
        if kind != "file" or value.startswith("link to "):
            continue
        if copy.is_file() and fingerprint(str(copy)) == value:
            continue
        with contextlib.suppress(OSError):
            copy.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if fingerprint(path) == value:
                shutil.copy2(path, copy, follow_symlinks=False)
                status = os.lstat(path)
                os.chown(copy, status.st_uid, status.st_gid, follow_symlinks=False)
            # SYS-01: an account that may exchange the file between the two would get another one in its place, with the next repair
            if os.path.lexists(copy) and fingerprint(str(copy)) != value:
                os.unlink(copy)
