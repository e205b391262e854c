"""A shell script on a host, by the connector that the inventory uses; the script goes by standard input, never argv."""

from __future__ import annotations

import subprocess

from outpost import ssh
from outpost.errors import OutpostError
from outpost.office.model import Office
from outpost.office.tables.topology import Host
from outpost.target import Target

PATIENCE = 120.0  # seconds


def run_script(
    target: Target,
    office: Office,
    host: Host,
    script: str,
    via: str | None = None,
    *,
    patience: float = PATIENCE,
) -> str:
    """Run a script as root on a host; gives its standard output.

    Args:
        patience: Seconds that it may take.

    Raises:
        OutpostError: The host cannot be reached, or the script failed; with its last line.
    """
    command = shell_command(target, office, host, via)
    try:
        done = subprocess.run(
            command, input=script, capture_output=True, text=True, check=False, timeout=patience
        )
    except subprocess.TimeoutExpired:
        raise OutpostError(
            f"{host.name} did not answer within {patience:.0f} s", "look at its console"
        ) from None
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise OutpostError(f"{host.name}: {said}", f"./outpost plan {target.name} --limit {host.name}")
    return done.stdout


def shell_command(target: Target, office: Office, host: Host, via: str | None = None) -> list[str]:
    """The command that starts a root shell on a host, which reads its script from standard input."""
    if target.inventory(via).stem == "docker":
        return ["docker", "exec", "--interactive", f"outpost-{target.instance}-{host.name}", "sh", "-s"]
    user, _, _ = ssh.target(office, host)
    shell = "sh -s" if user == "root" else "sudo -n sh -s"
    return ["ssh", "-F", str(ssh.configuration(office, target.data)), host.name, shell]
