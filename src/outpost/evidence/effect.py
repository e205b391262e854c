"""The lines of configuration that are in effect on the hosts, by the control that they name."""

import re
from collections.abc import Iterator
from itertools import takewhile
from typing import NamedTuple

from outpost.evidence.controls import named
from outpost.office import Host, Office
from outpost.target import ROOT, Target
from outpost.transport.remote import run_script

TEMPLATES = ROOT / "templates"
COMMENT = re.compile(r"^\s*(#|//|;|--|/?\*)")
SECRET = re.compile(r"(secret|passw|nonce|des_key|hash)\w{0,64}+['\]]{0,3}+\s{0,80}+[=:]", re.IGNORECASE)
MOST = 4 * 1024 * 1024
"""Most bytes of configuration that a host may print."""
WIDEST = 1000
"""Most characters of a line that are read: the host controls its length."""
LONGEST = 5  # lines below a comment that names a control
_BEGIN = "=== outpost "


class Line(NamedTuple):
    """A line in effect, or the few lines that one comment explains."""

    host: str
    file: str
    number: int
    why: str
    text: str


def files(role: str) -> tuple[str, ...]:
    """Files on a host of a role whose lines name controls."""
    found = []
    for top in ("base", role):
        directory = TEMPLATES / top
        for template in sorted(directory.rglob("*.j2")):
            target = template.relative_to(directory).with_suffix("")
            if target.parts[0] in ("etc", "usr", "var") and named(template.read_text(encoding="utf-8")):
                found.append(f"/{target}")
    return tuple(dict.fromkeys(found))


def in_effect(
    target: Target, office: Office, host: Host, via: str | None = None
) -> Iterator[tuple[set[str], Line]]:
    """Controls, and a line of a host for them, all read in one round trip; values of secrets are not shown."""
    wanted = " ".join(files(host.role))
    script = f"for file in {wanted}; do [ ! -r $file ] || {{ echo '{_BEGIN}'$file; cat $file; }}; done"
    for part in run_script(target, office, host, script, via, most=MOST).split(_BEGIN)[1:]:
        file, _, text = part.partition("\n")
        yield from explained(host.name, file, text)


def explained(host: str, file: str, text: str) -> Iterator[tuple[set[str], Line]]:
    """Each comment that names controls, with the lines that it explains."""
    lines = [line[:WIDEST] for line in text.splitlines()]
    for number, line in enumerate(lines, 1):
        controls = named(line)
        if controls and not COMMENT.match(line):
            yield controls, Line(host, file, number, "", _shown(line))
        elif controls:
            rest = (lines[at] for at in range(number, len(lines)))
            comment = [line, *takewhile(lambda each: COMMENT.match(each) and not named(each), rest)]
            why = " ".join(re.sub(r"^\s*(#|//|;|--|/?\*)+\s?|-{5,}", "", each).strip() for each in comment)
            after = number + len(comment) - 1
            nearest = lines[after : after + LONGEST]
            below = [*takewhile(lambda each: each.strip() and not COMMENT.match(each), nearest)]
            if below:
                yield controls, Line(host, file, after + 1, why.strip(), "\n".join(map(_shown, below)))


def _shown(line: str) -> str:
    found = SECRET.search(line)
    return f"{line[: found.end()].rstrip()} (not shown)" if found else line.rstrip()
