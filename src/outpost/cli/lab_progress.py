"""What the user sees while the lab works."""

from __future__ import annotations

import sys
import threading

from rich.status import Status
from typing_extensions import override

from outpost.cli.console import Console
from outpost_lab.progress import Progress


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
