"""Every edit of a sabotage changes the file that the office declares today; sabotages themselves need a lab."""

from __future__ import annotations

import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from typing import Any

from outpost.converge.declaration import declaration
from outpost.keys import secrets_file
from outpost.office.load import parse
from outpost.target import ROOT
from tests.sabotage.breaking import Sabotage
from tests.sabotage.table import SABOTAGES

NOT_DECLARED = {"/etc/shadow", "/var/lib/outpost-backup/last.json"}
"""Files that only a host has; whether their edits change anything shows in the lab."""


def edits(sabotage: Sabotage) -> Iterator[tuple[str, str]]:
    """File and expression of every ``sed -i -E`` of a sabotage; without those of ``find -exec sed … {}``."""
    words = shlex.split(sabotage.switch.steps)
    for at in range(len(words)):
        if words[at : at + 3] == ["sed", "-i", "-E"] and words[at + 4] != "{}":
            yield words[at + 4].rstrip(";"), words[at + 3]


def test_every_edit_of_a_sabotage_changes_what_a_host_of_its_role_declares() -> None:
    """Otherwise the sabotage breaks nothing, which only a long run in the lab shows."""
    data: dict[str, Any] = tomllib.loads((ROOT / "inventory/lab/office.toml").read_text(encoding="utf-8"))
    del data["tls"]["trusted_authorities"]
    for name, role in (("dav", "groupware"), ("time", "timeserver")):
        number = 60 + len(data["hosts"])
        data["hosts"][name] = {
            "role": role,
            "addresses": {
                zone: [f"10.77.{subnet}.{number}", f"fd00:77:0:{subnet}::{number}"]
                for zone, subnet in (("core", 2), ("lan", 3), ("mgmt", 4))
                if (role, zone) != ("timeserver", "lan")
            },
        }
    office, problems = parse(data)
    assert problems == []
    assert office is not None
    secrets = secrets_file.complete(office, None).secrets
    declared = {host.name: declaration(office, secrets, host.name).content for host in office.hosts}

    tried: list[str] = []
    without_effect: list[tuple[str, str, str]] = []
    for sabotage in SABOTAGES:
        where = sabotage.switch.role
        hosts = [host.name for host in office.hosts if where in ("base", host.name, host.role)]
        for file, expression in edits(sabotage):
            if file in NOT_DECLARED:
                continue
            for host in hosts:
                before = declared[host][file].content
                done = subprocess.run(
                    ["sed", "-E", expression], input=before, capture_output=True, check=True
                )
                tried.append(file)
                if done.stdout == before:
                    without_effect.append((host, file, sabotage.what))
    assert without_effect == []
    assert len(tried) > 250
