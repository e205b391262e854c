"""Units: enabled, running, failed, and older than their files."""

import collections
import collections.abc
import contextlib
import glob
import os
import re

from outpost.onhost.observe.places import TRANSIENT
from outpost.onhost.observe.reading import content, lines_of, named

COMES_AND_GOES = re.compile(
    r"^((user|user-runtime-dir)@\d+\.service|(init|session-c?\d+)\.scope|(getty|serial-getty)@\w+\.service|outpost-undo-\w+\.timer|(apt-daily|apt-daily-upgrade|apt-listchanges|dpkg-db-backup|"
    r"e2scrub_\w+|fstrim|logrotate|man-db|packagekit|phpsessionclean|polkit|roundcube-\w+|unattended-upgrades|outpost-[\w@-]+|"
    r"systemd-(hostnamed|timedated|localed|tmpfiles-\S+|journal\S+|logind|udevd\S*|networkd\S*|resolved\S*|timesyncd|fsck\S*|initctl|sysext|creds)"
    r")\.(service|socket))\Z"
)
NOTED = (
    ("session-", ".scope", "/run/systemd/sessions/"),
    ("outpost-undo-", ".timer", "/var/lib/outpost/armed/"),
)
"""Units of login sessions and of guarded changes: beginning and end of the name, and where their origin keeps a note of the rest."""
OF_A_MOMENT = (TRANSIENT, *(f"/run/systemd/generator{kind}" for kind in ("", ".early", ".late")))
"""Where systemd has units that no file in /etc or /usr declares (systemd.unit(5))."""
STANDING = ("running", "waiting", "listening")
UNIT_OF_FILE = re.compile(r"^/etc/systemd/system/([^/\n]+\.service)(?:\.d/.*)?$", re.MULTILINE)
SECURITY = (
    "LoadState", "FragmentPath", "DropInPaths", "User", "CapabilityBoundingSet", "NoNewPrivileges", "ProtectSystem",
    "ProtectHome", "PrivateTmp", "PrivateDevices", "RestrictAddressFamilies", "SystemCallFilter", "MemoryMax", "TasksMax",
    "ExecStart", "Environment", "ReadWritePaths",
)  # fmt: skip
LOADED = ("ActiveState", "NeedDaemonReload", "StateChangeTimestamp", "ExecMainStartTimestamp")


def enabled_units() -> list[str]:
    """Enabled and masked units, from the links that make them so."""
    found = []
    for top in ("/etc/systemd/system", "/run/systemd/system"):
        patterns = (f"{top}/{inner}" for inner in ("*.wants/*", "*.requires/*", "*.*"))
        links = (link for pattern in patterns for link in glob.glob(pattern) if os.path.islink(link))
        for above, name in map(os.path.split, links):
            if above == top:
                target = os.readlink(f"{top}/{name}")
                value = "masked" if target == "/dev/null" else f"link to {target}"
            else:
                value = f"enabled for {os.path.basename(above).rpartition('.')[0]}"
            found.append(f"unit\t{name}\t{value}")
    return found


def running_units(listed_units: list[str]) -> list[str]:
    """Units that run or wait."""
    found = []
    for line in listed_units:
        name, _, active, sub, *_ = line.split()
        kind = name.rpartition(".")[2] in ("service", "socket", "timer", "path", "scope")
        if kind and active != "failed" and sub in STANDING and not _comes_and_goes(name):
            found.append(f"running\t{name}\t")
    return found


# SYS-04: without it a program that somebody starts by systemd-run(1) is hidden by a name like that of a transient unit.
def _comes_and_goes(name: str) -> bool:
    """Whether the host itself starts and ends it; somebody started a unit with a file of a moment."""
    passing = COMES_AND_GOES.match(name)
    for begin, end, notes in NOTED:
        if name.startswith(begin) and name.endswith(end):
            return os.path.lexists(f"{notes}{name.removeprefix(begin).removesuffix(end)}")
    made = any(os.path.lexists(f"{place}/{name}") for place in OF_A_MOMENT)
    return passing is not None and (name.endswith((".timer", ".scope")) or not made)


def troubled_units(listed_units: list[str]) -> list[str]:
    return [
        f"failed\t{line.split()[0]}\t"
        for line in listed_units
        if line.split()[2] == "failed" and not line.startswith(("run-", "outpost-"))
    ]


def shown_units(declared_units: dict[str, list[str]], paths: set[str]) -> dict[str, list[str]]:
    """systemd's properties of the services that the office uses (systemctl(1), show), by their names."""
    every = {*declared_units, *UNIT_OF_FILE.findall("\n".join(sorted(paths)))}
    names = sorted(name for name in every if name.endswith(".service"))
    if not names:
        return {}
    wanted = ",".join((*SECURITY, *LOADED))
    lines = lines_of(f"systemctl show --timestamp=us+utc --property={wanted} {' '.join(names)}")
    blocks = (block.splitlines() for block in "\n".join(lines).split("\n\n"))
    return dict(zip(names, blocks, strict=False))


