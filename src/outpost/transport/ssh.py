"""How OpenSSH reaches the hosts of an office: one generated configuration, for everything that logs in.

It holds each host's address, account and pinned key, and keeps the connection open, so that only the first command
pays for the handshake (docs/adr/0013). ``ssh -F FILE mta`` uses it by hand. The user's own ``~/.ssh/config`` is read
after it, for jump hosts and agents.
"""

import hashlib
import os
import subprocess
from pathlib import Path

from outpost.office.model import Office
from outpost.office.tables.topology import Host, parted
from outpost.target import written
from outpost.templates import environment, render

LANGUAGE = "env LC_ALL=C.UTF-8"
"""Before each command: otherwise sudo's messages would be in the host's language."""
NEW = ("-o", "ControlMaster=no", "-o", "ControlPath=none")
"""Options for a new connection."""


def target(office: Office, host: Host) -> tuple[str, str, int]:
    """User, address and port that the controller logs in with."""
    if host.ssh:
        user, address, port = parted(host.ssh)
        return user or office.ssh.user, address, port
    addresses = office.addresses_of_kind(host, "management") or host.all_addresses
    return office.ssh.user, str(addresses[0]), 22


def configuration(office: Office, directory: Path) -> Path:
    """Write the file for ``ssh -F`` if it differs. It and the open connections belong to the user only.

    Args:
        directory: Where ``known_hosts`` is, and ``ssh_key`` unless the user's own keys are meant.
    """
    reached = {host.name: target(office, host) for host in office.hosts}
    return _written(reached, directory, office.domain)


def stop(config: Path | str, name: str) -> None:
    """Let the next command open a new connection; commands that run go on.

    sshd keeps the login shell that the account had when the shared connection was opened.
    """
    subprocess.run(["ssh", "-F", str(config), "-O", "stop", name], capture_output=True, check=False)


def server_configuration(login: str, name: str, directory: Path) -> Path:
    """The same for one machine that is no host of the office. The user, or the office's file, must know its key.

    Args:
        login: `user@address:port`.
        name: Its name for ``ssh -F``.
    """
    user, address, port = parted(login)
    own = Path.home() / ".ssh" / "known_hosts"
    return _written({name: (user or "root", address, port)}, directory, login, own)


def _written(reached: dict[str, tuple[str, str, int]], directory: Path, made_for: str, *known: Path) -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "outpost" / "ssh"
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    cache.chmod(0o700)
    here = directory.resolve()
    place = "\n".join([str(here), *([f"# Made by Outpost for {made_for}."] if known else [])])
    file = cache / f"{hashlib.sha256(place.encode()).hexdigest()[:12]}.conf"
    facts = {"made_for": made_for, "reached": reached, "key": here / "ssh_key", "cache": cache}
    known = (here / "known_hosts", *known)
    text = render(environment(Path(__file__).parent), "ssh.conf.j2", facts | {"known": known})
    if not file.exists() or file.read_text(encoding="utf-8") != text:
        written(file, text)
    return file
