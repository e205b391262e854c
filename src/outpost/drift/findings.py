"""What an observation of a host means: each difference with cause, consequence and the command that repairs it.

Pure. `observe` (beside this module, run on the host) gives facts as lines ``kind TAB object TAB value``; here they
become findings. Repairs never delete data: files are moved aside, accounts locked, units stopped and disabled.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial

OBSERVER = "/usr/local/lib/outpost/observe"
ASIDE = "/var/lib/outpost/removed"
COPIES = "/var/lib/outpost/known-files"

EARLY = (
    "locked", "acl", "linked", "mounted", "library", "file", "alias", "conffile", "unit", "hold", "diversion", "override", "program",
    "architecture",
)  # fmt: skip
"""Kinds repaired before the roles: a stray file or a mask would make a daemon's own check fail, a foreign architecture apt."""


@dataclass(frozen=True)
class Finding:
    """One difference between a host and its office.

    Attributes:
        kind: What sort of thing it is (`file`, `unit`, `package`, `account`, `packet filter`, …).
        thing: Its name on the host.
        cause: What happened to it.
        consequence: What that means for the office.
        controls: Ids of the controls it breaks.
        repair: Shell command for the host; empty where a role's own operation repairs it.
        diff: Lines, each with ``+`` (on the host) or ``-`` (as it should be) in front where it is one.
        facts: The observation's lines behind it.
    """

    kind: str
    thing: str
    cause: str
    consequence: str
    controls: tuple[str, ...] = ()
    repair: str = field(default="", repr=False)
    diff: tuple[str, ...] = ()
    facts: frozenset[str] = field(default=frozenset(), repr=False)

    def as_data(self, host: str) -> dict[str, object]:
        """For scripts and the report."""
        data = asdict(self)
        del data["facts"]
        return {"host": host, **data, "controls": list(self.controls), "diff": list(self.diff)}


@dataclass(frozen=True)
class Beside:
    """One observation of what stands beside the declared files.

    Attributes:
        usable: Whether the host has a known state to compare with; a fresh host has none.
        unfinished: An apply changed something and did not come to its end.
    """

    usable: bool = False
    unfinished: bool = False
    appeared: frozenset[str] = frozenset()
    vanished: frozenset[str] = frozenset()
    faults: frozenset[str] = frozenset()
    upgraded: bool = False

    @classmethod
    def parse(cls, text: str) -> Beside:
        """From what `observe` prints; nothing printed means that it is not installed yet."""
        if not text.strip():
            return cls()
        data = json.loads(text)
        return cls(
            usable=True,
            unfinished=data["unfinished"] or data["first"],
            appeared=frozenset(data["appeared"]),
            vanished=frozenset(data["vanished"]),
            faults=frozenset(data["faults"]),
            upgraded=data["upgraded"],
        )

    @property
    def to_remember(self) -> bool:
        """Whether the known state on the host is not the present one."""
        return self.unfinished or self.upgraded or bool(self.appeared or self.vanished)


def findings(
    seen: Beside, *, packages: frozenset[str] = frozenset(), units: frozenset[str] = frozenset()
) -> tuple[Finding, ...]:
    """Everything that is wrong, in the order of repair.

    Args:
        packages: Declared by the roles.
        units: Declared by the roles.
    """
    appeared, vanished = _by_object(seen.appeared), _by_object(seen.vanished)
    if seen.unfinished:  # what a broken-off apply itself has done is not told apart from the rest
        changed = {key for key in set(appeared) & set(vanished) if key[0] in NOT_BY_US}
        appeared = {
            key: lines for key, lines in appeared.items() if key in changed or _strange_anyway(key, lines)
        }
        vanished = {key: vanished[key] for key in changed}
    found: list[Finding] = []
    for key in sorted({*appeared, *vanished}, key=_order):
        kind, thing = key
        new, old = appeared.get(key, ()), vanished.get(key, ())
        found.extend(_state(kind, thing, new, old, packages=packages))
    for line in sorted(seen.faults, key=lambda line: _order((line.split("\t")[0], line))):
        found.extend(_fault(line, units))
    return tuple(sorted(_merged(found), key=_place))


def _place(finding: Finding) -> int:
    return min(_order((fact.split("\t")[0], ""))[0] for fact in finding.facts)


ORDER = (
    "locked", "acl", "linked", "mounted", "library", "file", "alias", "conffile", "unit", "running", "failed", "halted", "deleted",
    "hold", "diversion", "override", "program", "architecture",
    "package", "version",
    "group", "account", "shadow", "member", "keeper", "mode", "special", "capability", "mount", "hostname", "sysctl", "setting", "manager", "module",
    "link", "address", "route", "rule", "neighbour", "namespace", "table", "rules", "filter", "listener", "loopback", "stale", "effective",
)  # fmt: skip


def _order(key: tuple[str, str]) -> tuple[int, str]:
    return (ORDER.index(key[0]) if key[0] in ORDER else len(ORDER), key[1])


