"""Defences that use what the office knows about itself: forged senders, malware, mail bombs and guessing. The daemons are asked.

Every dialogue ends before a message is accepted, or with a message that must be refused: no mail is left behind.
tests/journeys/test_ordinary_mail.py checks what must arrive, tests/journeys/test_limits.py what floods do.
"""

from __future__ import annotations

import base64
import io
import json
import re
import zipfile
from ipaddress import ip_address
from secrets import token_hex

import pytest
from testinfra.host import Host as TestinfraHost

from outpost.office import Host, Office, ports
from outpost.office.tables.values import IPAddress
from outpost.target import Target
from outpost_lab import pace
from roles.mta.defence import shaped_rate
from roles.mta.view import MtaView
from tests.live.asking import at, doveconf, not_ones_own
from tests.live.conftest import reach
from tests.live.speaking import TLS, speak
from tests.live.systemd import Units

pytestmark = [
    pytest.mark.role("mta"),
    pytest.mark.looks,
    pytest.mark.daemons("'postfix*'", "rspamd", "clamav-daemon"),
]

HELLO = "EHLO check.invalid"
CERTIFICATE = f"-cert {TLS}/host.pem -key {TLS}/host.key"


@pytest.fixture(scope="module")
def view(office: Office, me: Host) -> MtaView:
    return MtaView(office, me)


@pytest.fixture(scope="module")
def edge(office: Office, me: Host) -> IPAddress:
    """The address to which strangers connect."""
    return office.addresses_of_kind(me, "internet")[0]


@pytest.fixture(scope="module")
def store(target: Target, office: Office, pytestconfig: pytest.Config) -> TestinfraHost:
    return reach(target, office, office.with_role("store")[0], pytestconfig)


@pytest.fixture(scope="module")
def webmail(target: Target, office: Office, pytestconfig: pytest.Config) -> TestinfraHost:
    return reach(target, office, office.with_role("webmail")[0], pytestconfig)


@pytest.fixture(scope="module")
def relay(office: Office, me: Host) -> IPAddress:
    """Where the store hands over users' mail."""
    return office.link_addresses(me, office.with_role("store")[0])[0]


def stranger_says(host: TestinfraHost, edge: IPAddress, office: Office, *lines: str) -> str:
    """The answer to a message of a stranger's with the null sender."""
    message = r"\r\n".join((*lines, "."))
    to = f"RCPT TO:<{office.mailboxes[0]}>"
    answers = speak(host, edge, ports.SMTP, [HELLO, "MAIL FROM:<>", to, "DATA", message])
    assert len(answers) == 6, answers
    return answers[-1]


def user_says(store: TestinfraHost, relay: IPAddress, user: str, *lines: str) -> str:
    """The answer to the last of a logged-in user's lines, which may be a message."""
    commands = [HELLO, f"XCLIENT LOGIN={user}", HELLO, f"MAIL FROM:<{user}>", *lines]
    answers = speak(store, relay, ports.SUBMISSION_RELAY, commands, tls=CERTIFICATE)
    assert len(answers) == len(commands) + 1, answers
    return answers[-1]


def attached(
    name: str, content: bytes = b"content", kind: str = "application/octet-stream"
) -> tuple[str, ...]:
    """A message with one attachment."""
    return (
        "From: somebody@elsewhere.example",
        "Subject: check",
        "MIME-Version: 1.0",
        "Content-Type: multipart/mixed; boundary=b",
        "",
        "--b",
        f"Content-Type: {kind}",
        "Content-Transfer-Encoding: base64",
        f'Content-Disposition: attachment; filename="{name}"',
        "",
        base64.b64encode(content).decode(),
        "--b--",
    )


