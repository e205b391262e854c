"""SMTP sessions from a host itself, which needs only a shell and openssl."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from testinfra.host import Host as TestinfraHost

from outpost.office.tables.values import IPAddress
from outpost_lab import pace

TLS = "/etc/outpost/tls"
_SPEAK = r"""
reply() {
  while IFS= read -r -t 15 line <&3; do
    printf '%s\n' "${line%$'\r'}"
    [ "${line:3:1}" = - ] || { echo; return; }
  done
  echo; exit 0
}
[ -n "$STARTED" ] || reply
for line in "$@"; do printf '%b\r\n' "$line" >&3; reply; done
"""
_PLAIN = "exec 3<>/dev/tcp/{address}/{port}\n"
# openssl would run on after its shell, and its session would occupy the listener until the server's timeout
_TLS = """
coproc SERVER {{ exec openssl s_client -quiet -connect {socket} -CAfile {tls}/ca.pem {options} 2>/dev/null; }}
trap 'kill $SERVER_PID 2>/dev/null' EXIT
exec 3<&${{SERVER[0]}} 4>&${{SERVER[1]}}
"""


OLD_OFFERS = {
    "TLS 1.0": "-tls1 -cipher ALL:@SECLEVEL=0",
    "TLS 1.1": "-tls1_1 -cipher ALL:@SECLEVEL=0",
    "CBC": "-tls1_2 -cipher ECDHE+SHA1",
}
"""Outdated TLS offers (``openssl s_client``); `tls.profile` decides about them."""


class Answers(list[str]):
    """Answers of a session; a request for a missing one fails the check."""

    def __getitem__(self, at: Any) -> Any:
        try:
            return super().__getitem__(at)
        except IndexError:
            raise AssertionError(f"cut off after {self}") from None


def speak(
    client: TestinfraHost,
    address: IPAddress,
    port: int,
    lines: Sequence[str] = (),
    *,
    tls: str | None = None,
    whole: bool = False,
) -> list[str]:
    """The greeting and the answer to each line; each line is sent after the answer before (RFC 5321). A missing answer was cut off.
    After STARTTLS there is no greeting: the first answer is that to the first line.

    Args:
        lines: Commands without their line end; backslash escapes are expanded (``\\n`` is a bare line feed).
        tls: Options of ``openssl s_client``; without them the session is in clear text.
        whole: Nothing may be missing, or the check fails.
    """
    if tls is None:
        opening = _PLAIN.format(address=address, port=port)
        script = opening + _SPEAK
    else:
        socket = f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
        script = _TLS.format(socket=socket, tls=TLS, options=tls) + _SPEAK.replace(">&3;", ">&4;")
    arguments = " ".join(map(shlex.quote, lines))
    started = "yes" if tls and "-starttls" in tls else ""
    done = client.run(
        f"STARTED={started} timeout {60 * pace.load():.0f} bash -c {shlex.quote(script)} smtp {arguments}",
        live=True,
    )
    answers = Answers(answer for answer in done.stdout.split("\n\n") if answer.strip())
    assert not whole or len(answers) == len(lines) + (not started), f"cut off after {answers}"
    return answers


def answers_to(
    client: TestinfraHost, address: IPAddress, port: int, opening: Sequence[str], lines: Sequence[str]
) -> list[str]:
    """The answer to each line, in as few sessions as possible: under stress Postfix ends a session at the first error.

    Args:
        opening: Lines with which each session begins.
    """
    found: list[str] = []
    while len(found) < len(lines):
        answers = speak(client, address, port, [*opening, *lines[len(found) :]])[len(opening) + 1 :]
        answered = [answer for answer in answers if not answer.startswith("421 4.7.0")]
        assert answered, f"cut off after {found}"
        found += answered
    return found
