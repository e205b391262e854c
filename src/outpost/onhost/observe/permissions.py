"""Modes, owners, capabilities, mounts; and attributes that lock declared files, or open them."""

import collections
import collections.abc
import contextlib
import errno
import fcntl
import functools
import grp
import os
import pwd
import re
import stat
import struct

from outpost.onhost.observe import places
from outpost.onhost.observe.kept_answers import in_trees
from outpost.onhost.observe.places import DEVICE, GUARDED, expanded
from outpost.onhost.observe.reading import WALK, content, lines_of, named

LOCKS = {"immutable": 0x10, "append-only": 0x20}  # chattr(1): i and a
GET_FLAGS, SET_FLAGS = 0x80086601, 0x40086602  # FS_IOC_GETFLAGS, FS_IOC_SETFLAGS of linux/fs.h, 64 bits
ACCESS_LISTS = ("system.posix_acl_access", "system.posix_acl_default")
MOUNTED = ("/dev", "/dev/shm", "/run", "/srv/mail", "/tmp", "/var/tmp")
OF_THE_SYSTEM = re.compile(
    r"(tmpfs|ramfs) /(dev|run(/(credentials/.+|lock|netns|qemu|user/\d+))?|sys/fs/cgroup)\Z|devtmpfs /dev\Z"
    r"|(sysfs|securityfs|cgroup2?|pstore|bpf|debugfs|tracefs|configfs|efivarfs|selinuxfs|fusectl) /sys(/.*)?\Z|fuse\S* /run/user/\d+/.+\Z"
    r"|(devpts|mqueue|hugetlbfs) /dev/.+\Z|nsfs /run/(docker/)?netns(/.*)?\Z|proc /proc\Z|binfmt_misc /proc/sys/fs/binfmt_misc\Z|rpc_pipefs /run/rpc_pipefs\Z"
)
"""Types and places of the file systems of the kernel and systemd."""
DEVICES = (" b", " c")
"""How find(1) ends the line of a device."""


def modes() -> list[str]:
    found = []
    daemons = (place for place in expanded(places.STATE_OF_DAEMONS) if stat.S_ISDIR(os.lstat(place).st_mode))
    for path in (*GUARDED, *daemons):
        with contextlib.suppress(OSError, KeyError):
            status = os.lstat(path)
            mode = status.st_mode if stat.S_ISLNK(status.st_mode) else stat.S_IMODE(status.st_mode)
            found.append(f"mode\t{named(path)}\t{mode:o} {owner(status.st_uid)} {group(status.st_gid)}")
    for path in expanded(places.PARTS):
        target = f"link to {os.readlink(path)}" if os.path.islink(path) else "no link"
        found.append(f"alias\t{named(path)}\t{target}")
    return found + mounts(content("/proc/self/mounts"))


def mounts(listed: str) -> list[str]:
    """How places for data are mounted, and other mounts; how many others a place has if one hides another."""
    found: dict[str, str] = {}
    count: collections.Counter[str] = collections.Counter()
    others: collections.Counter[str] = collections.Counter()
    for line in listed.splitlines():
        _, target, kind, options, *_ = line.split(" ")
        if kind == "autofs":
            continue  # where another one is mounted on demand
        count[target] += 1
        if target in MOUNTED and f"mount\t{target}" not in found:
            kept = [word for word in options.split(",") if word in ("ro", "rw", "noexec", "nosuid", "nodev")]
            found[f"mount\t{target}"] = ",".join(kept)
        elif f"{target}/".startswith(places.CONTAINERS):
            continue
        elif count[target] > 1 or not OF_THE_SYSTEM.match(f"{kind} {target}"):
            others[target] += 1
            found[f"mounted\t{target}"] = f"{others[target]} times" if others[target] > 1 else ""
    return [f"{place}\t{value}" for place, value in found.items()]


@functools.cache
def owner(number: int) -> str:
    return pwd.getpwuid(number).pw_name


@functools.cache
def group(number: int) -> str:
    return grp.getgrgid(number).gr_name


USUAL = r"-user root -group root \( -type f \( -perm 644 -o -perm 755 -o -perm 444 -o -perm 555 \) -o -type d -perm 755 \)"

LAME = "-type f ! -perm /111 \\( -path '/usr/bin/*' -o -path '/usr/sbin/*' \\)"
"""Commands that no account can start."""


def special(declared: set[str], listed: list[str]) -> list[str]:
    """Files and directories that find(1) selected, with mode, owner and group; devices, which belong in /dev only."""
    return [
        f"file\t{named(path)}\t{DEVICE}" if rest.endswith(DEVICES) else f"special\t{named(path)}\t{rest[:-2]}"
        for rest, _, path in (line.replace("\1", "\n").partition("|") for line in listed)
        if path.removesuffix(places.NEW) not in declared
        and path not in GUARDED
        and not places.PASSING.search(path)
    ]


def special_elsewhere(declared: set[str], listed: list[str]) -> list[str]:
    """The same outside `TREES`, where find(1) also selects what an account may start."""
    rights = ((line, *line.partition("|")[0].partition(" ")[::2]) for line in listed)
    found = [line for line, mode, rest in rights if int(mode, 8) & 0o6002 or rest.endswith(DEVICES)]
    return special(declared, found)


def capable_elsewhere(listed: list[str]) -> list[str]:
    """Programs with capabilities, which give rights to each account that starts them (capabilities(7)); find(1) cannot search for these."""
    paths = (line.replace("\1", "\n").partition("|")[2] for line in listed)
    return [found for path in paths for found in capability(path)]


def capability(path: str) -> list[str]:
    with contextlib.suppress(OSError):
        value = os.getxattr(path, "security.capability", follow_symlinks=False)
        return [f"capability\t{named(path)}\t{value.hex()}"]
    return []


