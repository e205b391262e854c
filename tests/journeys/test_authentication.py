"""SPF, DKIM, DMARC and ARC are checked on arrival, our own results are written, and forwarded mail is sealed.

The strangers are this machine, on the Internet's side of the lab: its address, its keys, and names made for each test.
"""

from __future__ import annotations

import base64
import gzip
import io
import json
import re
import smtplib
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from secrets import token_hex
from typing import Any

import dkim
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from imap_tools import AND

from outpost.office import Office
from outpost_lab import pace, world
from outpost_lab.instance import Instance
from outpost_lab.post import Neighbour, OfficeUser, Town, compose
from tests.awaiting import on_host
from tests.journeys.naming import Names, Record, text
from tests.journeys.resolving import txt_of

SELECTOR = b"key"
STRICT = "v=DMARC1; p=reject"
REPORT_TODAY = """
set -eu
# rspamadm believes no address under a top-level domain that the Public Suffix List does not have; "test" is none
{ cat /usr/share/publicsuffix/effective_tld_names.dat; echo test; } >/root/suffixes
printf '.include "/etc/rspamd/rspamd.conf"\noptions { url_tld = "/root/suffixes"; }\n' >/root/rspamd-test.conf
/usr/local/lib/outpost/dmarc-reports -c /root/rspamd-test.conf "$(date +%Y%m%d)"
rm /root/suffixes /root/rspamd-test.conf
"""


@dataclass(frozen=True)
class Key:
    """An RSA key, and what its DKIM record says."""

    pem: bytes
    record: str


@pytest.fixture(scope="module")
def key() -> Key:
    """The strangers' key; the name under which it is published says whose it is."""
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    return Key(pem, f"v=DKIM1; k=rsa; p={base64.b64encode(public).decode()}")


@pytest.fixture(scope="module")
def names(lab: Instance) -> Names:
    return Names(lab.container_name("root"), lab.container_name("mta"))


@pytest.fixture(scope="module")
def mta(town: Town) -> str:
    """The MTA's name, which is its authserv-id (RFC 8601, section 2.5)."""
    return f"mta.{town.info['domain']}"


@pytest.fixture
def domain() -> str:
    """A new mail domain."""
    return f"d{token_hex(5)}.internet.test"


Known = Callable[..., Any]


@pytest.fixture
def known(names: Names) -> Known:
    """Publish a domain: its mail server, SPF, DMARC policy and a DKIM key."""

    @contextmanager
    def publish(domain: str, *, spf: str = "", dmarc: str = "", dkim_key: str = "") -> Iterator[None]:
        records: list[Record] = [(f"{domain}.", "MX", "10 mx.internet.test.")]
        records += [(f"{domain}.", "TXT", text(f"v=spf1 {spf}"))] if spf else []
        records += [(f"_dmarc.{domain}.", "TXT", text(dmarc))] if dmarc else []
        records += [(f"key._domainkey.{domain}.", "TXT", text(dkim_key))] if dkim_key else []
        with names.published(records):
            yield

    return publish


@pytest.fixture
def here(lab: Instance) -> str:
    """This machine's address on the lab's Internet, as SPF names it."""
    return f"ip4:{world.address('wan', world.CONTROLLER_OCTET, lab.slot)[0]}"


def written(
    domain: str, recipient: str, body: str = "The drawings are in the annex.\r\n"
) -> tuple[bytes, str]:
    """A plain message from somebody at the domain, and the token in its subject."""
    token = f"outpost-{token_hex(8)}"
    fields = (
        f"From: Someone <someone@{domain}>",
        f"To: {recipient}",
        f"Subject: Message {token}",
        f"Date: {formatdate()}",
        f"Message-ID: {make_msgid(domain=domain)}",
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=us-ascii",
    )
    return ("\r\n".join(fields) + "\r\n\r\n" + body).encode(), token


def signed(message: bytes, domain: str, key: Key) -> bytes:
    """The message with a DKIM signature of the domain on top."""
    return bytes(dkim.sign(message, SELECTOR, domain.encode(), key.pem)) + message


