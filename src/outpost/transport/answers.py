"""A host's answer is hostile input: bounded when it is read, checked for its type, and safe to print.

`exchange` reads every answer of a host, `parsed` reads it as data, and `printable` or `line` make it safe to print. Without
them a compromised host writes to the administrator's terminal (a file name with ``ESC ]52``), into a report, or into the zone.
`outpost.cli.console` is a second filter for all output.
"""

import io
import json
import re
import shlex
import shutil
import subprocess
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from typing import IO, Any, NamedTuple, TypeVar, cast

from outpost.errors import OutpostError

MOST = 64 * 1024 * 1024
"""Most bytes of an answer; a queue of 100,000 messages takes half of it."""
VALUES = 20_000_000
"""Most JSON values of an answer: five for each message of the longest manifest. An empty list is 3 bytes of JSON, and 64 of memory."""
LONGEST = 4000
"""Most characters of one printed value."""
_UNSAFE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 without tab and line feed, DEL, C1 (also CSI and OSC as one character)
    r"\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"  # invisible characters, and those that change direction
    r"\ud800-\udfff\U000e0000-\U000e0fff]"
)
_T = TypeVar("_T")


class Exchanged(NamedTuple):
    """The result of a command: exit status, standard output, standard error."""

    status: int
    out: bytes
    errors: bytes


class TooMuchError(Exception):
    """The other side sent more than was allowed."""


def printable(text: str) -> str:
    """The text; characters that a terminal obeys, or that are invisible, are replaced by their escapes."""
    return _UNSAFE.sub(_escaped, text)


def line(text: str, longest: int = LONGEST) -> str:
    """The text as one line, which nobody can take for a remedy of ours (`outpost.errors`)."""
    text = text.replace("Remedy:", "remedy:")
    return printable(text[:longest].replace("\n", "\\n").replace("\t", " ")) + "…" * (len(text) > longest)


def json_text(data: Any) -> str:
    """Indented JSON: the same data, without characters that a terminal obeys."""
    text = json.dumps(data, indent=2, ensure_ascii=False)
    return _UNSAFE.sub(lambda found: json.dumps(found[0])[1:-1], text)


def parsed(text: str, type_: type[_T], host: str) -> _T:
    """Parse the answer as JSON of a type."""
    if sum(map(text.count, "[{,")) > VALUES:
        raise unexpected(host)
    try:
        return cast("_T", _adapter(type_).validate_python(json.loads(text)))  # type: ignore[arg-type]
    # pydantic's ValidationError is a ValueError; its text holds the answer
    except (ValueError, RecursionError):
        raise unexpected(host) from None


def parsed_lines(lines: Iterable[str], type_: type[_T], host: str) -> list[_T]:
    """The same, with one value on each line."""
    return [parsed(each, type_, host) for each in lines]


def unexpected(host: str) -> OutpostError:
    """The host has not answered the question."""
    remedy = "examine the host: somebody may have replaced its programs"
    return OutpostError(f"{host} gave an answer that cannot be read", remedy)


@cache
def _adapter(type_: Any) -> Any:
    from pydantic import TypeAdapter  # slow to load, and a no-op reads nothing

    return TypeAdapter(type_)


def as_argument(shell: Sequence[str], script: str) -> list[str]:
    """A command that starts a shell for standard input, with a script as its argument: over SSH that saves a round trip."""
    *start, last = shell
    if last == "-s":
        return [*start, "-c", script]
    return [*start, f"{last.removesuffix('-s')}-c {shlex.quote(script)}"]


class Pool(ThreadPoolExecutor):
    """Threads that ask hosts. An interrupt does not wait for them: a host may take half a minute to not answer."""

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        interrupted = kind is KeyboardInterrupt
        self.shutdown(wait=not interrupted, cancel_futures=interrupted)


def exchange(
    command: Sequence[str],
    stdin: bytes | IO[bytes] = b"",
    *,
    patience: float,
    most: int = MOST,
    into: IO[bytes] | None = None,
) -> Exchanged:
    """Run a command whose output others control.

    Args:
        stdin: Its input, or a file with it.
        patience: Seconds that it may take.
        most: Bytes that it may write on each stream.
        into: Where its standard output goes; then `most` is for that only.

    Raises:
        TimeoutError: It took longer.
        TooMuchError: It wrote more; it was ended at that moment.
    """
    late = threading.Event()
    with (
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process,
        ThreadPoolExecutor(2) as pool,
    ):
        assert process.stdin is not None

        def too_late() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(patience, too_late)
        timer.start()
        out = pool.submit(_read, process, process.stdout, most, into)
        errors = pool.submit(_read, process, process.stderr, most if into is None else MOST)
        try:
            with suppress(BrokenPipeError):
                shutil.copyfileobj(io.BytesIO(stdin) if isinstance(stdin, bytes) else stdin, process.stdin)
            with suppress(BrokenPipeError):
                process.stdin.close()
            found = Exchanged(out=out.result(), errors=errors.result(), status=process.wait())
        finally:
            timer.cancel()
            process.kill()
    if late.is_set():
        raise TimeoutError
    return found


def _read(
    process: subprocess.Popen[bytes], stream: IO[bytes] | None, most: int, into: IO[bytes] | None = None
) -> bytes:
    """Read a stream of a program to its end; at the bound the program is ended."""
    assert stream is not None
    content, left = into or io.BytesIO(), most + 1
    while left and (part := stream.read(min(left, 1 << 20))):
        content.write(part)
        left -= len(part)
    if not left:
        process.kill()
        raise TooMuchError
    return content.getvalue() if isinstance(content, io.BytesIO) else b""


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def reason(lines: Iterable[str]) -> str:
    """The line of a program's output that says why it failed: apt and dpkg print consequences and advice below it."""
    printed = [line.strip() for line in lines if line.strip()]
    for why in (r"No space left on device|enough free space", r"^E: (?!Sub-process)|^dpkg: error"):
        if found := [line for line in printed if re.search(why, line)]:
            return found[-1]
    return printed[-1] if printed else ""