def _by_object(lines: Iterable[str]) -> dict[tuple[str, str], tuple[str, ...]]:
    found: dict[tuple[str, str], list[str]] = {}
    for line in sorted(lines):
        kind, thing, value = (*line.split("\t", 2), "", "")[:3]
        found.setdefault((kind, thing), []).append(value)
    return {key: tuple(values) for key, values in found.items()}


NOT_BY_US = ("alias", "group", "mode", "shadow", "version")
"""What no apply changes once it is there."""


def _strange_anyway(key: tuple[str, str], values: tuple[str, ...]) -> bool:
    """Whether no apply of ours, and no package, does this."""
    kind, _ = key
    if kind == "account":
        uid = int(values[0].split(":")[0])
        return uid == 0 or uid >= 1000
    return kind in ("table", "address", "route", "rule", "neighbour", "manager")


def _facts(kind: str, thing: str, values: Iterable[str]) -> frozenset[str]:
    return frozenset(f"{kind}\t{thing}\t{value}" for value in values)


def _state(
    kind: str, thing: str, new: tuple[str, ...], old: tuple[str, ...], *, packages: frozenset[str]
) -> Iterator[Finding]:
    facts = _facts(kind, thing, (*new, *old))
    quoted = shlex.quote(thing)
    if kind == "file":
        yield _file(thing, new, old, facts)
    elif kind == "conffile" and new:
        yield Finding(
            kind, thing, "missing" if new[0] == "missing" else "a package's file, edited by hand",
            "the daemon reads it beside the office's files: what the roles declare may not be all that counts",
            ("SYS-08",), _from_package(thing), facts=facts,
        )  # fmt: skip
    elif kind == "unit":
        yield from _unit(thing, new, old, facts)
    elif kind == "running" and old and not new:
        yield Finding(
            kind, thing, "stopped by hand",
            "what it does for the host is not done", ("AVL-01",),
            f"systemctl start {quoted}", facts=facts,
        )  # fmt: skip
    elif kind == "running" and new and not old:
        yield Finding(
            kind, thing, "started by hand; no role declares it",
            "a daemon nobody looks after runs, and starts with what nobody has checked", ("SYS-04",),
            f"systemctl stop {quoted}", facts=facts,
        )  # fmt: skip
    elif kind == "package" and new and thing not in packages:
        yield Finding(
            kind, thing, "installed by hand; no role declares it",
            "its programs and daemons are open to attack and nobody's to patch", ("SYS-04",),
            _remove_package(thing, packages), facts=facts,
        )  # fmt: skip
    elif kind == "package" and old and not new:
        yield Finding(
            kind, thing, "removed by hand, or no longer marked as wanted", "what the platform needs may be missing", ("SYS-04",),
            f"{APT} install {quoted} </dev/null",
            facts=facts,
        )  # fmt: skip
    elif kind == "account":
        yield from _account(thing, new, old, facts)
    elif kind == "member":
        yield from _members(thing, new, old)
    elif kind == "group" and old:
        yield Finding(
            kind, thing, "has another number by hand" if new else "removed by hand", "files of the group belong to nobody, or to another's",
            ("SYS-09",), _numbered(thing, old[0]) if new else f"groupadd --gid {old[0]} {quoted}", _lines(new, old), facts,
        )  # fmt: skip
    elif kind == "shadow" and old:
        yield Finding(
            "account", thing, "its password or its expiry set by hand", "somebody may log in who should not, or cannot who must",
            ("SYS-09",), _shadow(thing), facts=facts,
        )  # fmt: skip
    elif kind == "version" and new:
        yield Finding(
            "package", thing, "an older version put in by hand", "holes that were closed are open again", ("SYS-06",),
            f"{APT} --only-upgrade install {quoted} </dev/null", _lines(new, old), facts,
        )  # fmt: skip
    elif kind == "version":
        yield Finding(
            "package", thing, "removed by hand, though others need it", "what needs it fails at its next start, and apt refuses to work",
            ("SYS-04",), f"{APT} --fix-broken install </dev/null", facts=facts,
        )  # fmt: skip
    elif kind == "keeper" and new:
        yield Finding(
            "group", thing, f"opened by hand to {new[0]}", "whoever that is takes in whom they like", ("SYS-09",),
            f"gpasswd --remove-password {quoted} && gpasswd --administrators '' {quoted}", _lines(new, old), facts,
        )  # fmt: skip
    elif kind == "alias" and new and old:
        yield Finding(
            "file", thing, "points elsewhere by hand", "what is called by its name is something else", ("SYS-08",),
            f"ln -sfnT {shlex.quote(old[0].removeprefix('link to '))} {quoted}", _lines(new, old), facts,
        )  # fmt: skip
    elif kind == "mode" and old:
        mode, owner, group = old[0].split(" ")
        yield Finding(
            kind, thing, "permissions or owner changed by hand" if new else "removed by hand",
            "others may read or replace what only its owner should", ("SYS-09", "SEC-01"),
            f"[ -e {quoted} ] || mkdir {quoted}; chown {owner}:{group} {quoted} && chmod {mode} {quoted}",
            _lines(new, old), facts,
        )  # fmt: skip
    elif kind == "mount" and old:
        yield Finding(
            kind, thing, "mounted otherwise" if new else "not mounted",
            "programs may be put and run where only data belongs", ("VIR-05",),
            f"! systemctl is-enabled --quiet {MOUNTS} 2>/dev/null || systemctl restart {MOUNTS}; "
            f"mount -o remount,bind,{old[0]} {quoted}", _lines(new, old), facts,
        )  # fmt: skip
    elif kind == "mounted" and new:
        yield Finding(
            "mount", thing, "mounted by hand", "what is below it is hidden, and what hides it may be anybody's", ("VIR-05",),
            f"umount --lazy {quoted}", facts=facts,
        )  # fmt: skip
    elif kind == "loopback" and new:
        yield Finding(
            "listener", thing, f"{new[0]} listens to the host's own accounts and daemons since somebody started it",
            "a door that nobody guards, for whoever is inside already", ("SYS-05",), _loopback(thing, new[0]), facts=facts,
        )  # fmt: skip
    elif kind in _SMALL:
        yield from _SMALL[kind](thing, new, old, facts)
    elif kind == "table" and new:
        yield Finding(
            "packet filter", f"table {thing}", "added by hand",
            "it can refuse or redirect what the office's flows allow", ("NET-01",),
            f"nft delete table {thing}", facts=facts,
        )  # fmt: skip
    elif kind == "rules" and new and old:
        yield Finding(
            "packet filter", f"rules of table {thing}", "changed by hand",
            "it can refuse or redirect what the office's flows allow", ("NET-01",), "", facts=facts,
        )  # fmt: skip
    elif kind == "effective":
        unit = thing.partition("@")[0] if thing.count("@") == 1 else thing.rpartition("@")[0]
        yield Finding(
            "effective configuration", unit, "the daemon's own answer is not what it was after the last apply",
            "it works by another configuration than the declared one", ("SYS-08",),
            _restart(unit), _lines(new, old), facts,
        )  # fmt: skip


