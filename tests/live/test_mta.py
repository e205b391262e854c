"""Promises of the MTA, asked of its daemons: strangers can do only what is allowed, and all mail is scanned.

Every dialogue ends before a message is accepted, or with a message that must be refused: no mail is left behind.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import dns.rcode
import pytest
from testinfra.host import Host as TestinfraHost

from outpost.office import Host, Office, ports
from outpost.office.tables.values import IPAddress
from outpost.target import Target
from roles.mta.view import MtaView
from tests.live.asking import ask, at, modes, not_ones_own, query
from tests.live.conftest import reach
from tests.live.pending import pend, pointers, unless_delegated
from tests.live.speaking import OLD_OFFERS, TLS, answers_to, speak
from tests.live.systemd import Units

pytestmark = [
    pytest.mark.role("mta"),
    pytest.mark.looks,
    pytest.mark.daemons("'postfix*'", "rspamd", "clamav-daemon"),
]

UNITS = (
    "postfix.service",
    "rspamd.service",
    "redis-server.service",
    "clamav-daemon.service",
    "stunnel@scanner.service",
    "stunnel@learning.service",
)
HELLO = "EHLO check.invalid"
STRANGER = "MAIL FROM:<>"
CERTIFICATE = f"-cert {TLS}/host.pem -key {TLS}/host.key"
EICAR = ("X5O!P%@AP[4\\\\PZX54(P^)7CC)7}$EI", "CAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*")
RELAY_FORMS = (
    "victim@elsewhere.example",
    "victim%elsewhere.example@{domain}",
    '"victim@elsewhere.example"@{domain}',
    "@{domain}:victim@elsewhere.example",
    "elsewhere.example!victim@{domain}",
    "victim@[192.0.2.1]",
)
GTUBE = ("XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD", "-ANTI-UBE-TEST-EMAIL*C.34X")


@pytest.fixture(scope="module")
def view(office: Office, me: Host) -> MtaView:
    """The host as the mta role derives it."""
    return MtaView(office, me)


@pytest.fixture(scope="module")
def edge(office: Office, me: Host) -> IPAddress:
    """The address to which strangers connect."""
    return office.addresses_of_kind(me, "internet")[0]


@pytest.fixture(scope="module")
def relay(office: Office, me: Host) -> IPAddress:
    """Where the store hands over users' mail."""
    return office.link_addresses(me, office.with_role("store")[0])[0]


@pytest.fixture(scope="module")
def store(target: Target, office: Office, pytestconfig: pytest.Config) -> TestinfraHost:
    """The host whose certificate that listener accepts."""
    return reach(target, office, office.with_role("store")[0], pytestconfig)


@pytest.fixture(scope="module")
def webmail(target: Target, office: Office, pytestconfig: pytest.Config) -> TestinfraHost:
    """A host with a certificate of the same authority, which that listener refuses."""
    return reach(target, office, office.with_role("webmail")[0], pytestconfig)


# Settings of Rspamd; `rspamadm configdump --json` prints the same, and takes five times as long.
RSPAMD = """
local ok, why = rspamd_config:load_ucl("/etc/rspamd/rspamd.conf")
assert(ok, why)
local settings = {}
for _, section in ipairs({"antivirus", "classifier", "dkim_signing", "dmarc", "force_actions", "milter_headers", "options", "settings", "multimap"}) do
    settings[section] = rspamd_config:get_all_opt(section)
end
print(require("ucl").to_format(settings, "json-compact"))
"""


@pytest.fixture(scope="session")
def rspamd(host: TestinfraHost) -> dict[str, Any]:
    """Settings of modules as Rspamd understands them."""
    settings: dict[str, Any] = json.loads(host.check_output("rspamadm lua -e %s", RSPAMD))
    return settings


def refused(host: TestinfraHost, edge: IPAddress, *lines: str) -> str:
    """The answer to the last of these lines."""
    answers = speak(host, edge, ports.SMTP, [HELLO, *lines])
    assert len(answers) == len(lines) + 2, f"cut off: {answers}"
    return answers[-1]


def tables(value: str) -> list[str]:
    """The tables that a setting names."""
    return list(filter(None, re.split(r"[,\s]+", value)))


def found_in(host: TestinfraHost, named: Sequence[str], keys: Sequence[str]) -> dict[str, str]:
    """Postfix's value for each key, from the first table that has it; each table is asked for all keys that are still unknown."""
    found: dict[str, str] = {}
    for table in named:
        if wanted := [key for key in keys if key not in found]:
            output = host.run(f"printf '%%s\\n' {shlex.join(wanted)} | postmap -q - %s", table).stdout
            found |= {
                key: line.removeprefix(f"{key}\t")
                for key in wanted
                for line in output.splitlines()
                if line.startswith(f"{key}\t")
            }
    return found


# The host -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", UNITS)
def test_daemon_runs_and_comes_up_with_the_host(units: Units, unit: str) -> None:
    """The daemon runs, and starts when the host boots."""
    assert units.runs(unit)
    assert units.comes_up(unit)


@pytest.mark.probe
def test_postfix_finds_nothing_wrong_with_its_configuration(host: TestinfraHost) -> None:
    """Postfix finds no fault in its configuration."""
    checked = host.run("postfix check && postconf -n >/dev/null")
    assert checked.rc == 0
    assert checked.stderr == ""


@pytest.mark.control("INP-13")
def test_what_parses_strangers_words_is_unprivileged_and_chrooted(host: TestinfraHost) -> None:
    """Processes that parse strangers' input are unprivileged, and Postfix's run in a chroot."""
    entries = [line.split() for line in host.check_output("postconf -M").splitlines()]
    chroot = {entry[7]: entry[4] for entry in entries}
    parse = ("postscreen", "smtpd", "cleanup", "smtp", "lmtp", "bounce")
    assert [name for name in parse if chroot.get(name) != "y"] == []
    assert {entry[7] for entry in entries}.isdisjoint({"local", "pipe", "spawn", "virtual"})
    users = host.check_output("ps -o user= -C rspamd,clamd,redis-server").split()
    assert set(users) == {"_rspamd", "clamav", "redis"}


