"""Ordinary mail of an office, made at run time: what honest people, lists and machines send every day.

Each message must pass the MTA unharmed. Each is written as the program in its id writes mail, from RFCs and examples; no real
message is copied. ``ordinary(recipient)`` gives (id, message) pairs.
"""

from __future__ import annotations

import base64
import io
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from email.message import EmailMessage, Message, MIMEPart
from email.mime.application import MIMEApplication
from email.mime.base import MIMEBase
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from email.policy import SMTP
from email.utils import formatdate, make_msgid
from secrets import token_hex

from outpost_lab.attack.content import signed

SENDER = "peter@internet.test"
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"


def ordinary(recipient: str) -> Iterator[tuple[str, bytes]]:
    """Every message of the corpus, ready for SMTP."""
    for make in _MESSAGES:
        message = make()
        for name, value in (
            ("From", SENDER),
            ("To", recipient),
            ("Subject", make.__name__.replace("_", " ")),
            ("Date", formatdate()),
            ("Message-ID", make_msgid(domain=SENDER.partition("@")[2])),
        ):
            if name not in message:
                message[name] = value
        lines = message.as_bytes(policy=SMTP).splitlines()
        yield make.__name__.replace("_", "-"), b"\r\n".join(lines) + b"\r\n"


_MESSAGES: list[Callable[[], Message]] = []


def _written(make: Callable[[], Message]) -> Callable[[], Message]:
    _MESSAGES.append(make)
    return make


def _text(content: str = "Dear all,\n\nthe crane comes on Monday at seven.\n\nRegards\n") -> EmailMessage:
    message = EmailMessage()
    message.set_content(content)
    return message


def _png(side: int = 8) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4) + kind + data + zlib.crc32(kind + data).to_bytes(4)

    rows = b"".join(b"\0" + bytes((x * 31 + y * 17) % 256 for x in range(side * 3)) for y in range(side))
    size = side.to_bytes(4) * 2 + b"\x08\x02\0\0\0"
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", size)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def _jpeg() -> bytes:
    return base64.b64decode(
        "/9j/4AAQSkZJRgABAQEASABIAAD/2wBDAAMCAgICAgMCAgIDAwMDBAYEBAQEBAgGBgUGCQgKCgkICQkKDA8MCgsOCwkJDRENDg8QEBEQCgwSExIQ"
        "Ew8QEBD/yQALCAABAAEBAREA/8wABgAQEAX/2gAIAQEAAD8A0s8g/9k="
    )


def _pdf() -> bytes:
    body = (
        b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n"
        b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]>>endobj\n"
    )
    return body + b"trailer<</Root 1 0 R>>\n%%EOF\n"


def pdf_of(words: str) -> bytes:
    """A page that says so."""
    drawn = f"BT /F1 12 Tf 72 700 Td ({words}) Tj ET".encode()
    objects = (
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>",
        b"<</Length %d>>stream\n%s\nendstream" % (len(drawn), drawn),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    )
    file, places = b"%PDF-1.4\n", []
    for number, each in enumerate(objects, 1):
        places.append(len(file))
        file += b"%d 0 obj\n%s\nendobj\n" % (number, each)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    size = len(objects) + 1
    return file + (
        b"xref\n0 %d\n0000000000 65535 f \n%strailer\n<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n"
        % (size, table, size, len(file))
    )


def office_document(text: str) -> bytes:
    """A Word document with this markup as its text."""
    return _zip(**{"word/document.xml": text.encode()})


def _zip(**files: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name.replace("__", "/").replace("_DOT_", "."), content)
    return packed.getvalue()


def _docx() -> bytes:
    return _zip(
        **{
            "[Content_Types].xml": b'<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/'
            b'content-types"><Default Extension="xml" ContentType="application/xml"/></Types>',
            "word/document.xml": b'<?xml version="1.0"?><w:document xmlns:w="http://schemas.openxmlformats.org/'
            b'wordprocessingml/2006/main"><w:body/></w:document>',
        }
    )


@_written
def plain_text() -> Message:
    return _text()


@_written
def plain_text_with_umlauts_in_8bit() -> Message:
    message = EmailMessage()
    message.set_content("Grüße aus Köln\n", cte="8bit")
    return message