MOUNTS = "outpost-mounts.service"
APT = "DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends -o DPkg::Lock::Timeout=300"
USUAL = (0o644, 0o755, 0o444, 0o555)
"""Permissions of what belongs to root and is nothing special."""


def _packaging(
    kind: str, thing: str, new: tuple[str, ...], _old: tuple[str, ...], facts: frozenset[str]
) -> Iterator[Finding]:
    """What somebody told dpkg to do otherwise."""
    quoted = shlex.quote(thing)
    if kind == "hold" and new:
        yield Finding(
            "package", thing, "put on hold by hand", "security upgrades pass it by", ("SYS-06",),
            f"apt-mark unhold {quoted} >/dev/null", facts=facts,
        )  # fmt: skip
    elif kind == "diversion" and new:
        yield Finding(
            "package", thing, f"diverted by hand {new[0]}", "upgrades of its package go past it", ("SYS-06", "SYS-08"),
            f"dpkg-divert --quiet --rename --remove {quoted} || dpkg-divert --quiet --no-rename --remove {quoted}", facts=facts,
        )  # fmt: skip
    elif kind == "override" and new:
        yield Finding(
            "package", thing, f"owner and mode overridden by hand ({new[0]})", "upgrades set them again", ("SYS-08",),
            f"dpkg-statoverride --quiet --remove {quoted}", facts=facts,
        )  # fmt: skip
    elif kind == "architecture" and new:
        yield Finding(
            "package", thing, "an architecture that was added by hand", "packages may come that the office has not chosen", ("SYS-04",),
            f"dpkg --remove-architecture {quoted} || true", facts=facts,
        )  # fmt: skip
    elif kind == "program" and new:
        yield Finding(
            "file", thing, "a package's program, removed by hand" if new[0] == "missing" else "a package's program, changed by hand",
            "what runs under its name is not what Debian signed", ("SYS-08",), _from_package(thing), facts=facts,
        )  # fmt: skip


def _privileges(
    kind: str, thing: str, new: tuple[str, ...], old: tuple[str, ...], facts: frozenset[str]
) -> Iterator[Finding]:
    """Rights that a file has by itself."""
    quoted = shlex.quote(thing)
    if kind == "special" and new:
        mode, owner, group = (old or new)[0].split(" ")
        calm = f"chown {owner}:{group} {quoted} && chmod {mode} {quoted}" if old else _usual(thing, mode)
        now, whose, _ = new[0].split(" ")
        yield Finding(
            "file", thing, f"has got {new[0]} as its mode and owner by hand",
            "whoever starts it has its owner's rights" if int(now, 8) & 0o6000
            else "others than root may write it" if int(now, 8) & 0o0022 or whose != "root" else "what needs it may not read it",
            ("SYS-09",), f"! [ -e {quoted} ] || {{ {calm}; }}", _lines(new, old), facts,
        )  # fmt: skip
    elif kind == "special":
        mode, owner, group = old[0].split(" ")
        yield Finding(
            "file", thing, "has lost its mode by hand, or is gone", "what needs it does not work", ("SYS-09",),
            f"! [ -e {quoted} ] || {{ chown {owner}:{group} {quoted} && chmod {mode} {quoted}; }}", _lines(new, old), facts,
        )  # fmt: skip
    elif kind == "capability":
        repair = (
            "os.removexattr(path, name)" if not old else f"os.setxattr(path, name, bytes.fromhex('{old[0]}'))"
        )
        yield Finding(
            "file", thing, "has got capabilities by hand" if new else "has lost its capabilities by hand",
            "whoever starts it has some of root's rights" if new else "what needs it does not work", ("SYS-09",),
            f"! [ -e {quoted} ] || python3 -c \"import os, sys; path, name = sys.argv[1], 'security.capability'; {repair}\" {quoted}",
            _lines(new, old), facts,
        )  # fmt: skip


