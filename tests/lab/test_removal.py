"""What is no longer declared is removed from the hosts; mail is archived, never deleted."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from outpost.office_file.people import Roster
from outpost.target import ROOT
from outpost_lab import office as lab_office
from outpost_lab.instance import Instance, info
from outpost_lab.post import Town, compose
from tests.awaiting import until
from tests.lab.conftest import Pyinfra
from tests.lab.test_reapply import on

pytestmark = [pytest.mark.slow, pytest.mark.control("AUT-07", "SYS-04")]
USER = "eve"
DATABASE = "/var/lib/roundcube/db/roundcube.sqlite"
UNIT = "[Service]\\nType=oneshot\\nRemainAfterExit=yes\\nExecStart=true\\n[Install]\\nWantedBy=multi-user.target\\n"
BYGONE = f"""
import roles.dns.declare as _role
from outpost.converge import files as _files, shapes as _shapes

_declare = _role.declare


def _with_bygone(**given):
    yield from _declare(**given)
    yield _shapes.packages("tree")
    unit = _files.text("/etc/systemd/system/bygone.service", "{UNIT}")
    yield _shapes.service(name="bygone", unit="bygone.service", files=[unit])
    yield _shapes.settings(
        name="bygone drop-in",
        files=[_files.text("/etc/systemd/system/knot.service.d/bygone.conf", "[Service]\\nNice=1\\n")],
        activate="systemctl daemon-reload; systemctl try-restart knot",
    )


_role.declare = _with_bygone
"""


@pytest.fixture
def roster(lab: Instance) -> Iterator[Roster]:
    """The people of the office file, which is restored afterwards."""
    before = lab.office_file.read_text()
    yield Roster(before)
    lab.office_file.write_text(before)


def applied(lab: Instance, pyinfra: Pyinfra, *hosts: str, deploy: Path | str = "deploy.py") -> None:
    """An apply of some hosts that succeeds."""
    only = [word for host in hosts for word in ("--limit", f"@container/{lab.container_name(host)}")]
    run = pyinfra("-y", "--json", *only, deploy=deploy)
    assert run.code == 0, run.log


def webmail_knows(lab: Instance, address: str, database: str = DATABASE) -> list[int]:
    """Numbers of a user's rows, of all contacts, and of all users in a database of webmail."""
    query = f"select (select count(*) from users where username = '{address}'), (select count(*) from contacts), (select count(*) from users)"
    return [
        int(number) for number in on(lab, "webmail", f'sqlite3 -readonly {database} "{query}"').split("|")
    ]


def test_mail_and_keys_of_a_user_who_left_are_archived_and_logins_end(
    lab: Instance, pyinfra: Pyinfra, roster: Roster
) -> None:
    before = roster.text
    address = f"{USER}@{lab.office.domain}"
    roster.add("users", {"address": address})
    lab.office_file.write_text(roster.text)
    fresh = Instance(name=lab.name, slot=lab.slot)
    lab_office.seal(fresh)
    applied(fresh, pyinfra, "store", "mta", "webmail")
    user = Town(info(fresh)).user(USER)
    message, token = compose(user.address, [user.address])
    user.send(message, [user.address])
    user.receive(token)
    on(lab, "store", f"printf 'from x\\nsession y 99999999999\\n' > /var/lib/outpost-accounts/{address}")
    others = on(lab, "store", "ls /srv/mail").split()
    others.remove(USER)
    on(
        lab,
        "webmail",
        f"runuser -u roundcube -- sqlite3 {DATABASE} \"insert into users (username, mail_host) values ('{address}', 'x'); "
        f"insert into contacts (user_id, name) values (last_insert_rowid(), '{token}')\"",
    )
    known = webmail_knows(lab, address)
    home = on(lab, "store", f"find /srv/mail/{USER} -type f | wc -l").strip()
    assert int(home) > 0

    lab.office_file.write_text(before)
    plan = pyinfra("--dry", "--json", "--diff")
    assert any("mail of former users" in operation for operation in plan.changes)
    applied(lab, pyinfra, "store", "mta", "webmail")
    put = f"/srv/mail/.former/{address}-{datetime.now(tz=UTC):%Y-%m-%d}"
    assert on(lab, "store", f"ls -d {put}*").split(), "the mail is not archived"
    assert on(lab, "store", f"grep -rl {token} {put}*/Maildir | wc -l").strip() != "0"
    assert "session" not in on(lab, "store", f"cat {put}*/account.outpost")
    assert (
        on(lab, "store", f"ls -d /srv/mail/{USER} /var/lib/outpost-accounts/{address} 2>/dev/null || true")
        == ""
    )
    assert "exist" in on(lab, "store", f"doveadm user {address} || true"), "it still gets mail"
    assert on(lab, "store", "ls /srv/mail").split() == others
    assert webmail_knows(lab, address) == [0, known[1] - 1, known[2] - 1]
    kept = on(lab, "webmail", f"ls {DATABASE.replace('roundcube.sqlite', 'former')}/{address}-*").split()[-1]
    assert webmail_knows(lab, address, kept) == [1, 1, 1]
    assert token in on(lab, "webmail", f"sqlite3 -readonly {kept} 'select name from contacts'")
    assert pyinfra("--dry", "--json").changes == {}