@pytest.mark.control("SYS-01")
@pytest.mark.parametrize("unit", UNITS)
def test_daemon_runs_in_a_sandbox(units: Units, unit: str) -> None:
    """The daemon runs in a sandbox (at most 4.0 by systemd-analyze security)."""
    assert units.exposure(unit) <= 4.0


@pytest.mark.control("REL-06")
def test_a_filter_that_was_broken_into_cannot_send_mail(host: TestinfraHost) -> None:
    """The spam filter's account cannot submit mail, so that a compromised filter cannot send any."""
    result = host.run("setpriv --reuid=_rspamd --regid=_rspamd --clear-groups sendmail postmaster </dev/null")
    assert result.rc != 0
    assert "not allowed to submit mail" in result.stderr


# Who gets mail --------------------------------------------------------------------------------------------------


@pytest.mark.probe
@pytest.mark.control("DSN-01", "DSN-06")
def test_unknown_recipient_is_refused_at_once_and_learns_nothing_else(
    host: TestinfraHost, edge: IPAddress, office: Office
) -> None:
    """An unknown recipient is rejected at RCPT, and the answer reveals nothing else."""
    name = f"<no-such-user@{office.domain}>"
    answer = refused(host, edge, STRANGER, f"RCPT TO:{name}")
    assert answer == f"550 5.1.1 {name}: Recipient address rejected: User unknown"


@pytest.mark.probe
@pytest.mark.control("DSN-01", "INP-01")
def test_recipients_that_the_store_rejects_are_rejected_before(
    host: TestinfraHost, store: TestinfraHost, edge: IPAddress, relay: IPAddress, office: Office
) -> None:
    """Recipients that the store would reject are rejected by the MTA already.

    If the store rejected them after the MTA's 250, a bounce would go to a sender who may be forged.
    """
    local, _, domain = office.mailboxes[0].partition("@")
    tags = ("\\x01", "\\x80", "\\xc3\\xa9", "\\x0b", "a..b", "x" * 70)
    recipients = [f"RCPT TO:<{local}+{tag}@{domain}>" for tag in tags] + [f'RCPT TO:<"{local}+ "@{domain}>']
    user = office.mailboxes[0]
    login = [HELLO, f"XCLIENT LOGIN={user}", HELLO, f"MAIL FROM:<{user}>"]
    outside = answers_to(host, edge, ports.SMTP, [HELLO, STRANGER], recipients)
    inside = speak(store, relay, ports.SUBMISSION_RELAY, [*login, *recipients], tls=CERTIFICATE)[
        -len(recipients) :
    ]
    for answers in (outside, inside):
        assert [answer[:3] for answer in answers] == ["553"] * 4 + ["501"] * 3, answers


@pytest.mark.probe
def test_every_address_of_the_office_is_known(host: TestinfraHost, edge: IPAddress, view: MtaView) -> None:
    """The office's addresses are accepted as recipients."""
    detailed = view.office.mailboxes[0].replace("@", "+detail@")
    known = (*view.office.mailboxes, *view.aliases, "postmaster", detailed)[: view.strangers_recipients]
    recipients = [f"RCPT TO:<{address}>" for address in known]
    answers = speak(host, edge, ports.SMTP, [HELLO, STRANGER, *recipients], whole=True)
    for address, answer in zip(known, answers[3:], strict=True):
        assert answer.startswith("250 2.1.5"), f"{address}: {answer}"


@pytest.mark.probe
@pytest.mark.control("REL-01")
def test_stranger_cannot_relay(host: TestinfraHost, edge: IPAddress, office: Office, view: MtaView) -> None:
    """A stranger cannot relay mail through the MTA."""
    forms = [form.format(domain=office.domain) for form in RELAY_FORMS]
    forms += [f"somebody@{route.peer.domains[0]}" for route in view.peers]
    recipients = [f"RCPT TO:<{form}>" for form in forms]
    answers = answers_to(host, edge, ports.SMTP, [HELLO, STRANGER], recipients)
    for form, answer in zip(forms, answers, strict=True):
        assert answer.startswith("554 5.7.1"), f"{form}: {answer}"


@pytest.mark.control("REL-01", "REL-02")
def test_the_mta_takes_mail_for_the_offices_domain_only(postconf: dict[str, str], office: Office) -> None:
    """The MTA accepts mail for the office's domain only, and sends neither the mail nor a copy to anybody else."""
    assert postconf["virtual_mailbox_domains"] == office.domain
    for name in ("mydestination", "relay_domains", "virtual_alias_domains"):
        assert postconf[name] == "", name
    for name in (
        "always_bcc",
        "sender_bcc_maps",
        "recipient_bcc_maps",
        "recipient_canonical_maps",
        "canonical_maps",
        "content_filter",
        "fallback_transport",
        "receive_override_options",
        "relayhost",
        "sender_canonical_maps",
        "sender_dependent_default_transport_maps",
        "sender_dependent_relayhost_maps",
        "smtp_body_checks",
        "smtp_fallback_relay",
        "smtp_generic_maps",
        "smtp_header_checks",
        "smtpd_command_filter",
    ):
        assert postconf[name] == "", name
    assert postconf.get("body_checks") == ""  # it has other ones for the MTA's own notifications


@pytest.mark.control("DKM-01")
def test_the_mtas_own_notifications_are_signed(postconf: dict[str, str]) -> None:
    """The MTA's own notifications pass through the filter, which signs them."""
    assert postconf["internal_mail_filter_classes"] == "bounce"
    assert postconf["non_smtpd_milters"] == postconf["smtpd_milters"]


# Who sends ------------------------------------------------------------------------------------------------------


@pytest.mark.probe
@pytest.mark.control("SPO-01")
def test_nobody_outside_writes_in_the_offices_name(
    host: TestinfraHost, edge: IPAddress, office: Office
) -> None:
    """From outside, an envelope sender in the office's domain is rejected."""
    for sender in (office.mailboxes[0], f"root@{office.with_role('mta')[0].fqdn}"):
        answer = refused(host, edge, f"MAIL FROM:<{sender}>", f"RCPT TO:<{office.mailboxes[0]}>")
        assert answer.startswith("550 5.7.1")


