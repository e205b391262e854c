"""Shell that repairs changes made by hand. It deletes no data: files are moved aside, accounts locked, units stopped."""

import re
import shlex
from pathlib import PurePosixPath

from outpost.drift.differences import Difference, directory, named
from outpost.office.role import every_role
from outpost.onhost.observe import OBSERVER
from outpost.onhost.observe.declared import KNOWN
from outpost.onhost.observe.kept_by_daemons import TIMERS
from outpost.onhost.observe.network import DEFAULT
from outpost.onhost.observe.places import COMMANDS_BELOW
from outpost.onhost.observe.units import EXPORTED, PATTERNS
from outpost.units import restarted

ASIDE = "/var/lib/outpost/removed"
COPIES = "/var/lib/outpost/known-files"
MOUNTS = "outpost-mounts.service"
APT = "DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends -o DPkg::Lock::Timeout=300"
KEEPS = "is selected for removal$"
"""What apt-get(8) says of a package without which it could not work itself."""
USUAL = (0o644, 0o755, 0o444, 0o555)
"""Permissions of an ordinary file of root."""


def in_pattern(text: str) -> str:
    """A text in a pattern of sed -E between slashes. SYS-08: sed has a command that starts programs."""
    return re.escape(text).replace("/", r"\/")


def in_replacement(text: str) -> str:
    """A text in a replacement of sed between slashes."""
    return re.sub(r"[\\/&]", r"\\\g<0>", text)


def with_mode(it: Difference) -> str:
    """Shell that restores mode and owner. A missing directory is made; a missing file comes from the copy that Debian keeps of it.

    Whatever has taken its place (a link, a directory instead of a file) is moved aside. SYS-01: a daemon's account may make a link meanwhile.
    """
    mode, owner, group = it.old[0].split(" ")
    kind, missing = ("-f", f"cp --archive {named(f'{it.thing}-')} {it.quoted}")
    if int(mode, 8) & 0o111:
        kind, missing = ("-d", f"mkdir {it.quoted}")
    aside = f"{ASIDE}{named(it.thing)}"
    owner, mode = shlex.quote(f"{owner}:{group}"), shlex.quote(mode)
    return (
        f"{{ [ ! -L {it.quoted} ] && [ {kind} {it.quoted} ]; }} || {{ mkdir -p -m 0700 {ASIDE}; mkdir -p {ASIDE}{directory(it.thing)}; "
        f"[ ! -L {it.quoted} ] && [ ! -e {it.quoted} ] || mv -T --backup=numbered {it.quoted} {aside}; {missing}; }}; chown -h {owner} {it.quoted} && chmod -h {mode} {it.quoted}"
    )


def capabilities(it: Difference) -> str:
    """Shell that restores a file's capabilities."""
    back = (
        f"os.setxattr(path, name, bytes.fromhex({it.old[0]!r}), follow_symlinks=False)"
        if it.old
        else "os.removexattr(path, name, follow_symlinks=False)"
    )
    program = f"import os, sys; path, name = sys.argv[1], 'security.capability'; {back}"
    return f"! [ -e {it.quoted} ] || python3 -c {shlex.quote(program)} {it.quoted}"


def usual(path: str, mode: str) -> str:
    """Shell that makes it an ordinary file again; an unknown earlier mode is the package's, or a plain file's."""
    quoted = named(path)
    calm = int(mode, 8) & ~0o6022
    roots = path.startswith(("/etc/", "/usr/", "/root/"))
    if not roots:  # a daemon's account may own its directory, and put a link there or on the way
        return f"{OBSERVER} mode {calm:o} {quoted}"
    if calm in USUAL and (calm & 0o111 or not path.startswith(COMMANDS_BELOW)):
        return f"chown root:root {quoted} && chmod {calm:o} {quoted}"
    plain = f"chown root:root {quoted}; if [ -d {quoted} ] || head -c 2 {quoted} | grep -q '#!'; then chmod 755 {quoted}; else chmod 644 {quoted}; fi"
    if not path.startswith("/usr/"):
        return plain
    return f"if dpkg-query --search {quoted} >/dev/null 2>&1 && ! [ -d {quoted} ]; then {from_package(path, moded=False)}; else {plain}; fi"


