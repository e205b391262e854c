"""Journeys go through a running lab as people do: with mail clients and browsers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from outpost.lab.instance import Instance
from outpost.lab.post import Neighbour, OfficeUser, Town
from outpost.target import LAB


@pytest.fixture(scope="session")
def lab(pytestconfig: pytest.Config) -> Instance:
    """The lab instance that --name selects; it must be up."""
    return Instance.load(pytestconfig.getoption("--name") or LAB)


@pytest.fixture(scope="session")
def info(lab: Instance) -> dict[str, Any]:
    """What `outpost lab info --json` says of it."""
    from outpost.lab.info import info as lab_info

    described: dict[str, Any] = json.loads(json.dumps(lab_info(lab)))
    return described


@pytest.fixture(scope="session")
def town(info: dict[str, Any]) -> Town:
    """Everybody in it."""
    return Town(info)


@pytest.fixture(scope="session")
def alice(town: Town) -> OfficeUser:
    return town.user("alice")


@pytest.fixture(scope="session")
def bob(town: Town) -> OfficeUser:
    return town.user("bob")


@pytest.fixture(scope="session")
def head(town: Town) -> Neighbour:
    return town.head_office


@pytest.fixture(scope="session")
def client(town: Town) -> Neighbour:
    return town.client_site


@pytest.fixture(scope="session")
def stranger(town: Town) -> Neighbour:
    return town.stranger
