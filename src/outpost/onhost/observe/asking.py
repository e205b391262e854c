"""Answers of the running host, read by one shell while the files are scanned; and the results of one scan."""

import collections
import json

from outpost.onhost.observe.places import ELSEWHERE, LISTED, SPECIAL, STARTED, TREES
from outpost.onhost.observe.reading import Begun, BlindError

OF_LINKS = (
    "address\nroute show table all\nrule\nneighbour show nud permanent nud noarp\nneighbour show proxy\n"
)
OF_LINKS_6 = "route show table all\nrule\n"
OF_QUEUES = r"class show dev %s\nfilter show dev %s\n"
REDIS = "-s $(sed -n 's/^unixsocket //p' /etc/redis/redis.conf)"
LIVE = {
    "links": f"printf '{OF_LINKS}' | ip -json -details -batch -",
    "links 6": f"printf '{OF_LINKS_6}' | ip -6 -json -details -batch -",
    "policies": "! [ -e /proc/sys/net/core/xfrm_acq_expires ] && echo none || { ip xfrm policy list && ip xfrm policy getdefault; }",
    "queues": f'{{ echo qdisc show; for link in /sys/class/net/*; do printf \'{OF_QUEUES}\' "${{link##*/}}" "${{link##*/}}"; done; }} | tc -json -force -batch -',
    "units": "systemctl list-units --all --no-legend --plain --full",
    "environment": "systemctl show-environment",
    "messages": "systemctl show --property=LogLevel,LogTarget,ServiceWatchdogs",
    "paused": "! [ -e /usr/sbin/knotc ] || knotc zone-status +freeze; for what in activity selectdata tracking; do chronyc -c -N $what; done",
    "sockets": "ss --no-header --listening --numeric --tcp --udp --extended",
    "filter": "nft --stateless --terse list ruleset",
    "functions": f"! [ -e /usr/bin/redis-cli ] || redis-cli {REDIS} function list",
    "special": rf"find / $(findmnt --real --raw --noheadings --output TARGET | grep -Ev '^({'|'.join(ELSEWHERE)})(/|$)') -xdev \( {' -o '.join(f'-path {top}' for top in (*ELSEWHERE, *TREES))} \) -prune -o \( {SPECIAL} -o {STARTED} \) {LISTED}",
}
"""Name → shell command."""
JUDGED = ("links", "links 6", "policies", "queues", "units", "environment", "messages", "paused", "sockets")
"""Questions whose answers are only used for states and faults: the answers themselves change with every session."""
PART = "outpost-answer "
SURVEYED = "surveyed"
"""Last line of the observer's answer to a survey: an older observer does not print it."""


def answer_to(name: str, live: dict[str, list[str]]) -> list[str]:
    """Lines of the answer to a question that every host answers."""
    if lines := live.get(name):
        return lines
    raise BlindError(f"no answer: {LIVE[name].partition(' -')[0]}")


class Asked:
    """Questions whose answers are on their way."""

    def __init__(self, questions: dict[str, str]) -> None:
        script = "".join(
            f"echo '{PART}{name}'\n( {command}\n) 2>/dev/null\necho\n" for name, command in questions.items()
        )
        self._shell = Begun("/bin/sh", "-c", script)

    def answers(self) -> dict[str, list[str]]:
        """Name → lines; an answer that is late is missing."""
        found: dict[str, list[str]] = {}
        lines: list[str] = []
        for line in self._shell.output().decode(errors="surrogateescape").removesuffix("\n").split("\n"):
            if line.startswith(PART):
                lines = found.setdefault(line.removeprefix(PART), [])
            else:
                lines.append(line)
        return {name: lines[:-1] if lines[-1:] == [""] else lines for name, lines in found.items()}


class Seen(collections.namedtuple("Seen", "mark mark_of_usr states faults live declared_units declared")):
    """The answers of the running host, and the mark of its files.

    Attributes:
        mark_of_usr: The mark of files below /usr.
        states: Facts to compare with the known state.
        faults: What is wrong in any case, whatever the known state.
        live: Name of a question → lines of the answer.
        declared_units: Unit → its declared files.
        declared: All declared paths.
    """

    __slots__ = ()

    def states_of(self, units: list[str]) -> list[str]:
        active = {line.split()[0]: line.split()[2] for line in self.live.get("units", ())}
        return [active.get(unit, "inactive") for unit in units]

    def mark_of_all(self) -> str:
        """A mark of the files and the running host: with the same mark a scan has the same result. Empty if the files' mark is."""
        answers = {name: lines for name, lines in self.live.items() if name not in JUDGED}
        answered = json.dumps([sorted(self.states), sorted(self.faults), answers], sort_keys=True)
        return f"{self.mark}\n{answered}" if self.mark else ""