def sealed(message: bytes, sealer: str, key: Key, seen: str) -> bytes:
    """The message as a forwarder sends it: with an addition and an ARC set."""
    changed = message + b"-- \r\nTo leave this list, write to the list.\r\n"
    results = f"Authentication-Results: {sealer}; {seen}\r\n".encode()
    fields = dkim.arc_sign(results + changed, SELECTOR, sealer.encode(), key.pem, sealer.encode())
    return b"".join(fields) + changed


def handed_over(
    town: Town, message: bytes, sender: str, recipient: str, helo: str = "outside.internet.test"
) -> tuple[int, str]:
    """The answer to the end of DATA, from the office's MTA to a stranger."""
    address = town.info["hosts"]["mta"]["addresses"]["wan"][0]
    with smtplib.SMTP(address, 25, local_hostname=helo, timeout=60 * pace.load()) as session:
        session.ehlo()
        session.mail(sender)
        code, answer = session.rcpt(recipient)
        assert code == 250, answer
        code, answer = session.data(message)
    return code, answer.decode()


def forwarded(by: Neighbour, message: bytes, sender: str, recipient: str) -> None:
    """The message, sent on by an honest mail server that does not belong to its domain."""
    command = [
        "docker",
        "exec",
        "--interactive",
        by.container,
        "sendmail",
        "-i",
        "-f",
        sender,
        "--",
        recipient,
    ]
    subprocess.run(command, input=message.replace(b"\r\n", b"\n"), check=True, capture_output=True)


def results_of(raw: bytes) -> list[str]:
    """Authentication-Results, unfolded."""
    arrived = message_from_bytes(raw, policy=policy.compat32)
    return [re.sub(r"\s+", " ", str(field)) for field in arrived.get_all("Authentication-Results", [])]


@pytest.mark.control("DMC-02")
def test_mail_that_its_domain_disowns_is_refused_in_the_session(
    town: Town, alice: OfficeUser, domain: str, known: Known
) -> None:
    message, token = written(domain, alice.address)
    with known(domain, spf="-all", dmarc=STRICT):
        code, answer = handed_over(town, message, f"someone@{domain}", alice.address)
    assert code in (550, 554)
    assert answer.startswith("5.7.1 Refused: ")
    assert "DMARC" in answer
    assert alice.count(token) == 0


@pytest.mark.control("DMC-02")
def test_mail_that_its_domain_wants_set_apart_goes_to_junk(
    town: Town, alice: OfficeUser, domain: str, known: Known
) -> None:
    message, token = written(domain, alice.address)
    message = f"X-Office-Author: someone@{domain}\r\n".encode() + message  # only our MTA writes it (JNK-04)
    with known(domain, spf="-all", dmarc="v=DMARC1; p=quarantine"):
        code, answer = handed_over(town, message, f"someone@{domain}", alice.address)
        assert code == 250, answer
        found = in_folder(alice, "Junk", token)
    assert found["X-Spam"] == "Yes"
    assert "X-Office-Author" not in found
    assert alice.count(token) == 0


@pytest.mark.control("DMC-02")
def test_an_office_may_put_disowned_mail_into_junk_instead(
    lab: Instance, town: Town, alice: OfficeUser, domain: str, known: Known
) -> None:
    """`[policy] disowned = "junk"`, as it would be rendered."""
    message, token = written(domain, alice.address)
    rules = "/etc/rspamd/lua.local.d/authentication.lua"
    again = f"systemctl restart rspamd.service; {on_host('rspamc -h /run/rspamd/controller.sock stat >/dev/null 2>&1', 60)}"

    def on_mta(script: str) -> None:
        command = ["docker", "exec", lab.container_name("mta"), "sh", "-euc", f"{script}; {again}"]
        subprocess.run(command, check=True, capture_output=True)

    on_mta(
        f"grep -q '^local DISOWNED = \"refuse\"' {rules}; sed -i.kept '/^local DISOWNED/s/refuse/junk/' {rules}"
    )
    try:
        with known(domain, spf="-all", dmarc=STRICT):
            code, answer = handed_over(town, message, f"someone@{domain}", alice.address)
            assert code == 250, answer
            assert in_folder(alice, "Junk", token)["X-Spam"] == "Yes"
    finally:
        on_mta(f"mv {rules}.kept {rules}")


