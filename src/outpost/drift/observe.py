#!/usr/bin/python3
"""Runs on the host: what is live and beside the declared files, compared with the state after the last apply.

Installed by base as ``/usr/local/lib/outpost/observe``; only Python's own library. ``look`` prints one JSON
object; ``remember`` makes the present state the known one, except for the facts on standard input; both are told which
files are the host's own. ``release FILE...`` takes away attributes and access lists that keep files from being replaced.

A fact is a line ``kind TAB object TAB value``. Two sorts: *states* are compared with ``/var/lib/outpost/known``;
*faults* are wrong whatever was before (a sysctl that differs from its file, a socket outside the role's contract).
"""

from __future__ import annotations

import collections
import collections.abc
import concurrent.futures
import contextlib
import datetime
import fcntl
import glob
import grp
import hashlib
import json
import os
import pathlib
import pwd
import re
import shutil
import socket
import stat
import struct
import subprocess
import sys
import time
import typing

STATE = pathlib.Path("/var/lib/outpost")
KNOWN = STATE / "known"
APPLIED = STATE / "applied"
CONTRACT = pathlib.Path("/etc/outpost/contract.json")

WATCHED = (
    "/etc", "/root/.ssh", "/root/.config/systemd", "/run/binfmt.d", "/run/confexts", "/run/environment.d", "/run/extensions",
    "/run/modprobe.d", "/run/modules-load.d", "/run/polkit-1", "/run/sysctl.d", "/run/systemd/journald.conf.d", "/run/systemd/network",
    "/run/systemd/system", "/run/systemd/system.conf.d", "/run/systemd/system.control", "/run/systemd/user", "/run/sysusers.d",
    "/run/tmpfiles.d", "/run/udev/rules.d", "/usr/local", "/var/lib/confexts", "/var/lib/extensions", "/var/lib/portables",
    "/var/lib/systemd/linger", "/var/spool/cron", "/var/www",
)  # fmt: skip
HOMES = (".ssh", ".config/systemd")
SINGLE = ("/root/.[!.]*", "/run/nologin")
OWN_TRACES = re.compile(
    r"^/root/\.(\w*_?history|lesshst|viminfo|wget-hsts|python_history|sqlite_history|selected_editor|hushlogin|sudo_as\S*)$"
)
"""What programs write down in an administrator's home by themselves."""
UNSCANNED = ("/var/lib/clamav/*.ign*", "/var/lib/clamav/*fp")
"""What the scanner is told to let pass."""
COMMANDS = ("/usr/bin", "/usr/sbin")
PROGRAMS = (
    *COMMANDS, "/usr/libexec", "/usr/lib", "/usr/share/bash-completion", "/usr/share/ca-certificates", "/usr/share/dbus-1", "/usr/share/keyrings",
    "/usr/share/pam-configs", "/usr/share/perl", "/usr/share/perl5", "/usr/share/php*", "/usr/share/polkit-1", "/usr/share/roundcube",
    "/usr/share/rspamd",
)  # fmt: skip
"""Where packages' programs are, and what runs unasked; each must be the package's, and nobody else's may lie there."""
COMMANDS_BELOW = tuple(f"{place}/" for place in COMMANDS)
PACKAGES_OWN = (*PROGRAMS, "/var/lib/roundcube/plugins")
"""With other places that only packages fill."""
OF_THE_KERNEL = re.compile(r"127\.0\.0\.1$|::1$|fe80:")
GUARDED = (
    "/etc", "/etc/group", "/etc/gshadow", "/etc/outpost/tls", "/etc/passwd", "/etc/shadow", "/etc/ssh",
    "/etc/ssh/ssh_host_ed25519_key", "/etc/sudoers", "/etc/sudoers.d", "/root", "/srv/mail", "/tmp", "/usr/local/bin",
    "/var/lib/outpost", "/var/log", "/var/log/journal", "/var/spool/postfix", "/var/tmp", "/etc/rspamd/dkim",
)  # fmt: skip
MOUNTED = ("/dev/shm", "/srv/mail", "/tmp", "/var/tmp")
STATE_OF_DAEMONS = ("/var/lib/*", "/var/log/*", "/var/spool/*", "/var/spool/postfix/*")
PASSING = re.compile(
    r"(^|/)(\.\S*\.swp|\S+\.outpost-new|\S+\.(db|lmdb|dpkg-\w+|ucf-\w+|cache|pyc))$|/unbound_\w+\.(key|pem)$"
    r"|/\.placeholder$|^/usr/(local/share/|share/|lib/)(fonts|mime|man)/|^/usr/lib/(modules/|udev/hwdb\.bin$)"
    # what the system and its packages make themselves; accounts and authorities are looked at in their own right
    r"|^/etc/(ssl/certs/ca-certificates\.crt$|rc[0-6S]\.d/|init\.d/\.depend|mtab$|\.pwd\.lock$|\.updated$|adjtime$|mailcap$"
    r"|ca-certificates\.conf$|(passwd|shadow|group|gshadow)-?$|sub[ug]id-$|udev/hwdb\.bin$)"
)
UNIT_LINK = re.compile(r"^/(etc|run)/systemd/system/([^/]+\.(wants|requires)/)?[^/]+$")
COMES_AND_GOES = re.compile(
    r"^((user|user-runtime-dir|getty|serial-getty)@\S+|session-\S+|outpost-undo-\S+|(apt-daily|apt-daily-upgrade|apt-listchanges|dpkg-db-backup|"
    r"e2scrub_\w+|fstrim|logrotate|man-db|packagekit|phpsessionclean|polkit|roundcube-\w+|unattended-upgrades|outpost-[\w@-]+|"
    r"systemd-(hostnamed|timedated|localed|tmpfiles-\S+|journal\S+|logind|udevd\S*|networkd\S*|resolved\S*|timesyncd|fsck\S*|initctl|sysext|creds)"
    r")\.(service|socket))$"
)
# Docker's own resolver in a container's network: its ports, and whether it is there at all, change with every start
DOCKER_RESOLVER = re.compile(r"127\.0\.0\.11|^(table|chain|type nat hook) |^}?$|^#|jump DOCKER_")
UNSTEADY = re.compile(
    r"(_mem|_key|_secret|/flush|_count|_max|_entries|_orphans|_buckets|_available\w*|mtu|/tcp_child_ehash\w*)$"
)
"""Kernel settings that the kernel works out itself, or that nobody may read."""
MACHINE_SETTINGS = (
    "fs/protected_*", "fs/suid_dumpable", "kernel/core_pattern", "kernel/modprobe", "kernel/poweroff_cmd", "kernel/sysrq",
    "kernel/unprivileged_*", "kernel/yama/*", "vm/overcommit_memory",
)  # fmt: skip
"""Those of the whole machine that open it: compared where the kernel is the host's own."""
AUTHORITIES = "/etc/ssl/certs/"
BUNDLED = re.compile(r"^[^/]+$|^/usr/share/ca-certificates/|^/usr/local/share/ca-certificates/")
"""Where the links of update-ca-certificates lead; what they lead to is looked at there."""
IMMUTABLE, APPEND_ONLY = 0x10, 0x20  # chattr(1): i and a
GET_FLAGS, SET_FLAGS = 0x80086601, 0x40086602  # FS_IOC_GETFLAGS, FS_IOC_SETFLAGS of linux/fs.h, 64 bits
ACCESS_LISTS = ("system.posix_acl_access", "system.posix_acl_default")
LOCAL: list[str] = []
"""Files that the office file leaves to this host; a path with a slash at its end is everything below it."""
STANDING = ("running", "waiting", "listening")
SENSITIVE = re.compile(
    r"(?i)(secret|passw|pass=|des_key|requirepass|masterauth|private|(?:\b|_)key\b|salt|nonce)"
)
SECURITY = (
    "LoadState", "FragmentPath", "DropInPaths", "User", "CapabilityBoundingSet", "NoNewPrivileges", "ProtectSystem",
    "ProtectHome", "PrivateTmp", "PrivateDevices", "RestrictAddressFamilies", "SystemCallFilter", "MemoryMax", "TasksMax",
    "ExecStart", "Environment", "ReadWritePaths",
)  # fmt: skip
LOADED = ("ActiveState", "NeedDaemonReload", "StateChangeTimestamp", "ExecMainStartTimestamp")
UNIT_OF_FILE = re.compile(r"^/etc/systemd/system/([^/\n]+\.service)(?:\.d/.*)?$", re.MULTILINE)
# Unit, package, how its daemon is asked for what it runs with (or would after the next start), and whether the answer
# comes from files alone: then it is asked for again only when one of them was touched.
ZONES = (  # of those that this server signs: what it answers, without what it makes itself and without the answers to challenges
    "for zone in /etc/knot/zones/*.zone; do [ ! -e $zone ] || knotc zone-read $(basename $zone .zone); done "
    "| cut -d' ' -f2,4- | grep -vE '^_acme-challenge|^[^ ]+ (SOA|RRSIG|NSEC3?|NSEC3PARAM|DNSKEY|CDS|CDNSKEY) ' | sort"
)
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
KEPT = pathlib.Path("/run/outpost/observed")
"""Answers that come from files alone, each with the mark of those files; gone with the next boot."""
TICK = 0.1
"""Seconds, many ticks of the clock that files get their times from."""
TREES = ("/etc", "/opt", "/root", "/usr")
"""What can be seen of files below these is known from an earlier look as long as none was touched, nor any of `MARKED`."""
MARKED = (
    *(place for place in (*WATCHED, *PACKAGES_OWN, str(APPLIED)) if not place.startswith(TREES)),
    *(f"/home/*/{name}" for name in HOMES), *SINGLE, *UNSCANNED,
)  # fmt: skip
DATABASES = (
    "/var/lib/apt/extended_states", "/var/lib/dpkg/arch", "/var/lib/dpkg/diversions", "/var/lib/dpkg/info", "/var/lib/dpkg/statoverride",
    "/var/lib/dpkg/status", str(KNOWN),
)  # fmt: skip
"""Of packages and of this program: replaced as a whole when they change."""


