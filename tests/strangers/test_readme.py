"""A stranger's office: the README's commands, one after the other, end green on hosts and offices that are not the lab's."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.strangers.site import Administrator, Shape, shapes

MOST = 10  # commands that an administrator needs
SUMMARY = 150  # lines of a plan that somebody reads


@pytest.fixture
def administrator(shape: Shape) -> Iterator[Administrator]:
    """Somebody at a desk beside bare hosts."""
    desk = Path(tempfile.mkdtemp(prefix="outpost-"))  # an agent's socket has room for a short path only
    somebody = Administrator(shape, desk, f"s{shape.name}")
    try:
        yield somebody
    finally:
        somebody.leaves()
        shutil.rmtree(desk)


@pytest.mark.parametrize(
    "shape",
    [
        pytest.param(shape, id=shape.name, marks=() if shape.default else pytest.mark.slow)
        for shape in shapes()
    ],
)
def test_the_readmes_commands_end_green(administrator: Administrator) -> None:
    """From nothing to a verified office; what others have to do yet is printed, and proven once they have done it."""
    made = administrator.answers()
    assert made.returncode == 0, made.stdout
    administrator.machines_come()
    administrator.pins()
    said = {}
    for command, code in (("check", 0), ("preflight", 0), ("plan", 2), ("apply -y", 0)):
        done = administrator.types(*command.split(), administrator.office)
        assert done.returncode == code, f"{command}: {done.stdout[-8000:]}"
        said[command] = done.stdout
    assert "Traceback" not in "".join(said.values())
    assert len(said["plan"].splitlines()) < SUMMARY, said["plan"][-8000:]
    applied = said["apply -y"]
    assert "went back" not in applied
    domain = administrator.shape.new["domain"]
    for entry in (f"{domain}. NS ns1.{domain}.", f"ns1.{domain}. A", f"{domain}. DS "):
        assert entry in applied, "what the registrar has to enter is printed"
    administrator.is_delegated()
    proven = administrator.types("verify", administrator.office)
    assert proven.returncode == 0, proven.stdout[-8000:]
    assert "at the registrar" not in proven.stdout
    again = administrator.types("plan", administrator.office)
    assert (again.returncode, "nothing to change" in again.stdout) == (0, True), again.stdout[-8000:]
    assert len(administrator.seconds) <= MOST
    logging.getLogger(__name__).info("%s", administrator.seconds)