def packed(*names: str, content: bytes = b"content") -> bytes:
    """A zip archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, content)
    return buffer.getvalue()


def locked() -> bytes:
    """A zip archive that is marked as encrypted; it is never opened."""
    plain = bytearray(packed("secret.txt", content=b"x" * 64))
    plain[6] |= 1
    plain[plain.index(b"PK\x01\x02") + 8] |= 1
    return bytes(plain)


def unless_refused(office: Office, rule: str) -> None:
    """Skip where the office file wants such mail delivered (``[policy]``)."""
    if (verdict := getattr(office.policy, rule)) != "refuse":
        pytest.skip(f'this office does not refuse such mail: [policy] {rule} = "{verdict}"')


# Who a message says it is from ----------------------------------------------------------------------------------


@pytest.mark.probe
@pytest.mark.control("SPO-01")
@pytest.mark.parametrize(
    "field",
    [
        "From: {user}",
        'From: "Boss" <{user}>',
        "From: somebody@elsewhere.example, {user}",
        r"From: somebody@elsewhere.example\r\nFrom: {user}",
        "From: root@mta.{domain}",
    ],
    ids=["plain", "with a name", "second address", "second header", "host"],
)
def test_nobody_outside_writes_the_offices_name_into_from(
    host: TestinfraHost, edge: IPAddress, office: Office, field: str
) -> None:
    """From outside, a From header in the office's domain is rejected."""
    unless_refused(office, "forged_own")
    line = field.format(user=office.mailboxes[0], domain=office.domain)
    assert stranger_says(host, edge, office, line, "Subject: check", "", "x").startswith("554 5.7.1")


@pytest.mark.probe
@pytest.mark.control("SPO-01")
def test_peers_names_in_from_are_believed_from_their_relays_only(
    host: TestinfraHost, edge: IPAddress, office: Office
) -> None:
    """A From header in a peer's domain is rejected from anybody but the peer's relays."""
    unless_refused(office, "forged_peer")
    for peer in office.peers:
        for domain in peer.domains:
            answer = stranger_says(host, edge, office, f"From: head@{domain}", "Subject: check", "", "x")
            assert answer.startswith("554 5.7.1")


@pytest.mark.probe
@pytest.mark.control("SPO-02")
@pytest.mark.parametrize(
    "field", ["From: {colleague}", "From: somebody@elsewhere.example", r"From: {user}\r\nSender: {colleague}"]
)
def test_a_login_owns_from_and_sender_as_well(
    store: TestinfraHost, relay: IPAddress, office: Office, field: str
) -> None:
    """A user can use only their own addresses in the From and Sender headers."""
    user = office.mailboxes[0]
    colleague = not_ones_own(office, user)
    line = field.format(user=user, colleague=colleague)
    message = rf"{line}\r\nSubject: check\r\n\r\nx\r\n."
    answer = user_says(store, relay, user, f"RCPT TO:<{user}>", "DATA", message)
    assert answer.startswith("554 5.7.1")
    assert "is not yours" in answer


# What it carries ------------------------------------------------------------------------------------------------

MACRO = "word/vbaProject.bin"


@pytest.mark.probe
@pytest.mark.control("VIR-03")
@pytest.mark.parametrize(
    ("name", "content", "rule"),
    [
        ("invoice.pdf.exe", b"MZ", "exe"),
        ("invoice.exe.", b"MZ", "exe"),
        ("letter.docm", b"x", "docm"),
        ("disk.iso", b"x", "iso"),
        ("link.lnk", b"x", "lnk"),
        ("script.js", b"x", "js"),
        ("login.html", b"x", "html"),
        ("archive.rar", b"x", "rar"),
        ("renamed.dat", b"Rar!\x1a\x07\x01\x00" + bytes(64), "rar"),
        ("inside.zip", packed("folder/invoice.pdf.exe"), "exe"),
        ("twice.zip", packed("inner.zip", content=packed("run.exe")), "exe"),
        ("report.docx", packed("[Content_Types].xml", MACRO), "macros"),
        ("locked.zip", locked(), "encrypted_archives"),
    ],
    ids=lambda value: value if isinstance(value, str) and "." in value else "",
)
def test_what_runs_or_cannot_be_scanned_is_refused(
    host: TestinfraHost, edge: IPAddress, office: Office, name: str, content: bytes, rule: str
) -> None:
    """Attachments that can run or cannot be scanned are rejected, as the office file says.

    A rule is an extension of a file name that it refuses, or a key of ``[policy]``.
    """
    if hasattr(office.policy, rule):
        unless_refused(office, rule)
    elif rule not in (*office.policy.refused_attachments, *office.policy.refused_at_top):
        pytest.skip(f"this office accepts such mail: .{rule} is not in [policy] refused_attachments")
    answer = stranger_says(host, edge, office, *attached(name, content))
    assert answer.startswith(("554 5.7.1 The ", "554 5.7.1 Refused by the virus scanner: "))