def said(command: str) -> list[str]:
    """Lines of standard output; empty where the command fails."""
    try:
        done = subprocess.run(
            ["/bin/sh", "-c", command], capture_output=True, text=True, timeout=60, errors="replace"
        )
    except subprocess.TimeoutExpired:
        return []
    return done.stdout.splitlines()


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


def kept(name: str, mark: str, ask: collections.abc.Callable[[], collections.abc.Iterable[str]]) -> list[str]:
    """The answer of an earlier look that bears the same mark, else a new one. Without a mark it is never kept."""
    if not mark:
        return list(ask())
    file = KEPT / name
    with contextlib.suppress(OSError, ValueError):
        if os.stat(file).st_uid == os.geteuid():  # root's own
            before, lines = json.loads(file.read_bytes())
            if before == mark:
                return list(lines)
    lines = list(ask())
    with contextlib.suppress(OSError):
        KEPT.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = KEPT / f".{name}.{os.getpid()}"
        new.touch(mode=0o600)
        new.write_text(json.dumps([mark, lines]))
        new.replace(file)
    return lines


def mark_of_files() -> str:
    """A mark that differs when a file below `TREES`, or of `MARKED`, came, went or was touched in any way.

    Content, mode, owner, attributes, access lists, capabilities and links set ctime, which nobody can choose (inode(7)).
    Empty where one was touched a moment ago: it could be touched once more in the same tick of the clock.
    """
    looked = subprocess.run(
        ["find", *TREES, *expanded(MARKED), "-printf", r"%p %D %i %m %U %G %s %C@\n", "-newerct", f"@{time.time() - TICK:.3f}", "-printf", r"\0"],
        capture_output=True,
        check=False,
        env={"LC_ALL": "C", "PATH": "/usr/bin:/bin", "TZ": "UTC"},
    ).stdout  # fmt: skip
    if not looked or b"\0" in looked:
        return ""
    found = hashlib.sha256(looked)
    words = [*map(_identity, DATABASES), *LOCAL]
    found.update("\n".join(words).encode())
    return found.hexdigest()