def _usual(path: str, mode: str) -> str:
    """What makes it nothing special again; a mode that tells nothing of the former one is the package's, or a plain file's."""
    quoted = shlex.quote(path)
    calm = int(mode, 8) & ~0o6022
    roots = path.startswith(("/etc/", "/usr/", "/root/"))
    if calm in USUAL or not roots:
        return (f"chown root:root {quoted} && " if roots else "") + f"chmod {calm:o} {quoted}"
    plain = f"chown root:root {quoted}; if [ -d {quoted} ] || head -c 2 {quoted} | grep -q '#!'; then chmod 755 {quoted}; else chmod 644 {quoted}; fi"
    if not path.startswith("/usr/"):
        return plain
    return f"if dpkg-query --search {quoted} >/dev/null 2>&1 && ! [ -d {quoted} ]; then {_from_package(path)}; else {plain}; fi"


def _in_force(
    kind: str, thing: str, new: tuple[str, ...], old: tuple[str, ...], facts: frozenset[str]
) -> Iterator[Finding]:
    """What the kernel and systemd do otherwise than after the last apply."""
    if kind == "setting" and new and old:
        yield Finding(
            "kernel setting", thing, "changed in the running kernel", "the host behaves otherwise until the next boot", ("SYS-02",),
            f"sysctl --quiet --write {shlex.quote(f'{thing}={old[0]}')}", _lines(new, old), facts,
        )  # fmt: skip
    elif kind == "manager":
        word = shlex.quote(f"{thing}={old[0]}") if old else shlex.quote(thing)
        yield Finding(
            "environment of daemons", thing, "set by hand" if new else "taken out by hand",
            "every daemon that starts from now on gets it", ("SYS-08",),
            f"systemctl {'set' if old else 'unset'}-environment {word}", _lines(new, old), facts,
        )  # fmt: skip


def _network(
    kind: str, thing: str, new: tuple[str, ...], old: tuple[str, ...], facts: frozenset[str]
) -> Iterator[Finding]:
    """Interfaces, addresses and routes that came or went by hand."""
    repair = _network_repair(kind, thing, new, old)
    if repair is None:
        return
    cause = "changed by hand" if new and old else "added by hand" if new else "taken away by hand"
    consequence = (
        "traffic goes where no flow was meant to lead"
        if new and not old
        else "what the office sends does not arrive"
    )
    yield Finding(f"network {kind}", thing, cause, consequence, ("NET-02",), repair, _lines(new, old), facts)


def _network_repair(kind: str, thing: str, new: tuple[str, ...], old: tuple[str, ...]) -> str | None:
    """The ip(8) command; None where there is nothing to repair (interfaces that have other names since a boot)."""
    family, _, rest = thing.partition(" ")
    if kind == "namespace":
        name = shlex.quote(thing)
        return f"ip netns pids {name} | xargs --no-run-if-empty kill; ip netns delete {name}" if new else None
    if kind == "link":
        if new and not old:
            name = shlex.quote(thing)  # the other end of a pair goes with the first
            return f"! ip link show dev {name} >/dev/null 2>&1 || ip link delete dev {name} || ip link set dev {name} down"
        return f"ip link set dev {shlex.quote(thing)} {' '.join(old[0].split()[:5])}" if new else ""
    if kind in ("address", "route") and new and old:
        return None
    if kind == "address":
        verb, device = ("delete", new[0]) if new else ("add", old[0])
        return f"ip address {verb} {shlex.quote(thing)} dev {shlex.quote(device)}"
    if kind == "route":
        verb, device = ("delete", new[0]) if new else ("add", old[0])
        return f"ip -{family} route {verb} {rest}" + (f" dev {shlex.quote(device)}" if device else "")
    if kind == "rule":
        priority, _, selector = rest.partition(" ")
        return f"ip -{family} rule {'delete' if new else 'add'} {selector} priority {priority}"
    if new:
        return f"ip neighbour delete {shlex.quote(thing)} dev {shlex.quote(new[0].rpartition(' ')[2])}"
    address, _, device = old[0].partition(" ")
    return f"ip neighbour replace {shlex.quote(thing)} lladdr {shlex.quote(address)} dev {shlex.quote(device)} nud permanent"


