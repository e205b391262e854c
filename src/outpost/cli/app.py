"""The commands. Each imports what it works with when it runs, so that `--help` is there at once."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from outpost import __version__
from outpost.cli.options import (
    AfreshOption,
    JsonOption,
    LimitOption,
    NameOption,
    OfficeArgument,
    ViaOption,
    YesOption,
)
from outpost.cli.restore import app as restore
from outpost.cli.rotate import app as rotate
from outpost.cli.user import alias, group, shared, user
from outpost.errors import OutpostError

EXIT_CODES = """
**Exit codes**: 0 done and as declared · 1 failed, or problems found · 2 `plan`: hosts differ from the
office file · 64 wrong usage · 130 interrupted.
"""

EXAMPLES = """
**Examples**

```
./outpost lab up --yes          a whole office in Docker, with mail flowing
./outpost check lab             is the office file sound?
./outpost plan lab              what would change, with differences
./outpost apply lab -y          make the hosts what the file declares
./outpost verify lab            prove it on the running hosts
./outpost test                  the project's own tests
```
"""


class LazyGroup(TyperGroup):
    """Resolves `lab` to the lab's own commands, which are imported only when they are asked for."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that the arguments name."""
        name, command, rest = super().resolve_command(ctx, args)
        if name == "lab":
            from outpost.lab.cli import app as lab_app

            command = typer.main.get_group(lab_app)
        return name, command, rest


