"""What only the running host can tell, asked in one go: a shell for all of it, while the files are looked at."""

from __future__ import annotations

import subprocess

from outpost.onhost.observe.places import ELSEWHERE, SPECIAL, TREES

LIVE = {
    "units": "systemctl list-units --all --no-legend --plain --full",
    "environment": "systemctl show-environment",
    "sockets": "ss --no-header --listening --numeric --tcp --udp --processes",
    "filter": "nft --stateless list ruleset",
    "links": "ip -json -details address",
    **{f"routes {family}": f"printf 'route show table all\\nneighbour show nud permanent\\n' | ip -json -{family} -batch -" for family in "46"},
    **{f"rules {family}": f"ip -{family} rule" for family in "46"},
    "special": rf"find / -xdev \( {' -o '.join(f'-path {top}' for top in (*ELSEWHERE, *TREES))} \) -prune -o \( {SPECIAL} \) -printf '%m %u %g|%p\n'",
}  # fmt: skip
"""Name → shell command."""
PART = "outpost-answer "
PATIENCE = 60
SURVEYED = "surveyed"
"""Last line of what the observer answers to a survey: an older one does not know what that is."""


class Asked:
    """Questions whose answers are on their way.

    Args:
        questions: Name → shell command.
    """

    def __init__(self, questions: dict[str, str]) -> None:
        script = "".join(
            f"echo '{PART}{name}'\n( {command}\n) </dev/null 2>/dev/null\necho\n"
            for name, command in questions.items()
        )
        self._process = subprocess.Popen(["/bin/sh", "-c", script], stdout=subprocess.PIPE)

    def answers(self) -> dict[str, list[str]]:
        """Name → lines; what has not come within `PATIENCE` seconds is missing."""
        try:
            output, _ = self._process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired as late:
            self._process.kill()
            output = late.output or b""
        found: dict[str, list[str]] = {}
        lines: list[str] = []
        for line in output.decode(errors="replace").removesuffix("\n").split("\n"):
            if line.startswith(PART):
                lines = found.setdefault(line.removeprefix(PART), [])
            else:
                lines.append(line)
        return {name: lines[:-1] if lines[-1:] == [""] else lines for name, lines in found.items()}