@pytest.mark.probe
@pytest.mark.control("SPO-01")
def test_peers_names_are_believed_from_their_relays_only(
    host: TestinfraHost, edge: IPAddress, office: Office, view: MtaView
) -> None:
    """An envelope sender in a peer's domain is rejected from anybody but the peer's relays."""
    for route in view.peers:
        for domain in route.peer.domains:
            answer = refused(host, edge, f"MAIL FROM:<somebody@{domain}>", f"RCPT TO:<{office.mailboxes[0]}>")
            assert answer.startswith("550 5.7.1")


@pytest.mark.probe
@pytest.mark.control("INP-01")
@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("MAIL FROM: somebody@elsewhere.example", "501 5.1.7"),
        ("MAIL FROM:<somebody@elsewhere.example> (comment)", "501 5.5.4"),
        ("MAIL FROM:<some body@elsewhere.example>", "501 5."),
    ],
)
def test_envelopes_follow_the_rfc(host: TestinfraHost, edge: IPAddress, line: str, code: str) -> None:
    """MAIL FROM must follow the syntax of RFC 5321."""
    answer = refused(host, edge, line)
    assert answer.startswith((code, "555 5.5.4"))


@pytest.mark.probe
@pytest.mark.control("INP-01")
def test_an_address_has_one_at_sign(host: TestinfraHost, edge: IPAddress, office: Office) -> None:
    """An address with two at signs is rejected."""
    recipient = f"RCPT TO:<{office.mailboxes[0]}>"
    answer = refused(host, edge, "MAIL FROM:<somebody@@elsewhere.example>", recipient)
    assert answer.startswith("501 5.1.7")


@pytest.mark.probe
@pytest.mark.control("INP-01")
def test_helo_is_required(host: TestinfraHost, edge: IPAddress) -> None:
    """MAIL FROM before HELO is rejected."""
    assert speak(host, edge, ports.SMTP, [STRANGER])[1].startswith("503 5.5.1")


@pytest.mark.probe
@pytest.mark.control("DSN-04")
def test_a_bounce_has_one_recipient(host: TestinfraHost, edge: IPAddress, office: Office) -> None:
    """A message with the null sender and several recipients is rejected."""
    recipients = [f"RCPT TO:<{address}>" for address in (office.mailboxes[0], f"abuse@{office.domain}")]
    assert refused(host, edge, STRANGER, *recipients, "DATA").startswith("550 5.5.3")


@pytest.mark.probe
@pytest.mark.control("DSN-03")
def test_strangers_get_no_delivery_notifications(
    host: TestinfraHost, edge: IPAddress, office: Office
) -> None:
    """Strangers are not offered DSN, and a request for one is rejected."""
    answers = speak(
        host,
        edge,
        ports.SMTP,
        [HELLO, STRANGER, f"RCPT TO:<{office.mailboxes[0]}> NOTIFY=SUCCESS"],
    )
    assert "DSN" not in answers[1]
    assert answers[3].startswith("501 5.7.1")


@pytest.mark.probe
@pytest.mark.control("DSN-07", "REL-02", "REL-08")
def test_strangers_are_offered_nothing_but_delivery(host: TestinfraHost, edge: IPAddress) -> None:
    """Strangers are neither offered nor allowed VRFY, EXPN, ETRN, AUTH or XCLIENT."""
    commands = {
        "VRFY postmaster": "502 5.5.1",
        "EXPN postmaster": "500 5.5.2",
        "ETRN example.com": "554 5.7.1",
        "AUTH PLAIN AGEAYg==": "503 5.5.1",
        "XCLIENT LOGIN=postmaster": "550 5.7.0",
    }
    offered = refused(host, edge)
    answers = answers_to(host, edge, ports.SMTP, [HELLO], list(commands))
    for (command, code), answer in zip(commands.items(), answers, strict=True):
        assert command.split()[0] not in offered
        assert answer.startswith(code), f"{command}: {answer}"


@pytest.mark.probe
@pytest.mark.control("INP-06", "INP-07")
@pytest.mark.parametrize(("command", "code"), [("BDAT 1 LAST", "521 5.5.1"), ("GET / HTTP/1.1", "221 2.7.0")])
def test_a_client_that_speaks_bdat_or_http_is_disconnected(
    host: TestinfraHost, edge: IPAddress, command: str, code: str
) -> None:
    """A client that sends BDAT or HTTP is disconnected."""
    assert refused(host, edge, command).startswith(code)


@pytest.mark.probe
@pytest.mark.control("INP-04")
def test_a_message_too_large_is_refused_before_it_is_sent(
    host: TestinfraHost, edge: IPAddress, view: MtaView
) -> None:
    """A message that announces too large a SIZE is rejected at MAIL FROM."""
    answer = refused(host, edge, f"MAIL FROM:<> SIZE={view.message_size + 1}")
    assert answer.startswith("552 5.3.4")


@pytest.mark.probe
@pytest.mark.control("INP-08")
@pytest.mark.parametrize("end", [r"\n.\r\n", r"\n.\n", r"\r\n.\n"], ids=["LF.CRLF", "LF.LF", "CRLF.LF"])
def test_a_bare_line_feed_ends_no_message(
    host: TestinfraHost, edge: IPAddress, office: Office, end: str
) -> None:
    """A message with a bare LF is rejected, so that it cannot smuggle in a second one."""
    message = rf"Subject: smuggled\r\n\r\nfirst{end}MAIL FROM:<>\r\n."
    recipient = f"RCPT TO:<{office.mailboxes[0]}>"
    assert refused(host, edge, STRANGER, recipient, "DATA", message).startswith("550 5.5.2")


@pytest.mark.control("DOS-03")
def test_a_client_that_talks_before_the_greeting_is_rejected(postconf: dict[str, str]) -> None:
    """A client that talks before the greeting is rejected by postscreen."""
    assert postconf["postscreen_greet_action"] == "enforce"
    assert float(postconf["postscreen_greet_wait"].removesuffix("s")) <= 3


