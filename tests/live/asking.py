"""Questions to a host that needs only a shell; DNS answers are dnspython messages."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Iterable

import dns.flags
import dns.message
from testinfra.host import Host as TestinfraHost

from outpost.office import Office
from outpost.office.tables.values import IPAddress
from outpost_lab import pace

_ASK_EACH = """
for question in $*; do
  exec 3<>/dev/tcp/$SERVER/53
  echo "$question" | base64 -d >&3
  head -c 2 <&3 | od -An -tu1 | { read high low; head -c $((high * 256 + low)) <&3; } | base64 -w0
  echo
  exec 3>&-
done
"""


def ask(
    host: TestinfraHost, server: str, questions: Iterable[dns.message.Message]
) -> list[dns.message.Message]:
    """Send queries to a server over TCP, all in one command on the host; returns the answers in this order."""
    wires = (question.to_wire() for question in questions)
    encoded = [base64.b64encode(len(wire).to_bytes(2) + wire).decode() for wire in wires]
    script = f"SERVER={shlex.quote(server)}; set -- {' '.join(encoded)}; {_ASK_EACH}"
    done = host.run(f"timeout {120 * pace.load():.0f} bash -c %s", script)
    answers = done.stdout.splitlines()
    assert done.rc == 0 and all(answers), f"{server} does not answer: {done.stderr}"  # noqa: PT018
    assert len(answers) == len(encoded), f"{server} closed the connection: {done.stdout!r}"
    return [dns.message.from_wire(base64.b64decode(answer)) for answer in answers]


def modes(host: TestinfraHost, *paths: str) -> list[str]:
    """Owner, group and mode of each file: ``root knot 640``."""
    listed: str = host.check_output(f"stat --dereference --format='%U %G %a' {shlex.join(paths)}")
    return listed.splitlines()


def account(host: TestinfraHost, name: str) -> tuple[str, list[str]]:
    """An account's shell, and the groups that it is in."""
    output = host.check_output("getent passwd %s && id --name --groups %s", name, name)
    entry, groups = output.splitlines()
    return entry.rpartition(":")[2], groups.split()


LOGINS = ("imap-login", "submission-login", "managesieve-login")
"""Dovecot's services that accept connections of strangers."""
_DOVECOT = (
    "auth_cache_size",
    "auth_debug",
    "auth_debug_passwords",
    "auth_failure_delay",
    "auth_verbose_passwords",
    "login_trusted_networks",
    "mail_max_userip_connections",
    "passdb/lua/passdb_fields/allow_real_nets",
    "quota_mailbox_count",
    "quota_message_count",
    "quota_storage_grace",
    "sieve_max_cpu_time",
    "sieve_max_redirects",
    "sieve_quota_script_count",
    "sieve_quota_storage_size",
    "sieve_vacation_min_period",
    "sieve_vacation_send_from_recipient",
    "sieve_redirect_envelope_from",
    *(f"service/{name}/{what}" for name in LOGINS for what in ("user", "chroot", "client_limit")),
    *(f"service/{name}/user" for name in ("indexer-worker", "lmtp", "quota-warning")),
    "service/imap-login/process_limit",
    "service/stats/client_limit",
    "submission_add_received_header",
    "submission_relay_ssl",
    "submission_relay_ssl_verify",
    "submission_relay_trusted",
    "submission_ssl",
)
_ON_DELIVERY = (
    "lmtp_add_received_header",
    "lmtp_rcpt_check_quota",
    "lmtp_save_to_detail_mailbox",
    "mail_fsync",
    "quota_full_tempfail",
)


def doveconf(host: TestinfraHost, *, delivery: bool = False) -> dict[str, str]:
    """The settings of Dovecot that checks read, as Dovecot understands them.

    Args:
        delivery: The settings for delivery (LMTP).
    """
    names, scope = (_ON_DELIVERY, "-f protocol=lmtp ") if delivery else (_DOVECOT, "")
    output = host.check_output(f"doveconf {scope}{' '.join(names)}")
    values = [line.partition("=")[2].strip() for line in output.splitlines() if " = " in line]
    assert len(values) == len(names), f"doveconf does not know each of {', '.join(names)}: {output}"
    return dict(zip(names, values, strict=True))


_UNBOUND = """
import socket, sys
for option in sys.argv[1:]:
    control = socket.socket(socket.AF_UNIX)
    control.connect("/run/unbound.ctl")
    control.sendall(f"UBCT1 get_option {option}\\n".encode())
    print(option, *control.makefile().read().split())
"""


def unbound(host: TestinfraHost, *options: str) -> dict[str, str]:
    """Options of the running Unbound, each by ``unbound-control get_option``."""
    output = host.check_output(f"python3 -ISc %s {' '.join(options)}", _UNBOUND)
    printed = (line.partition(" ") for line in output.splitlines())
    return {option: value.strip('"') for option, _, value in printed}


def not_ones_own(office: Office, user: str) -> str:
    """An address that a user may not send from: another mailbox, or an unused name if there is none."""
    others = (address for address in office.mailboxes if user not in office.senders.get(address, ()))
    return next(others, f"no-such-user@{office.domain}")


def at(address: IPAddress, port: int) -> str:
    """A socket address in openssl's form."""
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"


CLOCK = "chronyc -n -c -m sources tracking"
"""A line for each of chrony's sources, and one with the state of the clock."""


def installed(host: TestinfraHost) -> set[str]:
    """Names of the packages that are installed."""
    listed = host.check_output("dpkg-query --show --showformat '${db:Status-Abbrev} ${Package}\\n'")
    return {line.split()[1] for line in listed.splitlines() if line.startswith("ii ")}


def query(name: str, rtype: str, *, recurse: bool = False, rdclass: str = "IN") -> dns.message.Message:
    """A query for signed records; recursion only on request."""
    message = dns.message.make_query(name, rtype, rdclass, want_dnssec=True)
    if not recurse:
        message.flags &= ~dns.flags.RD
    return message