DROP_ALL = """import sqlite3, sys
database = sqlite3.connect(sys.argv[1], timeout=30)
for kind, name in database.execute("SELECT type, name FROM sqlite_master WHERE type IN ('trigger', 'view')").fetchall():
    database.execute("DROP " + kind + ' IF EXISTS "' + name.replace('"', '""') + '"')
database.commit()
"""


def trigger_away(it: Difference) -> str:
    """Shell that removes triggers and views from a database; it does not undo what they did to rows.

    It runs as the first account, on the way to the file, that is not root: an intruder in it chose the names, may have put links there, and
    a journal beside the file, which SQLite follows with its own rights.
    """
    way = [named(str(each)) for each in (*reversed(PurePosixPath(it.thing).parents), it.thing)]
    owners = (
        f"{{ stat --format='%u %g' {' '.join(way)}; stat -L --format='%u %g' {it.quoted}; }} | grep -v '^0 '"
    )
    return (
        f'set -- $({owners} || echo 0 0); setpriv --reuid="$1" --regid="$2" --clear-groups '
        f"python3 -I -c {shlex.quote(DROP_ALL)} {it.quoted}"
    )


def policy_away(it: Difference) -> str:
    """Shell that removes IPsec policies, or restores the default for packets without one (ip-xfrm(8))."""
    if it.thing.startswith(DEFAULT):
        return f"ip xfrm policy setdefault {shlex.quote(it.thing.removeprefix(DEFAULT))} accept"
    return f"ip xfrm policy delete {shlex.join(it.thing.split())}"


def unset_timer(zone: str, value: str) -> str:
    """Shell that resets a date of a signing key; a person has to handle an additional or a missing key."""
    key, timer, moment = (*value.split(" "), "", "")[:3]
    if timer not in TIMERS or not moment.isdigit():
        return ""
    name = shlex.quote(zone)
    return f"keymgr {name} set {shlex.quote(key)} {timer}=0 >/dev/null && knotc --blocking zone-keys-load {name} >/dev/null"


def linked(path: str, target: str) -> str:
    """Shell that restores a symbolic link; for an alternative also its choice."""
    name = path.removeprefix("/etc/alternatives/")
    chosen = (
        f"update-alternatives --auto {shlex.quote(name)} >/dev/null 2>&1 || true; " if name != path else ""
    )
    return f"{chosen}ln -sfnT {shlex.quote(target)} {shlex.quote(path)}"


def linked_again(path: str, target: str) -> str:
    """The same, and whatever has taken the link's place is moved aside first."""
    quoted = named(path)
    return (
        f"[ -L {quoted} ] || [ ! -e {quoted} ] || {{ mkdir -p -m 0700 {ASIDE}; mkdir -p {ASIDE}{directory(path)}; "
        f"mv -T --backup=numbered {quoted} {ASIDE}{quoted}; }}; {linked(path, target)}"
    )


RELOADS = {
    "/etc/unbound/": "unbound.service",
    "/etc/chrony/": "chrony.service",
    "/etc/ssh/": "ssh.service",
    "/etc/systemd/journald": "systemd-journald.service",
}


def _reader(path: str) -> str:
    """The unit whose daemon reads a file: the longest declared prefix of the path decides."""
    every = RELOADS | {start: unit for role in every_role().values() for start, unit in role.reloads.items()}
    return every.get(max((start for start in every if path.startswith(start)), key=len, default=""), "")


def stop_first(path: str) -> str:
    """Shell that stops a unit before its file is removed."""
    match = re.fullmatch(r"/(?:etc|run)/systemd/system/([^/]+\.(?:service|socket|timer|path))", path)
    return f"systemctl disable --now --quiet {shlex.quote(match[1])} 2>/dev/null || true; " if match else ""