_Small = Callable[[str, tuple[str, ...], tuple[str, ...], frozenset[str]], Iterator[Finding]]
_SMALL: dict[str, _Small] = {
    kind: partial(family, kind)
    for family, kinds in (
        (_packaging, ("hold", "diversion", "override", "program", "architecture")),
        (_privileges, ("special", "capability")),
        (_in_force, ("setting", "manager")),
        (_network, ("link", "address", "route", "rule", "neighbour", "namespace")),
    )
    for kind in kinds
}


def _file(thing: str, new: tuple[str, ...], old: tuple[str, ...], facts: frozenset[str]) -> Finding:
    quoted = shlex.quote(thing)
    copy = shlex.quote(f"{COPIES}{thing}")
    reload = reload_for(thing)
    free = f"{OBSERVER} release {quoted}; "
    if old and old[0].startswith("link to "):
        return Finding(
            "file", thing, "points elsewhere by hand" if new else "removed by hand",
            "what is called by its name is something else", ("SYS-08",), f"{free}{_linked(thing, old[0].removeprefix('link to '))}{reload}",
            _lines(new, old), facts,
        )  # fmt: skip
    if old:
        return Finding(
            "file", thing, "edited by hand" if new else "removed by hand",
            "it is the platform's, and the office's daemons or administrators depend on it", ("SYS-08",),
            f"{free}[ ! -e {copy} ] || {{ mkdir -p \"$(dirname {quoted})\"; cp --archive {copy} {quoted}.outpost-new && mv -fT {quoted}.outpost-new {quoted}; }}{reload}",
            facts=facts,
        )  # fmt: skip
    return Finding(
        "file", thing, "put there by hand; neither a role nor a package has it",
        _meaning(thing), ("SYS-08",),
        f"{free}{_stop_first(thing)}mkdir -p -m 0700 {ASIDE} && mkdir -p \"{ASIDE}$(dirname {quoted})\" && mv -f --backup=numbered {quoted} {ASIDE}{quoted}{reload}",
        facts=facts,
    )  # fmt: skip


def _linked(path: str, target: str) -> str:
    """A symbolic link as it was; of an alternative, with its choice."""
    name = path.removeprefix("/etc/alternatives/")
    chosen = (
        f"update-alternatives --auto {shlex.quote(name)} >/dev/null 2>&1 || true; " if name != path else ""
    )
    return f"{chosen}ln -sfnT {shlex.quote(target)} {shlex.quote(path)}"


MEANINGS = (
    ("/etc/cron", "it runs as root on a schedule of its own"),
    ("/var/spool/cron", "it runs on a schedule of its own"),
    ("/etc/sudoers.d", "it makes somebody an administrator"),
    ("/root/.ssh", "it may open the host to another key"),
    ("/home", "it may open the host to another key"),
    ("/etc/ssh", "it changes how the host is administered"),
    ("/etc/sysctl.d", "it changes the kernel at the next boot"),
    ("/etc/modprobe.d", "it changes which kernel modules load"),
    ("/etc/modules-load.d", "it loads a kernel module at the next boot"),
    ("/etc/systemd", "it changes a unit, or adds one"),
    ("/run/systemd", "it changes a unit until the next boot"),
    ("/etc/apt", "it changes where packages come from or how they are trusted"),
    ("/etc/ld.so", "it puts code into every program"),
    ("/etc/ssl/certs", "it vouches for whom it likes"),
    ("/usr/lib/python3", "it is in every Python program"),
    ("/var/lib/clamav", "the scanner lets pass what it names"),
    ("/var/lib/roundcube", "webmail runs it"),
    ("/var/www", "it is shown to whoever asks"),
    ("/usr/local", "it stands before the system's own programs"),
    ("/etc/pam.d", "it changes who may log in"),
    ("/etc/profile.d", "it runs in every administrator's shell"),
)
RELOADS = (
    (r"/etc/nginx/", "nginx.service"),
    (r"/etc/php/", "php8.4-fpm.service"),
    (r"/etc/postfix/", "postfix.service"),
    (r"/etc/rspamd/", "rspamd.service"),
    (r"/etc/redis/", "redis-server.service"),
    (r"/etc/dovecot/", "dovecot.service"),
    (r"/etc/stunnel/accounts", "stunnel@accounts.service"),
    (r"/etc/stunnel/scanner", "stunnel@scanner.service"),
    (r"/etc/stunnel/", "stunnel@lmtp.service"),
    (r"/etc/knot/", "knot.service"),
    (r"/etc/unbound/", "unbound.service"),
    (r"/etc/chrony/", "chrony.service"),
    (r"/etc/ssh/", "ssh.service"),
    (r"/etc/systemd/journald", "systemd-journald.service"),
)


def _meaning(path: str) -> str:
    return next(
        (words for top, words in MEANINGS if path.startswith(top)),
        "a daemon may read it beside the office's files",
    )


def _stop_first(path: str) -> str:
    """A unit of its own is stopped while systemd still knows it."""
    match = re.fullmatch(r"/(?:etc|run)/systemd/system/([^/]+\.(?:service|socket|timer|path))", path)
    return f"systemctl disable --now --quiet {shlex.quote(match[1])} 2>/dev/null || true; " if match else ""


