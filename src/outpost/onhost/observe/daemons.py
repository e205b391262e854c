"""What daemons say they run with, and daemons that were stopped in their tracks."""

from __future__ import annotations

import collections.abc
import concurrent.futures
import contextlib
import glob
import hashlib
import os
import pathlib
import re
import socket

from outpost.onhost.observe.kept_answers import kept
from outpost.onhost.observe.reading import said
from outpost.onhost.observe.units import SECURITY, unit_of

SENSITIVE = re.compile(
    r"(?i)(secret|passw|pass=|des_key|requirepass|masterauth|private|(?:\b|_)key\b|salt|nonce)"
)
ZONES = (  # of those that this server signs: what it answers, without what it makes itself and without the answers to challenges
    "for zone in /etc/knot/zones/*.zone; do [ ! -e $zone ] || knotc zone-read $(basename $zone .zone); done "
    "| cut -d' ' -f2,4- | grep -vE '^_acme-challenge|^[^ ]+ (SOA|RRSIG|NSEC3?|NSEC3PARAM|DNSKEY|CDS|CDNSKEY) ' | sort"
)
# Unit, package, how its daemon is asked for what it runs with (or would after the next start), and whether the answer
# comes from files alone: then it is asked for again only when one of them was touched.
ASKED = (
    ("ssh.service", "openssh-server", "/usr/sbin/sshd -T", True),
    ("postfix.service", "postfix", "postconf -n; postconf -M; postconf -P", True),
    ("dovecot.service", "dovecot-core", "doveconf -n", True),
    ("knot.service", "knot", "knotc conf-check && knotc conf-read", False),
    ("knot-zones", "knot", ZONES, False),
    ("nginx.service", "nginx", "nginx -T 2>/dev/null", True),
    ("php8.4-fpm.service", "php8.4-fpm", "php-fpm8.4 -tt 2>&1 | sed 's/^\\[[^]]*\\] //'", True),
    ("unbound.service", "unbound", "", False),  # over its socket: a program for each option costs more than all the rest
    ("chrony.service", "chrony", "chronyd -p -f /etc/chrony/chrony.conf", True),
    ("chrony.service", "chrony", "chronyc -c -N sources | cut -d, -f3 | sort -u | sed 's/^/source /'", False),
    ("redis-server.service", "redis-server",
     "s=$(sed -n 's/^unixsocket //p' /etc/redis/redis.conf); redis-cli ${s:+-s $s} config get '*' | paste - -; "
     "redis-cli ${s:+-s $s} acl list | sed 's/#[0-9a-f]*/#/g'", False),
    ("systemd-journald.service", "systemd", "systemd-analyze cat-config systemd/journald.conf | grep -v '^#'", True),
    ("ca-certificates", "ca-certificates", "sha256sum /etc/ssl/certs/ca-certificates.crt", True),
    ("apt", "apt", "apt-config dump | grep -Ei 'unattended|periodic|insecure|unauth|proxy|recommends'", True),
)  # fmt: skip
UNBOUND = "/run/unbound.ctl"
UNBOUND_LISTS = ("list_forwards", "list_insecure", "list_local_data", "list_local_zones", "list_stubs")
UNBOUND_OPTIONS = (
    "module-config", "val-permissive-mode", "harden-dnssec-stripped", "qname-minimisation", "serve-expired",
    "hide-version", "hide-identity", "deny-any", "access-control",
)  # fmt: skip


def unbound() -> list[str]:
    """What Unbound answers at its control socket (unbound-control(8), its protocol is a line)."""
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
    mark: collections.abc.Callable[[], str],
) -> list[str]:
    """What daemons and systemd itself say they run with.

    Args:
        installed: What `packages` says.
        shown: What systemd says of units.
        mark: Of the files.
    """
    versions = dict(line.split("\t")[1:] for line in installed() if line.startswith("version\t"))

    def answer(entry: tuple[str, str, str, bool]) -> list[str]:
        unit, package, command, from_files = entry
        if package not in versions:
            return []
        return kept(
            unit,
            mark() if from_files else "",
            lambda: [
                f"effective\t{unit}@{versions[package]}\t{discreet(line)}"
                for line in (
                    re.sub(r"\s+", " ", line).strip() for line in (said(command) if command else unbound())
                )
                if line and line[0] != "#"
            ],
        )

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        found = [line for lines in pool.map(answer, ASKED) for line in lines]
    for name in sorted(declared_units):
        lines = shown().get(name, ())
        if "LoadState=loaded" not in lines:
            continue  # masked; that is said of the unit itself
        for line in lines:
            line = re.sub(r" ; ignore_errors=.*| ; start_time=.*|; start_time=.*", "", line)
            if line.partition("=")[0] in SECURITY[1:]:
                found.append(f"effective\t{name}@systemd\t{line if line.startswith('P') else discreet(line)}")
    return found


def discreet(line: str) -> str:
    """A line whose value nobody needs to read to see that it changed."""
    key, separator, value = line.partition("=") if "=" in line else line.partition(" ")
    if SENSITIVE.search(key) and separator and value and not value.lstrip().startswith("/"):
        return f"{key}{separator}(not shown, {hashlib.sha256(value.encode()).hexdigest()[:12]})"
    return line[:400]


def halted() -> list[str]:
    """Daemons that somebody stopped in their tracks, and logs that they write though nobody sees them any more."""
    found = []
    for process in glob.iglob("/proc/[0-9]*"):
        pid = os.path.basename(process)
        with contextlib.suppress(OSError):
            name, state = pathlib.Path(f"{process}/stat").read_text().partition("(")[2].rpartition(")")[::2]
            if state.split()[0] == "T" and (unit := unit_of(pid)).endswith(".service"):
                found.append(f"halted\t{unit}\t{name} {pid}")
            for opened in os.scandir(f"{process}/fd"):
                path, _, gone = os.readlink(opened.path).rpartition(" ")
                if gone == "(deleted)" and path.startswith("/var/log/"):
                    found.append(f"deleted\t{path}\t{unit_of(pid)}")
    found += [
        f"library\t{match[1]}\t"
        for line in said("ldconfig -p")
        if (match := re.search(r"=> (/(?!usr/|lib)\S+)$", line))
    ]
    return list(dict.fromkeys(found))
