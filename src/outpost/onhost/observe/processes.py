"""Processes: their programs, their open files, how they see the file system, and those that somebody stopped or traces."""

import collections.abc
import contextlib
import glob
import os
import re
import shlex
import stat

from outpost.onhost.observe.declared import is_local
from outpost.onhost.observe.packages import shipped
from outpost.onhost.observe.places import CHROOT
from outpost.onhost.observe.reading import content, lines_of, named
from outpost.onhost.observe.units import mention

OF_PACKAGES = ("/usr/bin/", "/usr/lib/", "/usr/libexec/", "/usr/sbin/")
DELETED = " (deleted)"
SCANNED = ("/usr/", f"{CHROOT}/lib/", f"{CHROOT}/usr/")
"""Where each library is compared with a package's, or reported."""
MAPPED = re.compile(r"^\S+ ..x\S \S+ \S+ \d+ +(/.+)$", re.MULTILINE)
"""Code that a process has loaded from files (proc_pid_maps(5))."""
STATUS = re.compile(r"^(?:State|PPid|TracerPid):\t(\S+)", re.MULTILINE)
OF_LOGINS = ("login", "sshd", "sshd-session", "systemd")
"""Programs of logins that may be directly below systemd: at the console, of a listener that was restarted meanwhile, and a user's systemd."""
STOPPED = "Tt"
"""States of a process that a signal, or a debugger, has stopped."""


class Processes:
    """One walk over all of them (proc(5)).

    Attributes:
        faults: Daemons that are stopped or traced, programs and libraries of no package, and deleted logs that are still written.
        holders: Inode of a socket → name and number of the process that has it; of several, the youngest one.
        views: Mount namespace (mount_namespaces(7)) → a process with it that is in no change of root.
        programs: Process → its program.
        adopted: Unit, or nothing → programs and numbers of the processes directly below systemd.
    """

    def __init__(self) -> None:
        faults: list[str] = []
        strange: dict[str, list[str]] = {}
        self.holders: dict[str, tuple[str, str]] = {}
        self.views: dict[str, tuple[str, str]] = {}
        self.programs: dict[str, str] = {}
        self.adopted: dict[str, list[tuple[str, str]]] = {}
        for pid in filter(str.isdigit, os.listdir("/proc")):
            # it has ended meanwhile, or is the kernel's and has no program
            with contextlib.suppress(OSError):
                program = os.readlink(f"/proc/{pid}/exe")
                name = name_of(program)
                self.programs[pid] = program.removesuffix(DELETED)
                state, parent, tracer = STATUS.findall(content(f"/proc/{pid}/status"))
                if (state in STOPPED or tracer != "0") and (unit := unit_of(pid)).endswith(".service"):
                    kind, other = ("halted", pid) if tracer == "0" else ("traced", tracer)
                    faults.append(f"{kind}\t{unit}\t{name} {other}")
                runs = [program] if name == program else []
                # SYS-08: without it a daemon that was started with LD_PRELOAD runs somebody's code, and its program is the package's.
                mapped = set(MAPPED.findall(content(f"/proc/{pid}/maps")))
                runs += [path for path in mapped if not path.startswith(SCANNED)]
                for path in runs if parent != "0" else ():
                    if not is_local(path):
                        strange.setdefault(path, []).append(f"foreign\t{named(path)}\t{process(name, pid)}")
                if parent == "1" and name not in (program, *OF_LOGINS) and not is_local(program):
                    self.adopted.setdefault(unit_of(pid), []).append((program, pid))
                if os.readlink(f"/proc/{pid}/root") == "/":
                    self.views.setdefault(os.readlink(f"/proc/{pid}/ns/mnt"), (name, pid))
                for number in os.listdir(f"/proc/{pid}/fd"):
                    opened = os.readlink(f"/proc/{pid}/fd/{number}")
                    if opened.startswith("socket:["):
                        self.holders[opened[8:-1]] = name, pid
                    elif opened.startswith("/var/log/") and opened.endswith(DELETED):
                        faults.append(f"deleted\t{named(opened.removesuffix(DELETED))}\t{unit_of(pid)}")
        known = shipped(strange)
        faults += [fact for program, facts in strange.items() if program not in known for fact in facts]
        self.faults = list(dict.fromkeys(faults))