def _identity(path: str) -> str:
    try:
        status = os.stat(path)
    except OSError:
        return f"{path} ?"
    return (
        f"{path} {status.st_dev} {status.st_ino} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"
    )


def records() -> tuple[dict[str, list[str]], set[str]]:
    """What the last apply put here: unit → its files, and all paths."""
    units: dict[str, list[str]] = {}
    paths: set[str] = set()
    for record in APPLIED.glob("*"):
        lines = record.read_text().splitlines()
        own = [line[5:] for line in lines if line.startswith("path ")]
        paths.update(own)
        for line in lines:
            if line.startswith("unit "):
                units.setdefault(line[5:], []).extend(own)
    return units, paths


def packages() -> list[str]:
    """Installed packages that somebody asked for; what they need comes and goes with them."""
    automatic: set[str] = set()
    with contextlib.suppress(OSError):
        for block in pathlib.Path("/var/lib/apt/extended_states").read_text().split("\n\n"):
            if "Auto-Installed: 1" in block and (match := re.match(r"Package: (\S+)", block)):
                automatic.add(match[1])
    found = []
    for block in pathlib.Path("/var/lib/dpkg/status").read_text(errors="replace").split("\n\n"):
        name = re.match(r"Package: (\S+)\nStatus: (install|hold) ok ", block)
        if name and name[1] not in automatic:
            found.append(f"package\t{name[1]}\t")
        if name and (version := re.search(r"^Version: (\S+)", block, re.MULTILINE)):
            found.append(f"version\t{name[1]}\t{version[1]}")
        if name and name[2] == "hold":
            found.append(f"hold\t{name[1]}\t")
    with contextlib.suppress(OSError):
        _, *foreign = pathlib.Path("/var/lib/dpkg/arch").read_text().split()
        found += [f"architecture\t{name}\t" for name in foreign]
    with contextlib.suppress(OSError):
        diverted = pathlib.Path("/var/lib/dpkg/diversions").read_text().splitlines()
        found += [
            f"diversion\t{path}\tto {to}, for {who}"
            for path, to, who in zip(diverted[::3], diverted[1::3], diverted[2::3], strict=False)
        ]
    with contextlib.suppress(OSError):
        for line in pathlib.Path("/var/lib/dpkg/statoverride").read_text().splitlines():
            owner, _, path = line.rpartition(" ")
            found.append(f"override\t{path}\t{owner}")
    return found


def units(listed_units: list[str]) -> list[str]:
    """What is enabled or masked, read from the links that say so, and what runs."""
    found = []
    for top in ("/etc/systemd/system", "/run/systemd/system"):
        for link in glob.glob(f"{top}/*.wants/*") + glob.glob(f"{top}/*.requires/*"):
            if os.path.islink(link):
                found.append(
                    f"unit\t{os.path.basename(link)}\tenabled for {os.path.basename(os.path.dirname(link)).rpartition('.')[0]}"
                )
        for link in glob.glob(f"{top}/*.*"):
            if os.path.islink(link):
                target = os.readlink(link)
                found.append(
                    f"unit\t{os.path.basename(link)}\t{'masked' if target == '/dev/null' else f'link to {target}'}"
                )
    for line in listed_units:
        name, _, active, sub, *_ = line.split()
        kind = name.rpartition(".")[2] in ("service", "socket", "timer", "path")
        if kind and active != "failed" and sub in STANDING and not COMES_AND_GOES.match(name):
            found.append(f"running\t{name}\t")
    return found


def begun(now: set[str], before: set[str]) -> set[str]:
    """What was known to be enabled and runs since the host was restarted: packages start no timer while they are installed."""
    enabled = {
        line.split("\t")[1] for line in before if line.startswith("unit\t") and "\tenabled for " in line
    }
    return {line for line in now - before if line.startswith("running\t") and line.split("\t")[1] in enabled}


def troubled_units(listed_units: list[str]) -> list[str]:
    return [
        f"failed\t{line.split()[0]}\t"
        for line in listed_units
        if line.split()[2] == "failed" and not line.startswith(("run-", "outpost-"))
    ]


def accounts() -> list[str]:
    locked = {}
    found = []
    with contextlib.suppress(OSError):
        for line in pathlib.Path("/etc/shadow").read_text().splitlines():
            name, password, *_ = line.split(":")
            locked[name] = "password" if password[:1] not in ("!", "*") else "locked"
            found.append(f"shadow\t{name}\t{hashlib.sha256(line.encode()).hexdigest()[:16]}")
    with contextlib.suppress(OSError):
        for line in pathlib.Path("/etc/gshadow").read_text().splitlines():
            name, password, keepers, *_ = line.split(":")
            if password.strip("!*") or keepers:
                found.append(f"keeper\t{name}\t{keepers or 'whoever has its password'}")
    for entry in pwd.getpwall():
        state = locked.get(entry.pw_name, "locked")
        found.append(
            f"account\t{entry.pw_name}\t{entry.pw_uid}:{entry.pw_gid}:{entry.pw_dir}:{entry.pw_shell}:{state}"
        )
    for group in grp.getgrall():
        found.append(f"group\t{group.gr_name}\t{group.gr_gid}")
        found.extend(f"member\t{group.gr_name}\t{member}" for member in group.gr_mem)
    return found


