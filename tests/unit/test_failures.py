"""Which failed operation ends a host's run, and which does not."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Generator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pyinfra.context import ctx_host

from outpost.converge import failures, observation
from outpost.converge.declaration import Declaration
from outpost.converge.files import shell
from outpost.converge.operations import HELD
from outpost.engine.follower import Follower
from outpost.engine.run import _last, _outcome
from outpost.errors import OutpostError
from outpost.templates import TemplateMistakeError


class Host:
    """The parts of pyinfra that a failure uses."""

    def __init__(self, *, reached: bool) -> None:
        self.reached = reached
        self.data = {"_sudo": True}

    def run_shell_command(self, _command: str, _sudo: bool) -> tuple[bool, None]:
        return self.reached, None


@pytest.mark.parametrize(
    ("reached", "vital", "stderr", "ends"),
    [
        (True, False, "bad permissions", False),
        (False, False, "bad permissions", True),
        (True, True, "no packages", True),
        (True, False, HELD, True),
    ],
)
def test_a_failed_operation_ends_a_run_only_where_nothing_may_follow(
    monkeypatch: pytest.MonkeyPatch, reached: bool, vital: bool, stderr: str, ends: bool
) -> None:
    host: Any = Host(reached=reached)
    with ctx_host.use(host):
        observation.begin(Declaration(()))
        observation.run().vital = vital
    monkeypatch.setattr(failures, "_failed", lambda *_: SimpleNamespace(stderr=stderr))
    assert failures._ends(SimpleNamespace(), host, "x") is ends  # type: ignore[arg-type]


def test_after_an_operation_that_succeeded_no_later_failure_counts_as_vital(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    host: Any = Host(reached=True)
    with ctx_host.use(host):
        observation.begin(Declaration(()))
        observation.run().vital = True
    answers = iter((None, SimpleNamespace(stderr="")))
    monkeypatch.setattr(failures, "_failed", lambda *_: next(answers))
    assert [failures._ends(SimpleNamespace(), host, "x") for _ in range(2)] == [False, False]  # type: ignore[arg-type]


def test_everything_that_was_not_done_is_in_the_reason_of_a_failed_host() -> None:
    follower = Follower()
    for line in (
        "--> Starting operation: base | sshd",
        "    [ns2] /etc/ssh/x line 1: Bad configuration option: nonsense",
        "    [ns2] Error (ignored): executed 0 commands",
        "--> Starting operation: base | chrony",
        "    [ns2] Success",
        "--> Starting operation: known state",
        "    [ns2] not done: base | sshd: terminating. Remedy: correct it",
        "    [ns2] not repaired: file /etc/x: edited by hand. Remedy: do it",
        "    [ns2] Error: executed 0 commands",
    ):
        follower.feed(line)
    host = follower.hosts["ns2"]
    assert host.troubled == "base | sshd"
    assert host.failed == "known state"
    assert _last(host).splitlines() == [
        "not done: base | sshd: terminating. Remedy: correct it",
        "not repaired: file /etc/x: edited by hand. Remedy: do it",
    ]


# Answers that nobody expected -------------------------------------------------------------------------------------


def test_an_answer_that_nobody_expected_ends_the_run_of_its_host_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    host: Any = Host(reached=True)
    host.print_prefix = "[mta] "
    ended: list[Any] = []
    monkeypatch.setattr(failures, "state", SimpleNamespace(fail_hosts=ended.extend))
    result: dict[str, Any] = {}
    with ctx_host.use(host), failures.contained():
        result["unfinished"]
    assert ended == [host]


@pytest.mark.parametrize("mistake", [OutpostError("no"), TemplateMistakeError("x.j2:1", "no")])
def test_a_mistake_of_the_office_or_its_templates_ends_all(mistake: Exception) -> None:
    with pytest.raises(type(mistake)), failures.contained():
        raise mistake


@pytest.mark.parametrize("executing", [False, True])
def test_an_operation_that_cannot_read_an_answer_fails_by_itself(
    monkeypatch: pytest.MonkeyPatch, executing: bool
) -> None:
    monkeypatch.setattr(observation, "pyinfra_operation", lambda: lambda function: function)
    monkeypatch.setattr(observation, "state", SimpleNamespace(is_executing=executing))

    @observation.operation()
    def broken() -> Generator[str, None, None]:
        yield "first"
        raise IndexError("it's \x1b[2K")

    steps = broken()
    assert next(steps) == "first"
    if not executing:
        with pytest.raises(IndexError):
            next(steps)
        return
    done = subprocess.run(["sh", "-c", str(next(steps))], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (
        1,
        "it gave an answer that cannot be read (IndexError: it's \\x1b[2K)\n",
    )
    assert next(steps, None) is None


@pytest.mark.parametrize(("refused", "attempts", "code"), [(0, 1, 0), (3, 4, 0), (9, 4, 1)])
def test_package_lists_that_a_proxy_refuses_are_asked_for_again_and_not_for_ever(
    tmp_path: Path, refused: int, attempts: int, code: int
) -> None:
    programs = {"apt-get": f"echo >> asked; [ $(wc -l < asked) -gt {refused} ] || exit 100", "sleep": ""}
    for name, does in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{does}\n", encoding="ascii")
        (tmp_path / name).chmod(0o755)
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    script = shell("packages", missing=[], preseed=[], UPGRADES_WAIT="", PACKAGES="", APT="")
    (lists,) = (line for line in script.splitlines() if "apt-get" in line)
    done = subprocess.run(
        ["sh", "-ec", f"{lists}; echo on"],
        cwd=tmp_path,
        env=path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (code, "" if code else "on\n")
    assert len((tmp_path / "asked").read_text().splitlines()) == attempts


PACKAGES = (
    "    [ns1] Connected",
    "--> Beginning operation run...",
    "--> Starting operation: base | packages",
    "    [ns1] E: Unable to locate package knot",
    "    [ns1] Error (ignored): executed 0 commands",
)


def test_a_host_that_ends_the_run_is_named_with_its_operation_and_its_words() -> None:
    """pyinfra itself only says that no host is left."""
    follower = Follower()
    for line in (*PACKAGES, "--> pyinfra error in /x/failures.py line 55: No hosts remaining!"):
        follower.feed(line)
    with pytest.raises(OutpostError) as caught:
        _outcome(b"", follower, 1, 1.0, "read the log")
    assert caught.value.message == "ns1: base | packages: E: Unable to locate package knot"


def test_a_host_whose_run_ended_beside_others_is_named_in_the_same_words() -> None:
    follower = Follower()
    for line in (
        "    [ns2] Connected",
        *PACKAGES,
        "    [ns2] Success",
        "--> Starting operation: base | clock",
        "    [ns2] Success",
    ):
        follower.feed(line)
    result = b'{"results": {"operations": [], "failed_hosts": ["ns1"]}}'
    failed = _outcome(result, follower, 1, 1.0, "read the log").failed
    assert failed == {"ns1": "base | packages: E: Unable to locate package knot"}


@pytest.mark.parametrize(
    "printed",
    ["Connection to 10.79.4.31 port 22 timed out\\x0d", "Timeout, server 10.79.4.31 not responding."],
)
def test_a_host_that_dies_in_the_middle_has_a_remedy(printed: str) -> None:
    follower = Follower()
    for line in (
        "    [ns1] Connected",
        "--> Starting operation: base | sysctl",
        f"    [ns1] {printed}",
        "    [ns1] Error (ignored): executed 0/1 commands",
    ):
        follower.feed(line)
    result = b'{"results": {"operations": [], "failed_hosts": ["ns1"]}}'
    (why,) = _outcome(result, follower, 1, 1.0, "read the log").failed.values()
    assert why.startswith("base | sysctl: it does not answer any more. Remedy: check its console")
    assert "x0d" not in why


@pytest.mark.parametrize(
    ("output", "code", "how"),
    [(b"Exiting upon user request!\n", 0, "was interrupted"), (b"", 3, "stopped with exit code 3")],
)
def test_a_stop_without_a_reason_says_during_which_operation(output: bytes, code: int, how: str) -> None:
    """`Success` belongs to the operation before, and is not the reason."""
    follower = Follower()
    for line in (
        "    [ns1] Connected",
        "    [ns2] Connected",
        "--> Starting operation: base | packages",
        "    [ns1] Success",
        "    [ns2] Success",
        "--> Starting operation: base | /etc/knot/knot.conf",
        "    [ns2] reading zone",
        "    [ns1] Success",
    ):
        follower.feed(line)
    with pytest.raises(OutpostError) as caught:
        _outcome(output, follower, code, 1.0, "read the log")
    expected = 'ns2 had not finished it, and printed last: "reading zone"'
    assert (
        caught.value.message == f"pyinfra {how} during the operation base | /etc/knot/knot.conf; {expected}"
    )
