"""A host counts as unchanged only if it now gives the same answer to the same question for the same declaration."""

from __future__ import annotations

import hashlib
import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from outpost import office
from outpost.cli import app
from outpost.converge.observation import Asking, Survey
from outpost.engine import run, unchanged
from outpost.office import load
from outpost.onhost.observe import KEY
from outpost.target import INVENTORY, ROOT, Target
from outpost.transport.answers import as_argument

SHELL = ["sh", "-s"]


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Target:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(unchanged, "CODE", ("deploy.py",))
    monkeypatch.setattr(unchanged, "KEPT", str(tmp_path / "run"))
    directory = tmp_path / "office"
    directory.mkdir()
    (directory / "office.toml").write_text("")
    (directory / "ssh.py").write_text("")
    return Target("office", directory, directory)


@pytest.fixture
def remember(target: Target, tmp_path: Path) -> Callable[..., None]:
    """Two hosts, of which one shows the content of a file."""
    shown = tmp_path / "shown"
    shown.write_text("as declared\n")

    def remember(*names: str) -> None:
        digest = hashlib.sha256(shown.read_bytes()).hexdigest()
        surveys: dict[str, unchanged.Survey | None] = {"mta": None, "store": None}
        surveys |= {
            name: unchanged.Survey(name, name, SHELL, f"cat {shown}", digest, "key")
            for name in names or ("mta", "store")
        }
        unchanged.remember(target, None, surveys, of=2)

    return remember


def printed(target: Target, *limit: str) -> tuple[str, ...] | None:
    state = unchanged.ask(target, None, limit)
    return state.as_declared() if state else None


def test_hosts_that_answer_as_before_are_as_declared(target: Target, remember: Callable[..., None]) -> None:
    assert printed(target) is None
    remember()
    assert printed(target) == ("mta", "store")
    assert printed(target, "store") == ("store",)


def test_another_answer_is_compared_in_full(
    target: Target, remember: Callable[..., None], tmp_path: Path
) -> None:
    remember()
    (tmp_path / "shown").write_text("changed by hand\n")
    assert printed(target) is None


def test_another_declaration_is_compared_in_full(target: Target, remember: Callable[..., None]) -> None:
    remember()
    target.office_file.write_text("# another\n")
    assert printed(target) is None


def test_a_host_without_a_cache_is_compared_in_full(target: Target, remember: Callable[..., None]) -> None:
    remember("mta")
    assert printed(target) is None
    assert printed(target, "mta") == ("mta",)
    assert printed(target, "mta", "webmail") is None


def test_a_host_that_does_not_answer_is_compared_in_full(
    target: Target,
) -> None:
    survey = unchanged.Survey("mta", "mta", ["false", "-s"], "true", "", "")
    unchanged.remember(target, None, {"mta": survey}, of=1)
    assert printed(target) is None


def test_after_a_day_everything_is_compared_in_full(
    target: Target, remember: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    remember()
    monkeypatch.setattr(unchanged, "DAY", 0.0)
    assert printed(target) is None


def test_a_plan_that_found_a_difference_is_not_remembered(
    target: Target, remember: Callable[..., None]
) -> None:
    remember()
    unchanged.forget(target, None)
    assert printed(target) is None


def test_a_question_is_sent_once_and_known_by_its_digest_from_then_on(
    target: Target, remember: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remember()
    assert printed(target)
    monkeypatch.setattr(unchanged, "_telling", None)
    assert printed(target)
    (tmp_path / "shown").write_text("changed by hand\n")
    assert printed(target) is None


def test_an_answer_to_a_question_that_was_changed_on_the_host_counts_for_nothing(
    target: Target, remember: Callable[..., None], tmp_path: Path
) -> None:
    remember()
    assert printed(target)
    (kept,) = (tmp_path / "run").glob("survey-*")
    question, before = kept.read_text(), (tmp_path / "shown").read_text()
    (tmp_path / "shown").write_text("changed by hand\n")
    kept.write_text(f"printf {shlex.quote(before)}\n")
    assert printed(target) is None
    assert kept.read_text() == question


def test_over_ssh_a_question_needs_no_standard_input() -> None:
    assert as_argument(["docker", "exec", "x", "sh", "-s"], "a 'b'") == [
        "docker",
        "exec",
        "x",
        "sh",
        "-c",
        "a 'b'",
    ]
    assert as_argument(["ssh", "x", "sudo -n sh -s"], "a 'b'") == [
        "ssh",
        "x",
        "sudo -n sh -c 'a '\"'\"'b'\"'\"''",
    ]


@pytest.mark.parametrize("options", [("-y",), ("--yes", "--limit", "mta", "--limit=store")])
def test_nothing_to_change_is_reported_without_a_plan(
    target: Target,
    remember: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
) -> None:
    remember()
    assert app.run(["apply", str(target.directory), *options]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[:2] == ["mta: as declared", "store: as declared"]
    assert printed[2].startswith("office: nothing to change (")
    assert app.run(["plan", str(target.directory), *options[1:], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["clean"] is True


@pytest.mark.parametrize("words", [("--refresh",), ()])
def test_a_host_that_differs_or_refresh_means_a_plan(
    target: Target,
    remember: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
) -> None:
    planned = run.Outcome(("mta",), (run.Change("mta", "x"),), {}, (), 1.0)
    monkeypatch.setattr(run, "plan", lambda *_, **__: planned)
    monkeypatch.setattr(office, "load", lambda _directory: load(INVENTORY / "harbour"))
    remember()
    if not words:
        (tmp_path / "shown").write_text("otherwise\n")
    assert app.run(["plan", str(target.directory), *words, "--json"]) == 2


def test_the_hosts_are_asked_before_what_shows_their_answer_is_loaded() -> None:
    """The budget of processor time for a no-op (docs/adr/0014)."""
    program = (
        "import sys\nfrom outpost.engine import unchanged\n"
        "unchanged.ask = lambda *_: sys.exit(not {'rich.console', 'cryptography', 'pyrage', 'outpost.office'} & {*sys.modules} or 3)\n"
        "from outpost.cli.app import run\nrun(['plan', 'harbour'])"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 1


def test_no_command_line_carries_what_seals_a_hosts_state(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where the administrator has sudo, it writes each command line into the host's journal."""
    monkeypatch.setattr(unchanged, "KEPT", str(tmp_path / "kept"))
    question = Path(unchanged._file_of("question"))
    question.parent.mkdir()
    question.write_text(script := f'echo "${KEY}" >>{tmp_path}/seen')
    started: list[list[str]] = []
    popen = subprocess.Popen

    def start(command: list[str], **options: Any) -> Any:
        started.append(command)
        return popen(command, **options)

    monkeypatch.setattr(subprocess, "Popen", start)
    key = "of nobody else"
    entry = {"shell": ["sh", "-s"], "question": "question", "command": script}
    unchanged._asked(entry | {"key": key})
    unchanged._stored(entry | {"key": shlex.quote(key)})
    assert (tmp_path / "seen").read_text() == f"{key}\n" * 2
    assert len(started) == 2
    assert key not in str(started)
    command = Survey().command(Asking(questions={f"echo ${KEY}": False}), sealed=True)
    assert (
        key
        in subprocess.run(
            ["sh", "-c", command], input=f"{key}\n", capture_output=True, text=True, check=False
        ).stdout
    )