def reload_for(path: str) -> str:
    """Shell, behind another command, that makes the daemon of a file that came or went read its files again."""
    if match := re.match(
        r"/(?:etc|run)/systemd/system(?:\.control)?/([^/]+\.(?:service|socket|timer))(?:\.d/)?", path
    ):
        unit = shlex.quote(match[1])
        return f"; systemctl daemon-reload; systemctl try-restart {unit} 2>/dev/null || true"
    if path.startswith("/etc/sysctl.d/"):
        return "; /usr/lib/systemd/systemd-sysctl"
    if path.startswith("/etc/systemd/") or path.startswith("/run/systemd/"):
        return "; systemctl daemon-reload" + (
            "; systemctl try-restart systemd-journald.service" if "journald" in path else ""
        )
    unit = next((unit for pattern, unit in RELOADS if path.startswith(pattern)), "")
    return f"; systemctl try-reload-or-restart {unit} || true" if unit else ""


def unit_reading(path: str) -> str:
    """The unit whose daemon reads a file, or whose drop-in it is; empty where none is known."""
    if match := re.match(r"/(?:etc|run)/systemd/system/([^/]+\.(?:service|socket|timer))(?:\.d/|$)", path):
        return match[1]
    return next((unit for pattern, unit in RELOADS if path.startswith(pattern)), "")


def _unit(thing: str, new: tuple[str, ...], old: tuple[str, ...], facts: frozenset[str]) -> Iterator[Finding]:
    quoted = shlex.quote(thing)
    links = [value.removeprefix("link to ") for value in old if value.startswith("link to ")]
    linked = (
        f"ln -sfnT {shlex.quote(links[0])} /etc/systemd/system/{quoted}; systemctl daemon-reload"
        if links
        else ""
    )
    if "masked" in new:
        yield Finding(
            "unit", thing, "masked by hand", "it cannot start, not even at the next boot", ("AVL-01",),
            f"systemctl unmask --quiet {quoted}; systemctl unmask --quiet --runtime {quoted}; "
            f"{linked or ':'}; systemctl is-enabled --quiet {quoted} && systemctl start {quoted} || true", facts=facts,
        )  # fmt: skip
    elif links or any(value.startswith("link to ") for value in new):
        away = f"systemctl disable --now --quiet {quoted} 2>/dev/null || true; rm -f /etc/systemd/system/{quoted} /run/systemd/system/{quoted}"
        yield Finding(
            "unit", thing, "its name leads elsewhere by hand" if new else "its other name taken away by hand",
            "what starts by that name is something else, or nothing", ("SYS-08",),
            "; ".join(filter(None, (away if new and not links else "", linked or "systemctl daemon-reload"))), _lines(new, old), facts,
        )  # fmt: skip
    elif new and not old:
        yield Finding(
            "unit", thing, "enabled by hand; no role declares it", "it starts with the host, and nobody looks after it",
            ("SYS-04",),
            f"systemctl disable --now --quiet {quoted} 2>/dev/null || {{ systemctl stop {quoted} 2>/dev/null || true; "
            f"rm -f /etc/systemd/system/*.wants/{quoted} /run/systemd/system/*.wants/{quoted}; }}", facts=facts,
        )  # fmt: skip
    elif "masked" in old:
        yield Finding(
            "unit", thing, "no longer masked", "it can be started again", ("SYS-04",),
            f"systemctl mask --now --quiet {quoted}", facts=facts,
        )  # fmt: skip
    elif old:
        yield Finding(
            "unit", thing, "disabled by hand", "it does not come up with the host", ("AVL-01",),
            f"systemctl reenable --quiet {quoted}", facts=facts,
        )  # fmt: skip


def _account(
    thing: str, new: tuple[str, ...], old: tuple[str, ...], facts: frozenset[str]
) -> Iterator[Finding]:
    quoted = shlex.quote(thing)
    if new and not old:
        uid, _, _, shell, state = new[0].split(":")
        shut = state == "locked" and shell.endswith(("nologin", "false"))
        if shut and uid != "0":
            return  # a locked account is no way in; that is what the repair leaves, too
        drop = f"sed -i '/^{re.escape(thing)}:/d' /etc/passwd /etc/shadow"
        lock = f"usermod --lock --expiredate 1 --shell /usr/sbin/nologin {quoted}; loginctl terminate-user {quoted} 2>/dev/null || true"
        yield Finding(
            "account", thing, f"added by hand (uid {uid}, {shell}, {state})",
            "somebody can log in whom the office does not know" if uid != "0" else "a second root", ("SYS-09", "SUDO-01"),
            drop if uid == "0" else lock, facts=facts,
        )  # fmt: skip
    elif old:
        uid, gid, home, shell, state = old[0].split(":")
        options = f"--uid {uid} --gid {gid} --home-dir {shlex.quote(home)} --shell {shlex.quote(shell)}"
        repair = (
            f"usermod --non-unique {options.replace('--home-dir', '--home')} {quoted}"
            if new
            else f"useradd --no-create-home --non-unique --system {options} {quoted}"
        )
        if uid == "0" and new:
            repair = rf"sed -i -E 's|^({thing}:[^:]*):[^:]*:[^:]*:([^:]*):.*|\1:0:{gid}:\2:{home}:{shell}|' /etc/passwd"
        if new and state == "locked" and new[0].endswith(":password"):
            repair = (
                f"passwd --quiet --lock {quoted}"
                if new[0].rpartition(":")[0] == old[0].rpartition(":")[0]
                else f"{repair}; passwd --quiet --lock {quoted}"
            )
        yield Finding(
            "account", thing, "changed by hand" if new else "removed by hand",
            "somebody may log in who should not" if new else "its daemon cannot start, and its files belong to nobody",
            ("SYS-09",), repair, _lines(new, old), facts,
        )  # fmt: skip


