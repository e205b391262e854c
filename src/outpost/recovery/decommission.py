"""Close an office in steps. None of them can be skipped.

freeze → forward → handover → drain → withdraw → erase → certificate. After each step the hosts are asked whether it was
done. ``decommission.json`` beside the office file has the answers; the same command again continues from there.

The name servers are not erased. While the domain is delegated they publish that it takes and sends no mail (RFC 7505):
nobody else can then send in its name.
"""

import hashlib
import inspect
import io
import json
import re
import shutil
import tarfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import tomlkit
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import SecretStr

import outpost.onhost.backup
from outpost.engine import run
from outpost.errors import OutpostError
from outpost.keys import secrets_file
from outpost.mail import queues
from outpost.office import load
from outpost.office.backup import STATE
from outpost.office.dns import dkim_selector
from outpost.office.model import Office
from outpost.office.role import Duty, role_of, serves, serving
from outpost.office.tables.topology import Host
from outpost.office_file import people
from outpost.recovery.backup import MANIFEST, Manifest
from outpost.target import Target, shown, written
from outpost.templates import environment, render
from outpost.transport import answers
from outpost.transport.remote import run_script, shell_command
from outpost.verification.history import who

FILE = "decommission.json"
STATEMENT = "decommission-certificate.json"
STEPS = ("freeze", "forward", "handover", "drain", "withdraw", "erase", "certificate")
WORDS = {
    "freeze": "every account is disabled: nobody can log in, open sessions end, filters redirect nothing; mail still arrives",
    "forward": "mail for every address goes to head office; the mailboxes no longer change",
    "handover": "every mailbox is copied out, and each copied message's SHA-256 compared with the store's",
    "drain": "the MTAs' queues are empty",
    "withdraw": "the domain takes and sends no mail (null MX, SPF -all); DKIM keys are revoked, TLSA and policies gone",
    "erase": "mail, accounts, queues and keys are deleted on store, webmail and MTAs; the name servers go on answering that the domain has no mail",
    "certificate": "what was done, when and by whom, signed with the office's authority",
}
EVERYWHERE = ("/etc/outpost", "/var/lib/outpost-acme", STATE, "/var/log/journal", "/var/lib/outpost-logs")
LARGEST_READ = 16 * 1024 * 1024
PATIENCE = 86400.0
"""Seconds: mailboxes cross a slow line, and disks are overwritten, in hours."""


