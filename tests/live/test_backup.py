"""The backup: its age, whether it can be read, and that this host cannot delete it."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from testinfra.host import Host as TestinfraHost

from outpost.office import Office
from outpost.office.backup import LIB, SETTINGS, STATE
from outpost.office.tables.operation import Backup
from tests.live.asking import modes
from tests.live.pending import unless_backed_up
from tests.live.systemd import Units

pytestmark = [pytest.mark.looks, pytest.mark.daemons("'outpost-backup*'")]

PROGRAM = f"python3 -B {LIB}"
KEY = "/etc/ssh/ssh_host_ed25519_key.pub"
"""A file that every host's backup has, and that does not change."""


@pytest.fixture(scope="session")
def backup(office: Office) -> Backup:
    """What the office file says."""
    if office.backup is None:
        pytest.skip("the office file declares no backup")
    return office.backup


@pytest.mark.probe
@pytest.mark.control("BKP-01")
@pytest.mark.remedy(
    "run journalctl -u outpost-backup on the host to see why, then ./outpost backup OFFICE --now --limit HOST"
)
def test_the_last_backup_is_not_older_than_the_office_allows(
    host: TestinfraHost, units: Units, backup: Backup
) -> None:
    """The last backup is not older than the office file allows.

    Both the host's own record and the archives at the other end are read.
    """
    now = datetime.now(UTC).timestamp()
    last = host.file(f"{STATE}/last.json")
    if last.exists:
        kept = json.loads(host.check_output(f"{PROGRAM} list"))[-1]
        moments = (
            datetime.fromisoformat(json.loads(last.content_string)["started"]),
            datetime.fromisoformat(f"{kept['name'][:17]}+00:00"),
        )
        since = min(moment.timestamp() for moment in moments)
    else:  # a new host has the same time for its first backup
        since = float(host.check_output(f"stat --format=%W {STATE}"))
    assert now - since < backup.oldest, f"{(now - since) / 3600:.1f} h ago"
    assert units.runs("outpost-backup.timer")


@pytest.mark.probe
@pytest.mark.control("BKP-01")
@pytest.mark.remedy("run what ./outpost backup OFFICE --other-end prints on the backup server, as root")
@pytest.mark.usefixtures("backup")
def test_what_is_kept_is_there_and_can_be_read(host: TestinfraHost) -> None:
    """The latest backup exists, and a file restored from it is unchanged."""
    last = host.file(f"{STATE}/last.json")
    if not last.exists:
        pytest.skip("no backup was made yet")
    archives = {entry["id"] for entry in json.loads(host.check_output(f"{PROGRAM} list"))}
    assert json.loads(last.content_string)["id"] in archives
    host.check_output(
        "set -e; place=$(mktemp -d -p /run); trap 'rm -rf $place' EXIT; "
        f"{PROGRAM} extract latest --rest $place --only /etc/ssh; cmp $place{KEY} {KEY}"
    )


@pytest.mark.live
@pytest.mark.control("BKP-01")
@pytest.mark.remedy(
    "roll back to a copy on the backup server: docs/how-to/back-up-and-restore.md, When a repository is refused"
)
@pytest.mark.usefixtures("backup")
def test_the_repository_is_undamaged_at_the_other_end(host: TestinfraHost) -> None:
    """The backup repository is undamaged at the other end.

    The other end checks it for at most a minute, and continues from there the next time.
    """
    if not host.file(f"{STATE}/last.json").exists:
        pytest.skip("no backup was made yet")
    host.check_output(f"{PROGRAM} check --quick")


@pytest.mark.live
@pytest.mark.control("BKP-01")
@pytest.mark.remedy("run what ./outpost backup OFFICE --other-end prints on the backup server, as root")
@pytest.mark.usefixtures("backup")
def test_this_host_cannot_take_away_what_is_kept(host: TestinfraHost, office: Office) -> None:
    """This host can neither delete backups nor open those of another host.

    It tries on a repository that exists for this check only.
    """
    if host.run(f"{PROGRAM} list").rc:
        unless_backed_up(host, office)
    found = json.loads(host.check_output(f"{PROGRAM} probe"))
    assert len(found) == 3
    assert [what for what, answer in found.items() if answer.startswith("allowed")] == []


@pytest.mark.control("BKP-01", "SEC-01")
@pytest.mark.usefixtures("backup")
def test_what_opens_the_backup_is_roots_alone(host: TestinfraHost) -> None:
    """Only root can read the key and the passphrase of the backup."""
    found = modes(host, SETTINGS, f"{SETTINGS}/key", f"{SETTINGS}/passphrase", STATE)
    assert found == [f"root root {mode}" for mode in (700, 600, 600, 700)]
