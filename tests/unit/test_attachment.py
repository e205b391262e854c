"""Words of attachments: found in usual files, none in damaged files, limited in hostile files."""

from __future__ import annotations

import io
import signal
import socket
import subprocess
import sys
import threading
import zipfile
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from outpost.onhost import attachment
from outpost.onhost.attachment import KINDS, UNPACKED, WORDS, text_of
from tests.corpus import pdf_of

PROGRAM = Path(attachment.__file__)
PAGE = "<?xml version='1.0'?><w:document><w:p><w:t>Turm</w:t></w:p><w:p><w:t>M&#252;ller &amp; S\N{LATIN SMALL LETTER O WITH DIAERESIS}hne</w:t></w:p></w:document>"


def archive(**files: bytes | str) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in files.items():
            made.writestr(name.replace("__", "/") + ".xml", content)
    return packed.getvalue()


@pytest.mark.parametrize(
    "place",
    ["word__document", "word__header1", "xl__sharedStrings", "ppt__slides__slide12", "content"],
)
def test_words_of_documents_are_found_without_their_markup(place: str) -> None:
    assert text_of(archive(**{place: PAGE})).split() == ["Turm", "Müller", "&", "Söhne"]


def test_words_of_a_pdf_are_found() -> None:
    pytest.importorskip("pypdf", reason="only hosts have Debian's python3-pypdf; a journey tries it there")
    assert text_of(pdf_of("the Turmdrehkran is due")).split() == ["the", "Turmdrehkran", "is", "due"]


def test_a_pdf_that_never_ends_takes_no_more_time_than_one_of_its_size_should(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without the limit this never ends: the library catches every exception of a page."""

    class Endless:
        def extract_text(self) -> str:
            while True:
                with suppress(Exception):
                    sum(range(1000))

    pages = [SimpleNamespace(extract_text=lambda: "first"), Endless(), Endless()]
    monkeypatch.setitem(sys.modules, "pypdf", SimpleNamespace(PdfReader=lambda _file: SimpleNamespace(pages=pages)))  # fmt: skip
    monkeypatch.setattr(attachment, "LEAST", 0.01)
    assert text_of(b"%PDF-1.7").strip() == "first"
    assert signal.getitimer(signal.ITIMER_PROF) == (0.0, 0.0)


def test_a_number_of_a_character_that_nobody_reads_leaves_the_words_before() -> None:
    """Python refuses to read so long a number, and says so with an error."""
    packed = archive(word__document="Turm", word__footnotes=f"&#{'9' * 5000};")
    assert "Turm" in text_of(packed)


def test_other_files_of_an_archive_are_not_read() -> None:
    assert text_of(archive(word__settings=PAGE, docProps__core=PAGE, **{"..__word__document": PAGE})) == ""


@pytest.mark.parametrize(
    "file",
    [
        b"",
        b"text",
        b"%PDF-",
        b"%PDF-1.7\n" + b"\xff" * 1000,
        b"PK\x03\x04",
        archive(word__document=PAGE)[:-30],
        archive(word__document=PAGE).replace(b"Turm", b"").replace(b"PK\x01\x02", b"PK\x01\x03"),
        b"PK\x03\x04" + b"\0" * 1000,
    ],
)
def test_what_cannot_be_read_has_no_words(file: bytes) -> None:
    assert text_of(file).strip() == ""


def test_a_document_that_unpacks_to_a_lot_is_read_to_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attachment, "UNPACKED", 1000)
    bomb = archive(word__document="a " * 1_000_000, word__footnotes="behind")
    assert len(text_of(bomb)) <= 1000
    assert UNPACKED > 1000


def test_the_program_reads_to_the_end_and_writes_no_more_than_an_index_should_take() -> None:
    packed = archive(word__document="word " * WORDS)
    done = subprocess.run([sys.executable, "-I", PROGRAM, "--read"], input=packed, capture_output=True, check=True)  # fmt: skip
    assert done.stderr == b""
    assert 0 < len(done.stdout) <= WORDS
    done = subprocess.run([sys.executable, "-I", PROGRAM, "--read"], input=b"PK\x03\x04" * 9_000_000, capture_output=True, check=True)  # fmt: skip
    assert done.stdout == b""


def test_dovecot_hears_the_kinds_of_files_and_where_they_end() -> None:
    listed = subprocess.run([sys.executable, "-I", PROGRAM], capture_output=True, text=True, check=True).stdout  # fmt: skip
    assert listed == KINDS
    *kinds, end = listed.splitlines()
    assert end == ""
    assert all(len(kind.split()) == 2 for kind in kinds)


def test_an_attachment_goes_to_the_socket_and_its_words_come_back(tmp_path: Path) -> None:
    place = str(tmp_path / "socket")
    received: list[bytes] = []

    def answer() -> None:
        with server.accept()[0] as line, line.makefile("rb") as sent:
            received.append(sent.read())
            line.sendall(b"words")

    with socket.socket(socket.AF_UNIX) as server:
        server.bind(place)
        server.listen()
        thread = threading.Thread(target=answer)
        thread.start()
        program = tmp_path / "attachment.py"
        program.write_text(PROGRAM.read_text().replace(attachment.SOCKET, place))
        done = subprocess.run([sys.executable, "-I", program, "application/pdf"], input=b"x" * 300_000, capture_output=True, check=True)  # fmt: skip
        thread.join()
    assert (done.stdout, received) == (b"words", [b"x" * 300_000])


def test_where_nobody_reads_there_are_no_words_and_the_message_is_indexed_all_the_same(
    tmp_path: Path,
) -> None:
    program = tmp_path / "attachment.py"
    program.write_text(PROGRAM.read_text().replace(attachment.SOCKET, str(tmp_path / "nobody")))
    done = subprocess.run([sys.executable, "-I", program, "application/pdf"], input=b"x" * 300_000, capture_output=True, check=True)  # fmt: skip
    assert (done.stdout, done.stderr) == (b"", b"")