@pytest.mark.control("SPF-02", "DMC-02", "SPO-03")
def test_results_are_our_own_and_forged_ones_are_gone(
    town: Town, alice: OfficeUser, domain: str, known: Known, here: str, mta: str
) -> None:
    message, token = written(domain, alice.address)
    forged = (
        f"Authentication-Results: {mta}; dkim=pass header.d=bank.test; dmarc=pass header.from=bank.test\r\n"
    )
    with known(domain, spf=f"{here} -all", dmarc=STRICT):
        code, answer = handed_over(town, forged.encode() + message, f"someone@{domain}", alice.address)
        assert code == 250, answer
        arrived = alice.receive(token)
        (results,) = results_of(arrived)
    assert message_from_bytes(arrived)["X-Office-Author"] == f"someone@{domain}"  # JNK-04
    assert results.startswith(f"{mta}; ")
    assert "bank.test" not in results
    assert "spf=pass" in results
    assert re.search(rf"dmarc=pass .*header\.from={re.escape(domain)}", results)


@pytest.mark.control("SPO-03")
def test_a_user_writes_no_results_either(alice: OfficeUser, bob: OfficeUser, mta: str) -> None:
    message = EmailMessage()
    token = f"outpost-{token_hex(8)}"
    message["From"], message["To"], message["Subject"] = alice.address, bob.address, f"Message {token}"
    message["Authentication-Results"] = f"{mta}; dmarc=pass header.from=bank.test"
    message["X-Office-Author"], message["X-Office-Origin"] = "proven", "the office's bank"
    message.set_content("Greetings from the site.\n")
    attached = EmailMessage()
    attached["Subject"], attached["X-Office-Origin"] = "An earlier message", "Internet"
    message.add_attachment(attached)
    alice.send(message, [bob.address])
    arrived = bob.receive(token)
    assert results_of(arrived) == []
    found = message_from_bytes(arrived, policy=policy.default)
    assert not [name for name in found if name.lower().startswith("x-office-")]
    assert [str(part["X-Office-Origin"]) for part in found.walk() if "X-Office-Origin" in part] == [
        "Internet"
    ]


@pytest.mark.control("SPF-02")
def test_a_sender_without_address_is_judged_by_its_name_at_helo(
    town: Town, alice: OfficeUser, domain: str, known: Known
) -> None:
    message, token = written(domain, alice.address)
    with known(domain, spf="-all"):
        code, answer = handed_over(town, message, "", alice.address, helo=domain)
        assert code == 250, answer
        found = in_folder(alice, "Junk", token)  # a name that says "not from here" is suspicious in itself
    (results,) = results_of(found.as_bytes())
    assert re.search(rf"spf=fail .*smtp\.helo={re.escape(domain)}", results), results


@pytest.mark.control("DMC-02")
def test_an_honest_forwarder_that_leaves_the_signature_whole_gets_through(
    alice: OfficeUser, stranger: Neighbour, domain: str, known: Known, key: Key
) -> None:
    message, token = written(domain, alice.address)
    with known(domain, spf="-all", dmarc=STRICT, dkim_key=key.record):
        forwarded(stranger, signed(message, domain, key), f"someone@{domain}", alice.address)
        (results,) = results_of(alice.receive(token))
    assert "spf=fail" in results
    assert "dkim=pass" in results
    assert "dmarc=pass" in results


# Rspamd's protocol /checkv2: messages as if strangers sent them; returns the action for each.
JUDGE = """
import http.client, json, socket, sys
for message in json.load(sys.stdin):
    controller = http.client.HTTPConnection("localhost")
    controller.sock = socket.socket(socket.AF_UNIX)
    controller.sock.connect("/run/rspamd/controller.sock")
    controller.request("POST", "/checkv2", message, {"IP": "192.0.2.1", "From": sys.argv[1], "Rcpt": sys.argv[2]})
    print(json.load(controller.getresponse())["action"])
"""