# SYS-04: without it a shell that an intruder left behind, or started below a service, is not noticed while it runs a package's program.
def in_background(adopted: dict[str, list[tuple[str, str]]], units: list[str]) -> list[str]:
    """Processes that outlived who started them, so that systemd adopted them, and that are not the main process of a service.

    Args:
        adopted: As in `Processes`. A running service without a main process (``Type=oneshot``) may have any, and so may a unit that
            manages processes itself, as containers' do (``Delegate=yes``).
        units: Lines of ``systemctl list-units``. Root can make a control group whose name is that of no unit.
    """
    running = {line.split()[0] for line in units if line.split()[2] not in ("inactive", "failed")}
    found = []
    for unit, processes in adopted.items():
        if unit.endswith(".service") and unit in running and not processes[1:]:
            continue
        shown = lines_of(f"systemctl show --property=MainPID,Delegate -- {shlex.quote(unit)}") if unit else []
        if "Delegate=yes" in shown or ("MainPID=0" in shown and unit in running):
            continue
        for program, pid in processes:
            with contextlib.suppress(OSError):  # it has ended meanwhile
                if f"MainPID={pid}" not in shown and "\nPPid:\t1\n" in content(f"/proc/{pid}/status"):
                    found.append(f"background\t{named(program)}\t{process(program, pid, unit)}")
    return found


# SYS-04: without it a program that calls itself "unbound" (prctl(2)) listens unnoticed, and one in memory or in /tmp is found only if it listens.
def name_of(program: str) -> str:
    """The name of a package's program; a program that no package has keeps its whole path. An upgrade replaces a running program."""
    path = program.removesuffix(DELETED)
    if path.startswith(OF_PACKAGES) and (path == program or os.path.exists(path)):
        return os.path.basename(path)
    return program


PROFILES = "/etc/apparmor.d"


# SYS-03: without it somebody takes a daemon's profile out of the kernel, and no file shows it.
def unconfined(contract: dict[str, object], programs: dict[str, str]) -> list[str]:
    """Services whose program has a profile of AppArmor that is not enforced, if the kernel belongs to the host (proc_pid_attr(5))."""
    if not contract.get("kernel") or not os.path.isdir("/sys/module/apparmor"):
        return []
    profiles = {os.path.basename(path) for path in glob.glob(f"{PROFILES}/usr.*")}
    profiles -= {os.path.basename(path) for path in glob.glob(f"{PROFILES}/disable/*")}
    found = []
    for pid, program in programs.items():
        with contextlib.suppress(OSError):
            has_profile = program.lstrip("/").replace("/", ".") in profiles
            if has_profile and (unit := unit_of(pid)).endswith(".service"):
                mode = content(f"/proc/{pid}/attr/current").strip()
                if not mode.endswith("(enforce)"):
                    found.append(f"unconfined\t{unit}\t{named(mode)}")
    return sorted(set(found))


PASSING = re.compile(r"/(dev|proc|run|sys)(/.*)?\Z|/(home|root|tmp|var/tmp|var/(cache|lib|log)/private)\Z")
"""Where systemd mounts for any sandbox (systemd.exec(5))."""
HIDDEN = re.compile(r"/systemd/inaccessible/\w+\Z")
"""The parts of /run that it mounts on places that a service may not see."""
DECLARED = r"^(?:TemporaryFileSystem|Bind(?:ReadOnly)?Paths)=(?:.*[\s:])?-?{}(?:[\s:]|$)"


# SYS-08: without it one daemon can be given another file under the same name (nsenter(1), mount(8)), and no file shows it.
def mounted_within(views: dict[str, tuple[str, str]]) -> list[str]:
    """Mounts that only a service sees, and that its unit does not declare (proc_pid_mountinfo(5))."""
    host = _mounts("1")
    ours = {place: (device, root) for device, root, place in host}
    own = os.readlink("/proc/1/ns/mnt")
    found = []
    for name, pid in (view for space, view in views.items() if space != own):
        with contextlib.suppress(OSError):
            if not (unit := unit_of(pid)).endswith(".service"):
                continue  # an apply's own check of files that are not in their place yet, for example
            for mount in _mounts(pid):
                device, root, place = mount
                hidden = HIDDEN.match(root) and device == ours.get("/run", ("", ""))[0]
                if hidden or mount in host or PASSING.match(place) or (device, root) == _seen(place, ours):
                    continue
                if not mention(unit, DECLARED.format(re.escape(place))):
                    found.append(f"within\t{named(place)}\t{process(name, pid, unit)}")
    return sorted(found)