@_written
def format_flowed_reply_with_quotes() -> Message:
    message = EmailMessage()
    message.set_content(
        "> Shall we start on Monday? \n> I think so.\n\nYes, at seven.\n", params={"format": "flowed"}
    )
    message["In-Reply-To"] = "<20250101.1@mail.example.com>"
    message["References"] = "<20241231.9@mail.example.com> <20250101.1@mail.example.com>"
    message["Subject"] = "Re: Re: AW: start of work"
    return message


@_written
def html_newsletter() -> Message:
    message = _text("Our spring offers: https://shop.internet.test/spring\n")
    rows = "".join(
        f'<tr><td style="padding:8px"><a href="https://shop.internet.test/{item}?utm_source=mail">Offer {item}</a></td></tr>'
        for item in range(40)
    )
    message.add_alternative(
        f"<html><head><style>td{{font:14px sans-serif}}</style></head><body><table>{rows}</table>"
        '<img src="https://shop.internet.test/open.gif" width="1" height="1" alt=""></body></html>',
        subtype="html",
    )
    message["List-Unsubscribe"] = "<https://shop.internet.test/u/1>, <mailto:unsubscribe@internet.test>"
    message["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    message["Precedence"] = "bulk"
    message["Feedback-ID"] = "1:spring:shop"
    return message


@_written
def html_only() -> Message:
    message = EmailMessage()
    message.set_content(
        "<html><body><p>Good morning,<br>the plans are <b>ready</b>.</p></body></html>", subtype="html"
    )
    return message


@_written
def html_with_inline_logo() -> Message:
    message = _text()
    message.add_alternative('<p>Regards</p><img src="cid:logo@internet.test">', subtype="html")
    _, html = message.iter_parts()
    assert isinstance(html, EmailMessage)
    html.add_related(
        _png(), "image", "png", cid="<logo@internet.test>", filename="logo.png", disposition="inline"
    )
    return message


@_written
def html_part_with_a_file_name() -> Message:
    message = MIMEMultipart("alternative")
    message.attach(MIMEText("text", "plain"))
    html = MIMEText("<p>text</p>", "html")
    html.add_header("Content-Disposition", "inline", filename="message.html")
    message.attach(html)
    return message


@_written
def mailing_list_post() -> Message:
    message = _text("Has anybody a source for M24 bolts?\n-- \n_____\nbuilders mailing list\n")
    message["Sender"] = "builders-bounces@internet.test"
    message["From"] = '"Peter Planner via Builders" <builders@internet.test>'
    message["Reply-To"] = "Peter Planner <peter@internet.test>"
    message["Subject"] = "[Builders] M24 bolts"
    message["List-Id"] = "Builders <builders.internet.test>"
    message["List-Post"] = "<mailto:builders@internet.test>"
    message["Precedence"] = "list"
    message["X-Mailman-Version"] = "3.3.3"
    return message


@_written
def mailing_list_digest() -> Message:
    message = MIMEMultipart("mixed")
    message.attach(MIMEText("Today's topics:\n\n1. bolts\n2. nuts\n"))
    digest = MIMEMultipart("digest")
    for topic in ("bolts", "nuts"):
        post = _text(f"About {topic}.\n")
        post["From"], post["Subject"] = f"{topic}@internet.test", topic
        holder = MIMEBase("message", "rfc822")
        holder.attach(post)
        digest.attach(holder)
    message.attach(digest)
    message["List-Id"] = "<builders.internet.test>"
    return message


@_written
def forward_as_attachment() -> Message:
    inner = _text("The original.\n")
    inner["From"], inner["Subject"], inner["Date"] = "somebody@internet.test", "original", formatdate()
    message = _text("See below.\n")
    message.add_attachment(inner, filename="original.eml")
    return message


@_written
def forward_of_a_forward_of_a_forward() -> Message:
    inner = _text("The first words.\n")
    inner["Subject"] = "first"
    for level in range(4):
        outer = _text(f"Forward {level}.\n")
        outer["Subject"] = f"Fwd {level}"
        outer.add_attachment(inner)
        inner = outer
    del inner["Subject"]
    return inner


@_written
def forwarded_by_a_server() -> Message:
    message = _text()
    for hop in range(6):
        message["Received"] = (
            f"from relay{hop}.internet.test (relay{hop}.internet.test [192.0.2.{hop + 1}]) by relay{hop + 1}.internet.test "
            f"with ESMTPS id {token_hex(5)} for <x@internet.test>; {formatdate()}"
        )
    message["X-Forwarded-To"] = "new-address@internet.test"
    message["Delivered-To"] = "old-address@internet.test"
    return message


def _calendar(method: str) -> Message:
    entry = (
        f"BEGIN:VCALENDAR\r\nPRODID:-//Office//EN\r\nVERSION:2.0\r\nMETHOD:{method}\r\nBEGIN:VEVENT\r\n"
        "UID:1@internet.test\r\nDTSTAMP:20250101T080000Z\r\nDTSTART:20250106T080000Z\r\nDTEND:20250106T090000Z\r\n"
        "SUMMARY:Site meeting\r\nORGANIZER:mailto:peter@internet.test\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
    )
    message = MIMEMultipart("mixed")
    bodies = MIMEMultipart("alternative")
    bodies.attach(MIMEText("Site meeting on Monday\n"))
    bodies.attach(MIMEText("<p>Site meeting on Monday</p>", "html"))
    invitation = MIMEText(entry, "calendar", "utf-8")
    invitation.set_param("method", method)
    bodies.attach(invitation)
    message.attach(bodies)
    attached = MIMEBase("application", "ics", name="invite.ics")
    attached.set_payload(base64.encodebytes(entry.encode()).decode())
    attached["Content-Transfer-Encoding"] = "base64"
    attached.add_header("Content-Disposition", "attachment", filename="invite.ics")
    message.attach(attached)
    return message


@_written
def calendar_invitation() -> Message:
    return _calendar("REQUEST")


@_written
def calendar_acceptance() -> Message:
    return _calendar("REPLY")


@_written
def pgp_signed() -> Message:
    message = MIMEMultipart("signed", micalg="pgp-sha256", protocol="application/pgp-signature")
    message.attach(MIMEText("Signed words.\n"))
    signature = MIMEApplication(
        b"-----BEGIN PGP SIGNATURE-----\n\n"
        + base64.encodebytes(b"s" * 300)
        + b"-----END PGP SIGNATURE-----\n",
        "pgp-signature",
        name="OpenPGP_signature.asc",
    )
    signature.add_header("Content-Disposition", "attachment", filename="OpenPGP_signature.asc")
    message.attach(signature)
    return message


@_written
def pgp_encrypted() -> Message:
    message = MIMEMultipart("encrypted", protocol="application/pgp-encrypted")
    message.attach(MIMEApplication(b"Version: 1\n", "pgp-encrypted"))
    body = (
        b"-----BEGIN PGP MESSAGE-----\n\n"
        + base64.encodebytes(bytes(range(256)) * 4)
        + b"-----END PGP MESSAGE-----\n"
    )
    message.attach(MIMEApplication(body, "octet-stream", name="encrypted.asc"))
    return message


@_written
def pgp_public_key() -> Message:
    message = _text()
    message.add_attachment(
        b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n-----END PGP PUBLIC KEY BLOCK-----\n",
        maintype="application",
        subtype="pgp-keys",
        filename="OpenPGP_0x1234.asc",
    )
    return message


@_written
def smime_signed() -> Message:
    message = MIMEMultipart("signed", protocol="application/pkcs7-signature", micalg="sha-256")
    message.attach(MIMEText("Signed words.\n"))
    signature = MIMEApplication(b"\x30\x82" + bytes(range(200)), "pkcs7-signature", name="smime.p7s")
    signature.add_header("Content-Disposition", "attachment", filename="smime.p7s")
    message.attach(signature)
    return message


@_written
def smime_encrypted() -> Message:
    message = MIMEApplication(b"\x30\x82" + bytes(range(256)) * 3, "pkcs7-mime", name="smime.p7m")
    message.set_param("smime-type", "enveloped-data")
    message.add_header("Content-Disposition", "attachment", filename="smime.p7m")
    return message


@_written
def smime_signed_within() -> Message:
    message = MIMEApplication(signed(b"Content-Type: text/plain\r\n\r\nSigned words.\r\n"), "pkcs7-mime")
    message.set_param("smime-type", "signed-data")
    message.add_header("Content-Disposition", "attachment", filename="smime.p7m")
    return message


@_written
def signed_invoice() -> Message:
    message = _text("Please find our invoice attached. Unpack it with begin 644 in mind.\n")
    message.add_attachment(
        signed(b"<?xml version='1.0'?><invoice/>"),
        maintype="application",
        subtype="octet-stream",
        filename="IT01234567890_00001.xml.p7m",
    )
    return message


@_written
def big_provider_shape() -> Message:
    message = _text()
    message["ARC-Seal"] = f"i=1; a=rsa-sha256; t=1; cv=none; d=internet.test; s=arc; b={'QUJD' * 40}"
    message["ARC-Message-Signature"] = (
        f"i=1; a=rsa-sha256; c=relaxed/relaxed; d=internet.test; s=arc; h=from; b={'QUJD' * 40}"
    )
    message["ARC-Authentication-Results"] = "i=1; mx.internet.test; spf=pass smtp.mailfrom=x@internet.test"
    message["X-Received"] = (
        "by 2002:a05:6512:1:b0:1:2:3 with SMTP id a1; Mon, 06 Jan 2025 08:00:00 -0800 (PST)"
    )
    message["X-Gm-Message-State"] = "AOJu0Yw" + "a" * 200
    message["X-Google-Smtp-Source"] = "AGHT+IF" + "b" * 80
    return message


@_written
def exchange_shape() -> Message:
    message = _text()
    message["Thread-Topic"] = "Plans"
    message["Thread-Index"] = "AQHb" + "x" * 22 + "=="
    message["Accept-Language"] = "en-GB, de-DE"
    message["X-MS-Exchange-Organization-AuthAs"] = "Internal"
    message["X-MS-Exchange-AntiSpam-MessageData-0"] = "A" * 2000
    message["X-Forefront-Antispam-Report"] = (
        "CIP:255.255.255.255;CTRY:;LANG:en;SCL:1;SRV:;" + "SFS:(13230040);" * 30
    )
    message.add_attachment(_png(), maintype="image", subtype="png", filename="image001.png")
    return message


@_written
def outlook_winmail() -> Message:
    message = _text()
    tnef = b"\x78\x9f\x3e\x22\x01\x00\x01\x06\x90\x08\x00\x04\x00\x00\x00\x00\x00\x01\x00\x01\x00\x01\x07\x90\x06\x00"
    message.add_attachment(tnef, maintype="application", subtype="ms-tnef", filename="winmail.dat")
    return message


@_written
def pdf_invoice() -> Message:
    message = _text("Please find our invoice attached.\n")
    message.add_attachment(_pdf(), maintype="application", subtype="pdf", filename="Invoice 2025-001.v2.pdf")
    return message


@_written
def word_document() -> Message:
    message = _text()
    message.add_attachment(
        _docx(), maintype="application", subtype=DOCX.partition("/")[2], filename="Report.docx"
    )
    return message


@_written
def spreadsheet_and_csv() -> Message:
    message = _text()
    message.add_attachment(
        _docx(), maintype="application", subtype=XLSX.partition("/")[2], filename="Costs.xlsx"
    )
    message.add_attachment("item;cost\nbolt;1\n", subtype="csv", filename="costs.csv")
    return message


@_written
def zip_of_pictures() -> Message:
    message = _text()
    pictures = {f"site/DSC_{number:04}.jpg": _jpeg() for number in range(12)}
    message.add_attachment(_zip(**pictures), maintype="application", subtype="zip", filename="pictures.zip")
    return message


@_written
def zip_with_drawings_and_a_page() -> Message:
    message = _text()
    files = {"plan.dwg": b"AC1032" + bytes(500), "readme.txt": b"hello", "index.html": b"<p>index</p>"}
    message.add_attachment(
        _zip(**files), maintype="application", subtype="x-zip-compressed", filename="plans.zip"
    )
    return message


@_written
def picture_from_a_telephone() -> Message:
    message = MIMEMultipart("mixed")
    picture = MIMEBase("image", "jpeg", name="IMG_0001.jpeg")
    picture.set_payload(base64.encodebytes(_jpeg()).decode())
    picture["Content-Transfer-Encoding"] = "base64"
    picture.add_header("Content-Disposition", "inline", filename="IMG_0001.jpeg")
    message.attach(picture)
    message.attach(MIMEText("\n\nSent from my telephone\n"))
    return message


@_written
def headers_in_utf8_words() -> Message:
    message = _text("Добрый день\n")
    message["Subject"] = (
        "Встреча на объекте в понедельник, 7 часов утра — см. приложение с чертежами и сметой"
    )
    message["From"] = f"Иван Строитель <{SENDER}>"
    message.add_attachment("текст\n", filename="смета.txt")
    return message


@_written
def long_attachment_name_in_continuations() -> Message:
    message = _text()
    name = (
        "Protokoll der Baustellenbesprechung über die Kräne vom 6. Januar (endgültige Fassung, geändert).pdf"
    )
    message.add_attachment(_pdf(), maintype="application", subtype="pdf", filename=name)
    return message


def _report(subtype: str, machine: MIMEPart | Message, original: str = "") -> MIMEMultipart:
    message = MIMEMultipart("report", report_type=subtype)
    message.attach(MIMEText("This is a notification.\n"))
    message.attach(machine)
    if original:
        message.attach(MIMEText(original, "rfc822-headers"))
    return message


@_written
def read_receipt() -> Message:
    machine = MIMEBase("message", "disposition-notification")
    machine.set_payload(
        f"Reporting-UA: desk; Mailer\nFinal-Recipient: rfc822;{SENDER}\nOriginal-Message-ID: <1@elsewhere.example>\n"
        "Disposition: manual-action/MDN-sent-manually; displayed\n"
    )
    return _report("disposition-notification", machine)


@_written
def abuse_report() -> Message:
    machine = MIMEBase("message", "feedback-report")
    machine.set_payload("Feedback-Type: abuse\nUser-Agent: Loop/1.0\nVersion: 1\n")
    return _report(
        "feedback-report", machine, "From: a@internet.test\nMessage-ID: <1@internet.test>\nSubject: x\n"
    )


@_written
def dmarc_aggregate_report() -> Message:
    message = _text("This is a DMARC aggregate report.\n")
    report = zlib.compress(b"<?xml version='1.0'?><feedback/>", wbits=31)
    name = "internet.test!po.example!1735689600!1735776000.xml.gz"
    message.add_attachment(report, maintype="application", subtype="gzip", filename=name)
    message["Subject"] = "Report Domain: po.example Submitter: internet.test Report-ID: <1>"
    return message


@_written
def automatic_reply() -> Message:
    message = _text("I am away until Monday.\n")
    message["Auto-Submitted"] = "auto-replied"
    message["Subject"] = "Automatic reply: plans"
    message["X-Auto-Response-Suppress"] = "All"
    message["Precedence"] = "bulk"
    return message


@_written
def notification_of_a_machine() -> Message:
    message = _text("The backup of file server 2 is done: 0 errors.\n")
    message["Auto-Submitted"] = "auto-generated"
    message["From"] = f"Backup <{SENDER}>"
    return message


@_written
def many_recipients_in_the_header() -> Message:
    message = _text()
    message["To"] = ", ".join([f"Person Number {n} <person{n}@internet.test>" for n in range(150)])
    return message


@_written
def no_subject_and_no_recipient_shown() -> Message:
    message = _text("see you\n")
    message["To"] = "undisclosed-recipients:;"
    message["Subject"] = ""
    return message


@_written
def voice_message() -> Message:
    message = _text("New voice message, 12 s.\n")
    sound = b"RIFF" + (36).to_bytes(4, "little") + b"WAVEfmt " + bytes(28)
    message.add_attachment(sound, maintype="audio", subtype="wav", filename="voice 2025-01-06 08.00.wav")
    return message


@_written
def vcard_and_certificate() -> Message:
    message = _text()
    message.add_attachment(
        "BEGIN:VCARD\nVERSION:3.0\nFN:P\nEND:VCARD\n", subtype="vcard", filename="planner.vcf"
    )
    message.add_attachment(
        b"\x30\x82\x01", maintype="application", subtype="pkix-cert", filename="planner.cer"
    )
    return message


@_written
def named_page_with_facts_for_machines() -> Message:
    message = MIMEMultipart("alternative")
    message.attach(MIMEText("Your order has been sent.\n"))
    facts = '<script type="application/ld+json">{"@type": "Order"}</script>'
    page = MIMEText(f"<html><head>{facts}</head><body><p>Your order has been sent.</p></body></html>", "html")
    page.set_param("name", "order.html")
    message.attach(page)
    return message


@_written
def drawing_in_the_text() -> Message:
    message = _text()
    message.add_alternative('<p>Regards</p><img src="cid:logo@internet.test">', subtype="html")
    _, html = message.iter_parts()
    assert isinstance(html, EmailMessage)
    drawing = b'<svg xmlns="http://www.w3.org/2000/svg"><path d="M0 0h8v8z" fill="#123"/></svg>'
    html.add_related(
        drawing, "image", "svg+xml", cid="<logo@internet.test>", filename="logo.svg", disposition="inline"
    )
    return message


@_written
def outlook_winmail_with_a_document() -> Message:
    def attribute(level: int, number: int, data: bytes) -> bytes:
        head = level.to_bytes(1) + number.to_bytes(4, "little") + len(data).to_bytes(4, "little")
        return head + data + (sum(data) & 0xFFFF).to_bytes(2, "little")

    tnef = b"\x78\x9f\x3e\x22\x01\x00" + attribute(1, 0x00089006, b"\0\0\1\0")
    tnef += attribute(2, 0x00018010, b"Report.docx\0") + attribute(2, 0x0006800F, _docx())
    message = _text()
    message.add_attachment(tnef, maintype="application", subtype="ms-tnef", filename="winmail.dat")
    return message


@_written
def open_document() -> Message:
    message = _text()
    files = {
        "mimetype": b"application/vnd.oasis.opendocument.text",
        "content.xml": b"<office:document-content/>",
    }
    message.add_attachment(
        _zip(**files), maintype="application", subtype="vnd.oasis.opendocument.text", filename="Report.odt"
    )
    return message


@_written
def tls_report() -> Message:
    report = zlib.compress(b'{"organization-name": "internet.test"}', wbits=31)
    message = MIMEMultipart("report", report_type="tlsrpt")
    message.attach(MIMEText("This is an aggregate TLS report.\n"))
    part = MIMEApplication(report, "tlsrpt+gzip")
    name = "internet.test!po.example.com!1735689600!1735776000!001.json.gz"
    part.add_header("Content-Disposition", "attachment", filename=name)
    message.attach(part)
    message["TLS-Report-Domain"] = "po.example.com"
    message["TLS-Report-Submitter"] = "internet.test"
    return message


@_written
def name_in_a_comment() -> Message:
    message = MIMEText("Good morning\n")
    message["From"] = f"{SENDER} (Peter Planner, Site Office)"
    return message


@_written
def written_on_behalf() -> Message:
    message = _text()
    message["From"] = f"Peter Planner <{SENDER}>"
    message["Sender"] = '"Paula Assistant" <paula@internet.test>'
    return message


@_written
def part_without_a_name() -> Message:
    message = MIMEMultipart("mixed")
    message.attach(MIMEText("The list you asked for.\n"))
    part = MIMEApplication(b"bolt;1\n", "octet-stream")
    part["Content-Description"] = "List of bolts from www.internet.test"
    message.attach(part)
    return message


@_written
def text_quoted_by_hand() -> Message:
    message = MIMEText("", "plain")
    message.replace_header("Content-Transfer-Encoding", "quoted-printable")
    message.set_payload("a line that ends softly = \ngoes on here\n")
    return message


@_written
def archives_with_long_names() -> Message:
    message = MIMEMultipart("mixed")
    message.attach(MIMEText("The minutes of all meetings, in both forms.\n"))
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz", format=form) as archive:
            for month in range(1, 13):
                text = f"Minutes {month:02}\nstart setup.bat, size=4\n".encode() * 9
                name = f"Protokolle der Besprechungen auf der Baustelle/{'Süd-' * 20}{month:02}/Protokoll.txt"
                member = tarfile.TarInfo(name)
                member.size, member.mtime = len(text), 1735725600.25
                archive.addfile(member, io.BytesIO(text))
        part = MIMEApplication(packed.getvalue(), "gzip")
        part.add_header("Content-Disposition", "attachment", filename="minutes.tar.gz")
        message.attach(part)
    return message
