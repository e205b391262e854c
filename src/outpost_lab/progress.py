"""The steps of the lab as they begin and end, and how long each took."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial


class Progress:
    """Gets each step as it begins and ends, possibly from several threads; this one shows nothing."""

    def begin(self, step: str) -> None:
        """A step begins."""

    def end(self, step: str, seconds: float) -> None:
        """A step has ended well after this many seconds."""

    def note(self, step: str, text: str) -> None:
        """A running step has come to something that takes a while."""

    def doing(self, step: str, text: str) -> None:
        """What a running step is doing this moment; worth showing only where it can be overwritten."""


class Clock:
    """Times steps, in the order in which they end, and passes them on."""

    def __init__(self, progress: Progress | None) -> None:
        self.progress = progress or Progress()
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[Callable[[str], None]]:
        """A step, and what to call with what it has come to."""
        self.progress.begin(name)
        started = time.monotonic()
        yield partial(self.progress.note, name)
        self.seconds[name] = round(time.monotonic() - started, 1)
        self.progress.end(name, self.seconds[name])