def reload_for(path: str) -> str:
    """Shell, appended to another command, that makes the file's daemon read its files again."""
    if match := re.match(
        r"/(?:etc|run)/systemd/(?:system(?:\.(?:attached|control))?|transient)/([^/]+\.(?:service|socket|timer))(?:\.d/)?",
        path,
    ):
        unit = shlex.quote(match[1])
        return f"; systemctl daemon-reload; {restarted(unit, only_running=True)} 2>/dev/null || true"
    if path.startswith("/etc/sysctl.d/"):
        return "; /usr/lib/systemd/systemd-sysctl"
    if path.startswith("/etc/systemd/") or path.startswith("/run/systemd/"):
        return "; systemctl daemon-reload" + (
            f"; {restarted('systemd-journald.service', only_running=True)}" if "journald" in path else ""
        )
    unit = _reader(path)
    return f"; systemctl try-reload-or-restart {unit} || true" if unit else ""


def unit_reading(path: str) -> str:
    """The unit whose daemon reads a file, or whose drop-in it is; empty if none is known."""
    if match := re.match(r"/(?:etc|run)/systemd/system/([^/]+\.(?:service|socket|timer))(?:\.d/|\Z)", path):
        return match[1]
    return _reader(path)


def numbered(group: str, gid: str) -> str:
    """It does not use groupmod: if somebody had given the group root's number, root would get the new one, too."""
    program = rf"s/^({in_pattern(group)}:[^:]*):[0-9]+:/\1:{in_replacement(gid)}:/"
    return f"sed -i -E {shlex.quote(program)} /etc/group"


def shadow(name: str) -> str:
    """Shell that restores its line from the end of the last apply."""
    put = (
        f"awk -F: -v name={shlex.quote(name)} 'NR == FNR {{ if ($1 == name) kept = $0; next }} "
        "$1 == name { seen = 1; if (kept) print kept; else print; next } { print } END { if (kept && !seen) print kept }'"
    )
    return (
        f"! [ -s {COPIES}/etc/shadow ] || ! getent passwd {shlex.quote(name)} >/dev/null || {{ umask 077; {put} {COPIES}/etc/shadow /etc/shadow > /etc/shadow.outpost-new && "
        "chown --reference=/etc/shadow /etc/shadow.outpost-new && chmod --reference=/etc/shadow /etc/shadow.outpost-new && "
        "mv -f /etc/shadow.outpost-new /etc/shadow; }"
    )


def end_listening(thing: str, unit: str) -> str:
    """Shell: restart a declared daemon, so that it listens as its files say; stop any other unit or process."""
    pids = f"ss --no-header --listening --numeric --tcp --processes src {shlex.quote(thing)} | grep -o 'pid=[0-9]*' | cut -d= -f2"
    if unit.endswith(".service") and not unit.startswith(("user@", "init")):
        unit = shlex.quote(unit)
        return f"if systemctl is-enabled --quiet {unit} 2>/dev/null; then {restarted(unit)}; else systemctl stop {unit}; fi"
    return f"{pids} | xargs --no-run-if-empty kill"


def close(pid: str, unit: str, declared: frozenset[str]) -> str:
    if unit in declared:
        return restarted(shlex.quote(unit))
    if unit.endswith(".service") and not unit.startswith(("user@", "init")):
        return f"systemctl disable --now --quiet {shlex.quote(unit)} 2>/dev/null || systemctl stop {shlex.quote(unit)}"
    return f"kill {shlex.quote(pid)} 2>/dev/null || true"


def ended(pid: str, unit: str) -> str:
    """Shell that restarts the service of a process as its files say, or kills a process of no service."""
    if unit.endswith(".service") and not unit.startswith("user@"):
        return restarted(shlex.quote(unit), only_running=True)
    return f"kill -KILL {shlex.quote(pid)} 2>/dev/null || true"


def _times(values: tuple[str, ...]) -> int:
    matches = (re.fullmatch(r"(\d{1,2}) times", value) for value in values)
    return sum(int(match[1]) if match else 1 for match in matches)


