"""The wheel on a bare Debian, by pipx, with its dependencies from the package index: it needs network, and a lab's base image."""

from __future__ import annotations

from pathlib import Path

import pytest

from outpost import __version__
from outpost_lab import engine, images
from tests.wheel import build

SCRIPT = """set -eu
export DEBIAN_FRONTEND=noninteractive PATH="$PATH:/root/.local/bin"
{ apt-get -qq update && apt-get -qq -y --no-install-recommends install pipx openssh-client; } >/dev/null 2>&1
pipx install /wheel/*.whl >/dev/null 2>&1
mkdir /srv/offices && cd /srv/offices
outpost --version
outpost new po --domain po.example.com --organisation Site --postmaster maria --wan 192.0.2.0/28 2>&1
outpost check po
outpost hosts po
"""


@pytest.mark.slow
def test_a_bare_machine_with_pipx_makes_and_checks_an_office(tmp_path: Path) -> None:
    build(tmp_path)
    client = engine.connect()
    output = client.containers.run(
        images.tag("base"),
        ["sh", "-c", SCRIPT],
        entrypoint=[],
        remove=True,
        network_mode="host",
        volumes=[
            f"{tmp_path}:/wheel:ro",
            "/etc/ssl/certs:/etc/ssl/certs:ro",
            "/etc/resolv.conf:/etc/resolv.conf:ro",
        ],
    ).decode()
    assert output.startswith(f"outpost {__version__}\n")
    assert "outpost preflight po" in output
    assert "po/office.toml is sound" in output
    assert "store.po.example.com" in output