@pytest.mark.control("DOS-02")
def test_one_signature_is_taken_so_many_times_whatever_stands_before_it(
    lab: Instance, office: Office, alice: OfficeUser, domain: str, known: Known, key: Key
) -> None:
    """Copies of a signed message have other fields and signatures in front; only valid signatures are counted."""
    limit = office.same_signature

    def actions(message: bytes) -> list[str]:
        copies = [
            f"X-Copy: {number}\r\nDKIM-Signature: v=1; a=rsa-sha256; d={domain}; s=key; h=from; bh=eA==; b={token_hex(8)}\r\n"
            + message.decode()
            for number in range(limit + 2)
        ]
        done = subprocess.run(
            ["docker", "exec", "--interactive", lab.container_name("mta"), "python3", "-I", "-c", JUDGE,
             f"someone@{domain}", alice.address],
            input=json.dumps(copies), check=True, capture_output=True, text=True,
        )  # fmt: skip
        return str(done.stdout).splitlines()

    whole = signed(written(domain, alice.address)[0], domain, key)
    with known(domain, dkim_key=key.record):
        held = actions(whole)
        broken = actions(whole.replace(b"drawings", b"invoices"))
    assert "soft reject" not in held[:limit]
    assert held[limit:] == ["soft reject"] * 2
    assert "soft reject" not in broken


@pytest.mark.control("DMC-02")
def test_a_list_that_changes_mail_gets_through_where_no_policy_forbids_it(
    alice: OfficeUser, stranger: Neighbour, domain: str, known: Known
) -> None:
    message, token = written(domain, alice.address)
    with known(domain, spf="-all", dmarc="v=DMARC1; p=none"):
        forwarded(stranger, message, f"someone@{domain}", alice.address)
        alice.receive(token)


@pytest.mark.control("ARC-01", "DMC-02")
@pytest.mark.parametrize(
    ("trusted", "seen", "accepted"),
    [(True, "pass", True), (True, "fail", False), (False, "pass", False)],
    ids=["trusted", "trusted-but-saw-it-fail", "stranger"],
)
def test_a_trusted_sealer_saves_what_it_saw_pass(
    town: Town,
    lab: Instance,
    alice: OfficeUser,
    stranger: Neighbour,
    domain: str,
    known: Known,
    key: Key,
    trusted: bool,
    seen: str,
    accepted: bool,
) -> None:
    sealer = f"s{token_hex(5)}.internet.test" if not trusted else "myertor.test"
    zone = "myertor.test." if trusted else "internet.test."
    seals = Names(lab.container_name("root"), lab.container_name("mta"), zone)
    message, token = written(domain, alice.address)
    brought = sealed(
        signed(message, domain, key), sealer, key, f"dmarc={seen} header.from={domain}; spf={seen}"
    )
    sealing_key = [(f"key._domainkey.{sealer}.", "TXT", text(key.record))]
    with known(domain, spf="-all", dmarc=STRICT, dkim_key=key.record), seals.published(sealing_key):
        if accepted:
            forwarded(stranger, brought, f"someone@{domain}", alice.address)
            (results,) = results_of(alice.receive(token))
            assert "arc=pass" in results
        else:
            code, answer = handed_over(town, brought, f"someone@{domain}", alice.address)
            assert code in (550, 554), answer
            assert "DMARC" in answer


@pytest.mark.control("ARC-01")
def test_redirected_mail_leaves_sealed_with_what_was_seen_when_it_came(
    town: Town,
    lab: Instance,
    bob: OfficeUser,
    stranger: Neighbour,
    domain: str,
    known: Known,
    key: Key,
    here: str,
) -> None:
    message, token = written(domain, bob.address)
    with (
        redirecting(lab, bob.address, stranger.address),
        known(domain, spf=f"{here} -all", dmarc=STRICT, dkim_key=key.record),
    ):
        code, answer = handed_over(town, signed(message, domain, key), f"someone@{domain}", bob.address)
        assert code == 250, answer
        arrived = stranger.receive(token)
        office = town.info["domain"]
        chain, sets, why = dkim.arc_verify(arrived, dnsfunc=txt_of(town))
    assert chain == b"pass", why
    assert [entry["as-domain"] for entry in sets] == [office.encode()]
    field = message_from_bytes(arrived, policy=policy.compat32)["ARC-Authentication-Results"]
    assert re.search(rf"dmarc=pass .*header\.from={re.escape(domain)}", re.sub(r"\s+", " ", str(field)))


