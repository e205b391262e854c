"""What is lost comes back: one folder, a whole store, signing keys; and a host cannot take its backups with it.

These tests break the lab on purpose; they leave it whole.
"""

from __future__ import annotations

import json
import logging
import shlex
import subprocess
import sys

import pytest
from docker.models.containers import Container

from outpost.errors import OutpostError
from outpost.keys import secrets_file
from outpost.office.backup import LIB, SETTINGS
from outpost.recovery import backup
from outpost.recovery.backup import PROGRAM
from outpost.recovery.restore import held, mailbox
from outpost.target import ROOT, Target
from outpost.transport.remote import run_script
from outpost_lab import aptcache, drill, trust, up
from outpost_lab.drill import different, hold
from outpost_lab.drill_machines import Rooms
from outpost_lab.instance import VAULT, Instance, info
from outpost_lab.post import Town, compose
from tests.lab.test_certificates import on

FILL = """set -eu
doveadm mailbox create -u {user} {folder} 2>/dev/null || true
for number in $(seq 1 {count}); do
    printf 'From: a@x.test\\nSubject: {mark} %s\\n\\nbody %s\\n' $number $number | doveadm save -u {user} -m {folder}
done
doveadm flags add -u {user} '\\Seen' mailbox {folder} uid 1:3
doveadm flags add -u {user} '\\Flagged' mailbox {folder} uid 2
printf 'require "fileinto"; if header :contains "subject" "{mark}" {{ fileinto "Archive"; }}\\n' | doveadm sieve put -u {user} {mark}
"""

BY_MAIL_SINCE = ("messages were not there before", "next is", ".dovecot.lda-dupes is different")
"""The message that waited on the MTA changes this: it arrives as soon as the store is back."""

TAKEN_OVER = """set -eu
export BORG_BASE_DIR=/root/intruder BORG_PASSCOMMAND='cat {secrets}/passphrase' BORG_REPO='{repository}' BORG_NEW_PASSPHRASE=mine
export BORG_RSH='ssh -F none -i {secrets}/key -o UserKnownHostsFile={secrets}/known_hosts -o HostKeyAlias={known_name}'
rm -rf /root/intruder; mkdir -p /root/intruder; cd /root/intruder
"""
ATTACKS = (
    ("deleted by the host: ", "borg delete ::{last}; borg compact"),
    (
        "dated into the future",
        "borg create --timestamp 2035-01-01T00:00:00 ::2035-01-01T000000Z-000 /etc/hostname; borg compact",
    ),
    ("dated back", "borg create --timestamp 2026-01-01T00:00:00 ::2026-01-01T000000Z-000 /etc/hostname"),
    (
        "borg check",  # the data are deleted, the archives are not
        "borg debug dump-archive ::{last} dump; "
        "borg debug delete-obj $BORG_REPO $(sed -n '/\"_items\"/,$p' dump | grep -oE 'u007f[0-9a-f]{{64}}' | cut -c6- | sort -u)",
    ),
    ("borg list", "borg key change-passphrase"),
)
"""The answer of the backup server, and what the host's key could do. For too many archives see tests/unit/test_backup.py."""
HOSTILE = """place=var/lib/outpost-backup/stage; mkdir -p x/$place; cd x/$place
mkdir -p root/.ssh usr/local/bin etc/ssh/sshd_config.d var/lib/roundcube/db/former
echo evil > root/.ssh/authorized_keys.evil; echo evil > etc/ssh/sshd_config.d/evil.conf
cp /bin/true usr/local/bin/evil; chmod 4755 usr/local/bin/evil
cp usr/local/bin/evil var/lib/roundcube/db/former/plain; chmod 6777 var/lib/roundcube/db/former/plain
ln -s /etc var/lib/roundcube/db/former/evil-link; mkfifo var/lib/roundcube/db/former/evil-pipe
cp -a /etc/ssh/ssh_host_*_key* etc/ssh/; cp -a /var/lib/roundcube/db/roundcube.sqlite var/lib/roundcube/db/
cd /root/intruder/x; borg create ::$(date -u +%Y-%m-%dT%H%M%SZ)-000 $place
"""

