"""Tells somebody of a change, over a path that is not the mail system which it is about (``outpost.onhost.tell``)."""

from __future__ import annotations

import shlex
from urllib.parse import urlsplit

from outpost.errors import OutpostError
from outpost.onhost import tell as telling
from outpost.onhost.tell import News

__all__ = ["News", "tell"]


def tell(path: str, news: News) -> None:
    try:
        telling.tell(path, news)
    except ValueError as error:
        raise OutpostError(
            f"--notify {error}", "write smtp://relay.example/?to=admin@example&from=outpost@example"
        ) from None
    except telling.TROUBLES as error:
        where = urlsplit(path).hostname or shlex.split(path)[0]
        raise OutpostError(
            f"{where} did not take the message: {error}", "try --notify with `cat` to see what would be sent"
        ) from None
