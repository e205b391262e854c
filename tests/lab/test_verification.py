"""A verification does not change the hosts: every file is compared before and after."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from outpost.office import Host, Office
from outpost.target import ROOT, Target
from outpost.transport.remote import run_script

STATE = {  # files that daemons write by themselves, or because of the checks' connections
    "/var/log": "journals",
    "/var/spool/postfix": "queue and sockets: a connection comes and goes",
    "/var/lib/postfix": "postscreen's memory of who was here",
    "/var/lib/redis": "Rspamd's counters",
    "/var/lib/rspamd": "Rspamd's caches",
    "/var/lib/chrony": "the clock's drift",
    "/var/lib/unbound": "the trust anchor's timers",
    "/var/lib/systemd": "when timers ran",
    "/var/lib/knot": "journal and signatures of the zones",
    "/var/lib/outpost-acme": "the ACME client's visits",
    "/etc/outpost/acme": "the same",
    "/var/lib/outpost-backup": "the backups by timer: when, and Borg's cache and counters",
    "/srv/mail": "mailboxes: indexes of a login",
    "/var/lib/roundcube/db": "SQLite's lock, and the script that asks PHP for its settings",
}
LOOK = (
    "find / -xdev \\( {state} -o -path /proc -o -path /sys -o -path /run -o -path /tmp -o -path /var/tmp -o -path /dev \\) -prune "
    "-o -printf '%p %y %m %u %g %s %T@ %C@\\n'; "
    "find /etc /usr/local /var /root /opt -xdev \\( {state} \\) -prune -o -type f -exec sha256sum {{}} +"
)


def seen(target: Target, office: Office) -> dict[str, set[str]]:
    """Each host's files: kind, mode, owner, size, times of change, and the contents that an administrator would change."""
    script = LOOK.format(state=" -o ".join(f"-path {path}" for path in STATE))

    def look(host: Host) -> set[str]:
        return set(run_script(target, office, host, script).splitlines())

    with ThreadPoolExecutor() as pool:
        return dict(zip((host.name for host in office.hosts), pool.map(look, office.hosts), strict=True))


@pytest.mark.slow
def test_a_verification_changes_no_file_on_any_host(target: Target, office: Office) -> None:
    before = seen(target, office)
    assert all(len(files) > 5000 for files in before.values())
    command = [sys.executable, "-m", "outpost", "verify", "lab", "--name", str(target.instance)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    after = seen(target, office)
    changed = [f"{name}: {line}" for name in before for line in sorted(before[name] ^ after[name])]
    assert not changed, "\n".join(changed)


@pytest.mark.slow
def test_the_comparison_of_files_finds_a_change(target: Target, office: Office) -> None:
    host = office.hosts[0]
    before = seen(target, office)[host.name]
    run_script(
        target, office, host, "touch /etc/trial; rm /etc/trial"
    )  # this includes files that were deleted again
    assert any(line.startswith("/etc d ") for line in before ^ seen(target, office)[host.name])