@pytest.mark.probe
@pytest.mark.control("DSN-11")
def test_guessing_addresses_ends_after_ten_errors(
    host: TestinfraHost, edge: IPAddress, office: Office
) -> None:
    """A client that guesses addresses is disconnected after ten errors."""
    guesses = [f"RCPT TO:<guess{number}@{office.domain}>" for number in range(12)]
    answers = speak(host, edge, ports.SMTP, [HELLO, STRANGER, *guesses])
    errors = [answer[:9] for answer in answers[3:]]
    # under stress (STRESS_README) after the first error
    assert errors in (["550 5.1.1"] * 10 + ["421 4.7.0"], ["550 5.1.1", "421 4.7.0"])


# What it carries ------------------------------------------------------------------------------------------------


@pytest.mark.probe
@pytest.mark.control("VIR-01", "DSN-02")
def test_a_virus_is_refused_in_the_session(host: TestinfraHost, edge: IPAddress, office: Office) -> None:
    """A virus from a stranger is rejected in the SMTP session."""
    message = rf"Subject: check\r\nContent-Type: text/plain\r\n\r\n{''.join(EICAR)}\r\n."
    recipient = f"RCPT TO:<{office.mailboxes[0]}>"
    assert refused(host, edge, STRANGER, recipient, "DATA", message).startswith("554 5.7.1")


@pytest.mark.probe
@pytest.mark.control("REL-06", "VIR-01")
@pytest.mark.parametrize("login", [True, False], ids=["user", "filter"])
def test_a_virus_from_inside_is_refused_as_well(
    store: TestinfraHost, relay: IPAddress, office: Office, login: bool
) -> None:
    """A virus from a user or from a user's Sieve filter is rejected as well."""
    user = office.mailboxes[0]
    message = rf"From: {user}\r\nSubject: check\r\n\r\n{''.join(EICAR)}\r\n."
    lines = [HELLO, f"XCLIENT LOGIN={user}"] if login else []
    lines += [HELLO, f"MAIL FROM:<{user}>", f"RCPT TO:<{user}>", "DATA", message]
    answers = speak(store, relay, ports.SUBMISSION_RELAY, lines, tls=CERTIFICATE)
    assert answers[-1].startswith("554 5.7.1")


@pytest.mark.control("VIR-01")
def test_the_message_and_each_attachment_are_scanned(rspamd: dict[str, Any]) -> None:
    """Each message is scanned as a whole, and each of its attachments by itself."""
    for rule, part_by_part in (("clamav", False), ("attachments", True)):
        scans = rspamd["antivirus"][rule]
        assert scans.get("action") == "reject"
        assert scans.get("enabled", True) is True
        assert scans.get("scan_mime_parts") is part_by_part
        assert not {"whitelist", "allowlist", "patterns"} & scans.keys()


@pytest.mark.control("VIR-01", "DSN-02")
def test_no_client_is_exempt_from_the_filter(
    rspamd: dict[str, Any], office: Office, view: MtaView, me: Host
) -> None:
    """Nobody's mail is exempt from the filter: only the MTA's own notifications are signed and not scanned."""
    if me.local_conf("/etc/rspamd/"):
        pytest.skip("this office declares settings of its own for the filter: hosts.NAME.local")
    exempt = rspamd["settings"]
    relays = {str(relay) for peer in office.peers for relay in peer.relays}
    assert {name: set(rule.get("ip", ())) for name, rule in exempt.items()} == {
        "users": set(),
        "filters": set(map(str, view.store_addresses)),
        "peers": relays,
        "own": {"127.0.0.1", "::1"},
    }
    assert exempt["users"]["authenticated"] is True
    tables = {name: rule for name, rule in rspamd["multimap"].items() if isinstance(rule, dict)}
    assert [name for name, rule in tables.items() if {"prefilter", "action"} & rule.keys()] == []


@pytest.mark.probe
@pytest.mark.control("DSN-02")
def test_spam_is_refused_in_the_session(host: TestinfraHost, edge: IPAddress, office: Office) -> None:
    """Spam is rejected in the SMTP session."""
    message = rf"Subject: check\r\n\r\n{''.join(GTUBE)}\r\n."
    recipient = f"RCPT TO:<{office.mailboxes[0]}>"
    assert refused(host, edge, STRANGER, recipient, "DATA", message).startswith("554 5.7.1")


@pytest.mark.control("VIR-01")
def test_nothing_passes_while_a_filter_is_down(postconf: dict[str, str], rspamd: dict[str, Any]) -> None:
    """While Rspamd or ClamAV is down, mail is deferred, never passed without a scan."""
    assert postconf["milter_default_action"] == "tempfail"
    assert postconf["smtpd_milters"] == "unix:rspamd/milter.sock"
    rules = rspamd["force_actions"]["rules"]
    assert rules["SCANNER_DOWN"]["expression"] == "CLAM_VIRUS_FAIL | CLAM_ATTACHMENT_FAIL"
    assert rules["SCANNER_DOWN"]["action"] == "soft reject"
    assert rspamd["options"]["soft_reject_on_timeout"] is True


# Scan a message of this size by the daemon's protocol (clamd(8), INSTREAM).
SCANNED = """
import socket, struct, sys
left, scanner = int(sys.argv[1]), socket.socket(socket.AF_UNIX)
scanner.connect(sys.argv[2])
try:
    scanner.sendall(b"zINSTREAM\\0")
    while left:
        part = bytes(min(left, 1 << 20))
        scanner.sendall(struct.pack("!I", len(part)) + part)
        left -= len(part)
    scanner.sendall(struct.pack("!I", 0))
except OSError:
    pass  # it has heard enough: the answer says why
print(scanner.recv(4096).decode())
"""


