"""What users choose for themselves, on the store: password, second factor, application passwords, webmail sessions.

The office declares accounts and first passwords. What a user chose is in one file for each account, beside the mailboxes;
Dovecot reads it at each login (``accounts.lua``). The file belongs to one first password: if the administrator sets another,
all of the file becomes invalid. Only Dovecot checks passwords, so that all guesses are counted in one place (AUT-03).

Webmail sends each request as one line of JSON. For a password and, if the user has a second factor, a code (RFC 6238) it gets a
session for webmail only, valid for a working day: so it never keeps a password (docs/adr/0015). A passkey replaces the
code (docs/adr/0055).

One file: each request reads and writes the same account under the same lock.
"""

import base64
import fcntl
import hashlib
import hmac
import json
import math
import os
import re
import secrets
import socket
import socketserver
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from outpost.onhost.passkeys import Passkeys
from outpost.onhost.passwords import complaint

SETTINGS = Path("/etc/outpost/accounts.json")
SESSIONS = 8
"""Webmail sessions of one user; a new one ends the oldest."""
APPLICATIONS = 10
WRONG_CODES, WHILE = 5, 600
"""After that number of wrong codes in that number of seconds, no code is accepted until the first is that old.

A guess has 3 chances in a million.
"""
PROVEN = 300
"""Seconds for which a login without the right code need not repeat the password."""
DEVICES = 5
"""Most devices of one user that show codes, together with passkeys."""
SET_UP = 600
"""Seconds within which a new device is confirmed: its code is six digits, and wrong ones do not count."""
RECOVERY = 8
"""Codes that replace the second factor once each, for a user who has lost the telephone."""
ADDRESS = re.compile(r"[0-9a-fA-F:.]{1,45}")
BROWSER = re.compile(r"[A-Za-z, ]{1,40}")
"""Only such text of webmail gets into the file: a line of it could otherwise be a password."""
SHUT = re.compile(r"^FAIL\t1\t(?:.*\t)?reason=[^\t]*in (\d{1,9}) minutes")
"""Dovecot passes on the reason of the login policy (``logins``)."""
STEP = 30
"""Seconds of a code's period (RFC 6238); the periods before and after are accepted, too, because clocks differ."""
LONGEST_LINE = 8192
ENDING, PACE = 10.0, 0.05
"""Seconds to wait until open sessions have ended, and between two checks."""
GUESSES = ("password", "code", "passkey")
"""Refusals for a guesser."""


class RefusedError(Exception):
    """The request is refused; webmail has a text for the reason in each language (``localization/``)."""

    def __init__(self, reason: str, **numbers: int) -> None:
        super().__init__(reason)
        self.answer = {"refused": reason} | ({"args": numbers} if numbers else {})


