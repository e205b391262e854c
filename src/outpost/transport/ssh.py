"""How OpenSSH reaches the hosts of an office: one generated configuration, for everything that logs in.

It holds each host's address, account and pinned key, and keeps the connection open, so that only the first command
pays for the handshake (docs/adr/0013). ``ssh -F FILE mta`` uses it by hand. The user's own ``~/.ssh/config`` is read
after it, for jump hosts and agents.
"""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path

from outpost.office.model import Office
from outpost.office.tables.topology import Host

KEPT = "90m"
"""How long a connection that nobody uses stays open: an hourly re-apply finds it."""
NOT_LENT = ("ForwardAgent", "ForwardX11", "GSSAPIDelegateCredentials", "PermitLocalCommand", "Tunnel")
"""What no host is given, whatever the user's own configuration says (ssh_config(5))."""
LANGUAGE = "env LC_ALL=C.UTF-8"
"""Before each command: an administrator's session has the host's language, and what sudo says in it nobody here understands."""
NEW = ("-o", "ControlMaster=no", "-o", "ControlPath=none")
"""Options for a connection that did not exist before."""


def target(office: Office, host: Host) -> tuple[str, str, int]:
    """User, address and port that the controller logs in with."""
    if host.ssh:
        user, _, rest = host.ssh.rpartition("@")
        address, _, port = rest.rpartition(":") if rest.count(":") == 1 or "]" in rest else (rest, "", "")
        return user or office.ssh.user, address.strip("[]"), int(port or 22)
    addresses = office.addresses_of_kind(host, "management") or host.all_addresses
    return office.ssh.user, str(addresses[0]), 22


def configuration(office: Office, directory: Path) -> Path:
    """The file for ``ssh -F``, written when it differs. It and the open connections are the user's alone.

    Args:
        directory: Where ``known_hosts`` is, and ``ssh_key`` unless the user's own keys are meant.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "outpost" / "ssh"
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    cache.chmod(0o700)
    file = cache / f"{hashlib.sha256(str(directory.resolve()).encode()).hexdigest()[:12]}.conf"
    text = _text(office, directory.resolve(), cache)
    if not file.exists() or file.read_text(encoding="utf-8") != text:
        new = file.with_suffix(f".{os.getpid()}-{threading.get_ident()}")  # threads ask for it side by side
        new.write_text(text, encoding="utf-8")
        new.replace(file)
    return file


def _text(office: Office, directory: Path, cache: Path) -> str:
    lines = [f"# Made by Outpost for {office.domain}."]
    for host in office.hosts:
        user, address, port = target(office, host)
        lines += [f"Host {host.name}", f"    HostName {address}", f"    User {user}", f"    Port {port}"]
    lines += ["Host *"]
    key = directory / "ssh_key"
    if key.is_file():
        lines += [f'    IdentityFile "{key}"', "    IdentitiesOnly yes"]
    lines += [
        f'    UserKnownHostsFile "{directory / "known_hosts"}"',
        # else a line of /etc/ssh/ssh_known_hosts, a record in the DNS or a command vouches for a host's key, too
        "    GlobalKnownHostsFile /dev/null",
        "    VerifyHostKeyDNS no",
        "    KnownHostsCommand none",
        "    StrictHostKeyChecking yes",
        "    UpdateHostKeys no",
        # SSH-02: else a line of ~/.ssh/config for all hosts lends the administrator's agent, and with it every other host, to
        # one that was taken over, for as long as the connection is kept
        *(f"    {option} no" for option in NOT_LENT),
        "    ClearAllForwardings yes",
        "    BatchMode yes",
        "    ConnectTimeout 30",
        "    PreferredAuthentications publickey",
        "    Compression yes",
        "    ServerAliveInterval 15",
        "    ControlMaster auto",
        f"    ControlPersist {KEPT}",
        f'    ControlPath "{cache}/%C"',
        "Include ~/.ssh/config",
        "Match final all",  # the user's file once more, for what it says of the address
    ]
    return "\n".join(lines) + "\n"
