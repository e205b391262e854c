"""Without Docker the lab prints what to do, and installs nothing without consent."""

from __future__ import annotations

import os
import shutil
from io import StringIO
from pathlib import Path

import docker
import pytest
from docker.errors import DockerException
from rich.console import Console

from outpost.errors import OutpostError
from outpost_lab import engine
from outpost_lab.engine import EngineMissing
from outpost_lab.up import Progress


@pytest.fixture
def no_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which no Docker daemon answers; apt must not run."""

    def refuse(**_options: object) -> None:
        raise DockerException("connection refused")

    def never(*packages: str) -> None:
        raise AssertionError(f"installs {packages}")

    monkeypatch.setattr(docker, "from_env", refuse)
    monkeypatch.setattr(engine, "apt_install", never)
    monkeypatch.delenv("DOCKER_HOST", raising=False)


@pytest.mark.usefixtures("no_daemon")
def test_missing_docker_names_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    monkeypatch.setattr(Path, "exists", lambda _path: False)
    with pytest.raises(EngineMissing) as caught:
        engine.ensure()
    assert caught.value.remedy.startswith("apt-get install docker.io docker-cli")


@pytest.mark.usefixtures("no_daemon")
def test_stopped_docker_is_distinguished_from_missing_docker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(os, "access", lambda *_arguments: True)
    with pytest.raises(EngineMissing, match="does not answer"):
        engine.ensure()


@pytest.mark.usefixtures("no_daemon")
def test_a_user_without_access_is_not_offered_an_installation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Path, "exists", lambda _path: True)
    monkeypatch.setattr(os, "access", lambda *_arguments: False)
    with pytest.raises(OutpostError, match="this user may not use Docker"):
        engine.ensure(install=True)


def test_a_machine_without_apt_gets_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    with pytest.raises(OutpostError, match="no apt-get"):
        engine.apt_install("docker.io")


def test_pid_file_of_a_killed_daemon_is_removed_and_a_living_ones_kept(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    comm = Path(f"/proc/{os.getpid()}/comm").read_text().strip()
    file.write_text(str(os.getpid()))
    engine.forget_dead(file, comm)
    assert file.exists()
    engine.forget_dead(file, "dockerd")
    assert not file.exists()


def test_steps_leave_one_line_each_and_an_interrupted_one_none() -> None:
    for terminal in (False, True):
        stream = StringIO()
        progress = Progress(Console(file=stream, force_terminal=terminal, width=80))
        with progress.step("images") as note:
            note("base [x]")
        with pytest.raises(ValueError, match="broken"), progress.step("networks"):
            raise ValueError("broken")
        assert list(progress.seconds) == ["images"]
        assert ("  images: base [x]\n" in stream.getvalue()) == (not terminal)
        assert stream.getvalue().count("✓") == 1
