"""An answer from a host is used as a whole or not at all."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pyinfra.api.exceptions import FactProcessError, OperationError
from pyinfra.context import ctx_state

from outpost.converge import drift as converge_drift
from outpost.converge import observation
from outpost.converge.observation import END, PART, Answer, Asking, Survey
from outpost.drift.findings import BLIND
from outpost.evidence.reference import case_study
from outpost.transport import ssh


class Planning:
    """The part of pyinfra's state that an observation uses."""

    is_executing = False


def survey(
    paths: tuple[str, ...] = (), units: tuple[str, ...] = (), questions: tuple[str, ...] = ()
) -> Survey:
    fact = Survey()
    fact.command(Asking(dict.fromkeys(paths), dict.fromkeys(units), dict.fromkeys(questions, False)))
    return fact


def answered(fact: Survey, *lines: str) -> Answer:
    with ctx_state.use(Planning()):
        return fact.process(lines)


def parts(*answers: str, active: str = "", enabled: str = "") -> list[str]:
    """The lines of a complete answer about units and questions, from a host without observer."""
    rest = (line for part in ("", "", "", enabled, *answers) for line in (PART, *part.splitlines(), ""))
    return [PART, "", *active.splitlines(), "", *rest]


def test_an_empty_answer_is_not_an_empty_host() -> None:
    with pytest.raises(FactProcessError, match="cut off"):
        answered(survey(paths=("/etc/motd",)))


def test_an_answer_that_was_cut_off_is_refused() -> None:
    with pytest.raises(FactProcessError, match="cut off"):
        answered(survey(paths=("/etc/motd",)), PART, "644 root root regular file|/etc/motd")


def test_an_answer_that_lacks_a_part_is_refused() -> None:
    with pytest.raises(FactProcessError, match="cut off"):
        answered(survey(questions=("first", "second")), *parts("one"), END)


BROKEN = "echo; printf 'no end'"


class Host:
    """An observer that answers, or does not."""

    errors = ""

    @property
    def data(self) -> Any:
        """Like pyinfra's host data: it has `get`, and attributes."""
        mta = case_study().with_role("mta")[0].name
        found = {
            "machine": mta,
            "secrets": SimpleNamespace(seal_of=str),
            "office": case_study(),
            "_sudo": True,
            "openssh_config": "/c",
        }
        return SimpleNamespace(**found, get=found.get)

    def __init__(self, *answers: Answer | None) -> None:
        self.answers = list(answers)

    def get_fact(self, *_: object, **__: object) -> Answer | None:
        return self.answers.pop(0)

    def run_shell_command(self, command: str, *, _sudo: bool) -> tuple[bool, SimpleNamespace]:
        assert (command, _sudo) == ("true\ntrue", True), "csh reads no command of two lines"
        return not self.errors, SimpleNamespace(stderr=self.errors)