PROGRAM_OF_AN_INTRUDER = r'''
_honest, _digest = Backup.snapshot, _sha256
PLANTED = """cd /srv/mail/.snapshot; mkdir evil; cd evil
cp /bin/sh setuid; mknod evil-disk b 8 0; mknod evil-null c 1 3; mkfifo evil-pipe
ln -s /etc evil-out; ln -s ../../../etc/shadow evil-up; ln -s /root/.ssh evil-ssh; chown -hR vmail:vmail .; chmod 6755 setuid
cd /var/lib/outpost-backup/stage; mkdir -p root/.ssh etc/ssh/sshd_config.d
echo evil > root/.ssh/authorized_keys.evil; echo evil > etc/ssh/sshd_config.d/evil.conf
cp /bin/sh var/lib/outpost-accounts/evil-setuid; chmod 4755 var/lib/outpost-accounts/evil-setuid
ln -s /etc var/lib/outpost-accounts/evil-link
"""


@contextmanager
def _planted(self):
    with _honest(self) as shown:
        subprocess.run(["sh", "-ec", PLANTED], check=True)
        yield shown


def _sha256(path):
    return "0" * 64 if "evil" in str(path) else _digest(path)


Backup.snapshot = _planted
'''
"""Replaces the backup program of a compromised store."""
BY_AN_INTRUDER = {
    "mknod": "mknod /tmp/disk b 8 0 && rm /tmp/disk",
    "mount": "mount -t tmpfs x /mnt && umount /mnt",
    "address": "ip address add 192.0.2.77/32 dev lo && ip address del 192.0.2.77/32 dev lo",
    "kernel": "cat /proc/sys/net/ipv4/ip_forward > /proc/sys/net/ipv4/ip_forward",
    "journal": "dmesg > /dev/null",
}
"""Attempts of a process that hostile mail has compromised; a privileged container allows them."""

logger = logging.getLogger(__name__)


def outpost(lab: Instance, *arguments: str) -> str:
    command = [sys.executable, "-m", "outpost", *arguments, "--name", lab.name]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def settled(lab: Instance) -> None:
    """After a command that changes an office, the plan is empty and every check is green."""
    assert "nothing to change" in outpost(lab, "plan", "lab")
    outpost(lab, "verify", "lab")


def fill(lab: Instance, mark: str, folder: str) -> str:
    user = lab.office.users[0].address
    on(lab, "store", FILL.format(user=user, folder=folder, mark=mark, count=5))
    return user


def lose(lab: Instance, host: str) -> None:
    """The machine is lost; an empty one replaces it."""
    lab.container(host).remove(force=True, v=True)
    up.up(lab.name, install=True)


@pytest.mark.slow
@pytest.mark.control("BKP-01")
def test_a_folder_deleted_by_mistake_comes_back_beside_the_live_ones(lab: Instance, target: Target) -> None:
    user = fill(lab, "mistake", "Tenders.v2")
    backup.run_now(target, lab.office, [lab.office.host("store")])
    on(lab, "store", f"doveadm mailbox delete -u {user} -s Tenders.v2")
    before = on(lab, "store", f"doveadm -f tab mailbox status -u {user} 'messages uidvalidity' '*'")
    into, count = mailbox(target, lab.office, user, folder="Tenders.v2")
    assert count == 5
    flags = on(
        lab, "store", f"doveadm -f tab fetch -u {user} flags mailbox '{into}/Tenders.v2'"
    ).splitlines()[1:]
    assert sum("Seen" in line for line in flags) == 3
    assert sum("Flagged" in line for line in flags) == 1
    on(lab, "store", f"doveadm mailbox delete -u {user} -r -s Restored || true")
    assert on(lab, "store", f"doveadm -f tab mailbox status -u {user} 'messages uidvalidity' '*'") == before


MANY = """python3 - <<'END'
import os, pathlib, pwd
os.setgid(pwd.getpwnam("vmail").pw_gid); os.setuid(pwd.getpwnam("vmail").pw_uid); os.umask(0o077)
box = pathlib.Path("/srv/mail/{local}/Maildir/.Many")
for part in ("cur", "new", "tmp"):
    (box / part).mkdir(parents=True, exist_ok=True)
for number in range(50_000):
    (box / "cur" / f"1700000000.M{{number}}P1.x:2,").write_text(f"Subject: {{number}}\\n\\nx\\n")
END
doveadm mailbox status -u {user} messages Many
"""