app = typer.Typer(
    cls=LazyGroup,
    name="outpost",
    help="A project office's mail system: provisioned, re-applied and proven, on hosts that do one thing each.",
    epilog=EXAMPLES + EXIT_CODES,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"outpost {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    _version_option: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


@app.command(
    "lab", help="The case study's office and the world around it, in Docker: `up`, `down`, `info`, `shell`."
)
def _lab() -> None:
    raise AssertionError("LazyGroup resolves this command")


@app.command(epilog="Example: `./outpost check inventory/lab --json`. Exit code 0: sound, 1: problems found.")
def check(office: OfficeArgument, name: NameOption = None, json: JsonOption = False) -> None:
    """Find every problem of an office file: field, value and remedy of each. No host is contacted."""
    from outpost.cli.office import check_office

    raise typer.Exit(check_office(office, name, as_json=json))


@app.command(
    epilog="Examples: `./outpost new po` asks; `./outpost new po --domain po.example.com --organisation 'Site office' "
    "--postmaster maria --wan 192.0.2.0/28` does not, and takes the defaults for the rest."
)
def new(
    office: Annotated[str, typer.Argument(metavar="OFFICE", help="Its name below inventory/, or a path.")],
    domain: Annotated[str | None, typer.Option(help="Mail domain.")] = None,
    organisation: Annotated[str | None, typer.Option(help="Name that users see.")] = None,
    postmaster: Annotated[str | None, typer.Option(help="The user who gets postmaster's mail.")] = None,
    users: Annotated[str | None, typer.Option(help="Further users, with commas.")] = None,
    wan: Annotated[str | None, typer.Option(help="Networks on the Internet's side, with a comma.")] = None,
    core: Annotated[str | None, typer.Option(help="Networks between the servers.")] = None,
    lan: Annotated[str | None, typer.Option(help="Networks of the users.")] = None,
    mgmt: Annotated[str | None, typer.Option(help="Networks of the administrators.")] = None,
    proxy: Annotated[str | None, typer.Option(help="HTTP proxy for packages, for the store.")] = None,
    acme_proxy: Annotated[
        str | None, typer.Option(help="HTTP proxy to the authority, for the store.")
    ] = None,
    certificates: Annotated[str | None, typer.Option(help="acme or office.")] = None,
    secrets: Annotated[bool, typer.Option("--secrets/--no-secrets", help="Make its secrets, too.")] = True,
) -> None:
    """From nothing to a checked office file with its secrets made; asks for what no option says."""
    from outpost.cli.new import new_office

    answers = {
        "domain": domain,
        "organisation": organisation,
        "postmaster": postmaster,
        "users": users,
        "wan": wan,
        "core": core,
        "lan": lan,
        "mgmt": mgmt,
        "proxy": proxy,
        "acme_proxy": acme_proxy,
        "certificates": certificates,
    }
    raise typer.Exit(new_office(office, answers, secrets=secrets))


@app.command(
    epilog="Example: `./outpost preflight po`. Exit code 0: ready for the first apply, 1: something is in the way."
)
def preflight(
    office: OfficeArgument,
    name: NameOption = None,
    host: Annotated[
        list[str] | None, typer.Option("--host", metavar="HOST", help="Only this host; may be repeated.")
    ] = None,
    via: ViaOption = None,
    json: JsonOption = False,
) -> None:
    """Look at the machines before the first apply: reached, release, addresses, ports, clock, port 25, delegation."""
    from outpost.cli.new import look_ahead

    raise typer.Exit(look_ahead(office, name, via, host, as_json=json))


@app.command(
    epilog="Example: `./outpost plan lab --limit mta`. Exit code 0: nothing to change, 2: hosts differ, 1: failed."
)
def plan(
    office: OfficeArgument,
    name: NameOption = None,
    limit: LimitOption = None,
    via: ViaOption = None,
    json: JsonOption = False,
    afresh: AfreshOption = False,
) -> None:
    """Show what an apply would change, with the differences. Nothing is touched."""
    _unless_as_declared(office, name, limit, via, as_json=json, afresh=afresh)
    from outpost.cli.office import plan_office

    raise typer.Exit(plan_office(office, name, limit, via, as_json=json))


def _unless_as_declared(
    office: str, name: str | None, limit: list[str] | None, via: str | None, *, as_json: bool, afresh: bool
) -> None:
    from outpost.cli.quick import as_declared

    if not afresh and as_declared(office, name, limit, via, as_json=as_json):
        raise typer.Exit


@app.command(
    epilog="Example: `./outpost apply lab -y`. Exit code 0: done, 1: a host failed or the plan was declined."
)
def apply(
    office: OfficeArgument,
    name: NameOption = None,
    limit: LimitOption = None,
    via: ViaOption = None,
    yes: YesOption = False,
    json: JsonOption = False,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Also on a read-only day of the office file.")
    ] = False,
    verify: Annotated[
        bool, typer.Option("--verify/--no-verify", help="Check what was touched afterwards.")
    ] = True,
    rollback: Annotated[
        bool, typer.Option("--rollback/--no-rollback", help="Put previous files back when a check fails.")
    ] = True,
    afresh: AfreshOption = False,
) -> None:
    """Make the hosts what the office file declares, one host of a role at a time; verify, go back on failure.

    Without -y the plan is shown and confirmed first.
    """
    _unless_as_declared(office, name, limit, via, as_json=json, afresh=afresh)
    from outpost.cli.office import apply_office

    raise typer.Exit(
        apply_office(
            office, name, limit, via, yes=yes, as_json=json, anyway=anyway, checked=verify, back=rollback
        )
    )


