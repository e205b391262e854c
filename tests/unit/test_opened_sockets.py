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
    status = SimpleNamespace(st_mode=stat.S_IFSOCK | 0o666, st_uid=101)
    monkeypatch.setattr(processes, "content", lambda _: f"{HEAD} 4711 /run/{path}\n")
    monkeypatch.setattr(os, "stat", lambda _: status)
    assert processes.opened_sockets({}) == ([f"opened\t/run/{path}\t"] if found else [])