def owned_by_packages() -> set[str]:
    mark = "\n".join([*map(_identity, ("/var/lib/dpkg/info", "/var/lib/dpkg/status")), *PACKAGES_OWN])
    return set(kept("owned", mark, listed_by_packages))


def listed_by_packages() -> list[str]:
    owned: set[str] = set()
    tops = ("/etc/", "/usr/local/", *(f"{place}/" for place in expanded(PACKAGES_OWN)))
    for listing in glob.iglob("/var/lib/dpkg/info/*.list"):
        for line in pathlib.Path(listing).read_text(errors="replace").splitlines():
            if line.startswith(("/bin/", "/sbin/", "/lib/")):
                line = f"/usr{line}"  # lists of packages from before the directories became one
            if line.startswith(tops):
                owned.add(line)
    return sorted(owned)


def expanded(places: tuple[str, ...]) -> list[str]:
    return [found for place in places for found in (glob.glob(place) if "*" in place else [place])]


def files(declared: set[str]) -> list[str]:
    """Files in directories that configure the host, which neither a package nor the office put there."""
    owned = owned_by_packages()
    seen = [
        path for path in expanded(SINGLE) if os.path.isfile(path) and not OWN_TRACES.match(path)
    ] + expanded(UNSCANNED)
    aliases = [
        f"alias\t{path}\tlink to {os.readlink(path)}"
        for path in owned
        if path.startswith(COMMANDS_BELOW) and os.path.islink(path)
    ]
    homes = (found for name in HOMES for found in glob.glob(f"/home/*/{name}"))
    for top in (*WATCHED, *homes, *expanded(PACKAGES_OWN)):
        for directory, inner, names in os.walk(top):
            links = [name for name in inner if os.path.islink(f"{directory}/{name}")]
            for name in (*names, *links):
                path = f"{directory}/{name}"
                if UNIT_LINK.match(path) and os.path.islink(path):
                    continue  # the units tell
                if path.startswith(AUTHORITIES) and os.path.islink(path) and BUNDLED.match(os.readlink(path)):
                    continue
                seen.append(path)
    return aliases + [
        f"{'local' if is_local(path) else 'file'}\t{path}\t{fingerprint(path)}"
        for path in dict.fromkeys(seen)
        if path not in declared and path not in owned and not PASSING.search(path)
    ]


def is_local(path: str) -> bool:
    return any(path == own or (own.endswith("/") and path.startswith(own)) for own in LOCAL)


def fingerprint(path: str) -> str:
    if os.path.islink(path):
        return f"link to {os.readlink(path)}"
    try:
        return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()[:16]
    except OSError:
        return ""


def conffiles(declared: set[str]) -> list[str]:
    """Configuration files of packages, which lie in /etc (Debian Policy 10.7.2), that differ from the package."""
    found = []
    for line in said("dpkg-query --show --showformat '${Conffiles}\\n'"):
        parts = line.split()
        if len(parts) != 2 or parts[0] in declared:
            continue
        path, wanted = parts
        if is_local(path):
            continue
        try:
            content = pathlib.Path(path).read_bytes()
        except OSError:
            found.append(f"conffile\t{path}\tmissing")
            continue
        if wanted != "newconffile" and hashlib.md5(content, usedforsecurity=False).hexdigest() != wanted:
            found.append(f"conffile\t{path}\t{hashlib.sha256(content).hexdigest()[:16]}")
    return found


def modes() -> list[str]:
    found = []
    for path in (
        *GUARDED,
        *(place for place in expanded(STATE_OF_DAEMONS) if stat.S_ISDIR(os.lstat(place).st_mode)),
    ):
        with contextlib.suppress(OSError, KeyError):
            status = os.lstat(path)
            owner, group = pwd.getpwuid(status.st_uid).pw_name, grp.getgrgid(status.st_gid).gr_name
            found.append(f"mode\t{path}\t{status.st_mode & 0o7777:o} {owner} {group}")
    for line in said("findmnt --raw --noheadings --output TARGET,OPTIONS"):
        target, options = line.split(" ", 1)
        if target in MOUNTED:
            kept = [word for word in options.split(",") if word in ("ro", "rw", "noexec", "nosuid", "nodev")]
            found.append(f"mount\t{target}\t{','.join(kept)}")
        elif not re.match(r"/(proc|sys|dev|run|var/lib/docker)(/|$)", target):
            found.append(f"mounted\t{target}\t")
    return found


def programs() -> list[str]:
    """Packages' programs that are gone, or were changed since the last apply by others than a package."""
    owned = owned_by_packages()
    tops = tuple(f"{place}/" for place in expanded(PROGRAMS))
    try:
        since = KNOWN.stat().st_mtime
    except OSError:
        return []
    found, suspects = [], []
    for path in owned:
        if not path.startswith(tops):
            continue
        try:
            status = os.lstat(path)
        except OSError:
            found.append(f"program\t{path}\tmissing")
            continue
        if status.st_ctime > since and not stat.S_ISDIR(status.st_mode):
            suspects.append(path)
    return found + [f"program\t{path}\tchanged" for path in (differing(suspects) if suspects else ())]


