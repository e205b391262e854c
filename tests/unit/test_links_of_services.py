"""Programs that run as root follow no link that a service's account may have made in its own directory."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from outpost.onhost import policy, routes

NOBODY = 65534


@pytest.fixture
def state() -> Iterator[Path]:
    """A directory that another account can reach, which pytest's own cannot be."""
    made = Path(tempfile.mkdtemp(prefix="outpost-state-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.mark.parametrize("link", ["large", "."])
def test_routes_opens_the_services_directory_itself(
    state: Path, monkeypatch: pytest.MonkeyPatch, link: str
) -> None:
    elsewhere = state / "elsewhere" / "large"
    elsewhere.mkdir(parents=True)
    (elsewhere / "4gVxB25hBLz1").touch()
    own = state / "own"
    if link == ".":  # the service's directory itself is a link
        own.symlink_to(elsewhere.parent)
    else:
        own.mkdir()
        (own / "large").symlink_to(elsewhere)
    monkeypatch.setattr(routes, "HELD", own / "large")
    assert routes._place() is None
    monkeypatch.setattr(routes, "HELD", elsewhere)
    place = routes._place()
    assert place is not None
    assert os.listdir(place) == ["4gVxB25hBLz1"]  # noqa: PTH208  # by descriptor
    os.close(place)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can let go of root's rights")
def test_an_administrators_release_writes_as_the_services_account(state: Path) -> None:
    own, victim = state / "own", state / "victim"
    own.mkdir()
    victim.write_text("root's")
    (own / "held.json").write_text('{"eve@po.test": 9999999999}')
    (own / "held.new").symlink_to(victim)
    for path in (own, own / "held.json"):
        os.chown(path, NOBODY, NOBODY)
    text = Path(policy.__file__).read_text().replace("/var/lib/outpost-policy", str(own))
    done = subprocess.run(
        [sys.executable, "-I", "-", "release", "eve@po.test"],
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    assert victim.read_text() == "root's", done.stderr
    (own / "held.new").unlink()
    done = subprocess.run(
        [sys.executable, "-I", "-", "release", "eve@po.test"],
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "may send again" in done.stdout, done.stderr
    assert (own / "held.json").stat().st_uid == NOBODY