@pytest.mark.probe
@pytest.mark.control("VIR-03", "REL-06")
def test_users_get_the_same_answer(store: TestinfraHost, relay: IPAddress, office: Office) -> None:
    """A forbidden attachment from a user is rejected as well."""
    if "exe" not in office.policy.refused_attachments:
        pytest.skip("this office accepts such mail: .exe is not in [policy] refused_attachments")
    user = office.mailboxes[0]
    lines = (f"From: {user}", *attached("invoice.pdf.exe", b"MZ")[1:], ".")
    answer = user_says(store, relay, user, f"RCPT TO:<{user}>", "DATA", r"\r\n".join(lines))
    assert re.match(r"554 5\.7\.1 (The .*invoice\.pdf\.exe|Refused by the virus scanner: )", answer), answer


@pytest.mark.probe
@pytest.mark.control("INP-05")
def test_headers_without_end_are_refused(host: TestinfraHost, edge: IPAddress, office: Office) -> None:
    """A message with too large a header is rejected."""
    many = [f"X-Check-{number}: {'a' * 900}" for number in range(int(office.limits.header_bytes) // 900 + 2)]
    answer = stranger_says(host, edge, office, "From: a@elsewhere.example", *many, "", "x")
    assert answer.startswith("554 5.7.1 The message's header is too large")


@pytest.mark.probe
@pytest.mark.control("INP-05")
def test_no_message_has_a_nul(host: TestinfraHost, edge: IPAddress, office: Office) -> None:
    """A message with a NUL is rejected."""
    answer = stranger_says(host, edge, office, "From: a@elsewhere.example", "Subject: check", "", r"x\0000y")
    assert answer.startswith("550 5.7.1")


@pytest.mark.probe
@pytest.mark.control("INP-05")
def test_parts_within_parts_without_end_are_refused(
    host: TestinfraHost, edge: IPAddress, office: Office
) -> None:
    """A message with too deeply nested MIME parts is rejected."""
    levels = range(office.limits.mime_depth * 3)
    opened = [
        line
        for level in levels
        for line in (f"Content-Type: multipart/mixed; boundary=b{level}", "", f"--b{level}")
    ]
    message = (*opened, "Content-Type: text/plain", "", "x", *(f"--b{level}--" for level in reversed(levels)))
    answer = stranger_says(host, edge, office, "From: a@elsewhere.example", "MIME-Version: 1.0", *message)
    assert answer.startswith("554 5.7.1 The message is nested too deeply")


@pytest.mark.probe
@pytest.mark.control("DSN-10")
def test_a_bounce_of_what_was_never_sent_is_refused(
    host: TestinfraHost, edge: IPAddress, office: Office
) -> None:
    """A bounce of a message that the office never sent is rejected or marked, as the office file says.

    Where it is only marked, Rspamd is asked directly, so that nothing is delivered.
    """
    verdict = office.policy.forged_bounce
    if verdict == "accept":
        unless_refused(office, "forged_bounce")
    bounce = (
        "From: MAILER-DAEMON@elsewhere.example",
        "Subject: Undelivered Mail Returned to Sender",
        "MIME-Version: 1.0",
        "Content-Type: multipart/report; report-type=delivery-status; boundary=b",
        "",
        "--b",
        "Content-Type: message/delivery-status",
        "",
        "Reporting-MTA: dns; elsewhere.example",
        "",
        "Final-Recipient: rfc822; victim@elsewhere.example",
        "Action: failed",
        "Status: 5.1.1",
        "",
        "--b",
        "Content-Type: text/rfc822-headers",
        "",
        f"From: {office.mailboxes[0]}",
        f"Message-ID: <{token_hex(8)}@{office.domain}>",
        "",
        "--b--",
    )
    # with two MTAs it is tagged at most: each knows what it sent itself (docs/adr/0019)
    if verdict == "tag" or len(office.with_role("mta")) > 1:
        command = (
            "printf '%%b' %s | rspamc -h /run/rspamd/controller.sock -i 203.0.113.9 -F '' -r %s --compact"
        )
        message = r"\r\n".join((*bounce, ""))
        result = json.loads(host.check_output(command, message, office.mailboxes[0]))
        assert result["milter"]["add_headers"]["X-Office-Bounce"]["value"] == "not ours"
        return
    answer = stranger_says(host, edge, office, *bounce)
    assert answer == "554 5.7.1 This notification is about a message that we did not send"


# Rates, room, budgets -------------------------------------------------------------------------------------------


@pytest.mark.probe
@pytest.mark.control("DOS-08", "TLS-10")
def test_the_store_answers_this_host_and_no_other_whether_a_mailbox_has_room(
    host: TestinfraHost, webmail: TestinfraHost, me: Host, office: Office
) -> None:
    """Only the MTA can ask the store whether a mailbox has room."""
    address = office.link_addresses(office.with_role("store")[0], me)[0]
    question = f"printf 'request=smtpd_access_policy\\nrecipient={office.mailboxes[0]}\\nsize=1\\n\\n'"
    socket = at(address, ports.QUOTA_STATUS)
    # openssl ends with the server, which waits for the next request; the answer comes long before four seconds
    ask = f"{question} | timeout {4 * pace.load():.0f} openssl s_client -quiet -connect {socket} -CAfile {TLS}/ca.pem"
    assert "action=" in host.run(f"{ask} {CERTIFICATE} 2>/dev/null").stdout
    assert "action=" not in host.run(f"{ask} 2>/dev/null").stdout
    assert "action=" not in webmail.run(f"{ask} {CERTIFICATE} 2>/dev/null").stdout


@pytest.mark.control("DOS-07", "DOS-08", "REL-05")
def test_postfix_goes_on_while_the_policy_service_is_down(
    postconf: dict[str, str], of_services: dict[str, str], units: Units
) -> None:
    """The policy service runs, and Postfix goes on without it if it is down."""
    restrictions = [value for name, value in postconf.items() if name.endswith("_restrictions")]
    services = [value for value in restrictions if "check_policy_service" in value]
    assert len(services) >= 4
    # DOS-07: each listener counts complete messages
    ends = ("smtpd_end_of_data_restrictions", "submission_end_of_data_restrictions")
    assert all("check_policy_service" in postconf.get(name, "") for name in ends)
    assert "check_policy_service" in postconf.get("smtpd_recipient_restrictions", "")
    assert [name for name in of_services if re.match("smtpd/pass/smtpd_.*_restrictions$", name)] == []
    assert all("default_action=DUNNO" in value for value in services)
    assert units.runs("outpost-policy.service")
    assert units.comes_up("outpost-policy.service")


@pytest.mark.control("SYS-01")
def test_the_policy_service_runs_in_a_sandbox(units: Units) -> None:
    """The policy service runs in a sandbox (at most 4.0 by systemd-analyze security)."""
    assert units.exposure("outpost-policy.service") <= 4.0


@pytest.mark.probe
@pytest.mark.control("AMP-05")
def test_a_large_message_to_many_destinations_is_more_than_the_line_carries(
    store: TestinfraHost, relay: IPAddress, office: Office
) -> None:
    """A large message to more destinations than the message budget allows is rejected."""
    user, size = office.mailboxes[0], int(office.limits.message_size)
    fits = int(office.limits.message_budget) // size
    if fits >= office.limits.recipients_per_message:
        pytest.skip("the budget of this office is above what one message can cost")
    recipients = [f"RCPT TO:<x@check{number}.example>" for number in range(fits + 1)]
    commands = [HELLO, f"XCLIENT LOGIN={user}", HELLO, f"MAIL FROM:<{user}> SIZE={size}", *recipients]
    answers = speak(store, relay, ports.SUBMISSION_RELAY, commands, tls=CERTIFICATE)
    assert answers[-2].startswith("250 2.1.5")
    assert answers[-1].startswith("552 5.3.4")


@pytest.mark.probe
@pytest.mark.control("REL-06")
def test_the_alarm_listener_takes_mail_for_the_postmaster_only(host: TestinfraHost, office: Office) -> None:
    """The MTA's listener for alarms accepts mail to the postmaster only."""
    from ipaddress import ip_address

    other = not_ones_own(office, office.postmaster)
    lines = [HELLO, "MAIL FROM:<>"] + [
        f"RCPT TO:<{to}>" for to in (office.postmaster, other, "x@elsewhere.example")
    ]
    answers = speak(host, ip_address("127.0.0.1"), 10025, lines)
    assert [answer[:3] for answer in answers[3:]] == ["250", "554", "554"]


@pytest.mark.control("AMP-03")
def test_mail_leaves_below_the_rate_of_the_line(host: TestinfraHost, edge: IPAddress, view: MtaView) -> None:
    """Outgoing mail is shaped below the rate of the line."""
    rate = shaped_rate(view)
    if not rate:
        pytest.skip("this office does not limit outgoing traffic ([link] shaped_percent = 0)")
    device = host.check_output(f"ip -oneline address show to {edge} | awk '{{ print $2; exit }}'")
    shown = json.loads(host.check_output(f"tc -json class show dev {device}"))
    roots = [entry for entry in shown if entry["handle"] == "1:1"]
    assert [root["ceil"] * 8 <= view.office.link.rate_kbit * 1000 for root in roots] == [True]
    handles = {entry["handle"] for entry in shown}  # with one for each flow of fq_codel that waits
    assert {each for each in handles if each.startswith("1:")} == {"1:1", "1:10", "1:20", "1:30"}


# Floods and malformed dialogues ---------------------------------------------------------------------------------


@pytest.mark.probe
@pytest.mark.control("DSN-12")
def test_a_message_that_goes_round_is_stopped(host: TestinfraHost, edge: IPAddress, office: Office) -> None:
    """A message in a mail loop is rejected."""
    hop = "Received: from a.example by b.example with ESMTP id 1; Mon, 6 Jan 2025 08:00:00 +0000"
    answer = stranger_says(host, edge, office, *[hop] * 120, "From: a@elsewhere.example", "", "x")
    assert answer.startswith(("554 5.4.0", "554 5.4.6"))


@pytest.mark.probe
@pytest.mark.control("INP-02", "DOS-05")
@pytest.mark.parametrize(
    ("helo", "sender", "code"),
    [
        ("check.invalid", "somebody@localhost", "504 5.5.2"),
        ("check.invalid", "somebody@no-such-domain.invalid", ("550 5.1.8", "450 4.1.8")),
        ("localhost", "", "504 5.5.2"),
        ("not_a_name!", "", "501 5.5.2"),
    ],
)
def test_a_helo_name_or_sender_domain_that_cannot_be_real_is_rejected(
    host: TestinfraHost, edge: IPAddress, office: Office, helo: str, sender: str, code: str | tuple[str, ...]
) -> None:
    """A HELO name or sender domain that cannot be real is rejected."""
    to = f"RCPT TO:<{office.mailboxes[0]}>"
    answers = speak(host, edge, ports.SMTP, [f"EHLO {helo}", f"MAIL FROM:<{sender}>", to])
    assert answers[-1].startswith(code)


@pytest.mark.probe
@pytest.mark.control("INP-03")
@pytest.mark.parametrize("command", ["EHLO ", "MAIL FROM:<", "EXPN "])
def test_endless_commands_end_in_an_error_or_the_end(
    host: TestinfraHost, edge: IPAddress, command: str
) -> None:
    """An overlong command ends in an error or ends the session."""
    lines = [HELLO, command + "a" * 20_000, "NOOP"]
    answers = speak(host, edge, ports.SMTP, lines)
    assert len(answers) > 1, f"no session: {answers}"
    greeting, hello, *replies = answers
    assert greeting.startswith("220")
    assert hello.startswith("250")
    # An overlong EHLO is cut, and its rest is refused. A session that is closed on unread input is reset, and a
    # reset takes answers with it that were on their way: fewer answers than commands is "the end".
    refused = any(answer.startswith("5") for answer in replies)
    assert refused or len(replies) < len(lines) - 1, replies
    assert speak(host, edge, ports.SMTP, [HELLO])[1].startswith("250")


@pytest.mark.control("DOS-01", "DOS-02", "DOS-04", "DOS-09")
def test_connections_messages_and_recipients_of_a_client_are_limited(
    postconf: dict[str, str], of_services: dict[str, str], office: Office, me: Host
) -> None:
    """Connections, messages and recipients of one client are limited."""
    limits = office.limits
    strangers = "smtpd/pass/"  # settings of their listener override main.cf
    postconf = postconf | {
        name.removeprefix(strangers): value
        for name, value in of_services.items()
        if name.startswith(strangers)
    }
    assert int(postconf["smtpd_client_connection_count_limit"]) == limits.connections_per_client
    assert int(postconf["smtpd_client_connection_rate_limit"]) == limits.connections_per_minute
    assert int(postconf["smtpd_client_message_rate_limit"]) == limits.messages_per_minute
    assert int(postconf["smtpd_client_recipient_rate_limit"]) == limits.client_recipients_per_minute
    assert int(postconf["smtpd_client_new_tls_session_rate_limit"]) > 0
    assert int(postconf["smtpd_client_ipv6_prefix_length"]) == 64
    spared = re.findall(r"[0-9a-f.:]+", postconf["smtpd_client_event_limit_exceptions"])
    assert {ip_address(address) for address in spared} == set(me.all_addresses)  # itself, and nobody else
    assert postconf["smtpd_per_request_deadline"] == "yes"
    assert "stress" in postconf["smtpd_timeout"] or int(postconf["smtpd_timeout"].removesuffix("s")) <= 60
    assert int(postconf["queue_minfree"]) >= 2 * int(limits.message_size)


@pytest.mark.control("DOS-01", "DOS-02")
def test_users_behind_one_address_are_counted_by_login(
    host: TestinfraHost, of_services: dict[str, str]
) -> None:
    """Mail of users is counted by login, not by the address that they share."""
    listeners = [line for line in host.check_output("postconf -M").splitlines() if ":10465" in line]
    assert listeners
    for line in listeners:
        name = "/".join(line.split()[:2])
        for rate in ("message", "recipient"):
            assert of_services.get(f"{name}/smtpd_client_{rate}_rate_limit") == "0"


@pytest.mark.control("AMP-01", "AMP-02", "AMP-04")
def test_one_message_does_not_become_many(
    postconf: dict[str, str], store: TestinfraHost, office: Office
) -> None:
    """Aliases, redirects and parallel deliveries are limited, so that one message does not become many."""
    assert int(postconf["default_destination_recipient_limit"]) >= office.limits.recipients_per_message
    assert 1 < int(postconf["default_destination_concurrency_limit"]) <= 10
    assert int(postconf["virtual_alias_expansion_limit"]) == office.alias_members
    assert doveconf(store)["sieve_max_redirects"] == str(office.limits.redirects)
