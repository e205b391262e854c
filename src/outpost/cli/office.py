"""Commands about one office: check, plan, apply, verify, secrets, and the pages made from the model."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from outpost.cli.console import Table, err, out, say_json
from outpost.cli.options import JsonOption, NameOption, OfficeArgument
from outpost.cli.progress import watcher
from outpost.engine import run
from outpost.errors import OutpostError
from outpost.office import Office, Problem, load
from outpost.office import check as problems_of
from outpost.target import INVENTORY, LAB, Target, find, shown
from outpost.transport import ssh

if TYPE_CHECKING:  # imports pytest, which only verify needs
    from outpost.engine.rollout import Rollout

app = typer.Typer()

CLEAN, FAILED, DRIFT = 0, 1, 2


@app.command(
    "check", epilog="Example: `./outpost check inventory/lab --json`. Exit code 0: sound, 1: problems found."
)
def check_office(office: OfficeArgument, name: NameOption = None, as_json: JsonOption = False) -> int:
    """Find the mistakes in an office file, each with its remedy.

    No host is contacted.
    """
    template = INVENTORY / LAB
    meant = office == LAB or Path(office).resolve() in (template, template / "office.toml")
    directory = template if meant and name is None else find(office, name).data
    file = directory / "office.toml"
    problems = list(problems_of(directory))
    if directory == template:  # its world's authority is made for each instance
        problems = [problem for problem in problems if problem.value not in ("world-ca.pem", "acme-ca.pem")]
    if as_json:
        say_json({"office": office, "file": shown(file), "problems": [vars(problem) for problem in problems]})
    elif problems:
        show_problems(problems, file)
    else:
        from outpost.evidence.reference import case_study

        loaded = case_study() if directory == template else load(directory)
        out.print(f"[green]{escape(shown(file))} is sound[/]: {_summary(loaded)}")
        _note_readers(directory, loaded, office)
    return FAILED if problems else CLEAN


def _note_readers(directory: Path, loaded: Office, office: str) -> None:
    """Whether as many can read the secrets as the file names; who, only a reader can see."""
    from outpost.keys import secrets_file

    wanted = len(loaded.secrets.recipients)
    if (
        (directory / secrets_file.FILE_NAME).exists()
        and wanted
        and secrets_file.sealed_to(directory) != wanted
    ):
        err.print(
            f"[yellow]secrets.age has {_count(secrets_file.sealed_to(directory), 'reader')}, and the office file names {wanted}:[/] "
            f"./outpost secrets init {escape(office)} encrypts it to those",
            highlight=False,
        )


def _summary(office: Office) -> str:
    return f"{office.domain}, {_count(len(office.hosts), 'host')}, {_count(len(office.users), 'user')}, {_count(len(office.peers), 'peer')}"


@app.command(
    "hosts",
    epilog="Example: `./outpost hosts harbour --json`. Exit code 0: listed, 1: the office file has problems.",
)
def list_hosts(office: OfficeArgument, name: NameOption = None, as_json: JsonOption = False) -> int:
    """List an office's hosts with role, name and addresses."""
    directory = INVENTORY / LAB if office == LAB and name is None else find(office, name).data
    found = load(directory)
    listed = [
        {
            "name": host.name,
            "role": host.role,
            "fqdn": host.fqdn,
            "addresses": {zone: [str(address) for address in host.in_zone(zone)] for zone in host.addresses},
            "interfaces": {zone: list(map(str, found.interfaces(host, zone))) for zone in host.addresses},
            "management": str(ssh.target(found, host)[1]),
        }
        for host in found.hosts
    ]
    if as_json:
        say_json(listed)
        return CLEAN
    table = Table("host", "role", "name", "addresses", box=None, padding=(0, 2, 0, 0))
    for host in found.hosts:
        where = "\n".join(f"{zone}: {', '.join(map(str, host.in_zone(zone)))}" for zone in host.addresses)
        table.add_row(host.name, host.role, host.fqdn, where)
    out.print(table)
    return CLEAN


def show_problems(problems: Iterable[Problem], file: Path | None = None) -> None:
    """Each problem with field, value and remedy, and how many there are."""
    problems = list(problems)
    for problem in problems:
        shown_value = f" = [yellow]{escape(problem.value)}[/]" if problem.value else ""
        err.print(f"[bold]{escape(problem.field)}[/]{shown_value}: {escape(problem.message)}")
        err.print(f"    [bold]Remedy:[/] {escape(problem.remedy)}")
    where = f" in {escape(shown(file))}" if file else ""
    err.print(f"[bold red]{len(problems)} problem{'s' * (len(problems) != 1)}{where}[/]")


