"""Commands in containers: only a command that never began is started again."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pyinfra.api.command import StringCommand

from outpost.office.load import load
from outpost.target import INVENTORY, Target
from outpost.transport import connector
from outpost.transport.connector import REFUSED, BoundedConnector, ContainerConnector, OpenSSHConnector
from outpost.transport.remote import shell_command

SLIP = "OCI runtime exec failed: exec failed: unable to start container process: read init-p: connection reset by peer"


def of(
    kind: type[BoundedConnector], program: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> BoundedConnector:
    """A connector whose program is a script."""
    script = path / ("docker" if kind is ContainerConnector else "ssh")
    script.write_text(f"#!/bin/sh\n{program}\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(path), prepend=":")
    made = kind.__new__(kind)
    data = SimpleNamespace(docker_identifier="mta", openssh_config="none")
    host: Any = SimpleNamespace(
        name="mta", data=data, print_prefix="", connector_data={}, get_temp_dir_config=lambda: "/tmp"
    )
    made.state, made.host = SimpleNamespace(), host  # type: ignore[assignment]
    return made


@pytest.mark.parametrize("stream", [1, 2])
@pytest.mark.parametrize(
    ("errors", "good", "runs"),
    [
        ([SLIP, ""], True, 2),
        ([SLIP, SLIP, SLIP, ""], False, 3),
        (["doveconf: Fatal: Unknown setting", ""], False, 1),
    ],
)
def test_only_what_has_not_begun_is_started_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, errors: list[str], good: bool, runs: int, stream: int
) -> None:
    for number, line in enumerate(errors, 1):
        (tmp_path / str(number)).write_text(line)
    there = of(
        ContainerConnector,
        f"echo x >> {tmp_path}/runs; this={tmp_path}/$(wc -l < {tmp_path}/runs); cat $this >&{stream}; [ ! -s $this ]",
        tmp_path,
        monkeypatch,
    )
    assert there.run_shell_command(StringCommand("true"))[0] is good
    assert len((tmp_path / "runs").read_text().split()) == runs


@pytest.mark.parametrize("kind", [ContainerConnector, OpenSSHConnector])
@pytest.mark.parametrize("stream", ["", " >&2"])
def test_what_a_host_answers_pyinfra_is_bounded_while_it_is_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: type[BoundedConnector], stream: str
) -> None:
    monkeypatch.setattr(connector, "MOST", 100_000)
    there = of(kind, f"exec cat /dev/zero{stream}", tmp_path, monkeypatch)
    done, output = there.run_shell_command(StringCommand("true"))
    assert not done
    assert "more than" in output.stderr
    with pytest.raises(OSError, match="more than"):
        there.get_file("/etc/passwd", str(tmp_path / "got"))


def test_what_a_host_answers_keeps_its_lines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    there = of(ContainerConnector, r"printf 'a\342\200\250b\377\fc\n\nd'", tmp_path, monkeypatch)
    done, output = there.run_shell_command(StringCommand("true"))
    assert done
    assert output.stdout_lines == ["a\u2028b\ufffd\fc", "", "d"]


def test_files_reach_a_container(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    there = of(ContainerConnector, 'shift 3; exec "$@"', tmp_path, monkeypatch)
    (tmp_path / "one").write_bytes(b"\0secret\xff")
    assert there.put_file(str(tmp_path / "one"), str(tmp_path / "two"))
    assert (tmp_path / "two").stat().st_mode & 0o777 == 0o600
    assert there.get_file(str(tmp_path / "two"), str(tmp_path / "three"))
    assert (tmp_path / "three").read_bytes() == b"\0secret\xff"


def test_programs_answer_in_the_language_that_is_understood(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The language of the administrator's session on the host does not matter."""
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    there = of(OpenSSHConnector, 'exec sh -c "$4"', tmp_path, monkeypatch)
    assert there.run_shell_command(StringCommand('echo "$LC_ALL"'))[1].stdout == "C.UTF-8"
    harbour = Target("harbour", INVENTORY / "harbour", INVENTORY / "harbour")
    office = load(harbour.data)
    start = shell_command(harbour, office, office.hosts[0])
    done = subprocess.run(start, input='echo "$LC_ALL"', capture_output=True, text=True, check=False)
    assert done.stdout == "C.UTF-8\n"


@pytest.mark.parametrize(("kind", "words"), [(ContainerConnector, 5), (OpenSSHConnector, 3)])
def test_what_no_command_line_may_carry_comes_by_standard_input(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: type[BoundedConnector], words: int
) -> None:
    there = of(kind, f'shift {words}; exec sh -c "$1"', tmp_path, monkeypatch)
    done, output = there.run_shell_command(
        StringCommand("read -r KEY; export KEY; sh -c 'echo \"$KEY\"'"), _stdin="of nobody else"
    )
    assert (done, output.stdout) == (True, "of nobody else")


@pytest.mark.parametrize("stream", [1, 2])
def test_an_answer_of_nothing_but_line_feeds_is_bounded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stream: int
) -> None:
    """An object for each of 64 million empty lines would take 7 GB."""
    monkeypatch.setattr(connector, "LINES", 1000)
    there = of(
        ContainerConnector, f"head -c 1001 /dev/zero | tr '\\0' '\\n' >&{stream}", tmp_path, monkeypatch
    )
    good, output = there.run_shell_command(StringCommand("true"))
    assert not good
    assert output.output == "the host answered more than 1000 lines"


def test_the_reason_of_a_refused_upload_is_kept_for_its_operation(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    there = of(
        ContainerConnector,
        "echo 'cat: write error: No space left on device' >&2; exit 1",
        tmp_path,
        monkeypatch,
    )
    there.host.executing_op_hash = "files"
    (tmp_path / "one").write_text("content")
    with pytest.raises(OSError, match="No space left"):
        there.put_file(str(tmp_path / "one"), "/two")
    assert there.host.connector_data[REFUSED] == {"files": "cat: write error: No space left on device"}


@pytest.mark.control("SYS-08")
@pytest.mark.parametrize("kind", [ContainerConnector, OpenSSHConnector])
def test_no_host_is_given_a_password(
    kind: type[BoundedConnector], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A host that asks for one gets no second command: pyinfra would ask the administrator, and send it there."""
    monkeypatch.setattr("getpass.getpass", lambda *_: pytest.fail("the administrator is asked"))
    monkeypatch.setattr(
        "pyinfra.connectors.util.getpass", lambda *_: pytest.fail("the administrator is asked")
    )
    there = of(
        kind, f"echo x >> {tmp_path}/runs; echo 'sudo: a password is required'; exit 1", tmp_path, monkeypatch
    )
    done, _ = there.run_shell_command(StringCommand("true"), _sudo=True)
    assert not done
    assert (tmp_path / "runs").read_text() == "x\n"
    assert there.host.connector_data == {}
