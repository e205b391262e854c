"""What the user sees while the lab works, and how long each step took."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.status import Status
from typing_extensions import override

from outpost.cli.console import Console


class Progress:
    """Told of each step as it begins and ends, possibly from several threads; this one shows nothing."""

    def begin(self, step: str) -> None:
        """A step begins."""

    def end(self, step: str, seconds: float) -> None:
        """A step has ended well after this many seconds."""

    def note(self, step: str, text: str) -> None:
        """A running step has come to something that takes a while."""

    def doing(self, step: str, text: str) -> None:
        """What a running step is doing this moment; worth showing only where it can be overwritten."""


class Lines(Progress):
    """On standard error, so that ``--json`` output stays clean: a live status on a terminal; elsewhere plain lines."""

    def __init__(self) -> None:
        self._console = Console(file=sys.stderr, highlight=False)
        self._status: Status | None = None
        self._running: dict[str, str] = {}
        self._lock = threading.Lock()

    @override
    def begin(self, step: str) -> None:
        with self._lock:
            self._running[step] = ""
            self._show()

    @override
    def note(self, step: str, text: str) -> None:
        if not self._console.is_terminal:
            self._console.print(f"  {step}: {text}", soft_wrap=True, markup=False)
        self.doing(step, text)

    @override
    def doing(self, step: str, text: str) -> None:
        with self._lock:
            if step in self._running:
                self._running[step] = text
                self._show()

    @override
    def end(self, step: str, seconds: float) -> None:
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

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress or Progress()
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
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