def differing(paths: collections.abc.Iterable[str]) -> list[str]:
    """Those whose content is not what their package's list of checksums says."""
    wanted: dict[str, set[str]] = collections.defaultdict(set)
    for listing in glob.iglob("/var/lib/dpkg/info/*.md5sums"):
        for line in pathlib.Path(listing).read_text(errors="replace").splitlines():
            digest, _, name = line.partition("  ")
            path = f"/{name}"
            wanted[f"/usr{path}" if path.startswith(("/bin/", "/sbin/", "/lib/")) else path].add(digest)
    found = []
    for path in paths:
        with contextlib.suppress(OSError):
            digest = hashlib.md5(pathlib.Path(path).read_bytes(), usedforsecurity=False).hexdigest()
            if wanted[path] and (
                os.path.islink(path) or digest not in wanted[path]
            ):  # no link has a checksum
                found.append(path)
    return found


SPECIAL = r"-type f -perm /6000 -o -type f -perm -0002 -o -type d -perm -0002 ! -perm -1000"
USUAL = r"-user root -group root \( -type f \( -perm 644 -o -perm 755 -o -perm 444 -o -perm 555 \) -o -type d -perm 755 \)"
ELSEWHERE = ("/proc", "/sys", "/dev", "/run", "/tmp", "/var/tmp", "/srv/mail", "/var/lib/docker")


def special(declared: set[str], places: str, wanted: str) -> list[str]:
    """Files and directories that find(1) picks, with mode, owner and group."""
    return [
        f"special\t{path}\t{rest}"
        for rest, _, path in (
            line.partition("|") for line in said(f"find {places} \\( {wanted} \\) -printf '%m %u %g|%p\\n'")
        )
        if path not in declared and path not in GUARDED and not PASSING.search(path)
    ]


def privileges(declared: set[str]) -> list[str]:
    """Of `TREES`: programs that run as somebody else, what others than root may write or only some may read, and capabilities."""
    found = special(declared, f"{' '.join(TREES)} -xdev", rf"{SPECIAL} -o ! -type l ! \( {USUAL} \)")
    for top in (*expanded(PROGRAMS), "/usr/local", "/opt"):
        for directory, _, names in os.walk(top):
            for name in names:
                with contextlib.suppress(OSError):
                    value = os.getxattr(f"{directory}/{name}", "security.capability", follow_symlinks=False)
                    found.append(f"capability\t{directory}/{name}\t{value.hex()}")
    return found


def privileges_elsewhere(declared: set[str]) -> list[str]:
    """Of all the rest: programs that run as somebody else, and what anybody may write."""
    pruned = " -o ".join(f"-path {top}" for top in (*ELSEWHERE, *TREES))
    return special(declared, rf"/ -xdev \( {pruned} \) -prune -o", SPECIAL)


def held(paths: set[str], places: collections.abc.Iterable[str]) -> list[str]:
    """Of these places: declared files, and directories on the way, that cannot be replaced, or that more may read than their mode says."""
    found = []
    for path in sorted(places):
        if path.startswith("/var/log") or not os.path.lexists(path) or os.path.islink(path):
            continue
        if path in paths and os.path.isfile(path) and os.stat(path).st_nlink > 1:
            found.append(f"linked\t{path}\t")
        with contextlib.suppress(OSError):
            flags = attributes(path)
            names = [
                name for name, bit in (("immutable", IMMUTABLE), ("append-only", APPEND_ONLY)) if flags & bit
            ]
            if names:
                found.append(f"locked\t{path}\t{', '.join(names)}")
        with contextlib.suppress(OSError):
            if set(ACCESS_LISTS) & set(os.listxattr(path)):
                found.append(f"acl\t{path}\t")
    return found


def on_the_way(paths: set[str]) -> set[str]:
    """What must not keep declared files from being replaced."""
    above = (os.path.dirname(path) for path in paths)
    return {*paths, *above, *GUARDED, *expanded(STATE_OF_DAEMONS), *COMMANDS, "/usr/lib"}


def held_below_trees(paths: set[str]) -> list[str]:
    """The same, and all of /etc."""
    places = {path for path in on_the_way(paths) if in_trees(path)}
    for directory, _, names in os.walk("/etc"):
        places.update((directory, *(f"{directory}/{name}" for name in names)))
    return held(paths, places)


def held_elsewhere(paths: set[str]) -> list[str]:
    """Where a look at the files' mark does not tell."""
    return held(paths, {path for path in on_the_way(paths) if not in_trees(path)})


def in_trees(path: str) -> bool:
    return path in TREES or path.startswith(tuple(f"{top}/" for top in TREES))


def attributes(path: str, wanted: int | None = None) -> int:
    """Attributes of a file on disk (chattr(1)), set first where they are given."""
    opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    try:
        if wanted is not None:
            fcntl.ioctl(opened, SET_FLAGS, struct.pack("l", wanted))
        return int(struct.unpack("l", fcntl.ioctl(opened, GET_FLAGS, struct.pack("l", 0)))[0])
    finally:
        os.close(opened)


def release(paths: list[str]) -> None:
    """Take away what keeps files and their directories from being replaced, and access lists."""
    for path in dict.fromkeys([*(os.path.dirname(path) for path in paths), *paths]):
        with contextlib.suppress(OSError):
            flags = attributes(path)
            if flags & (IMMUTABLE | APPEND_ONLY):
                attributes(path, flags & ~(IMMUTABLE | APPEND_ONLY))
        for name in ACCESS_LISTS if path in paths else ():
            with contextlib.suppress(OSError):
                os.removexattr(path, name)
        if path in paths and os.path.isfile(path) and os.stat(path).st_nlink > 1:
            status = os.stat(path)
            shutil.copy2(path, f"{path}.outpost-new")
            os.chown(f"{path}.outpost-new", status.st_uid, status.st_gid)
            os.replace(f"{path}.outpost-new", path)


