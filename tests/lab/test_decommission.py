"""Closing an office loses no mail and leaves no data. The lab is created again afterwards."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from outpost.errors import OutpostError
from outpost.office.role import every_role
from outpost.recovery.decommission import FILE, STATEMENT, STEPS, Closing
from outpost.target import Target
from outpost_lab.instance import Instance, info
from outpost_lab.post import Town, compose
from tests.lab.test_certificates import on
from tests.lab.test_restore import outpost


@pytest.fixture
def kept(lab: Instance, tmp_path: Path) -> Iterator[Instance]:
    """The lab, which comes back with its keys and without its mail."""
    held = [lab.directory / name for name in ("office.toml", "secrets.age")]
    for file in held:
        shutil.copy2(file, tmp_path / file.name)
    yield lab
    for file in held:
        shutil.copy2(tmp_path / file.name, file)
    for file in lab.directory.glob("decommission*"):
        file.unlink()
    for host in lab.office.hosts:
        if host.role != "dns":
            lab.container(host.name).remove(force=True, v=True)
    outpost(lab, "lab", "up", "--no-verify")


@pytest.mark.slow
@pytest.mark.control("GOV-02")
def test_a_closed_office_has_handed_over_its_mail_and_holds_nothing(
    kept: Instance, target: Target, tmp_path: Path
) -> None:
    town = Town(info(kept))
    alice, head = town.user("alice"), town.head_office
    before, mark = compose(head.address, [alice.address])
    head.send(before, [alice.address])
    alice.receive(mark)
    closing = Closing(target, forward="head@myertor.test", into=tmp_path / "handover")
    assert closing.advance()[0] == "freeze"
    with pytest.raises(Exception, match=r"(?i)auth"):
        alice.count(mark)
    assert closing.advance()[0] == "forward"
    late, token = compose(town.stranger.address, [alice.address])
    town.stranger.send(late, [alice.address])
    head.receive(token)
    step, found = closing.advance()
    assert step == "handover"
    assert found["messages"]["alice"] >= 1
    assert closing.advance()[0] == "drain"
    step, found = closing.advance()
    assert step == "withdraw"
    assert {answers["MX"] for answers in found.values()} == {"0 ."}
    with pytest.raises(OutpostError, match="for good"):
        closing.advance()
    closing.confirmed = kept.office.domain
    assert closing.advance()[0] == "erase"
    left = on(
        kept,
        "store",
        f"find {' '.join(every_role()['store'].erased)} /etc/outpost -type f 2>/dev/null | wc -l",
    )
    assert left.strip() == "0"
    assert closing.advance()[0] == "certificate"
    assert set(closing.done) == set(STEPS)
    signed = kept.directory / STATEMENT
    assert signed.with_suffix(".sig").exists()
    assert (kept.directory / FILE).exists()
