"""Programs that run as root follow no link that a service's account may have made in its own directory."""

from __future__ import annotations

import grp
import hashlib
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from outpost.converge import operations
from outpost.converge.declaration import Directory
from outpost.converge.files import TEMPLATES, text
from outpost.drift import repairs
from outpost.drift.findings import Beside, findings
from outpost.onhost import policy, routes
from outpost.onhost.accounts import Accounts
from outpost.onhost.observe import OBSERVER, permissions

NOBODY = 65534


@pytest.fixture
def state() -> Iterator[Path]:
    """A directory that another account can reach; pytest's own directory cannot be reached."""
    made = Path(tempfile.mkdtemp(prefix="outpost-state-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.mark.parametrize("link", ["large", "."])
def test_routes_opens_the_services_directory_itself(
    state: Path, monkeypatch: pytest.MonkeyPatch, link: str
) -> None:
    elsewhere = state / "elsewhere" / "large"
    elsewhere.mkdir(parents=True)
    (elsewhere / "4gVxB25hBLz1").touch()
    own = state / "own"
    if link == ".":  # the service's directory itself is a link
        own.symlink_to(elsewhere.parent)
    else:
        own.mkdir()
        (own / "large").symlink_to(elsewhere)
    monkeypatch.setattr(routes, "HELD", own / "large")
    assert routes._place() is None
    monkeypatch.setattr(routes, "HELD", elsewhere)
    place = routes._place()
    assert place is not None
    assert os.listdir(place) == ["4gVxB25hBLz1"]  # noqa: PTH208  # by descriptor
    os.close(place)


@pytest.mark.parametrize("at", ["new", "above", "itself"])
def test_a_declared_file_with_another_name_is_made_one_of_its_own_and_nothing_else_is_written(
    state: Path, at: str
) -> None:
    """A daemon's account makes a hard link to its file, and a symbolic link in a place where root would write."""
    own, victim, elsewhere = state / "own", state / "victim", state / "elsewhere"
    own.mkdir()
    victim.write_text("root's")
    victim.chmod(0o600)
    (own / "declared").write_text("chosen by the account")
    (own / "other").hardlink_to(own / "declared")
    match at:
        case "new":
            (own / "declared.outpost-new").symlink_to(victim)
        case "above":
            own.rename(elsewhere)
            own.symlink_to(elsewhere)
        case "itself":
            (own / "declared").unlink()
            (own / "declared").symlink_to(victim)
    permissions.release([str(own / "declared")])
    assert (victim.read_text(), victim.stat().st_mode & 0o777) == ("root's", 0o600)
    if at == "new":
        assert (own / "declared").read_text() == "chosen by the account"
        assert (own / "declared").stat().st_nlink == 1
    assert (own / "other").stat().st_nlink == (2 if at == "above" else 1)


def test_a_mode_is_set_where_no_link_leads(state: Path) -> None:
    own, victim = state / "own", state / "victim"
    own.mkdir()
    (state / "there").mkdir()
    for path in (victim, own / "file", state / "there/file"):
        path.touch(mode=0o600)
    (own / "link").symlink_to(victim)
    (own / "above").symlink_to(state / "there")
    permissions.set_mode("644", str(own / "file"))
    assert (own / "file").stat().st_mode & 0o777 == 0o644
    for path in (own / "link", own / "above/file"):
        with pytest.raises(OSError, match=r"ymbolic|irectory"):
            permissions.set_mode("644", str(path))
    assert {path.stat().st_mode & 0o777 for path in (victim, state / "there/file")} == {0o600}


@pytest.mark.parametrize(
    ("kind", "swap"), [("mode", "chown"), ("mode", "chmod"), ("opened", "chmod"), ("exposed", "chmod")]
)
def test_a_repair_changes_no_file_to_which_a_link_leads_that_was_made_meanwhile(
    state: Path, kind: str, swap: str
) -> None:
    """SYS-01: the name server's account owns the directory of its keys, and could own or open any file after the next apply."""
    own, victim = state / "own", state / "victim"
    own.touch(mode=0o666)
    victim.touch(mode=0o604)
    whose = f"{pwd.getpwuid(os.getuid()).pw_name} {grp.getgrgid(os.getgid()).gr_name}"
    new, old = (f"666 {whose}", f"640 {whose}") if kind == "mode" else ("", "")
    seen = Beside(faults=frozenset((f"{kind}\t{own}\t{new}",)))
    if kind == "mode":
        seen = Beside(
            appeared=frozenset((f"mode\t{own}\t{new}",)), vanished=frozenset((f"mode\t{own}\t{old}",))
        )
    (finding,) = findings(seen)
    (state / "bin").mkdir()
    race = state / "bin" / swap
    race.write_text(f'#!/bin/sh\nln -sfn {victim} {own}\nexec /usr/bin/{swap} "$@"\n')
    race.chmod(0o755)
    before = victim.stat()
    subprocess.run(
        ["sh", "-c", finding.repair], env=os.environ | {"PATH": f"{race.parent}:{os.environ['PATH']}"}, capture_output=True, check=False,
    )  # fmt: skip
    after = victim.stat()
    assert (after.st_mode, after.st_ctime_ns) == (before.st_mode, before.st_ctime_ns)


def test_what_is_wrong_outside_the_systems_places_is_put_right_by_the_observer() -> None:
    repair = repairs.usual("/var/lib/clamav/it's", "4666")
    assert repair == f"""{OBSERVER} mode 644 '/var/lib/clamav/it'"'"'s'"""


def test_a_directory_is_made_where_no_link_leads(state: Path) -> None:
    victim = state / "victim"
    victim.mkdir(mode=0o755)
    (state / "own").symlink_to(victim)
    whose = (pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(os.getgid()).gr_name)
    for name, code in (("own", 1), ("new", 0)):
        item = Directory(name=str(state / name), owner=whose[0], group=whose[1], mode="0700")
        assert (
            subprocess.run(["sh", "-c", operations.made(item)], capture_output=True, check=False).returncode
            == code
        )
    assert victim.stat().st_mode & 0o777 == 0o755
    assert (state / "new").stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: the test changes to the account of a daemon")
@pytest.mark.parametrize("at", ["new", "above", "directory"])
@pytest.mark.parametrize("owner", ["root", "nobody"])
def test_a_file_that_an_apply_writes_goes_through_no_link_of_a_services(
    state: Path, monkeypatch: pytest.MonkeyPatch, at: str, owner: str
) -> None:
    own, victim, stage = state / "own", state / "victim", state / "stage"
    own.mkdir()
    file = text(
        str(own / "declared"), "declared", owner=owner, group="root" if owner == "root" else "nogroup"
    )
    (state / "there").mkdir()
    victim.write_text("root's")
    match at:
        case "new":
            (own / "declared.outpost-new").symlink_to(victim)
        case "directory":
            (own / "declared.outpost-new").mkdir()
        case "above" if owner == "root":
            pytest.skip("root owns the directories of this file too, so no daemon can put a link there")
        case "above":
            own.rmdir()
            own.symlink_to(state / "there")
    if not own.is_symlink():
        os.chown(own, *((0, 0) if owner == "root" else (NOBODY, NOBODY)))
    (state / "archive").write_bytes(operations._tar([file]).read())
    monkeypatch.setattr(operations, "STAGE", str(stage))
    script = operations._install_script("key", str(state / "archive"), [file], (), None)
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
    assert victim.read_text() == "root's"
    assert not list((state / "there").iterdir())
    assert (done.returncode == 0) == (at != "above"), done.stderr
    if at != "above":
        written = own / "declared"
        assert (written.read_text(), written.owner(), written.is_symlink()) == ("declared", owner, False)
        assert not (own / "declared.outpost-new").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: the test changes to the account of a daemon")
def test_an_administrators_release_writes_as_the_services_account(state: Path) -> None:
    own, victim = state / "own", state / "victim"
    own.mkdir()
    victim.write_text("root's")
    (own / "held.json").write_text('{"eve@po.test": 9999999999}')
    (own / "held.new").symlink_to(victim)
    for path in (own, own / "held.json"):
        os.chown(path, NOBODY, NOBODY)
    text = Path(policy.__file__).read_text().replace("/var/lib/outpost-policy", str(own))
    done = subprocess.run(
        [sys.executable, "-I", "-", "release", "eve@po.test"],
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    assert victim.read_text() == "root's", done.stderr
    (own / "held.new").unlink()
    done = subprocess.run(
        [sys.executable, "-I", "-", "release", "eve@po.test"],
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "may send again" in done.stdout, done.stderr
    assert (own / "held.json").stat().st_uid == NOBODY


def script(template: str, *changes: tuple[str, str]) -> str:
    """A program of a host, with other paths."""
    text = (TEMPLATES / template).read_text(encoding="utf-8")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return text


@pytest.mark.control("TLS-04")
def test_what_was_examined_as_a_certificate_is_what_everybody_is_shown(state: Path) -> None:
    """Meanwhile the client of the authority replaces it by a link."""
    declared, shown, own, programs = (state / name for name in ("acme", "tls", "own", "bin"))
    for place in (declared, shown, own, programs):
        place.mkdir()
    secret = state / "secret"
    secret.write_text("root's own")
    make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 60 -subj /CN=x -keyout public.key -out public.pem"
    subprocess.run(make.split(), cwd=declared, check=True, capture_output=True)
    (declared / "settings").write_text("NAMES=x\nUNIT=none.service\n")
    program = state / "certificate"
    program.write_text(
        script(
            "base/usr/local/lib/outpost/certificate.j2",
            (
                "declared=/etc/outpost/acme shown=/etc/outpost/tls state=/var/lib/outpost-acme",
                f"declared={declared} shown={shown} state={own}",
            ),
            ("setpriv --reuid=outpost-acme --regid=outpost-acme --clear-groups --no-new-privs ", ""),
            ("-g outpost-tls ", ""),
        )
    )
    public = subprocess.run(
        ["openssl", "pkey", "-in", declared / "public.key", "-pubout"], capture_output=True, check=True
    )
    request = hashlib.sha256(public.stdout + b"x\n").hexdigest()[:16]
    fetched = own / f"{request}-cert.pem"
    shutil.copy(declared / "public.pem", fetched)
    swap = programs / "openssl"
    swap.write_text(
        f'#!/bin/sh\n{shutil.which("openssl")} "$@"; status=$?\ncase "$*" in *checkend*) ln -sf {secret} {fetched};; esac\nexit $status\n'
    )
    swap.chmod(0o755)
    path = f"{programs}:{os.environ['PATH']}"
    subprocess.run(["sh", program, "install"], env=os.environ | {"PATH": path}, check=False)
    assert fetched.is_symlink(), "the client was quick enough"
    assert (shown / "public.pem").read_text() == (declared / "public.pem").read_text()


@pytest.mark.control("AUT-07")
def test_a_name_of_the_accounts_service_ends_no_session_of_others(state: Path) -> None:
    """For Dovecot a wildcard stands for all users; for the shell it stands for files."""
    own, programs, log = state / "own", state / "programs", state / "asked"
    for place in (own, programs):
        place.mkdir()
    for name in ("*", "?@po.example", "bob@po.example", "gone@po.example"):
        (own / name).write_text("from x\n")
    (programs / "doveadm").write_text(f'#!/bin/sh\necho "$*" >> {log}\n')
    (programs / "runuser").write_text("#!/bin/sh\n")
    for program in programs.iterdir():
        program.chmod(0o755)
    (state / "users").write_text("bob@po.example:{ARGON2ID}x\n")
    text = script(
        "store/usr/local/lib/outpost/end-sessions.j2",
        ("/etc/dovecot/users", str(state / "users")),
        ("{{ own }}", str(own)),
    )
    path = f"{programs}:{os.environ['PATH']}"
    subprocess.run(["sh", "-c", text, "end-sessions"], env=os.environ | {"PATH": path}, check=True, cwd=own)
    assert log.read_text().splitlines() == ["who -1", "kick gone@po.example"]


@pytest.mark.control("AUT-07")
def test_what_a_user_chooses_while_sessions_end_is_kept(state: Path) -> None:
    """The accounts service writes a new password between the two halves of sed's change."""
    own, programs = state / "own", state / "programs"
    for place in (own, programs):
        place.mkdir()
    (own / "bob@po.example").write_text("from x\npassword old\nsession y 99\n")
    (programs / "doveadm").write_text("#!/bin/sh\n")
    (programs / "runuser").write_text('#!/bin/sh\nshift 3\nexec "$@"\n')
    for program in programs.iterdir():
        program.chmod(0o755)
    text = script("store/usr/local/lib/outpost/end-sessions.j2", ("{{ own }}", str(own)))
    service: Any = SimpleNamespace(lock=threading.Lock(), own=own)
    environment = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}"}
    with Accounts.alone(service):
        ending = subprocess.Popen(["sh", "-c", text, "end-sessions", "bob@po.example"], env=environment)
        waits = f":{own.stat().st_ino} "
        while not any(
            "->" in line and waits in line for line in Path("/proc/locks").read_text().splitlines()
        ):
            assert ending.poll() is None, "it did not wait for the service"
        (own / "bob@po.example").write_text("from x\npassword new\nsession y 99\n")
    assert ending.wait() == 0
    assert (own / "bob@po.example").read_text() == "from x\npassword new\n"


@pytest.mark.control("AUT-07")
def test_a_folder_that_users_made_in_a_shared_mailbox_is_no_former_one(state: Path) -> None:
    for name in (".tenders", ".tenders.2026", ".tenders.Sent by us", ".gone", ".gone.old"):
        (state / "shared" / name).mkdir(parents=True)
    text = script(
        "store/usr/local/lib/outpost/former.j2",
        ("{{ own }}", str(state / "own")),
        ("{{ root }}", str(state / "mail")),
        ("{{ shared_root }}", str(state / "shared")),
        ("{{ store.office.domain }}", "po.example"),
    )
    command = ["sh", "-c", text, "former", "list", "bob@po.example", "shared:tenders"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert sorted(listed.splitlines()) == ["shared gone", "shared gone.old"]


@pytest.mark.control("AUT-07")
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: the test changes to the account of a daemon")
def test_the_passwords_of_who_left_are_read_with_the_rights_of_their_service(state: Path) -> None:
    own, mail, lib = state / "own", state / "mail", state / "lib"
    for place in (own, mail, mail / ".former", mail / ".shared", lib):
        place.mkdir()
    (lib / "end-sessions").write_text("#!/bin/sh\n")
    (lib / "end-sessions").chmod(0o755)
    (state / "users").write_text("bob@po.example:{ARGON2ID}x\n")
    secret = state / "secret"
    secret.write_text("root's own")
    secret.chmod(0o600)
    (own / "eve@po.example").symlink_to(secret)
    (own / "carol@po.example").write_text("from x\n")
    for path in (own, own / "carol@po.example"):
        os.chown(path, NOBODY, NOBODY)
    for path in (mail, mail / ".former"):
        shutil.chown(path, "daemon", "daemon")
    program = state / "former"
    program.write_text(
        script(
            "store/usr/local/lib/outpost/former.j2",
            ("/etc/dovecot/users", str(state / "users")),
            ("{{ own }}", str(own)),
            ("{{ root }}", str(mail)),
            ("{{ shared_root }}", str(mail / ".shared")),
            ("{{ store.office.domain }}", "po.example"),
            ("{{ lib }}", str(lib)),
            ("-u vmail", "-u daemon"),
            ("-u outpost-accounts", "-u nobody"),
            ("logger -t", "echo"),
        )
    )
    subprocess.run(["sh", program, "archive", "bob@po.example"], check=False)
    kept = {path.parent.name[:4]: path.read_text() for path in (mail / ".former").glob("*/account.outpost")}
    assert kept.get("caro") == "from x\n"
    assert "root's own" not in kept.values()