@app.command(
    epilog="Examples: `./outpost verify lab --host mta --control TLS-09`; from a timer `./outpost verify po --changes --tell "
    "'smtp://relay.example/?to=admin@example&from=outpost@example'`. Exit code 0: proven, 1: a check failed."
)
def verify(
    office: OfficeArgument,
    name: NameOption = None,
    host: Annotated[
        list[str] | None, typer.Option("--host", metavar="HOST", help="Only this host; may be repeated.")
    ] = None,
    control: Annotated[
        list[str] | None,
        typer.Option("--control", metavar="ID", help="Only what proves this control; may be repeated."),
    ] = None,
    via: ViaOption = None,
    since: Annotated[
        Path | None,
        typer.Option(
            "--since",
            metavar="FILE",
            help="Compare with this run (a file of --json) instead of the one before.",
        ),
    ] = None,
    changes: Annotated[
        bool,
        typer.Option("--changes", help="For a timer: say nothing unless something is different from before."),
    ] = False,
    tell: Annotated[
        list[str] | None,
        typer.Option(
            "--tell",
            metavar="PATH",
            help="Whom to tell of a change, past the mail queue that is looked at: smtp://…, https://… or a command.",
        ),
    ] = None,
    white_box: Annotated[
        bool,
        typer.Option(
            "--white-box",
            help="Only what looks at the hosts, a round trip each: no conversations, no canaries.",
        ),
    ] = False,
    sabotage: Annotated[
        bool,
        typer.Option(
            "--sabotage", help="In the lab: break what each check looks at, and see the check fail."
        ),
    ] = False,
    json: JsonOption = False,
    junit: Annotated[
        Path | None, typer.Option("--junit", metavar="FILE", help="Write a JUnit report.")
    ] = None,
) -> None:
    """Check the running hosts against what the office promises. Changes nothing; safe on a live office."""
    from outpost.cli.verify import sabotage_office, verify_office

    if sabotage:
        raise typer.Exit(sabotage_office(office, name, host))
    raise typer.Exit(
        verify_office(
            office,
            name,
            host,
            via,
            controls=control,
            white_box=white_box,
            since=since,
            changes=changes,
            tell_to=tell,
            as_json=json,
            junit=junit,
        )
    )


@app.command(
    epilog="Examples: `./outpost each plan po harbour`, `./outpost each apply inventory/site-* -y --jobs 8`, `./outpost each verify po "
    "harbour --json`. Exit code: the worst of all."
)
def each(
    command: Annotated[str, typer.Argument(metavar="COMMAND", help="plan, apply or verify.")],
    offices: Annotated[
        list[str], typer.Argument(metavar="OFFICE…", help="Names or paths, as for the command.")
    ],
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs", "-j", metavar="N", min=1, help="So many at a time (default: two a processor)."
        ),
    ] = None,
    yes: YesOption = False,
    afresh: AfreshOption = False,
    json: JsonOption = False,
) -> None:
    """Plan, apply or verify many offices, a bounded number at a time; one line for each as it ends."""
    from outpost.cli.each import AT_ONCE, COMMANDS, each_office

    if command not in COMMANDS:
        raise OutpostError(f"each does not {command}", f"one of: {', '.join(COMMANDS)}")
    options = [*(("-y",) if yes else ()), *(("--afresh",) if afresh else ())]
    raise typer.Exit(each_office(command, offices, options, jobs=jobs or AT_ONCE, as_json=json))


