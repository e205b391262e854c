"""A folder that a user makes in a shared mailbox stays there, with the rights of its mailbox."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from outpost.engine.run import Silent, plan
from outpost.target import ROOT, Target
from outpost_lab.instance import Instance, info
from outpost_lab.post import OfficeUser, Town
from roles.store.declare import SHARED
from tests.engine import executed
from tests.lab.conftest import Pyinfra

pytestmark = [pytest.mark.slow, pytest.mark.control("AUT-07", "SYS-09")]

FOLDER = "Shared/plans/2026"
RIGHTS = f"{SHARED}/.plans.2026/dovecot-acl"

Command = Callable[..., None]


@pytest.fixture
def shared(lab: Instance) -> Iterator[Command]:
    """Runs `outpost shared`; what it adds is removed afterwards."""

    def run(*words: str) -> None:
        command = [sys.executable, "-m", "outpost", "shared", *words, "--name", lab.name]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    run("add", "lab", "plans", "alice")
    try:
        yield run
    finally:
        run("remove", "lab", "plans")


def sees(user: OfficeUser) -> bool:
    with user.mailbox() as mailbox:
        return bool(mailbox.folder.exists(FOLDER))


def test_a_folder_in_a_shared_mailbox_has_the_rights_of_its_mailbox(
    lab: Instance, shared: Command, target: Target, pyinfra: Pyinfra
) -> None:
    alice, bob = map(Town(info(lab)).user, ("alice", "bob"))

    def on_store(script: str) -> str:
        return executed(["docker", "exec", lab.container_name("store"), "sh", "-c", script], seconds=60)

    with alice.mailbox() as mailbox:
        mailbox.folder.create(FOLDER)
    assert not sees(bob)
    shared("add", "lab", "plans", "--reader", "bob")  # this apply must not archive the folder
    assert sees(alice)
    assert sees(bob)
    on_store(f"echo 'user=eve@{lab.office.domain} lr' >> {RIGHTS}")
    findings = plan(target, limit=("store",), connector="docker", watcher=Silent()).findings
    assert [finding["thing"] for finding in findings] == [RIGHTS]
    assert pyinfra("-y", "--json", "--limit", f"@container/{lab.container_name('store')}").code == 0
    assert "eve" not in on_store(f"cat {RIGHTS}")