def test_a_drop_in_a_unit_and_a_package_that_nobody_declares_any_more_are_gone(
    lab: Instance, pyinfra: Pyinfra, tmp_path: Path
) -> None:
    deploy = tmp_path / "deploy.py"
    deploy.write_text(BYGONE + (ROOT / "deploy.py").read_text())
    applied(lab, pyinfra, "ns2", deploy=deploy)
    there = on(
        lab, "ns2", "systemctl is-active bygone; systemctl show --value -p Nice knot; command -v tree"
    ).split()
    assert there == ["active", "1", "/usr/bin/tree"]
    assert any("no longer declared" in operation for operation in pyinfra("--dry", "--json").changes)
    applied(lab, pyinfra, "ns2")
    left = on(
        lab,
        "ns2",
        "ls /etc/systemd/system /etc/systemd/system/knot.service.d; systemctl list-units --all --plain 'bygone*' --no-legend; "
        "command -v tree || true; systemctl show --value -p Nice knot",
    )
    assert "bygone" not in left
    assert "tree" not in left
    assert left.split()[-1] == "0", "the daemon still runs with the drop-in"
    assert pyinfra("--dry", "--json").changes == {}


UPGRADES = """
import fcntl, os, signal
locks = [open(path, "w") for path in ("/var/lib/apt/daily_lock", "/var/lib/apt/lists/lock", "/var/lib/dpkg/lock-frontend")]
fcntl.flock(locks[0], fcntl.LOCK_EX)
for lock in locks[1:]:
    fcntl.lockf(lock, fcntl.LOCK_EX)
print(os.getpid(), flush=True)
signal.pause()
"""
"""Hold the locks of apt.systemd.daily, apt-get and dpkg during an upgrade."""
WAITS = 'grep -c "[-]> FLOCK.*:$(stat --format=%i /var/lib/apt/daily_lock) " /proc/locks || true'


def test_an_apply_waits_until_the_hosts_own_upgrades_are_over(
    lab: Instance, pyinfra: Pyinfra, tmp_path: Path
) -> None:
    assert "daily_lock" in on(lab, "ns2", "cat /usr/lib/apt/apt.systemd.daily"), (
        "upgrades hold another lock now"
    )
    deploy = tmp_path / "deploy.py"
    deploy.write_text(BYGONE + (ROOT / "deploy.py").read_text())
    command = ["docker", "exec", lab.container_name("ns2"), "python3", "-c", UPGRADES]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as upgrades,
        ThreadPoolExecutor() as pool,
    ):
        assert upgrades.stdout is not None
        number = int(upgrades.stdout.readline())
        try:
            under_way = pool.submit(applied, lab, pyinfra, "ns2", deploy=deploy)
            until(
                lambda: under_way.done() or on(lab, "ns2", WAITS).strip() == "1",
                "the apply waits, or has broken off",
                seconds=300,
                pace=1,
            )
            on(lab, "ns2", f"kill {number}")
            under_way.result()
        finally:
            on(lab, "ns2", f"kill {number} 2>/dev/null || true")
            applied(lab, pyinfra, "ns2")
