"""What the running filter does with a message: Rspamd and ClamAV are asked directly, and nothing is delivered."""

from __future__ import annotations

import base64
import gzip
import io
import json
import re
import zipfile
from email.utils import formatdate
from typing import Any

import dkim
import dns.rdatatype
import pytest
from testinfra.host import Host as TestinfraHost

from outpost.office import Host, Office, ports
from outpost.office.tables.values import IPAddress
from roles.mta.view import MtaView
from tests.live.asking import ask, not_ones_own, query
from tests.live.pending import unless_delegated
from tests.live.speaking import speak

pytestmark = [pytest.mark.role("mta"), pytest.mark.looks, pytest.mark.probe]

ELSEWHERE = "somebody@elsewhere.example"
STRANGER = "192.0.2.1"  # TEST-NET-1: an address that no SPF record of the office allows
EICAR = ("X5O!P%@AP[4\\PZX54(P^)7CC)7}$EI", "CAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*")
LEVELS = 8
"""Archives within archives that honest people send, and a few more; ClamAV's own default is 17."""

# Rspamd's own protocol (/checkv2) on the controller's socket: root only.
_JUDGE = """
import http.client, json, socket, sys
fields, message = json.loads(sys.argv[1])
class Controller(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect("/run/rspamd/controller.sock")
controller = Controller("localhost")
controller.request("POST", "/checkv2", message.encode(), fields)
print(controller.getresponse().read().decode())
"""
# clamd(8), INSTREAM
_SCAN = """
import base64, socket, struct, sys
content, scanner = base64.b64decode(sys.argv[1]), socket.socket(socket.AF_UNIX)
scanner.connect(sys.argv[2])
scanner.sendall(b"zINSTREAM\\0" + struct.pack("!I", len(content)) + content + struct.pack("!I", 0))
print(scanner.recv(4096).decode())
"""


@pytest.fixture(scope="module")
def view(office: Office, me: Host) -> MtaView:
    return MtaView(office, me)


@pytest.fixture(scope="module")
def edge(office: Office, me: Host) -> IPAddress:
    """The address to which strangers connect."""
    return office.addresses_of_kind(me, "internet")[0]


def message(author: str, reader: str = ELSEWHERE, date: str = "Mon, 06 Jan 2025 08:00:00 +0000") -> str:
    """An ordinary message; without a Message-ID the filter remembers nothing of it."""
    lines = (f"From: {author}", f"To: {reader}", "Subject: check", f"Date: {date}")
    return "\r\n".join((*lines, "", "x", ""))


def judged(host: TestinfraHost, text: str, **fields: str) -> dict[str, Any]:
    """The running Rspamd's result for a message with these origins."""
    result: dict[str, Any] = json.loads(
        host.check_output("python3 -I -c %s %s", _JUDGE, json.dumps([fields, text]))
    )
    assert "symbols" in result, result
    return result


def scanned(host: TestinfraHost, view: MtaView, content: bytes) -> str:
    """The running clamd's result for a file."""
    encoded = base64.b64encode(content).decode()
    answer: str = host.check_output("python3 -I -c %s %s %s", _SCAN, encoded, view.scanner_socket)
    return answer.strip("\0 \n")


