"""A rollback restores the previous declaration or nothing, and never a file that was edited on the host."""

from __future__ import annotations

import grp
import hashlib
import os
import pwd
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pyinfra.api.exceptions import OperationError

from outpost.converge import guard
from outpost.converge.files import File, text
from outpost.onhost import observe as observer
from outpost.target import ROOT

KEY = "chrony"


@pytest.fixture
def root() -> Iterator[Path]:
    """The part of a host's file system that the scripts use.

    It is not below pytest's own directory: each run of pytest, the ones that tests start too, closes that for all
    accounts but its owner's.
    """
    with tempfile.TemporaryDirectory(prefix="outpost-root-") as made:
        place = Path(made)
        place.chmod(0o711)
        for below in ("etc", "var/lib/outpost/applied", "run/outpost"):
            (place / below).mkdir(parents=True)
        (place / "var/lib/outpost/applied" / KEY).write_text("digest 1\n")
        yield place


def own(path: Path, content: str) -> File:
    """Declared, and there."""
    path.write_text(content)
    path.chmod(0o644)
    me, group = pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(path.stat().st_gid).gr_name
    return text(str(path), content, owner=me, group=group)


OBSERVE = """#!{python}
import sys

sys.path[:0] = [{src!r}]
from outpost.onhost.observe import declared

for name in ("STATE", "APPLIED", "KNOWN", "VERIFIED"):
    setattr(declared, name, {root!r} + getattr(declared, name))
from outpost.onhost.observe.main import main

main()
"""


def run(root: Path, lines: list[str]) -> None:
    """As an apply does it, with the office's secret."""
    observe = root / "observe"
    observe.write_text(OBSERVE.format(python=sys.executable, src=str(ROOT / "src"), root=str(root)))
    observe.chmod(0o755)
    script = "\n".join(["set -eu", f"{observer.KEY}=secret", *lines]).replace(observer.OBSERVER, str(observe))
    script = script.replace("/var/lib/outpost", f"{root}/var/lib/outpost")
    script = script.replace("/run/outpost", f"{root}/run/outpost").replace("systemctl daemon-reload", ":")
    subprocess.run(["sh", "-c", script.replace("logger -t", "true")], check=True)


def changed_to(root: Path, paths: list[str], *, first: bool = False) -> None:
    run(root, guard.keep_previous(KEY, paths, [], activate=None, live=None, first=first))


def gone_back(root: Path, *words: str) -> None:
    run(root, [f"sh /var/lib/outpost/previous/{KEY}/undo {' '.join(words)}"])


def test_a_file_that_was_edited_by_hand_is_restored_as_declared(root: Path) -> None:
    file = own(root / "etc/chrony.conf", "declared\n")
    run(root, guard.keep_declared(KEY, [file]))
    Path(file.path).write_text("declared\nallow all\n")
    changed_to(root, [file.path, f"{root}/etc/new.conf", f"{root}/etc/theirs.conf"])
    Path(file.path).write_text("another declaration\n")
    (root / "etc/new.conf").write_text("new\n")
    gone_back(root)
    assert Path(file.path).read_text() == "declared\n"
    assert not (root / "etc/new.conf").exists()
    assert (root / "var/lib/outpost/previous" / KEY / "declared").exists()


def test_a_refused_declaration_is_nothing_to_go_back_to_the_next_time(root: Path) -> None:
    file = own(root / "etc/chrony.conf", "declared\n")
    run(root, guard.keep_declared(KEY, [file]))
    for refused in ("refused\n", "refused again\n"):
        changed_to(root, [file.path])
        run(root, guard.keep_declared(KEY, [own(Path(file.path), refused)]))
        gone_back(root)
        assert Path(file.path).read_text() == "declared\n"


def test_what_was_there_and_nobody_had_declared_does_not_come_back(root: Path) -> None:
    file = own(root / "etc/chrony.conf", "declared\n")
    run(root, guard.keep_declared(KEY, [file]))
    theirs = root / "etc/theirs.conf"
    theirs.write_text("by hand\n")
    changed_to(root, [str(theirs)])
    theirs.write_text("declared now\n")
    gone_back(root)
    assert theirs.read_text() == "declared now\n"
    assert Path(file.path).read_text() == "declared\n"