def network(sockets: list[str]) -> list[str]:
    """Interfaces, addresses and routes that somebody gave the host; what it learns or works out itself apart.

    Args:
        sockets: Those that wait, as ss(8) lists them.
    """
    found = []
    (links,) = told_all("ip -json -details address", 1)
    for entry in links:
        name = entry["ifname"]
        kind = entry.get("linkinfo", {}).get("info_kind", "")
        flags = entry.get("flags", ())
        heard = "on" if "PROMISC" in flags else "off"
        found.append(
            f"link\t{name}\t{'up' if 'UP' in flags else 'down'} mtu {entry['mtu']} promisc {heard} {kind}".rstrip()
        )
        for each in entry.get("addr_info", ()):
            given = not (each.get("dynamic") or each.get("temporary") or OF_THE_KERNEL.match(each["local"]))
            if given:
                found.append(f"address\t{each['local']}/{each['prefixlen']}\t{name}")
    for family in ("4", "6"):
        routes, neighbours = told_all(
            f"printf 'route show table all\\nneighbour show nud permanent\\n' | ip -json -{family} -batch -",
            2,
        )
        for entry in routes:
            if entry.get("protocol") in ("kernel", "ra", "dhcp", "redirect") or entry.get(
                "dst", ""
            ).startswith("fe80:"):
                continue
            words = [entry.get("type", "unicast"), entry["dst"]]
            words += ["via", entry["gateway"]] if "gateway" in entry else []
            words += ["metric", str(entry["metric"])] if "metric" in entry else []
            words += ["table", entry["table"]] if "table" in entry else []
            found.append(f"route\t{family} {' '.join(words)}\t{entry.get('dev', '')}")
        found += [
            f"rule\t{family} {' '.join(line.replace(':', ' ', 1).split())}\t"
            for line in said(f"ip -{family} rule")
        ]
        for entry in neighbours:
            found.append(f"neighbour\t{entry['dst']}\t{entry.get('lladdr', '')} {entry['dev']}")
    found += [f"namespace\t{os.path.basename(path)}\t" for path in glob.iglob("/run/netns/*")]
    for line in sockets:
        protocol, _, _, _, local, _, *rest = line.split()
        if protocol != "tcp" or not local.startswith(("127.", "[::1]")):
            continue
        if process := re.search(
            r'"([^"]+)",pid=(\d+)', " ".join(rest)
        ):  # Docker's resolver is no process of the container
            unit = unit_of(process[2])
            found.append(f"loopback\t{local}\t{unit if unit.endswith('.service') else process[1]}")
    return found


def told_all(command: str, answers: int) -> list[list[dict[str, typing.Any]]]:
    """What ip(8) answers in JSON, a line to each question; nothing where it fails."""
    try:
        lines = [json.loads(line) for line in said(command)]
    except ValueError:
        lines = []
    return [[entry for entry in line if entry] for line in (lines + [[]] * answers)[:answers]]


def settings_in_force(contract: dict[str, object]) -> list[str]:
    """Kernel settings that no file of the office names; those are compared with the file."""
    places = ["net/ipv4/*", "net/ipv4/conf/*/*", "net/ipv6/*", "net/ipv6/conf/*/*", "net/ipv6/icmp/*", "net/core/*", *(MACHINE_SETTINGS if contract.get("kernel") else ())]  # fmt: skip
    declared = set(wanted_settings())
    found = []
    for path in (path for place in places for path in glob.iglob(f"/proc/sys/{place}")):
        if path in declared or UNSTEADY.search(path):
            continue
        with contextlib.suppress(OSError), open(path, "rb", buffering=0) as setting:
            value = " ".join(setting.read().decode(errors="replace").split())
            found.append(f"setting\t{path.removeprefix('/proc/sys/').replace('/', '.')}\t{value}")
    return found


def manager() -> list[str]:
    """What systemd hands to every daemon; its language comes with the boot."""
    return [
        f"manager\t{name}\t{value}"
        for name, _, value in (line.partition("=") for line in said("systemctl show-environment"))
        if not name.startswith(("LANG", "LC_"))
    ]


def modules(contract: dict[str, object]) -> list[str]:
    """Kernel modules that are barred and loaded all the same, where the kernel is the host's own."""
    if not contract.get("kernel"):
        return []
    barred: set[str] = set()
    for path in glob.iglob("/etc/modprobe.d/*.conf"):
        barred.update(re.findall(r"^install (\S+) /bin/false$", pathlib.Path(path).read_text(), re.MULTILINE))
    loaded = {
        line.split()[0].replace("_", "-") for line in pathlib.Path("/proc/modules").read_text().splitlines()
    }
    return [f"module\t{name}\t" for name in sorted(loaded & {name.replace("_", "-") for name in barred})]


def packet_filter(mark: collections.abc.Callable[[], str]) -> tuple[list[str], list[str]]:
    """Tables beside the office's (a state); rules that differ from the file (faults).

    Args:
        mark: Of the files.
    """
    tables: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in said("nft --stateless list ruleset"):
        if line.startswith("table "):
            lines = tables.setdefault(line.removeprefix("table ").removesuffix(" {"), [])
        if not line.startswith("#"):
            lines.append(line.strip())
    live = tables.pop("inet outpost", [])
    filed = kept(
        "filter",
        mark(),
        lambda: said(
            "unshare --net sh -c 'nft --file /etc/nftables.conf && nft --stateless list table inet outpost'"
        ),
    )
    strange = []
    if filed and not live:
        strange.append("filter\tmissing\tall rules: the table is not loaded")
    elif filed:
        count = collections.Counter(live)
        count.subtract(line.strip() for line in filed)
        for line, number in count.items():
            if number and line not in ("}", ""):
                strange.append(f"filter\t{'missing' if number < 0 else 'added'}\t{line}")
    states = []
    for table, lines in tables.items():
        if table == "ip nat" and all(DOCKER_RESOLVER.search(line) for line in lines):
            continue
        states.append(f"table\t{table}\t")
        states.append(f"rules\t{table}\t{hashlib.sha256(chr(10).join(lines).encode()).hexdigest()[:16]}")
    return states, strange