def _mounts(pid: str) -> list[tuple[str, str, str]]:
    """Device, the mounted part of it, and the mount point of each mount."""
    lines = (line.split(" ", 5) for line in content(f"/proc/{pid}/mountinfo").splitlines())
    return [(device, root, place) for _, _, device, root, place, _ in lines]


def _seen(place: str, ours: dict[str, tuple[str, str]]) -> tuple[str, str]:
    """The host's own mounts there: a sandbox mounts them again with other options."""
    top = place
    while top not in ours and top != "/":
        top = os.path.dirname(top)
    device, root = ours.get(top, ("", ""))
    rest = place.removeprefix(top.rstrip("/"))
    return device, f"{root.rstrip('/')}{rest}" or "/"


OPEN = re.compile(r"user/|systemd/\w+/io\.systemd\.\w+\Z|dovecot/(dns-client|imap-urlauth|indexer)\Z")
"""Below /run: sessions, whose directories only their user may enter, and what is public by design (systemd-networkd, Dovecot's base)."""


# SYS-05: without it somebody who changes the mode of a service's socket gives every account access to it.
def opened_sockets(holders: dict[str, tuple[str, str]], units: collections.abc.Collection[str]) -> list[str]:
    """Sockets of services below /run to which every account may connect although no configuration says so (proc_net_unix(5)).

    Root has others that are public by design: of root's only those of the office's units count.
    """
    found = []
    for line in content("/proc/net/unix").splitlines():
        inode, _, path = line.partition(" /run/")
        with contextlib.suppress(OSError):
            status = os.stat(f"/run/{path}") if path else None
            if (
                status
                and stat.S_ISSOCK(status.st_mode)
                and status.st_mode & 0o002
                and not OPEN.match(path)
                and os.stat(f"/run/{os.path.dirname(path)}").st_mode & 0o001
            ):
                _, pid = holders.get(inode.rpartition(" ")[2], ("", ""))
                unit = unit_of(pid) if pid else ""
                if status.st_uid or unit in units:
                    found.append(f"opened\t{named(f'/run/{path}')}\t{unit}")
    return sorted(set(found))


GROUPS = "/sys/fs/cgroup"
PRIVATE = ("/var/log/journal/*/*.journal", "/dev/*", "/etc/*shadow?*")
MEMORY = ("mem", "kmem", "port")


# SYS-09: without it every account reads the logs, or writes to the disk past all permissions, once somebody has changed one mode.
def exposed() -> list[str]:
    """Journals and copies of passwords' hashes that every account may read; disks and memory that every account may read or write."""
    found = []
    for path in (path for place in PRIVATE for path in glob.iglob(place)):
        with contextlib.suppress(OSError):
            mode = os.lstat(path).st_mode
            raw = stat.S_ISBLK(mode) or (stat.S_ISCHR(mode) and os.path.basename(path) in MEMORY)
            if mode & 0o006 and (raw or stat.S_ISREG(mode)) and not path.startswith("/dev/shm/"):
                found.append(f"exposed\t{named(path)}\t")
    return found


# AVL-01: without it a daemon whose control group is frozen counts as running (systemctl freeze).
def frozen() -> list[str]:
    """Units that stand still, by their control groups (cgroup.freeze)."""
    if not os.path.exists(f"{GROUPS}/cgroup.controllers"):
        return []  # control groups of version 1, which systemd cannot freeze
    states = glob.iglob(f"{GROUPS}/**/cgroup.freeze", recursive=True)
    groups = [os.path.dirname(state) for state in states if content(state).strip() == "1"]
    return [f"frozen\t{named(os.path.basename(group))}\t{named(group)}" for group in groups]


# SYS-08: without it root names a control group like a line of shell, and the repair of what runs there contains it.
UNIT = re.compile(r"[A-Za-z0-9:_.@\\-]{1,247}\.(?:service|scope)")
"""A service or scope, in the characters of systemd.unit(5)."""


def unit_of(pid: str) -> str:
    """The unit of a process; empty if it belongs to none."""
    with contextlib.suppress(OSError):
        for part in reversed(re.split("[/\n]", content(f"/proc/{pid}/cgroup"))):
            if UNIT.fullmatch(part):
                return part
    return ""


def process(program: str, pid: str, unit: str | None = None) -> str:
    """The value of a fact about a process: name of its program, number, and unit."""
    return f"{named(os.path.basename(program))} {pid} {unit_of(pid) if unit is None else unit}"