@dataclass
class Chosen:
    """What one user has chosen.

    Attributes:
        grown_from: The hash of the first password it belongs to.
        password: Hash of the user's own password; empty until it is chosen.
        factors: Name of a device to its secret (base32) and the time step of its last code, which is not accepted again.
        passkeys: Name of a passkey to its identity and public key (`Passkeys.made`).
        recovery: Hashes of recovery codes that were not used yet.
        applications: Name of a program to the hash of its password.
        sessions: Hash of a webmail session's token to its end, UNIX time.
        places: Hash of a webmail session's token to the address and the browser that it began from.
        made: Name of a program to the UNIX time at which its password was made.
    """

    grown_from: str
    password: str = ""
    factors: dict[str, tuple[str, int]] = field(default_factory=dict)
    passkeys: dict[str, str] = field(default_factory=dict)
    recovery: list[str] = field(default_factory=list)
    applications: dict[str, str] = field(default_factory=dict)
    sessions: dict[str, int] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    made: dict[str, int] = field(default_factory=dict)

    def lines(self) -> str:
        """The lines of its file: one fact each, its kind first."""
        rows = [("from", self.grown_from)]
        rows += [("password", self.password)] if self.password else []
        rows += [
            ("factor", f"{secret} {counter} {name}".rstrip())
            for name, (secret, counter) in self.factors.items()
        ]
        rows += [("passkey", f"{credential} {name}") for name, credential in self.passkeys.items()]
        rows += [("recovery", hashed) for hashed in self.recovery]
        rows += [("application", f"{hashed} {name}") for name, hashed in self.applications.items()]
        rows += [("made", f"{self.made[name]} {name}") for name in self.applications if name in self.made]
        rows += [
            ("session", f"{hashed} {end} {self.places.get(hashed, '')}".rstrip())
            for hashed, end in self.sessions.items()
        ]
        return "".join(f"{kind} {value}\n" for kind, value in rows)

    @property
    def devices(self) -> list[str]:
        """Names of the second factors; while there is none, the password alone is enough."""
        return [*self.factors, *self.passkeys]

    # AUT-07: without it a thief continues all day in sessions that were opened before the user locked him out.
    def keep_only(self, session: str) -> None:
        """End every other webmail session."""
        mine = token_hash(session)
        self.sessions = {mine: self.sessions[mine]}

    @classmethod
    def parse(cls, text: str) -> "Chosen":
        """Read what `lines` wrote."""
        chosen = cls("")
        for line in text.splitlines():
            kind, _, value = line.partition(" ")
            first, _, rest = value.partition(" ")
            if kind == "from":
                chosen.grown_from = value
            elif kind == "password":
                chosen.password = value
            elif kind == "factor":
                counter, _, name = rest.partition(" ")
                chosen.factors[name] = (first, int(counter or 0))
            elif kind == "passkey":
                chosen.passkeys[rest] = first
            elif kind == "recovery":
                chosen.recovery.append(value)
            elif kind == "application":
                chosen.applications[rest] = first
            elif kind == "session":
                end, _, place = rest.partition(" ")
                chosen.sessions[first], chosen.places[first] = int(end), place
            elif kind == "made":
                chosen.made[rest] = int(first)
        return chosen


class Declared(NamedTuple):
    """What the office declares about one account.

    Attributes:
        hashed: Hash of the first password.
        one_time: Whether it is valid only for choosing another.
        factor_from: UNIX time from which a second factor is required; None where it is not.
    """

    hashed: str
    one_time: bool
    factor_from: int | None


