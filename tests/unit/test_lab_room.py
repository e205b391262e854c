"""A lab checks what it needs of the machine before it starts, and raises limits only with consent."""

from __future__ import annotations

import builtins
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from docker.errors import APIError

from outpost.errors import OutpostError
from outpost_lab import networks, room, up
from outpost_lab.instance import LABEL, OFFICE, Instance

SETTING = "fs/inotify/max_user_instances"
STOCK = 128
"""Debian's."""


class Engine:
    """Docker, with this number of running lab machines."""

    def __init__(self, **running: int) -> None:
        found = [
            SimpleNamespace(labels={LABEL: name}) for name, count in running.items() for _ in range(count)
        ]

        def listed(*, filters: dict[str, str]) -> list[Any]:
            _, _, name = filters["label"].partition("=")
            return [item for item in found if name in ("", item.labels[LABEL])]

        self.containers = SimpleNamespace(list=listed)
        self.images = SimpleNamespace(list=lambda **_: ["outpost-base"])

    def info(self) -> dict[str, str]:
        return {"DockerRootDir": "/"}


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stock kernel, whose limits sysctl(8) writes."""
    setting = tmp_path / SETTING
    setting.parent.mkdir(parents=True)
    setting.write_text(f"{STOCK}\n")

    def sysctl(command: list[str], **_options: object) -> subprocess.CompletedProcess[str]:
        for word in command:
            name, found, value = word.partition("=")
            if found:
                (tmp_path / name.replace(".", "/")).write_text(f"{value}\n")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(room, "SYS", tmp_path)
    monkeypatch.setattr(room, "PROC", tmp_path)
    monkeypatch.setattr(subprocess, "run", sysctl)
    return setting


def fits(machines: int, *, consent: bool = False, **running: int) -> list[str]:
    notes: list[str] = []
    room.ensure(Engine(**running), machines, "test", consent=consent, note=notes.append)
    return notes


def test_two_labs_do_not_fit_into_a_stock_kernel_and_the_remedy_can_be_typed(kernel: Path) -> None:
    with pytest.raises(OutpostError) as caught:
        fits(15, lab=15)
    assert "30 machines" in caught.value.message
    assert caught.value.remedy == "sudo sysctl -w fs.inotify.max_user_instances=512, or --yes"
    assert int(kernel.read_text()) == STOCK


def test_with_consent_the_limit_is_raised_once_and_by_what_runs(kernel: Path) -> None:
    assert fits(15, consent=True, lab=15) == ["raising fs.inotify.max_user_instances=512 until the next boot"]
    assert int(kernel.read_text()) == 512
    assert fits(15, consent=True, lab=15, test=15) == []  # machines of this lab that run already count once
    assert fits(15, consent=True, lab=15, two=15, three=15)
    assert int(kernel.read_text()) == 1024


def test_a_limit_that_cannot_be_raised_is_reported_before_anything_starts(
    kernel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = subprocess.CompletedProcess([], 255, "", "sysctl: permission denied on key\n")
    monkeypatch.setattr(subprocess, "run", lambda *_arguments, **_options: refused)
    with pytest.raises(OutpostError, match="permission denied on key"):
        fits(15, consent=True, lab=15)
    assert int(kernel.read_text()) == STOCK


def test_too_little_memory_or_disk_is_reported(kernel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel.write_text("8192\n")
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    (room.PROC / "meminfo").write_text("MemTotal: 900 kB\nMemAvailable: 900000 kB\n")
    with pytest.raises(OutpostError, match="878 MiB of memory are free"):
        fits(15)
    (room.PROC / "meminfo").write_text("MemAvailable: 9000000 kB\n")
    fits(15)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=2**30))
    with pytest.raises(OutpostError, match="1024 MiB are free below /"):
        fits(15)


class Race:
    """Docker's networks; other programs use the first slots."""

    def __init__(self, rivals: int) -> None:
        self.rivals = rivals
        self.made: builtins.list[str] = []

    def list(self, filters: dict[str, str]) -> builtins.list[Any]:  # noqa: ARG002
        return []

    def create(self, name: str, *, ipam: dict[str, Any], **_options: object) -> Any:
        if self.rivals:
            self.rivals -= 1
            raise APIError("403", explanation="Pool overlaps with other one on this address space")
        self.made.append(ipam["Config"][0]["Subnet"])
        return SimpleNamespace(name=name, remove=lambda: None)


@pytest.mark.parametrize(("rivals", "slot"), [(0, 0), (1, 1), (4, 4)])
def test_networks_that_something_else_has_are_replaced_by_others(
    rivals: int, slot: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUTPOST_LAB_STATE", str(tmp_path))
    monkeypatch.setattr(networks, "_routes", list)
    client: Any = SimpleNamespace(networks=Race(rivals))
    instance, zones = up._networks(client, "unit", OFFICE)
    assert instance.slot == slot
    assert all(made.startswith(f"10.{77 + slot}.") for made in client.networks.made)
    assert f"10.{77 + slot}." in instance.office_file.read_text()
    assert Instance.stored("unit") == instance
    assert zones


def test_it_does_not_try_for_ever_and_reports_what_takes_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUTPOST_LAB_STATE", str(tmp_path))
    monkeypatch.setattr(networks, "_routes", list)
    client: Any = SimpleNamespace(networks=Race(999))
    with pytest.raises(OutpostError, match="overlap"):
        up._networks(client, "unit", OFFICE)