def unmounted(it: Difference) -> str:
    """Shell that unmounts what hides the files of a place; values are numbers of mounts there (``3 times``), and empty for one."""
    now, before = map(_times, (it.new, it.old))
    return f"for each in $(seq {max(1, now - before)}); do umount --lazy {it.quoted}; done"


def heard(path: str) -> str:
    """Shell that removes systemd's settings for journald about a unit's messages: a link, or an attribute of its control
    group."""
    if path.startswith(EXPORTED):
        return f"rm -f {named(path)}"
    program = f"import os, sys; os.removexattr(sys.argv[1], {PATTERNS!r})"
    return f'! [ -e {named(path)} ] || python3 -c "{program}" {named(path)}'


def restart(unit: str) -> str:
    if unit == "ca-certificates":
        return "sed -i 's/^!//' /etc/ca-certificates.conf; update-ca-certificates --fresh >/dev/null 2>&1"
    if unit == "knot-zones":
        return "for zone in /etc/knot/zones/*.zone; do knotc --blocking zone-reload $(basename $zone .zone) >/dev/null; done"
    if not unit.endswith(".service"):
        return ""
    return f"systemctl daemon-reload; {restarted(shlex.quote(unit), only_running=True)}"


def remove_package(name: str, declared: frozenset[str]) -> str:
    """Shell that removes a package, unless a role needs something that would go with it. Missing packages come first: without them apt refuses."""
    needed = "|".join(re.escape(package) for package in sorted(declared)) or "-"
    quoted = shlex.quote(name)
    return (
        f"apt-get -qq check >/dev/null 2>&1 || {APT} --fix-broken install </dev/null; "
        f"removed=$(LC_ALL=C apt-get --simulate --auto-remove remove {quoted} 2>&1) || echo \"$removed\" | grep -q '{KEEPS}' || exit 1; "
        f"if echo \"$removed\" | grep -qE '^Remv ({needed}) |{KEEPS}'; then "
        f"echo {shlex.quote(f'{name} stays: a declared package needs it')} >&2; apt-mark auto {quoted} >/dev/null; "
        f"else {APT} --auto-remove remove {quoted} </dev/null; systemctl daemon-reload; fi"
    )


def from_source(name: str, declared: frozenset[str]) -> str:
    """Shell that installs the version that apt's sources have, an older one too; a package that they do not have is removed."""
    quoted = shlex.quote(name)
    return (
        f"version=$(apt-cache madison {quoted} | cut -d '|' -f 2 | head -n 1 | tr -d ' '); if [ \"$version\" ]; then "
        f'{APT} --reinstall --allow-downgrades install {quoted}="$version" </dev/null; else {remove_package(name, declared)}; fi'
    )


def powerless(quoted: str) -> str:
    """Shell after which nothing that was moved aside is setuid or has capabilities: a new owner removes both (chown(2)).

    A hard link to a file elsewhere keeps its owner: the other file would change with it.
    """
    return f"find {ASIDE}{quoted} -type f -links 1 -exec chown root:root {{}} +"


def control_files(package: str) -> str:
    """Shell that fetches dpkg's records of a package from the package itself; none of its scripts runs."""
    quoted, top = shlex.quote(package), "/var/lib/dpkg/info"
    each = f'for old in {top}/{quoted}.*; do if [ -e "$old" ] && [ "${{old%.*}}" = {top}/{quoted} ]; then'
    # all or nothing: without its list a package has no files, and each of them would count as undeclared
    return (
        f"{_fetched(quoted)} && dpkg-deb --control ./*.deb control && dpkg-deb --fsys-tarfile ./*.deb > data && tar --list --file=data > /dev/null && "
        "{ echo /.; tar --list --quoting-style=literal --file=data | sed -n 's|^\\.\\(/.*[^/]\\)/*$|\\1|p'; } > control/list && "
        f'[ "$(wc -l < control/list)" -gt 1 ] && rm control/control && mkdir -p -m 0700 {ASIDE}{top} && '
        f'{each} cp --archive --backup=numbered "$old" {ASIDE}{top}/ || exit 1; fi; done && for new in control/*; do mode=0644; [ ! -x "$new" ] || mode=0755; '
        f'install -m "$mode" "$new" {top}/.outpost-new && mv -fT {top}/.outpost-new {top}/{quoted}."${{new#*/}}" || exit 1; done && {each} [ -e "control/${{old##*.}}" ] || rm "$old"; fi; done; cd /; rm -rf "$aside"'
    )


