"""Commands that read one office's file and ask no host: check, hosts, declare, dns, guide, reference."""

import shlex
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.markup import escape

from outpost.cli.console import Table, count, err, out, say_json, say_line
from outpost.cli.options import App, At, OfficeArgument
from outpost.converge import revisions
from outpost.converge.declaration import declaration
from outpost.converge.declaration import shown as printable
from outpost.errors import OutpostError
from outpost.hosts import expect_hosts
from outpost.keys import secrets_file
from outpost.keys.model import public_keys
from outpost.office import Host, Office, Problem, load
from outpost.office import check as problems_of
from outpost.office.dns import office_zones, zone_text
from outpost.office.role import every_role
from outpost.target import INVENTORY, LAB, ROOT, find, shown
from outpost.transport import ssh

app = App()


@app.named("check")
def check_office(office: OfficeArgument, name: str | None = None, as_json: bool = False) -> int:
    template = INVENTORY / LAB
    meant = office == LAB or Path(office).resolve() in (template, template / "office.toml")
    directory = template if meant and name is None else find(office, name).data
    file = directory / "office.toml"
    problems = list(problems_of(directory)) or _declared_and_local(directory)
    if directory == template:  # its test environment's authority is made for each instance
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
        _note_identity(directory)
    return 1 if problems else 0


def _declared_and_local(directory: Path) -> list[Problem]:
    """Files of `hosts.NAME.local` that a role declares. Temporary secrets are enough for that."""
    loaded = load(directory)
    keeping = [host.name for host in loaded.hosts if host.local]
    if not keeping:
        return []
    found, secrets = [], secrets_file.complete(loaded).secrets
    for name in keeping:
        try:
            declaration(loaded, secrets, name)
        except OutpostError as error:
            field = f"hosts.{name}.local"
            found.append(Problem(field, "", error.message.removeprefix(f"{field} "), error.remedy))
    return found


def _note_readers(directory: Path, loaded: Office, office: str) -> None:
    """Whether as many readers can open the secrets as the file names; only a reader can see which ones."""
    wanted = len(loaded.secrets.recipients)
    if not wanted or not (directory / secrets_file.FILE_NAME).exists():
        return
    if (readers := secrets_file.sealed_to(directory)) != wanted:
        err.print(
            f"[yellow]secrets.age has {count(readers, 'reader')}, and the office file names {wanted}:[/] "
            f"./outpost secrets init {escape(office)} encrypts it to those"
        )


def _note_identity(directory: Path) -> None:
    """Whether other accounts of this machine can read the identity that opens the secrets."""
    identity = secrets_file.identity_path(directory)
    with suppress(OSError):
        if identity.stat().st_mode & 0o077 and (directory / secrets_file.FILE_NAME).exists():
            place = shlex.quote(str(identity))
            err.print(f"[yellow]other accounts may read {escape(place)}:[/] chmod 600 {escape(place)}")


def _summary(office: Office) -> str:
    return f"{office.domain}, {count(len(office.hosts), 'host')}, {count(len(office.users), 'user')}, {count(len(office.peers), 'peer')}"


@app.of_office("hosts", asks_hosts=False)
def list_hosts(at: At, as_json: bool = False) -> None:
    found = at.pictured
    if as_json:
        say_json([_as_data(found, host) for host in found.hosts])
        return
    table = Table("host", "role", "name", "addresses")
    for host in found.hosts:
        where = "\n".join(f"{zone}: {', '.join(map(str, host.in_zone(zone)))}" for zone in host.addresses)
        table.add_row(host.name, host.role, host.fqdn, where)
    out.print(table)


def _as_data(office: Office, host: Host) -> dict[str, Any]:
    return {
        **{key: getattr(host, key) for key in ("name", "role", "fqdn")},
        "addresses": {zone: list(map(str, host.in_zone(zone))) for zone in host.addresses},
        "interfaces": {zone: list(map(str, office.interfaces(host, zone))) for zone in host.addresses},
        "management": str(ssh.target(office, host)[1]),
    }


