"""Whether a login may be tried: Dovecot asks first and reports the outcome afterwards (its auth policy protocol, HTTP and JSON).

AUT-03. Counted are *different* wrong passwords for one account, never connections or attempts: a telephone that keeps
trying an old password counts once. Dovecot sends a keyed hash, not the password.

- Each place that an account has logged in from before has a counter of its own: the address, and for IPv6 also the rest of its
  network (/64). A guesser elsewhere cannot lock the owner out there, nor can a neighbour in the same network. All other places share
  one counter, so another address does not help the guesser.
- An address from which many accounts are tried may only log in to accounts that have logged in there before: colleagues
  behind the same address keep working.

After half the allowed failures each further attempt has to wait. Then the account is locked until the oldest failure is as old
as the ban is long. Counters are in memory, so a restart lifts all bans. The places are in a file: otherwise a guesser could lock
the owner's own place after a restart.
"""

import json
import math
import os
import pwd
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

SETTINGS = Path("/etc/outpost/logins.json")
KNOWN = Path("/var/lib/outpost-logins/known.json")
KNOWN_FOR = 30 * 86400
"""Seconds that a place stays usual after the last login from it."""
NOTED_EVERY = 86400
"""Seconds after which another login from a known place is written to the file."""
PLACES = 100
"""Most known places of one account; the one that was not used for longest is removed first."""
SPRAYING = 5
"""Limit of one address over all accounts: this many times that of one account, or the number of accounts if that is more."""
LONGEST_WAIT = 8
REMEMBERED = 20_000
"""About the number of accounts and addresses with wrong passwords that are kept: guessers choose the names. The oldest are removed first."""

REFUSE = -1
Key = tuple[str, str]


