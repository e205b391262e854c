"""The office's routes from end to end: a canary goes through each, and the arriving message is checked.

Inside, and from the Internet's side, a message is sent, to the canary mailbox only. On other routes the next hop is asked up to
RCPT whether it accepts mail (``sendmail -bv``): over the real connection and TLS,
without sending anything. tests/journeys checks mail that arrives at peers and on the Internet.
"""

from __future__ import annotations

import re
import shlex

import pytest
from testinfra.host import Host as TestinfraHost

from outpost.office import Host, Office, ports
from outpost.target import Target
from tests.live.conftest import reach
from tests.live.messages import faults, new_token, recipients_of, report_faults, taken_out, written
from tests.live.pending import pend
from tests.live.speaking import TLS, speak

pytestmark = [
    pytest.mark.role("mta"),
    pytest.mark.remedy(
        "run journalctl -t 'postfix/*' on the MTA to see how far the message came, and postqueue -p to see what waits"
    ),
]

UNREACHED = re.compile(
    r"timed out|Connection refused|No route to host|Network is unreachable|not found", re.IGNORECASE
)
CERTIFICATE = f"-cert {TLS}/host.pem -key {TLS}/host.key"


@pytest.fixture(scope="module")
def store(target: Target, office: Office, pytestconfig: pytest.Config) -> TestinfraHost:
    """The host with the canary mailbox, from which users' mail comes."""
    return reach(target, office, office.with_role("store")[0], pytestconfig)


@pytest.fixture(autouse=True)
def mail_stays(office: Office) -> None:
    """The canary's mail goes to its mailbox only, also when a closed office redirects its mail."""
    if office.closing.forward:
        pytest.skip(f"the office is closing: its mail goes to {office.closing.forward} ([closing] forward)")


@pytest.mark.control("SPO-03", "TLS-10")
def test_a_message_from_outside_reaches_its_mailbox_with_valid_headers(
    host: TestinfraHost, store: TestinfraHost, me: Host, office: Office
) -> None:
    """A message from outside reaches its mailbox once, complete and with valid headers.

    The Authentication-Results header that the stranger wrote is gone.
    """
    token, edge = new_token(), office.addresses_of_kind(me, "internet")[0]
    forged = f"Authentication-Results: {me.fqdn}.invalid; dmarc=pass header.from=check.invalid"
    canary = written("canary@check.invalid", office.canary, token, forged)
    lines = ["EHLO check.invalid", "MAIL FROM:<>", f"RCPT TO:<{office.canary}>", "DATA", canary, "QUIT"]
    answers = speak(host, edge, ports.SMTP, lines)
    assert answers[5].startswith("250 2.0.0"), answers
    (arrived,) = taken_out(store, office.canary, token)
    assert list(faults(arrived, me.fqdn)) == []


@pytest.mark.control("REL-08", "DSN-05")
def test_a_users_message_arrives_and_its_sender_gets_a_report(
    store: TestinfraHost, me: Host, office: Office
) -> None:
    """A user's message arrives, and so does the DSN that it asked for, with headers only."""
    token, user = new_token(), office.canary
    relay = office.link_addresses(me, office.with_role("store")[0])[0]
    lines = [
        "EHLO check.invalid",
        f"XCLIENT LOGIN={user}",
        "EHLO check.invalid",
        f"MAIL FROM:<{user}> RET=HDRS",
    ]
    lines += [f"RCPT TO:<{user}> NOTIFY=SUCCESS,FAILURE", "DATA", written(user, user, token), "QUIT"]
    answers = speak(store, relay, ports.SUBMISSION_RELAY, lines, tls=CERTIFICATE)
    assert answers[-2].startswith("250 2.0.0"), answers
    arrived = taken_out(store, user, token, 2)
    report, canary = sorted(arrived, key=lambda message: message.get_content_type() != "multipart/report")
    assert [*faults(canary, me.fqdn), *faults(report, me.fqdn), *report_faults(report, me.fqdn, user)] == []
    (fields,) = recipients_of(report).values()
    assert fields["action"] in ("relayed", "delivered", "expanded")
    assert fields["status"].startswith("2.")


@pytest.mark.control("TLS-06", "TLS-09")
def test_every_peer_and_the_internet_would_take_the_offices_mail_now(
    host: TestinfraHost, store: TestinfraHost, me: Host, office: Office
) -> None:
    """Every peer and the Internet would accept the office's mail now.

    Each next hop meets the TLS demands of its route and accepts a recipient; no message is sent to anybody.
    """
    addresses = [f"postmaster@{peer.domains[0]}" for peer in office.peers] + list(
        office.verification.correspondents
    )
    if not addresses:
        pytest.skip("the office has no peers, and [verification] names no correspondents")
    token = new_token()
    sender = office.canary.replace("@", f"+{token}@")
    host.check_output(f"sendmail -bv -f {shlex.quote(sender)} {' '.join(map(shlex.quote, addresses))}")
    (report,) = taken_out(store, office.canary, token)
    recipients = recipients_of(report)
    assert sorted(recipients) == sorted(addresses)
    refused = {
        address: f"{one['action']}: {one.get('diagnostic-code', one['status'])}"
        for address, one in recipients.items()
    }
    refused = {address: why for address, why in refused.items() if not why.startswith("deliverable")}
    names = {f"postmaster@{peer.domains[0]}": peer.name for peer in office.peers}
    if refused and set(refused) <= set(names) and all(map(UNREACHED.search, refused.values())):
        listed = "".join(f"\n    {names[address]}: {why}" for address, why in refused.items())
        pend(f"at these peers, whose mail servers do not answer: what `./outpost peer OFFICE` prints{listed}")
    assert refused == {}
    assert [*faults(report, me.fqdn), *report_faults(report, me.fqdn, sender)] == []
