"""What may become known on a host: what Debian, its packages and the declaration explain, and what a person has accepted.

Everything else is reported until it is repaired, even after interrupted applies (docs/adr/0021).
"""

import collections.abc
import contextlib
import functools
import gzip
import os
import re

from outpost.onhost.observe import debian, made
from outpost.onhost.observe.facts import SEVERAL, account_of, harmless, parts, words
from outpost.onhost.observe.files import AUTHORITIES, UNITS
from outpost.onhost.observe.packages import REMOVED, astray, files_of, has_log, is_shipped, owned_by_packages
from outpost.onhost.observe.places import CHROOT, DEVICE, GUARDED, MERGED, PARTS
from outpost.onhost.observe.reading import content, digested, fingerprint, lines_in

HELPER = "/var/lib/systemd/deb-systemd-helper-enabled"
"""Where Debian records what a package itself has enabled."""
INSTALLER = "/var/log/installer/initial-status.gz"
CLOUD_INIT_OFF = "/etc/cloud/cloud-init.disabled"
NOT_MISSED = (
    "observer", "version", "local", "compiled", "conffile", "setting", "keeper", "hold", "diversion", "override", "architecture", "program", "table",
    "loopback", "mounted", "policy", "queue", "trigger",
)  # fmt: skip
"""Kinds for which a missing thing is no finding."""


SIEVE = re.compile(r"^/etc/dovecot/sieve/\S+\.svbin\Z")
NOGROUP = "65534"
SHAPER, SHAPED = "outpost-shaping.service", "htb root"
"""What sets an interface's queueing discipline besides a person (AMP-03), and how that fact begins; a digest follows."""