@pytest.mark.probe
@pytest.mark.control("DOS-10", "INP-04")
def test_the_scanner_reads_more_than_postfix_takes(
    host: TestinfraHost, postconf: dict[str, str], view: MtaView
) -> None:
    """ClamAV scans messages of the largest size that Postfix accepts.

    It gets such a message, and reports if one of its limits is lower.
    """
    largest = int(postconf["message_size_limit"])
    assert largest <= view.scan_size
    verdict = host.check_output("python3 -I -c %s %s %s", SCANNED, str(largest), view.scanner_socket)
    assert verdict.strip("\0 \n") == "stream: OK"
    assert int(postconf["queue_minfree"]) >= 2 * largest


# Links ----------------------------------------------------------------------------------------------------------


@pytest.mark.probe
@pytest.mark.control("REL-08", "TLS-10")
def test_users_mail_comes_with_the_stores_certificate_or_not_at_all(
    store: TestinfraHost, webmail: TestinfraHost, relay: IPAddress, office: Office
) -> None:
    """Users' mail is accepted only with the store's client certificate."""
    user = office.mailboxes[0]
    lines = ["EHLO check.invalid", f"MAIL FROM:<{user}>", f"RCPT TO:<{user}>"]
    without = speak(store, relay, ports.SUBMISSION_RELAY, lines, tls="")
    assert not any(answer.startswith("250") for answer in without)
    foreign = speak(webmail, relay, ports.SUBMISSION_RELAY, lines, tls=CERTIFICATE)
    assert not any(answer.startswith("250 2.1.5") for answer in foreign)


@pytest.mark.probe
@pytest.mark.control("SPO-02")
def test_a_login_owns_its_sender_addresses(store: TestinfraHost, relay: IPAddress, office: Office) -> None:
    """A user can use only their own addresses as envelope sender."""
    user = office.mailboxes[0]
    colleague = not_ones_own(office, user)
    recipient = "RCPT TO:<somebody@elsewhere.example>"
    for sender, code in (
        (user, "250 2.1.5"),
        (user.replace("@", "+detail@"), "250 2.1.5"),
        (colleague, "553 5.7.1"),
        ("somebody@elsewhere.example", "553 5.7.1"),
    ):
        answers = speak(
            store,
            relay,
            ports.SUBMISSION_RELAY,
            [HELLO, f"XCLIENT LOGIN={user}", HELLO, f"MAIL FROM:<{sender}>", recipient],
            tls=CERTIFICATE,
        )
        assert answers[-1].startswith(code), f"{sender}: {answers}"


@pytest.mark.probe
@pytest.mark.control("SPO-02", "REL-02")
def test_without_a_login_the_store_sends_for_its_own_users_only(
    store: TestinfraHost, relay: IPAddress
) -> None:
    """Without a login the store cannot relay mail of foreign senders or of the null sender."""
    for sender in ("somebody@elsewhere.example", ""):
        answers = speak(
            store,
            relay,
            ports.SUBMISSION_RELAY,
            [HELLO, f"MAIL FROM:<{sender}>", "RCPT TO:<victim@elsewhere.example>"],
            tls=CERTIFICATE,
        )
        assert answers[-1].startswith("554 5.7.1"), sender


@pytest.mark.probe
@pytest.mark.control("DOS-06")
def test_a_user_names_so_many_recipients_and_no_more(
    store: TestinfraHost, relay: IPAddress, office: Office
) -> None:
    """A user's message has at most as many recipients as the office file allows."""
    user, most = office.mailboxes[0], office.limits.recipients_per_message
    recipients = [f"RCPT TO:<somebody{number}@elsewhere.example>" for number in range(most + 1)]
    lines = [HELLO, f"XCLIENT LOGIN={user}", HELLO, f"MAIL FROM:<{user}>", *recipients]
    answers = speak(store, relay, ports.SUBMISSION_RELAY, lines, tls=CERTIFICATE)
    assert answers[-2].startswith("250 2.1.5")
    assert answers[-1].startswith("452 4.5.3")


@pytest.mark.probe
@pytest.mark.control("TLS-09")
def test_a_peers_listener_speaks_with_its_relays_and_in_no_clear_text(
    host: TestinfraHost, me: Host, view: MtaView, office: Office
) -> None:
    """A peer's listener requires TLS, and accepts mail from the peer's relays only."""
    for route in view.peers:
        for address in me.in_zone(route.peer.zone):
            clear = speak(host, address, route.peer.listen, [HELLO, STRANGER])
            assert clear[2].startswith("530 5.7.0")
            secured = speak(
                host,
                address,
                route.peer.listen,
                [HELLO, STRANGER, f"RCPT TO:<{office.mailboxes[0]}>"],
                tls="-starttls smtp",
            )
            assert secured[-1].startswith("554 5.7.1")


@pytest.mark.control("TLS-09")
def test_mail_to_peers_waits_rather_than_travel_unproven(
    host: TestinfraHost, view: MtaView, postconf: dict[str, str], of_services: dict[str, str]
) -> None:
    """Mail to a peer is sent over verified TLS only; until then it waits in the queue."""
    setting = "smtp_tls_policy_maps"
    policies = {
        route.next_hop: of_services.get(f"{route.outward}/unix/{setting}", postconf[setting])
        for route in view.peers
    }
    demands = {
        maps: found_in(host, tables(maps), list(policies)) for maps in dict.fromkeys(policies.values())
    }
    for hop, maps in policies.items():
        assert demands[maps].get(hop, "none").split()[0] in ("secure", "dane-only"), hop
    wanted = {
        domain: f"{route.outward}:{route.next_hop}" for route in view.peers for domain in route.peer.domains
    }
    assert found_in(host, tables(postconf["transport_maps"]), list(wanted)) == wanted


@pytest.mark.control("TLS-10")
def test_delivery_proves_the_store_and_itself(postconf: dict[str, str], view: MtaView) -> None:
    """Mail is delivered to the store only, by LMTP over TLS with a verified certificate."""
    assert postconf["lmtp_tls_security_level"] == "secure"
    assert postconf["lmtp_tls_secure_cert_match"] == ":".join(view.store_names)
    assert postconf["lmtp_tls_CAfile"] == f"{TLS}/ca.pem"
    assert postconf["virtual_transport"] == f"lmtp:{view.lmtp}"