@pytest.mark.slow
@pytest.mark.control("BKP-01")
def test_mail_waits_no_longer_for_a_backup_of_50000_messages(lab: Instance, target: Target) -> None:
    user, store = lab.office.users[0].address, lab.office.host("store")
    frozen = {}
    try:
        for what in ("few", "many"):
            if what == "many":
                assert "messages=50000" in on(
                    lab, "store", MANY.format(local=user.partition("@")[0], user=user)
                )
            backup.run_now(target, lab.office, [store])
            frozen[what] = min(
                float(made["frozen"])
                for made in (backup.run_now(target, lab.office, [store])["store"] for _ in range(3))
            )
    finally:
        on(lab, "store", f"doveadm mailbox delete -u {user} -s Many")
    logger.info("mail waited %s s", frozen)
    assert frozen["many"] < 3 * frozen["few"]
    assert on(lab, "store", "ls -A /srv/mail | grep snapshot || true") == ""


@pytest.mark.slow
@pytest.mark.control("BKP-01")
def test_a_backup_that_is_killed_leaves_nothing_behind_and_mail_goes_on(lab: Instance) -> None:
    on(
        lab,
        "store",
        "systemctl start --no-block outpost-backup.service; until [ -d /srv/mail/.snapshot ]; do sleep 0.02; done",
    )
    on(
        lab,
        "store",
        "systemctl kill --signal=SIGKILL outpost-backup.service; until systemctl is-failed -q outpost-backup.service; do sleep 0.1; done",
    )
    assert on(lab, "store", "ls -A /srv/mail | grep snapshot || true") == ""
    assert on(lab, "store", "doveadm who >/dev/null && echo goes on").strip() == "goes on"
    on(
        lab, "store", "systemctl reset-failed outpost-backup.service; touch /var/lib/outpost/applied"
    )  # the journal names the kill


@pytest.mark.slow
@pytest.mark.control("BKP-01")
def test_a_backup_follows_no_link_that_vmail_put_there(lab: Instance, target: Target) -> None:
    store = lab.office.host("store")
    on(
        lab,
        "store",
        "runuser -u vmail -- ln -s /etc /srv/mail/.snapshot; stat -c '%U %a %Y' /etc > /run/before",
    )
    try:
        backup.run_now(target, lab.office, [store])
        assert on(lab, "store", "stat -c '%U %a' /etc").strip() == "root 755"
        assert on(lab, "store", "find /etc -user vmail").strip() == ""
    except OutpostError:  # refused is as good
        assert on(lab, "store", "find /etc -user vmail").strip() == ""
    finally:
        on(lab, "store", "rm -rf /srv/mail/.snapshot")


def with_its_key(lab: Instance, host: str, script: str) -> str:
    """An intruder uses all that a host has: borg, its key and its passphrase."""
    settings = json.loads(on(lab, host, "cat /etc/outpost/backup/settings.json"))
    return on(lab, host, TAKEN_OVER.format(**settings) + script)


def roll_back(lab: Instance, host: str) -> None:
    """The roll-back of docs/how-to/back-up-and-restore.md."""
    date = on(lab, VAULT, f"ls /srv/outpost/po/copies/{host} | tail -1").strip()
    on(lab, VAULT, f"python3 -I -B /srv/outpost/po/vault.py roll-back {host} {date}")
    on(lab, host, "rm -rf /var/lib/outpost-backup/.cache /var/lib/outpost-backup/.config")


@pytest.mark.slow
@pytest.mark.control("BKP-01")
def test_a_hosts_key_alone_cannot_destroy_its_backups(lab: Instance, target: Target) -> None:
    kept, host = secrets_file.read(lab.directory), lab.office.host("webmail")
    backup.run_now(target, lab.office, [host])
    on(
        lab,
        VAULT,
        f"rm -rf /srv/outpost/po/copies/{host.name} /srv/outpost/po/repositories/{host.name}.known",
    )
    on(lab, VAULT, "systemctl start outpost-vault-po.service")
    before = backup.archives(target, lab.office, [host])
    for why, attack in ATTACKS:
        backup.thin_out(lab.office, kept)
        # as if the last compaction were long ago: what is deleted now cannot come back
        on(
            lab,
            VAULT,
            f"sed -i -E 's/(\"compacted\": )[0-9.]+/\\11/' /srv/outpost/po/repositories/{host.name}.known",
        )
        with_its_key(lab, host.name, attack.format(last=before[-1].name))
        with pytest.raises(OutpostError, match=f"{host.name}: refused: .*{why}") as refused:
            backup.thin_out(lab.office, kept)
        logger.info("%s", refused.value)
        roll_back(lab, host.name)
        assert backup.archives(target, lab.office, [host]) == before, why
    backup.thin_out(lab.office, kept)
    outside = with_its_key(
        lab,
        host.name,
        "$BORG_RSH {account} 'cat /srv/outpost/po/vault.json' </dev/null || true".replace(
            "{account}", f"outpost-po@{lab.office.backup.server}" if lab.office.backup else ""
        ),
    )
    assert "hosts" not in outside


