"""The known state: what stood there when the last apply came to its end, and what differs from it."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import subprocess
import sys

from outpost.onhost.observe.declared import APPLIED as RECORDS
from outpost.onhost.observe.declared import KNOWN as STATES
from outpost.onhost.observe.declared import STATE as OWN
from outpost.onhost.observe.reading import fingerprint

STATE, APPLIED, KNOWN = map(pathlib.Path, (OWN, RECORDS, STATES))


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


def begun(now: set[str], before: set[str]) -> set[str]:
    """What was known to be enabled and runs since the host was restarted: packages start no timer while they are installed."""
    enabled = {
        line.split("\t")[1] for line in before if line.startswith("unit\t") and "\tenabled for " in line
    }
    return {line for line in now - before if line.startswith("running\t") and line.split("\t")[1] in enabled}


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


def compared(states: list[str], faults: list[str]) -> dict[str, object]:
    """What `look` prints: how the present state differs from the known one, and the faults."""
    before = known()
    now = set(states)
    passing = newer(now, before) if before is not None else set()
    if before is not None and passing & before:  # what an upgrade, or a package that went, brings along
        there = {line.split("\t")[1] for line in now if line.startswith("mode\t")}
        passing |= {line for line in now ^ before if line.startswith("alias\t")}
        passing |= {
            line for line in before - now if line.startswith("mode\t") and line.split("\t")[1] not in there
        }
    return {
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


def remember(states: list[str]) -> None:
    """Make the present state the known one, except for the facts on standard input: those stay as they were known."""
    strange = set(sys.stdin.read().splitlines())
    keep = (set(states) - strange) | (strange & (known() or set()))
    STATE.mkdir(mode=0o700, exist_ok=True)
    new = KNOWN.with_suffix(".new")
    new.write_text("".join(f"{line}\n" for line in sorted(keep)))
    new.chmod(0o600)
    keep_copies(keep, set(states))
    new.replace(KNOWN)


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