@pytest.mark.control("DSN-01", "AVL-01")
def test_what_the_store_rejects_waits_and_is_not_returned(of_services: dict[str, str]) -> None:
    """Mail that the store rejects after the MTA's 250 waits in the queue, and does not bounce."""
    assert of_services.get("lmtp/unix/soft_bounce") == "yes"


@pytest.mark.control("TLS-06")
def test_the_internet_is_reached_by_dane_where_it_has_it(postconf: dict[str, str]) -> None:
    """Mail to the Internet uses DANE where the destination has TLSA records."""
    assert postconf["smtp_dns_support_level"] == "dnssec"
    assert postconf["smtp_tls_security_level"] == "dane"


@pytest.mark.probe
@pytest.mark.control("TLS-01", "TLS-02", "TLS-03")
@pytest.mark.parametrize(
    "offer",
    [
        "-tls1_2 -cipher kRSA",
        "-tls1_2 -cipher aNULL:@SECLEVEL=0",  # otherwise the client would refuse, and the check could not fail
        "-tls1_2 -sigalgs ECDSA+SHA224:RSA+SHA224",
        "-tls1_2 -cipher ALL:@SECLEVEL=0 -sigalgs ECDSA+SHA1:RSA+SHA1",
        "-tls1_3 -groups ffdhe2048:ffdhe3072",
    ],
    ids=["RSA key exchange", "anonymous", "SHA-224", "SHA-1", "finite-field key exchange"],
)
def test_weak_offers_are_refused(host: TestinfraHost, edge: IPAddress, offer: str) -> None:
    """Weak TLS offers are refused."""
    assert speak(host, edge, ports.SMTP, [HELLO], tls=f"-starttls smtp {offer}") == []


@pytest.mark.probe
@pytest.mark.control("TLS-01", "TLS-02")
@pytest.mark.parametrize("offer", OLD_OFFERS.values(), ids=OLD_OFFERS)
def test_old_offers_are_taken_only_where_the_office_says_so(
    host: TestinfraHost, edge: IPAddress, office: Office, me: Host, offer: str
) -> None:
    """Old TLS offers are accepted only if [tls] profile is "old", and never by a peer's listener."""
    taken = bool(speak(host, edge, ports.SMTP, [HELLO], tls=f"-starttls smtp {offer}"))
    assert taken == (office.tls.profile == "old")
    for peer in office.peers:
        for address in me.in_zone(peer.zone):
            assert speak(host, address, peer.listen, [HELLO], tls="-starttls smtp"), peer.name
            assert speak(host, address, peer.listen, [HELLO], tls=f"-starttls smtp {offer}") == [], peer.name


@pytest.mark.probe
@pytest.mark.control("TLS-01", "TLS-02")
@pytest.mark.parametrize(
    "offer",
    ["-tls1_3", "-tls1_2 -cipher ECDHE+AESGCM", "-tls1_3 -groups X25519MLKEM768"],
    ids=["TLS 1.3", "TLS 1.2", "post-quantum key exchange"],
)
def test_good_offers_are_taken(host: TestinfraHost, edge: IPAddress, offer: str) -> None:
    """Current TLS offers are accepted."""
    (answer,) = speak(host, edge, ports.SMTP, [HELLO], tls=f"-starttls smtp {offer}", whole=True)
    assert answer.startswith("250-")


@pytest.mark.probe
@pytest.mark.control("TLS-04")
def test_strangers_see_the_certificate_of_the_hosts_name(
    host: TestinfraHost, edge: IPAddress, me: Host
) -> None:
    """Strangers are shown a certificate for the host's name, valid for at least three weeks."""
    shown = f"openssl s_client -starttls smtp -connect {at(edge, ports.SMTP)} </dev/null 2>/dev/null"
    for question, answer in (
        (f"-checkhost {me.fqdn}", f"Hostname {me.fqdn} does match certificate"),
        (f"-checkend {21 * 86400}", "Certificate will not expire"),
    ):
        assert answer in host.check_output(f"{shown} | openssl x509 -noout {question}")


@pytest.mark.control("TLS-06", "TLS-09", "TLS-10")
def test_no_mail_waits_for_a_next_hop_that_cannot_prove_itself(host: TestinfraHost) -> None:
    """No message waits in the queue because TLS to its next hop cannot be verified.

    If one does, its reason is printed: a certificate, a TLSA record or a missing STARTTLS.
    """
    unproven = re.compile(r"not (verified|trusted)|handshake|TLS is required|certificate|TLSA")
    waiting = [
        f"{recipient['address']}: {recipient['delay_reason']}"
        for entry in map(json.loads, host.check_output("postqueue -j").splitlines())
        for recipient in entry["recipients"]
        if unproven.search(recipient.get("delay_reason", ""))
    ]
    assert not waiting, "\n".join(waiting)


# Signatures -----------------------------------------------------------------------------------------------------


@pytest.mark.control("DKM-01", "DKM-02", "SEC-01")
def test_the_signing_keys_are_two_and_private(host: TestinfraHost) -> None:
    """There is a DKIM key for RSA and one for Ed25519, and only root and Rspamd can read them."""
    listed = host.check_output("stat --format='%n %U %G %a' /etc/rspamd/dkim/*")
    keys = dict(line.split(" ", 1) for line in listed.splitlines())
    assert any(path.endswith("-rsa.key") for path in keys)
    assert any(path.endswith("-ed25519.key") for path in keys)
    assert set(keys.values()) == {"root _rspamd 640"}


