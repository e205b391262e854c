"""The command line: what a user sees, and what a script can rely on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from docker.errors import APIError

from outpost.cli import COMMANDS, progress, suite
from outpost.cli import app as cli
from outpost.cli import office as commands
from outpost.engine.follower import Follower
from outpost.engine.run import Change, Outcome
from outpost.engine.run import command as pyinfra_command
from outpost.errors import OutpostError
from outpost.keys import secrets_file
from outpost.machines import up
from outpost.office import load
from outpost.target import INVENTORY, LAB, Target, find
from outpost.verification.live import sentence
from outpost_lab.instance import Instance
from tests.awaiting import until

ROOT = Path(__file__).resolve().parents[2]

ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT / "src")}

TRANSCRIPT = """\
--> Loading config...
--> Loading inventory...
--> Connecting to hosts...
    [@container/outpost-lab-mta]   Connected
    [@container/outpost-lab-store] Connected
    [@container/outpost-lab-ns1] No such container: outpost-lab-ns1

--> Preparing operation files...
    Loading: deploy.py
    [@container/outpost-lab-mta]   changes /etc/postfix/main.cf
        -smtpd_tls_security_level = none
        +smtpd_tls_security_level = may
    [@container/outpost-lab-mta]   Ready: deploy.py
    [@container/outpost-lab-store] Ready: deploy.py

--> Skipping change detection

--> Beginning operation run...
--> Starting operation: mta | postfix
    [@container/outpost-lab-mta]   Success

--> Starting operation: store | dovecot
    [@container/outpost-lab-store] doveconf: Fatal: Unknown setting: mail_locatoin
    [@container/outpost-lab-store] Error: executed 0 commands

--> Results:
"""
UNANSWERED = """\
--> Connecting to hosts...
    [@container/outpost-lab-webmail] Connected
--> Beginning operation run...
--> Starting operation: webmail | account roundcube
    [@container/outpost-lab-webmail] Error: could not load fact: server.Users ()
--> Results:
"""


@pytest.fixture
def office_directory(tmp_path: Path) -> Path:
    """A copy of the case study's office, as a directory of its own."""
    directory = tmp_path / "po"
    directory.mkdir()
    text = (
        (INVENTORY / LAB / "office.toml")
        .read_text()
        .replace('trusted_authorities = ["world-ca.pem", "acme-ca.pem"]', "")
    )
    (directory / "office.toml").write_text(text)
    return directory


def run(*arguments: str) -> int:
    """One command, in this process."""
    return cli.run(list(arguments))


def test_help_has_examples_and_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    shown = capsys.readouterr().out
    assert "./outpost lab up --yes" in shown
    assert "64" in shown


