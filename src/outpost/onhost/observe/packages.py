"""Packages, and whether their files are as the packages installed them."""

import collections
import collections.abc
import contextlib
import glob
import os
import pathlib
import re
import shlex
import stat
import subprocess
import time

from outpost.onhost.observe.declared import VERIFIED, is_local
from outpost.onhost.observe.kept_answers import DAY, identity, kept
from outpost.onhost.observe.places import DATABASE, FOR_PEOPLE, PACKAGES_OWN, PROGRAMS, expanded
from outpost.onhost.observe.reading import BlindError, content, digested, lines_in, lines_of, named

REMOVED = "removed"
"""The value for a package that is gone but for its configuration: dpkg keeps the list of that, and the files in it count as its own."""


UTC = "/usr/share/zoneinfo/Etc/UTC"


def packages() -> list[str]:
    """Installed packages that somebody asked for; their dependencies come and go with them."""
    marks = "\n".join(lines_in("/var/lib/apt/extended_states"))
    automatic = set(re.findall(r"^Package: (\S+)\n(?:.+\n)*?Auto-Installed: 1", marks, re.MULTILINE))
    found = []
    for name, selected, flag, state, version in _recorded():
        if flag != "ok" or state in ("not-installed", "config-files"):
            continue
        found += [f"package\t{name}\t"] if name not in automatic else []
        found += [f"version\t{name}\t{version}"] if version else []
        found += [f"hold\t{name}\t{selected.removeprefix('hold')}"] if selected != "install" else []
    found += [f"architecture\t{name}\t" for name in lines_in("/var/lib/dpkg/arch")[1:]]
    diverted = lines_in("/var/lib/dpkg/diversions")
    diversions = zip(diverted[::3], diverted[1::3], diverted[2::3], strict=False)
    found += [f"diversion\t{path}\tto {to}, for {who}" for path, to, who in diversions]
    overridden = (line.rpartition(" ") for line in lines_in("/var/lib/dpkg/statoverride"))
    return found + [f"override\t{path}\t{owner}" for owner, _, path in overridden]


# SYS-08: without it a maintainer script, which the next upgrade runs as root, or a list or checksum of dpkg's is edited without notice.
def controls() -> list[str]:
    """Version and digest of dpkg's records of each installed package: maintainer scripts, checksums, lists of its files."""
    _expect_rest()
    versions = _installed()
    files = collections.defaultdict(list)
    for name in sorted(os.listdir(f"{DATABASE}/info")):
        files[name.rpartition(".")[0]].append(name)
    there = [
        f"control\t{named(package)}\t{versions[package.partition(':')[0]]} {_digest_of(files[package])}"
        for package in sorted(files)
        if package.partition(":")[0] in versions
    ]
    removed = (name for name, _, _, state, _ in _recorded() if state == "config-files")
    return there + [f"control\t{named(name)}\t{REMOVED}" for name in removed]


def _recorded() -> collections.abc.Iterator[tuple[str, ...]]:
    """Each package that dpkg knows: name, selection, flag, state and version; empty if it has none (dpkg(1))."""
    for block in content(f"{DATABASE}/status").split("\n\n"):
        # with any lines in between: a package that calls itself essential counts, too
        status = re.search(r"^Package: (\S+)\n(?:.+\n)*?Status: (\w+) (\w+) (\S+)", block, re.MULTILINE)
        version = re.search(r"^Version: (\S+)", block, re.MULTILINE)
        if status:
            yield (*status.groups(), version[1] if version else "")


# SYS-06: without it root installs a package of his own, or a higher version of one, marked as automatic, and all of it counts as Debian's.
def without_source(versions: dict[str, str]) -> set[str]:
    """Those of these packages whose version no source of apt has, and no later one, to which apt upgrades; none without lists of packages."""
    names = " ".join(map(shlex.quote, ("dpkg", *versions)))
    offered = collections.defaultdict(set)
    for line in lines_of(f"apt-cache madison {names}"):
        name, version, _ = line.split("|")
        offered[name.strip()].add(version.strip())
    return {
        name
        for name, version in versions.items()
        if "dpkg" in offered
        and not any(version == other or is_lower(version, other) for other in offered[name])
    }


def is_lower(version: str, other: str) -> bool:
    """Whether dpkg sorts a version before another one (deb-version(7))."""
    done = subprocess.run(["dpkg", "--compare-versions", version, "lt", other], check=False)
    return done.returncode == 0


def _installed() -> dict[str, str]:
    """Name and version of each installed package."""
    return {
        name: version
        for name, _, flag, state, version in _recorded()
        if (flag, state) == ("ok", "installed") and version
    }


def expect_lists() -> None:
    """Raise if dpkg is running, or has lost the list of a package's files: then nobody can tell which files have no owner."""
    _expect_rest()
    listed = {
        path.name.removesuffix(".list").partition(":")[0]
        for path in pathlib.Path(DATABASE, "info").glob("*.list")
        if path.stat().st_size > len("/.\n")
    }
    if missing := sorted(_installed().keys() - listed):
        raise BlindError(f"dpkg has no list of the files of {missing[0]}")


def _expect_rest() -> None:
    """Raise while dpkg changes its records."""
    with contextlib.suppress(FileNotFoundError):
        if os.listdir(f"{DATABASE}/updates"):
            raise BlindError("dpkg is running, or was interrupted: run dpkg --configure -a")


def _digest_of(names: list[str]) -> str:
    import hashlib

    found = hashlib.sha256()
    for name in names:
        found.update(f"{name} {digested(f'{DATABASE}/info/{name}')}\n".encode(errors="surrogateescape"))
    return found.hexdigest()[:16]