@app.command(
    epilog="Examples: `./outpost backup po` lists what is kept, `./outpost backup po --now --limit store`, "
    "`./outpost backup po --other-end | ssh root@vault sh`. Exit code 0: done, 1: failed."
)
def backup(
    office: OfficeArgument,
    name: NameOption = None,
    limit: LimitOption = None,
    via: ViaOption = None,
    now: Annotated[bool, typer.Option("--now", help="Make one first, on every host or those named.")] = False,
    thin_out: Annotated[
        bool, typer.Option("--thin-out", help="Let old archives go, at the other end (for a timer).")
    ] = False,
    other_end: Annotated[
        bool, typer.Option("--other-end", help="Print the set-up of the machine that keeps them.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Show what is kept of each host at head office; make a backup now; let old ones go."""
    from outpost.cli.backup import back_up

    raise typer.Exit(
        back_up(office, name, limit, via, now=now, thin_out=thin_out, other_end=other_end, as_json=json)
    )


@app.command(
    epilog="Example: `./outpost drill po`; from a timer: docs/examples/outpost-drill.service. Exit code 0: everything came back, "
    "1: not so."
)
def drill(
    office: OfficeArgument, name: NameOption = None, via: ViaOption = None, json: JsonOption = False
) -> None:
    """Restore the store into a throw-away container on this machine, and compare: mail, flags, UIDs, filters, logins.

    The live store makes a backup and goes on; how long a loss would take and what it would cost is kept for `report`.
    """
    from outpost.cli.backup import hold_drill

    raise typer.Exit(hold_drill(office, name, via, as_json=json))


@app.command(
    epilog="Example: `./outpost decommission po` shows where it stands; `./outpost decommission po --next`, again for each step. "
    "Exit code 0: the step is taken, 1: not yet, or not so."
)
def decommission(
    office: OfficeArgument,
    name: NameOption = None,
    via: ViaOption = None,
    following: Annotated[bool, typer.Option("--next", help="Take the next step.")] = False,
    forward: Annotated[
        str,
        typer.Option(
            "--forward-to", metavar="ADDRESS", help="Where the office's mail goes from `forward` on."
        ),
    ] = "",
    into: Annotated[
        Path | None, typer.Option("--into", metavar="DIR", help="Where `handover` puts the mailboxes.")
    ] = None,
    erase: Annotated[
        str,
        typer.Option("--erase", metavar="DOMAIN", help="The office's domain: `erase` may delete its data."),
    ] = "",
) -> None:
    """Close an office, step by step: freeze, forward, hand over, drain, withdraw, erase, certify. Each leaves a checkpoint."""
    from outpost.cli.decommission import close_office

    raise typer.Exit(
        close_office(office, name, via, following=following, forward=forward, into=into, erase=erase)
    )


@app.command(
    epilog="Example: `./outpost report lab --html evidence.html --pdf evidence.pdf`. Exit code 0: written, 1: nothing to report."
)
def report(
    office: OfficeArgument,
    name: NameOption = None,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Where the page goes (default: OFFICE-evidence.html)."),
    ] = None,
    pdf: Annotated[
        Path | None, typer.Option("--pdf", metavar="FILE", help="On paper, too, by Debian's Chromium.")
    ] = None,
    via: ViaOption = None,
) -> None:
    """Write one page of evidence from the latest results: fault, control, line in effect, check, attack, host, result."""
    from outpost.cli.report import report_office

    raise typer.Exit(report_office(office, name, html, pdf, via))


@app.command(
    epilog="Example: `./outpost judge lab --only ssh-audit --record`. Exit code 0: all that is left has a reason, 1: not so."
)
def judge(
    office: OfficeArgument,
    name: NameOption = None,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="TOOL", help="ssh-audit, lynis, testssl or sslyze; may be repeated."),
    ] = None,
    record: Annotated[
        bool,
        typer.Option("--record", help="Keep the results in controls/judged.json, for the documentation."),
    ] = False,
    via: ViaOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask others' tools: ssh-audit, lynis, testssl.sh, sslyze; each finding has a reason or is an error."""
    from outpost.cli.judge import judge_office
    from outpost.judges import TOOLS

    if unknown := sorted(set(only or ()) - set(TOOLS)):
        raise OutpostError(f"{', '.join(unknown)}: no such tool", f"one of {', '.join(TOOLS)}")
    raise typer.Exit(judge_office(office, name, tuple(only or ()), via, record=record, as_json=as_json))


@app.command(
    epilog="Examples: `./outpost attack lab --list`, `./outpost attack lab --only 2g --only REL --transcript`. Exit code 0: "
    "withstood, 1: breached."
)
def attack(
    office: OfficeArgument,
    name: NameOption = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only", metavar="ID", help="An attack, a family (A-DSN), a control or a fault; may be repeated."
        ),
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="Show the attacks and carry out none.")] = False,
    slow: Annotated[bool, typer.Option("--slow", help="Floods and the long fuzzing, too.")] = False,
    positive: Annotated[
        bool,
        typer.Option(
            "--with-positive-control",
            help="In the lab: turn each defence off afterwards and see the same attack succeed; then turn it on again.",
        ),
    ] = False,
    record: Annotated[
        bool, typer.Option("--record", help="Keep the results in controls/measured.json (appendix II).")
    ] = False,
    transcript: Annotated[bool, typer.Option("--transcript", help="Show every dialogue.")] = False,
    json: JsonOption = False,
) -> None:
    """Attack an office as the case study fears, bounded in count and time, and measure what honest people notice.

    The lab, or an office whose file agrees to it for a time (`[attack] consent_until`), with somebody at the terminal.
    """
    from outpost.cli.attack import attack_office

    raise typer.Exit(
        attack_office(
            office,
            name,
            only,
            listed=listed,
            slow=slow,
            positive=positive,
            record=record,
            transcripts=transcript,
            as_json=json,
        )
    )