def test_what_was_edited_before_it_could_be_kept_is_not_kept(root: Path) -> None:
    file = own(root / "etc/chrony.conf", "declared\n")
    Path(file.path).write_text("edited\n")
    run(root, guard.keep_declared(KEY, [file]))
    assert not (root / "var/lib/outpost/declared" / f"{KEY}.tar").exists()
    changed_to(root, [file.path])
    assert not (root / "var/lib/outpost/previous" / KEY / "declared").exists(), "no rollback goes back to it"


def edit(root: Path, text: str) -> Path:
    """Root on the host writes another file into the copy."""
    copy = root / "var/lib/outpost/declared" / f"{KEY}.tar"
    theirs = root / "theirs"
    theirs.write_text(text)
    with tarfile.open(copy, "w") as archive:
        archive.add(theirs, f"{root}/etc/chrony.conf".lstrip("/"))
    return copy


@pytest.mark.parametrize("hidden", [False, True], ids=["edited", "with its seal taken away"])
def test_a_copy_that_somebody_edited_does_not_come_back(root: Path, *, hidden: bool) -> None:
    """Otherwise a failed check would install the intruder's file."""
    file = own(root / "etc/chrony.conf", "declared\n")
    run(root, guard.keep_declared(KEY, [file]))
    copy = edit(root, "allow all\n")
    if hidden:
        copy.with_suffix(".seal").unlink()
    changed_to(root, [file.path])
    assert not (root / "var/lib/outpost/previous" / KEY / "declared").exists(), "no rollback goes back to it"
    Path(file.path).write_text("another declaration\n")
    gone_back(root)  # the timer that a lost connection sets off
    assert Path(file.path).read_text() == "declared\n"


def test_copies_of_before_there_were_seals_come_back_until_the_first_apply_has_sealed_them(
    root: Path,
) -> None:
    file, known = own(root / "etc/chrony.conf", "declared\n"), root / "var/lib/outpost/known"
    run(root, guard.keep_declared(KEY, [file]))
    seal = (root / "var/lib/outpost/declared" / KEY).with_suffix(".seal")
    seal.unlink()
    known.write_text("seal\t{}\n".format(hashlib.blake2b(b"known\0", key=b"secret").hexdigest()))
    changed_to(root, [file.path])
    assert (root / "var/lib/outpost/previous" / KEY / "declared").exists()
    known.write_text("")  # not sealed: somebody wrote it
    changed_to(root, [file.path])
    assert not (root / "var/lib/outpost/previous" / KEY / "declared").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: the file belongs to the account of a daemon")
def test_a_daemons_file_comes_back_with_its_rights_and_not_through_its_link(root: Path) -> None:
    """A daemon's account can replace its own directory by a link (SYS-01)."""
    daemon = pwd.getpwnam("nobody")
    place, foreign = root / "mail", root / "etc"
    place.mkdir()
    file = own(place / "rights", "declared\n")
    for owned in (place, place / "rights"):
        os.chown(owned, daemon.pw_uid, daemon.pw_gid)
    file = text(file.path, "declared\n", owner=daemon.pw_name, group=grp.getgrgid(daemon.pw_gid).gr_name)
    run(root, guard.keep_declared(KEY, [file]))
    changed_to(root, [file.path])
    (place / "rights").write_text("another declaration\n")
    gone_back(root)
    assert (place / "rights").read_text() == "declared\n"
    assert (place / "rights").stat().st_uid == daemon.pw_uid
    place.rename(root / "aside")
    place.symlink_to(foreign)
    gone_back(root, "booting")
    assert not (foreign / "rights").exists()


@pytest.mark.parametrize("status", [0, 255])
def test_after_a_confirmed_change_commands_use_a_new_connection(
    status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """sshd keeps the settings of an open connection (MaxSessions), and its key, for as long as commands use it."""
    stopped: list[tuple[str, str]] = []
    answer = subprocess.CompletedProcess("ssh", status, "", "refused")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: answer)
    monkeypatch.setattr(guard, "stop", lambda *place: stopped.append(place))
    host: Any = SimpleNamespace(name="ns1", data={"openssh_config": "office.conf"})
    with suppress(OperationError):
        guard._confirm(host, host, "sshd", "true")
    assert stopped == ([] if status else [("office.conf", "ns1")])