@pytest.mark.slow
@pytest.mark.control("BKP-01")
def test_a_repository_that_is_damaged_at_the_other_end_turns_a_check_red(
    lab: Instance, target: Target
) -> None:
    kept, host = secrets_file.read(lab.directory), lab.office.host("webmail")
    place = f"/srv/outpost/po/repositories/{host.name}"
    backup.run_now(target, lab.office, [host])
    damaged = on(lab, VAULT, f"find {place}/data -type f -size +4k | sort | head -1").strip()
    flip = f"cp -a {damaged} /root/whole; printf X | dd of={damaged} bs=1 seek=2000 conv=notrunc status=none"
    assert "checked" in on(lab, host.name, f"{PROGRAM} check --quick")
    on(lab, VAULT, flip)
    try:
        assert "0" not in on(lab, host.name, f"{PROGRAM} check --quick >/dev/null 2>&1; echo $?").split()
        with pytest.raises(OutpostError, match=f"{host.name}: refused: borg check"):
            backup.thin_out(lab.office, kept)
    finally:
        on(lab, VAULT, f"cat /root/whole > {damaged}")
    assert "checked" in on(lab, host.name, f"{PROGRAM} check --quick")


@pytest.mark.slow
@pytest.mark.control("BKP-02")
def test_from_a_hostile_archive_only_declared_files_come_back(lab: Instance, target: Target) -> None:
    host = lab.office.host("webmail")
    backup.run_now(target, lab.office, [host])
    with_its_key(lab, host.name, HOSTILE)
    lose(lab, host.name)
    logger.info("%s", outpost(lab, "restore", "lab", host.name, "--yes").strip())
    assert (
        on(
            lab,
            host.name,
            "ls -d /root/.ssh/authorized_keys.evil /usr/local/bin/evil /etc/ssh/sshd_config.d/evil.conf 2>/dev/null || true",
        )
        == ""
    )
    found = on(lab, host.name, "find /var/lib/roundcube/db -xdev -printf '%P %y %m %u\\n' | sort").split("\n")
    assert "former/plain f 600 roundcube" in found
    assert not [line for line in found if "evil" in line]
    settled(lab)


@pytest.mark.slow
@pytest.mark.control("BKP-02")
def test_a_lost_store_comes_back_with_every_uid_flag_filter_and_login(lab: Instance, target: Target) -> None:
    user = fill(lab, "lost", "Projects")
    store = lab.office.host("store")
    taken = json.loads(run_script(target, lab.office, store, f"{PROGRAM} run --manifest"))
    town = Town(info(lab))
    alice = town.user(user.partition("@")[0])
    lose(lab, "store")
    message, token = compose(town.head_office.address, [user])
    town.head_office.send(message, [user])  # while it is gone
    logger.info("%s", outpost(lab, "restore", "lab", "store", "--yes").strip())
    found = json.loads(on(lab, "store", f"{PROGRAM} manifest --mail /srv/mail"))
    wanted = taken["manifest"]
    came = [line for line in different(wanted, found) if not any(moved in line for moved in BY_MAIL_SINCE)]
    assert came == [], "but for what came since, everything is as it was"
    trust.certificates(lab)  # Pebble's answer may take a moment
    alice.receive(token)  # logs in with the password of before; nothing was lost on the way
    settled(lab)


@pytest.mark.slow
@pytest.mark.control("BKP-02", "DNS-01")
def test_a_lost_primary_comes_back_with_the_keys_of_its_backup(lab: Instance, target: Target) -> None:
    primary = lab.office.with_role("dns")[0]
    backup.run_now(target, lab.office, [primary])
    keys = f"keymgr {lab.office.domain} list"
    before = on(lab, primary.name, keys)
    lose(lab, primary.name)
    logger.info("%s", outpost(lab, "restore", "lab", primary.name, "--yes").strip())
    assert on(lab, primary.name, keys) == before
    on(
        lab,
        "gw",
        f"unbound-control flush_zone {lab.office.domain}; kdig +dnssec +short @127.0.0.1 {lab.office.domain} SOA | grep .",
    )
    settled(lab)