def _numbered(group: str, gid: str) -> str:
    """Not by groupmod: where the number had been root's, root would get the new one, too."""
    return rf"sed -i -E 's|^({re.escape(group)}:[^:]*):[0-9]+:|\1:{gid}:|' /etc/group"


def _shadow(name: str) -> str:
    """Its line as it was at the end of the last apply."""
    put = (
        f"awk -F: -v name={shlex.quote(name)} 'NR == FNR {{ if ($1 == name) kept = $0; next }} "
        "$1 == name { seen = 1; if (kept) print kept; else print; next } { print } END { if (kept && !seen) print kept }'"
    )
    return (
        f"! getent passwd {shlex.quote(name)} >/dev/null || {{ umask 077; {put} {COPIES}/etc/shadow /etc/shadow > /etc/shadow.outpost-new && "
        "chown --reference=/etc/shadow /etc/shadow.outpost-new && chmod --reference=/etc/shadow /etc/shadow.outpost-new && "
        "mv -f /etc/shadow.outpost-new /etc/shadow; }"
    )


def _members(thing: str, new: tuple[str, ...], old: tuple[str, ...]) -> Iterator[Finding]:
    for names, cause, consequence, option in (
        (new, "added by hand", "it may read and do what is the group's", "--delete"),
        (old, "taken out by hand", "its daemon cannot read what it needs", "--add"),
    ):
        for name in names:
            yield Finding(
                "group", f"{thing}: {name}", cause, consequence, ("SYS-09",),
                f"! getent group {shlex.quote(thing)} >/dev/null || gpasswd {option} {shlex.quote(name)} {shlex.quote(thing)} >/dev/null 2>&1 || true",
                facts=_facts("member", thing, (name,)),
            )  # fmt: skip


def _fault(line: str, units: frozenset[str]) -> Iterator[Finding]:
    kind, thing, value = line.split("\t", 2)
    facts = frozenset((line,))
    quoted = shlex.quote(thing)
    if kind == "locked":
        yield Finding(
            "file", thing, f"made {value} by hand", "no apply can replace what is there", ("SYS-08",),
            f"{OBSERVER} release {quoted}", facts=facts,
        )  # fmt: skip
    elif kind == "acl":
        yield Finding(
            "file", thing, "an access list put on it by hand", "others may read or write it than its mode says", ("SYS-09",),
            f"{OBSERVER} release {quoted}", facts=facts,
        )  # fmt: skip
    elif kind == "linked":
        yield Finding(
            "file", thing, "has a second name by hand (a hard link)", "whoever may write there writes it", ("SYS-09",),
            f"{OBSERVER} release {quoted}", facts=facts,
        )  # fmt: skip
    elif kind == "library":
        yield Finding(
            "file", thing, "given to the dynamic linker by hand", "it puts code into programs", ("SYS-08",), "ldconfig", facts=facts,
        )  # fmt: skip
    elif kind == "halted":
        yield Finding(
            "unit", thing, f"halted by hand ({value})", "it runs, and does nothing", ("AVL-01",),
            f"kill -CONT {value.rpartition(' ')[2]} 2>/dev/null || true", facts=facts,
        )  # fmt: skip
    elif kind == "deleted":
        yield Finding(
            "file", thing, f"deleted by hand, and still written by {value or 'a process'}", "what is logged there nobody can read", ("LOG-01",),
            f"systemctl try-restart {shlex.quote(value)}" if value.endswith(".service") else "", facts=facts,
        )  # fmt: skip
    elif kind == "module":
        yield Finding(
            "kernel module", thing, "loaded by hand, though it is barred", "it is more of the kernel to break into", ("SYS-02",),
            f"modprobe --remove {quoted} || rmmod {quoted}", facts=facts,
        )  # fmt: skip
    elif kind == "failed":
        yield Finding(
            "unit", thing, "failed", "what it does for the host is not done", ("AVL-01",),
            f"systemctl reset-failed {quoted}; systemctl is-enabled --quiet {quoted} && systemctl restart {quoted} || true", facts=facts,
        )  # fmt: skip
    elif kind == "sysctl":
        yield Finding(
            "kernel setting", thing, "changed in the running kernel, not in its file",
            "the host's network or memory is protected less than declared until the next boot", ("SYS-02",),
            "/usr/lib/systemd/systemd-sysctl", (value,), facts,
        )  # fmt: skip
    elif kind == "filter":
        yield Finding(
            "packet filter", "table inet outpost", "the live rules are not those of /etc/nftables.conf",
            "what no flow allows may pass, or what one allows may not", ("NET-01",),
            "systemctl reload-or-restart nftables.service", (f"{'-' if thing == 'missing' else '+'}{value}",), facts,
        )  # fmt: skip
    elif kind == "listener":
        program, pid, unit = (*value.split(" "), "", "", "")[:3]
        yield Finding(
            "listener", thing, f"{program} ({unit or f'process {pid}'}) listens; no flow leads there",
            "a door that nobody guards: only the packet filter stands before it", ("SYS-05",),
            _close(pid, unit, units), facts=facts,
        )  # fmt: skip
    elif kind == "stale":
        restart = value.startswith(("/etc/systemd/", "its unit"))
        yield Finding(
            "daemon", thing, f"{value} was written after the daemon loaded it",
            "what runs may be an edit that is no longer in the file", ("SYS-08",),
            _restart(thing) if restart else f"systemctl reload-or-restart {quoted}", facts=facts,
        )  # fmt: skip
    elif kind == "hostname":
        yield Finding(
            "host name", thing, value, "logs, mail and certificates name another host", ("SPO-05",),
            "hostname --file /etc/hostname", facts=facts,
        )  # fmt: skip