@app.command(
    epilog="Example: `./outpost hosts harbour --json`. Exit code 0: listed, 1: the office file has problems."
)
def hosts(office: OfficeArgument, name: NameOption = None, json: JsonOption = False) -> None:
    """List an office's hosts: role, name, addresses in each zone. What scripts and the Vagrantfile read."""
    from outpost.cli.office import list_hosts

    raise typer.Exit(list_hosts(office, name, as_json=json))


@app.command("test", epilog="Example: `./outpost test --fast`. Exit code 0: all passed, 1: something failed.")
def suite(
    yes: YesOption = False,
    fast: Annotated[bool, typer.Option("--fast", help="Only what needs no Docker.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the lab instance `test` running.")] = False,
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[-- PYTEST…]", help="Passed on to pytest.")
    ] = None,
) -> None:
    """Run the project's whole suite: lint, unit tests, then a cold lab with live checks and journeys."""
    from outpost.cli.suite import run_suite

    raise typer.Exit(run_suite(yes=yes, fast=fast, keep=keep, arguments=arguments or []))


@app.command(
    epilog="Examples: `./outpost bench --list`, `./outpost bench reapply-cold verify --name two`; `./outpost bench --keep --plot` "
    "measures everything (half an hour and more). Exit code 0: every ratio reached, 1: not so."
)
def bench(
    rows: Annotated[list[str] | None, typer.Argument(metavar="[ROW…]", help="Only these rows.")] = None,
    name: NameOption = None,
    listed: Annotated[bool, typer.Option("--list", help="Show the rows and measure none.")] = False,
    json: JsonOption = False,
    plot: Annotated[
        bool, typer.Option("--plot", help="Draw docs/benchmarks.svg and the README's table from all results.")
    ] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the results in docs/benchmarks.json.")] = False,
) -> None:
    """Measure speed against its peers on a lab that is up: bare SSH, stock pyinfra, Ansible, plain apt-get.

    A slow line is put in front of the hosts. Nothing else should run on the machine meanwhile.
    """
    from outpost.cli import bench as benchmark

    if listed:
        raise typer.Exit(benchmark.list_rows())
    raise typer.Exit(benchmark.bench(name, rows or [], as_json=json, draw=plot, keep=keep))


@app.command(
    epilog="Examples: `./outpost trace lab 3F2A1B4C5D`, `./outpost trace lab '<id@example.com>'`, `./outpost trace lab "
    "alice@po.myertor.test --last 3`. Exit code 0: told, 1: no host knows it."
)
def trace(
    office: OfficeArgument,
    identifiers: Annotated[
        list[str], typer.Argument(metavar="IDENTIFIER…", help="Queue id, Message-ID, or somebody's address.")
    ],
    name: NameOption = None,
    since: Annotated[
        str, typer.Option("--since", metavar="TIME", help="How far to look back (systemd.time(7)).")
    ] = "-5d",
    last: Annotated[
        int, typer.Option("--last", metavar="N", min=1, help="Of an address, the latest so many messages.")
    ] = 5,
    via: ViaOption = None,
    json: JsonOption = False,
) -> None:
    """Follow one message across all hosts: each hop with its delay and its TLS, and where it is now."""
    from outpost.cli.mail import trace_message

    raise typer.Exit(trace_message(office, name, identifiers, via, since=since, last=last, as_json=json))