@pytest.mark.slow
@pytest.mark.control("BKP-02")
def test_the_drill_sees_everything_come_back_and_says_how_long_it_took(target: Target) -> None:
    done = hold(target, report=logger.info)
    logger.info("%s", done)
    assert done.differences == ()
    assert done.logins == 4
    assert 0 < done.data < done.rto
    assert held(target)[0] == done


def tried(container: Container, script: str, user: str = "") -> bool:
    code, output = container.exec_run(["timeout", "10", "bash", "-c", script], user=user)
    logger.info("%s: %s: %s %s", container.name, script, code, output.decode(errors="replace").strip())
    return bool(code == 0)


def confined(lab: Instance, rooms: Rooms) -> None:
    """The container with an intruder's data can do nothing, and the positive control shows that the test would notice."""
    store, line = (rooms.client.containers.get(f"outpost-{rooms.name}-{what}") for what in ("store", "line"))
    privileged = lab.container(VAULT)
    for container in (store, line):
        host = container.attrs["HostConfig"]
        assert not host["Privileged"]
        assert (host["Binds"] or [], host["Devices"] or []) == ([], [])
        for what, attempt in BY_AN_INTRUDER.items():
            assert tried(privileged, attempt), f"{what}: elsewhere it works"
            assert not tried(container, attempt, user="root"), what
    assert container_says(line, "id -u; sed -n 's/^CapBnd:.//p' /proc/self/status") == ["0" * 16, "65534"]
    assert container_says(store, "ls /sys/class/net") == ["lo"]
    planted = "find / -xdev -name '*evil*' ! -path '/proc/*' '(' ! -type f ! -type d -o -perm /6000 -o -path '/root/*' -o -path '/etc/*' ')'"
    assert container_says(store, planted) == []
    assert container_says(store, "find /srv/mail -name setuid -printf '%m %u'") == ["600 vmail"]
    assert container_says(store, f"ls {SETTINGS}") == ["known_hosts", "settings.json"]
    archive = rooms.client.containers.get(aptcache.NAME)
    archive.reload()
    address = archive.attrs["NetworkSettings"]["Networks"][rooms.network]["IPAddress"]
    reach = "exec 3<>/dev/tcp/{}/{}"
    assert tried(line, reach.format(rooms.view.backup.server, rooms.view.backup.port))
    for machine, works in ((line, False), (store, False), (privileged, True)):
        assert tried(machine, reach.format(address, 3142)) is works


def container_says(container: Container, script: str) -> list[str]:
    code, output = container.exec_run(["sh", "-c", script])
    assert code == 0, output
    return sorted(output.decode().splitlines())


@pytest.mark.slow
@pytest.mark.control("BKP-02")
def test_a_drill_with_a_hostile_archive_harms_nobody(
    lab: Instance, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Rooms] = []

    def logins(target: Target, rooms: Rooms) -> tuple[int, list[str]]:
        confined(lab, rooms)
        seen.append(rooms)
        return honest(target, rooms)

    honest = drill._logins
    monkeypatch.setattr(drill, "_logins", logins)
    code = on(lab, "store", f"cat {LIB}").replace(
        '\nif __name__ == "__main__":', f'{PROGRAM_OF_AN_INTRUDER}\n\nif __name__ == "__main__":'
    )
    on(lab, "store", "systemctl stop outpost-backup.timer outpost-backup.service")
    on(lab, "store", f"cp -a {LIB} /root/honest; printf %s {shlex.quote(code)} > {LIB}")
    try:
        done = hold(target, report=logger.info)
    finally:
        on(lab, "store", f"cp -a /root/honest {LIB}; rm -rf /root/honest /srv/mail/.snapshot")
        on(lab, "store", "systemctl start outpost-backup.timer")
        backup.run_now(target, lab.office, [lab.office.host("store")])
    logger.info("%s", done)
    assert "8 entries of the archive were refused" in done.differences
    assert [line for line in done.differences if "evil" not in line and "refused" not in line] == []
    assert done.logins == 4
    (rooms,) = seen
    assert rooms.client.containers.list(all=True, filters={"label": f"outpost.drill={rooms.name}"}) == []
    assert rooms.client.images.list(filters={"label": f"outpost.drill={rooms.name}"}) == []
