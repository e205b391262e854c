"""Files that the office file leaves to a host stay as they are; everything else beside the declared files is drift."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import tomlkit

from outpost.engine.run import Silent, plan
from outpost.target import Target
from outpost_lab.instance import Instance
from tests.lab.conftest import Pyinfra
from tests.lab.test_reapply import on

pytestmark = [pytest.mark.slow, pytest.mark.control("SYS-08")]
DROP_IN = "/etc/systemd/system/chrony.service.d/local.conf"
CHRONY = "/etc/chrony/local.d/log.conf"
STRAY = "/etc/systemd/system/chrony.service.d/stray.conf"


@pytest.fixture
def only(lab: Instance) -> list[str]:
    """Only ns2."""
    return ["--limit", f"@container/{lab.container_name('ns2')}"]


@pytest.fixture
def declared(lab: Instance, pyinfra: Pyinfra, only: list[str]) -> Iterator[None]:
    """Two local files on ns2, declared and written; afterwards they are no longer declared, and so removed."""
    before = lab.office_file.read_text()
    document = tomlkit.parse(before)
    document["hosts"]["ns2"]["local"] = [DROP_IN, "/etc/chrony/local.d/", CHRONY]
    on(
        lab,
        "ns2",
        f"mkdir -p $(dirname {DROP_IN}) $(dirname {CHRONY}); printf '[Service]\\nNice=2\\n' > {DROP_IN}; "
        f"echo 'log statistics' > {CHRONY}; systemctl daemon-reload; systemctl restart chrony",
    )
    lab.office_file.write_text(tomlkit.dumps(document))
    yield
    lab.office_file.write_text(before)
    assert pyinfra("-y", "--json", *only).code == 0
    assert on(lab, "ns2", f"ls {DROP_IN} {CHRONY} 2>/dev/null || true") == "", "undeclared, and still there"
    assert pyinfra("--dry", "--json", *only).changes == {}


@pytest.mark.usefixtures("declared")
def test_local_files_survive_and_are_not_reported(
    lab: Instance, pyinfra: Pyinfra, target: Target, only: list[str]
) -> None:
    assert pyinfra("-y", "--json", *only).code == 0
    assert on(lab, "ns2", f"cat {DROP_IN} {CHRONY}").splitlines() == ["[Service]", "Nice=2", "log statistics"]
    assert f"include {CHRONY}" in on(lab, "ns2", "cat /etc/chrony/chrony.conf")
    assert "log statistics" in on(lab, "ns2", "chronyd -p -f /etc/chrony/chrony.conf")
    assert pyinfra("--dry", "--json", *only).changes == {}
    on(
        lab,
        "ns2",
        f"printf '[Service]\\nNice=3\\n' > {DROP_IN}; systemctl daemon-reload; systemctl restart chrony",
    )
    on(lab, "ns2", f"printf '[Service]\\nNice=4\\n' > {STRAY}; systemctl daemon-reload")
    outcome = plan(target, connector="docker", watcher=Silent(), limit=("ns2",))
    assert {finding["thing"] for finding in outcome.findings if finding["kind"] == "file"} == {STRAY}
    assert pyinfra("-y", "--json", *only).code == 0
    assert on(lab, "ns2", f"cat {DROP_IN}; ls {STRAY} 2>/dev/null || true").splitlines() == [
        "[Service]",
        "Nice=3",
    ]
    assert on(lab, "ns2", "systemctl show --value -p Nice chrony").strip() == "3"
    assert pyinfra("--dry", "--json", *only).changes == {}