@pytest.mark.probe
@pytest.mark.control("VIR-02")
def test_the_scanner_knows_fresh_signatures(host: TestinfraHost, office: Office) -> None:
    """ClamAV has loaded virus signatures that are less than a week old.

    In the lab, which cannot fetch signatures, they are the office's own.
    """
    script = (
        'import socket; s = socket.socket(socket.AF_UNIX); s.connect("/run/clamav/clamd.ctl"); '
        's.sendall(b"nVERSION\\n"); print(s.recv(200).decode())'
    )
    version = host.check_output(f"python3 -I -c '{script}'")
    assert version.startswith("ClamAV ")
    if office.scanner.signatures == "local":
        assert host.file("/var/lib/clamav/local.hdb").exists
        assert "masked" in host.run("systemctl is-enabled clamav-freshclam.service").stdout
        return
    made = datetime.strptime(version.split("/")[2], "%a %b %d %H:%M:%S %Y").replace(tzinfo=UTC)
    assert datetime.now(tz=UTC) - made < timedelta(days=7), version
    assert host.service("clamav-freshclam.service").is_running


@pytest.mark.control("JNK-02")
def test_bayes_has_no_weight_until_several_users_taught_it_and_teaches_itself_nothing(
    rspamd: dict[str, Any],
) -> None:
    """The Bayes classifier has no weight before 200 messages are learned, and never trains itself."""
    bayes = rspamd["classifier"]["bayes"]
    assert bayes["min_learns"] >= 200
    assert not bayes["autolearn"]


@pytest.mark.control("DKM-03")
def test_nobody_adds_a_second_from_or_subject_to_what_was_signed(
    rspamd: dict[str, Any],
) -> None:
    """DKIM oversigns the header: a second From or Subject breaks the signature."""
    signed = rspamd["dkim_signing"]["sign_headers"].split(":")
    assert {"(o)from", "(o)to", "(o)subject", "(o)date", "(o)reply-to"} <= set(signed)


@pytest.mark.probe
@pytest.mark.control("DKM-04")
def test_the_keys_that_sign_are_published(
    host: TestinfraHost, office: Office, rspamd: dict[str, Any]
) -> None:
    """The public DKIM keys are published in the DNS."""
    selectors = [each["selector"] for each in rspamd["dkim_signing"]["domain"][office.domain]["selectors"]]
    assert len(selectors) == 2
    names = [f"{selector}._domainkey.{office.domain}" for selector in selectors]
    for name, answer in zip(
        names, ask(host, "127.0.0.1", [query(name, "TXT", recurse=True) for name in names]), strict=True
    ):
        published = " ".join(rrset.to_text() for rrset in answer.answer)
        if not published:
            unless_delegated(host, office.domain)
        assert re.search(r"p=[A-Za-z0-9+/]{40}", published.replace('" "', "")), f"{name}: {published}"


@pytest.mark.probe
@pytest.mark.control("SPO-05")
def test_the_hosts_addresses_have_its_name(host: TestinfraHost, office: Office, me: Host) -> None:
    """Each of the host's addresses on the Internet has a PTR record with the host's name.

    If one is missing, the record to enter is printed.
    """
    if office.smarthost:
        pytest.skip("mail leaves by the smarthost, which has names of its own")
    wanted = pointers(office, me)
    answers = ask(host, "127.0.0.1", [query(owner, "PTR", recurse=True) for owner in wanted])
    missing = [
        f"{owner} PTR {name}"
        for (owner, name), answer in zip(wanted.items(), answers, strict=True)
        if name not in answer.to_text()
    ]
    failed = {
        owner: answer.rcode()
        for owner, answer in zip(wanted, answers, strict=True)
        if answer.rcode() == dns.rcode.SERVFAIL
    }
    assert not failed, "this host's resolver gets no answer about the addresses"
    if missing and all(address.is_private for address in office.addresses_of_kind(me, "internet")):
        pytest.skip(
            "the host's Internet addresses are private: the router's public address needs the PTR record"
        )
    if missing:
        listed = "".join(f"\n    {line}" for line in missing)
        pend(f"at the provider of the addresses (others refuse mail from an address without a name):{listed}")


# The rules that the running Rspamd carries out, by its controller.
RULES = """
import socket
controller = socket.socket(socket.AF_UNIX)
controller.connect("/run/rspamd/controller.sock")
controller.sendall(b"GET /counters HTTP/1.0\\r\\n\\r\\n")
print(controller.makefile().read().partition("\\n\\n")[2])
"""


@pytest.fixture(scope="session")
def rules(host: TestinfraHost) -> set[str]:
    """The rules that the running Rspamd applies to each message."""
    return {rule["symbol"] for rule in json.loads(host.check_output("python3 -ISc %s", RULES))}


@pytest.mark.control("SPF-02", "DMC-02", "ARC-01")
@pytest.mark.parametrize("module", ["spf", "dkim", "dmarc", "arc"])
def test_rspamd_checks_whether_the_senders_domain_authorised_the_message(
    rules: set[str], module: str
) -> None:
    """Rspamd checks whether the sender's domain authorised the message."""
    assert f"{module.upper()}_CHECK" in rules


@pytest.mark.control("SPO-03")
def test_authentication_results_of_strangers_are_removed(
    rspamd: dict[str, Any],
) -> None:
    """Authentication-Results headers that strangers wrote are removed."""
    headers = rspamd["milter_headers"]
    assert headers["use"].index("remove-headers") < headers["use"].index("authentication-results")
    removed = headers["routines"].get("remove-headers", {}).get("headers", {})
    assert removed.get("Authentication-Results") == 0


@pytest.mark.control("DMC-03")
def test_domains_get_daily_reports_of_what_was_sent_in_their_name(
    units: Units, rspamd: dict[str, Any]
) -> None:
    """DMARC reports go to senders' domains every day."""
    assert rspamd["dmarc"]["reporting"]["enabled"] is True
    assert units.runs("outpost-dmarc-reports.timer")
    assert units.comes_up("outpost-dmarc-reports.timer")