def plan_office(
    office: str,
    name: str | None,
    limit: list[str] | None,
    via: str | None,
    *,
    as_json: bool,
    everything: bool = False,
) -> int:
    """Show what would change; of a host that is new to the office a summary, unless everything is wanted."""
    target = find(office, name)
    hosts = chosen_hosts(load(target.data), limit)
    outcome = run.plan(target, limit=hosts, connector=via, watcher=watcher())
    if as_json:
        say_json(outcome.as_data(target))
    else:
        new = frozenset() if everything else outcome.new_hosts
        _show_findings(outcome, target, new)
        _show_plan(outcome, target, new)
    return FAILED if outcome.failed else DRIFT if outcome.changes or outcome.findings else CLEAN


def apply_office(
    office: str,
    name: str | None,
    limit: list[str] | None,
    via: str | None,
    *,
    yes: bool,
    as_json: bool,
    anyway: bool = False,
    checked: bool = True,
    back: bool = True,
    unchanged: bool = False,
) -> int:
    """Bring the hosts to what is declared after a question (not with `yes`); `unchanged`: hosts note the version in any case."""
    from outpost.engine import rollout
    from outpost.engine.claim import changing
    from outpost.keys.rotation import aftermath

    target = find(office, name)
    loaded = load(target.data)
    hosts = chosen_hosts(loaded, limit)
    if rollout.is_read_only(loaded) and not anyway:
        days = ", ".join(loaded.maintenance.read_only)
        raise OutpostError(
            f"today nobody changes hosts of {loaded.domain} (maintenance.read_only: {days})",
            "wait for another day, or use --force",
        )
    proposed = None
    if not yes:
        if not sys.stdin.isatty() or as_json:
            raise OutpostError("apply asks before it changes hosts, and nobody is here to answer", "add -y")
        proposed = run.plan(target, limit=hosts, connector=via, watcher=watcher())
        new = proposed.new_hosts
        _show_findings(proposed, target, new)
        _show_plan(proposed, target, new)
        if proposed.failed or not (proposed.changes or unchanged):
            return FAILED if proposed.failed else CLEAN
        if proposed.changes and err.input("Apply? [y/N] ", markup=False).strip().lower() not in ("y", "yes"):
            return FAILED
    with changing(target, hosts, via, anyway=anyway) as claim:
        done = rollout.roll_out(
            target, loaded, limit=hosts, connector=via, watcher=watcher, checked=checked, back=back, proposed=proposed,
        )  # fmt: skip
        claim.converged.difference_update(done.went_back)
        if done.good:
            claim.converged.update(done.outcome.hosts)
    if as_json:
        verified = [verdict.as_data(target) for verdict in done.verdicts]
        more = {"waiting": done.waiting, "went_back": done.went_back, "verified": verified}
        say_json(done.outcome.as_data(target) | more)
    else:
        _show_findings(done.outcome, target)
        _show_apply(done.outcome, target)
        _show_rollout(done, target)
    if not done.outcome.failed:
        aftermath.keep(target, done.outcome.hosts, lambda text: err.print(text, markup=False), via)
    return CLEAN if done.good else FAILED


def _show_rollout(done: Rollout, target: Target) -> None:
    """What was verified after the apply, and what came of it where a check failed."""
    from outpost.cli.verify import show_verdict

    for verdict in done.verdicts:
        show_verdict(verdict, target, out, brief=True)
    if done.went_back:
        err.print(
            f"[bold red]outpost:[/] the previous files are back on {', '.join(done.went_back)}. [bold]Remedy:[/] "
            "mend what the failed checks name, then apply again; --no-rollback leaves the change in place."
        )
    if done.waiting:
        err.print(
            f"[bold red]outpost:[/] not reached: {', '.join(done.waiting)}; the rollout stopped before them."
        )


def chosen_hosts(office: Office, patterns: list[str] | None) -> tuple[str, ...]:
    """Names of the hosts that the patterns choose by name or role."""
    chosen: dict[str, None] = {}
    for pattern in patterns or ():
        matching = [host.name for host in office.hosts if fnmatch(host.name, pattern) or host.role == pattern]
        if not matching:
            known = sorted({name for host in office.hosts for name in (host.name, host.role)})
            raise OutpostError(
                f"--limit {pattern} names no host or role of {office.domain}",
                f"choose one of: {', '.join(known)}",
            )
        chosen.update(dict.fromkeys(matching))
    return tuple(chosen)


