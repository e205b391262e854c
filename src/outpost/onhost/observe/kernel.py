"""Kernel settings and modules, and the kernel's host name."""

import collections.abc
import contextlib
import glob
import os
import re
import shlex

from outpost.onhost.observe.reading import content, lines_in, lines_of, named

UNSTEADY = re.compile(
    r"(_mem|_key|_secret|/flush|_count|_max|_entries|_orphans|_buckets|_available\w*|mtu|/tcp_child_ehash\w*)\Z"
)
"""Kernel settings that the kernel computes itself, or that nobody may read."""
NETWORK_SETTINGS = (
    "net/ipv4",
    "net/ipv4/conf/*",
    "net/ipv4/route",
    "net/ipv6",
    "net/ipv6/conf/*",
    "net/ipv6/icmp",
    "net/ipv6/route",
    "net/core",
    "net/netfilter",
    "net/unix",
)
MACHINE_SETTINGS = (
    "fs/protected_*", "fs/suid_dumpable", "kernel/core_pattern", "kernel/modprobe", "kernel/poweroff_cmd", "kernel/sysrq",
    "kernel/unprivileged_*", "kernel/yama/*", "vm/overcommit_memory",
)  # fmt: skip
"""Settings of the whole machine that open it: compared if the kernel belongs to the host."""


def settings_in_force(contract: dict[str, object]) -> list[str]:
    """Kernel settings that no file of the office names; the named ones are compared with the file."""
    places = [top for place in NETWORK_SETTINGS for top in glob.glob(f"/proc/sys/{place}")]
    paths = [f"{top}/{name}" for top in places for name in os.listdir(top)]
    if contract.get("kernel"):
        paths += [path for place in MACHINE_SETTINGS for path in glob.glob(f"/proc/sys/{place}")]
    declared = wanted_settings()
    others = (path for path in paths if path not in declared and not UNSTEADY.search(path))
    return [f"setting\t{name}\t{value}" for _, name, value in _live(others)]


def _live(paths: collections.abc.Iterable[str]) -> collections.abc.Iterator[tuple[str, str, str]]:
    """Path, name and value of each setting that can be read."""
    for path in paths:
        with contextlib.suppress(OSError):
            yield path, path.removeprefix("/proc/sys/").replace("/", "."), " ".join(content(path).split())


def wanted_settings() -> dict[str, str]:
    """Path below /proc/sys → value in the declared file."""
    wanted: dict[str, str] = {}
    for line in lines_in("/etc/sysctl.d/90-outpost.conf"):
        key, equals, value = line.partition("=")
        if not equals or line.startswith(("#", ";")):
            continue
        for path in glob.glob("/proc/sys/" + key.strip().lstrip("-").replace(".", "/")):
            wanted[path] = " ".join(value.split())
    return wanted


def kernel() -> list[str]:
    """Live settings that differ from the declared file."""
    wanted = wanted_settings()
    return [
        f"sysctl\t{name}\t{live} instead of {wanted[path]}"
        for path, name, live in _live(wanted)
        if live != wanted[path]
    ]


def modules(contract: dict[str, object]) -> list[str]:
    """Forbidden kernel modules that are loaded, if the kernel belongs to the host."""
    if not contract.get("kernel"):
        return []
    barred: set[str] = set()
    for path in glob.iglob("/etc/modprobe.d/*.conf"):
        barred.update(re.findall(r"^install (\S+) /bin/false$", content(path), re.MULTILINE))
    loaded = {line.split()[0].replace("_", "-") for line in content("/proc/modules").splitlines()}
    return [f"module\t{name}\t" for name in sorted(loaded & {name.replace("_", "-") for name in barred})]


MODULES = "/usr/lib/modules"
DUMP = """import ctypes, os, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 24, 1 << 24))
kmod = ctypes.CDLL("libkmod.so.2")
kmod.kmod_new.restype = ctypes.c_void_p
context = ctypes.c_void_p(kmod.kmod_new(os.fsencode(sys.argv[1]), None))
kmod.kmod_dump_index(context, 0, 1) or print("whole")
"""
"""Prints the entries of a kernel's binary index of modules, which modprobe(8) reads; bounded and a process of its own, since the index may be hostile."""


# SYS-02: without it one line in an index of modules makes the kernel load a file from anywhere, and no scan reads that file.
def indexes() -> list[str]:
    """Kernels whose index of modules names a file outside their directory, or one module by another's name; or is unreadable."""
    found = []
    for path in sorted(glob.glob(f"{MODULES}/*/modules.dep.bin")):
        top = os.path.dirname(path)
        entries = lines_of(f"/usr/bin/python3 -IS -c {shlex.quote(DUMP)} {shlex.quote(top)}")
        if not entries or entries.pop() != "whole" or not all(map(_is_inside, entries)):
            found.append(f"index\t{named(top)}\t")
    return found


def _is_inside(entry: str) -> bool:
    """Whether an entry ``NAME FILE: NEEDED…`` (modules.dep(5)) is about files below the index, and about a module of this name."""
    name, _, rest = entry.partition(" ")
    file, colon, needed = rest.partition(":")
    files = [file, *needed.split()]
    below = all(each and each[0] != "/" and ".." not in each.split("/") for each in files)
    return bool(colon) and below and os.path.basename(file).partition(".")[0].replace("-", "_") == name


HANDLERS = "/proc/sys/fs/binfmt_misc"


# SYS-08: without it root makes the kernel start a program of his for each program of one format, and no file shows it.
def handlers(contract: dict[str, object]) -> list[str]:
    """Programs that the kernel starts for others (binfmt.d(5)) and that no package names, if the kernel belongs to the host."""
    if not contract.get("kernel") or not os.path.isdir(HANDLERS):
        return []
    files = [path for top in ("/etc", "/usr/lib") for path in glob.glob(f"{top}/binfmt.d/*.conf")]
    ours = {
        name for path in files for _, name in re.findall(r"^([^\w\s#;])(.+?)\1", content(path), re.MULTILINE)
    }
    ours.update(("register", "status"), map(os.path.basename, glob.glob("/var/lib/binfmts/*")))
    return [f"handler\t{named(f'{HANDLERS}/{name}')}\t" for name in sorted(set(os.listdir(HANDLERS)) - ours)]


def host_name(contract: dict[str, object]) -> list[str]:
    """The kernel's host name, if it is not the declared one."""
    wanted, live = contract.get("hostname"), os.uname().nodename
    return [f"hostname\t{live}\tinstead of {wanted}"] if wanted and live != wanted else []