class Expected:
    """Judges facts.

    Args:
        contract: What the office declares.
        now: All facts of a scan.
        before: Those that are known; empty before the first apply.
    """

    def __init__(
        self, contract: dict[str, collections.abc.Collection[str]], now: set[str], before: set[str]
    ) -> None:
        self._contract = contract
        self._now = now
        self._before = before
        self.witnesses = before
        self._known = {parts(fact)[:2] for fact in before}
        self._kinds = {kind for kind, _ in self._known}
        self.arrived = {fact for fact in now - before if fact.startswith("version\t")}
        """Packages that are new, or have another version: what they bring is explained."""
        self._administrator = next(iter(contract.get("administrator", ())), "root")

    def _has(self, key: str, what: str) -> bool:
        return what in self._contract.get(key, ())

    def is_roles(self, fact: str) -> bool:
        """Whether a role's own operation handles it, so that nothing has to be remembered."""
        kind, thing, value = parts(fact)
        return (kind == "package" and self._has("packages", thing)) or (
            kind == "unit" and value == "masked" and self._has("masks", thing)
        )

    def contradicts(self, fact: str) -> bool:
        """Whether it contradicts the declaration, so that no person has to decide: a declared unit is masked."""
        kind, thing, value = parts(fact)
        declared = self._has("units", thing) and not self._has("masks", thing)
        return (kind, value) == ("unit", "masked") and declared

    def accepted(self, fact: str) -> bool:
        """Whether a person has accepted it by name."""
        return self._has("accepted", words(fact))

    # SYS-08: without it one line that root writes into the known state, or into /etc/passwd, ends each scan, and nothing is reported any more.
    def explains(self, fact: str) -> bool:
        """Whether a new thing is as it should be; what cannot be read is not."""
        with contextlib.suppress(ValueError, IndexError):
            return self._explains(fact)
        return False

    def _explains(self, fact: str) -> bool:
        kind, thing, value = parts(fact)
        new = kind in SEVERAL or (kind, thing) not in self._known
        if kind in ("observer", "version", "local") or (new and self.accepted(fact)):
            return True
        if kind == "mode" and self._has("directories", thing):
            return True
        if kind == "file" and thing.startswith(f"{CHROOT}/"):
            return value == fingerprint(os.path.realpath(thing.removeprefix(CHROOT))) != ""
        if kind == "file" and thing == made.SELECTED:
            return made.all_are_selected()
        if kind == "file" and SIEVE.search(thing):
            return fact in self.witnesses or value == made.compiled(thing)
        if (kind, value) == ("conffile", "missing") and self._has("absent", thing):
            return True
        if kind == "account":
            return self._account(thing, value, new=new)
        if kind == "control":
            return self._control(thing, value)
        if kind == "compiled":
            return kind not in self._kinds or made.is_its_source(thing)
        rule: collections.abc.Callable[[str, str], bool] | None = {
            "alias": self.leads_to_a_package, "setting": lambda *_: True, "mount": lambda *_: True, "link": self._first, "address": self._first, "route": self._first,
            "shadow": lambda *_: True, "group": self._group, "running": self._running, "package": self._package,
            "diversion": self._diversion,
            "override": lambda thing, value: debian.OVERRIDES.get(thing) == value,
            "rule": lambda thing, _: thing.partition(" ")[2] in debian.RULES, "mounted": self._mounted,
            "manager": lambda thing, _: not self._before and thing in debian.ENVIRONMENT, "mode": self._mode, "special": self._special,
            "capability": lambda thing, value: debian.CAPABILITIES.get(thing) == value, "file": self._file,
            "effective": self._first, "loopback": lambda _, unit: not self._before and self._of_package(unit),
            "queue": self._queue, "unit": self._unit, "member": lambda thing, value: value in (thing, self._administrator),
        }.get(kind)  # fmt: skip
        return new and rule is not None and rule(thing, value)

    def dismisses(self, fact: str) -> bool:
        """Whether a removed thing may be forgotten."""
        kind, thing, value = parts(fact)
        if kind == "queue" and value.startswith(f"{SHAPED} ") and self._has("units", SHAPER):
            return False
        if kind in NOT_MISSED or (thing in debian.OF_CLOUD_INIT and os.path.exists(CLOUD_INIT_OFF)):
            return True
        if kind in ("running", "unit"):
            template, instance, _ = thing.partition("@")
            units = self._contract.get("units", [])
            if instance and any(unit.startswith(f"{template}@") for unit in units):
                return thing not in units  # its template stays: other instances of it are declared
            return not any(os.path.lexists(f"{place}/{file}") for place in UNITS for file in _files_of(thing))
        if kind == "route" and thing.startswith("4 ") and ":" in thing:
            return True  # an earlier observer listed routes of IPv6 twice
        if kind in ("special", "capability", "alias"):
            return not os.path.lexists(thing)
        if kind == "shadow":  # of an account that was never known: there is nothing to restore
            gone = not any(fact.startswith(f"account\t{thing}\t") for fact in self._now)
            return gone and ("account", thing) not in self._known
        if kind == "file":
            target = value.removeprefix("link to ")
            if SIEVE.search(thing) and not os.path.lexists(f"{thing.removesuffix('svbin')}sieve"):
                return True  # it was removed with its script
            return self._has("absent", thing) or (target != value and not os.path.exists(target))
        if kind == "control":
            return not any(fact.startswith(f"version\t{thing.partition(':')[0]}\t") for fact in self._now)
        if kind == "member":
            there = (f"group\t{thing}\t", f"account\t{value}\t")
            return not any(fact.startswith(there) for fact in self._now)
        return kind == "mode" and self._has("directories", thing)

    def leads_to_a_package(self, path: str, value: str) -> bool:
        """Whether a package's link, or a directory's second name, is where a package could have put it."""
        if path in MERGED:
            return value == f"link to usr{path}"
        if path.startswith(PARTS[0].rstrip("*")):
            if ("alias", path) not in self._known:
                return True  # a package, or the role, has just made it
            if value == "no link":
                return False
        return not astray({path: os.path.realpath(path)})

    # SYS-08: without it root claims with one word that a package diverted a file, and upgrades no longer change it.
    def _diversion(self, _path: str, value: str) -> bool:
        package = value.rpartition(", for ")[2]
        came = self.arrived if self._before else self._now
        return any(fact.startswith(f"version\t{package}\t") for fact in came)

    def _queue(self, device: str, value: str) -> bool:
        """The office's own shaping; once a digest of it is known, another one is not explained by itself."""
        known = any(fact.startswith(f"queue\t{device}\t{SHAPED} ") for fact in self._before)
        return self._has("units", SHAPER) and value.startswith(f"{SHAPED} ") and not known

    def _first(self, _thing: str, _value: str) -> bool:
        """Part of the platform: accepted at the first scan of the host; later a person must accept it."""
        return not self._before

    def _mounted(self, place: str, _value: str) -> bool:
        ours = () if self._contract.get("kernel") else debian.MOUNTED_BY_DOCKER
        usual = place in (*debian.MOUNTED, *ours) or place.startswith(("/dev/", "/run/", "/sys/"))
        return not self._before and usual

    # SYS-09: without it an account gets another one's rights by the same number, and the next apply takes it as known.
    def _group(self, name: str, gid: str) -> bool:
        return f"{name}:*:{gid}:" in debian.groups() or (gid != "0" and not self._others("group", name, gid))

    def _others(self, kind: str, name: str, number: str) -> set[str]:
        """Other accounts with a number: among the known ones, or among all before anything is known."""
        witnesses = (parts(fact) for fact in self.witnesses or self._now)
        named = ((thing, value.partition(":")[0]) for sort, thing, value in witnesses if sort == kind)
        return {thing for thing, own in named if own == number and thing != name}

    def _account(self, name: str, value: str, *, new: bool) -> bool:
        uid, gid, home, shell, state = account_of(value)
        if f"{name}:{uid}:{gid}:{home}:{shell}" in debian.accounts():
            return new and (name == "root" or state == "locked")
        if name == self._administrator:
            return new and int(uid) >= 1000
        system = 0 < int(uid) < 1000 and state == "locked" and shell.endswith(("nologin", "false"))
        own_group = gid == NOGROUP or f"group\t{name}\t{gid}" in self._now
        was = any(fact.startswith(f"account\t{name}\t{uid}:") for fact in self._before)
        expected = new or (was and self._has("accounts", name))
        return system and own_group and expected and not self._others("account", name, uid)

    def _unit(self, name: str, value: str) -> bool:
        if value.startswith("enabled for "):
            top = f"{HELPER}/{value.removeprefix('enabled for ')}"
            enabled = any(os.path.lexists(f"{found}/{name}") for found in (f"{top}.wants", f"{top}.requires"))
            noted = enabled and any(self._came_with(f"{UNITS[0]}/{file}") for file in _files_of(name))
            first = name in debian.NETWORK and not self._before
            return self._has("units", name) or noted or first or name in debian.ENABLED
        target = value.removeprefix("link to ")
        # SYS-08: without it a link in a declared unit's name leads to somebody's program, or to another package's unit.
        if not target.startswith(("/usr/lib/systemd/system/", "/lib/systemd/system/")):
            return False
        led = os.path.basename(target)
        noted = os.path.lexists(f"{HELPER}/{name}") and self._came_with(f"{UNITS[0]}/{led}")
        return noted or debian.ALIASES.get(name) == led or (self._has("units", name) and led == name)

    def _of_package(self, name: str) -> bool:
        """Whether it is a unit of a package, or a declared one."""
        paths = (f"{UNITS[0]}/{file}" for file in _files_of(name))
        there = filter(os.path.exists, paths)
        return self._has("units", name) or any(path in self._packages_own for path in there)

    def _running(self, name: str, _value: str) -> bool:
        """Whether it is enabled as it should be, or because others need it."""
        if self._has("units", name) or self._has("units", f"{name.rpartition('.')[0]}.timer"):
            return True
        enabled = [fact for fact in self._now if fact.startswith(f"unit\t{name}\tenabled for ")]
        if any(fact in self._before or self.explains(fact) for fact in enabled):
            return True
        for file in _files_of(name):
            with contextlib.suppress(OSError):
                return self._of_package(name) and "[Install]" not in content(f"{UNITS[0]}/{file}")
        return False

    def _package(self, name: str, _value: str) -> bool:
        """Part of the system itself."""
        if name in debian.ESSENTIAL:
            return True
        if self._before:
            return False
        if name.startswith(debian.PLATFORM) or name in debian.STANDARD:
            return True
        with contextlib.suppress(OSError), gzip.open(INSTALLER, "rt", errors="replace") as status:
            if re.search(rf"^Package: {re.escape(name)}$", status.read(), re.MULTILINE):
                return True
        status_of_all = content("/var/lib/dpkg/status")
        block = re.search(rf"^Package: {re.escape(name)}\n(?:.+\n)*", status_of_all, re.MULTILINE)
        usual = r"^(Priority: (required|important|standard)|Essential: yes|Section: libs)$"
        return block is not None and bool(re.search(usual, block[0], re.MULTILINE))

    def _control(self, package: str, value: str) -> bool:
        """Whether it came with this version of the package, or no package was known yet.

        Each version has a change log of its own, and with it another checksum.
        """
        if value == REMOVED:  # only a package that was here leaves something
            return not self._before or any(fact.startswith(f"version\t{package}\t") for fact in self._before)
        version, _, digest = value.partition(" ")
        before = {parts(fact)[2] for fact in self._before if fact.startswith(f"control\t{package}\t")}
        if any(old.endswith(f" {digest}") for old in before - {value}) and has_log(package):
            return False
        came = f"version\t{package.partition(':')[0]}\t{version}"
        return (came in self._now and came not in self._before) or "control" not in self._kinds

    def _mode(self, path: str, value: str) -> bool:
        if path in debian.MODES:
            return value == debian.MODES[path]
        return path not in GUARDED or harmless(value)

    def _special(self, path: str, value: str) -> bool:
        """Packages bring files that only some accounts may read; an older file keeps its mode."""
        if debian.SPECIAL.get(path) == value:
            return True
        if not harmless(value) or value.split(" ")[1] != "root":
            return False
        # no package's and no daemon's: somebody keeps something for himself
        if path.startswith(("/opt/", "/root/")):
            return True
        if self._before and path in self._packages_own:
            return path in self._brought()
        return self._came(f"file\t{path}\t")

    # SYS-08: without it the mode of any package's file, changed by hand, is taken as known while some other package is installed.
    def _brought(self) -> set[str]:
        """Files of the new packages."""
        return files_of({parts(fact)[1] for fact in self.arrived})

    # SYS-08: without it root writes what Debian's tools record about units, and any upgrade explains it.
    def _came_with(self, path: str) -> bool:
        """Whether a new package has a file, or nothing was known before."""
        return not self._before or path in self._brought()

    def _came(self, *beside: str) -> bool:
        """Whether a package is new or has another version; otherwise its scripts have enabled and opened nothing."""
        return (
            not self._before
            or bool(self.arrived)
            or any(fact.startswith(beside) for fact in self._now - self._before)
        )

    def _file(self, path: str, value: str) -> bool:
        """Made by a package's own scripts; if the package has the source, the file is compared with that."""
        if path in debian.TEMPLATES:
            return fingerprint(debian.TEMPLATES[path]) == value
        if path in debian.CONTENTS:
            return value in debian.CONTENTS[path]
        if value == DEVICE:  # its name explains no file
            return False
        target = value.removeprefix("link to ")
        if path == "/etc/localtime":
            return target.startswith("/usr/share/zoneinfo/")
        if debian.CARDS.search(path):
            return not self._before and target == value and _starts_nothing(path)
        if path.startswith(AUTHORITIES) and target != value:
            return target.startswith(AUTHORITIES)
        if path.endswith("/.ssh/authorized_keys") and target == value:
            user = path.split("/")[-3]
            return _lines(path) <= _lines(f"/etc/ssh/authorized_keys.d/{user}")
        if os.path.dirname(os.path.dirname(path)) == "/home":
            return value == fingerprint(f"/etc/skel/{os.path.basename(path)}") != ""
        if path.startswith("/etc/sudoers.d/") and target == value:
            # how the office's account may have become administrator
            name = re.escape(self._administrator)
            rights = rf"{name}\s+ALL\s*=\s*\((ALL|ALL:ALL)\)\s*NOPASSWD:\s*ALL"
            own = re.compile(rf"{rights}|Defaults:{name}\s+!requiretty")
            return bool(_lines(path)) and all(map(own.fullmatch, _lines(path)))
        return self._came() and self._of_scripts(path, value, target)

    # SYS-08: without it root adds a line to ucf(1)'s list, or chooses a name that a package's script could have made, and the next apply
    # accepts the file. Scripts of packages can have made it only while packages are installed.
    def _of_scripts(self, path: str, value: str, target: str) -> bool:
        """What a package's scripts make only during its installation."""
        if path.startswith("/etc/alternatives/") and target != value:
            return os.path.realpath(target) in self._packages_own or target.startswith("/usr/share/man/")
        if target.startswith("/etc/alternatives/"):
            return path.startswith("/usr/") and not path.startswith("/usr/local/") and os.path.lexists(target)
        # a module that its package has enabled (phpenmod(8))
        if path.startswith("/etc/php/") and target != value:
            return any(line.endswith(f" {target}") for line in debian.kept_by_ucf())
        if path.startswith("/etc/systemd/user/") and target != value:
            return os.path.lexists(f"{HELPER.replace('-enabled', '-user-enabled')}/{path[18:]}") or (
                target.startswith("/usr/lib/systemd/user/") and target in debian.USER_UNITS
            )
        if debian.MADE.search(path) or (path.startswith("/etc/apparmor.d/local/") and value == debian.EMPTY):
            return True
        with contextlib.suppress(OSError):
            digest = digested(path, "md5")
            noted = target == value and f"{digest} {path}" in debian.kept_by_ucf()
            return noted and (path in debian.WRITTEN or is_shipped(path, digest))
        return False

    @functools.cached_property
    def _packages_own(self) -> set[str]:
        return owned_by_packages()


def _lines(path: str) -> set[str]:
    """A file's lines without comments; none if it cannot be read."""
    # sudo(8) reads #1000 as an account
    lines = map(str.strip, lines_in(path))
    return {line for line in lines if line not in ("", "#") and not line.startswith("# ")}


# SYS-08: without it a command in a card's configuration, written before the first apply, runs as root at each boot and is never reported.
def _starts_nothing(path: str) -> bool:
    """Whether a card's configuration starts no program; the addresses and routes in it are accepted with the host's first scan."""
    lines = [line.strip(" \t") for line in lines_in(path)]
    elsewhere = not path.startswith("/etc/network/")
    return bool(lines) and (elsewhere or all(map(debian.INTERFACES.fullmatch, lines)))


def _files_of(unit: str) -> tuple[str, ...]:
    """The unit's own file, and that of its template."""
    return (unit, re.sub(r"@[^.]*", "@", unit))
