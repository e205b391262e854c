"""Changes that cannot cut a site off: the host keeps the former declaration, and rolls back unless the controller confirms.

``/var/lib/outpost/declared/NAME.tar`` holds the files of a shape as its last successful apply declared them; what somebody made of
them on the host since is not in it, and nothing goes back to a copy without the office's seal (`outpost.onhost.observe.known`).
``/var/lib/outpost/previous/NAME`` holds that copy as it was before the last change, and ``undo``, the
script that brings the changed files back from it and activates them. For what stands between the controller and the host (packet filter,
SSH, network, sudo) a change first arms a timer on the host; only a new connection disarms it, because one that was
open before outlives rules that let nobody in again. A restart of the host while a change waits for its confirmation
undoes it too (``outpost-undo.service``), before the packet filter is loaded.
"""

import os
import shlex
import subprocess
from collections.abc import Sequence
from typing import Any

from pyinfra.api.command import FunctionCommand, StringCommand
from pyinfra.api.exceptions import OperationError
from pyinfra.api.host import Host
from pyinfra.api.state import State
from pyinfra.connectors.ssh import SSHConnector
from pyinfra.context import host

from outpost.converge.files import ARMED, DECLARED, PREVIOUS, File, shell
from outpost.transport.connector import OpenSSHConnector
from outpost.transport.ssh import NEW

SECONDS_VARIABLE = "OUTPOST_CONFIRM_WITHIN"
CONFIRM_WITHIN = 60
"""Seconds that a host waits for the confirmation; a slow line needs three of them for a new connection."""


def seconds() -> int:
    """How long the host waits before it goes back."""
    return int(os.environ.get(SECONDS_VARIABLE, CONFIRM_WITHIN))


def unit(key: str) -> str:
    return f"outpost-undo-{key}"


def keep_previous(
    key: str,
    changed: Sequence[str],
    gone: Sequence[str],
    *,
    activate: str | None,
    live: str | None,
    first: bool,
) -> list[str]:
    """Shell lines that keep the files as they were declared last, and how to come back to them.

    What the previous declaration did not have is removed by the way back where it was not there, and stays where it was: what
    that was before, nobody has declared. An older Outpost kept no declared files; then only the undo that is armed has those of the host.

    Args:
        live: Shell that prints the commands which set what is in force now: what only the new files name, the old
            ones do not put back.
        first: Nothing has been applied here yet, so there is nothing to come back to.
    """
    kept = f"{PREVIOUS}/{key}"
    if first:
        return [f"rm -rf {kept}"]
    undo = shell("undo", key=key, kept=kept, activate=activate)
    return [shell("keep-previous", key=key, kept=kept, paths=(*changed, *gone), live=live, undo=undo)]


def keep_declared(key: str, files: Sequence[File]) -> list[str]:
    """Shell lines that keep the files as they are declared; nothing where somebody has edited one meanwhile."""
    if not files:
        return [f"rm -f {DECLARED}/{key}.tar {DECLARED}/{key}.seal"]
    ordered = sorted(files, key=lambda file: file.path)
    return [shell("keep-declared", key=key, files=ordered)]


def arm(key: str) -> list[str]:
    """Shell lines that make the host undo what comes next, unless the controller confirms it in time.

    The timer counts from the start of systemd itself: each daemon-reload begins `OnActiveSec` again (systemd's issue
    31914), so that a host at which somebody reloads often enough would never go back.
    """
    name = unit(key)
    return [
        f"mkdir -p -m 0700 {ARMED}; ln -sfn {PREVIOUS}/{key}/undo {ARMED}/{key}",
        f"systemctl stop --quiet {name}.timer 2>/dev/null || true; systemctl reset-failed {name}.service 2>/dev/null || true",
        "elapsed=$(($(python3 -c 'import time; print(time.monotonic_ns() // 1000)') - $(systemctl show -P UserspaceTimestampMonotonic)))",
        f"systemd-run --quiet --collect --on-startup=$((elapsed + {seconds()}000000))us --timer-property=AccuracySec=1s "
        f"--unit={name} /bin/sh {PREVIOUS}/{key}/undo",
    ]


def rearm(key: str) -> list[str]:
    """The same once more, with all of the time, for what a run that broke off has left armed."""
    return [f"if [ -e {ARMED}/{key} ]; then", *arm(key), "fi"]


def disarm(key: str) -> str:
    """The host's command for "all is well"; fails when it is going back already."""
    return (
        f"systemctl stop {unit(key)}.timer && ! systemctl is-active --quiet {unit(key)}.service "
        f"&& rm -f {ARMED}/{key}"
    )


def confirmation(key: str, *, armed: bool) -> StringCommand | FunctionCommand:
    """Over SSH a connection of its own; a container is reached by no network that rules could close.

    Args:
        armed: This run has armed it, so that it must be there; else a run that broke off may have.
    """
    command = disarm(key) if armed else f"[ ! -e {ARMED}/{key} ] || {{ {disarm(key)}; }}"
    if not issubclass(host.connector_cls, (OpenSSHConnector, SSHConnector)):
        return StringCommand(command)
    return FunctionCommand(_confirm, [key, command], {})


def _confirm(state: State, host: Host, key: str, disarms: str) -> None:  # noqa: ARG001 (pyinfra passes both)
    """Disarm over a connection that did not exist before the change; without one the host goes back by itself."""
    data: Any = host.data
    configuration = data.get("openssh_config")
    if configuration is None:
        raise OperationError(
            f"{host.name}: {key} must be confirmed over a new connection, and this inventory configures none; the host "
            "restores the previous file by itself. Remedy: use an inventory made by outpost.hosts.ssh"
        )
    command = ["ssh", "-F", configuration, *NEW, "-o", "ConnectTimeout=10", host.name]
    prefix = "sudo -n " if data.get("_sudo") else ""
    wait = max(seconds() - 2, 5)
    try:
        done = subprocess.run(
            [*command, f"{prefix}sh -c {shlex.quote(disarms)}"],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=wait, check=False,
        )  # fmt: skip
        printed, good = done.stderr.strip().splitlines(), done.returncode == 0
    except subprocess.TimeoutExpired:
        printed, good = [], False
    if not good:
        why = printed[-1] if printed else "no answer"
        raise OperationError(
            f"no new connection to the host after the change of {key} ({why}); the host restores "
            f"the previous files within {seconds()} s"
        )
