"""Nothing is learned that nobody declared or accepted, whatever is blind, breaks off or fails (docs/adr/0021).

One test injects by chance (``--seed``), breaks applies off and blinds probes by chance. All are slow, and leave ns2 to be made anew where one fails.
"""

from __future__ import annotations

import logging
import random

import pytest

from outpost.lab.instance import Instance
from outpost.run import Silent, plan
from outpost.target import Target
from tests.lab.conftest import Pyinfra
from tests.lab.test_broken_off import killed_at, spoil
from tests.lab.test_drifts import DRIFTS, Drift, inject, named, on_host

pytestmark = pytest.mark.slow
logger = logging.getLogger(__name__)
EVIL = Drift("ns2", "/etc/sudoers.d/evil2", "echo 'nobody ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/evil2")
GHOST = Drift("ns2", "ghost", "echo 'ghost:x:0:0::/root:/bin/bash' >> /etc/passwd")
KNOWN = "/var/lib/outpost/known"
BLINDFOLDS = (
    (
        "mv /etc/gshadow /run/gshadow.aside",
        "[ ! -e /run/gshadow.aside ] || mv /run/gshadow.aside /etc/gshadow",
    ),
    (
        "mv /usr/bin/dpkg-query /root/dpkg-query",
        "[ ! -e /root/dpkg-query ] || mv /root/dpkg-query /usr/bin/dpkg-query",
    ),
    ("systemctl stop chrony", "systemctl start chrony"),
)
"""What keeps a probe from its answer, and what gives it back."""


def only(lab: Instance, *hosts: str) -> tuple[str, ...]:
    return tuple(word for host in hosts for word in ("--limit", f"@container/{lab.container_name(host)}"))


def all_is_well(lab: Instance, pyinfra: Pyinfra, target: Target, host: str) -> None:
    """An apply succeeds, and leaves nothing to report."""
    run = pyinfra("-y", "--json", *only(lab, host))
    assert run.code == 0, run.log
    left = plan(target, connector="docker", watcher=Silent(), limit=(host,))
    assert (left.changes, left.findings) == ((), ())


def test_a_daemon_that_does_not_answer_keeps_nothing_else_from_being_repaired(
    lab: Instance, pyinfra: Pyinfra, target: Target
) -> None:
    inject(lab, (Drift("ns2", "chrony.service", "systemctl stop chrony"), EVIL))
    seen = plan(target, connector="docker", watcher=Silent(), limit=("ns2",))
    assert named(seen, EVIL)
    all_is_well(lab, pyinfra, target, "ns2")
    assert on_host(lab, "ns2", "ls /etc/sudoers.d/evil2 2>/dev/null || true") == ""


def test_after_a_scan_that_was_not_whole_nothing_is_remembered(
    lab: Instance, pyinfra: Pyinfra, target: Target
) -> None:
    blind, back = BLINDFOLDS[0]
    before = on_host(lab, "ns2", f"sha256sum {KNOWN}")
    inject(lab, (GHOST, EVIL, Drift("ns2", "accounts", blind)))
    try:
        seen = plan(target, connector="docker", watcher=Silent(), limit=("ns2",))
        assert named(seen, Drift("ns2", "accounts", ""))
        run = pyinfra("-y", "--json", *only(lab, "ns2"))
        assert run.code != 0
        assert "accounts: cannot be observed" in run.log
        assert on_host(lab, "ns2", f"sha256sum {KNOWN}") == before
        assert on_host(lab, "ns2", "ls /etc/sudoers.d/evil2 2>/dev/null || true") == "", (
            "the rest is repaired"
        )
    finally:
        on_host(lab, "ns2", back)
    assert named(plan(target, connector="docker", watcher=Silent(), limit=("ns2",)), GHOST)
    all_is_well(lab, pyinfra, target, "ns2")
    assert "ghost" not in on_host(lab, "ns2", "cat /etc/passwd")


def test_what_came_before_and_during_an_apply_that_was_killed_is_repaired_by_the_next(
    lab: Instance, pyinfra: Pyinfra, target: Target
) -> None:
    mode = Drift("ns2", "/etc/shells", "chmod 0666 /etc/shells")
    spoil(lab, "ns2")
    inject(lab, (mode,))
    assert killed_at(lab, target, "ns2", 9)
    inject(lab, (GHOST, EVIL))
    seen = plan(target, connector="docker", watcher=Silent(), limit=("ns2",))
    assert [drift for drift in (GHOST, EVIL, mode) if not named(seen, drift)] in (
        [],
        [mode],
    )  # it may be repaired already
    all_is_well(lab, pyinfra, target, "ns2")
    assert on_host(
        lab,
        "ns2",
        "stat -c %a /etc/shells; grep -c ghost /etc/passwd; ls /etc/sudoers.d/evil2 2>&1 | grep -c 'No such'",
    ).split() == ["644", "0", "1"]