def wanted_settings() -> dict[str, str]:
    """Path below /proc/sys to the value in the declared file."""
    wanted: dict[str, str] = {}
    try:
        text = pathlib.Path("/etc/sysctl.d/90-outpost.conf").read_text()
    except OSError:
        return {}
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if not equals or line.startswith(("#", ";")):
            continue
        for path in glob.glob("/proc/sys/" + key.strip().lstrip("-").replace(".", "/")):
            wanted[path] = " ".join(value.split())
    return wanted


def kernel() -> list[str]:
    """Live settings that differ from the declared file."""
    found = []
    for path, value in wanted_settings().items():
        with contextlib.suppress(OSError):
            live = " ".join(pathlib.Path(path).read_text().split())
            if live != value:
                found.append(
                    f"sysctl\t{path.removeprefix('/proc/sys/').replace('/', '.')}\t{live} instead of {value}"
                )
    return found


DHCP_CLIENTS = ("systemd-network", "dhclient", "dhcpcd", "NetworkManager")  # as the kernel cuts their names


def listeners(contract: dict[str, object], sockets: list[str]) -> list[str]:
    """Sockets that wait for others and are in no flow.

    Args:
        sockets: Those that wait, as ss(8) lists them.
    """
    allowed = {tuple(entry) for entry in contract.get("listeners", ())}  # type: ignore[attr-defined]
    found = []
    for line in sockets:
        protocol, _, _, _, local, _, *rest = line.split()
        address, _, port = local.rpartition(":")
        address = address.partition("%")[0].strip("[]")
        process = re.search(r'"([^"]+)",pid=(\d+)', " ".join(rest))
        if process is None or address.startswith("127.") or address == "::1":
            continue  # Docker's resolver listens in the container without being a process of it
        program, pid = process.groups()
        if (protocol, address, int(port)) in allowed:
            continue
        if protocol == "udp" and program in ("unbound", "chronyd", "rspamd", "kdig") and int(port) >= 1024:
            continue  # the near end of a question that is under way
        if protocol == "udp" and int(port) in (68, 546) and program in DHCP_CLIENTS:
            continue  # the host has its address by it; closing it takes the address away
        found.append(f"listener\t{protocol} {address} {port}\t{program} {pid} {unit_of(pid)}")
    return found


def unit_of(pid: str) -> str:
    with contextlib.suppress(OSError):
        for part in reversed(pathlib.Path(f"/proc/{pid}/cgroup").read_text().strip().split("/")):
            if part.endswith((".service", ".scope")):
                return part
    return ""


def shown_units(declared_units: dict[str, list[str]], paths: set[str]) -> dict[str, list[str]]:
    """What systemd says of the services that the office has a hand in (systemctl(1), show), by their names."""
    names = sorted(
        {
            name
            for name in (*declared_units, *UNIT_OF_FILE.findall("\n".join(sorted(paths))))
            if name.endswith(".service")
        }
    )
    if not names:
        return {}
    lines = said(
        f"systemctl show --timestamp=us+utc --property={','.join((*SECURITY, *LOADED))} {' '.join(names)}"
    )
    blocks = (block.splitlines() for block in "\n".join(lines).split("\n\n"))
    return dict(zip(names, blocks, strict=False))


def stale(
    units: dict[str, list[str]], paths: set[str], shown: collections.abc.Callable[[], dict[str, list[str]]]
) -> list[str]:
    """Units whose files were written after the daemon last loaded them.

    Args:
        shown: What systemd says of them.
    """
    loads: dict[str, set[tuple[str, str]]] = collections.defaultdict(set)
    for unit, own in units.items():
        for path in own:
            if not path.startswith("/etc/systemd/system/") and unit.endswith(".service"):
                loads[unit].add((path, "StateChangeTimestamp"))
    for path in paths:
        if path.endswith("/limits.conf"):
            continue  # systemd puts these on a running daemon
        if match := UNIT_OF_FILE.match(path):
            loads[match[1]].add((path, "ExecMainStartTimestamp"))
    found = []
    for name in sorted(loads):
        values = dict(line.partition("=")[::2] for line in shown().get(name, ()))
        if values.get("NeedDaemonReload") == "yes":
            found.append(f"stale\t{name}\tits unit file or a drop-in, after systemd read it")
        if values.get("ActiveState") != "active":
            continue
        for path, stamp in sorted(loads[name]):
            loaded = values.get(stamp, "").removesuffix(" UTC").partition(" ")[2]
            with contextlib.suppress(OSError, ValueError):
                moment = datetime.datetime.strptime(loaded + " +0000", "%Y-%m-%d %H:%M:%S.%f %z").timestamp()
                if os.stat(path).st_ctime > moment:
                    found.append(f"stale\t{name}\t{path}")
                    break
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


def name_and_clock(contract: dict[str, object]) -> list[str]:
    found = []
    wanted = contract.get("hostname")
    live = os.uname().nodename
    if wanted and live != wanted:
        found.append(f"hostname\t{live}\tinstead of {wanted}")
    return found