FIRST = frozenset(
    {
        "declared, not there yet", "not as declared", "permissions declared otherwise", "not there", "not installed",
        "not so on the host", "inactive, not-found", "inactive, disabled",
    }
)  # fmt: skip
"""Causes that say no more than that no apply has been there; any other one of a new host is shown in full."""


def _summarise(host: str, findings: Sequence[Mapping[str, Any]]) -> None:
    """What the first apply of a host writes, and which files that are there it replaces."""
    kinds = Counter(str(finding["kind"]) for finding in findings)
    counted = ", ".join(_count(number, kind) for kind, number in kinds.most_common())
    replaced = [
        finding["thing"]
        for finding in findings
        if finding["kind"] == "file" and finding["cause"] != "declared, not there yet"
    ]
    out.print(f"[bold]{escape(host)}[/] is new: no apply has been there. Its first one makes {counted}")
    if replaced:
        out.print("    and replaces what the machine has now:")
        for thing in replaced:
            out.print(f"    {thing}", markup=False)


def _show_findings(outcome: run.Outcome, target: Target, new: Collection[str] = ()) -> None:
    """The drift report: per host and thing the cause, the consequence and the difference."""
    for host in outcome.hosts:
        if host in new:
            ordinary = [each for each in outcome.findings if each["host"] == host and each["cause"] in FIRST]
            _summarise(host, ordinary)
    shown_all = [each for each in outcome.findings if each["host"] not in new or each["cause"] not in FIRST]
    for finding in sorted(shown_all, key=lambda each: outcome.hosts.index(each["host"])):
        controls = f" \\[{', '.join(finding['controls'])}]" if finding["controls"] else ""
        out.print(
            f"[bold]{escape(finding['host'])}[/] {escape(finding['kind'])} [bold]{escape(finding['thing'])}[/]: "
            f"[yellow]{escape(finding['cause'])}[/]"
        )
        out.print(f"    consequence: {escape(finding['consequence'])}{controls}", highlight=False)
        for line in finding["diff"]:
            style = "green" if line.startswith("+") else "red" if line.startswith("-") else "dim"
            out.print(f"    {line}", style=style, markup=False, highlight=False)
    if new:
        out.print(f"    every line of it: ./outpost plan {target.typed} --all", markup=False)
    if outcome.findings:
        out.print()


def _by_host(outcome: run.Outcome) -> dict[str, list[run.Change]]:
    return {host: [change for change in outcome.changes if change.host == host] for host in outcome.hosts}


def _show_plan(outcome: run.Outcome, target: Target, new: Collection[str] = ()) -> None:
    for host, changes in _by_host(outcome).items():
        if host in outcome.failed:
            out.print(f"[bold]{escape(host)}[/]: [red]failed[/]: {escape(outcome.failed[host])}")
        elif changes:
            out.print(f"[bold]{escape(host)}[/]: [yellow]{_count(len(changes), 'change')}[/]")
            roles = Counter(change.operation.partition(" | ")[0] for change in changes)
            if host in new:
                out.print(
                    f"    {', '.join(f'{role} {count}' for role, count in roles.items())}", markup=False
                )
            for change in () if host in new else changes:
                out.print(
                    f"    {change.operation}{' (if what it depends on changes)' if change.conditional else ''}",
                    markup=False,
                )
        elif open_ones := [each for each in outcome.findings if each["host"] == host]:
            out.print(f"[bold]{escape(host)}[/]: [yellow]as declared, and {len(open_ones)} to decide[/]")
        else:
            out.print(f"[bold]{escape(host)}[/]: [green]as declared[/]")
    verdict = (
        f"[red]could not compare {_count(len(outcome.failed), 'host')}[/]" if outcome.failed
        else f"[yellow]{_count(len(outcome.changes), 'change')} to make[/]" if outcome.changes
        else f"[yellow]nothing to change, {len(outcome.findings)} to decide[/]" if outcome.findings
        else "[green]nothing to change[/]"
    )  # fmt: skip
    out.print(f"{escape(target.title)}: {verdict} ({outcome.seconds:.1f} s)")
    _show_accepted(load(target.data), outcome.hosts)


def _show_accepted(office: Office, hosts: Iterable[str]) -> None:
    for host in hosts:
        if accepted := office.host(host).accepted:
            out.print(f"accepted on {host}: {', '.join(accepted)}", markup=False, style="dim")
    if office.maintenance.accepted:
        out.print(
            f"accepted on every host: {', '.join(office.maintenance.accepted)}", markup=False, style="dim"
        )


