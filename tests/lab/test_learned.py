"""The known state has only what is declared or accepted, even if probes fail or applies are interrupted (docs/adr/0021).

One test injects drift, interrupts applies and blinds probes at random (``--seed``). All are slow. If one fails, ns2 has to be made again.
"""

from __future__ import annotations

import json
import logging
import random
import re
import shlex

import pytest

from outpost.engine.run import Silent, plan
from outpost.onhost.observe import OBSERVER
from outpost.target import Target
from outpost_lab.instance import Instance
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
        "mv /etc/gshadow /run/gshadow.aside; mv /etc/gshadow- /run/gshadow-.aside",  # a copy would bring it back
        "[ ! -e /run/gshadow.aside ] || { mv /run/gshadow-.aside /etc/gshadow-; mv /run/gshadow.aside /etc/gshadow; }",
    ),
    (
        "mv /usr/bin/dpkg-query /root/dpkg-query",
        "[ ! -e /root/dpkg-query ] || mv /root/dpkg-query /usr/bin/dpkg-query",
    ),
    ("systemctl stop chrony", "systemctl start chrony"),
)
"""Shell that blinds a probe, and shell that undoes it."""


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


def test_an_incomplete_scan_changes_no_known_state(lab: Instance, pyinfra: Pyinfra, target: Target) -> None:
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
    )  # an apply may have repaired it already
    all_is_well(lab, pyinfra, target, "ns2")
    assert on_host(
        lab,
        "ns2",
        "stat -c %a /etc/shells; grep -c ghost /etc/passwd; ls /etc/sudoers.d/evil2 2>&1 | grep -c 'No such'",
    ).split() == ["644", "0", "1"]


def test_what_was_there_before_the_first_apply_is_reported_and_kept_until_a_person_decides(
    lab: Instance, pyinfra: Pyinfra, target: Target
) -> None:
    """A host without a known state is like a host before its first apply."""
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
        Drift(
            "ns2",
            r"/etc/cron.d/evil\xff",
            r"mkdir -p /etc/cron.d; touch \"$(printf '/etc/cron.d/evil\377')\"".replace(r"\"", '"'),
        ),
        Drift("ns2", r"/etc/cron.d/a\x09b", "touch \"$(printf '/etc/cron.d/a\\tb')\""),
        Drift("ns2", "evilbr", "ip link add evilbr type bridge && ip link set evilbr up"),
        Drift("ns2", "chrony.service", "systemctl mask --now --quiet chrony"),
        EVIL,
    )
    inject(lab, strange)
    seen = plan(target, connector="docker", watcher=Silent(), limit=("ns2",))
    assert not [drift for drift in strange if not named(seen, drift)]
    all_is_well(lab, pyinfra, target, "ns2")


def test_what_cannot_be_done_is_named_with_its_remedy_and_everything_else_is_repaired(
    lab: Instance, pyinfra: Pyinfra, target: Target
) -> None:
    """On a host without a known state, where unknown things wait for a person's decision: the worst case for an apply."""
    foreign = "/etc/ssh/sshd_config.d/10-foreign.conf"
    declared = (
        "/etc/resolv.conf",
        "/etc/sudoers.d/outpost",
        "/etc/ssh/sshd_config.d/00-outpost.conf",
        "/etc/chrony/chrony.conf",
    )
    unit = "sed -n 's/^unit //p' /var/lib/outpost/applied/*"
    inject(
        lab,
        (
            Drift("ns2", foreign, f"echo 'Nonsense yes' > {foreign}"),
            Drift(
                "ns2",
                "/etc/sudoers.d/foreign",
                "echo '# foreign' > /etc/sudoers.d/foreign; chmod 0644 /etc/sudoers.d/foreign",
            ),
            Drift(
                "ns2",
                "/etc/chrony",
                "rm /etc/chrony/chrony.conf; mkdir /etc/chrony/chrony.conf; touch /etc/chrony/chrony.conf/x",
            ),
            *(Drift("ns2", path, f"echo '# spoilt' >> {path}") for path in declared[:-1]),
            Drift("ns2", "units", f"for unit in $({unit}); do systemctl mask --now --quiet $unit; done"),
            Drift("ns2", KNOWN, f"rm {KNOWN}"),
        ),
    )
    run = pyinfra("-y", "--json", *only(lab, "ns2"))
    assert run.code != 0
    (undone,) = [line for line in run.log.splitlines() if "not done: " in line]
    assert "not done: base | sshd: " in undone
    assert re.search(f"Remedy: put `file {foreign}` into hosts.ns2.refused", undone), "what its message names"
    spoilt = on_host(lab, "ns2", f"grep -l spoilt {' '.join(declared)}; true").split()
    assert spoilt == ["/etc/ssh/sshd_config.d/00-outpost.conf"]
    states = on_host(
        lab, "ns2", f"systemctl is-active $({unit} | grep -v ^ssh.service); systemctl is-enabled $({unit})"
    ).split()
    assert set(states) <= {"active", "enabled", "static", "masked"}
    on_host(lab, "ns2", f"rm {foreign} /etc/sudoers.d/foreign")
    all_is_well(lab, pyinfra, target, "ns2")
    assert "masked" not in on_host(lab, "ns2", f"systemctl is-enabled $({unit})")


