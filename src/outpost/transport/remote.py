"""Run a shell script on a host, by the connector of the inventory; the script goes to standard input, never to argv."""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from outpost.errors import OutpostError
from outpost.office.model import Office
from outpost.office.tables.topology import Host
from outpost.target import Target
from outpost.transport import answers, ssh

_T = TypeVar("_T")
PATIENCE = 120.0  # seconds
ANSWER = 45.0
"""Seconds until a host must have sent something; ssh gives up after 35."""


def run_script(
    target: Target,
    office: Office,
    host: Host,
    script: str,
    via: str | None = None,
    *,
    patience: float = PATIENCE,
    most: int = answers.MOST,
) -> str:
    """Run a script as root on a host; returns its standard output, which the host controls (`outpost.transport.answers`)."""
    command = shell_command(target, office, host, via)
    otherwise = f"./outpost plan {target.typed} --limit {host.name}"
    try:
        return carried_out(host.name, command, script, otherwise, patience=patience, most=most)
    except OutpostError as error:
        raise OutpostError(error.message, typeable(error.remedy, office, host)) from None


def typeable(remedy: str, office: Office, host: Host) -> str:
    """A remedy with the account and the address of the host."""
    user, address, _ = ssh.target(office, host)
    return re.sub(r"\bADDRESS\b", address, re.sub(r"\bUSER\b", user, remedy))


def of_each(hosts: Iterable[Host], ask: Callable[[Host], _T]) -> dict[str, _T]:
    """Host → its answer; all are asked side by side."""
    asked = tuple(hosts)
    with answers.Pool(max(1, len(asked))) as pool:
        return dict(zip((host.name for host in asked), pool.map(ask, asked), strict=True))


def carried_out(
    name: str, command: Sequence[str], script: str, otherwise: str, *, patience: float, most: int
) -> str:
    """The standard output of a script, by a command that starts a shell on a machine.

    Args:
        otherwise: The remedy if it was reached and the script failed.
    """
    try:
        done = answers.exchange(command, script.encode(), patience=patience, most=most)
    except TimeoutError:
        raise OutpostError(f"{name} did not answer within {patience:.0f} s", "check its console") from None
    except answers.TooMuchError:
        raise OutpostError(
            f"{name} answered more than {most // 1024**2} MiB", "check the host before you trust it"
        ) from None
    if done.status:
        message = done.errors.decode(errors="replace")
        last = answers.line((message.strip().splitlines() or ["no message"])[-1])
        raise failure(name, message) or OutpostError(f"{name}: {last}", otherwise)
    return done.out.decode(errors="replace")