def test_what_was_there_before_the_first_apply_is_reported_and_kept_until_a_person_decides(
    lab: Instance, pyinfra: Pyinfra, target: Target
) -> None:
    """A host that nothing is known of is one before its first apply."""
    root = Drift(
        "ns2",
        "/etc/ssh/sshd_config.d/10-root.conf",
        "echo 'PermitRootLogin yes' > /etc/ssh/sshd_config.d/10-root.conf",
    )
    inject(lab, (GHOST, root, Drift("ns2", KNOWN, f"rm {KNOWN}")))
    assert pyinfra("-y", "--json", *only(lab, "ns2")).code == 0
    for _ in range(2):
        seen = plan(target, connector="docker", watcher=Silent(), limit=("ns2",))
        assert {finding["thing"] for finding in seen.findings} == {GHOST.thing, root.thing}
        assert all("hosts.ns2.accepted" in finding["consequence"] for finding in seen.findings)
        assert pyinfra("-y", "--json", *only(lab, "ns2")).code == 0
    assert "ghost" in on_host(lab, "ns2", "cat /etc/passwd /etc/ssh/sshd_config.d/10-root.conf")
    on_host(
        lab,
        "ns2",
        "sed -i /^ghost:/d /etc/passwd; rm /etc/ssh/sshd_config.d/10-root.conf; systemctl reload ssh",
    )
    all_is_well(lab, pyinfra, target, "ns2")


def test_one_strange_thing_does_not_stop_the_repair_of_others(
    lab: Instance, pyinfra: Pyinfra, target: Target
) -> None:
    strange = (
        Drift("ns2", r"/etc/cron.d/evil\xff", r"mkdir -p /etc/cron.d; touch \"$(printf '/etc/cron.d/evil\377')\"".replace(r"\"", '"')),
        Drift("ns2", r"/etc/cron.d/a\x09b", 'touch "$(printf \'/etc/cron.d/a\\tb\')"'),
        Drift("ns2", "evilbr", "ip link add evilbr type bridge && ip link set evilbr up"),
        Drift("ns2", "chrony.service", "systemctl mask --now --quiet chrony"), EVIL,
    )  # fmt: skip
    inject(lab, strange)
    seen = plan(target, connector="docker", watcher=Silent(), limit=("ns2",))
    assert not [drift for drift in strange if not named(seen, drift)]
    all_is_well(lab, pyinfra, target, "ns2")


def test_whatever_comes_at_whatever_moment_is_reported_or_gone(
    lab: Instance, pyinfra: Pyinfra, target: Target, pytestconfig: pytest.Config
) -> None:
    """Drifts, kills and blind probes by chance: what is known never gains anything, and in the end the host is as it is known."""
    seed = pytestconfig.getoption("--seed") or random.SystemRandom().randrange(100_000)
    chance = random.Random(seed)  # noqa: S311 (no secret)
    logger.info("--seed %d", seed)
    host = "ns2"
    mine = [drift for drift in DRIFTS if drift.host == host]
    known = set(on_host(lab, host, f"cat {KNOWN}").splitlines())
    for number in range(6):
        chosen = chance.sample(mine, 3)
        before, during = chosen[:2], chosen[2:]
        inject(lab, tuple(before))
        blind, back = chance.choice(BLINDFOLDS)
        if chance.random() < 0.4:
            on_host(lab, host, blind)
        spoil(lab, host)
        killed_at(lab, target, host, chance.randint(3, 40))
        inject(lab, tuple(during))
        if chance.random() < 0.5:
            pyinfra("-y", "--json", *only(lab, host))
        on_host(lab, host, back)
        seen = plan(target, connector="docker", watcher=Silent(), limit=(host,))
        things = {str(finding["thing"]) for finding in seen.findings}
        logger.info("%d: %s; named %s", number, [drift.thing for drift in chosen], sorted(things))
        all_is_well(lab, pyinfra, target, host)
        gained = set(on_host(lab, host, f"cat {KNOWN}").splitlines()) - known
        assert gained == set(), f"--seed {seed}, round {number}"
