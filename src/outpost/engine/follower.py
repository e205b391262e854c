"""What a run of pyinfra is doing, read from its log."""

import re
import time
from collections import defaultdict, deque
from dataclasses import dataclass, field

from outpost.transport.answers import printable, reason

_HOST_LINE = re.compile(r"^\s*\[(?P<host>[^\]]+)\]\s+(?P<text>.*)$")
_OPERATION = re.compile(r"^--> Starting(?: [^:]*)? operation: (?P<name>.*?)\s*$")
_STAGE = re.compile(r"^--> (?P<stage>.*?)(?:\.\.\.)?$")
_NOISE = ("Loading: ", "Ready: ")
PHASES = {
    "Connecting to hosts": "connecting",
    "Preparing operation files": "scanning",
    "Beginning operation run": "changing",
}
"""pyinfra's slow stages, with names for users; the others are not shown."""
MOST_LINES = 100_000


@dataclass
class HostState:
    """What is known about one host while pyinfra runs.

    Attributes:
        failed: Operation that ended the host's run.
        troubled: Operation that failed, and the others continued.
        output: Why, as the host printed it.
    """

    doing: str = "waiting"
    changed: int = 0
    unchanged: int = 0
    failed: str = ""
    troubled: str = ""
    output: str = ""
    since: float = field(default_factory=time.monotonic)
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=1000))

    @property
    def last(self) -> str:
        """The last line that the host printed during the current operation."""
        return next((line for line in reversed(self.lines) if line), "")

    def does(self, what: str) -> None:
        self.doing, self.since = what, time.monotonic()


class Follower:
    """Reads pyinfra's log line by line and keeps the state of each host."""

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix  # prefix of host names, removed from everything shown
        self.stage = "starting"
        self.operation = ""
        self.operation_since = time.monotonic()
        self.executing = False
        self.hosts: dict[str, HostState] = defaultdict(HostState)
        self.details: deque[str] = deque(maxlen=MOST_LINES)  # the diff, while planning
        self.log: deque[str] = deque(maxlen=MOST_LINES)

    def feed(self, line: str) -> None:
        line = printable(line.rstrip("\n"))
        self.log.append(line)
        if match := _OPERATION.match(line):
            self.executing = True
            self.operation = match["name"]
            self.operation_since = time.monotonic()
            for host in self.hosts.values():
                if not host.failed:
                    host.does(self.operation)
                    host.lines.clear()
        elif match := _STAGE.match(line):
            self.stage = match["stage"]
            if self.executing and self.stage.startswith(("Results", "Disconnecting")):
                for host in self.hosts.values():
                    if not host.failed:
                        host.does("done")
            if not self.executing and self.phase:
                for host in self.hosts.values():
                    host.does(self.phase)
        elif (match := _HOST_LINE.match(line)) and self._is_host(match["host"]):
            self._host_line(self.short(match["host"]), match["text"].strip())
        elif line.strip() and not line.strip().startswith(_NOISE) and not self.executing:
            self.details.append(line.removeprefix("    "))

    @property
    def phase(self) -> str:
        return PHASES.get(self.stage, "")

    def short(self, name: str) -> str:
        return name.removeprefix(self._prefix)

    def _is_host(self, name: str) -> bool:
        """A name in brackets is a host if pyinfra connected to it; later lines may be those of a file's diff."""
        return self.short(name) in self.hosts or self.stage in ("starting", "Connecting to hosts")

    def _host_line(self, name: str, text: str) -> None:
        host = self.hosts[name]
        if text == "Connected":
            host.does("connected")
        elif text.startswith("Ready:"):
            host.does("compared")
        elif text.startswith("Success"):
            host.changed += 1
            host.does("waiting")
        elif text.startswith(("No changes", "Skipped")):
            host.unchanged += 1
            host.does("waiting")
        elif text.startswith("Error (ignored): executed"):
            # the last operation reports it and fails
            host.troubled, host.output = self.operation, reason(host.lines)
            host.does("waiting")
        elif text.startswith(("Error: executed", "Error: could not")):
            if not text.startswith("Error: executed"):
                host.lines.append(text)  # pyinfra itself asked, and the host did not answer
            host.failed = self.operation or self.stage
            host.does("failed")
        else:
            host.lines.append(text)
            if not self.executing:
                self.details.append(f"[{name}] {text}")
            if self.stage.startswith("Connecting"):
                host.failed = text