@pytest.mark.control("DSN-06", "DSN-08")
def test_a_notification_names_neither_the_store_nor_who_is_behind_an_alias(
    host: TestinfraHost, view: MtaView, of_services: dict[str, str]
) -> None:
    """A DSN names neither the store nor the members of an alias.

    The tables that Postfix's notifications go through are asked about lines of a report.
    """
    through = {of_services.get(f"{name}/unix/cleanup_service_name") for name in ("bounce", "defer", "trace")}
    assert through == {"cleanup-notices"}
    members = sorted({member for of_alias in view.aliases.values() for member in of_alias})
    undisclosed = f"REPLACE Final-Recipient: rfc822; undisclosed@{view.office.domain}"
    wanted = {f"Final-Recipient: rfc822; {member}": undisclosed for member in members}
    # a folded line would end the report's fields: Postfix drops the blanks at its start
    wanted |= {f"    <{member}> Saved": "REPLACE Details: a recipient" for member in members}
    wanted |= {f"Remote-MTA: dns; {name}": "IGNORE" for name in view.store_names}
    assert found_in(host, tables(of_services["cleanup-notices/unix/body_checks"]), list(wanted)) == wanted


@pytest.mark.control("QUE-02")
def test_a_mailbox_gets_one_message_at_a_time(postconf: dict[str, str]) -> None:
    """A mailbox gets one delivery at a time."""
    assert postconf["lmtp_destination_recipient_limit"] == "1"
    assert postconf["lmtp_destination_concurrency_limit"] == "1"


@pytest.mark.control("DSN-05")
def test_a_bounce_carries_no_more_than_headers(postconf: dict[str, str]) -> None:
    """A bounce contains the header of the message, never its body."""
    assert postconf["bounce_size_limit"] == "1"


def test_a_notification_is_in_english_and_german(host: TestinfraHost, office: Office) -> None:
    """Bounces and delay warnings are in English and German."""
    notices = host.check_output("postconf -b")
    failure, _, delay = notices.partition("expanded_delay_text")
    assert re.search(r"could not be delivered.* konnte den Empfängern", failure, re.DOTALL)
    assert office.postmaster in failure
    assert re.search(r"for \d+ hours.* seit \d+ Stunden", delay, re.DOTALL)


@pytest.mark.control("DSN-13")
def test_a_users_machine_is_not_named_to_the_world(
    host: TestinfraHost, of_services: dict[str, str], view: MtaView
) -> None:
    """The Received headers of a user's message do not show the user's client."""
    hidden = [
        value for name, value in of_services.items() if name.endswith("/inet/smtpd_hide_client_session")
    ]
    assert hidden
    assert set(hidden) == {"yes"}
    checks = of_services["cleanup-users/unix/header_checks"]
    for name in view.store_names:
        trace = f"Received: from pc.lan (pc.lan [192.0.2.7]) by {name} with ESMTPSA id x"
        assert host.run("postmap -q %s %s", trace, checks).stdout.strip() == "IGNORE"


@pytest.mark.control("INP-10")
def test_what_leaves_has_whole_line_ends(postconf: dict[str, str]) -> None:
    """A CR or LF that stands alone in a user's message is replaced."""
    assert postconf["cleanup_replace_stray_cr_lf"] == "yes"


@pytest.mark.control("QUE-02", "DSN-01", "JNK-04")
@pytest.mark.parametrize(
    "field", ["X-Office-Transfer", "X-Office-Held", "X-Office-Author", "X-Office-Origin"]
)
def test_only_the_filter_writes_what_the_store_believes(
    host: TestinfraHost, postconf: dict[str, str], of_services: dict[str, str], field: str
) -> None:
    """Fields that only the filter may write are removed from every message."""
    for service in ("cleanup", "cleanup-users"):
        checks = of_services.get(f"{service}/unix/header_checks", postconf.get("header_checks", ""))
        assert host.run("postmap -q %s %s", f"{field}: 1", checks).stdout.strip() == "IGNORE", service


@pytest.mark.control("SYS-05")
def test_only_rspamd_reaches_redis(host: TestinfraHost) -> None:
    """Only Rspamd can use Redis."""
    assert modes(host, "/run/redis/redis.sock") == ["redis redis 770"]


@pytest.mark.control("JNK-01", "SPF-02")
def test_redis_keeps_what_the_filter_knows(host: TestinfraHost) -> None:
    """Redis has room for what the filter learned and counted, and saves it."""
    asked = "for what in maxmemory maxmemory-policy save; do redis-cli -s /run/redis/redis.sock config get $what; done"
    memory, policy, saved = host.check_output(asked).split("\n")[1::2]
    assert int(memory) >= 256 * 1024**2
    assert policy == "volatile-ttl", "it would forget what has no end"
    assert saved == "300 1"


@pytest.mark.control("SYS-08")
def test_redis_takes_no_orders_while_it_runs(host: TestinfraHost) -> None:
    """No command of a client changes how Redis works: only its file does."""
    harmless = (
        "client pause 0", "config set maxmemory-policy volatile-ttl", "acl deluser nobody-at-all",
        "function load x", "replicaof no one", "module list",
    )  # fmt: skip
    each = " ".join(f"'{order}'" for order in harmless)
    asked = f'for order in {each}; do echo "$order: $(redis-cli -s /run/redis/redis.sock $order | head -n 1)"; done'
    assert [line for line in host.check_output(asked).split("\n") if ": NOPERM " not in line] == []


@pytest.mark.control("INP-09")
def test_commands_do_not_run_ahead_of_their_answers(postconf: dict[str, str]) -> None:
    """Unauthorised pipelining is rejected."""
    assert postconf["smtpd_forbid_unauth_pipelining"] == "yes"
    assert "reject_unauth_pipelining" in postconf["smtpd_data_restrictions"].split()


@pytest.mark.control("QUE-01")
def test_mail_waits_as_long_as_the_office_says_and_its_routes_are_probed(
    units: Units, view: MtaView, postconf: dict[str, str]
) -> None:
    """Mail is kept in the queue as long as the office file says, and routes to peers are probed."""
    link = view.office.link
    assert postconf["maximal_queue_lifetime"] == f"{link.queue_lifetime}s"
    assert postconf["delay_warning_time"] == f"{link.delay_warning}s"
    for route in view.peers:
        assert postconf[f"{route.outward}_destination_concurrency_limit"] == str(route.peer.concurrency)
    assert units.runs("outpost-routes.timer")
    assert units.states.get("outpost-routes.service") != "failed"