SUDOERS = "run echo 'USER ALL=(ALL:ALL) NOPASSWD: ALL' > /etc/sudoers.d/outpost-admin, as root on the host"
SHELL = "run usermod --shell /bin/bash USER, as root on the host"
TALKATIVE = "its account's login shell prints text of its own before each answer"
QUIET = "run sed -i '1i [ -t 1 ] || return' ~USER/.bashrc, as root on the host: without a terminal it then prints nothing"
UNCONFIGURED = "dpkg: error processing package"
"""dpkg's words for a package whose own scripts fail; apt-get tries it again at each call, and fails."""
UNFINISHED = "run dpkg --audit; repair what it names, or run apt-get purge with that name; then run apt-get --fix-broken install, as root on the host"
UNKNOWN = "its SSH host key is not in known_hosts"
NAMELESS = "its name is not known"
LOST = (" port 22 timed out", "timeout, server ")
"""Words of ssh, in lower case, when a host that was reached does not answer any more."""
FULL = ("no space left on device", "enough free space")
"""What programs print on a full disk, in lower case."""
REASONS = (
    (
        "identification has changed",
        "its SSH host key differs from known_hosts: another machine answers, or it was reinstalled",
        "compare its key with its console: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub; then correct known_hosts beside "
        "the office file",
    ),
    (
        "host key verification failed",
        UNKNOWN,
        "add it to known_hosts beside the office file: ssh-keyscan -t ed25519 ADDRESS, compared with its console",
    ),
    (
        r"permission denied \(",  # ssh lists the methods that it tried; a host's program that may not read a file does not
        "it refuses your SSH keys",
        "run ssh-copy-id USER@ADDRESS; run ssh-add -l to see your keys",
    ),
    ("a password is required", "sudo asks for a password there", SUDOERS),
    (
        "must have a tty",
        "sudo wants a terminal there (requiretty)",
        "run echo 'Defaults:USER !requiretty' >> /etc/sudoers.d/outpost-admin, as root on the host",
    ),
    ("unmatched '", "the login shell of its account is csh, which misreads commands", SHELL),
    (
        "sudo: (command )?not found",
        "it has no sudo",
        "run apt-get install sudo, as root on the host",
    ),
    ("not in the sudoers file", "its account may not use sudo", SUDOERS),
    (
        "password change required",
        "the password of its account has expired, so nobody can log in without a terminal",
        "run chage --maxdays -1 --lastday -1 USER, as root on the host: SSH takes keys only",
    ),
    (
        "your account has expired",
        "its account has expired",
        "run chage --expiredate -1 USER, as root on the host",
    ),
    (
        "too many authentication failures",
        "it refused the first keys that your SSH agent offers, and read no more of them",
        "run ssh-add -D; then ssh-add with the file of the key for this host",
    ),
    (
        "connection timed out",
        "it does not answer",
        "switch it on; compare its address with office.toml; allow SSH in the site's firewall",
    ),
    (
        f"failed to connect to new control master|{LOST[0]}",
        "it does not answer any more, or a login there takes longer than 30 s",
        "check its console and its network; if logins are slow there, run journalctl -u ssh and correct what they wait for (DNS, LDAP, PAM)",
    ),
    (
        "|".join(LOST[1:]),
        "it does not answer any more",
        "check its console and its network; then run the same command again",
    ),
    (
        "no route to host",
        "no machine has its address",
        "switch it on; compare its address with office.toml, and your route to it",
    ),
    (
        "connection refused",
        "nothing listens for SSH at its address",
        "run systemctl start ssh at its console",
    ),
    (
        "connection closed by |kex_exchange_identification: ",
        "it closes the connection before anybody logs in",
        "read journalctl -u ssh at its console; allow your address where something counts logins there (fail2ban, MaxStartups)",
    ),
    (
        "|".join(FULL),
        "its disk is full",
        "run df -h and df -i, as root on the host; delete what is not needed, or enlarge the full file system; then run the same command again",
    ),
    ("could not resolve hostname", NAMELESS, "write an address into hosts.NAME.ssh"),
    ("is not running", "its container does not run", "run ./outpost lab up"),
)
"""Pattern of a message of ssh, sudo or docker (in lower case) → meaning and remedy."""


def failure(host: str, message: str) -> OutpostError | None:
    """Why a host was not reached, with the remedy for that; None if it was reached and something else failed."""
    text = message.lower()
    for pattern, means, remedy in REASONS:
        if re.search(pattern, text):
            return OutpostError(f"{host}: {means}", remedy)
    return None


def unreached(
    target: Target, office: Office, names: Iterable[str], via: str | None = None
) -> dict[str, OutpostError]:
    """Hosts that do not answer the controller, asked side by side: the reason and the remedy. Together they take as long as one of ssh's timeouts."""

    def one(host: Host) -> OutpostError | None:
        try:
            run_script(target, office, host, "true\n", via, patience=ANSWER)
        except OutpostError as error:
            return error
        return None

    answers = of_each(map(office.host, dict.fromkeys(names)), one)
    return {name: error for name, error in answers.items() if error}


def shell_command(target: Target, office: Office, host: Host, via: str | None = None) -> list[str]:
    """The command that starts a root shell on a host; the shell reads its script from standard input."""
    if target.inventory(via).stem == "docker":
        return ["docker", "exec", "--interactive", f"outpost-{target.instance}-{host.name}", "sh", "-s"]
    user, _, _ = ssh.target(office, host)
    shell = f"{ssh.LANGUAGE} {'sh -s' if user == 'root' else 'sudo -n sh -s'}"
    return ["ssh", "-F", str(ssh.configuration(office, target.data)), host.name, shell]