def test_a_host_whose_answer_got_lost_is_asked_again_and_one_that_never_answers_is_no_empty_host(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    answer = answered(survey(questions=("who",)), *parts("root"), END)
    monkeypatch.setattr(observation, "host", Host(None, None, answer))
    assert observation.read_now("who") == ("root",)
    monkeypatch.setattr(observation, "host", Host(None, None, None, answer))
    with pytest.raises(OperationError, match="did not answer 3 times"):
        observation.read_now("who")


def test_a_host_that_carries_out_no_command_says_why_and_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    host = Host(None, None, None)
    host.errors = "Remedy: trust me\nsudo: sorry, you must have a tty to run sudo"
    monkeypatch.setattr(observation, "host", host)
    monkeypatch.setattr(host, "name", "mta", raising=False)
    renewed: list[tuple[str, str]] = []
    monkeypatch.setattr(ssh, "stop", lambda *connection: renewed.append(connection))
    with pytest.raises(observation.NoAnswerError) as raised:
        observation.read_now("who")
    why = observation.unread(raised.value)
    assert why.startswith(
        "sudo wants a terminal there (requiretty). Remedy: run echo 'Defaults:root !requiretty'"
    )
    assert "trust me" not in why
    assert renewed == [("/c", "mta")], "sshd keeps the login shell of the account for the connection"


def test_units_are_distinguished_by_their_order_even_when_one_is_unknown() -> None:
    fact = survey(units=("a.service", "unknown.service", "b.service"))
    lines = parts(active="active\ninactive\nfailed", enabled="enabled\nnot-found\ndisabled")
    units = answered(fact, *lines, END).units
    assert units == {
        "a.service": ("active", "enabled"),
        "unknown.service": ("inactive", "not-found"),
        "b.service": ("failed", "disabled"),
    }


def test_an_answer_about_fewer_units_than_asked_is_refused() -> None:
    with pytest.raises(FactProcessError, match="does not match"):
        answered(
            survey(units=("a.service", "b.service")), *parts(active="active", enabled="enabled\nenabled"), END
        )


def test_replies_belong_to_their_questions() -> None:
    fact = survey(questions=("first", "second"))
    lines = answered(fact, *parts("one", "two\nthree words here"), END).lines
    assert lines == {"first": ("one",), "second": ("two", "three words here")}


def test_the_command_sees_files_directories_and_answers_as_they_are(tmp_path: Path) -> None:
    """The shell command itself, run here: odd names, missing paths, a question whose command fails."""
    odd = tmp_path / "with space and 'quote'"
    odd.write_text("content")
    odd.chmod(0o640)
    paths = (str(odd), str(tmp_path), str(tmp_path / "missing"))
    fact = Survey()
    questions = ("exit 3", "echo yes; false", "cat /nonexistent", BROKEN)
    of_files = {question: question in ("echo yes; false", BROKEN) for question in questions}
    command = fact.command(Asking(dict.fromkeys(paths), questions=of_files))
    output = subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, check=False
    ).stdout.splitlines()
    answer = answered(fact, *output)
    assert answer.files[str(odd)][0] == "640"
    assert answer.files[str(odd)][3] == "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73"
    assert answer.files[str(tmp_path)][3] == "directory"
    assert str(tmp_path / "missing") not in answer.files
    assert answer.lines == {
        "echo yes; false": ("yes",),
        "exit 3": (),
        "cat /nonexistent": (),
        BROKEN: ("", "no end"),
    }


SEEN = r'{"appeared": ["file\t/etc/cron.d/x\t"]}'
OBSERVERS = {
    "none": ("", ""),
    "the present one": ("cat seen; printf 'active\\n\\n'; sh -c \"$3\"; echo surveyed", SEEN),
    "an older one": ("cat seen", SEEN),
    "one that fails": ("echo Traceback >&2; exit 1", ""),
}


@pytest.mark.parametrize("observer", OBSERVERS)
def test_a_survey_is_whole_with_any_observer(
    observer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, observed = OBSERVERS[observer]
    (tmp_path / "seen").write_text(f"{SEEN}\n")
    file = tmp_path / "observe"
    if script:
        file.write_text(f"#!/bin/sh\ncd {tmp_path}\n{script}\n")
        file.chmod(0o755)
    systemctl = tmp_path / "systemctl"
    systemctl.write_text("#!/bin/sh\n[ $1 = is-active ] && echo active || echo enabled\n")
    systemctl.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(observation, "OBSERVER", str(file))
    monkeypatch.setattr(observation, "KNOWN", tmp_path / "known")
    fact = Survey()
    command = fact.command(
        Asking({str(tmp_path): None}, {"a.service": None}, {"echo two": False, "echo one": True}, local=())
    )

    def surveyed() -> Answer:
        output = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False).stdout
        return answered(fact, *output.splitlines())

    answer = surveyed()
    assert answer.observed == observed
    assert answer.units == {"a.service": ("active", "enabled")}
    assert answer.files[str(tmp_path)][3] == "directory"
    assert answer.lines == {"echo one": ("one",), "echo two": ("two",)}
    if not observed:
        (tmp_path / "known").touch()
        assert surveyed().observed == BLIND


def test_what_the_replaced_observer_named_stays_drift(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a new observer all that is not known was there before it; its predecessor knew better."""
    drift, other = "file\t/etc/cron.d/evil\taa", "file\t/etc/cron.d/before\tbb"
    answer = {
        "first": False,
        "unfinished": False,
        "news": True,
        "learned": [],
        "appeared": [],
        "vanished": [],
        "faults": [],
        "found": [drift, other],
    }
    monkeypatch.setattr(converge_drift, "read_now", lambda _: (json.dumps(answer),))
    monkeypatch.setattr(converge_drift, "_observer", str)
    monkeypatch.setattr(
        converge_drift, "run", lambda: SimpleNamespace(drift=frozenset({drift, "file\t/gone\tcc"}))
    )
    seen = converge_drift._now()
    assert (set(seen.appeared), set(seen.found)) == ({drift}, {other})
