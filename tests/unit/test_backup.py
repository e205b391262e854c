"""Backups: what is stored of each host, what the backup server allows a host's key, and what a restore must bring back unchanged."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import pwd
import re
import shutil
import socket
import sqlite3
import stat
import tarfile
import tempfile
import time
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from outpost.errors import OutpostError
from outpost.keys import secrets_file
from outpost.keys.model import Secrets
from outpost.office import Office
from outpost.office.backup import backup_of
from outpost.office.load import parse
from outpost.onhost import backup as host_backup
from outpost.onhost import vault, watch
from outpost.onhost.backup import Seen, folder, linked_tree, manifest, unpacked
from outpost.onhost.vault import COMPACTED, Known, Vault, VaultError, objections
from outpost.recovery import backup
from outpost.recovery.backup import Manifest
from outpost.transport import answers
from outpost_lab import drill
from outpost_lab.drill import different

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
def kept(office: Office) -> Secrets:
    return secrets_file.complete(office).secrets


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
        "ns1": {"copy", "knot"},
        "ns2": {"copy"},
        "mta": {"copy"},
        "store": {"copy", "mail"},
        "webmail": {"copy", "sqlite"},
    }


def test_a_hosts_key_opens_its_own_repository_and_only_adds(office: Office, kept: Secrets) -> None:
    script = backup.other_end(office, kept)
    lines = re.findall(r'^command="(.*?)",restrict (\S+ \S+) (\S+)$', script, flags=re.MULTILINE)
    assert len(lines) == len(office.hosts) + 1
    assert len({key for _, key, _ in lines}) == len(lines)
    for host, (command, _, name) in zip(office.hosts, lines, strict=False):
        path = f"/srv/outpost/po/repositories/{host.name}"
        mail = sum((*map(office.quota, office.users), *map(office.quota, office.shared)))
        quota = 20 * 1024**3 + 2 * mail * (host.role == "store")
        assert name == host.fqdn
        assert command == (
            f"flock --shared /srv/outpost/po/locks/{host.name} borg serve --append-only --storage-quota {quota} --restrict-to-repository {path} --restrict-to-repository {path}.probe"
        )
    assert lines[-1][0] == "python3 -I -B /srv/outpost/po/vault.py thin-out"


BORG = """#!/bin/sh
echo "$*" >> {log}
case $1 in
    create) [ -e {log}.free ] || {{ echo 'The storage quota (20.00 MB) has been exceeded (23.31 MB). Try deleting some archives.' >&2; exit 2; }}
        echo '{{"archive": {{"name": "x", "id": "y", "stats": {{"nfiles": 1, "original_size": 1, "deduplicated_size": 1}}}}}}' ;;
    list) echo '{{"archives": []}}' ;;
esac
"""


@pytest.fixture
def borg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The commands that it got, one on each line; it refuses archives when its quota is used up."""
    log, programs = tmp_path / "asked", tmp_path / "programs"
    programs.mkdir()
    (programs / "borg").write_text(BORG.format(log=log))
    (programs / "borg").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return log


def test_a_host_whose_archives_use_up_its_quota_says_so(tmp_path: Path, borg: Path) -> None:
    """Without a quota one taken-over host fills the disk for all."""
    state = tmp_path / "state"
    made = host_backup.Backup(
        {"secrets": tmp_path, "state": state, "sources": [], "repository": "r", "known_name": "k", "rate": 0}
    )
    wanted = {"backup": str(state / "last.json"), "backup_age": 3600.0}
    with pytest.raises(host_backup.BackupError, match="storage quota"):
        made.run()
    (alarm,) = watch.backup(wanted, time.time())
    assert "backup.quota" in alarm.text
    Path(f"{borg}.free").touch()
    made.run()
    assert list(watch.backup(wanted, time.time())) == []