def _loopback(thing: str, unit: str) -> str:
    """A declared daemon has what its files say after a restart; another unit, or process, goes."""
    pids = f"ss --no-header --listening --numeric --tcp --processes src {shlex.quote(thing)} | grep -o 'pid=[0-9]*' | cut -d= -f2"
    if unit.endswith(".service") and not unit.startswith(("user@", "init")):
        unit = shlex.quote(unit)
        return f"if systemctl is-enabled --quiet {unit} 2>/dev/null; then systemctl restart {unit}; else systemctl stop {unit}; fi"
    return f"{pids} | xargs --no-run-if-empty kill"


def _close(pid: str, unit: str, declared: frozenset[str]) -> str:
    if unit in declared:
        return f"systemctl restart {shlex.quote(unit)}"
    if unit.endswith(".service") and not unit.startswith(("user@", "init")):
        return f"systemctl disable --now --quiet {shlex.quote(unit)} 2>/dev/null || systemctl stop {shlex.quote(unit)}"
    return f"kill {pid} 2>/dev/null || true"


def _restart(unit: str) -> str:
    if unit == "ca-certificates":
        return "update-ca-certificates --fresh >/dev/null 2>&1"
    if unit == "knot-zones":
        return "for zone in /etc/knot/zones/*.zone; do knotc --blocking zone-reload $(basename $zone .zone) >/dev/null; done"
    if not unit.endswith(".service"):
        return ""
    return f"systemctl daemon-reload; systemctl try-restart {shlex.quote(unit)}"


def _remove_package(name: str, declared: frozenset[str]) -> str:
    """Removal, unless it would take something with it that a role needs."""
    needed = "|".join(re.escape(package) for package in sorted(declared)) or "-"
    quoted = shlex.quote(name)
    apt = "DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=300"
    return (
        f"if apt-get --simulate remove {quoted} | grep -qE '^Remv ({needed}) '; then "
        f"echo {shlex.quote(f'{name} stays: a declared package needs it')} >&2; apt-mark auto {quoted} >/dev/null; "
        f"else {apt} --auto-remove remove {quoted} </dev/null; systemctl daemon-reload; fi"
    )


def _from_package(path: str) -> str:
    """Fetches a package's own version of one of its files."""
    quoted = shlex.quote(path)
    return (
        f'package=$(dpkg-query --search {quoted} | cut -d: -f1); aside=$(mktemp -d); cd "$aside"; chmod 0755 .; '
        'apt-get -qq -o APT::Sandbox::User=root download "$package=$(dpkg-query --show --showformat \'${Version}\' "$package")"; '
        f'mkdir -p -m 0700 {ASIDE}; mkdir -p "{ASIDE}$(dirname {quoted})"; [ ! -e {quoted} ] || cp --archive --backup=numbered {quoted} {ASIDE}{quoted}; '
        f'dpkg-deb --fsys-tarfile ./*.deb | tar --extract --directory=/ .{quoted}; cd /; rm -rf "$aside"{reload_for(path)}'
    )


def _lines(new: tuple[str, ...], old: tuple[str, ...]) -> tuple[str, ...]:
    return (*(f"-{line}" for line in old), *(f"+{line}" for line in new))


def _merged(found: Iterable[Finding]) -> Iterator[Finding]:
    """Findings of one thing with one cause become one (rules of a filter)."""
    grouped: dict[tuple[str, str, str], list[Finding]] = {}
    for finding in found:
        grouped.setdefault((finding.kind, finding.thing, finding.cause), []).append(finding)
    for same in grouped.values():
        first = same[0]
        if len(same) == 1:
            yield first
            continue
        yield Finding(
            first.kind, first.thing, first.cause, first.consequence, first.controls, first.repair,
            tuple(line for finding in same for line in finding.diff),
            frozenset(fact for finding in same for fact in finding.facts),
        )  # fmt: skip
