"""Backups: what is kept of each host, what the other end lets its key do, and what must come back the same."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from outpost import backup, secrets
from outpost.drill import different
from outpost.errors import OutpostError
from outpost.office import Office
from outpost.office.backup import backup_of
from outpost.office.load import parse
from outpost.onhost.backup import folder, linked_tree, manifest

ROOT = Path(__file__).resolve().parents[2]


def lab(**changes: Any) -> Office:
    data = tomllib.loads((ROOT / "inventory/lab/office.toml").read_text(encoding="utf-8"))
    data["tls"].pop("trusted_authorities")
    data["backup"] |= changes
    office, problems = parse(data)
    assert office is not None
    assert problems == []
    return office


@pytest.fixture(scope="module")
def office() -> Office:
    return lab()


@pytest.fixture(scope="module")
def kept(office: Office) -> secrets.Secrets:
    return secrets.complete(office).secrets


@pytest.fixture
def maildir(tmp_path: Path) -> Path:
    box = tmp_path / "mail" / "alice" / "Maildir"
    for name in ("cur", "new", "tmp", "fts-flatcurve", ".Archive/cur", ".Archive/new"):
        (box / name).mkdir(parents=True)
    (box / "cur" / "1.M1.host:2,FS").write_text("one")
    (box / "cur" / "2.M2.host:2,a").write_text("two")
    (box / "new" / "3.M3.host").write_text("three")
    (box / "tmp" / "half").write_text("ha")
    (box / "fts-flatcurve" / "index").write_text("x")
    (box / "dovecot.index.cache").write_text("x")
    (box / "dovecot-uidlist").write_text("3 V77 N9 Gabc\n4 W10 :1.M1.host\n8 :2.M2.host\n")
    (box / "subscriptions").write_text("Archive\n")
    return tmp_path / "mail"


def test_each_host_keeps_what_only_it_has(office: Office) -> None:
    kinds = {
        host.name: {source["kind"] for source in view.sources}
        for host in office.hosts
        if (view := backup_of(office, host))
    }
    assert kinds == {
        "ns1": {"copy", "knot"}, "ns2": {"copy"}, "mta": {"copy"}, "store": {"copy", "mail"}, "webmail": {"copy", "sqlite"},
    }  # fmt: skip


def test_a_hosts_key_opens_its_own_repository_and_only_adds(office: Office, kept: secrets.Secrets) -> None:
    script = backup.other_end(office, kept)
    lines = re.findall(r'^command="(.*?)",restrict (\S+ \S+) (\S+)$', script, flags=re.MULTILINE)
    assert len(lines) == len(office.hosts) + 1
    assert len({key for _, key, _ in lines}) == len(lines)
    for host, (command, _, name) in zip(office.hosts, lines, strict=False):
        path = f"/srv/outpost/po/repositories/{host.name}"
        assert name == host.fqdn
        assert command == (
            f"borg serve --append-only --restrict-to-repository {path} --restrict-to-repository {path}.probe"
        )
    assert lines[-1][0] == "/srv/outpost/po/thin-out"


def test_the_other_end_learns_no_secret(office: Office, kept: secrets.Secrets) -> None:
    script = backup.other_end(office, kept)
    for keys in kept.backup.values():
        assert keys.passphrase.get_secret_value() not in script
        assert keys.ssh_key.get_secret_value().splitlines()[1] not in script


def test_no_two_hosts_share_a_passphrase_and_completing_again_changes_none(
    office: Office, kept: secrets.Secrets
) -> None:
    assert len({keys.passphrase.get_secret_value() for keys in kept.backup.values()}) == len(office.hosts)
    again = secrets.complete(office, kept)
    assert again.added == ()
    assert again.secrets == kept
    assert secrets.Secrets.model_validate_json(kept.model_dump_json()) == kept


def test_an_office_without_keys_for_it_is_told_how_to_make_them(office: Office) -> None:
    without = secrets.complete(lab()).secrets.model_copy(update={"backup": {}})
    with pytest.raises(OutpostError, match="no keys yet"):
        backup.other_end(office, without)
    with pytest.raises(OutpostError, match="no keys yet for the backup of ns1"):
        backup.thin_out(office, without)


@pytest.mark.parametrize(("percent", "rate"), [(0, 0), (25, 47), (100, 188), (1, 16)])
def test_a_backup_leaves_the_line_to_the_mail(percent: int, rate: int) -> None:
    view = backup_of(office := lab(line_percent=percent), office.host("store"))
    assert view is not None
    assert view.rate == rate


def test_a_snapshot_links_messages_and_copies_what_dovecot_writes_in_place(
    maildir: Path, tmp_path: Path
) -> None:
    assert linked_tree(maildir, tmp_path / "snapshot") == 3
    box, copy = maildir / "alice" / "Maildir", tmp_path / "snapshot" / "alice" / "Maildir"
    assert (copy / "cur" / "1.M1.host:2,FS").samefile(box / "cur" / "1.M1.host:2,FS")
    assert not (copy / "dovecot-uidlist").samefile(box / "dovecot-uidlist")
    assert not any((copy / name).exists() for name in ("tmp", "fts-flatcurve", "dovecot.index.cache"))
    assert manifest(maildir, None) == manifest(tmp_path / "snapshot", None)


def test_a_manifest_knows_uids_flags_and_content(maildir: Path) -> None:
    found = folder(maildir / "alice" / "Maildir")
    assert (found["uidvalidity"], found["next"]) == (77, 9)
    assert {name: entry[:2] for name, entry in found["messages"].items()} == {
        "1.M1.host": [4, "FS"], "2.M2.host": [8, "a"], "3.M3.host": [0, ""],
    }  # fmt: skip


def test_whatever_does_not_come_back_the_same_is_named(maildir: Path) -> None:
    before = manifest(maildir, None)
    assert list(different(before, manifest(maildir, None))) == []
    box = maildir / "alice" / "Maildir"
    os.rename(box / "cur" / "1.M1.host:2,FS", box / "cur" / "1.M1.host:2,S")  # noqa: PTH104
    (box / "cur" / "2.M2.host:2,a").write_text("tow")
    (box / "new" / "3.M3.host").unlink()
    (box / "dovecot-uidlist").write_text("3 V78 N9 Gabc\n4 :1.M1.host\n7 :2.M2.host\n")
    (box / "subscriptions").unlink()
    (box / ".Archive" / "cur").rmdir()
    said = "\n".join(different(before, manifest(maildir, None)))
    for part in (
        "uidvalidity is 78, was 77", "1 messages are missing", "another UID in 1", "another flags in 1",
        "another content in 1", "subscriptions is missing", "folder alice/Maildir/.Archive is missing",
    ):  # fmt: skip
        assert part in said