@app.command(
    epilog="Examples: `./outpost queue po`, `./outpost queue po --release headoffice`, `./outpost queue po --hold "
    "@example.org`. Words: all, a queue id, an address, @domain, a route (a peer's name, store, Internet). Exit code 0."
)
def queue(
    office: OfficeArgument,
    name: NameOption = None,
    release: Annotated[
        list[str] | None,
        typer.Option("--release", metavar="WORD", help="Off hold and tried at once; may be repeated."),
    ] = None,
    hold: Annotated[
        list[str] | None,
        typer.Option("--hold", metavar="WORD", help="Kept until it is released; may be repeated."),
    ] = None,
    via: ViaOption = None,
    json: JsonOption = False,
) -> None:
    """Show what waits on the MTAs, for whom and why; release it or hold it. Nothing can be deleted with it."""
    from outpost.cli.mail import queue_office

    raise typer.Exit(queue_office(office, name, via, release=release or [], hold=hold or [], as_json=json))


@app.command(
    epilog="Examples: `./outpost alarms po`; `./outpost alarms po --test` sends one by every path. Exit code 0: none, 1: some."
)
def alarms(
    office: OfficeArgument,
    name: NameOption = None,
    test: Annotated[
        bool, typer.Option("--test", help="Have each host tell a trial alarm by each of its paths.")
    ] = False,
    via: ViaOption = None,
    json: JsonOption = False,
) -> None:
    """What needs a human now, host by host: old mail, certificates, signatures, disks, backups, guessed passwords, units."""
    from outpost.cli.mail import show_alarms

    raise typer.Exit(show_alarms(office, name, via, test=test, as_json=json))