def owned_by_packages() -> set[str]:
    mark = "\n".join([*map(identity, ("/var/lib/dpkg/info", "/var/lib/dpkg/status")), *PACKAGES_OWN])
    return set(kept("owned", mark, listed_by_packages))


def listed_by_packages() -> list[str]:
    tops = ("/etc/", "/usr/local/", *(f"{place}/" for place in expanded(PACKAGES_OWN)))
    people = tuple(f"{place}/" for place in FOR_PEOPLE)
    owned = (path for path in _listed("*.list") if path.startswith(tops) and not path.startswith(people))
    return sorted(set(owned))


# SYS-08: without it root writes a list in the name of a package that dpkg does not know, and each file in it counts as a package's.
def _listed(pattern: str) -> collections.abc.Iterator[str]:
    """The paths in the lists of these packages. Lists from before the merge of directories have other paths."""
    recorded = {name for name, _, _, state, _ in _recorded() if state != "not-installed"}
    for listing in glob.iglob(f"{DATABASE}/info/{pattern}"):
        if os.path.basename(listing).removesuffix(".list").partition(":")[0] in recorded:
            yield from map(_merged, content(listing).removesuffix("\n").split("\n"))


def conffiles(declared: set[str]) -> list[str]:
    """Configuration files of packages, which are in /etc (Debian Policy 10.7.2), that differ from the package."""
    found = []
    for line in lines_of("dpkg-query --show --showformat '${Conffiles}\\n'"):
        parts = line.split()
        if len(parts) != 2 or parts[0] in declared:
            continue
        path, wanted = parts
        if is_local(path):
            continue
        try:
            if wanted != "newconffile" and digested(path, "md5") != wanted:
                found.append(f"conffile\t{path}\t{digested(path)[:16]}")
        except OSError:
            found.append(f"conffile\t{path}\tmissing")
    return found


def programs() -> list[str]:
    """Packages' programs that are missing or changed; all are read once a day, and later those that were touched."""
    owned = owned_by_packages()
    tops = tuple(f"{place}/" for place in expanded(PROGRAMS))
    since = verified_today()
    found, suspects = [], []
    # every daemon reads one of these, although they are among what only people read; an apply sets the second one
    clocks = {os.path.realpath("/etc/localtime"), UTC}
    for path in (*owned, *filter(os.path.exists, sorted(clocks))):
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


def verified_today() -> float:
    """When all programs were found right today; 0 if not today. A false time hides changes for no longer than that."""
    with contextlib.suppress(OSError):
        moment, now = os.stat(VERIFIED).st_mtime, time.time()
        if moment <= now and moment // DAY == now // DAY:
            return moment
    return 0.0


def differing(paths: collections.abc.Iterable[str]) -> list[str]:
    """Files that differ from their package's checksums, and links, which have none, that lead to files of no package."""
    wanted: dict[str, set[str]] = collections.defaultdict(set)
    for line in _sums():
        digest, _, name = line.partition("  ")
        wanted[_merged(f"/{name}")].add(digest)
    found, links = [], {}
    for path in paths:
        link = os.path.islink(path)
        if link and not wanted[path]:
            links[path] = os.path.realpath(path)
            continue
        with contextlib.suppress(OSError):
            # links have no checksum
            if wanted[path] and (link or digested(path, "md5") not in wanted[path]):
                found.append(path)
    return found + astray(links)


def _sums() -> collections.abc.Iterator[str]:
    """Lines of packages' checksums."""
    for listing in glob.iglob(f"{DATABASE}/info/*.md5sums"):
        yield from content(listing).split("\n")


# SYS-08: without it root records his own file as installed by ucf(1), and the next apply after an upgrade takes it as known.
def is_shipped(path: str, digest: str) -> bool:
    """Whether an installed package has a file with this content (MD5), whose name begins like this one's."""
    same = (os.path.basename(line) for line in _sums() if line.startswith(f"{digest}  "))
    return any(name.startswith(os.path.basename(path)) for name in same)


# SYS-06: without it one line of root's in dpkg's status gives a package a version that no upgrade ever reaches.
def has_log(package: str) -> bool:
    """Whether its change log is among its files; some packages have only a link to that of another."""
    return any("/changelog" in line for line in lines_in(f"{DATABASE}/info/{package}.md5sums"))


def files_of(packages: collections.abc.Collection[str]) -> set[str]:
    """The files that these packages list."""
    lists = (f"{name}{each}.list" for name in packages for each in ("", ":*"))
    return {path for pattern in lists for path in _listed(pattern)}


def shipped(paths: collections.abc.Collection[str]) -> set[str]:
    """Those of the paths that a package lists, in /opt also."""
    return set(paths).intersection(_listed("*.list")) if paths else set()


def _merged(path: str) -> str:
    return f"/usr{path}" if path.startswith(("/bin/", "/sbin/", "/lib/")) else path


# SYS-08: without it a package's link to a library is led to a foreign file, which every program then loads.
def astray(links: dict[str, str]) -> list[str]:
    """Packages' links, with their targets, that lead to files of no package, if nothing else names them."""
    people = tuple(f"{place}/" for place in FOR_PEOPLE)
    seen = (*(f"{place}/" for place in PROGRAMS), "/etc/", os.devnull)
    far = {path: to for path, to in links.items() if not to.startswith(seen) or to.startswith(people)}
    there = shipped(far.values())
    return [path for path, to in far.items() if to not in there]
