"""Changes that cannot cut a site off: the host keeps the previous declaration, and rolls back unless the controller confirms.

``/var/lib/outpost/declared/NAME.tar`` holds the files of a shape as its last successful apply declared them. Later edits on the
host are not in it, and a copy without the office's seal is never restored (`outpost.onhost.observe.known`).
``/var/lib/outpost/previous/NAME`` holds that copy from before the last change, and ``undo``, the
script that restores the changed files from it and activates them. Before a change of packet filter, SSH, network or sudo,
which stand between the controller and the host, a timer is armed on the host. Only a new connection disarms it: one that was
open before survives rules that admit nobody. A restart of the host while a change waits for its confirmation
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
from outpost.transport.ssh import NEW, stop

SECONDS_VARIABLE = "OUTPOST_CONFIRM_WITHIN"
CONFIRM_WITHIN = 60
"""Seconds that a host waits for the confirmation; on a slow line a new connection takes three of them."""


def seconds() -> int:
    """How long the host waits before it rolls back."""
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
    """Shell lines that keep the files as last declared, and the commands that restore them.

    A file that the previous declaration did not have is removed on the way back if it did not exist; otherwise it stays,
    because nobody declared its earlier content. An older Outpost kept no declared files; then only the armed undo has those of the host.

    Args:
        live: Shell that prints commands which restore the present values: the old files do not name what only the new ones set.
        first: Nothing was applied here yet, so there is nothing to restore.
    """
    kept = f"{PREVIOUS}/{key}"
    if first:
        return [f"rm -rf {kept}"]
    undo = shell("undo", key=key, kept=kept, activate=activate)
    return [shell("keep-previous", key=key, kept=kept, paths=(*changed, *gone), live=live, undo=undo)]


def keep_declared(key: str, files: Sequence[File]) -> list[str]:
    """Shell lines that keep the files as declared; they keep nothing if somebody has edited one meanwhile."""
    if not files:
        return [f"rm -f {DECLARED}/{key}.tar {DECLARED}/{key}.seal"]
    ordered = sorted(files, key=lambda file: file.path)
    return [shell("keep-declared", key=key, files=ordered)]


def arm(key: str) -> list[str]:
    """Shell lines that make the host undo the next change, unless the controller confirms it in time.

    The timer counts from the start of systemd itself: each daemon-reload begins `OnActiveSec` again (systemd's issue
    31914), so that a host on which somebody reloads often would never roll back.
    """
    name = unit(key)
    return [
        f"mkdir -p -m 0700 {ARMED}; ln -sfn {PREVIOUS}/{key}/undo {ARMED}/{key}",
        f"systemctl stop --quiet {name}.timer 2>/dev/null || true; systemctl reset-failed {name}.service 2>/dev/null || true",
        "elapsed=$(($(python3 -c 'import time; print(time.monotonic_ns() // 1000)') - $(systemctl show -P UserspaceTimestampMonotonic)))",
        f"systemd-run --quiet --collect --on-startup=$((elapsed + {seconds()}000000))us --timer-property=AccuracySec=1s "
        f"--unit={name} /bin/sh {PREVIOUS}/{key}/undo",
    ]


def disarm(key: str) -> str:
    """The host's command that confirms a change; it fails if the host is already rolling back."""
    return (
        f"systemctl stop {unit(key)}.timer && ! systemctl is-active --quiet {unit(key)}.service "
        f"&& rm -f {ARMED}/{key}"
    )


def confirmation(key: str, *, armed: bool) -> StringCommand | FunctionCommand:
    """Confirm over an SSH connection of its own; rules of a packet filter cannot cut off a container.

    Args:
        armed: This run has armed the timer, so it must exist; otherwise an interrupted run may have armed it.
    """
    command = disarm(key) if armed else f"[ ! -e {ARMED}/{key} ] || {{ {disarm(key)}; }}"
    if not issubclass(host.connector_cls, (OpenSSHConnector, SSHConnector)):
        return StringCommand(command)
    return FunctionCommand(_confirm, [key, command], {})


def _confirm(state: State, host: Host, key: str, disarms: str) -> None:  # noqa: ARG001 (pyinfra passes both)
    """Disarm over a connection that did not exist before the change; without one the host rolls back by itself."""
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
    # sshd keeps the settings that it had when the shared connection was opened
    stop(configuration, host.name)
