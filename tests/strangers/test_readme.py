"""The README's commands succeed on hosts and offices that differ from the lab's."""

from __future__ import annotations

import logging
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from outpost.onhost.observe import KEY
from tests.strangers.site import Administrator, Shape, shapes
from tests.unit.test_offices_elsewhere import jobs

MOST = 7  # commands that an administrator of an office without head office's machines needs; `secrets` besides, once for each certificate by hand
SUMMARY = 150  # lines of a plan that a person reads


@pytest.fixture
def administrator(shape: Shape, request: pytest.FixtureRequest) -> Iterator[Administrator]:
    """An administrator with bare hosts; after a failure the hosts' state is printed before they are removed."""
    failed = request.session.testsfailed
    desk = Path(tempfile.mkdtemp(prefix="outpost-"))  # an agent's socket has room for a short path only
    somebody = Administrator(shape, desk, f"s{shape.name}")
    try:
        yield somebody
    finally:
        try:
            if request.session.testsfailed > failed:
                logging.getLogger(__name__).warning("%s", somebody.evidence())
        finally:
            somebody.leaves()
            shutil.rmtree(desk)


def those(*, refused: bool) -> pytest.MarkDecorator:
    """The shapes that preflight refuses, or the others."""
    found = [
        pytest.param(shape, id=shape.name, marks=() if shape.default else pytest.mark.slow)
        for shape in shapes()
        if bool(shape.refused and not shape.remedy) is refused
    ]
    return pytest.mark.parametrize("shape", found)


@those(refused=True)
def test_preflight_names_what_the_hosts_lack(administrator: Administrator) -> None:
    """The hosts are not ready: each is named with its remedy, and nothing was changed on it."""
    made = administrator.answers()
    assert made.returncode == 0, made.stdout
    administrator.machines_come()
    administrator.pins()
    done = administrator.types("preflight", administrator.office)
    assert done.returncode == 1
    assert done.stdout.count(administrator.shape.refused) == len(administrator.site.office.hosts), done.stdout


@those(refused=False)
def test_the_readmes_commands_end_green(administrator: Administrator) -> None:
    """From nothing to a verified office. Tasks of others are printed, and verified once they are done."""
    made = administrator.answers()
    assert made.returncode == 0, made.stdout
    administrator.certifies()
    administrator.machines_come()
    administrator.pins()
    if remedy := administrator.shape.refused:
        first = administrator.types("preflight", administrator.office)
        assert first.stdout.count(remedy) == len(administrator.site.office.hosts), first.stdout
        administrator.obeys(first.stdout)
    printed = {}
    for command, code in (("check", 0), ("preflight", 0), ("plan", 2), ("apply -y", 0)):
        done = administrator.types(*command.split(), administrator.office)
        assert done.returncode == code, f"{command}: {done.stdout[-8000:]}"
        printed[command] = done.stdout
    assert "Traceback" not in "".join(printed.values())
    assert len(printed["plan"].splitlines()) < SUMMARY, printed["plan"][-8000:]
    applied = printed["apply -y"]
    domain = administrator.shape.new["domain"]
    primary = f"{administrator.shape.names.get('ns1', 'ns1')}.{domain}."
    for entry in (f"{domain}. NS {primary}", f"{primary} A", f"{domain}. DS "):
        assert entry in applied, "what the registrar has to enter is printed"
    assert not re.search(rf"{KEY}=['\"]?[0-9a-f]{{16}}", administrator.journals()), (
        "SYS-08: sudo writes what seals the answers into the journal"
    )
    administrator.is_delegated()
    administrator.others_do_theirs()
    proven = administrator.types("verify", administrator.office)
    assert proven.returncode == 0, proven.stdout[:8000]  # failed checks are listed before skipped ones
    waits = proven.stdout.partition("\npending")[2]
    assert administrator.shape.peers or "pending" not in proven.stdout, waits
    again = administrator.types("plan", administrator.office)
    assert (again.returncode, "nothing to change" in again.stdout) == (0, True), again.stdout[-8000:]
    for name, script in jobs("offices.gitlab-ci.yml").items() if administrator.shape.wheel else ():
        done = administrator.merges(script)
        assert done.returncode == 0, f"{name}: {done.stdout[-8000:]}{done.stderr[-4000:]}"
    typed = [command for command in administrator.typed if command != "secrets"]
    assert len(typed) <= MOST + bool(administrator.shape.refused) or administrator.shape.around
