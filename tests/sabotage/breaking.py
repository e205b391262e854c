"""What a sabotage is: something broken on a lab host on purpose, and the live checks that must notice it.

It uses an attack's switch (`outpost_lab.attack.weakness`): what it changes is saved on the host and restored
byte for byte. If a run was interrupted, the next one restores it.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from outpost_lab.attack.weakness import Weakness

Check = str
"""``mta::stranger_cannot_relay`` is ``test_stranger_cannot_relay`` of tests/live/test_mta.py, with all its parameters;
``…[TLS 1.1]`` is one of them."""


@dataclass(frozen=True)
class Sabotage:
    """A sabotage.

    Attributes:
        what: What is wrong, in a person's words.
        switch: How it is broken; its role chooses the host (``base``: any, so that they share the work).
        red: Checks that must turn red, each with every parameter unless one is named.
        looked_at: Role of the host that is checked, if it is another one.
    """

    what: str
    switch: Weakness
    red: tuple[Check, ...]
    looked_at: str = ""

    @property
    def role(self) -> str:
        """Role of the hosts that are checked; ``base`` for any."""
        return self.looked_at or self.switch.role


def broken(
    role: str,
    what: str,
    steps: str,
    *red: Check,
    keeps: tuple[str, ...] = (),
    activate: str = ":",
    undo: str = ":",
    looked_at: str = "",
) -> Sabotage:
    """A sabotage in shell commands.

    Args:
        keeps: Files or directories that are changed, put back afterwards.
        activate: Makes the daemon use the change, and later the restored files.
        undo: Reverts what is not in a file.
    """
    switch = Weakness(role=role, what=what, keeps=keeps, steps=steps, activate=activate, undo=undo)
    return Sabotage(what, switch, red, looked_at)


def edited(
    role: str, what: str, file: str, expression: str, *red: Check, activate: str = ":", looked_at: str = ""
) -> Sabotage:
    """A file changed by an extended regular expression of sed; it must change something."""
    return broken(
        role, what, edit(file, expression), *red, keeps=(file,), activate=activate, looked_at=looked_at
    )


def edit(file: str, expression: str) -> str:
    """The shell commands of `edited`, for a sabotage of several."""
    quoted = shlex.quote(file)
    return (
        f"before=$(md5sum {quoted}); sed -i -E {shlex.quote(expression)} {quoted}; "
        f'[ "$(md5sum {quoted})" != "$before" ]'
    )


def written(file: str, text: str) -> str:
    """Shell commands that write a new file."""
    return f"printf '%b' {shlex.quote(text)} > {shlex.quote(file)}"


def drop_ins_gone(role: str, *units: str, red: tuple[Check, ...]) -> Sabotage:
    """Remove the drop-ins that sandbox a daemon."""
    directories = tuple(f"/etc/systemd/system/{unit}.d" for unit in units)
    return broken(
        role,
        f"{', '.join(units)} without a sandbox",
        f"rm -r {' '.join(directories)}",
        *red,
        keeps=directories,
        activate="systemctl daemon-reload",
    )


BARE = (
    "CapabilityBoundingSet=~",
    "RestrictAddressFamilies=",
    "SystemCallFilter=",
    "SystemCallArchitectures=",
    "RestrictNamespaces=no",
    "UMask=0000",
    "ProtectSystem=no",
    "ProtectHome=no",
    "ProtectProc=default",
    "DevicePolicy=auto",
    *(
        f"{name}=no"
        for name in (
            "NoNewPrivileges", "PrivateDevices", "PrivateTmp", "PrivateUsers", "ProtectKernelTunables", "ProtectKernelModules",
            "ProtectKernelLogs", "ProtectControlGroups", "ProtectClock", "ProtectHostname", "LockPersonality",
            "MemoryDenyWriteExecute", "RestrictRealtime", "RestrictSUIDSGID",
        )
    ),
)  # fmt: skip
"""Settings that remove every restriction of a unit, also those in Debian's file."""


def laid_bare(role: str, *units: str, red: tuple[Check, ...]) -> Sabotage:
    """Remove the sandbox of these daemons, the office's and Debian's."""
    files = [f"/etc/systemd/system/{unit}.d/zz-trial.conf" for unit in units]
    text = r"\n".join(("[Service]", *BARE, ""))
    return broken(
        role,
        f"{', '.join(units)} without a sandbox",
        "; ".join(written(file, text) for file in files),
        *red,
        undo=f"rm -f {' '.join(files)}",
        activate="systemctl daemon-reload",
    )


def unit_laid_bare(role: str, unit: str, *red: Check) -> Sabotage:
    """The same for a unit of the office, whose sandbox is in the unit itself."""
    return edited(
        role,
        f"{unit} without a sandbox",
        f"/etc/systemd/system/{unit}",
        "/^(Capability|NoNew|Protect|Private|Restrict|SystemCall|Lock|Memory(Deny)|Proc)/d",
        *red,
        activate="systemctl daemon-reload",
    )


def stopped(role: str, *units: str, red: tuple[Check, ...], looked_at: str = "") -> Sabotage:
    """Units that do not run."""
    names = " ".join(units)
    return broken(
        role,
        f"{', '.join(units)} {'has' if len(units) == 1 else 'have'} stopped",
        f"systemctl stop {names}",
        *red,
        undo=f"systemctl start {names}",
        looked_at=looked_at,
    )


def closed_to_nobody(role: str, what: str, files: str, mode: str, back: str, *red: Check) -> Sabotage:
    """Files with another mode; the old one comes back afterwards."""
    return broken(role, what, f"chmod {mode} {files}", *red, undo=f"chmod {back} {files}")
