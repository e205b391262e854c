"""What is lost comes back: one folder, a whole store, signing keys; and a host cannot take its backups with it.

These tests break the lab on purpose; they leave it whole.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys

import pytest

from outpost import backup, secrets
from outpost.backup import PROGRAM
from outpost.drill import different, held, hold
from outpost.errors import OutpostError
from outpost.lab import trust, up
from outpost.lab.info import info
from outpost.lab.instance import VAULT, Instance
from outpost.lab.post import Town, letter
from outpost.remote import run_script
from outpost.restore import mailbox
from outpost.target import ROOT, Target
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

BY_MAIL_SINCE = ("messages more", "next is", ".dovecot.lda-dupes is different")
"""What the letter changes that waited on the MTA: it is in the mailbox as soon as the store is back."""

logger = logging.getLogger(__name__)


def outpost(lab: Instance, *arguments: str) -> str:
    command = [sys.executable, "-m", "outpost", *arguments, "--name", lab.name]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def fill(lab: Instance, mark: str, folder: str) -> str:
    user = lab.office.users[0].address
    on(lab, "store", FILL.format(user=user, folder=folder, mark=mark, count=5))
    return user


def lose(lab: Instance, host: str) -> None:
    """The machine burns down; an empty one stands in its place."""
    lab.container(host).remove(force=True, v=True)
    up.up(lab.name)


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


@pytest.mark.slow
@pytest.mark.control("BKP-01")
def test_what_a_host_withdraws_is_noticed_before_it_is_gone_for_good(lab: Instance, target: Target) -> None:
    kept, host = secrets.read(lab.directory), lab.office.host("webmail")
    backup.run_now(target, lab.office, [host])
    backup.thin_out(lab.office, kept)
    (*_, last) = backup.archives(target, lab.office, [host])
    repository = f"/srv/outpost/po/repositories/{host.name}"
    segments = on(lab, VAULT, f"tar -C {repository} -cf /root/before.tar . && ls {repository}/data/*")
    settings = json.loads(on(lab, host.name, "cat /etc/outpost/backup/settings.json"))
    on(
        lab, host.name,
        f"BORG_BASE_DIR=/var/lib/outpost-backup BORG_PASSCOMMAND='cat /etc/outpost/backup/passphrase' BORG_RSH='ssh -i "
        f"/etc/outpost/backup/key -o UserKnownHostsFile=/etc/outpost/backup/known_hosts -o HostKeyAlias={settings['known_name']}' "
        f"borg delete {settings['repository']}::{last.name}",
    )  # fmt: skip
    assert last.name not in {one.name for one in backup.archives(target, lab.office, [host])}
    try:
        with pytest.raises(OutpostError, match=f"{host.name}: withdrawn: {last.name}"):
            backup.thin_out(lab.office, kept)
        still = on(lab, VAULT, f"ls {repository}/data/*")
        assert set(segments.split()) <= set(still.split()), "append-only: what was there is there"
    finally:  # the way back that the how-to page describes, made short: the state before
        on(
            lab,
            VAULT,
            f"rm -rf {repository}/* && tar -C {repository} -xf /root/before.tar && chown -R outpost-po: {repository}",
        )
    on(lab, host.name, "rm -rf /var/lib/outpost-backup/.cache /var/lib/outpost-backup/.config")
    assert last.name in {one.name for one in backup.archives(target, lab.office, [host])}


@pytest.mark.slow
@pytest.mark.control("BKP-02")
def test_a_lost_store_comes_back_with_every_uid_flag_filter_and_login(lab: Instance, target: Target) -> None:
    user = fill(lab, "lost", "Projects")
    store = lab.office.host("store")
    taken = json.loads(run_script(target, lab.office, store, f"{PROGRAM} run --manifest"))
    town = Town(info(lab))
    alice = town.user(user.partition("@")[0])
    lose(lab, "store")
    message, token = letter(town.head_office.address, [user])
    town.head_office.send(message, [user])  # while it is gone
    logger.info("%s", outpost(lab, "restore", "lab", "store", "--yes").strip())
    found = json.loads(on(lab, "store", f"{PROGRAM} manifest --mail /srv/mail"))
    wanted = taken["manifest"]
    came = [line for line in different(wanted, found) if not any(moved in line for moved in BY_MAIL_SINCE)]
    assert came == [], "but for what came since, everything is as it was"
    trust.certificates(lab)  # Pebble's answer may take a moment
    alice.receive(token)  # logs in with the password of before; nothing was lost on the way
    outpost(lab, "lab", "up", "--no-verify")  # certificates by ACME are fetched anew
    assert "nothing to change" in outpost(lab, "plan", "lab")


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


@pytest.mark.slow
@pytest.mark.control("BKP-02")
def test_the_drill_sees_everything_come_back_and_says_how_long_it_took(target: Target) -> None:
    done = hold(target, tell=logger.info)
    logger.info("%s", done)
    assert done.differences == ()
    assert done.logins == 4
    assert 0 < done.data < done.rto
    assert held(target)[0] == done