def look() -> tuple[list[str], list[str]]:
    """States and faults of now."""
    declared_units, declared = records()
    contract: dict[str, object] = {}
    with contextlib.suppress(OSError, ValueError):
        contract = json.loads(CONTRACT.read_text())
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        mark = pool.submit(mark_of_files).result

        def from_files(
            name: str, ask: collections.abc.Callable[..., list[str]], *told: object
        ) -> concurrent.futures.Future[list[str]]:
            return pool.submit(lambda: kept(name, mark(), lambda: ask(*told)))

        listed_units = said(
            "systemctl list-units --no-legend --plain --full --state=failed,running,waiting,listening"
        )
        shown = pool.submit(shown_units, declared_units, declared).result
        sockets = said("ss --no-header --listening --numeric --tcp --udp --processes")
        installed = from_files("packages", packages)
        filters = pool.submit(packet_filter, mark)
        states = [
            installed, pool.submit(effective, declared_units, installed.result, shown, mark), pool.submit(units, listed_units), pool.submit(accounts), pool.submit(modes),
            pool.submit(network, sockets), pool.submit(settings_in_force, contract), pool.submit(manager),
            pool.submit(privileges_elsewhere, declared), from_files("files", files, declared),
            from_files("conffiles", conffiles, declared), from_files("programs", programs), from_files("privileges", privileges, declared),
        ]  # fmt: skip
        faults = [
            pool.submit(troubled_units, listed_units), pool.submit(kernel), pool.submit(listeners, contract, sockets),
            pool.submit(stale, declared_units, declared, shown), pool.submit(name_and_clock, contract), pool.submit(modules, contract),
            pool.submit(halted), pool.submit(held_elsewhere, declared), from_files("held", held_below_trees, declared),
        ]  # fmt: skip
    tables, rules = filters.result()
    facts = sorted({*tables, *(line for future in states for line in future.result())})
    me = hashlib.sha256(pathlib.Path(__file__).read_bytes()).hexdigest()[:16]
    return (
        sorted([f"observer\t{me}\t", *facts]),
        [*rules, *(line for future in faults for line in future.result())],
    )


def known() -> set[str] | None:
    try:
        return set(KNOWN.read_text().splitlines())
    except OSError:
        return None


def unfinished() -> bool:
    """Whether an apply changed something after the known state was written down."""
    try:
        noted = KNOWN.stat().st_mtime_ns
    except OSError:
        return True
    return any(record.stat().st_mtime_ns > noted for record in APPLIED.glob("*"))


def same_version(lines: set[str], others: set[str]) -> set[str]:
    """Without what a daemon says since it was upgraded: other versions have other defaults."""
    objects = {line.split("\t")[1] for line in others if line.startswith("effective\t")}
    return {line for line in lines if not line.startswith("effective\t") or line.split("\t")[1] in objects}


def newer(now: set[str], before: set[str]) -> set[str]:
    """Versions that came and went as they should: a package is new, gone, or a later one than it was."""
    new, old = (
        {line.split("\t")[1]: line for line in lines if line.startswith("version\t")}
        for lines in (now - before, before - now)
    )
    lower = {
        name
        for name in set(new) & set(old)
        if not subprocess.run(
            ["dpkg", "--compare-versions", new[name].split("\t")[2], "lt", old[name].split("\t")[2]],
            check=False,
        ).returncode
    }
    gone = set(old) - set(new)
    if gone and subprocess.run(["apt-get", "-qq", "check"], capture_output=True, check=False).returncode:
        lower |= gone  # what needs them is still there
    return {line for lines in (new, old) for name, line in lines.items() if name not in lower}


def keep_copies(keep: set[str], states: set[str]) -> None:
    """Files that no package and no office can restore: kept as they were when they were last known good."""
    shadow = STATE / "known-files" / "etc" / "shadow"
    if not any(line.startswith("shadow\t") for line in states - keep):
        shadow.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        shadow.touch(mode=0o600)
        shadow.write_bytes(pathlib.Path("/etc/shadow").read_bytes())
    for line in keep:
        kind, path, value = line.split("\t", 2)
        copy = STATE / "known-files" / path.lstrip("/")
        if (
            kind != "file"
            or value.startswith("link to ")
            or (copy.is_file() and fingerprint(str(copy)) == value)
        ):
            continue
        with contextlib.suppress(OSError):
            copy.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if fingerprint(path) == value:
                shutil.copy2(path, copy)
                status = os.stat(path)
                os.chown(copy, status.st_uid, status.st_gid)


def main() -> None:
    """Look, remember, or let go of what somebody has locked."""
    if sys.argv[1:2] == ["release"]:
        release(sys.argv[2:])
        return
    LOCAL.extend(sys.argv[2:])
    states, faults = look()
    before = known()
    if sys.argv[1:2] == ["remember"]:
        strange = set(sys.stdin.read().splitlines())
        keep = (set(states) - strange) | (strange & (before or set()))
        STATE.mkdir(mode=0o700, exist_ok=True)
        new = KNOWN.with_suffix(".new")
        new.write_text("".join(f"{line}\n" for line in sorted(keep)))
        new.chmod(0o600)
        keep_copies(keep, set(states))
        new.replace(KNOWN)
        return
    now = set(states)
    passing = newer(now, before) if before is not None else set()
    if before is not None and passing & before:  # what an upgrade, or a package that went, brings along
        there = {line.split("\t")[1] for line in now if line.startswith("mode\t")}
        passing |= {line for line in now ^ before if line.startswith("alias\t")}
        passing |= {
            line for line in before - now if line.startswith("mode\t") and line.split("\t")[1] not in there
        }
    result = {
        "first": before is None,
        "unfinished": unfinished() or any(line.startswith("observer\t") for line in now - (before or set())),
        "appeared": sorted(same_version(now - before, before) - passing - begun(now, before))
        if before is not None
        else [],
        "vanished": sorted(same_version(before - now, now) - passing) if before is not None else [],
        "upgraded": before is not None
        and (bool(passing) or same_version(now - before, before) != now - before),
        "faults": faults,
    }
    json.dump(result, sys.stdout)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