def packed(name: str, content: bytes) -> bytes:
    """A zip archive with the same octets each time; compressed, so that the content is not visible."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


# Signatures -----------------------------------------------------------------------------------------------------


@pytest.mark.control("SPO-03", "JNK-04")
def test_nobody_outside_writes_what_the_store_believes(host: TestinfraHost, office: Office) -> None:
    """What a stranger wrote in the name of the filter is removed."""
    result = judged(host, message(ELSEWHERE), IP=STRANGER, From=ELSEWHERE, Rcpt=office.mailboxes[0])
    removed = result["milter"]["remove_headers"]
    assert {"Authentication-Results", "X-Office-Author", "X-Spam-Level", "X-Spam-Status"} <= removed.keys()


@pytest.mark.control("DSN-02")
def test_spam_is_refused_at_the_offices_thresholds(host: TestinfraHost, office: Office, me: Host) -> None:
    """A message is marked as junk at a score of 6, and refused at 15."""
    if me.local_conf("/etc/rspamd/"):
        pytest.skip("this office declares settings of its own for the filter: hosts.NAME.local")
    result = judged(host, message(ELSEWHERE), IP=STRANGER, From=ELSEWHERE, Rcpt=office.mailboxes[0])
    assert result["thresholds"] == {"reject": 15.0, "add header": 6.0}


@pytest.mark.control("DKM-01", "DKM-02", "DKM-03", "DKM-04")
def test_what_users_send_is_signed_so_that_others_can_verify_it(
    host: TestinfraHost, me: Host, office: Office
) -> None:
    """Users' mail gets two DKIM signatures that verify with the keys in the DNS.

    A user's message, as the store hands it over, is signed over all header fields that matter.
    """
    user, text = office.mailboxes[0], message(office.mailboxes[0])
    store = str(office.link_addresses(office.with_role("store")[0], me)[0])
    result = judged(host, text, IP=store, User=user, From=user, Rcpt=ELSEWHERE)
    made = result.get("dkim-signature", [])
    signatures = [made] if isinstance(made, str) else made
    tags = [dkim.util.parse_tag_value("".join(each.split()).encode()) for each in signatures]
    assert {each[b"a"] for each in tags} == {b"rsa-sha256", b"ed25519-sha256"}, f"signed: {signatures}"
    assert {each[b"d"] for each in tags} == {office.domain.encode()}
    for each in tags:
        signed = each[b"h"].lower().split(b":")
        # one more than the message has, so that nobody can add another
        assert all(signed.count(field) > 1 for field in (b"from", b"to", b"subject", b"date")), signed
    names = [f"{each[b's'].decode()}._domainkey.{office.domain}" for each in tags]
    answers = ask(host, "127.0.0.1", [query(name, "TXT", recurse=True) for name in names])
    keys = {
        f"{name}.".encode(): b"".join(
            text
            for rrset in answer.answer
            if rrset.rdtype == dns.rdatatype.TXT
            for data in rrset
            for text in data.strings
        )
        for name, answer in zip(names, answers, strict=True)
    }
    if not all(keys.values()):
        unless_delegated(host, office.domain)
    for signature in signatures:
        whole = f"DKIM-Signature: {signature}\r\n{text}".encode()
        assert dkim.verify(whole, dnsfunc=lambda name, **_: keys.get(name, b"")), signature


@pytest.mark.control("DKM-01", "SPO-02")
def test_mail_from_strangers_is_not_signed(host: TestinfraHost, office: Office) -> None:
    """Mail from strangers gets no DKIM signature of the office."""
    for author in (office.mailboxes[0], ELSEWHERE):
        result = judged(host, message(author), IP=STRANGER, From=author, Rcpt=office.mailboxes[0])
        assert "dkim-signature" not in result, author


# Authors --------------------------------------------------------------------------------------------------------

DIGITS = str.maketrans("olestbai", "01357841")


@pytest.mark.control("SPO-01")
@pytest.mark.parametrize(
    "form",
    [
        "<>",
        "",
        "director@{digits}",
        "director@{stops}",
        "Director <director@{stops}>",
        "director\uff20{stops}",
    ],
    ids=[
        "no address",
        "nothing",
        "digits",
        "full stops",
        "full stops and a name",
        "full stops and a wide at",
    ],
)
def test_an_author_who_is_none_or_resembles_ours_is_refused_or_marked(
    host: TestinfraHost, office: Office, form: str
) -> None:
    """A From header without an address, or with a domain like the office's, is rejected or marked.

    The office's own rules do this, whatever else speaks against the message.
    """
    if office.policy.impersonation == "accept":
        pytest.skip("this office accepts such mail unmarked ([policy] impersonation)")
    stops = office.domain.replace(".", "\u3002")  # UTS 46, section 2.3: a dot as well
    author = form.format(digits=office.domain.translate(DIGITS), stops=stops)
    assert_refused_or_marked(host, office, author)


def assert_refused_or_marked(host: TestinfraHost, office: Office, author: str) -> None:
    result = judged(host, message(author), IP=STRANGER, From=ELSEWHERE, Rcpt=office.mailboxes[0])
    origin = json.dumps(result.get("milter", {}).get("add_headers", {}).get("X-Office-Origin", ""))
    refused = "refuse" in (office.policy.impersonation, office.policy.forged_own) and result["messages"].get(
        "smtp_message"
    )
    assert refused or "under the name of somebody else" in origin, (author, result["action"], origin)


ALIKE = str.maketrans(
    "aeiocpACEHOP", "\u0251\u212e\u0131\u0585\u1d04\u0440\u0410\u0421\u0415\u041d\u041e\u0420"
)


@pytest.mark.control("SPO-01")
@pytest.mark.parametrize("form", ["alike", "sign", "square"])
def test_a_colleagues_name_in_other_characters_is_refused_or_marked(
    host: TestinfraHost, office: Office, form: str
) -> None:
    """A user's name written in confusable characters is rejected or marked.

    One has letters that Unicode calls confusable, one a character that it does not list as such, one a letter in a black square.
    """
    if office.policy.impersonation == "accept":
        pytest.skip("this office accepts such mail unmarked ([policy] impersonation)")
    latin = re.compile(r"[A-Z][a-z]{3,}( [A-Z][a-z]+)+")
    name = next((user.full_name for user in office.users if latin.fullmatch(user.full_name)), "")
    if not name:
        pytest.skip("no user has a name of several words in ASCII")
    square = chr(ord(name[0]) - ord("A") + 0x1F170)
    written = {
        "alike": name.translate(ALIKE),
        "sign": f"{name[0]}\u2200{name[2:]}",
        "square": square + name[1:],
    }
    assert_refused_or_marked(host, office, f"{written[form]} <director@internet.invalid>")


# What the sender's domain says ----------------------------------------------------------------------------------


@pytest.mark.control("DMC-02")
def test_mail_that_its_domain_disowns_ends_as_the_office_says(host: TestinfraHost, office: Office) -> None:
    """Mail that fails a DMARC policy of "reject" is rejected or marked as junk, as the office file says.

    The office's own domain has that policy; its rule about forged senders is off for this one message.
    Nothing else speaks against the message: its score alone would let it pass.
    """
    author, reader = not_ones_own(office, office.mailboxes[0]), office.mailboxes[0]
    settings = json.dumps({"symbols_disabled": ["OFFICE_SENDER", "HFILTER_CHECK", "RDNS_NONE"]})
    result = judged(
        host, message(author, reader, formatdate()), IP=STRANGER, From=author, Rcpt=reader, Settings=settings
    )
    if "DMARC_POLICY_REJECT" not in result["symbols"]:
        unless_delegated(host, office.domain)
    assert "DMARC_POLICY_REJECT" in result["symbols"], sorted(result["symbols"])
    wanted = "reject" if office.policy.disowned == "refuse" else "add header"
    assert result["action"] == wanted, result.get("messages")
    assert result["score"] < result["required_score"], sorted(result["symbols"])


# The scanner ----------------------------------------------------------------------------------------------------


@pytest.mark.control("VIR-03")
def test_the_scanner_reports_what_has_a_password(host: TestinfraHost, office: Office, view: MtaView) -> None:
    """ClamAV reports archives with a password if the office file refuses them."""
    locked = bytearray(packed("secret.txt", b"x" * 64))
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        locked[locked.index(signature) + flags] |= 1
    refused = office.policy.encrypted_archives == "refuse"
    assert (
        scanned(host, view, bytes(locked))
        == f"stream: {'Heuristics.Encrypted.Zip FOUND' if refused else 'OK'}"
    )


@pytest.mark.control("VIR-01", "DOS-10")
@pytest.mark.parametrize(
    ("content", "verdict"),
    [(b"honest", "OK"), ("".join(EICAR).encode(), "EICAR")],
    ids=["honest", "EICAR"],
)
def test_the_scanner_opens_archives_within_archives(
    host: TestinfraHost, view: MtaView, content: bytes, verdict: str
) -> None:
    """ClamAV scans archives within archives."""
    for level in range(LEVELS):
        content = packed(f"{level}.zip" if level else "within.txt", content)
    assert verdict in scanned(host, view, content).upper()


@pytest.mark.control("VIR-01")
def test_the_scanner_refuses_an_archive_that_lies_in_any_wrapping(host: TestinfraHost, view: MtaView) -> None:
    """ClamAV reports an archive whose headers contradict each other, however it is wrapped.

    The local header gives a member a smaller size than the directory does; the same archive without this change passes.
    """
    honest = packed("within.txt", b"x" * 999)
    lying = honest[:18] + b"\2\0\0\0" + honest[22:]
    assert scanned(host, view, gzip.compress(honest)) == "stream: OK"
    for within in (lying, gzip.compress(lying), packed("b.zip", gzip.compress(lying))):
        assert "that_lies" in scanned(host, view, within)


# Strangers' listener --------------------------------------------------------------------------------------------


@pytest.mark.control("DOS-03")
def test_strangers_meet_postscreen_before_anything_else(host: TestinfraHost, edge: IPAddress) -> None:
    """postscreen handles strangers' connections first.

    It logs each client in the journal.
    """
    cursor = (
        host.run("journalctl --quiet --lines=0 --show-cursor", live=True)
        .stdout.partition("cursor: ")[2]
        .strip()
    )
    assert speak(host, edge, ports.SMTP)[0].startswith("220")
    noted = host.run(
        "journalctl --sync; journalctl --quiet --identifier=postfix/postscreen --after-cursor=%s --output=cat",
        cursor,
        live=True,
    ).stdout
    assert f"CONNECT from [{edge}]" in noted, f"postscreen noted: {noted!r}"


@pytest.mark.control("DOS-10")
def test_what_is_packed_too_deeply_is_refused(host: TestinfraHost, office: Office) -> None:
    """An archive beyond ClamAV's limits is refused."""
    archive = b"x"
    for _ in range(3 * LEVELS):
        archive = packed("a.zip", archive)
    head = "Content-Type: application/zip; name=a.zip\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    text = message(ELSEWHERE).partition("\r\n\r\n")[0] + f"\r\nMIME-Version: 1.0\r\n{head}"
    text += base64.encodebytes(archive).decode()
    result = judged(host, text, IP=STRANGER, From=ELSEWHERE, Rcpt=office.mailboxes[0])
    assert result["messages"].get("smtp_message") == "Refused: packed too deeply to be scanned"


@pytest.mark.control("VIR-03")
@pytest.mark.parametrize(
    "content",
    [packed("run.exe", b"x"), b"\x1f\x8b\x08\x08" + bytes(6) + b"run.exe\0", b"\x04\x22\x4d\x18" + bytes(64)],
    ids=["names in archives", "names elsewhere", "content"],
)
def test_the_scanner_knows_what_the_office_refuses(
    host: TestinfraHost, view: MtaView, office: Office, content: bytes
) -> None:
    """ClamAV has each of the office's own lists of refused files."""
    if "exe" not in office.policy.refused_attachments:
        pytest.skip("this office accepts such mail: .exe is not in [policy] refused_attachments")
    assert "Outpost.Not-taken-by-mail" in scanned(host, view, content)