def privileges(declared: set[str], *trees: str) -> list[str]:
    """Below these `TREES`: setuid programs, files that others than root may write or only some may read, and capabilities."""
    wanted = rf"{places.SPECIAL} -o ! -type l ! \( {USUAL} \) -o {LAME}"
    walks = [(" ".join(trees), wanted), *([(places.DATABASE, places.SPECIAL)] if "/usr" in trees else [])]
    commands = (rf"find {where} -xdev \( {what} \) {places.LISTED}" for where, what in walks)
    found = special(declared, [line for command in commands for line in lines_of(command, WALK)])
    for top in (*trees, *([places.DATABASE] if "/usr" in trees else [])):
        for directory, inner, names in os.walk(top):
            inner[:] = [name for name in inner if f"{directory}/{name}" not in places.FOR_PEOPLE]
            for name in names:
                found += capability(f"{directory}/{name}")
    return found


def held(paths: set[str], among: collections.abc.Iterable[str]) -> list[str]:
    """Declared files and directories above them that cannot be replaced, or that more accounts may read than their mode says."""
    found = []
    for path in sorted(among):
        if path.startswith("/var/log") or not os.path.lexists(path) or os.path.islink(path):
            continue
        if path in paths and os.path.isfile(path) and os.stat(path).st_nlink > 1:
            found.append(f"linked\t{named(path)}\t")
        with contextlib.suppress(OSError):
            flags = attributes(path)
            if names := [name for name, bit in LOCKS.items() if flags & bit]:
                found.append(f"locked\t{named(path)}\t{', '.join(names)}")
        with contextlib.suppress(OSError):
            if set(ACCESS_LISTS) & set(os.listxattr(path)):
                found.append(f"acl\t{named(path)}\t")
    return found


def on_the_way(paths: set[str]) -> set[str]:
    """Attributes that keep declared files from being replaced."""
    others = (*GUARDED, *places.STATE_OF_DAEMONS, *places.COMMANDS, "/usr/lib", "/usr/local/*")
    return {*paths, *map(os.path.dirname, paths), *expanded(others)}


def held_below_trees(paths: set[str]) -> list[str]:
    """The same, all of /etc, and the programs and libraries that an upgrade must be able to replace."""
    inside = {path for path in on_the_way(paths) if in_trees(path)}
    for directory, _, names in os.walk("/etc"):
        inside.update((directory, *(f"{directory}/{name}" for name in names)))
    inside.update(expanded(tuple(f"{place}/*" for place in (*places.COMMANDS, "/usr/lib/*-linux-gnu"))))
    return held(paths, inside)


def held_elsewhere(paths: set[str]) -> list[str]:
    """Places where the mark of files does not show a change."""
    return held(paths, {path for path in on_the_way(paths) if not in_trees(path)})


def attributes(path: str, wanted: int | None = None) -> int:
    """Attributes of a file on disk (chattr(1)); with `wanted`, set them first."""
    opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    try:
        if wanted is not None:
            fcntl.ioctl(opened, SET_FLAGS, struct.pack("l", wanted))
        return int(struct.unpack("l", fcntl.ioctl(opened, GET_FLAGS, struct.pack("l", 0)))[0])
    finally:
        os.close(opened)


def release(paths: list[str]) -> None:
    """Remove access lists, and what keeps files and their directories from being replaced."""
    for path in dict.fromkeys([*(os.path.dirname(path) for path in paths), *paths]):
        with contextlib.suppress(OSError):
            flags = attributes(path)
            if flags & sum(LOCKS.values()):
                attributes(path, flags & ~sum(LOCKS.values()))
        for name in ACCESS_LISTS if path in paths else ():
            with contextlib.suppress(OSError):
                os.removexattr(path, name)
        if path in paths:
            with contextlib.suppress(OSError):
                _apart(path)


# SYS-01: without it the account of a daemon in whose directory a declared file lies (ClamAV's signatures, who may read a shared mailbox)
# can put a link there and make root write any file of the host.
@contextlib.contextmanager
def inside(path: str) -> collections.abc.Iterator[tuple[int, str]]:
    """A file's directory, opened without following a link on the way, and its name there."""
    *above, name = path.strip("/").split("/")
    place = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in above:
            outer = place
            place = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=outer)
            os.close(outer)
        yield place, name
    finally:
        os.close(place)


def _plain(name: str, place: int) -> int:
    """A plain file in a directory, opened; nothing that it leads to, and no FIFO is waited for."""
    opened = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW, dir_fd=place)
    if stat.S_ISREG(os.fstat(opened).st_mode):
        return opened
    os.close(opened)
    raise OSError(errno.EINVAL, "no plain file", name)


def _apart(path: str) -> None:
    """Make a file that has other names a file of its own."""
    with inside(path) as (place, name), open(_plain(name, place), "rb") as file:
        status = os.fstat(file.fileno())
        if status.st_nlink < 2:
            return
        new = f"{name}{places.NEW}"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new, dir_fd=place)
        made = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=place)
        with open(made, "wb") as copy:
            while part := file.read(1 << 20):
                copy.write(part)
            os.fchown(made, status.st_uid, status.st_gid)
            os.fchmod(made, stat.S_IMODE(status.st_mode))
            os.utime(made, ns=(status.st_atime_ns, status.st_mtime_ns))
        os.rename(new, name, src_dir_fd=place, dst_dir_fd=place)


def set_mode(mode: str, path: str) -> None:
    """The mode of a plain file or a directory, and of nothing that a link on the way leads to."""
    with inside(path) as (place, name):
        opened = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW, dir_fd=place)
        try:
            os.fchmod(opened, int(mode, 8))
        finally:
            os.close(opened)
