"""What only the running host can tell, asked in one go: a shell for all of it, while the files are looked at."""

from __future__ import annotations

from outpost.onhost.observe.places import ELSEWHERE, LISTED, SPECIAL, STARTED, TREES
from outpost.onhost.observe.reading import Begun, BlindError

OF_LINKS = "address\nroute show table all\nrule\nneighbour show nud permanent\n"
OF_LINKS_6 = "route show table all\nrule\n"
REDIS = "-s $(sed -n 's/^unixsocket //p' /etc/redis/redis.conf)"
LIVE = {
    "links": f"printf '{OF_LINKS}' | ip -json -details -batch -",
    "links 6": f"printf '{OF_LINKS_6}' | ip -6 -json -details -batch -",
    "queues": "tc -json qdisc",
    "units": "systemctl list-units --all --no-legend --plain --full",
    "environment": "systemctl show-environment",
    "sockets": "ss --no-header --listening --numeric --tcp --udp --extended",
    "filter": "nft --stateless --terse list ruleset",
    "functions": f"! [ -e /usr/bin/redis-cli ] || redis-cli {REDIS} function list",
    "special": rf"find / -xdev \( {' -o '.join(f'-path {top}' for top in (*ELSEWHERE, *TREES))} \) -prune -o \( {SPECIAL} -o {STARTED} \) {LISTED}",
}
"""Name → shell command."""
PART = "outpost-answer "
SURVEYED = "surveyed"
"""Last line of what the observer answers to a survey: an older one does not know what that is."""


def answer_to(name: str, live: dict[str, list[str]]) -> list[str]:
    """Lines of the answer to a question that every host has an answer to.

    Raises:
        BlindError: There is none.
    """
    if lines := live.get(name):
        return lines
    raise BlindError(f"no answer: {LIVE[name].partition(' -')[0]}")


class Asked:
    """Questions whose answers are on their way.

    Args:
        questions: Name → shell command.
    """

    def __init__(self, questions: dict[str, str]) -> None:
        script = "".join(
            f"echo '{PART}{name}'\n( {command}\n) 2>/dev/null\necho\n" for name, command in questions.items()
        )
        self._shell = Begun("/bin/sh", "-c", script)

    def answers(self) -> dict[str, list[str]]:
        """Name → lines; what has not come in time is missing."""
        found: dict[str, list[str]] = {}
        lines: list[str] = []
        for line in self._shell.said().decode(errors="surrogateescape").removesuffix("\n").split("\n"):
            if line.startswith(PART):
                lines = found.setdefault(line.removeprefix(PART), [])
            else:
                lines.append(line)
        return {name: lines[:-1] if lines[-1:] == [""] else lines for name, lines in found.items()}