def test_drift_at_any_moment_is_reported_or_repaired(
    lab: Instance, pyinfra: Pyinfra, target: Target, pytestconfig: pytest.Config
) -> None:
    """Random drifts, kills and failed probes: the known state never grows, and at the end the host equals it."""
    seed = pytestconfig.getoption("--seed") or random.SystemRandom().randrange(100_000)
    chance = random.Random(seed)  # noqa: S311 (no secret)
    logger.info("--seed %d", seed)
    host = "ns2"
    mine = [drift for drift in DRIFTS if drift.host == host]
    known = set(on_host(lab, host, f"grep -v ^seal {KNOWN}").splitlines())
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
        gained = set(on_host(lab, host, f"grep -v ^seal {KNOWN}").splitlines()) - known
        assert gained == set(), f"--seed {seed}, round {number}"


def test_a_known_state_that_was_edited_is_reported_and_hides_nothing(
    lab: Instance, pyinfra: Pyinfra, target: Target
) -> None:
    plain = Drift(
        "ns2", "/etc/evil.conf", "echo x > /etc/evil.conf"
    )  # it grants nothing, so only the missing seal reveals it
    inject(lab, (EVIL, GHOST, plain))
    facts = [
        fact
        for fact in json.loads(on_host(lab, "ns2", f"{OBSERVER} look"))["appeared"]
        if "evil" in fact or "ghost" in fact
    ]
    assert len(facts) >= 3
    on_host(lab, "ns2", f"printf '%s\\n' {' '.join(map(shlex.quote, facts))} >> {KNOWN}")
    seen = plan(target, connector="docker", watcher=Silent(), limit=("ns2",))
    assert [drift for drift in (EVIL, GHOST, plain, Drift("ns2", KNOWN, "")) if not named(seen, drift)] == []
    on_host(lab, "ns2", f"rm {plain.thing}")  # what grants nothing is not deleted without a person's decision
    all_is_well(lab, pyinfra, target, "ns2")
    assert on_host(lab, "ns2", "ls /etc/sudoers.d/evil2; grep ghost /etc/passwd; true") == ""


def test_mail_that_somebody_put_on_hold_is_reported_and_stays_there(
    lab: Instance, pyinfra: Pyinfra, target: Target
) -> None:
    on_host(
        lab,
        "mta",
        "until postqueue -j | grep -q '\"hold\"'; do"  # the message may be returned before it is on hold
        " echo x | sendmail -f maria@po.myertor.test x@unreachable.invalid; postsuper -h ALL; done",
    )
    try:
        for _ in range(2):
            seen = plan(target, connector="docker", watcher=Silent(), limit=("mta",))
            assert named(seen, Drift("mta", "mail queue", ""))
            assert not seen.changes
            assert pyinfra("-y", "--json", *only(lab, "mta")).code == 0
    finally:
        on_host(lab, "mta", "postsuper -d ALL hold")
