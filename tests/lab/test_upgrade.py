"""An office of the previous version is upgraded to this checkout while mail flows; each message is counted."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from outpost.converge import revisions
from outpost.target import LAB, ROOT
from outpost_lab import trust, up
from outpost_lab.instance import Instance, info
from outpost_lab.post import Town
from tests.awaiting import until
from tests.lab.test_second_mta import Ledger, mail_flowing, missing

pytestmark = [pytest.mark.slow, pytest.mark.control("AVL-01")]

UNTAGGED = "96c484e6"
"""The commit of 1.0.0: the version before, where no tag names one."""
INSTANCE = "upgrade"
DECLARED = (
    "declared differently since the last apply",
    "declared, not on the host yet",
    "permissions declared differently",
)
"""Causes of findings that mean: this file is declared differently now."""


def git(*words: str | Path, check: bool = True) -> str:
    command = ["git", "-C", str(ROOT), *map(str, words)]
    return subprocess.run(command, check=check, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def former(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The commit of the previous version, whose own checkout and environment have started a lab."""
    commit = git("rev-parse", git("describe", "--tags", "--abbrev=0", "HEAD^", check=False) or UNTAGGED)
    checkout = tmp_path / "former"
    monkeypatch.setenv("OUTPOST_LAB_STATE", str(tmp_path / "labs"))  # both versions find the lab there
    git("worktree", "add", "--detach", checkout, commit)
    try:
        command = [str(checkout / "outpost"), "lab", "up", "--name", INSTANCE, "--yes", "--no-verify"]
        done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{commit} brings up no lab: {done.stdout[-2000:]}{done.stderr[-4000:]}"
        yield commit
    finally:
        up.down(INSTANCE)
        git("worktree", "remove", "--force", checkout)


def outpost(command: str, *options: str, code: int = 0) -> tuple[dict[str, Any], str]:
    """Run a command of this checkout as it is typed; returns its JSON and its messages, and raises with its errors."""
    typed = [str(ROOT / "outpost"), command, LAB, "--name", INSTANCE, "--json", *options]
    wide = os.environ | {"COLUMNS": "300"}
    done = subprocess.run(typed, cwd=ROOT, env=wide, capture_output=True, text=True, check=False)
    printed = json.loads(done.stdout) if done.stdout.startswith("{") else {}
    assert done.returncode == code, (
        f"{command} ended with {done.returncode}:\n{why(printed)}\n{done.stderr[-4000:]}"
    )
    return printed, done.stderr


def why(printed: dict[str, Any]) -> str:
    """Each failed check and host, the result of the rollout, and the differences."""
    checks = [
        check for verdict in (printed, *printed.get("verified", ())) for check in verdict.get("results", ())
    ]
    lines = [
        f"{check['host']}: {check['id']}: {check['promise']}\n    {check['seen'][:1500]}"
        for check in checks
        if check["outcome"] == "failed"
    ]
    hosts = printed.get("hosts", {})
    lines += [f"{host}: {result['failed']}" for host, result in hosts.items() if result.get("failed")]
    lines += [f"{key}: {printed[key]}" for key in ("went_back", "waiting") if printed.get(key)]
    lines += [
        f"{host}: {each['kind']} {each['thing']}: {each['cause']}"
        for host, result in hosts.items()
        for each in result["findings"]
    ]
    return "\n".join(lines)


def unexplained(plan: dict[str, Any], commit: str) -> list[str]:
    """Files that the two versions declare differently, and hosts that change, without a reason in the plan."""
    with revisions.checkout(commit) as before:
        differing = revisions.differences(Instance.load(INSTANCE).directory, list(plan["hosts"]), before)
    found = []
    for host, result in plan["hosts"].items():
        causes = {finding["thing"]: finding["cause"] for finding in result["findings"]}
        found += [
            f"{host}: {each.thing}: {causes.get(each.thing)}"
            for each in differing[host]
            if each.kind == "file" and each.change != "removed" and causes.get(each.thing) not in DECLARED
        ]
        found += [
            f"{host}: {each}" for each in result["findings"] if not (each["cause"] and each["consequence"])
        ]
        found += [f"{host}: no finding for {result['changes']}"] if result["changes"] and not causes else []
    return found


def further(ledger: Ledger, number: int) -> None:
    """Wait until this number of further messages was accepted."""
    wanted = len(ledger.accepted) + number
    until(lambda: len(ledger.accepted) >= wanted, f"{number} messages are accepted", seconds=120)


def test_an_upgrade_loses_no_message_and_is_explained_by_its_plan(former: str) -> None:
    town = Town(info(Instance.load(INSTANCE)))
    with mail_flowing(town) as ledger:
        further(ledger, 6)
        plan, _ = outpost("plan", code=2)
        assert unexplained(plan, former) == []
        upgraded, shown = outpost("upgrade", "-y")
        assert [
            host for host in plan["hosts"] if not re.search(rf"^{host} .* {former[:12]} ", shown, re.M)
        ] == []
        assert upgraded["hosts"].keys() == plan["hosts"].keys()
        further(ledger, 6)
    trust.after_deploy(
        Instance.load(INSTANCE)
    )  # what others have to do after an upgrade: the backup server, peers
    assert missing(town, ledger) == {}, f"accepted and lost; refused for a time were {ledger.refused}"
    assert set(ledger.accepted.values()) == {
        f"{sender} to {reader}"
        for sender, reader in (
            (town.head_office.address, town.user("alice").address),
            (town.client_site.address, town.user("alice").address),
            (town.user("alice").address, town.head_office.address),
        )
    }
    outpost("verify")
    again, _ = outpost("apply", "-y")
    assert [host for host, result in again["hosts"].items() if result["changes"]] == []
    assert outpost("plan")[0]["clean"]