@app.command(
    epilog="Examples: `./outpost peer po` for the people there, `./outpost peer po headoffice --postfix` for their files, "
    "`./outpost peer po headoffice --recipients > po_recipients` for their timer. Exit code 0."
)
def peer(
    office: OfficeArgument,
    peer: Annotated[str | None, typer.Argument(metavar="[PEER]", help="Only this peer.")] = None,
    name: NameOption = None,
    postfix: Annotated[bool, typer.Option("--postfix", help="As lines for Postfix.")] = False,
    recipients: Annotated[
        bool, typer.Option("--recipients", help="Only the table of recipients, for a backup MX.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Print what the other end of each route has to set up: names, addresses, ports, TLS, recipients. Nothing secret."""
    from outpost.cli.mail import print_peer

    raise typer.Exit(print_peer(office, name, peer, postfix=postfix, recipients=recipients, as_json=json))


secrets = typer.Typer(
    help="The secrets of an office, encrypted with age beside its file.", no_args_is_help=True
)
app.add_typer(secrets, name="secrets")


@secrets.callback()
def _secrets() -> None:
    pass


@secrets.command(
    "init",
    epilog="Example: `./outpost secrets init inventory/po`. Nothing secret is printed; what exists is never overwritten.",
)
def secrets_init(
    office: OfficeArgument,
    passwords: Annotated[
        Path | None,
        typer.Option(
            "--passwords", metavar="FILE", help="Where new users' first passwords go, for handing over."
        ),
    ] = None,
) -> None:
    """Create what is missing: your age identity, and in the office's secrets.age keys and first passwords."""
    from outpost.cli.office import init_secrets

    raise typer.Exit(init_secrets(office, passwords))


@secrets.command(
    "csr",
    epilog="Example: `./outpost secrets csr po mta > mta.csr`; what the authority makes of it is kept as mta.pem.",
)
def secrets_csr(
    office: OfficeArgument,
    host: Annotated[str, typer.Argument(metavar="HOST", help="The host the certificate is for.")],
    name: NameOption = None,
    following: Annotated[
        bool, typer.Option("--next", help="For the key that `outpost rotate tls` switches to.")
    ] = False,
) -> None:
    """Print the request for a host's public certificate, for an authority that is asked by hand."""
    from outpost.cli.office import print_request

    raise typer.Exit(print_request(office, name, host, following=following))


@secrets.command(
    "smarthost",
    epilog="Example: `./outpost secrets smarthost po <password.txt`. The password is not shown, and on no host but the MTA.",
)
def secrets_smarthost(office: OfficeArgument, name: NameOption = None) -> None:
    """Keep the password of the office's login at its smarthost (`[smarthost] user`)."""
    from outpost.cli.office import keep_smarthost_password

    raise typer.Exit(keep_smarthost_password(office, name))


@secrets.command(
    "ca",
    epilog="Example: `./outpost secrets ca po > office-ca.pem`; two certificates while the authority rolls.",
)
def secrets_ca(office: OfficeArgument, name: NameOption = None) -> None:
    """Print the certificate of the office's own authority, for users and peers who are to trust it."""
    from outpost.cli.office import print_authority

    raise typer.Exit(print_authority(office, name))


app.add_typer(rotate, name="rotate")
app.add_typer(restore, name="restore")
for part, called in ((user, "user"), (alias, "alias"), (group, "group"), (shared, "shared")):
    app.add_typer(part, name=called)


@app.command(
    "dns",
    epilog="Example: `./outpost dns po > po.zone`. The output is a zone file that any name server loads.",
)
def zone(
    office: OfficeArgument,
    name: NameOption = None,
    zone: Annotated[
        str,
        typer.Option("--zone", metavar="ZONE", help="A reverse zone of the office instead of its domain."),
    ] = "",
    json: JsonOption = False,
) -> None:
    """Print the office's zone: every record with its reason, nothing secret. For offices whose DNS lives elsewhere."""
    from outpost.cli.office import print_zone

    raise typer.Exit(print_zone(office, name, zone, as_json=json))


@app.command(
    epilog="Example: `./outpost guide po > guide.html`: to print, or to send to somebody new. Webmail shows it, too."
)
def guide(office: OfficeArgument, name: NameOption = None) -> None:
    """Print the office's guide for its users, a page of HTML: first login, mail programs, limits, whom to ask."""
    from outpost.cli.office import print_guide

    raise typer.Exit(print_guide(office, name))


@app.command(
    epilog="Example: `./outpost reference --check` (in a commit hook: exit code 1 when a page is out of date)."
)
def reference(
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; fail when something is out of date.")
    ] = False,
) -> None:
    """Write docs/reference/office.md and the README's diagram from the model."""
    from outpost.cli.office import write_reference

    raise typer.Exit(write_reference(check_only=check))


def main() -> None:
    """Run the command line; every failure ends in one line with a remedy."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command and give its exit code."""
    debug = bool(os.environ.get("OUTPOST_DEBUG"))
    try:
        return int(app(arguments, prog_name="outpost", standalone_mode=False) or 0)
    except typer.TyperException as error:
        from typer.rich_utils import rich_format_error

        rich_format_error(error)  # type: ignore[arg-type]  # what typer itself raises for wrong usage
        return 64
    except (KeyboardInterrupt, typer.Abort):
        sys.stderr.write("\noutpost: interrupted\n")
        return 130
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115  # the reader has gone: nothing left to flush to
        return 1
    except OutpostError as error:
        from outpost.cli.console import say_error

        say_error(error.message, error.remedy)
        if debug:
            raise
        return error.exit_code
    except Exception as error:
        from outpost.cli.console import say_error
        from outpost.office.problems import OfficeError

        if debug:
            raise
        if remedy := getattr(error, "remedy", ""):
            say_error(getattr(error, "message", str(error)), remedy)
            return 1
        if isinstance(error, OfficeError):
            from outpost.cli.office import show_problems

            show_problems(error.problems)
            return 1
        say_error(
            f"{type(error).__name__}: {error}" if str(error) else type(error).__name__,
            "this is a mistake in Outpost; OUTPOST_DEBUG=1 shows where",
        )
        return 1
