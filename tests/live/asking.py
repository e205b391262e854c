"""DNS questions asked from a host itself, with nothing on it but a shell; answers are dnspython messages."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Iterable

import dns.flags
import dns.message
from testinfra.host import Host as TestinfraHost

_ASK_EACH = """
for question in $*; do
  exec 3<>/dev/tcp/$SERVER/53
  echo "$question" | base64 -d >&3
  head -c 2 <&3 | od -An -tu1 | { read high low; head -c $((high * 256 + low)) <&3; } | base64 -w0
  echo
  exec 3>&-
done
"""


def ask(
    host: TestinfraHost, server: str, questions: Iterable[dns.message.Message]
) -> list[dns.message.Message]:
    """Put questions to a server over TCP, all in one command on the host; one answer each, in order."""
    wires = (question.to_wire() for question in questions)
    encoded = [base64.b64encode(len(wire).to_bytes(2) + wire).decode() for wire in wires]
    script = f"SERVER={shlex.quote(server)}; set -- {' '.join(encoded)}; {_ASK_EACH}"
    done = host.run("timeout 120 bash -c %s", script)
    answers = done.stdout.splitlines()
    assert done.rc == 0, f"{server} does not answer: {done.stderr}"
    assert len(answers) == len(encoded), f"{server} closed the connection: {done.stdout!r}"
    return [dns.message.from_wire(base64.b64decode(answer)) for answer in answers]


def query(name: str, rtype: str, *, recurse: bool = False, rdclass: str = "IN") -> dns.message.Message:
    """A question that wants signatures, and recursion only where it is said."""
    message = dns.message.make_query(name, rtype, rdclass, want_dnssec=True)
    if not recurse:
        message.flags &= ~dns.flags.RD
    return message
