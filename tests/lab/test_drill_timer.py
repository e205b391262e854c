"""The restore drill by timer, as in `docs/examples`: a separate controller, hosts over SSH, no interaction."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from outpost.recovery.restore import held
from outpost.target import ROOT, Target
from outpost_lab import engine, images
from outpost_lab.containers import BOOTED
from outpost_lab.instance import CHECKOUT, LABEL, Instance
from tests.awaiting import until

TIMER, SERVICE = "outpost-drill.timer", "outpost-drill.service"
EXAMPLES = ROOT / "docs/examples"
SOCKET = Path("/var/run/docker.sock")
CONTROLLER = """set -eu
export DEBIAN_FRONTEND=noninteractive http_proxy={proxy}
{{ apt-get -qq update && apt-get -qq -y --no-install-recommends install python3 docker-cli openssh-client; }} >/dev/null 2>&1
ln -s {root} /opt/outpost
useradd --non-unique --uid {owner} --create-home outpost
groupadd --non-unique --gid {gid} docker-socket && usermod --append --groups docker-socket outpost
cp {examples}/outpost-drill.* /etc/systemd/system/
systemd-analyze verify /etc/systemd/system/outpost-drill.*
"""
THIS_OFFICE = """mkdir -p /etc/systemd/system/{service}.d
printf '[Service]\\nExecStart=\\nExecStart=/opt/outpost/outpost drill lab --name {name} --via ssh\\n' > /etc/systemd/system/{service}.d/office.conf
"""
DUE = """mkdir -p /etc/systemd/system/{timer}.d
printf '[Timer]\\nOnCalendar=\\nOnActiveSec=1s\\nRandomizedDelaySec=0\\n' > /etc/systemd/system/{timer}.d/due.conf
"""
logger = logging.getLogger(__name__)


def on(controller: Any, script: str) -> str:
    """The output of a script on the controller; the first failing command ends it and the test."""
    code, output = controller.exec_run(["sh", "-ec", script])
    text = output.decode()
    assert code == 0, f"{script}: {text}"
    return str(text)


@pytest.fixture
def controller(lab: Instance) -> Iterator[Any]:
    """A Debian with this checkout at /opt/outpost, in the administrators' network, that may ask Docker for containers."""
    client = engine.connect()
    name = f"{lab.container_name('ns1').removesuffix('ns1')}controller"
    assert lab.office.archive.proxy
    container = client.containers.create(
        images.tag("base"),
        name=name,
        labels={LABEL: lab.name, CHECKOUT: str(ROOT)},
        privileged=True,
        cgroupns="host",
        volumes=[
            "/sys/fs/cgroup:/sys/fs/cgroup:rw",
            f"{SOCKET}:/run/docker.sock:rw",
            f"{ROOT}:{ROOT}:rw",
        ],
        tmpfs={"/run": "mode=755", "/tmp": "exec,mode=1777"},
        network=lab.network_name("mgmt"),
    )
    try:
        container.start()
        container.exec_run(["sh", "-c", BOOTED])
        owner, gid = ROOT.stat().st_uid, SOCKET.stat().st_gid
        on(
            container,
            CONTROLLER.format(
                proxy=lab.office.archive.proxy, root=ROOT, owner=owner, gid=gid, examples=EXAMPLES
            ),
        )
        yield container
    finally:
        container.remove(force=True, v=True)


@pytest.mark.slow
@pytest.mark.control("BKP-02")
def test_the_timer_holds_the_drill_and_says_what_a_loss_would_cost(
    lab: Instance, target: Target, controller: Any
) -> None:
    assert "Next elapse" in on(
        controller, f"systemd-analyze calendar \"$(sed -n 's/^OnCalendar=//p' {EXAMPLES}/{TIMER})\""
    )
    before = held(target)
    on(controller, THIS_OFFICE.format(service=SERVICE, name=lab.name) + DUE.format(timer=TIMER))
    on(controller, f"systemctl daemon-reload; systemctl enable --now {TIMER}")
    ended = f"systemctl show --property=ExecMainExitTimestamp --value {SERVICE}"
    until(
        lambda: on(controller, ended).strip(),
        "the timer has started the drill, and it has ended",
        seconds=900,
        pace=2,
    )
    log = on(controller, f"journalctl --output=cat --unit={SERVICE}")
    logger.info("%s", log)
    assert on(controller, f"systemctl show --property=Result --value {SERVICE}").strip() == "success", log
    assert on(controller, f"systemctl show --property=TriggeredBy --value {SERVICE}").strip() == TIMER
    assert "everything was restored unchanged" in log
    assert "restored after" in log
    assert "a loss now would cost the mail of" in log
    done, *older = held(target)
    assert tuple(older) == before
    assert done.good
    assert 0 < done.data < done.rto
    assert done.rpo > 0
    logger.info("RPO %.0f s, RTO %.0f s, its data after %.0f s", done.rpo, done.rto, done.data)