def _show_apply(outcome: run.Outcome, target: Target) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    for host, changes in _by_host(outcome).items():
        failed = outcome.failed.get(host)
        state = f"[red]failed[/] {escape(failed)}" if failed else "[green]as declared[/]"
        table.add_row(f"[bold]{escape(host)}[/]", f"{len(changes)} changed", state)
    out.print(table)
    if outcome.failed:
        err.print(
            f"[bold red]outpost:[/] {_count(len(outcome.failed), 'host')} failed. [bold]Remedy:[/] do what is named above, then run "
            f"`./outpost apply {escape(target.typed)} {' '.join(f'--limit {host}' for host in outcome.failed)}`; what is done already is not done again."
        )
    else:
        out.print(
            f"{escape(target.title)}: [green]applied[/], {_count(len(outcome.changes), 'change')} ({outcome.seconds:.1f} s)"
        )


def _count(number: int, noun: str) -> str:
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number} {noun if number == 1 else plural}"


def init_secrets(office: str, passwords: Path | None) -> int:
    """Create what is missing: the administrator's identity, the office's secrets, users' first passwords."""
    from outpost.keys import secrets_file

    target = find(office)
    if target.instance:
        raise OutpostError("the lab makes its own secrets", f"./outpost lab up --name {target.instance}")
    identity = secrets_file.identity_path(target.data)
    if not identity.exists():
        secrets_file.create_identity(identity)
        out.print(f"made your age identity: {escape(str(identity))} (keep a copy off this machine)")
    loaded = load(target.data, uncertified=True)
    recipients = loaded.secrets.recipients
    if not recipients:
        recipients = (str(secrets_file.read_identity(identity).to_public()),)
        _add_recipients(target.office_file, recipients)
        out.print(f"added your public key to {escape(shown(target.office_file))}: secrets.recipients")
    existing = secrets_file.read(target.data) if (target.data / secrets_file.FILE_NAME).exists() else None
    done = secrets_file.complete(loaded, existing)
    joined, left = secrets_file.readers_changed(existing, recipients) if existing else ((), ())
    own = str(secrets_file.read_identity(identity).to_public())
    if own not in recipients:
        raise OutpostError(
            f"your own key {own} is not in secrets.recipients: you could not read the secrets any more",
            "add it; or let somebody who stays take yours out and run this command",
        )
    if not done.added and (joined or left):
        secrets_file.write(target.data, done.secrets, recipients)
        for reader in joined:
            out.print(f"{reader} reads the secrets now")
        for reader in left:
            out.print(
                f"{reader} reads no later version; what it could read, it knows: docs/how-to/share-the-secrets.md"
            )
        out.print(
            f"[green]encrypted {escape(shown(target.data / secrets_file.FILE_NAME))} again[/], {_count(len(recipients), 'reader')}"
        )
        return CLEAN
    if not done.added:
        out.print(f"{escape(shown(target.data / secrets_file.FILE_NAME))} has everything this office needs")
        return CLEAN
    if done.new_passwords:
        handover = passwords or identity.parent / f"{target.name}-first-passwords.txt"
        _write_passwords(handover, done.new_passwords)  # before the secrets: no hash without its password
        out.print(f"first passwords: {escape(str(handover))} (hand them over, then delete it)")
    secrets_file.write(target.data, done.secrets, recipients)
    for what in done.added:
        out.print(f"made {escape(what)}")
    out.print(
        f"[green]wrote {escape(shown(target.data / secrets_file.FILE_NAME))}[/], {_count(len(recipients), 'reader')}"
    )
    return CLEAN


def keep_smarthost_password(office: str, name: str | None) -> int:
    """What the smarthost wants to hear, asked for without showing it, or read from standard input; into the secrets."""
    from pydantic import SecretStr

    from outpost.keys import secrets_file

    target = find(office, name)
    loaded, kept = load(target.data), secrets_file.read(target.data)
    if loaded.smarthost is None or not loaded.smarthost.user:
        raise OutpostError(f"{loaded.domain} has no login at a smarthost", "name it first: [smarthost] user")
    if sys.stdin.isatty():
        password = typer.prompt(
            f"Password of {loaded.smarthost.user} at {loaded.smarthost.host}", hide_input=True
        )
    else:
        password = sys.stdin.readline().rstrip("\n")
    if not password or not password.isprintable():
        raise OutpostError("that is no password: empty, or with control characters", "give one line of text")
    changed = kept.model_copy(update={"smarthost": SecretStr(password)})
    secrets_file.write(target.data, changed, loaded.secrets.recipients)
    out.print(
        f"[green]wrote {escape(shown(target.data / secrets_file.FILE_NAME))}[/]; ./outpost apply {target.typed} hands it to the MTA"
    )
    return CLEAN


