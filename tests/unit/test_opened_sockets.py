"""Sockets below /run that every account may use: which of them are drift."""

from __future__ import annotations

import os
import stat
from types import SimpleNamespace

import pytest

from outpost.onhost.observe import processes

HEAD = "0000000000000000: 00000002 00000000 00010000 0001 01"


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("redis/redis.sock", True),
        ("dovecot/auth-userdb", True),
        ("dovecot/indexer", False),
        ("systemd/netif/io.systemd.Network", False),  # systemd-networkd, on every machine of a cloud
        ("systemd/resolve/io.systemd.Resolve", False),
        ("user/1000/bus", False),
        ("redis/systemd/netif/io.systemd.Network", True),
        ("systemd/netif/io.systemd.Network.more", True),
    ],
)
def test_a_socket_is_drift_unless_systemd_or_a_session_opens_it(
    path: str, found: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = SimpleNamespace(st_mode=stat.S_IFSOCK | 0o777, st_uid=101)
    monkeypatch.setattr(processes, "content", lambda _: f"{HEAD} 4711 /run/{path}\n")
    monkeypatch.setattr(os, "stat", lambda _: status)
    assert processes.opened_sockets({}, ()) == ([f"opened\t/run/{path}\t"] if found else [])


@pytest.mark.parametrize(
    ("unit", "above", "found"),
    [("dovecot.service", 0o755, True), ("acpid.service", 0o755, False), ("dovecot.service", 0o750, False)],
)
def test_a_socket_of_roots_is_drift_if_it_is_the_offices_and_its_directory_is_open(
    unit: str, above: int, found: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = "dovecot/auth-master"
    modes = {f"/run/{path}": stat.S_IFSOCK | 0o666, "/run/dovecot": stat.S_IFDIR | above}
    monkeypatch.setattr(processes, "content", lambda _: f"{HEAD} 4711 /run/{path}\n")
    monkeypatch.setattr(os, "stat", lambda name: SimpleNamespace(st_mode=modes[name], st_uid=0))
    monkeypatch.setattr(processes, "unit_of", lambda _: unit)
    facts = processes.opened_sockets({"4711": ("dovecot", "7")}, ("dovecot.service",))
    assert facts == ([f"opened\t/run/{path}\t{unit}"] if found else [])
