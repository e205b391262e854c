"""What the user sees while the lab works, and how long each step took."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TextIO

from rich.status import Status

from outpost.cli.console import Console


class Progress(Protocol):
    """Told of each step as it begins and ends, possibly from several threads."""

    def begin(self, step: str) -> None:
        """A step begins."""

    def end(self, step: str, seconds: float) -> None:
        """A step has ended well after this many seconds."""

    def note(self, step: str, text: str) -> None:
        """A running step has come to something that takes a while."""

    def doing(self, step: str, text: str) -> None:
        """What a running step is doing this moment; worth showing only where it can be overwritten."""


class Quiet:
    """Shows nothing."""

    def begin(self, step: str) -> None:
        """See ``Progress``."""

    def end(self, step: str, seconds: float) -> None:
        """See ``Progress``."""

    def note(self, step: str, text: str) -> None:
        """See ``Progress``."""

    def doing(self, step: str, text: str) -> None:
        """See ``Progress``."""


class Lines:
    """A live status on a terminal; elsewhere plain lines.

    Args:
        stream: Where to write; standard error unless given, so that ``--json`` output stays clean.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._console = Console(file=stream or sys.stderr, highlight=False)
        self._status: Status | None = None
        self._running: dict[str, str] = {}
        self._lock = threading.Lock()

    def begin(self, step: str) -> None:
        """See ``Progress``."""
        with self._lock:
            self._running[step] = ""
            self._show()

    def note(self, step: str, text: str) -> None:
        """See ``Progress``."""
        if not self._console.is_terminal:
            self._console.print(f"  {step}: {text}", soft_wrap=True, markup=False)
        self.doing(step, text)

    def doing(self, step: str, text: str) -> None:
        """See ``Progress``."""
        with self._lock:
            if step in self._running:
                self._running[step] = text
                self._show()

    def end(self, step: str, seconds: float) -> None:
        """See ``Progress``."""
        with self._lock:
            self._running.pop(step, None)
            self._console.print(f"[green]✓[/] {step} [dim]{seconds:.1f} s[/]", soft_wrap=True)
            self._show()

    def close(self) -> None:
        """Takes the live status off the screen, also of steps that were broken off."""
        with self._lock:
            self._running.clear()
            self._show()

    def _show(self) -> None:
        if not self._console.is_terminal:
            return
        if not self._running:
            if self._status:
                self._status.stop()
                self._status = None
            return
        text = " · ".join(f"{step} [dim]{note}[/]" if note else step for step, note in self._running.items())
        if self._status:
            self._status.update(text)
        else:
            self._status = self._console.status(text)
            self._status.start()


class Clock:
    """Times steps and passes them on.

    Attributes:
        seconds: Step → seconds, in the order in which they ended.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Runs its block as one step."""
        self._progress.begin(name)
        started = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - started, 1)
        self._progress.end(name, self.seconds[name])

    def note(self, step: str, text: str) -> None:
        """Passes on what a running step has come to."""
        self._progress.note(step, text)

    def doing(self, step: str, text: str) -> None:
        """Passes on what a running step is doing this moment."""
        self._progress.doing(step, text)