@dataclass
class Accounts:
    """The decisions, without sockets.

    Attributes:
        words: A file with words that no password is made of (JSON), read at each change: people come and go.
        declared: The office's accounts as Dovecot reads them: address, hash of the first password.
        own: The directory of users' settings.
        used: A directory with a file for each program's password; its time is when Dovecot last accepted the password.
        verify: Asks Dovecot whether that is the password of that address, typed at that remote address.
        hash_password: Makes the stored hash of a password (AUT-01).
        session_seconds: How long a webmail session lasts.
        draw: A picture of a text, as a ``data:`` URI with a QR code.
        server: Where programs read and send mail: name, port of IMAP, port of submission.
        profile: The address of the profile for Apple's programs.
        ended: Takes the address of a user whose open sessions with Dovecot have to end.
        passkeys: Makes questions for passkeys and checks the answers.
        seen: Address and hash of a webmail session's token to the UNIX time at which webmail last used it.
    """

    domain: str
    words: Path
    declared: Path
    own: Path
    used: Path
    session_seconds: int
    verify: Callable[[str, str, str], bool]
    hash_password: Callable[[str], str]
    draw: Callable[[str], str]
    ended: Callable[[str], None]
    passkeys: Passkeys
    server: tuple[str, int, int] = ("", 0, 0)
    profile: str = ""
    clock: Callable[[], float] = time.time
    pending: dict[tuple[str, str], tuple[Any, str, float]] = field(default_factory=dict)
    asked: dict[str, tuple[Any, float]] = field(default_factory=dict)
    proven: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    wrong: dict[str, list[float]] = field(default_factory=dict)
    seen: dict[str, dict[str, int]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    hashing: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other threads, and ``end-sessions`` (flock(1)), from users' settings."""
        with self.lock:
            directory = os.open(self.own, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(directory, fcntl.LOCK_EX)
                yield
            finally:
                os.close(directory)

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer to one request; ``refused`` says why there is none."""
        actions: dict[str, Callable[..., dict[str, Any]]] = {
            "login": self.login, "logout": self.logout, "state": self.state, "change": self.change,
            "add_application": self.add_application, "remove_application": self.remove_application,
            "end_session": self.end_session,
            "begin_factor": self.begin_factor, "confirm_factor": self.confirm_factor, "remove_factor": self.remove_factor,
            "begin_passkey": self.begin_passkey, "confirm_passkey": self.confirm_passkey,
        }  # fmt: skip
        arguments = {str(key): str(value) for key, value in request.items()}
        action = actions.get(arguments.pop("do", ""))
        if action is None:
            return {"refused": "request"}
        address = self._address(arguments.pop("user", ""))
        try:
            return action(address, **arguments)
        except RefusedError as reason:
            if str(reason) in GUESSES:
                tell_of_guess(address, arguments.get("remote", ""), str(reason))
            return reason.answer
        except TypeError:
            return {"refused": "request"}

    # Coming and going -----------------------------------------------------------------------------------------

    def login(
        self, address: str, password: str, remote: str, code: str = "", browser: str = ""
    ) -> dict[str, Any]:
        """Make a session for the right password and, if there is a second factor, the right code or a passkey's answer.

        Without the right code the answer has a token that replaces the password for some minutes, so that nobody has to
        type it once more.
        """
        before = self._checked_against(address)
        if not self._was_proven(address, password, remote):
            self._prove(address, password, remote)
        with self.alone():
            chosen = self._chosen(address)
            # AUT-07: without it a thief who logs in all the time gets a session while the user changes the password
            if before != self._checked_against(address):
                raise RefusedError("password")
            if chosen.devices:
                if not code.strip():
                    return {"refused": "code"} | self._now_proven(address, chosen, remote)
                try:
                    (self._use_passkey if code.startswith("{") else self._use_code)(address, chosen, code)
                except RefusedError as refusal:
                    refusal.answer |= self._now_proven(address, chosen, remote)
                    raise
                self.proven.pop(address, None)
            token = secrets.token_urlsafe(32)
            ends = sorted(chosen.sessions.items(), key=lambda item: item[1])[-(SESSIONS - 1) :]
            chosen.sessions = {hashed: end for hashed, end in ends if end > self.clock()}
            hashed = token_hash(token)
            chosen.sessions[hashed] = int(self.clock()) + self.session_seconds
            shown = ((ADDRESS, remote), (BROWSER, browser))
            chosen.places[hashed] = " ".join(text for form, text in shown if form.fullmatch(text))
            self._keep(address, chosen)
            return {"session": token} | self._required(address, chosen)

    def logout(self, address: str, session: str) -> dict[str, Any]:
        with self._changing(address, session) as chosen:
            del chosen.sessions[token_hash(session)]
        return {}

    def state(self, address: str, session: str) -> dict[str, Any]:
        """What the user has, without secrets."""
        with self.alone():
            chosen = self._in_session(address, session)
            return {
                "recovery": len(chosen.recovery),
                "devices": chosen.devices,
                "applications": [
                    {"name": name, "made": chosen.made.get(name), "used": self._last_used(hashed)}
                    for name, hashed in chosen.applications.items()
                ],
                "sessions": [
                    {
                        "id": short(hashed),
                        "since": end - self.session_seconds,
                        "used": self.seen[address].get(hashed),
                        "place": chosen.places.get(hashed, ""),
                        "this": hashed == token_hash(session),
                    }
                    for hashed, end in chosen.sessions.items()
                    if end > self.clock()
                ],
            } | self._required(address, chosen)

    # Choosing -------------------------------------------------------------------------------------------------

    def change(self, address: str, session: str, password: str, new: str, remote: str) -> dict[str, Any]:
        """Set another password; all other sessions end, of webmail and of mail programs."""
        self._authorise(address, session, password, remote)
        if new == password:
            raise RefusedError("same")
        if objection := complaint(new, words=frozenset(json.loads(self.words.read_text())) | {address}):
            raise RefusedError(objection.reason, **objection.numbers)
        # DOS-13: each takes 64 MiB; changes at the same time would take all memory of the store
        with self.hashing:
            hashed = self.hash_password(new)
        with self._changing(address, session) as chosen:
            chosen.password = hashed
            chosen.keep_only(session)
        self.ended(address)
        return {}

    def add_application(
        self, address: str, session: str, password: str, name: str, remote: str, full_name: str = ""
    ) -> dict[str, Any]:
        """Make a password for one program; it is shown once, with pictures that configure telephones."""
        self._authorise(address, session, password, remote)
        name = as_typed(name)
        made = "-".join(
            "".join(secrets.choice("abcdefghijkmnpqrstuvwxyz23456789") for _ in range(4)) for _ in range(5)
        )
        with self._changing(address, session) as chosen:
            required = self._required(address, chosen)
            if required["must_change"]:
                raise RefusedError("first")
            if required["must_factor"]:
                raise RefusedError("factor_first")
            if name in chosen.applications:
                raise RefusedError("name_taken")
            if len(chosen.applications) >= APPLICATIONS:
                raise RefusedError("full", most=APPLICATIONS)
            chosen.applications[name], chosen.made[name] = token_hash(made), int(self.clock())
        host, imap, submission = self.server
        # Thunderbird's "Export for Mobile", version 1: 3 is TLS from the first octet, 1 a password
        server = (host, imap, 3, 1, address, None, made), (host, submission, 3, 1, address, made)
        android = [1, [1, 1], [0, *server[0]], [[[0, *server[1]], [address, full_name[:80]]]]]
        pictures = {"thunderbird": self.draw(json.dumps(android)), "apple": self.draw(self.profile)}
        return {"application_password": made, "pictures": pictures}

    def remove_application(self, address: str, session: str, name: str) -> dict[str, Any]:
        """Remove the password of a program, and end its sessions."""
        with self._changing(address, session) as chosen:
            if (hashed := chosen.applications.pop(name, None)) is None:
                raise RefusedError("unknown_name")
        self._note_of_use(hashed).unlink(missing_ok=True)
        self.ended(address)
        return {}

    def end_session(self, address: str, session: str, id: str) -> dict[str, Any]:  # noqa: A002 (the form's field)
        """End one of the user's webmail sessions, for instance one that was left open on another computer."""
        with self._changing(address, session) as chosen:
            for hashed in [one for one in chosen.sessions if short(one) == id]:
                del chosen.sessions[hashed]
        return {}

    def begin_factor(
        self, address: str, session: str, password: str, name: str, remote: str
    ) -> dict[str, Any]:
        """Make a secret for one more device; it takes effect after the first right code."""
        secret = base64.b32encode(secrets.token_bytes(20)).decode()
        with self._beginning(address, session, password, name, remote) as (_, name, until):
            self.pending[address, "factor"] = (secret, name, until)
        label = quote(f"{self.domain}:{address}")
        uri = f"otpauth://totp/{label}?secret={secret}&issuer={quote(self.domain)}"
        return {"secret": secret, "uri": uri, "picture": self.draw(uri)}

    def confirm_factor(self, address: str, session: str, code: str) -> dict[str, Any]:
        """Turn the second factor on: webmail then asks for a code, and programs need a password of their own."""
        return self._confirm_device(address, session, "factor", code)

    def begin_passkey(
        self, address: str, session: str, password: str, name: str, remote: str
    ) -> dict[str, Any]:
        """Ask the browser to make a passkey; it takes effect when the browser has answered."""
        with self._beginning(address, session, password, name, remote) as (chosen, name, until):
            options, kept = self.passkeys.to_make(address, chosen.passkeys.values())
            self.pending[address, "passkey"] = (kept, name, until)
        return {"make_passkey": options}

    def confirm_passkey(self, address: str, session: str, code: str) -> dict[str, Any]:
        """Keep the passkey that the browser has made: a second factor like a device with codes."""
        return self._confirm_device(address, session, "passkey", code)

    def remove_factor(
        self, address: str, session: str, password: str, name: str, remote: str
    ) -> dict[str, Any]:
        """Remove a device or passkey. Without the last one the password alone is enough again, if the office allows that."""
        self._authorise(address, session, password, remote)
        with self._changing(address, session) as chosen:
            if name not in chosen.devices:
                raise RefusedError("unknown_device")
            if len(chosen.devices) == 1 and self._declared(address).factor_from is not None:
                raise RefusedError("factor_required")
            (chosen.factors if name in chosen.factors else chosen.passkeys).pop(name)
            if not chosen.devices:
                chosen.recovery = []
        return {}

    @contextmanager
    def _beginning(
        self, address: str, session: str, password: str, name: str, remote: str
    ) -> Iterator[tuple[Chosen, str, float]]:
        """What the user has, the name of one more device, and the end of the time in which it is confirmed."""
        self._authorise(address, session, password, remote)
        name = as_typed(name)
        with self.alone():
            chosen = self._in_session(address, session)
            if self._required(address, chosen)["must_change"]:
                raise RefusedError("first")
            if name in chosen.devices:
                raise RefusedError("device_taken")
            if len(chosen.devices) >= DEVICES:
                raise RefusedError("devices_full", most=DEVICES)
            yield chosen, name, self.clock() + SET_UP

    def _confirm_device(self, address: str, session: str, kind: str, code: str) -> dict[str, Any]:
        """Add the device or passkey, if it is proven; new recovery codes replace the earlier ones, and other sessions end."""
        with self._changing(address, session) as chosen:
            begun, name, until = self.pending.get((address, kind), (None, "", 0.0))
            if until <= self.clock():
                raise RefusedError("not_begun")
            if name in chosen.devices:  # begun twice, in two windows
                raise RefusedError("device_taken")
            if kind == "passkey":
                try:
                    chosen.passkeys[name] = self.passkeys.made(begun, code)
                except ValueError:
                    raise RefusedError("passkey") from None
            elif (counter := self._matching(begun, code)) is None:
                raise RefusedError("code_of_app")  # no guess: the user sees the secret
            else:
                chosen.factors[name] = (begun, counter)
            codes = [f"{secrets.randbelow(10**20):020}" for _ in range(RECOVERY)]
            chosen.recovery = [token_hash(one) for one in codes]
            del self.pending[address, kind]
            chosen.keep_only(session)
        self.ended(address)
        return {"recovery": [" ".join(re.findall(r"\d{5}", one)) for one in codes]}

    # What all of it rests on ----------------------------------------------------------------------------------

    def _prove(self, address: str, password: str, remote: str) -> None:
        if "\0" in password or not self.verify(address, password, remote):
            raise RefusedError("password")

    def _now_proven(self, address: str, chosen: Chosen, remote: str) -> dict[str, Any]:
        """A token that replaces the password for some minutes, after a login without the right code."""
        token = secrets.token_urlsafe(32)
        until = self.clock() + PROVEN
        self.proven[address] = (token_hash(token), chosen.grown_from, chosen.password, remote, until)
        if not chosen.passkeys:
            return {"proven": token}
        options, kept = self.passkeys.to_use(chosen.passkeys.values())
        self.asked[address] = (kept, until)
        return {"proven": token, "use_passkey": options}

    def _was_proven(self, address: str, token: str, remote: str) -> bool:
        """Whether it is such a token, used from the same address, and the password is still the same."""
        with self.alone():
            *kept, until = self.proven.get(address, (None, 0))
            if until <= self.clock():
                self.proven.pop(address, None)
                return False
            chosen = self._chosen(address)
            return kept == [token_hash(token), chosen.grown_from, chosen.password, remote]

    def _authorise(self, address: str, session: str, password: str, remote: str) -> None:
        """A change needs the account's session and its password: a browser that was left open is not enough."""
        with self.alone():
            self._in_session(address, session)
        self._prove(address, password, remote)

    @contextmanager
    def _changing(self, address: str, session: str) -> Iterator[Chosen]:
        """What the user of a session has chosen; it is written afterwards, unless the change is refused."""
        with self.alone():
            chosen = self._in_session(address, session)
            yield chosen
            self._keep(address, chosen)

    def _in_session(self, address: str, session: str) -> Chosen:
        chosen, mine = self._chosen(address), token_hash(session)
        if chosen.sessions.get(mine, 0) <= self.clock():
            raise RefusedError("session")
        seen = self.seen.get(address, {}) | {mine: int(self.clock())}
        self.seen[address] = {hashed: at for hashed, at in seen.items() if hashed in chosen.sessions}
        return chosen

    def _use_passkey(self, address: str, chosen: Chosen, answer: str) -> None:
        """Accept the answer of one of the user's passkeys to the last question, once."""
        recent = self._wrong_codes(address)
        kept, until = self.asked.pop(address, (None, 0))
        try:
            if until <= self.clock():
                raise ValueError
            self.passkeys.check(kept, chosen.passkeys.values(), answer)
        except ValueError:
            self.wrong[address] = [*recent, self.clock()]
            raise RefusedError("passkey") from None

    def _wrong_codes(self, address: str) -> list[float]:
        """When there were wrong codes. After several none is accepted for a while; further attempts do not extend it."""
        now = self.clock()
        recent = [at for at in self.wrong.get(address, []) if now - at < WHILE]
        if len(recent) >= WRONG_CODES:
            raise RefusedError("locked", minutes=math.ceil((recent[0] + WHILE - now) / 60))
        return recent

    def _use_code(self, address: str, chosen: Chosen, code: str) -> None:
        """Accept a code once."""
        now, recent = self.clock(), self._wrong_codes(address)
        digits = re.sub(r"\D", "", code)
        if (hashed := token_hash(digits)) in chosen.recovery:
            chosen.recovery.remove(hashed)
            return
        for name, (secret, used) in chosen.factors.items():
            if (counter := self._matching(secret, digits, used)) is not None:
                chosen.factors[name] = (secret, counter)
                return
        self.wrong[address] = [*recent, now]
        raise RefusedError("code")

    def _matching(self, secret: str, code: str, used: int = 0) -> int | None:
        """The time step of a code, if it is right and newer than the last one."""
        now, digits = int(self.clock() // STEP), re.sub(r"\D", "", code).encode()
        for counter in range(max(now - 1, used + 1), now + 2):
            if hmac.compare_digest(time_code(secret, counter).encode(), digits):
                return counter
        return None

    def _required(self, address: str, chosen: Chosen) -> dict[str, Any]:
        """What the user must do first, and the UNIX time from which a second factor is required."""
        declared = self._declared(address)
        begins = declared.factor_from
        return {
            "must_change": declared.one_time and not chosen.password,
            "must_factor": not chosen.devices and begins is not None and begins <= self.clock(),
            "factor": bool(chosen.devices),
            "factor_from": begins,
        }

    def _address(self, login: str) -> str:
        lowered = login.strip().lower()
        return lowered if "@" in lowered else f"{lowered}@{self.domain}"

    def _declared(self, address: str) -> Declared:
        """The office's declaration of an account that may log in."""
        for line in self.declared.read_text(encoding="utf-8").splitlines():
            name, _, rest = line.partition(":")
            hashed = rest.partition(":")[0]
            if name == address and hashed:
                begins = re.search(r" factor_from=(\d{1,12})", rest)
                return Declared(hashed, " one_time=yes" in rest, int(begins[1]) if begins else None)
        raise RefusedError("password")

    def _chosen(self, address: str) -> Chosen:
        declared = self._declared(address).hashed
        try:
            chosen = Chosen.parse((self.own / address).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return Chosen(declared)
        return chosen if chosen.grown_from == declared else Chosen(declared)

    def _checked_against(self, address: str) -> tuple[str, str] | None:
        """The hashes of an account's first and own password; None for an unknown account, whose guesses Dovecot delays, too."""
        try:
            chosen = self._chosen(address)
        except RefusedError:
            return None
        return chosen.grown_from, chosen.password

    def _note_of_use(self, hashed: str) -> Path:
        """The file that Dovecot writes when it accepts the password (``accounts.lua``)."""
        return self.used / re.sub(r"[^A-Za-z0-9]", "", hashed)

    def _last_used(self, hashed: str) -> int | None:
        try:
            return int(self._note_of_use(hashed).lstat().st_mtime)
        except FileNotFoundError:
            return None

    def _keep(self, address: str, chosen: Chosen) -> None:
        """Write it completely or not at all, and to the disk before the answer."""
        fresh = self.own / f".{address}"
        with fresh.open("w", encoding="utf-8") as file:
            fresh.chmod(0o640)
            file.write(chosen.lines())
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self.own / address)
        directory = os.open(self.own, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def as_typed(name: str) -> str:
    """The name that a user gives to a program or device: one short line."""
    name = "".join(sign for sign in name if sign.isprintable()).strip()[:40].strip()
    if not name:
        raise RefusedError("no_name")
    return name


def token_hash(token: str) -> str:
    """The stored form of a random token: 100 bits and more need no slow hash, and each login checks several."""
    return "{SHA256}" + base64.b64encode(hashlib.sha256(token.encode()).digest()).decode()


def short(hashed: str) -> str:
    """A name for a session on a page: it opens nothing."""
    return hashlib.sha256(hashed.encode()).hexdigest()[:16]


def tell_of_guess(address: str, remote: str, what: str) -> None:
    """Log it in the form of Dovecot's lines for mail programs: which account, from where (LOG-01)."""
    user, place = (re.sub(r"[^\w.@:+-]", "?", text)[:120] for text in (address, remote))
    sys.stderr.write(f"<5>webmail login refused: wrong {what}, user=<{user}>, rip={place}\n")


def time_code(secret: str, counter: int) -> str:
    """The six digits of a time step (RFC 6238, RFC 4226)."""
    digest = hmac.digest(base64.b32decode(secret), struct.pack(">Q", counter), "sha1")
    start = digest[-1] & 15
    number = struct.unpack(">I", digest[start : start + 4])[0] & 0x7FFFFFFF
    return f"{number % 1_000_000:06}"


def ask_dovecot(path: str, address: str, password: str, remote: str) -> bool:
    """Whether Dovecot accepts a password, by its authentication protocol; Dovecot delays and counts guesses.

    Raises:
        RefusedError: It tries no password for a while (``logins``), and says so for accounts that do not exist, too.
    """
    response = base64.b64encode(f"\0{address}\0{password}".encode()).decode()
    place = f"rip={remote}\t" if ADDRESS.fullmatch(remote) else ""
    request = f"AUTH\t1\tPLAIN\tprotocol=accounts\tsecured\tnologin\t{place}resp={response}\n"
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(30)
        connection.connect(path)
        connection.sendall(f"VERSION\t1\t2\nCPID\t{os.getpid()}\n{request}".encode())
        for line in connection.makefile(encoding="utf-8"):
            if shut := SHUT.search(line):
                raise RefusedError("shut", minutes=int(shut[1]))
            if line.startswith(("OK\t1", "FAIL\t1")):
                return line.startswith("OK")
    return False


def end_sessions(place: Path, address: str) -> None:
    """Name a user to root's unit (``outpost-ended.path``), which ends the user's sessions with Dovecot and removes the name.

    Webmail gets its answer afterwards: otherwise the connection of its next page would be cut.
    """
    named = place / address
    named.touch()
    for _ in range(int(ENDING / PACE)):
        if not named.exists():
            return
        time.sleep(PACE)
    sys.stderr.write(
        f"<3>accounts: open sessions of {address} continue: outpost-ended.service did not end them\n"
    )


class Handler(socketserver.StreamRequestHandler):
    """One connection from webmail, through stunnel: a request, an answer."""

    timeout = 30
    accounts: Accounts

    def handle(self) -> None:
        """Read one line, answer by one line."""
        try:
            request = json.loads(self.rfile.readline(LONGEST_LINE))
            answer = self.accounts.answer(request)
        except (ValueError, AttributeError, RecursionError):
            answer = {"refused": "request"}
        except OSError as error:
            sys.stderr.write(f"<3>accounts: {error}\n")
            answer = {"refused": "unavailable"}
        self.wfile.write(json.dumps(answer).encode() + b"\n")


class Server(socketserver.ThreadingUnixStreamServer):
    """Answers in parallel: Dovecot delays guessers, and nobody else should wait for that."""

    daemon_threads = True
    request_queue_size = 1024

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has hung up needs no traceback for each of its connections."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def picture(text: str) -> str:
    """A QR code as a ``data:`` URI."""
    import segno  # type: ignore[import-not-found]  # of the store alone: python3-segno

    return str(segno.make(text, error="m").svg_data_uri(scale=4, border=4, light="white"))


def main() -> None:
    from argon2 import PasswordHasher

    settings = json.loads(SETTINGS.read_text(encoding="utf-8"))
    hasher = PasswordHasher(time_cost=3, memory_cost=64 * 1024, parallelism=1)
    Handler.accounts = Accounts(
        domain=settings["domain"],
        words=Path(settings["words"]),
        declared=Path(settings["declared"]),
        own=Path(settings["own"]),
        used=Path(settings["used"]),
        session_seconds=settings["session_seconds"],
        verify=lambda address, password, remote: ask_dovecot(settings["auth"], address, password, remote),
        hash_password=lambda password: "{ARGON2ID}" + hasher.hash(password),
        draw=picture,
        ended=lambda address: end_sessions(Path(settings["ended"]), address),
        passkeys=Passkeys(settings["site"]),
        server=tuple(settings["server"]),
        profile=settings["profile"],
    )
    path = Path(settings["socket"])
    path.unlink(missing_ok=True)
    with Server(str(path), Handler) as server:
        path.chmod(0o660)
        server.serve_forever()


if __name__ == "__main__":
    main()
