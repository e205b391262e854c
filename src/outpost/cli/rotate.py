"""`outpost secrets` and `rotate`: makes, keeps and prints keys and passwords, and replaces them in steps."""

import os
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import tomlkit
import typer
from pydantic import SecretStr
from rich.markup import escape

from outpost.cli.console import Table, count, out
from outpost.cli.options import App, At, OfficeArgument
from outpost.cli.progress import watcher
from outpost.errors import OutpostError
from outpost.keys import pairs, secrets_file
from outpost.keys.rotation import aftermath, authority, dkim, dnssec, engine, tls, tsig
from outpost.keys.rotation.engine import Desk, Rows
from outpost.office import load
from outpost.office.certificates import public_names
from outpost.target import find, shown

app = App()
rotate = app.group("rotate")


def at_desk(at: At) -> AbstractContextManager[Desk]:
    """The office whose keys or users change, locked against other changes; it prints each step."""
    return engine.desk(at.target, partial(out.print, markup=False), via=at.via, watcher=watcher())


def _take(at: At, step: Callable[[Desk], object], status_of: Callable[[Desk], Rows], *, status: bool) -> None:
    """Take the next step of a kind of keys, or only show their state."""
    with at_desk(at) as desk:
        if not status:
            step(desk)
            return
        table = Table("key", "stage", "next")
        for row in status_of(desk):
            table.add_row(*map(escape, row))
        out.print(table)


def _kind(name: str, status_of: Callable[[Desk], Rows], step: Callable[[Desk], None]) -> None:
    """A command without options of its own."""

    def command(at: At, status: bool = False) -> None:
        _take(at, step, status_of, status=status)

    rotate.of_office(name)(command)


_kind("dkim", dkim.status, dkim.advance)


@rotate.of_office("tls")
def roll_tls(at: At, host: str | None = None, status: bool = False) -> None:
    def step(desk: Desk) -> None:
        for one in tls.hosts(desk, host):
            tls.roll(desk, one)

    _take(at, step, tls.status, status=status)


@rotate.of_office("hosts")
def roll_hosts(at: At, keys: bool = False, status: bool = False) -> None:
    _take(at, partial(authority.renew_links, keys=keys), authority.links_status, status=status)


_kind("authority", authority.status, authority.advance)
_kind("tsig", tsig.status, tsig.roll)


def _keep_dnssec(desk: Desk) -> None:
    if not dnssec.keep(desk, seen=True):
        desk.report("the office's secrets have every DNSSEC key")


_kind("dnssec", dnssec.status, _keep_dnssec)


@rotate.of_office("due")
def take_due(at: At) -> None:
    with at_desk(at) as desk:
        aftermath.take(desk)


secrets = app.group("secrets")


@secrets.named("init")
def init_secrets(office: OfficeArgument, passwords: Path | None = None) -> None:
    target = find(office)
    if target.instance:
        raise OutpostError("the lab makes its own secrets", f"./outpost lab up --name {target.instance}")
    identity = secrets_file.identity_path(target.data)
    if not identity.exists():
        secrets_file.create_identity(identity)
        out.print(f"made your age identity: {escape(str(identity))} (keep a copy on another machine)")
    own = str(secrets_file.read_identity(identity).to_public())
    loaded = load(target.data, uncertified=True)
    recipients = loaded.secrets.recipients
    if not recipients:
        recipients = (own,)
        _add_recipients(target.office_file, recipients)
        out.print(f"added your public key to {escape(shown(target.office_file))}: secrets.recipients")
    file = target.data / secrets_file.FILE_NAME
    existing = secrets_file.read(target.data) if file.exists() else None
    done = secrets_file.complete(loaded, existing)
    joined, left = secrets_file.readers_changed(existing, recipients) if existing else ((), ())
    if own not in recipients:
        message = f"your own key {own} is not in secrets.recipients: you could not read the secrets any more"
        remedy = "add it; to leave, let another recipient remove your key and run this command"
        raise OutpostError(message, remedy)
    where, readers = escape(shown(file)), count(len(recipients), "reader")
    if done.added:
        if done.new_passwords:
            handover = passwords or identity.parent / f"{target.name}-first-passwords.txt"
            _write_passwords(handover, done.new_passwords)  # first: a hash without its password is useless
            out.print(
                f"first passwords: {escape(str(handover))} (give them to the users, then delete the file)"
            )
        secrets_file.write(target.data, done.secrets, recipients)
        for what in done.added:
            out.print(f"made {escape(what)}")
        out.print(f"[green]wrote {where}[/], {readers}")
    elif joined or left:
        secrets_file.write(target.data, done.secrets, recipients)
        for reader in joined:
            out.print(f"{reader} reads the secrets now")
        for reader in left:
            page = "see docs/how-to/share-the-secrets.md"
            out.print(f"{reader} cannot read the new version, and may have kept the old one: {page}")
        out.print(f"[green]encrypted {where} again[/], {readers}")
    else:
        out.print(f"{where} has everything this office needs")


def _add_recipients(file: Path, recipients: tuple[str, ...]) -> None:
    """Write it into the office file; comments and order stay."""
    document = tomlkit.parse(file.read_text(encoding="utf-8"))
    document.setdefault("secrets", tomlkit.table())["recipients"] = list(recipients)
    file.write_text(tomlkit.dumps(document), encoding="utf-8")


def _write_passwords(file: Path, passwords: Mapping[str, str]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        stream.writelines(f"{address} {password}\n" for address, password in passwords.items())


@secrets.of_office("csr", asks_hosts=False)
def print_request(at: At, host: str, following: bool = False) -> None:
    target = at.target
    loaded, kept = load(target.data, uncertified=True), secrets_file.read(target.data)
    showing = [each.name for each in loaded.hosts if public_names(loaded, each)]
    if host not in showing:
        raise OutpostError(f"{host} shows no public certificate", f"choose one of: {', '.join(showing)}")
    if host not in kept.public_next:
        raise OutpostError(
            f"the secrets have no key of {host} yet", f"run ./outpost secrets init {target.typed}"
        )
    key = kept.public_next[host].key if following else kept.public[host].key
    sys.stdout.write(pairs.signing_request(loaded, loaded.host(host), key))


@secrets.of_office("smarthost", asks_hosts=False)
def keep_smarthost_password(at: At) -> None:
    target, loaded = at.target, at.office
    kept = secrets_file.read(target.data)
    if loaded.smarthost is None or not loaded.smarthost.user:
        raise OutpostError(f"{loaded.domain} has no login at a smarthost", "write it first: [smarthost] user")
    question = f"Password of {loaded.smarthost.user} at {loaded.smarthost.host}"
    interactive = sys.stdin.isatty()
    password = typer.prompt(question, hide_input=True) if interactive else sys.stdin.readline().rstrip("\n")
    if not password or not password.isprintable():
        raise OutpostError("the password is empty, or has control characters", "give one line of text")
    changed = kept.model_copy(update={"smarthost": SecretStr(password)})
    secrets_file.write(target.data, changed, loaded.secrets.recipients)
    wrote = f"[green]wrote {escape(shown(target.data / secrets_file.FILE_NAME))}[/]"
    out.print(f"{wrote}; ./outpost apply {target.typed} installs it on the MTA")


@secrets.of_office("ca", asks_hosts=False)
def print_authority(at: At) -> None:
    sys.stdout.write(secrets_file.read(at.target.data).trusted)