@dataclass
class Closing:
    """An office that is being closed.

    Attributes:
        forward: Where mail for the office goes from the second step on.
        confirmed: The office's domain, typed by the person who wants its data deleted.
    """

    target: Target
    via: str | None = None
    watcher: run.Watcher = field(default_factory=run.Silent)
    forward: str = ""
    into: Path | None = None
    confirmed: str = ""

    def __post_init__(self) -> None:
        self.office: Office = load(self.target.data)

    # Checkpoints ------------------------------------------------------------------------------------------------

    @property
    def file(self) -> Path:
        return self.target.data / FILE

    @property
    def done(self) -> dict[str, Any]:
        """Step → its checkpoint, for the steps taken."""
        return json.loads(self.file.read_text(encoding="utf-8")) if self.file.exists() else {}

    @property
    def next(self) -> str:
        """The next step; empty if the office is closed."""
        return next((step for step in STEPS if step not in self.done), "")

    @property
    def asked(self) -> tuple[str, ...]:
        """Steps that change what users and senders meet. Two have an option that says so: without it they change nothing."""
        return ("freeze", "withdraw", *(["forward"] if self.forward else []))

    def advance(self) -> tuple[str, dict[str, Any]]:
        """Take the next step; returns it and its result."""
        step = self.next
        if not step:
            remedy = f"read its certificate: {shown(self.target.data / STATEMENT)}"
            raise OutpostError(f"{self.office.domain} is closed", remedy)
        take: Callable[[], dict[str, Any]] = getattr(self, f"_{step}")
        found = take()
        checkpoint = {"when": datetime.now(UTC).isoformat(timespec="seconds"), "by": who(), "found": found}
        written(self.file, json.dumps(self.done | {step: checkpoint}, indent=1) + "\n", mode=0o644)
        return step, found

    # Steps ------------------------------------------------------------------------------------------------------

    def _freeze(self) -> dict[str, Any]:
        (store,) = serving(self.office, "mailboxes")
        self._ask(store, "true")  # a store that does not answer must leave the office file as it is
        roster = people.Roster(self.target.office_file.read_text(encoding="utf-8"))
        for user in self.office.users:
            if not user.disabled:
                roster.change("users", user.address, disabled=True)
        self._declare(roster.text)
        self._apply("mailboxes")
        active = self._ask(store, "grep -c 'ARGON2ID' /etc/dovecot/users || true").strip()
        sessions = len(self._ask(store, "doveadm -f tab who").splitlines()) - 1
        if active != "0" or sessions > 0:
            message = f"{active} accounts still have a password, {sessions} sessions are open"
            raise OutpostError(message, "run the same command again")
        return {"accounts shut": len(self.office.users), "sessions": 0}

    def _forward(self) -> dict[str, Any]:
        if not self.forward:
            message = "--forward-to is missing: the office's mail needs an address from now on"
            raise OutpostError(message, "add --forward-to ADDRESS")
        self._declare(self._with_closing(forward=self.forward))
        self._apply("transport")
        for mta in serving(self.office, "transport"):
            for address in self.office.mailboxes:
                reply = self._ask(mta, f"postmap -q {address} texthash:/etc/postfix/aliases || true").strip()
                if reply != self.forward:
                    remedy = "run the same command again"
                    raise OutpostError(f"{mta.name} sends {address} to {reply or 'its mailbox'}", remedy)
        return {"to": self.forward, "addresses": len(self.office.mailboxes) + len(self.office.all_aliases)}

    def _handover(self) -> dict[str, Any]:
        if self.into is None:
            remedy = "add --into DIRECTORY, with room for all of them"
            raise OutpostError("--into is missing: the mailboxes need a directory", remedy)
        self.into.mkdir(parents=True, exist_ok=True, mode=0o700)
        (store,) = serving(self.office, "mailboxes")
        (mail,) = role_of(store).data
        source = inspect.getsource(outpost.onhost.backup)  # even if the office has no backup
        program = f"python3 -B - manifest --mail {mail} <<'END-OF-PROGRAM'\n{source}\nEND-OF-PROGRAM\n"
        reply = self._ask(store, program, most=MANIFEST)
        manifest = answers.parsed(reply, Manifest, store.name)
        archive = self.into / f"{self.office.domain}-mail.tar"
        script = f"exec tar --create --directory {mail} --exclude ./.snapshot .\n".encode()
        with archive.open("wb") as file:
            archive.chmod(0o600)
            room = shutil.disk_usage(self.into).free * 9 // 10
            try:
                done = answers.exchange(
                    shell_command(self.target, self.office, store, self.via),
                    script,
                    patience=PATIENCE,
                    most=room,
                    into=file,
                )
            except (TimeoutError, answers.TooMuchError):
                file.truncate(0)
                raise OutpostError(
                    f"{store.name}: its mail takes more than {room // 1024**2} MiB (90 % of what is free in {shown(self.into)}), or a day",
                    "free more there, or name a larger disk with --into; check the store if its mail is smaller",
                ) from None
        if done.status:
            message = f"{store.name}: {answers.line(done.errors.decode(errors='replace').strip())}"
            raise OutpostError(message, "run the same command again")
        listed = self.into / f"{self.office.domain}-manifest.json"
        listed.touch(mode=0o600)
        listed.write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        wrong = differing(manifest, archive)
        if wrong:
            message = f"{len(wrong)} messages of the store are missing or different in {shown(archive)}, for example {wrong[0]}"
            raise OutpostError(message, "run the same command again")
        messages = Counter[str]()
        for path, folder in sorted(manifest["folders"].items()):
            messages[path.split("/")[0]] += len(folder["messages"])
        return {"file": archive.name, "sha256": _sha256(archive), "messages": dict(messages)}

    def _drain(self) -> dict[str, Any]:
        waiting = queues.waiting(self.target, self.office, self.via)
        if waiting:
            reasons = {reason for message in waiting for reason in message.reasons.values() if reason}
            message = f"{len(waiting)} messages wait at the MTAs: {'; '.join(sorted(reasons)[:3]) or 'not tried yet'}"
            remedy = f"./outpost queue {self.target.typed}; run the same command again when they are delivered or returned"
            raise OutpostError(message, remedy)
        return {"waiting": {mta.name: 0 for mta in serving(self.office, "transport")}}

    def _withdraw(self) -> dict[str, Any]:
        kept = secrets_file.read(self.target.data)
        empty, now = SecretStr(""), datetime.now(UTC)
        gone = {"stage": "revoked", "rsa": empty, "ed25519": empty, "since": now}
        revoked = {selector: keys.model_copy(update=gone) for selector, keys in kept.dkim.items()}
        secrets_file.write(
            self.target.data, kept.model_copy(update={"dkim": revoked}), self.office.secrets.recipients
        )
        self._declare(self._with_closing(ended=True))
        self._apply("names")
        shown_by: dict[str, dict[str, str]] = {}
        apex = self.office.domain
        queries = {"MX": apex, "SPF": apex, "DMARC": f"_dmarc.{apex}"} | {
            f"DKIM {selector}": f"{selector}._domainkey.{apex}"
            for selector in (dkim_selector(name, kind) for name in revoked for kind in ("rsa", "ed25519"))
        }
        for server in serving(self.office, "names"):
            at = self.office.link_addresses(server, server)[0]
            script = "\n".join(
                f"kdig +short @{at} {name} {'MX' if what == 'MX' else 'TXT'} | tr '\\n' ' '; echo"
                for what, name in queries.items()
            )
            reply = self._ask(server, script).splitlines()[: len(queries)]
            if len(reply) < len(queries):
                raise answers.unexpected(server.name)
            shown_by[server.name] = dict(
                zip(queries, (answers.line(each.strip()) for each in reply), strict=True)
            )
            if shown_by[server.name]["MX"] != "0 .":
                remedy = "run the same command again in a moment"
                raise OutpostError(f"{server.name} still shows MX {shown_by[server.name]['MX']}", remedy)
        return shown_by

    def _erase(self) -> dict[str, Any]:
        if self.confirmed != self.office.domain:
            message = "this deletes the office's mail, accounts and keys on its hosts"
            remedy = f"add --erase {self.office.domain}, after you have examined what was handed over"
            raise OutpostError(message, remedy)
        found = {}
        for host in self.office.hosts:
            if serves(host, "names"):
                continue  # they publish that the domain accepts no mail, as long as it is delegated
            counts = re.search(r"(\d{1,12}) (\d{1,12})\s*\Z", self._ask(host, erasing(host)))
            if counts is None:
                raise answers.unexpected(host.name)
            before, after = counts.groups()
            if after != "0":
                raise OutpostError(f"{after} files are left on {host.name}", "run the same command again")
            found[host.name] = {"files": int(before), "left": 0, "of": [*role_of(host).erased, *EVERYWHERE]}
        return found

    def _certificate(self) -> dict[str, Any]:
        statement = {
            "office": self.office.domain,
            "organisation": self.office.organisation,
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "by": who(),
            "steps": {step: {"meaning": WORDS[step], **checkpoint} for step, checkpoint in self.done.items()},
            "not done by it": [
                "the registrant gives back the delegation and DS at the parent, the reverse names and the domain",
                "a deleted file may stay readable on the disk: destroy disks that were not encrypted",
                *(["archives at head office stay until their retention ends"] if self.office.backup else []),
            ],
        }
        file = self.target.data / STATEMENT
        file.write_text(json.dumps(statement, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        authority = secrets_file.read(self.target.data).authority
        signature = authority.signer.sign(file.read_bytes(), ec.ECDSA(hashes.SHA256()))
        file.with_suffix(".sig").write_bytes(signature)
        file.with_suffix(".pem").write_text(authority.certificate, encoding="ascii")
        return {"file": file.name, "sha256": _sha256(file)}

    # Means ------------------------------------------------------------------------------------------------------

    def _declare(self, text: str) -> None:
        file = self.target.office_file
        changed = people.propose(file, text)
        people.keep(file, text)
        self.office = changed

    def _with_closing(self, **values: Any) -> str:
        document: Any = tomlkit.parse(self.target.office_file.read_text(encoding="utf-8"))
        document.setdefault("closing", tomlkit.table()).update(values)
        return tomlkit.dumps(document)

    def _apply(self, duty: Duty) -> None:
        names = tuple(host.name for host in serving(self.office, duty))
        outcome = run.apply(self.target, limit=names, connector=self.via, watcher=self.watcher)
        outcome.expect_success("run the same command again: it goes on from there")

    def _ask(self, host: Host, script: str, most: int = answers.MOST) -> str:
        return run_script(self.target, self.office, host, script, self.via, patience=PATIENCE, most=most)


def erasing(host: Host) -> str:
    """A script that deletes the office's data on a host; it prints how many files there were and are."""
    places = " ".join((*role_of(host).erased, *EVERYWHERE))
    units = " ".join(f"'{unit}'" for unit in role_of(host).stopped)
    return render(environment(Path(__file__).parent), "erase.sh.j2", {"places": places, "units": units})


class _Headers(io.FileIO):
    """A file for `tarfile`, which reads a header completely, however long the archive says it is."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= LARGEST_READ:
            raise tarfile.ReadError("a header is too large")
        return super().read(size)


def differing(manifest: Manifest, archive: Path) -> list[str]:
    """Messages of a manifest that are not in a tar archive with that content. The host wrote both."""
    wanted = {
        (path, base): digest
        for path, folder in manifest["folders"].items()
        for base, (_, _, digest) in folder["messages"].items()
    }
    try:
        with _Headers(archive) as file, tarfile.open(fileobj=file, mode="r:") as held:
            for member in held:
                held.members = []  # type: ignore[attr-defined]  # else all headers stay in memory
                path = Path(member.name)
                # a sparse file is no message, and reading it may take as long as its header wants
                if member.isfile() and not member.issparse() and path.parent.name in ("cur", "new"):
                    key = (str(path.parent.parent), path.name.partition(":2,")[0])
                    content = held.extractfile(member)
                    assert isinstance(content, io.BufferedReader)
                    if wanted.get(key) == hashlib.file_digest(content, "sha256").hexdigest():
                        del wanted[key]
    except (tarfile.TarError, OSError) as error:
        raise OutpostError(
            f"{shown(archive)} cannot be read: {answers.line(str(error))}", "run the same command again"
        ) from None
    return [f"{path}/{base}" for path, base in wanted]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
