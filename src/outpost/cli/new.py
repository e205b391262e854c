"""`outpost new` and `outpost preflight`: create and check an office; check its machines before the first apply."""

import inspect
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from outpost.cli.console import err, out, say_error, say_json
from outpost.cli.office import show_problems
from outpost.cli.options import App, At, Command, chosen_hosts, takes
from outpost.errors import OutpostError
from outpost.office import OfficeError, Problem, load
from outpost.office.load import parse
from outpost.office_file import new
from outpost.target import offices_directory, shown
from outpost.templates import environment, render
from outpost.transport.ssh import target

app = App()

QUESTIONS: dict[str, dict[str, Any]] = tomllib.loads(
    Path(__file__).with_name("questions.toml").read_text(encoding="utf-8")
)
UNASKED = {key: asked.get("sound", asked.get("default", "")) for key, asked in QUESTIONS.items()}
"""A placeholder for answers that are missing while the rules of an office file check the others."""


def _with_questions(command: Command) -> Command:
    """Declare an option for each question."""
    office, secrets, _ = inspect.signature(command, eval_str=True).parameters.values()
    options = (
        secrets.replace(
            name=key, default=None, annotation=Annotated[str | None, typer.Option(help=asked["question"])]
        )
        for key, asked in QUESTIONS.items()
    )
    return takes(command, [office, *options, secrets])


@app.named("new")
@_with_questions
def new_office(office: str, secrets: bool = True, **answers: str | None) -> None:
    directory = offices_directory() / office if "/" not in office else Path(office).resolve()
    if (directory / "office.toml").exists():
        problem = f"{shown(directory)}/office.toml exists already"
        raise OutpostError(problem, "choose another name, or edit that file")
    given: dict[str, str] = {}
    defaults = new.inner_networks(directory.name, directory.parent)
    defaults["key"] = next(iter(new.public_keys(Path.home())), "")
    for key in sorted(QUESTIONS, key=lambda key: answers.get(key) is None):  # check the given answers first
        given[key] = _answer(key, answers.get(key), directory.name, given, defaults)
    plan = _plan(directory.name, given)
    new.write(directory, _sound(plan))
    out.print(f"wrote {escape(shown(directory / 'office.toml'))}, and it is [green]sound[/]")
    if not plan.authorized_keys:
        err.print(
            "[yellow]no SSH public key was given: the hosts keep the keys that they have. To allow only yours, "
            "write it into `authorized_keys` below \\[ssh][/]"
        )
    if given["certificates"] == "acme" and not given["acme_proxy"]:
        err.print(
            "the store cannot reach a public certificate authority, so the office's own authority certifies it. Mail programs "
            f"must trust the certificate that `./outpost secrets ca {office}` prints; with a proxy in \\[acme] that is not needed"
        )
    if not given["proxy"]:
        err.print(
            "the store has no way to Debian's archive yet: write a proxy, or a mirror that it can reach, into \\[archive]"
        )
    if secrets:
        from outpost.cli.rotate import init_secrets

        try:
            init_secrets(str(directory), None)
        except OutpostError as error:
            raise OutpostError(
                f"the office has no secrets yet: {error.message}",
                f"{error.remedy}; then run ./outpost secrets init {office}",
            ) from None
    made = load(directory)
    facts = {"office": office, "known": escape(shown(directory / "known_hosts"))}
    facts["places"] = " ".join(target(made, host)[1] for host in made.hosts)
    out.print(render(environment(Path(__file__).parent), "new-next.j2", facts))


def _plan(name: str, given: dict[str, str]) -> new.Plan:
    domain = given["domain"].strip().lower().rstrip(".")
    names = (given["postmaster"], *filter(str.strip, given["users"].split(",")))
    people = (_address(local, domain) for local in names)
    return new.Plan(
        name=name,
        given=given,
        domain=domain,
        people=tuple(dict.fromkeys(people)),
        networks={zone: new.networks(given[zone], zone) for zone in ("wan", "core", "lan", "mgmt")},
        rate_kbit=new.number(given["rate"], "rate"),
        forwarders=tuple(filter(None, (part.strip() for part in given["forwarders"].split(",")))),
        authorized_keys=new.keys_of(given["key"]),
    )


def _sound(plan: new.Plan) -> str:
    """Render the office file."""
    from outpost.converge.files import rendered

    text = rendered("office", "/office.toml", plan=plan).content.decode().rstrip() + "\n"
    if problems := parse(tomllib.loads(text))[1]:
        raise OfficeError(problems)
    return text


def _answer(key: str, given: str | None, name: str, before: dict[str, str], defaults: dict[str, str]) -> str:
    """Return an option's value, or ask for it. A wrong answer is asked again: ending would lose the other answers."""

    def sound(answer: str) -> str:
        try:
            _sound(_plan(name, UNASKED | before | {key: answer}))
        except OfficeError as error:
            raise OfficeError(_of_answer(error.problems)) from None
        return answer

    if given is not None:
        return sound(given)
    question, optional = QUESTIONS[key]["question"], QUESTIONS[key].get("optional", False)
    default = defaults.get(key, QUESTIONS[key].get("default", ""))
    if not sys.stdin.isatty():
        if not (default or optional):
            option = f"--{key.replace('_', '-')}"
            remedy = f"add {option} ({question.lower()})"
            raise OutpostError(f"{option} is missing, and standard input is not a terminal", remedy)
        return sound(default)
    shown_default = f" [{default}]" if default else " (may be empty)" if optional else ""
    while True:
        typed = err.input(f"{escape(question + shown_default)}: ").strip() or default
        if not (typed or optional):
            continue
        try:
            return sound(typed)
        except OutpostError as error:
            say_error(error.message, error.remedy)
        except OfficeError as error:
            show_problems(error.problems[:1])  # the others are derived from it


def _of_answer(problems: Iterable[Problem]) -> list[Problem]:
    """The mistakes in this answer. A value that the file has twice counts once, and placeholders do not count."""
    problems = list(problems)
    unasked = f"{UNASKED['postmaster']}@"
    own = {problem.value: problem for problem in reversed(problems) if unasked not in problem.value}
    return [problem for problem in problems if problem in own.values()] or problems[:1]


def _address(local: str, domain: str) -> str:
    local = local.strip().lower()
    return local if "@" in local else f"{local}@{domain}"


@app.of_office("preflight")
def look_ahead(at: At, limit: list[str] | None = None, as_json: bool = False) -> int:
    from outpost.engine import preflight

    hosts = chosen_hosts(at.office, limit)
    findings = preflight.examine(at.target, at.office, at.via, hosts or tuple(at.office.hosts_by_name))
    bad = [finding for finding in findings if finding.level == "bad"]
    if as_json:
        say_json([finding._asdict() for finding in findings])
        return 1 if bad else 0
    marks = {"good": "[green]✓[/]", "note": "[yellow]·[/]", "bad": "[red]✗[/]"}
    for finding in findings:
        out.print(f"{marks[finding.level]} [bold]{escape(finding.where)}[/] {escape(finding.seen)}")
        if finding.remedy:
            out.print(f"    [bold]Remedy:[/] {escape(finding.remedy)}")
    out.print("[red]not ready[/]" if bad else "[green]ready for the first apply[/]")
    return 1 if bad else 0
