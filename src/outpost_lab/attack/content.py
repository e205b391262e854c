"""Content of malicious messages. It is harmless: the worst is the scanners' own test pattern, never stored as a whole."""

import base64
import io
import struct
import tarfile
import zipfile
import zlib
from email.policy import SMTP
from pathlib import Path

from outpost.templates import environment, render
from outpost_lab.post import compose

OLE = bytes.fromhex("d0cf11e0a1b11ae1")
"""The beginning of a compound file: Office's documents and Outlook's messages (MS-CFB, section 2.2)."""
_EICAR = ("X5O!P%@AP[4\\PZX54(P^)7CC)7}$EI", "CAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*")
_GTUBE = ("XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD", "-ANTI-UBE-TEST-EMAIL*C.34X")


def eicar() -> bytes:
    """The anti-virus test file (EICAR), assembled here so that no scanner finds it in the checkout."""
    return "".join(_EICAR).encode()


def gtube() -> bytes:
    """The spam filters' test line."""
    return "".join(_GTUBE).encode()


def parcel(sender: str, recipient: str, token: str, attachments: dict[str, bytes]) -> bytes:
    """A message with attachments, by file name."""
    message, _ = compose(sender, [recipient], f"Please see the attached file.\n{token}\n")
    message.replace_header("Subject", "Revised invoice")
    for name, data in attachments.items():
        message.add_attachment(data, maintype="application", subtype="octet-stream", filename=name)
    return message.as_bytes(policy=SMTP)