def print_request(office: str, name: str | None, host: str, *, following: bool) -> int:
    """The request (PKCS #10) for a host's public certificate."""
    from outpost.keys import secrets_file

    target = find(office, name)
    loaded, kept = load(target.data, uncertified=True), secrets_file.read(target.data)
    if host not in kept.public_next:
        known = ", ".join(kept.public_next) or "none yet: outpost secrets init"
        raise OutpostError(f"{host} has no public key", f"choose one of: {known}")
    key = kept.public_next[host].key if following else kept.public[host].key
    sys.stdout.write(secrets_file.signing_request(loaded, loaded.host(host), key))
    return CLEAN


def print_authority(office: str, name: str | None) -> int:
    """What the office's hosts trust for each other, PEM."""
    from outpost.keys import secrets_file

    sys.stdout.write(secrets_file.read(find(office, name).data).trusted)
    return CLEAN


@app.command(
    "dns",
    epilog="Example: `./outpost dns po > po.zone`. The output is a zone file that any name server loads.",
)
def print_zone(
    office: OfficeArgument,
    name: NameOption = None,
    zone: Annotated[
        str,
        typer.Option("--zone", metavar="ZONE", help="A reverse zone of the office instead of its domain."),
    ] = "",
    as_json: JsonOption = False,
) -> int:
    """Print the office's DNS zone, with a reason for each record.

    It is for offices whose name servers are elsewhere. Nothing in it is secret.
    """
    from outpost.keys import secrets_file
    from outpost.keys.published import public_keys
    from outpost.office.dns import office_zones, zone_text

    target = find(office, name)
    zones = office_zones(load(target.data), public_keys(secrets_file.read(target.data)))
    wanted = f"{zone.rstrip('.')}." if zone else zones[0].name
    found = next((candidate for candidate in zones if candidate.name == wanted), None)
    if found is None:
        raise OutpostError(
            f"the office has no zone {zone}", f"choose one of: {', '.join(zone.name for zone in zones)}"
        )
    if as_json:
        say_json({"zone": found.name, "records": [vars(record) for record in found.records]})
    else:
        sys.stdout.write(zone_text(found))
    return CLEAN


@app.command(
    "guide",
    epilog="Example: `./outpost guide po > guide.html`: to print, or to send to somebody new. Webmail shows it, too.",
)
def print_guide(office: OfficeArgument, name: NameOption = None) -> int:
    """Print the guide for the office's users, as HTML."""
    from outpost.office.roles import every_role

    loaded = load(find(office, name).data)
    sys.stdout.writelines(role.guide(loaded) for role in every_role().values() if role.guide)
    return CLEAN


def _add_recipients(file: Path, recipients: tuple[str, ...]) -> None:
    """Into the office file, whose comments and order stay as they are."""
    import tomlkit

    document = tomlkit.parse(file.read_text(encoding="utf-8"))
    document.setdefault("secrets", tomlkit.table())["recipients"] = list(recipients)
    file.write_text(tomlkit.dumps(document), encoding="utf-8")


def _write_passwords(file: Path, passwords: Mapping[str, str]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        stream.writelines(f"{address} {password}\n" for address, password in passwords.items())


@app.command(
    "reference",
    epilog="Example: `./outpost reference --check` (in a commit hook: exit code 1 when a page is out of date).",
)
def write_reference(
    check_only: Annotated[
        bool, typer.Option("--check", help="Write nothing; fail when something is out of date.")
    ] = False,
) -> int:
    """Write the generated pages of docs/ and the README's diagram."""
    from outpost.evidence import reference

    stale = [page for page in reference.pages() if not page.is_current()]
    for page in stale:
        if check_only:
            err.print(f"{escape(shown(page.path))} is out of date")
        else:
            page.write()
            out.print(f"wrote {escape(shown(page.path))}")
    if stale and check_only:
        raise OutpostError(
            "pages made from the model are out of date", "./outpost reference, and commit what it wrote"
        )
    if not stale:
        out.print("pages made from the model are current")
    return CLEAN
