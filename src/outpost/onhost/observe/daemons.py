"""The settings that running daemons report."""

import collections.abc
import glob
import os
import re
import socket

from outpost.onhost.observe.kept_answers import kept
from outpost.onhost.observe.places import PASSING
from outpost.onhost.observe.reading import BlindError, content, lines_of, named
from outpost.onhost.observe.units import SECURITY

SENSITIVE = re.compile(
    r"(?i)(secret|passw|pass=|des_key|requirepass|masterauth|private|(?:\b|_)key\b|salt|nonce)"
)
SIGNED = "/etc/knot/zones"
MADE_BY_THE_SERVER = re.compile(r"_acme-challenge|\S+ (SOA|RRSIG|NSEC3?|NSEC3PARAM|DNSKEY|CDS|CDNSKEY) ")
"""Lines of its zones, and answers to challenges."""
# Unit, package, a file that must exist, and the command that asks the running daemon.
LIVE = (
    ("knot.service", "knot", "/usr/sbin/knotc", "knotc conf-read"),
    ("knot-zones", "knot", SIGNED, "knotc zone-read --"),
    ("chrony.service", "chrony", "/usr/bin/chronyc", "chronyc -c -N sources"),
    ("redis-server.service", "redis-server", "/usr/bin/redis-cli",
     "s=$(sed -n 's/^unixsocket //p' /etc/redis/redis.conf); redis-cli ${s:+-s $s} config get '*' | paste - -; "
     "redis-cli ${s:+-s $s} acl list | sed 's/#[0-9a-f]*/#/g'"),
)  # fmt: skip
# Unit, package, and the command that prints the settings of the next start. It depends on files alone, and is
# repeated only if one of them changed.
FROM_FILES = (
    ("ssh.service", "openssh-server", "/usr/sbin/sshd -T"),
    ("postfix.service", "postfix", "postconf -n; postconf -M; postconf -P"),
    ("dovecot.service", "dovecot-core", "doveconf -n"),
    ("nginx.service", "nginx", "nginx -T 2>/dev/null"),
    ("php8.4-fpm.service", "php8.4-fpm", "php-fpm8.4 -tt 2>&1 | sed 's/^\\[[^]]*\\] //'"),
    ("chrony.service", "chrony", "chronyd -p -f /etc/chrony/chrony.conf"),
    ("systemd-journald.service", "systemd", "systemd-analyze cat-config systemd/journald.conf | grep -v '^#'"),
    ("ca-certificates", "ca-certificates", "sha256sum /etc/ssl/certs/ca-certificates.crt"),
    ("apt", "apt", "apt-config dump | grep -Ei 'unattended|periodic|insecure|unauth|proxy|recommends'"),
)  # fmt: skip
UNBOUND = "/run/unbound.ctl"
UNBOUND_ANSWERS = ("unbound.service", "unbound")
"""It asks over the socket: one program for each option would cost more than everything else."""
UNBOUND_LISTS = ("list_forwards", "list_insecure", "list_local_data", "list_local_zones", "list_stubs")
UNBOUND_OPTIONS = (
    "module-config", "val-permissive-mode", "harden-dnssec-stripped", "qname-minimisation", "serve-expired",
    "hide-version", "hide-identity", "deny-any", "access-control",
)  # fmt: skip


def steady(live: dict[str, list[str]]) -> dict[str, list[str]]:
    """Answers without values that daemons change themselves all the time."""
    files = os.listdir(SIGNED) if os.path.isdir(SIGNED) else []
    own = tuple(f"[{name.removesuffix('zone')}] " for name in files)
    records = (line.split(" ", 3) for line in live.get("knot-zones", ()) if line.startswith(own or "\n"))
    zones = (f"{owner} {rest}" for _, owner, _, rest in records)
    sources = (line.split(",") for line in live.get("chrony.service", ()))
    # a single word if chronyd does not answer
    servers = {f"source {words[2]}" for words in sources if len(words) > 2}
    return live | {
        "knot-zones": sorted(line for line in zones if not MADE_BY_THE_SERVER.match(line)),
        "chrony.service": sorted(servers),
    }


def unbound() -> list[str]:
    """Unbound's answer on its control socket (unbound-control(8); the protocol is a line)."""
    found: list[str] = []
    for command in (*UNBOUND_LISTS, *(f"get_option {option}" for option in UNBOUND_OPTIONS)):
        try:
            with socket.socket(socket.AF_UNIX) as control:
                control.settimeout(10)
                control.connect(UNBOUND)
                control.sendall(f"UBCT1 {command}\n".encode())
                text = b"".join(iter(lambda: control.recv(4096), b"")).decode(errors="replace")
        except OSError:
            continue
        label = f"{command.removeprefix('get_option ')}: " if command.startswith("get_option") else ""
        found.extend(f"{label}{text}".splitlines())
    return found