def stale(
    units: dict[str, list[str]], paths: set[str], shown: collections.abc.Callable[[], dict[str, list[str]]]
) -> list[str]:
    """Units whose files were written after the daemon last loaded them."""
    import datetime  # modules that take time to load, and are rarely needed

    loads: dict[str, set[tuple[str, str]]] = collections.defaultdict(set)
    for unit, own in units.items():
        for path in own:
            if not path.startswith("/etc/systemd/system/") and unit.endswith(".service"):
                loads[unit].add((path, "StateChangeTimestamp"))
    for path in paths:
        if path.endswith("/limits.conf"):
            continue  # systemd applies these to a running daemon
        if match := UNIT_OF_FILE.match(path):
            loads[match[1]].add((path, "ExecMainStartTimestamp"))
    found = []
    for name in sorted(loads):
        values = dict(line.partition("=")[::2] for line in shown().get(name, ()))
        if values.get("NeedDaemonReload") == "yes":
            found.append(f"stale\t{name}\tits unit file or a drop-in")
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


def manager(environment: list[str]) -> list[str]:
    """The environment that systemd gives every daemon; its language is set at boot.

    Args:
        environment: As systemctl(1) shows it: a value with other signs than usual is quoted as bash(1) has it.
    """
    found = []
    for name, _, value in (line.partition("=") for line in environment):
        if value.startswith("$'"):
            value = re.sub(r"[\\](['\\])", r"\1", value[2:-1])
        if not name.startswith(("LANG", "LC_")):
            found.append(f"manager\t{name}\t{value}")
    return found


SILENT = (
    "LogTarget=null",
    "ServiceWatchdogs=no",
    *(f"LogLevel={level}" for level in ("emerg", "alert", "crit", "err")),
)


# LOG-01: without it somebody silences systemd itself, and no file shows it.
def muted(settings: list[str]) -> list[str]:
    """What somebody turned off in the running systemd: its messages, or that it ends services that hang (systemctl(1))."""
    return ["\t".join(("muted", *line.split("="))) for line in settings if line in SILENT]


EXPORTED = "/run/systemd/units/log-"
"""How the links begin by which systemd tells journald what to drop of a unit's messages."""
PATTERNS = "user.journald_log_filter_patterns"
"""The attribute of a unit's control group that does the same (systemd.exec(5), LogFilterPatterns=)."""
LOGGING = {
    "level-max": "LogLevelMax", "rate-limit-interval": "LogRateLimitIntervalSec", "rate-limit-burst": "LogRateLimitBurst",
}  # fmt: skip
"""What is in such a link's name → the setting that makes it."""


# LOG-01: without it somebody makes journald drop the messages of one unit, and no unit's file shows it.
def hushed() -> list[str]:
    """Units of whose messages journald drops some, although their files do not say so."""
    found = []
    for path in glob.iglob(f"{EXPORTED}*"):
        what, _, unit = path.removeprefix(EXPORTED).partition(":")
        if what in LOGGING and not mention(unit, rf"^{LOGGING[what]}="):
            found.append(f"hushed\t{named(unit)}\t{named(path)}")
    for path in glob.iglob("/sys/fs/cgroup/**/*.service", recursive=True):
        with contextlib.suppress(OSError):
            if PATTERNS in os.listxattr(path) and not mention(os.path.basename(path), "^LogFilterPatterns="):
                found.append(f"hushed\t{named(os.path.basename(path))}\t{named(path)}")
    return sorted(found)


def mention(unit: str, setting: str) -> bool:
    """Whether a unit's files, which are compared themselves, have such a line.

    Args:
        setting: Regular expression.
    """
    names = {unit, re.sub(r"@.*(?=\.)", "@", unit)} - {""}
    tops = [f"{place}/{glob.escape(name)}" for place in OF_UNITS for name in names]
    paths = (path for top in tops for path in (top, *glob.glob(f"{top}.d/*.conf")) if os.path.isfile(path))
    return any(re.search(setting, content(path), re.MULTILINE) for path in paths)


OF_UNITS = ("/etc/systemd/system", "/usr/lib/systemd/system")
SHUTDOWN = "/run/systemd/shutdown/scheduled"


def shutdown() -> list[str]:
    """A shutdown that somebody has scheduled (shutdown(8)); an upgrade may schedule a restart."""
    with contextlib.suppress(FileNotFoundError):
        mode = re.search(r"^MODE=(\S+)", content(SHUTDOWN), re.MULTILINE)
        if not mode or mode[1] != "reboot":
            return [f"scheduled\tshutdown\t{named(mode[1]) if mode else ''}"]
    return []