def test_no_name_of_a_file_ends_a_backup_or_a_thinning(
    tmp_path: Path, borg: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Borg warns of a file by its name, and a daemon's account chooses that name."""
    programs = borg.parent / "programs/borg"
    programs.write_text(programs.read_text().replace("case", r"printf '\377: file changed\n' >&2; case", 1))
    made = host_backup.Backup(
        {
            "secrets": tmp_path,
            "state": tmp_path / "state",
            "sources": [],
            "repository": "r",
            "known_name": "k",
            "rate": 0,
        }
    )
    Path(f"{borg}.free").touch()
    assert made.run()["archive"] == "x"
    (tmp_path / "repositories/store/data").mkdir(parents=True)
    (tmp_path / "locks").mkdir()
    (tmp_path / "locks/store").touch()
    monkeypatch.setattr(vault, "objections", lambda *_: iter(()))
    kept_there = vault.Vault(tmp_path, {"every": 1, "oldest": 1})
    assert kept_there.thin_out("store", "word") == "0 archives, undamaged"


def test_old_archives_go_also_where_the_quota_is_used_up(
    tmp_path: Path, borg: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Borg notes a host's quota in a repository that it makes, and refuses to prune beyond it."""
    top = tmp_path / "vault"
    (top / "repositories/store").mkdir(parents=True)
    (top / "locks").mkdir()
    (top / "locks/store").touch()
    now = time.time()
    (top / "repositories/store.known").write_text(json.dumps({"examined": now, "compacted": now - COMPACTED}))
    monkeypatch.setattr(vault, "objections", lambda *_: iter(()))
    monkeypatch.setattr(Vault, "_copied_lately", lambda *_: None)
    Vault(top, dict.fromkeys(("every", "oldest", "hourly", "daily", "weekly", "monthly"), 1)).thin_out(
        "store", "p"
    )
    commands = [line for line in borg.read_text().splitlines() if not line.startswith(("list", "check"))]
    assert [line.split()[0] for line in commands] == ["config", "prune", "compact"]
    assert commands[0].endswith(f"--delete {top}/repositories/store storage_quota")


def test_a_host_that_writes_files_without_content_is_named(
    tmp_path: Path, borg: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Borg counts what a host sends against its quota, and not the file that each commit makes: seen, 20 a second."""
    top = tmp_path / "vault"
    (top / "locks").mkdir(parents=True)
    (top / "locks/store").touch()
    for number in range(4):
        path = top / f"repositories/store/data/{number % 2}/{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (top / "repositories/store/config").touch()
    monkeypatch.setattr(vault, "MOST_FILES", 3)
    office = Vault(top, {})
    with pytest.raises(VaultError, match="4 files"):
        office.thin_out("store", "p")
    owners: list[int] = []
    monkeypatch.setattr(os, "fchown", lambda _, user, __: owners.append(user))
    data, probe = top / "repositories/store/data", top / "repositories/store.probe/data"
    (top / "copies/store" / f"{datetime.now(UTC):%Y-%m-%d}").mkdir(parents=True)  # the hour does not matter
    with pytest.raises(VaultError, match="not copied"):
        office.copy("store")
    assert owners == [0], "its host starts no further directory of files there"
    assert stat.S_IMODE(data.stat().st_mode) == 0o750
    data.rename(tmp_path / "data")
    shutil.copytree(tmp_path / "data", probe)
    with pytest.raises(VaultError, match="accepts no more"):
        office.copy("store")  # nor in the other repository that its key opens
    with pytest.raises(VaultError, match="4 files"):
        office.thin_out("store", "p")
    assert (owners, stat.S_IMODE(probe.stat().st_mode)) == ([0, 0], 0o750)
    assert not borg.exists() or not borg.read_text()


def test_the_other_end_learns_no_secret(office: Office, kept: Secrets) -> None:
    script = backup.other_end(office, kept)
    assert "OnCalendar=*:0/5\n" in script, "a host makes files in the meantime"
    for keys in kept.backup.values():
        assert keys.passphrase.get_secret_value() not in script
        assert keys.ssh_key.get_secret_value().splitlines()[1] not in script


def test_no_two_hosts_share_a_passphrase_and_completing_again_changes_none(
    office: Office, kept: Secrets
) -> None:
    assert len({keys.passphrase.get_secret_value() for keys in kept.backup.values()}) == len(office.hosts)
    again = secrets_file.complete(office, kept)
    assert again.added == ()
    assert again.secrets == kept
    assert Secrets.model_validate_json(kept.model_dump_json()) == kept


def test_an_office_without_keys_for_it_gets_a_remedy(office: Office) -> None:
    without = secrets_file.complete(lab()).secrets.model_copy(update={"backup": {}})
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
    (maildir / "alice/.dovecot.svbin").touch()
    assert linked_tree(str(maildir), str(tmp_path / "snapshot"), {}) == 3
    assert not (tmp_path / "snapshot/alice/.dovecot.svbin").exists()
    box, copy = maildir / "alice" / "Maildir", tmp_path / "snapshot" / "alice" / "Maildir"
    assert (copy / "cur" / "1.M1.host:2,FS").samefile(box / "cur" / "1.M1.host:2,FS")
    assert not (copy / "dovecot-uidlist").samefile(box / "dovecot-uidlist")
    assert not any((copy / name).exists() for name in ("tmp", "fts-flatcurve", "dovecot.index.cache"))
    assert manifest(maildir, None) == manifest(tmp_path / "snapshot", None)


def test_while_mail_waits_only_what_changed_is_brought_up_to_date(maildir: Path, tmp_path: Path) -> None:
    box, copy = maildir / "alice" / "Maildir", tmp_path / "snapshot"
    seen: dict[str, Seen] = {}
    (box.parent / ".dovecot.sieve").symlink_to("sieve/x.sieve")
    for path in sorted(maildir.rglob("*"), reverse=True):
        os.utime(path, (1e9, 1e9), follow_symlinks=False)
    linked_tree(str(maildir), str(copy), seen)
    assert linked_tree(str(maildir), str(copy), seen) == 0
    (box / "cur" / "1.M1.host:2,FS").rename(box / "cur" / "1.M1.host:2,S")
    (box / "new" / "4.M4.host").write_text("four")
    (box / "dovecot-uidlist").write_text("3 V77 N10 Gabc\n9 :4.M4.host\n")
    (box / "subscriptions").unlink()
    (box / ".Sent" / "cur").mkdir(parents=True)
    (box / ".Archive" / "new").rmdir()
    assert linked_tree(str(maildir), str(copy), seen) == 2
    assert manifest(copy, None) == manifest(maildir, None)
    assert (copy / "alice" / ".dovecot.sieve").readlink() == Path("sieve/x.sieve")
    assert not (copy / "alice/Maildir/.Archive/new").exists()
    (box / ".Archive" / "cur" / "5.M5.host").write_text("five")
    assert (linked_tree(str(maildir), str(copy), seen), manifest(copy, None)) == (1, manifest(maildir, None))


def tar(*members: tuple[str, bytes, str]) -> io.BytesIO:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, kind, target in members:
            member = tarfile.TarInfo(name)
            member.type, member.mode, member.uid = kind, 0o6777, 0
            member.linkname, member.devmajor, member.devminor = target, 1, 3
            content = b"" if kind != tarfile.REGTYPE else target.encode()
            member.linkname, member.size = ("" if content else target), len(content)
            archive.addfile(member, io.BytesIO(content))
    stream.seek(0)
    return stream


@pytest.mark.control("BKP-02")
def test_only_plain_files_below_their_source_come_back(tmp_path: Path) -> None:
    outside, into = tmp_path / "outside", tmp_path / "into"
    outside.mkdir()
    into.mkdir()
    hostile = tar(
        ("a", tarfile.DIRTYPE, ""),
        ("a/one", tarfile.REGTYPE, "one"),
        ("a/two", tarfile.LNKTYPE, "a/one"),
        ("active", tarfile.SYMTYPE, "a/one"),
        ("device", tarfile.CHRTYPE, ""),
        ("pipe", tarfile.FIFOTYPE, ""),
        ("../outside/up", tarfile.REGTYPE, "x"),
        (f"{outside}/absolute", tarfile.REGTYPE, "x"),
        ("leaves", tarfile.SYMTYPE, str(outside)),
        ("leaves/through", tarfile.REGTYPE, "x"),
        ("climbs", tarfile.SYMTYPE, "a/../../outside"),
        ("climbs/through", tarfile.REGTYPE, "x"),
        ("hard", tarfile.LNKTYPE, "../outside/secret"),
        ("dangling", tarfile.LNKTYPE, "nothing"),
        ("a/one/below-a-file", tarfile.REGTYPE, "x"),
        # Dovecot would run them
        ("a/compiled.svbin", tarfile.REGTYPE, "x"),
        (".dovecot.svbin", tarfile.LNKTYPE, "a/one"),
        ("linked.svbin", tarfile.SYMTYPE, "a/one"),
    )
    (outside / "secret").write_text("secret")
    assert unpacked(hostile, into, {}) == 9
    assert [path.name for path in outside.iterdir()] == ["secret"]
    found = {str(path.relative_to(into)): path for path in into.rglob("*")}
    assert set(found) == {
        "a",
        "a/one",
        "a/two",
        "active",
        "leaves",
        "leaves/through",
        "climbs",
        "climbs/through",
    }
    assert {path for path in found if found[path].is_symlink()} == {"active"}
    assert {
        oct(path.lstat().st_mode & 0o7777)
        for path in found.values()
        if path.is_file() and not path.is_symlink()
    } == {"0o600"}


@pytest.mark.control("BKP-02")
@pytest.mark.parametrize(
    ("name", "kind", "target", "time"),
    [
        ("n" * 300, tarfile.REGTYPE, "x", 0.0),
        ("/".join("d" * 100 for _ in range(60)), tarfile.DIRTYPE, "", 0.0),
        ("loop/x", tarfile.REGTYPE, "x", 0.0),
        ("late", tarfile.REGTYPE, "x", 1e300),
        ("early", tarfile.DIRTYPE, "", -1e300),
        ("long-link", tarfile.SYMTYPE, "t" * 5000, 0.0),
        ("dangling", tarfile.LNKTYPE, "nothing", 0.0),
        ("itself", tarfile.LNKTYPE, "itself", 0.0),
    ],
)
def test_an_entry_that_cannot_be_written_keeps_no_other_from_coming_back(
    name: str, kind: bytes, target: str, time: float, tmp_path: Path
) -> None:
    hostile = io.BytesIO()
    with tarfile.open(fileobj=hostile, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for member, content in (
            (entry("loop", tarfile.SYMTYPE, "loop"), b""),
            (entry(name, kind, target, time), b"x" if kind == tarfile.REGTYPE else b""),
            (entry("honest", tarfile.REGTYPE), b"mail"),
        ):
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    hostile.seek(0)
    assert unpacked(hostile, tmp_path, {}) <= 1
    assert (tmp_path / "honest").read_text() == "mail"


def entry(name: str, kind: bytes, target: str = "", time: float = 0.0) -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.type, found.linkname, found.mtime = kind, target, time
    return found


@pytest.mark.control("BKP-02")
def test_a_full_disk_ends_the_restore(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tarfile.TarFile, "extract", full)
    with pytest.raises(OSError, match="No space"):
        unpacked(tar(("a", tarfile.REGTYPE, "one")), tmp_path, {})


@pytest.mark.control("BKP-02")
def test_of_a_source_with_a_pattern_nothing_else_comes_back(tmp_path: Path) -> None:
    hostile = tar(
        ("ssh_host_ed25519_key", tarfile.REGTYPE, "key"),
        ("sshd_config", tarfile.REGTYPE, "PermitRootLogin yes"),
        ("sshd_config.d/ssh_host_x_key", tarfile.REGTYPE, "x"),
        ("ssh_host_y_key", tarfile.SYMTYPE, "z"),
    )
    assert unpacked(hostile, tmp_path, {"only": "ssh_host_*_key*"}) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["ssh_host_ed25519_key"]


@pytest.mark.control("BKP-02")
def test_no_command_for_redis_comes_back(office: Office, tmp_path: Path) -> None:
    """Redis runs each line of an append-only file; its snapshot is data."""
    view = backup_of(office, office.host("mta"))
    assert view is not None
    (redis,) = (source for source in view.sources if source.get("owner") == "redis")
    names = ("appendonly.aof.1.incr.aof", "appendonlydir/appendonly.aof.1.incr.aof", "dump.rdb")
    unpacked(tar(*((name, tarfile.REGTYPE, "") for name in names)), tmp_path, redis)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["dump.rdb"]


NOW = datetime(2026, 11, 29, 12, tzinfo=UTC).timestamp()


def archive(hours_ago: float, key: str = "", name: str = "") -> tuple[str, str, float]:
    moment = NOW - hours_ago * 3600
    usual = f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%dT%H%M%SZ}-000"
    return (key or usual, name or usual, moment)


@pytest.mark.control("BKP-01")
@pytest.mark.parametrize(
    ("new", "why"),
    [
        ([archive(hours) for hours in (23, 12, 1)], ""),
        ([archive(1), archive(-24 * 365)], "dated into the future"),
        ([archive(24 * 40), archive(1)], "dated back"),
        ([archive(30), archive(1)], "dated back"),
        ([archive(1), archive(2, name=archive(-900)[1])], "dated into the future"),
        ([archive(1), archive(2, name=archive(900)[1])], "dated back"),
        ([archive(1), archive(2, name="\x1b[2Kevil")], "names that the backup does not give"),
        ([archive(number / 10) for number in range(100, 0, -1)], "more than its timer makes"),
        ([], "no archive since"),
    ],
)
def test_what_an_honest_host_cannot_have_sent_stops_the_thinning(
    new: list[tuple[str, str, float]], why: str
) -> None:
    known = [archive(48), archive(25)]
    before = Known({key: name for key, name, _ in known}, known[-1][2], NOW - 86400, NOW - 86400)
    reasons = list(objections(before, [*known, *new], NOW, 3600, 6 * 3600))
    assert all(line.isprintable() for line in reasons)
    if why:
        assert any(why in line for line in reasons), reasons
    else:
        assert reasons == []
    assert any(
        "deleted by the host" in line for line in objections(before, [known[1], *new], NOW, 3600, 6 * 3600)
    )


def test_a_daemons_database_is_copied_with_the_rights_of_its_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite reads what a compromised daemon wrote, and does not run as root."""
    owner = pwd.getpwuid(os.geteuid() or 65534)
    with tempfile.TemporaryDirectory() as place:
        path = Path(place, "some.db")
        with contextlib.closing(sqlite3.connect(path)) as database:
            database.executescript("CREATE TABLE t (a); INSERT INTO t VALUES ('kept')")
        for each in (place, path):
            os.chown(each, owner.pw_uid, owner.pw_gid)
        source = {"kind": "sqlite", "path": str(path), "owner": owner.pw_name}
        made = host_backup.Backup({"secrets": place, "state": f"{place}/state", "sources": [source]})
        copy = made.stage / str(path).lstrip("/")
        made._sqlite(source)
        with contextlib.closing(sqlite3.connect(copy)) as database:
            assert database.execute("SELECT a FROM t").fetchall() == [("kept",)]
        monkeypatch.setattr(host_backup, "ONLINE_COPY", "import os; print(os.getresuid())")
        made._sqlite(source)
        assert copy.read_text().strip() == str((owner.pw_uid,) * 3)
        monkeypatch.undo()
        path.write_bytes(b"SQLite format 3\0" + b"x" * 200)
        with pytest.raises(host_backup.BackupError, match=r"malformed|not a database"):
            made._sqlite(source)


def test_a_file_that_is_deleted_while_it_is_copied_ends_no_backup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    top, into = tmp_path / "live", tmp_path / "copy"
    top.mkdir()
    for name in ("a", "gone", "z"):
        (top / name).write_text(name)
    walked = list(os.walk(top))
    (top / "gone").unlink()
    monkeypatch.setattr(os, "walk", lambda _top: iter(walked))
    host_backup.copied_tree(top, into, {"path": str(top)})
    assert sorted(path.name for path in into.iterdir()) == ["a", "z"]


def test_a_copy_waits_for_no_fifo_follows_no_link_and_takes_no_memory_for_a_large_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The owner of the tree may replace each entry between two reads."""
    top, into = tmp_path / "live", tmp_path / "copy"
    top.mkdir()
    (top / "file").write_text("kept")
    os.mkfifo(top / "fifo")
    (top / "link").symlink_to(top / "file")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(top / "socket"))
    looked = Path.lstat
    monkeypatch.setattr(Path, "lstat", lambda path: looked(top / "file" if path.parent == top else path))
    monkeypatch.setattr(Path, "read_bytes", lambda _path: pytest.fail("the whole of it in memory"))
    host_backup.copied_tree(top, into, {"path": str(top)})
    assert {path.name: path.read_text() for path in into.iterdir()} == {"file": "kept"}


@pytest.mark.control("BKP-01")
def test_a_file_with_more_holes_than_there_is_room_does_not_fill_the_disk(tmp_path: Path) -> None:
    """The owner of the tree makes a file with holes: the copy would have zeros instead."""
    top, into = tmp_path / "live", tmp_path / "copy"
    top.mkdir()
    with (top / "a").open("wb") as file:
        file.truncate(1 << 42)
    with pytest.raises(host_backup.BackupError, match=f"{top}/a has {1 << 42} octets"):
        host_backup.copied_tree(top, into, {"path": str(top)})
    assert not (into / "a").stat().st_size


@pytest.mark.control("BKP-01")
@pytest.mark.parametrize(
    "line", [":1.M1.host", "x :1.M1.host", "9" * 5000 + " :1.M1.host", "\u0661 :1.M1.host"]
)
def test_a_manifest_ends_at_no_line_of_a_users_process(maildir: Path, line: str) -> None:
    inbox = maildir / "alice" / "Maildir"
    listed = (inbox / "dovecot-uidlist").read_text()
    (inbox / "dovecot-uidlist").write_text(f"3 Vx N{'9' * 5000} \n{line}\n{listed.partition(chr(10))[2]}")
    assert folder(inbox)["messages"]["2.M2.host"][0] == 8


@pytest.mark.control("BKP-01")
def test_a_manifest_lists_no_directory_that_a_link_leads_to(maildir: Path) -> None:
    inbox = maildir / "alice" / "Maildir"
    (inbox / "cur").rename(inbox / "away")
    (inbox / "cur").symlink_to("/etc")
    assert "passwd" not in folder(inbox)["messages"]


def test_a_manifest_waits_for_no_fifo_and_reads_no_link(maildir: Path) -> None:
    """A compromised process of vmail can create both, and root reads the snapshot."""
    inbox = next(path.parent for path in maildir.rglob("cur"))
    os.mkfifo(inbox / "cur" / "1.fifo:2,S")
    (inbox / "dovecot-uidlist").unlink(missing_ok=True)
    (inbox / "dovecot-uidlist").symlink_to("/etc/passwd")
    found = folder(inbox)
    assert found["messages"]["1.fifo"] == [0, "S", "not a regular file"]
    assert found["uidvalidity"] == 0


def test_a_manifest_knows_uids_flags_and_content(maildir: Path) -> None:
    found = folder(maildir / "alice" / "Maildir")
    assert (found["uidvalidity"], found["next"]) == (77, 9)
    assert {name: entry[:2] for name, entry in found["messages"].items()} == {
        "1.M1.host": [4, "FS"],
        "2.M2.host": [8, "a"],
        "3.M3.host": [0, ""],
    }


def manifest_of(maildir: Path) -> backup.Manifest:
    return answers.parsed(json.dumps(manifest(maildir, None)), backup.Manifest, "store")


def test_whatever_does_not_come_back_the_same_is_named(maildir: Path) -> None:
    before = manifest_of(maildir)
    assert list(different(before, manifest_of(maildir))) == []
    box = maildir / "alice" / "Maildir"
    os.rename(box / "cur" / "1.M1.host:2,FS", box / "cur" / "1.M1.host:2,S")  # noqa: PTH104
    (box / "cur" / "2.M2.host:2,a").write_text("tow")
    (box / "new" / "3.M3.host").unlink()
    (box / "dovecot-uidlist").write_text("3 V78 N9 Gabc\n4 :1.M1.host\n7 :2.M2.host\n")
    (box / "subscriptions").unlink()
    (box / ".Archive" / "cur").rmdir()
    named = "\n".join(different(before, manifest_of(maildir)))
    for part in (
        "uidvalidity is 78, was 77",
        "1 messages are missing",
        "another UID in 1",
        "another flags in 1",
        "another content in 1",
        "subscriptions is missing",
        "folder alice/Maildir/.Archive is missing",
    ):
        assert part in named


def test_a_drill_reads_no_file_that_a_host_names_outside_of_what_is_kept() -> None:
    asked: list[str] = []

    def say(script: str, **_: Any) -> str:
        asked.append(script)
        return "" if "sha256sum" in script else '{"folders": {}, "files": {}}'

    rooms: Any = SimpleNamespace(
        say=say,
        machine=SimpleNamespace(name="store"),
        view=SimpleNamespace(sources=({"path": "/var/lib/outpost-accounts"},)),
    )
    named = (
        "/dev/zero",
        "/var/lib/outpost-accounts/../../../dev/zero",
        "/var/lib/outpost-accounts/a@x.test",
        "/var/lib/outpost-accountsX",
    )
    wanted: Manifest = {"folders": {}, "files": {f"rest{path}": "0" * 64 for path in named}}
    (difference,) = drill._files_compared(rooms, wanted)
    assert difference.startswith("3 files outside the declared paths")
    assert [line.split()[1] for line in asked[1].splitlines() if line.startswith("0")] == [named[2]]