def effective(
    declared_units: dict[str, list[str]],
    installed: collections.abc.Callable[[], list[str]],
    shown: collections.abc.Callable[[], dict[str, list[str]]],
    mark: str,
    live: dict[str, list[str]],
) -> list[str]:
    """The settings that running daemons and systemd report."""
    import concurrent.futures  # modules that take time to load, and are not needed if nothing has changed

    versions = dict(line.split("\t")[1:] for line in installed() if line.startswith("version\t"))
    if not versions:
        raise BlindError("without the versions of packages nothing can be compared")

    def lines(unit: str, package: str, printed: list[str]) -> list[str]:
        stripped = (re.sub(r"\s+", " ", line).strip() for line in printed)
        label = f"effective\t{unit}@{versions[package]}"
        return [f"{label}\t{discreet(line)}" for line in stripped if line and line[0] != "#"]

    def answer(entry: tuple[str, str, str]) -> list[str]:
        unit, package, command = entry
        return kept(unit, mark, lambda: lines(unit, package, lines_of(command)))

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        there = [entry for entry in FROM_FILES if entry[1] in versions]
        found = [line for lines in pool.map(answer, there) for line in lines]
    for unit, package, *_ in (*LIVE, UNBOUND_ANSWERS):
        if package in versions:
            found += lines(unit, package, live.get(unit, []))
    for name in sorted(declared_units):
        listed = shown().get(name, ())
        if "LoadState=loaded" not in listed:
            continue  # masked; the unit's own fact says so
        for line in listed:
            line = re.sub(r" ; ignore_errors=.*| ; start_time=.*|; start_time=.*", "", line)
            if line.partition("=")[0] in SECURITY[1:]:
                found.append(f"effective\t{name}@systemd\t{line if line.startswith('P') else discreet(line)}")
    return found


def discreet(line: str) -> str:
    """A line whose value is replaced by a digest: a change shows, the value does not."""
    key, separator, value = line.partition("=") if "=" in line else line.partition(" ")
    if SENSITIVE.search(key) and separator and value and not value.lstrip().startswith("/"):
        import hashlib

        return f"{key}{separator}(not shown, {hashlib.sha256(value.encode()).hexdigest()[:12]})"
    return line[:400]


LIBRARIES = ("/lib/", "/lib64/ld-linux", "/usr/lib/", "/usr/lib64/ld-linux", "/usr/local/lib/")
"""Where they are scanned: each file there is a package's, or is reported."""
CACHE = "/etc/ld.so.cache"
GENERATED = re.compile(r"Cache generated by: [^/]*")


def libraries() -> list[str]:
    """Libraries that programs load from other places, as ldconfig(8) has noted them."""
    header, *lines = lines_of("LC_ALL=C ldconfig -p") or ["0"]
    paths = [match[1] for line in lines if (match := re.search(r"=> (/.+)$", line))]
    others = [line for line in lines if "=> /" not in line and not GENERATED.fullmatch(line)]
    found = [f"library\t{named(path)}\t" for path in paths if not _scanned(path)]
    # SYS-08: without it a line feed in a path splits its line, and only the beginning of the path is judged.
    split = others or header.split()[0] != str(len(paths))
    return [*found, f"library\t{CACHE}\t"] if split else found


# SYS-08: without it /usr/lib/../../var/x/libz.so, or a link below /usr/lib, leads programs to a file that no scan reads.
def _scanned(path: str) -> bool:
    both = (path, os.path.realpath(path))
    inside = all(each.startswith(LIBRARIES) and not PASSING.search(each) for each in both)
    return inside and os.path.normpath(path) == path


FLUSHED = "/run/systemd/journal/flushed"
PAUSED = re.compile(
    r"\[(?P<zone>\S+)\] freeze: yes|\d+,(?P<offline>[1-9]\d*),\d+,\d+,\d+|[^,],(?P<source>[^,]+),[YN](?:,.){5},N,.*|(?P<itself>7F7F0101),.*"
)
"""A line of knotc(8), zone-status, and of chronyc(1), activity, selectdata and tracking."""
TIME = "/etc/chrony/**/*.conf"


# AVL-01: without it a daemon that runs and answers, with its files unchanged, does not do its work.
def paused(lines: list[str]) -> list[str]:
    """Daemons in which somebody has paused something: signatures, time, logs on the disk."""
    found = []
    for match in filter(None, map(PAUSED.fullmatch, lines)):
        if match["zone"]:
            found.append(f"paused\tzone {named(match['zone'])}\t")
        elif match["offline"]:
            found.append("paused\tchrony.service\tits sources set offline")
        elif match["source"]:
            found.append(f"paused\tchrony.service\tset not to follow {named(match['source'])}")
        elif not any(
            re.search(r"^local\b", content(path), re.MULTILINE) for path in glob.glob(TIME, recursive=True)
        ):
            found.append("paused\tchrony.service\tset to follow its own clock")
    on_disk = all(map(os.path.isdir, ("/var/log/journal", os.path.dirname(FLUSHED))))
    if on_disk and not os.path.exists(FLUSHED):
        found.append("paused\tsystemd-journald.service\t")
    return found