def zipped(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return made.getvalue()


def renamed_zip(shown: str, name: str, data: bytes) -> bytes:
    """A zip archive whose member has one name in its header and another in Unicode (Info-ZIP's extra field 0x7075)."""
    made, member = io.BytesIO(), zipfile.ZipInfo(shown)
    field = struct.pack("<BI", 1, zlib.crc32(shown.encode())) + name.encode()
    member.extra = struct.pack("<HH", 0x7075, len(field)) + field
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr(member, data)
    return made.getvalue()


def _attribute(number: int, body: bytes) -> bytes:
    return struct.pack("<BII", 2, number, len(body)) + body + struct.pack("<H", sum(body) & 0xFFFF)


def tnef(name: str, data: bytes, *, long: bool = False) -> bytes:
    """Outlook's winmail.dat (MS-OXTNEF) with one attachment, its name in 8 bits or, `long`, in UTF-16."""
    made = struct.pack("<IH", 0x223E9F78, 1) + _attribute(0x00069002, bytes(14))
    made += _attribute(0x00018010, (b"A.DAT" if long else name.encode()) + b"\0")
    made += _attribute(0x0006800F, data)
    if long:
        text = f"{name}\0".encode("utf-16-le")
        made += _attribute(0x00069005, struct.pack("<IHHII", 1, 0x1F, 0x3707, 1, len(text)) + text)
    return made


IID_IMESSAGE = bytes.fromhex("0703020000000000c000000000000046")


def tnef_property(kind: int, data: bytes) -> bytes:
    """A winmail.dat with one attachment that is a property (PidTagAttachDataBinary, PidTagAttachDataObject)."""
    made = struct.pack("<IH", 0x223E9F78, 1) + _attribute(0x00069002, bytes(14))
    made += _attribute(0x00018010, b"A.DAT\0")
    return made + _attribute(0x00069005, struct.pack("<IHHII", 1, kind, 0x3701, 1, len(data)) + data)


def _der(tag: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return bytes((tag, 0x84)) + struct.pack(">I", len(body)) + body


_PKCS = bytes.fromhex("2a864886f70d01")


def _message_in(kind: bytes, content: bytes, *fields: bytes) -> bytes:
    """Cryptographic message syntax (RFC 5652): a content, and the fields before it."""
    held = _der(0x30, _der(6, _PKCS, b"\7\1"), _der(0xA0, _der(4, content)))
    return _der(0x30, _der(6, _PKCS, kind), _der(0xA0, _der(0x30, *fields, held)))


def signed(content: bytes) -> bytes:
    """A message within its signature (S/MIME, signed-data), without any."""
    return _message_in(b"\7\2", content, _der(2, b"\1"), _der(0x31))


def compressed(content: bytes) -> bytes:
    """A compressed message (S/MIME, RFC 3274)."""
    return _message_in(
        b"\x09\x10\1\x09",
        zlib.compress(content),
        _der(2, b"\0"),
        _der(0x30, _der(6, _PKCS, b"\x09\x10\3\x08")),
    )


def _compound(*sectors: bytes) -> bytes:
    return OLE + bytes(504) + b"".join(sector.ljust(512, b"\0") for sector in (*sectors, b""))


def outlook(name: str, encoding: str = "utf-16-le") -> bytes:
    """The beginning of a message in Outlook's format (MS-OXMSG), with the name of an attachment."""
    kind = "F" if encoding == "utf-16-le" else "E"
    return _compound(f"__substg1.0_3707001{kind}".encode("utf-16-le"), name.encode(encoding))


def package(name: str, data: bytes) -> bytes:
    """The beginning of a document with a file as an object (MS-OLEDS, OLENativeStream)."""
    body = b"\2\0" + name.encode() + b"\0C:\\" + name.encode() + b"\0" + data
    return _compound("\1Ole10Native".encode("utf-16-le"), struct.pack("<I", len(body)) + body)


def calendar(data: bytes, fold: int = 70) -> bytes:
    """An invitation with a file in it (RFC 5545, section 3.8.1.1), its lines folded after `fold` octets."""
    text = f"ATTACH;ENCODING=BASE64;VALUE=BINARY;X-FILENAME=a.bin:{base64.b64encode(data).decode()}"
    lines = "\r\n ".join(text[at : at + fold] for at in range(0, len(text), fold))
    start = "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nBEGIN:VEVENT\r\nUID:1\r\nDTSTART:20260101T000000Z\r\n"
    return f"{start}{lines}\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n".encode()


def nested(depth: int, core: bytes, name: str = "core.txt") -> bytes:
    """A zip archive in a zip archive, and so on."""
    data = zipped({name: core})
    for level in range(depth - 1):
        data = zipped({f"level{level}.zip": data})
    return data


def tar_gz(files: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return made.getvalue()


def encrypted_zip(name: str, data: bytes) -> bytes:
    """A zip archive whose one member is marked as encrypted; it has no password, because its bytes are not cipher text."""
    archive = bytearray(zipped({name: bytes(12) + data}))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        archive[archive.find(signature) + offset] |= 1
    return bytes(archive)


def bomb(files: int = 20, size: int = 20 * 2**20) -> bytes:
    """A small zip archive that unpacks to many zeros."""
    return zipped({f"part{number}.bin": bytes(size) for number in range(files)})


def pdf_with(data: bytes) -> bytes:
    """A PDF document with an embedded file."""
    packed = zlib.compress(data)
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R /Names << /EmbeddedFiles << /Names [(a.txt) 4 0 R] >> >> >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 200 200] >>",
        b"<< /Type /Filespec /F (a.txt) /EF << /F 5 0 R >> >>",
        b"<< /Type /EmbeddedFile /Filter /FlateDecode /Length %d >>\nstream\n%b\nendstream"
        % (len(packed), packed),
    ]
    made, offsets = b"%PDF-1.5\n", []
    for number, body in enumerate(objects, 1):
        offsets.append(len(made))
        made += b"%d 0 obj\n" % number + body + b"\nendobj\n"
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    size, start = len(objects) + 1, len(made)
    head = b"xref\n0 %d\n0000000000 65535 f \n" % size
    trailer = b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (size, start)
    return made + head + table + trailer


def rar(name: str, data: bytes) -> bytes:
    """A RAR archive (version 4) with one stored file."""

    def block(kind: int, flags: int, rest: bytes, body: bytes = b"") -> bytes:
        head = struct.pack("<BHH", kind, flags, 7 + len(rest)) + rest
        return struct.pack("<H", zlib.crc32(head) & 0xFFFF) + head + body

    encoded, size, checksum = name.encode(), len(data), zlib.crc32(data)
    file_head = struct.pack("<IIBIIBBHI", size, size, 2, checksum, 0x5A210000, 29, 0x30, len(encoded), 0x20)
    made = b"Rar!\x1a\x07\x00" + block(0x73, 0, bytes(6)) + block(0x74, 0x8000, file_head + encoded, data)
    return made + block(0x7B, 0x4000, b"")


def macro_document() -> bytes:
    """A Word document that claims to have macros."""
    types = (
        b'<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
        b'<Default Extension="bin" ContentType="application/vnd.ms-office.vbaProject"/>'
        b'<Override PartName="/word/document.xml" '
        b'ContentType="application/vnd.ms-word.document.macroEnabled.main+xml"/></Types>'
    )
    text, program = b"<?xml version='1.0'?><document/>", OLE + bytes(600)
    return zipped({"[Content_Types].xml": types, "word/document.xml": text, "word/vbaProject.bin": program})


def macros_elsewhere() -> dict[str, bytes]:
    """Documents that claim to have macros, in unusual formats."""
    kept = base64.encodebytes(b"ActiveMime\0\0\1\xf0" + bytes(60))
    module = b'<?xml version="1.0"?><script:module script:name="Module1" script:language="StarBasic">Sub Main</script:module>'
    return {
        "a.odt": zipped(
            {"mimetype": b"application/vnd.oasis.opendocument.text", "Basic/Standard/Module1.xml": module}
        ),
        "a.doc": b'MIME-Version: 1.0\r\nContent-Type: multipart/related; boundary="c"\r\n\r\n--c\r\n'
        b"Content-Location: file:///C:/a/editdata.mso\r\nContent-Transfer-Encoding: base64\r\n\r\n%b--c--\r\n"
        % kept,
        "a.xml": b'<?xml version="1.0"?><?mso-application progid="Word.Document"?><w:wordDocument w:macrosPresent="yes"/>',
    }


def locked_document() -> bytes:
    """The beginning of a Word document with a password."""
    return OLE + bytes(1016) + "EncryptedPackage".encode("utf-16-le") + bytes(512)


def disk_image() -> bytes:
    """The beginning of an ISO 9660 image."""
    return bytes(0x8000) + b"\x01CD001\x01" + bytes(2041) + b"\xffCD001\x01" + bytes(2041)


def program() -> bytes:
    """The beginning of a Windows program; it runs nowhere."""
    return b"MZ" + bytes(58) + struct.pack("<I", 64) + b"PE\0\0" + bytes(200)


def shortcut() -> bytes:
    """A Windows shortcut's header."""
    return bytes.fromhex("4c0000000114020000000000c000000000000046") + bytes(100)


def acting_html(tracker: str) -> str:
    """A message that would act if a browser let it, in the ways that have worked somewhere: it then sets `window.owned`
    or the title, or asks for `tracker` or another name of that host."""
    return _rendered("acting.html.j2", host=tracker.split("/")[2], tracker=tracker)


def bounce(recipient: str, mark: str, quoted: bytes) -> bytes:
    """A notification that the recipient's message could not be delivered (RFC 3462), although the recipient never wrote one."""
    original = quoted.decode().replace("\r", "")
    text = _rendered("bounce.eml.j2", recipient=recipient, mark=mark, quoted=original)
    return text.replace("\n", "\r\n").encode()


def _rendered(template: str, **context: str) -> str:
    return render(environment(Path(__file__).parent), template, context)
