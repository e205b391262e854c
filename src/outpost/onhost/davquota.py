"""Radicale with a quota (CAL-04), which keeps entries as programs sent them.

gunicorn starts it in place of Radicale's own application. A request that adds something to a full collection is answered with 507; reading
and deleting go on. Radicale has no quota, and the file system has none for parts of one account. Radicale parses and writes entries with
vobject, which cuts values at a comma.
"""

from __future__ import annotations

import io
import os
import posixpath
import re
from collections.abc import Callable, Iterable
from typing import Any

ADDING = frozenset(("MKCALENDAR", "MKCOL", "MOVE", "POST", "PROPPATCH", "PUT"))
"""Methods that may leave more than there was."""
SHARED = 5
"""The office's own collections have the room of this number of users."""
NO_CHARACTER = re.compile(b"\xef\xbf[\xbe\xbf]")
"""U+FFFE and U+FFFF in UTF-8."""
REFUSAL = b"Your calendars and address books are full: delete what you do not need.\n"

App = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class Quota:
    """A WSGI application around another.

    Attributes:
        inner: Radicale.
        root: The directory with a directory for each owner.
        size: Bytes on the disk of one user, over all collections.
        entries: Events, tasks and contacts of one user: each takes time when a collection is read.
        shared: The owner of what the office shares.
    """

    def __init__(self, inner: App, root: str, size: int, entries: int, shared: str) -> None:
        self.inner, self.root, self.size, self.entries, self.shared = inner, root, size, entries, shared

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request."""
        user = plain(environ.get("HTTP_X_REMOTE_USER"))
        # Radicale expects it as its own server gives it: else an entry with a letter beyond ASCII in its path is listed under another
        environ["PATH_INFO"] = plain(environ.get("PATH_INFO"))
        method = environ.get("REQUEST_METHOD")
        if method in ADDING and (self.is_full(user) or (self._to_all(environ) and self.is_full(self.shared))):
            body = environ.get("wsgi.input")
            while body and body.read(65536):  # else nginx cannot send it, and answers 502 in place of this
                pass
            kind = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(REFUSAL)))]
            start_response("507 Insufficient Storage", kind)
            return [REFUSAL]
        if method == "PUT":
            # XML cannot contain them: a program would not read any entry of a calendar with an invitation that does
            body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            environ["wsgi.input"] = io.BytesIO(NO_CHARACTER.sub(b"   ", body))
        return self.inner(environ, start_response)

    def _to_all(self, environ: dict[str, Any]) -> bool:
        """Whether a request may add to what is shared; the target of a MOVE is in a header, and is not read here."""
        # as Radicale reads a path: without empty parts and dots
        parts = [part for part in posixpath.normpath(environ["PATH_INFO"]).split("/") if part]
        return environ["REQUEST_METHOD"] == "MOVE" or parts[:1] == [self.shared]

    def is_full(self, owner: str) -> bool:
        """Whether an owner has used up the room; it stops to count there."""
        if owner in ("", ".", "..") or "/" in owner or "\0" in owner:
            return False  # nobody's: Radicale refuses
        times = SHARED if owner == self.shared else 1
        size, entries = self.size * times, self.entries * times
        for place, _, names in os.walk(f"{self.root}/{owner}"):
            for name in names:
                try:
                    size -= os.lstat(f"{place}/{name}").st_blocks * 512
                except FileNotFoundError:  # deleted meanwhile
                    continue
                entries -= 1
                if size <= 0 or entries <= 0:
                    return True
        return False


def plain(text: object) -> str:
    """What WSGI hands over as one character for each octet."""
    return str(text or "").encode("latin-1", "replace").decode(errors="replace")


def whole(decode: Callable[[Any], None], encode: Callable[[str], str]) -> Callable[[Any], None]:
    """vobject's function that reads a text, but a value that vobject would write in another way stays as it is.

    It would cut the place of an event, the URL or the picture of a contact, and an HTML description at the first comma.
    """

    def read(line: Any) -> None:
        sent = line.value
        decode(line)
        # CAL-03: not a quoted-printable text of several lines; otherwise each becomes a line of the entry, and one of them can end it
        single = isinstance(sent, str) and "".join(sent.splitlines()) == sent
        if single and isinstance(line.value, str) and encode(line.value) != sent:
            line.value, line.encoded = sent, True

    return read


def application(root: str, size: int, entries: int, shared: str) -> Quota:
    """Called once by gunicorn, with the numbers of its unit."""
    import radicale  # type: ignore[import-not-found]  # of the groupware host alone
    from vobject.base import backslashEscape  # type: ignore[import-untyped]
    from vobject.icalendar import TextBehavior  # type: ignore[import-untyped]
    from vobject.vcard import VCardTextBehavior  # type: ignore[import-untyped]

    for behavior in (TextBehavior, VCardTextBehavior):
        behavior.decode = staticmethod(whole(behavior.decode, backslashEscape))
    return Quota(radicale.application, root, size, entries, shared)