def forgotten(package: str) -> str:
    """Shell after which dpkg does not know a removed package; its records are moved aside first, so that no script runs and no file goes."""
    quoted, top = shlex.quote(package), "/var/lib/dpkg/info"
    return (
        f'mkdir -p -m 0700 {ASIDE}{top} && for old in {top}/{quoted}.*; do if [ -e "$old" ] && [ "${{old%.*}}" = {top}/{quoted} ]; then '
        f'mv --backup=numbered "$old" {ASIDE}{top}/ || exit 1; fi; done && dpkg --purge {quoted} >/dev/null'
    )


def _fetched(package: str) -> str:
    """Shell that goes to a new directory ($aside) and fetches the installed version of a package there."""
    return (
        'aside=$(mktemp -d) && cd "$aside" && chmod 0755 . && '
        f"apt-get -qq -o APT::Sandbox::User=root download {package}=\"$(dpkg-query --show --showformat '${{Version}}' {package})\""
    )


def from_package(path: str, *, moded: bool = True) -> str:
    """Shell that fetches a package's own version of one of its files.

    It keeps mode and owner: some packages set them during installation (sudo refuses /etc/sudoers with any
    other). If the file is gone, or a link has its place (with mode 777), it gets the known mode and owner. A wrong mode is a finding of its own.

    Args:
        moded: Whether its present mode is right; otherwise it gets the package's.
    """
    quoted = shlex.quote(path)
    known = shlex.quote(f"s|^mode\\t{re.escape(path)}\\t||p")
    was = (
        f"$({{ [ ! -L {quoted} ] && stat --format='%a %U %G' {quoted} 2>/dev/null; }} || sed -n {known} {KNOWN})"
        if moded
        else ""
    )
    return (
        f"was={was}; package=$(dpkg-query --search {quoted} | cut -d: -f1); "
        + _fetched('"$package"')
        + f' && dpkg-deb --fsys-tarfile ./*.deb > data || {{ cd /; rm -rf "$aside"; exit 1; }}; mkdir -p -m 0700 {ASIDE}; mkdir -p "{ASIDE}$(dirname {quoted})"; [ ! -e {quoted} ] || {{ cp --archive --backup=numbered {quoted} {ASIDE}{quoted}; {powerless(quoted)}; }}; '
        f"tar --extract --directory=/ --file=data .{quoted}; "
        f'[ -z "$was" ] || [ -L {quoted} ] || {{ set -- $was; chown "$2:$3" {quoted} && chmod "$1" {quoted}; }}; cd /; rm -rf "$aside"{reload_for(path)}'
    )


def from_packages(top: str) -> str:
    """Shell that fetches all missing files of packages below a directory, each package once."""
    place = named(top)
    missing = (
        'while IFS= read -r line; do [ -e "${line#*: }" ] || [ -L "${line#*: }" ] || echo "${line%%:*}"; done'
    )
    return (
        f"for package in $(dpkg-query --search {place} {place}'/*' 2>/dev/null | grep -v '^diversion by' | {missing} | tr -d ',' | sort -u); do "
        + _fetched('"$package"')
        + f' && dpkg-deb --fsys-tarfile ./*.deb > data || {{ cd /; rm -rf "$aside"; continue; }}; '
        f'tar --extract --skip-old-files --directory=/ --file=data .{place}; cd /; rm -rf "$aside"; done'
    )
