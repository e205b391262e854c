"""What the user sees while the lab works."""

import sys

from rich.progress import Progress as Bar
from rich.progress import SpinnerColumn, TaskID, TextColumn
from typing_extensions import override

from outpost.cli.console import Console
from outpost_lab.progress import Progress


class Lines(Progress):
    """On standard error, so that ``--json`` output stays clean: a live line for each step on a terminal; elsewhere plain lines."""

    def __init__(self) -> None:
        self._console = Console(file=sys.stderr, highlight=False)
        columns, live = (SpinnerColumn(), TextColumn("{task.description}")), self._console.is_terminal
        self._bar = Bar(*columns, console=self._console, transient=True, disable=not live)
        self._running: dict[str, TaskID] = {}

    @override
    def begin(self, step: str) -> None:
        self._bar.start()
        self._running[step] = self._bar.add_task(step)

    @override
    def note(self, step: str, text: str) -> None:
        if not self._console.is_terminal:
            self._console.print(f"  {step}: {text}", soft_wrap=True, markup=False)
        self.doing(step, text)

    @override
    def doing(self, step: str, text: str) -> None:
        if step in self._running:
            self._bar.update(self._running[step], description=f"{step} [dim]{text}[/]")

    @override
    def end(self, step: str, seconds: float) -> None:
        if step in self._running:
            self._bar.remove_task(self._running.pop(step))
        self._console.print(f"[green]✓[/] {step} [dim]{seconds:.1f} s[/]", soft_wrap=True)

    def close(self) -> None:
        """Takes the live lines off the screen, also of steps that were broken off."""
        while self._running:
            self._bar.remove_task(self._running.popitem()[1])
        self._bar.stop()