def show_problems(problems: Iterable[Problem], file: Path | None = None) -> None:
    """Print each problem with field, value and remedy, and their number."""
    problems = list(problems)
    for problem in problems:
        shown_value = f" = [yellow]{escape(problem.value)}[/]" if problem.value else ""
        err.print(f"[bold]{escape(problem.field)}[/]{shown_value}: {escape(problem.message)}")
        err.print(f"    [bold]Remedy:[/] {escape(problem.remedy)}")
    where = f" in {escape(shown(file))}" if file else ""
    err.print(f"[bold red]{count(len(problems), 'problem')}{where}[/]")


@app.of_office("dns", asks_hosts=False)
def print_zone(at: At, zone: str = "", as_json: bool = False) -> None:
    zones = office_zones(at.office, public_keys(secrets_file.read(at.target.data)))
    wanted = f"{zone.rstrip('.')}." if zone else zones[0].name
    found = next((candidate for candidate in zones if candidate.name == wanted), None)
    if found is None:
        known = ", ".join(zone.name for zone in zones)
        raise OutpostError(f"the office has no zone {zone}", f"choose one of: {known}")
    if as_json:
        say_json({"zone": found.name, "records": [vars(record) for record in found.records]})
    else:
        sys.stdout.write(zone_text(found))


@app.of_office("guide", asks_hosts=False)
def print_guide(at: At, language: str = "en") -> None:
    sys.stdout.writelines(role.guide(at.office, language) for role in every_role().values() if role.guide)


@app.named("reference")
def write_reference(check_only: bool = False) -> None:
    from outpost.evidence import reference

    stale = [page for page in reference.pages() if not page.is_current()]
    for page in stale:
        if check_only:
            err.print(f"{escape(shown(page.path))} is out of date")
        else:
            page.write()
            out.print(f"wrote {escape(shown(page.path))}")
    if stale and check_only:
        raise OutpostError("generated pages are out of date", "run ./outpost reference and commit the pages")
    if not stale:
        out.print("generated pages are up to date")


SAME, DIFFERENT = 0, 2
LOCK = "requirements.lock"


@app.of_office("declare", asks_hosts=False)
def print_declaration(at: At, host: str = "", against: str = "", as_json: bool = False) -> int:
    loaded, directory = at.office, at.target.data
    expect_hosts(loaded, [host] if host else [])
    if against:
        return _compare(against, directory, [host] if host else list(loaded.hosts_by_name), as_json=as_json)
    if not host:
        raise OutpostError(
            "no host is named", f"choose one of: {', '.join(loaded.hosts_by_name)}; or add --against REV"
        )
    declared = printable(declaration(loaded, secrets_file.read(directory), host))
    if as_json:
        say_json({"host": host, **declared})
        return SAME
    for kind, things in declared.items():
        for thing, value in things.items():
            sys.stdout.write(f"{kind} {thing} {' '.join(value)}".rstrip() + "\n")
    return SAME


def _compare(revision: str, directory: Path, hosts: list[str], *, as_json: bool) -> int:
    with revisions.checkout(revision) as before:
        if (before / LOCK).read_bytes() != (ROOT / LOCK).read_bytes():
            err.print(f"{LOCK} of {revision} differs: its code runs with today's packages", markup=False)
        found = revisions.differences(directory, hosts, before)
    if as_json:
        listed = {host: [asdict(each) for each in found[host]] for host in hosts}
        say_json({"against": revision, "hosts": listed})
        return DIFFERENT if any(found.values()) else SAME
    for host, different in found.items():
        found_here = count(len(different), "difference") if different else "no differences"
        out.print(f"{host}: {found_here}", markup=False, style="bold")
        for each in different:
            out.print(f"  {each.change} {each.kind} {each.thing}", markup=False)
            for line in each.diff:
                say_line(line, indent=4)
    return DIFFERENT if any(found.values()) else SAME
