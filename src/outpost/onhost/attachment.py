"""Extracts the words of an attachment for the search in mailboxes (STO-04): a file on standard input, its text on standard output.

Dovecot starts this without an argument to learn which kinds of files it reads, and with a kind for each attachment. Then it only passes
file and text through a socket. Behind the socket systemd starts ``attachment --read`` in a sandbox without access to the host
(``outpost-text@.service``), because strangers sent the file. Its first octets show its format. The unit limits time and
memory; this program limits sizes.
A file that cannot be read has no words. Debian's python3-pypdf reads PDF, Python's own library Office documents since
2007 and OpenDocument: no parser here is in C.
"""

import io
import logging
import re
import shutil
import signal
import socket
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from html import unescape
from importlib import import_module

SOCKET = "/run/outpost-text"
KINDS = """\
application/pdf pdf
application/vnd.openxmlformats-officedocument.wordprocessingml.document docx
application/vnd.openxmlformats-officedocument.spreadsheetml.sheet xlsx
application/vnd.openxmlformats-officedocument.presentationml.presentation pptx
application/vnd.oasis.opendocument.text odt
application/vnd.oasis.opendocument.spreadsheet ods
application/vnd.oasis.opendocument.presentation odp

"""
"""Content types and endings, as Dovecot's parser scripts list them: the empty line is the end."""
LARGEST = 32 * 1024**2
"""Most octets of a file; a larger file is not read."""
UNPACKED = 8 * 1024**2
"""Most octets of a document's text with markup, all parts together."""
WORDS = 256 * 1024
"""Most characters of text: an index with parts of words grows with each of them."""
LEAST, MOST, SPEED = 0.5, 20.0, 100_000
"""Seconds of processor time for a file, at least and at most; and its octets per second, a tenth of an honest PDF's speed. Without this
limit a message with three hundred small endless PDFs, which anybody can send, occupies a reader for hours."""
PATIENCE = 40.0
"""Seconds for an answer of the reader: its unit ends it before (RuntimeMaxSec)."""
PDF, ZIP = b"%PDF-", b"PK\x03\x04"
PARTS = re.compile(
    r"word/(document|header\d{0,3}|footer\d{0,3}|footnotes)\.xml|xl/sharedStrings\.xml|ppt/(slides|notesSlides)/\w{1,40}\.xml|content\.xml"
)
"""Where Office Open XML and OpenDocument have their text."""


class LateError(BaseException):
    """A file takes more time than one of its size should; no ``except Exception`` of a library stops it."""


def text_of(file: bytes) -> str:
    """The words of a file, as many as its time allows; none if it is damaged or of another kind."""
    found, left = list[str](), WORDS
    try:
        if file.startswith(PDF):
            logging.disable()  # it logs what is wrong with each file
            pypdf = import_module("pypdf")
            with in_time(file):
                for page in pypdf.PdfReader(io.BytesIO(file)).pages:
                    found.append(page.extract_text())
                    left -= len(found[-1])
                    if left < 0:
                        break
        elif file.startswith(ZIP):
            with in_time(file):
                unpack(file, found)
    except Exception as error:  # there are as many kinds as ways to damage a file
        sys.stderr.write(f"<6>attachment: {type(error).__name__}\n")
    return " ".join(found)


@contextmanager
def in_time(file: bytes) -> Iterator[None]:
    """Ends the reading of a file when its time is over (STO-04)."""

    def end(*_signal: object) -> None:
        raise LateError

    before = signal.signal(signal.SIGPROF, end)
    try:
        # again and again: a library may catch one that comes at the wrong moment
        signal.setitimer(signal.ITIMER_PROF, min(LEAST + len(file) / SPEED, MOST), 0.1)
        yield
    except LateError:
        sys.stderr.write("<6>attachment: took too long\n")
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def unpack(file: bytes, found: list[str]) -> None:
    """Find the text of a document in XML, without its markup; no XML parser reads it."""
    left = UNPACKED
    with zipfile.ZipFile(io.BytesIO(file)) as archive:
        for member in archive.infolist():
            if left and PARTS.fullmatch(member.filename):
                with archive.open(member) as part:
                    markup = part.read(left)
                left -= len(markup)
                found.append(unescape(re.sub(r"<[^<>]*>", " ", markup.decode(errors="replace"))))


def carry() -> None:
    """Copy standard input to the socket, and its answer to standard output."""
    with socket.socket(socket.AF_UNIX) as reader:
        reader.settimeout(PATIENCE)
        reader.connect(SOCKET)
        with reader.makefile("wb") as outward:
            shutil.copyfileobj(sys.stdin.buffer, outward)
        reader.shutdown(socket.SHUT_WR)
        with reader.makefile("rb") as inward:
            sys.stdout.buffer.write(inward.read(4 * WORDS))


def main(arguments: list[str]) -> int:
    if arguments == ["--read"]:
        file = sys.stdin.buffer.read(LARGEST + 1)
        while sys.stdin.buffer.read(1 << 16):  # the writer waits until all is read
            pass
        words = " ".join(text_of(file).split())[:WORDS] if len(file) <= LARGEST else ""
        sys.stdout.buffer.write(words.encode(errors="replace"))
    elif arguments:
        with suppress(OSError):  # then it has no words; Dovecot still indexes the message
            carry()
    else:
        sys.stdout.write(KINDS)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