@dataclass
class Logins:
    """The decisions, without sockets.

    Attributes:
        failures: Different wrong passwords within `ban` seconds that shut an account.
        accounts: As many as the office has: a whole office behind one address may have an old password each.
    """

    domain: str
    failures: int
    ban: int
    accounts: int = 0
    clock: Callable[[], float] = time.time
    path: Path | None = None
    known: dict[Key, float] = field(default_factory=dict)
    wrong: dict[Key, dict[str, float]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    room: int = REMEMBERED

    def __post_init__(self) -> None:
        """Read the places that were known before a restart."""
        if self.path is None or not self.path.exists():
            return
        try:
            noted = json.loads(self.path.read_text())
            self.known = {(str(account), str(place)): float(at) for account, place, at in noted}
        except (OSError, ValueError, TypeError) as trouble:
            say(3, f"{self.path} cannot be read, usual places are forgotten: {trouble}")

    def allow(self, login: str, remote: str) -> int:
        """0 means to continue at once, a number the seconds to wait first, -1 to refuse any password."""
        if self.shut(login, remote):
            return REFUSE
        with self.lock:
            count = self._count(self._place(self._account(login), remote))
            free = self.failures // 2
            return 0 if count < free else int(min(2 ** (count - free), LONGEST_WAIT))

    def shut(self, login: str, remote: str) -> int:
        """Minutes during which no password is tried for that account from there; 0 if one is."""
        with self.lock:
            account = self._account(login)
            limits = {self._place(account, remote): self.failures}
            if not self._is_known(account, around := network(remote)):
                limits["", around] = max(SPRAYING * self.failures, self.accounts)
            left = 0.0
            for key, most in limits.items():
                if self._count(key) >= most:
                    left = max(left, sorted(self.wrong[key].values())[-most] + self.ban - self.clock())
            return math.ceil(left / 60)

    def report(self, login: str, remote: str, password: str, *, success: bool) -> bool:
        """Note an outcome; returns true if it locked the account."""
        around = network(remote)
        with self.lock:
            account, now = self._account(login), self.clock()
            if len(self.wrong) > self.room:
                self._forget(now)
            place = self._place(account, remote)
            if success:
                for each in {remote, around}:
                    self._note(account, each, now)
                    self.wrong.pop((account, each), None)
                return False
            before = self._count(place)
            if not self._is_known(account, around):
                self._at(("", around))[f"{account} {password}"] = now
            self._at(place).setdefault(password, now)
            return before < self.failures <= self._count(place)

    def _note(self, account: str, remote: str, now: float) -> None:
        before = self.known.pop((account, remote), float("-inf"))
        self.known[account, remote] = now  # at the end: the first one was not used for longest
        others = [key for key in self.known if key[0] == account]
        for key in others[:-PLACES]:
            del self.known[key]
        if now - before < NOTED_EVERY:
            self.known[account, remote] = before  # what the file contains
            return
        if self.path is not None:
            fresh = self.path.with_suffix(".new")
            try:
                fresh.write_text(json.dumps([(*key, at) for key, at in self.known.items()]))
                fresh.replace(self.path)
            except OSError as trouble:
                say(3, f"{self.path} cannot be written, a restart will forget usual places: {trouble}")

    def _account(self, login: str) -> str:
        lowered = login.strip().lower()
        return lowered if "@" in lowered else f"{lowered}@{self.domain}"

    def _is_known(self, account: str, remote: str) -> bool:
        return self.clock() - self.known.get((account, remote), float("-inf")) < KNOWN_FOR

    # AUT-03: not the network alone, or anybody in the users' network locks everybody out there: it is one /64
    def _place(self, account: str, remote: str) -> Key:
        """The narrowest place that the account has logged in from."""
        places = (remote, network(remote))
        return account, next((place for place in places if self._is_known(account, place)), "")

    def _count(self, key: Key) -> int:
        now = self.clock()
        recent = {password: at for password, at in self.wrong.get(key, {}).items() if now - at < self.ban}
        if recent:
            self.wrong[key] = recent
        else:
            self.wrong.pop(key, None)
        return len(recent)

    def _at(self, key: Key) -> dict[str, float]:
        """The wrong passwords there, behind all others."""
        self.wrong[key] = counted = self.wrong.pop(key, {})
        return counted

    # AUT-03: not at each report, or guesses at many names keep this service busy until Dovecot goes on without it; and never without a
    # bound, or they use up its memory, and its restart lifts every ban
    def _forget(self, now: float) -> None:
        for key in list(self.wrong):
            self._count(key)
        for key in list(self.wrong)[: max(0, len(self.wrong) - REMEMBERED)]:
            del self.wrong[key]
        self.room = max(REMEMBERED, len(self.wrong) + REMEMBERED // 2)
        self.known = {key: at for key, at in self.known.items() if now - at < KNOWN_FOR}


def network(remote: str) -> str:
    """An IPv4 address itself, or the /64 of an IPv6 address: one host may take any address in it."""
    try:
        address = ip_address(remote)
    except ValueError:
        return remote
    return str(ip_network((address, 64), strict=False)) if address.version == 6 else remote


def say(priority: int, line: str) -> None:
    """A line for the journal, with its priority (sd-daemon(3)); strangers choose the name in it, and a line feed would start another line."""
    sys.stderr.write(f"<{priority}>{''.join(sign if sign.isprintable() else '?' for sign in line)}\n")


class Handler(BaseHTTPRequestHandler):
    """One connection from Dovecot."""

    protocol_version = "HTTP/1.1"
    logins: Logins

    def do_POST(self) -> None:
        """``?command=allow`` and ``?command=report``."""
        try:
            request: dict[str, Any] = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))))
            login, remote = str(request.get("login", "")), str(request.get("remote", ""))
            answer = self._answer(login, remote, request)
            # the same whether the account exists or not (AUT-04); webmail reads the number (accounts.SHUT)
            minutes = self.logins.shut(login, remote)
        except (ValueError, TypeError, AttributeError):
            answer, minutes = 0, 0
        message = f"Too many wrong passwords: try again in {minutes} minutes."
        body = json.dumps({"status": answer, "msg": message if answer < 0 else "ok"}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _answer(self, login: str, remote: str, request: dict[str, Any]) -> int:
        if "command=allow" in self.path:
            return self.logins.allow(login, remote)
        # a login that was refused here was not tried
        if "command=report" in self.path and not request.get("policy_reject"):
            success = bool(request.get("success"))
            if self.logins.report(login, remote, str(request.get("pwhash", "")), success=success):
                say(4, f"login shut: {login}, {self.logins.failures} different wrong passwords")
        return 0

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (its name in the base class)
        """Dovecot logs each login itself."""


def account(port: int, table: str) -> int | None:
    """The account at the other end of a loopback connection, from its port (proc_net_tcp(5)); None if there is none."""
    rows = (line.split() for line in table.splitlines()[1:])
    return next((int(row[7]) for row in rows if row[1] == f"0100007F:{port:04X}" and row[3] == "01"), None)


class Server(ThreadingHTTPServer):
    """Everybody may log in at the same moment: by default five connections wait, and the others are delayed by a second."""

    request_queue_size = 1024
    asking = frozenset((os.getuid(),))
    """Accounts that may ask and report."""

    # AUT-03: without it any account of this host reports wrong passwords until nobody can log in, or makes a place usual.
    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ARG002 (the base class's)
        """Whether Dovecot, or root, is at the other end."""
        return account(client_address[1], Path("/proc/self/net/tcp").read_text()) in self.asking

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has hung up needs no traceback for each of its connections."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def main() -> None:
    settings = json.loads(SETTINGS.read_text())
    Handler.logins = Logins(
        settings["domain"], settings["failures"], settings["ban"], settings["accounts"], path=KNOWN
    )
    Server.asking |= {0, pwd.getpwnam("dovecot").pw_uid}
    with Server(("127.0.0.1", settings["port"]), Handler) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