@pytest.mark.control("DMC-03")
def test_a_domain_that_asks_for_reports_gets_one(
    town: Town, lab: Instance, alice: OfficeUser, stranger: Neighbour, domain: str, known: Known
) -> None:
    """This also works if a domain of that day has an ideographic full stop, at which rspamadm fails."""
    message, _ = written(domain, alice.address)
    wide = town.info["domain"].replace(".", "\u3002")
    with known(domain, spf="-all", dmarc=f"{STRICT}; rua=mailto:{stranger.address}"):
        handed_over(town, written(wide, alice.address)[0], f"someone@{domain}", alice.address)
        handed_over(town, message, f"someone@{domain}", alice.address)
        command = ["docker", "exec", lab.container_name("mta"), "sh", "-c", REPORT_TODAY]
        subprocess.run(command, check=True, capture_output=True)
        raw = stranger.receive(f"Report Domain: {domain}")
    report = message_from_bytes(raw, policy=policy.default)
    assert report["From"].addresses[0].addr_spec == f"dmarc-reports@{town.info['domain']}"
    (packed,) = (part for part in report.walk() if part.get_content_type() == "application/gzip")
    content = packed.get_payload(decode=True)
    assert isinstance(content, bytes)
    xml = gzip.decompress(content).decode()
    assert f"<header_from>{domain}</header_from>" in xml
    assert "<disposition>reject</disposition>" in xml
    assert dkim.verify(raw, dnsfunc=txt_of(town))


def packed_report(name: str) -> tuple[bytes, str]:
    """A report as other servers send it, and its type."""
    match name.partition(".")[2]:
        case "xml.gz":
            return gzip.compress(b"<feedback/>"), "application/gzip"
        case "zip":
            archive = io.BytesIO()
            with zipfile.ZipFile(archive, "w") as file:
                file.writestr("report.xml", "<feedback/>")
            return archive.getvalue(), "application/zip"
        case _:
            return gzip.compress(b'{"policies": []}'), "application/tlsrpt+gzip"


@pytest.mark.control("DMC-01", "TLS-08")
@pytest.mark.parametrize(
    ("mailbox", "name"),
    [("dmarc-reports", "report.xml.gz"), ("dmarc-reports", "report.zip"), ("tls-reports", "report.json.gz")],
)
def test_reports_of_others_reach_the_postmaster(
    town: Town, alice: OfficeUser, stranger: Neighbour, mailbox: str, name: str
) -> None:
    """To the addresses that the DNS gives them; alice is the lab's postmaster."""
    recipient = f"{mailbox}@{town.info['domain']}"
    message, token = compose(stranger.address, [recipient], "This is an aggregate report.\n")
    content, kind = packed_report(name)
    message.add_attachment(content, *kind.split("/"), filename=name)
    stranger.send(message, [recipient])
    arrived = message_from_bytes(alice.receive(token), policy=policy.default)
    assert [part.get_payload(decode=True) for part in arrived.iter_attachments()] == [content]


@contextmanager
def redirecting(lab: Instance, user: str, to: str) -> Iterator[None]:
    """The user's filter forwards everything."""
    store = lab.container_name("store")

    def doveadm(*words: str, stdin: str = "") -> None:
        subprocess.run(
            ["docker", "exec", "--interactive", store, "doveadm", "sieve", *words],
            input=stdin,
            text=True,
            check=True,
            capture_output=True,
        )

    doveadm("put", "-u", user, "-a", "onward", stdin=f'redirect "{to}";\n')
    try:
        yield
    finally:
        doveadm("deactivate", "-u", user)
        doveadm("delete", "-u", user, "onward")


def in_folder(user: OfficeUser, folder: str, token: str) -> Any:
    """Wait for the message in one of the user's folders."""
    with user.mailbox() as mailbox:
        mailbox.folder.set(folder)
        for _ in range(30):
            for message in mailbox.fetch(AND(subject=token), mark_seen=False, limit=1):
                return message.obj
            mailbox.idle.wait(timeout=2)
    raise AssertionError(f"no message with {token} in {folder} of {user.address}")
