"""The steps of the lab as they begin and end, and how long each took."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from rich.console import Console
from rich.progress import Progress as Bar
from rich.progress import SpinnerColumn, TaskID, TextColumn


class Progress:
    """Shows steps, possibly of several threads: a live line for each on a terminal, plain lines elsewhere, nothing without a console."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(quiet=True)
        columns, live = (SpinnerColumn(), TextColumn("{task.description}")), console and console.is_terminal
        self._bar = Bar(*columns, console=self._console, transient=True, disable=not live)
        self._running: dict[str, TaskID] = {}
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[Callable[[str], None]]:
        """A step, and a function to call for its parts. An interrupted step has no time."""
        self._bar.start()
        self._running[name] = self._bar.add_task(name)
        started = time.monotonic()
        yield partial(self.note, name)
        self.seconds[name] = round(time.monotonic() - started, 1)
        if name in self._running:
            self._bar.remove_task(self._running.pop(name))
        self._console.print(f"[green]✓[/] {name} [dim]{self.seconds[name]:.1f} s[/]")

    def note(self, step: str, text: str) -> None:
        """A running step has come to something that takes a while."""
        if not self._console.is_terminal:
            self._console.print(f"  {step}: {text}", markup=False)
        self.doing(step, text)

    def doing(self, step: str, text: str) -> None:
        """What a running step is doing this moment; worth showing only where it can be overwritten."""
        if step in self._running:
            self._bar.update(self._running[step], description=f"{step} [dim]{text}[/]")

    def close(self) -> None:
        """Takes the live lines off the screen, also of steps that were broken off."""
        while self._running:
            self._bar.remove_task(self._running.popitem()[1])
        self._bar.stop()