def every_command(group: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command of the command line with its words, groups left out."""
    for name in group.list_commands(None):
        _, command, _ = group.resolve_command(None, [name])
        if hasattr(command, "commands"):
            yield from every_command(command, (*words, name))
        else:
            yield (*words, name), command


def test_each_command_says_in_a_line_what_it_does() -> None:
    every = dict(every_command(typer.main.get_group(cli.app)))
    assert {("plan",), ("lab", "up"), ("rotate", "due"), ("user", "add")} <= every.keys()
    for words, command in every.items():
        first = command.help.split("\n\n")[0]
        assert len(first) <= 80, words
        assert "\n" not in first, words
        assert first[0].isupper(), words
        assert first.endswith("."), words


def test_each_text_of_an_option_belongs_to_one() -> None:
    for words, command in every_command(typer.main.get_group(cli.app)):
        about: dict[str, Any] = COMMANDS
        for word in words:
            about = about[word]
        described = {name for name, text in about.items() if isinstance(text, list)}
        assert described <= {parameter.name for parameter in command.params}, words
    assert up.DEBIAN in COMMANDS["machines"]["up"]["examples"]


def test_help_groups_every_command_by_its_task(capsys: pytest.CaptureFixture[str]) -> None:
    group: Any = typer.main.get_group(cli.app)
    assert list(COMMANDS) == list(group.commands)
    tasks = list(dict.fromkeys(about["task"] for about in COMMANDS.values()))
    assert run("--help") == 0
    shown = capsys.readouterr().out
    assert "Commands" not in shown
    places = [shown.index(f" {task} ─") for task in tasks]
    assert places == sorted(places)
    assert f"│ {'plan':<13}" in shown


@pytest.mark.parametrize(
    ("words", "new"),
    [
        (("plan", "lab", "--afresh"), "--refresh"),
        (("apply", "lab", "--anyway"), "--force"),
        (("verify", "lab", "--host", "mta"), "--limit"),
        (("preflight", "lab", "--host=mta"), "--limit"),
        (("verify", "lab", "--tell", "cat"), "--notify"),
        (("backup", "lab", "--thin-out"), "--prune"),
    ],
)
def test_an_options_former_name_works_with_a_note(
    words: tuple[str, ...], new: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*words, "--help") == 0
    shown = capsys.readouterr()
    assert new in shown.out
    assert shown.err == f"outpost: {words[2].partition('=')[0]} is deprecated: use {new}\n"


def test_no_option_has_the_former_name_of_another() -> None:
    """It would be replaced in the command line, and could not be used."""

    def options(declared: Any) -> Iterator[str]:
        if isinstance(declared, dict):
            for each in declared.values():
                yield from options(each)
        elif isinstance(declared, list):
            yield from (word for word in declared[0].replace("/", " ").split() if word.startswith("--"))

    found = {*options(COMMANDS)}
    assert "--limit" in found
    assert not found & {*cli.RENAMED}


def test_a_former_name_of_limit_chooses_the_host(
    office_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("verify", str(office_directory), "--host", "nobody") == 1
    assert "--limit nobody names no host or role" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["check", "plan", "apply", "verify", "test", "reference", "dns"])
def test_each_command_has_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(name, "--help") == 0
    assert f"./outpost {name}" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["dkim", "tsig", "dnssec", "due"])
def test_each_rotation_has_an_example(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("rotate", kind, "--help") == 0
    assert f"rotate {kind}" in capsys.readouterr().out


def test_zone_is_printed_with_reasons_and_an_unknown_zone_is_explained(
    office_directory: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    office = load(office_directory)
    monkeypatch.setattr(secrets_file, "read", lambda _directory: secrets_file.complete(office).secrets)
    assert run("dns", str(office_directory)) == 0
    shown = capsys.readouterr().out
    assert (
        f"{office.domain}. {office.dns.ttl} IN MX 10 mta.{office.domain}. ; Where mail for the office goes"
        in shown
    )
    assert "PRIVATE KEY" not in shown
    assert run("dns", str(office_directory), "--zone", "elsewhere.example") == 1
    assert f"one of: {office.domain}." in capsys.readouterr().err


def test_help_needs_neither_pyinfra_nor_docker_nor_a_browser() -> None:
    listed = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "outpost", "--help"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env=ENVIRONMENT,
    ).stderr
    for heavy in ("pyinfra", "docker", "playwright", "pytest", "pydantic", "cryptography"):
        assert f"| {heavy}\n" not in listed.replace("|   ", "| ").replace("  ", " "), heavy


def test_commands_for_a_real_office_need_no_lab() -> None:
    program = (
        "import sys; sys.modules['outpost_lab'] = None; import roles.base.declare, outpost.hosts, outpost.engine.rollout, outpost.verification.live\n"
        "from outpost.cli.app import run\nsys.exit(run(['check', 'harbour']))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, "is sound" in done.stdout) == (0, True), done.stderr


def test_a_sound_office_passes(office_directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check", str(office_directory)) == 0
    assert "is sound: po.myertor.test, 5 hosts" in capsys.readouterr().out


@pytest.mark.parametrize("way", ["lab", "inventory/lab", "inventory/lab/office.toml"])
def test_the_labs_office_is_sound_without_a_running_lab(
    way: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    assert run("check", way) == 0
    assert "inventory/lab/office.toml is sound" in capsys.readouterr().out


def test_every_problem_is_shown_with_field_value_and_remedy(
    office_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = office_directory / "office.toml"
    file.write_text(
        file.read_text()
        .replace('role = "webmail"', 'role = "mta, webmail"')
        .replace("organisation =", "organization =")
    )
    assert run("check", str(office_directory)) == 1
    shown = capsys.readouterr().err
    assert "hosts.webmail.role = 'mta, webmail': two roles on one host" in shown
    assert "organization" in shown
    assert shown.count("Remedy:") >= 2
    assert "Traceback" not in shown

    assert run("check", str(office_directory), "--json") == 1
    problems = json.loads(capsys.readouterr().out)["problems"]
    assert {"field", "value", "message", "remedy"} == set(problems[0])
    assert "hosts.webmail.role" in [problem["field"] for problem in problems]


def test_a_local_file_that_a_role_declares_is_refused_before_any_host_is_asked(
    office_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = office_directory / "office.toml"
    kept = 'local = ["/etc/nginx/conf.d/headers.conf", "/etc/nginx/nginx.conf"]'
    file.write_text(file.read_text().replace("[hosts.webmail]", f"[hosts.webmail]\n{kept}"))
    assert run("check", str(office_directory)) == 1
    shown = " ".join(capsys.readouterr().err.split())
    assert "hosts.webmail.local: names /etc/nginx/nginx.conf, which a role declares" in shown
    assert shown.count("Remedy:") == 1
    file.write_text(file.read_text().replace(', "/etc/nginx/nginx.conf"', ""))
    assert run("check", str(office_directory)) == 0


def test_no_host_is_contacted_for_an_office_that_is_wrong(
    office_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (office_directory / "office.toml").write_text('name = "po"\n')
    assert run("plan", str(office_directory)) == 1
    assert "Remedy:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["check", "lba"], 1, "did you mean lab?"),
        (["plan", "lab", "--name", "nowhere"], 1, "./outpost lab up --name nowhere"),
        (["chekc", "lab"], 64, "check"),
        (["plan"], 64, "OFFICE"),
    ],
)
def test_a_slip_gets_one_message_and_a_way_on(
    arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments) == code
    shown = capsys.readouterr()
    assert message in shown.err
    assert shown.out == ""


def test_an_unforeseen_failure_is_one_line_without_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> int:
        raise RuntimeError("the moon is full")

    monkeypatch.setattr(commands, "problems_of", broken)
    assert run("check", "lab") == 1
    shown = capsys.readouterr().err
    assert "RuntimeError: the moon is full. Remedy:" in shown
    assert "Traceback" not in shown

    monkeypatch.setenv("OUTPOST_DEBUG", "1")
    with pytest.raises(RuntimeError):
        run("check", "lab")


def test_apply_without_consent_or_terminal_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], office_directory: Path
) -> None:
    monkeypatch.setattr(sys, "stdin", open(os.devnull))  # noqa: PTH123, SIM115  # no terminal
    assert run("apply", str(office_directory)) == 1
    assert "add -y" in capsys.readouterr().err


def test_the_command_is_the_one_a_user_would_type() -> None:
    target = Target("lab", INVENTORY / LAB, ROOT / ".lab" / "two", instance="two")
    typed = pyinfra_command(target, ["-y"], ("mta",), "docker")
    assert (
        " ".join(typed) == "pyinfra inventory/lab/docker.py deploy.py -y --limit @container/outpost-two-mta"
    )
    assert target.environment["OUTPOST_LAB"] == "two"


def test_pyinfras_log_becomes_the_state_of_each_host() -> None:
    follower = Follower("@container/outpost-lab-")
    for line in TRANSCRIPT.splitlines():
        follower.feed(line)
    assert sorted(follower.hosts) == ["mta", "ns1", "store"]
    assert follower.hosts["mta"].changed == 1
    assert follower.hosts["ns1"].failed == "No such container: outpost-lab-ns1"
    assert follower.hosts["store"].failed == "store | dovecot"
    assert list(follower.hosts["store"].lines) == ["doveconf: Fatal: Unknown setting: mail_locatoin"]
    assert "    +smtpd_tls_security_level = may" in follower.details
    assert follower.stage == "Results:"


def test_a_line_of_a_file_in_brackets_is_no_host() -> None:
    """In a diff, lines of both files have no sign before them."""
    follower = Follower("@container/outpost-lab-")
    for line in TRANSCRIPT.replace(
        "        +smtpd", '         [ -n "$put" ] || exit\n        +smtpd'
    ).splitlines():
        follower.feed(line)
    assert set(follower.hosts) == {"mta", "ns1", "store"}
    assert '     [ -n "$put" ] || exit' in follower.details


def test_a_host_that_leaves_a_question_of_pyinfras_unanswered_has_failed_and_says_at_what() -> None:
    follower = Follower("@container/outpost-lab-")
    for line in UNANSWERED.splitlines():
        follower.feed(line)
    assert follower.hosts["webmail"].failed == "webmail | account roundcube"
    assert list(follower.hosts["webmail"].lines) == ["Error: could not load fact: server.Users ()"]


def test_plain_progress_names_what_changed_and_what_failed(capsys: pytest.CaptureFixture[str]) -> None:
    follower = Follower("@container/outpost-lab-")
    lines = progress.Lines()
    lines.start("pyinfra …", follower)
    for line in TRANSCRIPT.splitlines():
        follower.feed(line)
        lines.tick()
    lines.stop()
    shown = capsys.readouterr().err
    assert "mta | postfix: changed on mta\n" in shown
    assert "store | dovecot: FAILED on store\n" in shown


@pytest.mark.parametrize(
    ("changes", "failed", "code"),
    [((), {}, 0), ((Change("mta", "mta | postfix"),), {}, 2), ((), {"mta": "no route"}, 1)],
)
def test_plan_distinguishes_drift_from_failure_by_its_exit_code(
    changes: tuple[Change, ...],
    failed: dict[str, str],
    code: int,
    office_directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    outcome = Outcome(("mta",), changes, failed, (), 1.0)
    monkeypatch.setattr("outpost.engine.run.plan", lambda *_, **__: outcome)
    assert run("plan", str(office_directory), "--json") == code
    data = json.loads(capsys.readouterr().out)
    assert data["clean"] is (code == 0)
    assert len(data["hosts"]["mta"]["changes"]) == len(changes)
    assert run("plan", str(office_directory)) == code


def test_a_plan_shows_once_what_all_hosts_have(
    office_directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Five hosts from one image need one decision and one entry in the office file."""
    names = [host.name for host in load(office_directory).hosts]

    def finding(host: str, thing: str) -> dict[str, Any]:
        remedy = f"Remedy: put `package {thing}` into hosts.{host}.accepted of the office file, or into hosts.{host}.refused to have it removed"
        return {"host": host, "kind": "package", "thing": thing, "cause": "unknown", "consequence": remedy, "controls": [], "diff": []}  # fmt: skip

    findings = [
        *(finding(name, "rsyslog") for name in names),
        finding("ns1", "nano"),
        *(finding(name, "vim") for name in ("ns1", "ns2")),
    ]
    outcome = Outcome(tuple(names), (), {}, (), 1.0, tuple(findings))
    monkeypatch.setattr("outpost.engine.run.plan", lambda *_, **__: outcome)
    assert run("plan", str(office_directory)) == 2
    shown = " ".join(capsys.readouterr().out.split())
    assert shown.count("package rsyslog:") == 1
    assert f"{', '.join(names)} package rsyslog" in shown
    assert (
        "put `package rsyslog` into maintenance.accepted of the office file, or into hosts.HOST.refused"
        in shown
    )
    assert "put `package nano` into hosts.ns1.accepted" in shown
    assert (
        "ns1, ns2 package vim: unknown consequence: Remedy: put `package vim` into hosts.HOST.accepted"
        in shown
    )


def test_limit_takes_hosts_and_roles_and_refuses_others(
    office_directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    limits: list[tuple[str, ...]] = []

    def plan(_target: Target, *, limit: tuple[str, ...], **_: object) -> Outcome:
        limits.append(limit)
        return Outcome((), (), {}, (), 0.0)

    monkeypatch.setattr("outpost.engine.run.plan", plan)
    assert run("plan", str(office_directory), "--limit", "dns", "--limit", "m*") == 0
    assert limits == [("ns1", "ns2", "mta")]
    assert run("plan", str(office_directory), "--limit", "mtta") == 1
    assert "names no host or role" in capsys.readouterr().err


def test_secrets_init_makes_what_is_missing_and_shows_nothing_secret(
    office_directory: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    identity, passwords = tmp_path / "keys" / "identity.txt", tmp_path / "passwords.txt"
    monkeypatch.setenv("OUTPOST_IDENTITY", str(identity))
    before = (office_directory / "office.toml").read_text()
    assert run("secrets", "init", str(office_directory), "--passwords", str(passwords)) == 0
    shown = capsys.readouterr()

    assert identity.stat().st_mode & 0o777 == 0o600
    assert passwords.stat().st_mode & 0o777 == 0o600
    office = load(office_directory)
    kept = secrets_file.read(office_directory)
    assert set(kept.passwords) == set(office.mailboxes)
    first = dict(line.split() for line in passwords.read_text().splitlines())
    assert set(first) == set(office.mailboxes)
    for secret in (*first.values(), "AGE-SECRET-KEY", "PRIVATE KEY", kept.webmail_key.get_secret_value()):
        assert secret not in shown.out + shown.err
    assert before.splitlines()[0] in (office_directory / "office.toml").read_text()  # comments survive

    assert run("secrets", "init", str(office_directory)) == 0
    assert "has everything" in capsys.readouterr().out
    assert secrets_file.read(office_directory) == kept


def test_a_path_and_a_name_find_the_same_office(office_directory: Path) -> None:
    assert find(str(office_directory)) == find(str(office_directory / "office.toml"))
    with pytest.raises(OutpostError, match="is not a lab"):
        find(str(office_directory), "two")


def test_a_tests_name_reads_as_its_promise() -> None:
    assert (
        sentence("tests/live/test_mta.py::test_stranger_cannot_relay[mta]") == "stranger cannot relay (mta)"
    )


def test_verification_reports_promise_and_observation(tmp_path: Path) -> None:
    """The plugin inside pytest: one line of JSON per check, also when workers share the work."""
    (tmp_path / "test_it.py").write_text(
        textwrap.dedent(
            '''
            import pytest

            @pytest.mark.control("REL-01")
            def test_refusal():
                """A stranger is refused."""
                assert "250" == "554", "the server said 250"

            @pytest.mark.parametrize("port", ["25", "TLS-1.3"])
            def test_two_names_answer(port):
                pass
            '''
        )
    )
    for workers in ([], ["-n", "2"]):
        read, write = os.pipe()
        subprocess.run(
            [
                sys.executable, "-m", "pytest", str(tmp_path), "-q", "-p", "outpost.verification.live",
                "--events-fd", str(write), "-p", "no:cacheprovider", "--rootdir", str(tmp_path), "-c", "/dev/null", *workers,
            ],
            pass_fds=(write,), capture_output=True, check=False, cwd=tmp_path, env=ENVIRONMENT,
        )  # fmt: skip
        os.close(write)
        with os.fdopen(read) as pipe:
            events = [json.loads(line) for line in pipe]
        assert {event["total"] for event in events if event["event"] == "collected"} == {3}
        results = {event["promise"]: event for event in events if event["event"] == "result"}
        assert set(results) == {
            "A stranger is refused",
            "two names answer (25)",
            "two names answer (TLS-1.3)",
        }
        failed = results["A stranger is refused"]
        assert failed["outcome"] == "failed"
        assert failed["controls"] == ["REL-01"]
        assert failed["host"] == ""
        assert "the server said 250" in failed["seen"]


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_a_file_of_checks_that_cannot_be_read_is_a_failure(tmp_path: Path, workers: tuple[str, ...]) -> None:
    (tmp_path / "test_good.py").write_text("def test_it_holds(): pass\n")
    (tmp_path / "test_bad.py").write_text("from nowhere import nothing\n")
    read, write = os.pipe()
    subprocess.run(
        [
            sys.executable, "-m", "pytest", str(tmp_path), "-q", "-p", "outpost.verification.live", "--events-fd", str(write),
            "-p", "no:cacheprovider", "--rootdir", str(tmp_path), "-c", "/dev/null", *workers,
        ],
        pass_fds=(write,), capture_output=True, check=False, cwd=tmp_path, env=ENVIRONMENT,
    )  # fmt: skip
    os.close(write)
    with os.fdopen(read) as pipe:
        results = [event for event in map(json.loads, pipe) if event["event"] == "result"]
    failed = [event for event in results if event["outcome"] == "failed"]
    assert [event["promise"] for event in failed] == ["the checks of test_bad.py can run"]
    assert "nowhere" in failed[0]["seen"]


@pytest.mark.skipif(shutil.which("bash") is None, reason="shell completion is tried with bash")
def test_commands_complete_in_the_shell() -> None:
    environment = ENVIRONMENT | {
        "_OUTPOST_COMPLETE": "complete_bash",
        "COMP_WORDS": "outpost ch",
        "COMP_CWORD": "1",
    }
    result = subprocess.run(
        [sys.executable, "-m", "outpost"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert "check" in result.stdout


def test_the_suite_counts_every_stage_and_ends_with_the_totals(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "test_one.py").write_text("def test_good():\n    pass\n\ndef test_bad():\n    assert False\n")
    monkeypatch.setattr(suite, "RUFF", (("compileall", "-q", str(tmp_path)),))
    monkeypatch.setattr(suite, "MYPY", (("no_such_tool",),))
    one = suite.Suite.pytest
    monkeypatch.setattr(
        suite.Suite,
        "pytest",
        lambda self, stage, *_: one(self, stage, str(tmp_path), "-p", "no:cacheprovider"),
    )
    assert run("test", "--fast") == 1
    shown = capfd.readouterr().out
    assert shown.splitlines()[-1] == "2 passed, 2 failed, 0 skipped"
    assert "FAILED   unit" in shown
    assert "1 failed, 1 passed in" in shown  # pytest's own closing line


@pytest.mark.parametrize(
    ("tests", "last", "message"),
    [
        (
            {"test_bad": "marker.exists()"},
            "2 passed, 0 failed, 0 skipped",
            "unsteady: test_bad failed, and passed",
        ),
        ({"test_bad": "False"}, "1 passed, 1 failed, 0 skipped", "FAILED   live"),
        (
            {f"test_{number}": "marker.exists()" for number in range(3)},
            "1 passed, 3 failed, 0 skipped",
            "FAILED   live",
        ),
    ],
)
def test_a_test_in_the_lab_is_repeated_once_and_called_unsteady(
    tests: dict[str, str],
    last: str,
    message: str,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    """A test that fails twice has failed. If more than two fail, none is repeated."""
    (tmp_path / "conftest.py").write_text("def pytest_addoption(parser):\n    parser.addoption('--name')\n")
    body = "import pathlib\nmarker = pathlib.Path(__file__).with_name('marker')\ndef test_good():\n    pass\n"
    for name, holds in tests.items():
        body += f"def {name}():\n    holds = {holds}\n    marker.touch()\n    assert holds\n"
    if len(tests) > 1:
        body += "import atexit\n"
        body = body.replace("    marker.touch()\n", "    atexit.register(marker.touch)\n")
    (tmp_path / "test_one.py").write_text(body)
    one = suite.Suite(
        yes=False, keep=True, arguments=["-o", f"cache_dir={tmp_path}/cache", f"--rootdir={tmp_path}"]
    )
    one.lab_runs = True
    stage = suite.Stage("live", "")
    one.in_lab(stage, str(tmp_path), *suite.NAMED)
    suite._report([stage], 0, fast=False)
    shown = capfd.readouterr().out
    assert shown.splitlines()[-1] == last
    assert message in shown


@pytest.mark.parametrize(
    ("runs", "shown"), [(True, "a site of its own\n"), (False, "not run: there is no lab")]
)
def test_other_offices_are_brought_up_beside_another_stage(
    runs: bool,
    shown: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    """Their output is printed at their end. Without a lab they do not run."""
    begun, other_ended = tmp_path / "begun", tmp_path / "ended"
    script = f"touch {begun}; until [ -e {other_ended} ]; do sleep 0.01; done; echo a site of its own"
    one = suite.Suite(yes=False, keep=False, arguments=[])
    one.lab_runs = runs

    def stands_in(self: suite.Suite, stage: suite.Stage, *_: str) -> None:
        stage.ran = self._run("sh", "-c", script) == 0

    monkeypatch.setattr(suite.Suite, "in_lab", stands_in)
    stage = suite.Stage("strangers", "")
    one.strangers_start(stage)
    if runs:
        until(begun.exists, "the stage has begun", seconds=20)
    sys.stdout.write("the other stage\n")
    sys.stdout.flush()
    other_ended.touch()
    one.strangers_end(stage)
    sys.stdout.flush()
    printed = capfdbinary.readouterr().out.decode()
    assert printed.index("the other stage") < printed.index(shown)
    assert stage.ran == runs


def test_a_failure_of_docker_is_reported_with_a_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(_name: str) -> None:
        raise APIError("500", explanation="no space left on device")

    monkeypatch.setattr(Instance, "load", fails)
    assert cli.run(["lab", "info"]) == 1
    assert (
        "outpost: Docker: no space left on device. Remedy: run the command again" in capsys.readouterr().err
    )
