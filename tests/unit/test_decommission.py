"""Closing an office: no step is skipped, copied mail is compared, and at the end the domain accepts no mail."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
import tomllib
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from outpost.cli import app as cli
from outpost.errors import OutpostError
from outpost.keys import secrets_file
from outpost.keys.model import public_keys
from outpost.office import Office
from outpost.office.dns import office_zone
from outpost.office.load import parse
from outpost.onhost.backup import manifest
from outpost.recovery.backup import Manifest
from outpost.recovery.decommission import FILE, STATEMENT, STEPS, WORDS, Closing, differing, erasing
from outpost.target import Target
from outpost.transport import answers
from roles.mta.view import MtaView

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "inventory/harbour/office.toml").read_text(encoding="utf-8")


def office(**closing: object) -> Office:
    data = tomllib.loads(TEXT) | {"closing": closing}
    found, problems = parse(data)
    assert found is not None
    assert problems == []
    return found


@pytest.fixture
def closing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Closing:
    identity = tmp_path / "identity.txt"
    recipient = secrets_file.create_identity(identity)
    monkeypatch.setenv(secrets_file.IDENTITY_VARIABLE, str(identity))
    (tmp_path / "office.toml").write_text(TEXT, encoding="utf-8")
    target = Target("harbour", tmp_path, tmp_path)
    made = Closing(target)
    secrets_file.write(tmp_path, secrets_file.complete(made.office).secrets, (recipient,))
    return made


def test_all_mail_of_a_closing_office_goes_where_it_says() -> None:
    found = office(forward="archive@example.com")
    aliases = MtaView(found, found.with_role("mta")[0]).aliases
    assert set(aliases) >= set(found.mailboxes)
    assert set(aliases.values()) == {("archive@example.com",)}


def test_a_domain_that_has_ended_takes_and_sends_no_mail_and_shows_no_keys() -> None:
    found = office(ended=True)
    kept = secrets_file.complete(found).secrets
    revoked = {name: keys.model_copy(update={"stage": "revoked"}) for name, keys in kept.dkim.items()}
    records = office_zone(found, public_keys(kept.model_copy(update={"dkim": revoked}))).records
    apex = f"{found.domain}."
    assert [record.data for record in records if (record.name, record.type) == (apex, "MX")] == ["0 ."]
    assert '"v=spf1 -all"' in {record.data for record in records if record.name == apex}
    assert not [record for record in records if record.type in ("TLSA", "SRV")]
    dkim = [record.data for record in records if "._domainkey." in record.name]
    assert dkim
    assert all("p=" in data and not data.partition("p=")[2].strip('"; ') for data in dkim)


def test_every_step_says_what_is_so_afterwards() -> None:
    assert tuple(WORDS) == STEPS


def test_a_step_that_lacks_something_leaves_no_checkpoint(closing: Closing) -> None:
    (closing.target.data / FILE).write_text(json.dumps({"freeze": {}}))
    with pytest.raises(OutpostError, match="--forward-to is missing"):
        closing.advance()
    assert closing.next == "forward"


def test_nothing_is_deleted_without_the_domain_typed(closing: Closing) -> None:
    (closing.target.data / FILE).write_text(json.dumps({step: {} for step in STEPS[:5]}))
    with pytest.raises(OutpostError, match="this deletes"):
        closing.advance()
    assert closing.next == "erase"


def test_name_servers_are_not_erased_and_everything_else_loses_its_keys(closing: Closing) -> None:
    for host in closing.office.hosts:
        if host.role != "dns":
            assert "/etc/outpost" in erasing(host)
    assert "/srv/mail" in erasing(closing.office.with_role("store")[0])


def test_the_certificate_is_the_authoritys_and_says_every_step(closing: Closing) -> None:
    (closing.target.data / FILE).write_text(json.dumps({step: {"when": step} for step in STEPS[:-1]}))
    step, _ = closing.advance()
    assert step == "certificate"
    assert closing.next == ""
    file = closing.target.data / STATEMENT
    assert set(json.loads(file.read_text())["steps"]) == set(STEPS[:-1])
    key = x509.load_pem_x509_certificate(file.with_suffix(".pem").read_bytes()).public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    key.verify(file.with_suffix(".sig").read_bytes(), file.read_bytes(), ec.ECDSA(hashes.SHA256()))
    with pytest.raises(OutpostError, match="is closed"):
        closing.advance()


def _manifest_of(mail: Path) -> Manifest:
    return answers.parsed(json.dumps(manifest(mail, None)), Manifest, "store")


def test_a_message_that_was_not_copied_is_found(tmp_path: Path) -> None:
    box = tmp_path / "mail" / "alice" / "Maildir"
    for name in ("cur", "new"):
        (box / name).mkdir(parents=True)
    (box / "cur" / "1.M1.host:2,S").write_text("one")
    (box / "new" / "2.M2.host").write_text("two")
    archive = tmp_path / "mail.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(tmp_path / "mail", ".")
    assert differing(_manifest_of(tmp_path / "mail"), archive) == []
    (box / "new" / "2.M2.host").write_text("tow")
    (box / "cur" / "3.M3.host:2,").write_text("three")
    assert sorted(differing(_manifest_of(tmp_path / "mail"), archive)) == [
        "alice/Maildir/2.M2.host",
        "alice/Maildir/3.M3.host",
    ]


def member(name: str, kind: bytes, size: int) -> bytes:
    made = tarfile.TarInfo(name)
    made.type, made.size = kind, size
    return made.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize(
    "written",
    [
        member("x", tarfile.XHDTYPE, 8 * 1024**3),  # tarfile reads all of it before it parses it
        member("x", tarfile.GNUTYPE_LONGNAME, 8 * 1024**3),
        member("./alice/Maildir/cur/1.M1.host:2,S", tarfile.REGTYPE, 8 * 1024**3),
        b"rubbish" * 1000,
    ],
    ids=["pax header", "long name", "size", "rubbish"],
)
def test_a_hostile_copy_costs_no_memory_and_is_no_copy(tmp_path: Path, written: bytes) -> None:
    archive = tmp_path / "mail.tar"
    archive.write_bytes(written)
    os.truncate(archive, 9 * 1024**3 if written[156:157] in (b"x", b"L") else 20_000)
    wanted: Manifest = {
        "folders": {
            "alice/Maildir": {"uidvalidity": 1, "next": 2, "messages": {"1.M1.host": (1, "", "0" * 64)}}
        },
        "files": {},
    }
    tracemalloc.start()
    try:
        with pytest.raises(OutpostError, match=r"mail\.tar cannot be read"):
            differing(wanted, archive)
        assert tracemalloc.get_traced_memory()[1] < 64 * 1024**2
    finally:
        tracemalloc.stop()


def test_a_file_with_holes_is_no_message(tmp_path: Path) -> None:
    (tmp_path / "cur").mkdir()
    with (tmp_path / "cur" / "1.M1.host:2,").open("wb") as file:
        file.truncate(2**42)  # if it were read to its end, this test would not end
    archive = tmp_path / "mail.tar"
    subprocess.run(["tar", "-cSf", archive, "-C", tmp_path, "cur"], check=True)
    wanted: Manifest = {
        "folders": {".": {"uidvalidity": 1, "next": 2, "messages": {"1.M1.host": (1, "", "0" * 64)}}},
        "files": {},
    }
    assert differing(wanted, archive) == ["./1.M1.host"]


@pytest.mark.parametrize("free", [10_000, 10_000_000])
def test_what_the_store_hands_over_is_bounded_by_what_is_free(
    closing: Closing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int
) -> None:
    closing.into = tmp_path / "handed over"
    monkeypatch.setattr(closing, "_ask", lambda *_, **__: '{"folders": {}, "files": {}}')
    sent = "head -c 1000000 /dev/zero" if free > 1_000_000 else "exec cat /dev/zero"
    monkeypatch.setattr("outpost.recovery.decommission.shell_command", lambda *_: ["sh", "-c", sent])
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=free))
    if free > 1_000_000:
        assert closing._handover()["messages"] == {}
        return
    with pytest.raises(OutpostError, match="90 % of what is free"):
        closing._handover()
    assert [file.stat().st_size for file in closing.into.iterdir()] == [0]


def test_a_store_that_does_not_answer_leaves_the_office_file_as_it_is(
    closing: Closing, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(*_: object, **__: object) -> str:
        raise OutpostError("store: it does not answer", "switch it on")

    monkeypatch.setattr("outpost.recovery.decommission.run_script", silent)
    before = closing.target.office_file.read_text()
    with pytest.raises(OutpostError, match="does not answer"):
        closing.advance()
    assert closing.target.office_file.read_text() == before
    assert closing.next == "freeze"


@pytest.mark.parametrize(
    ("taken", "options", "asked"),
    [
        ([], [], True),
        (["freeze"], ["--forward-to", "archive@example.com"], True),
        (["freeze"], [], False),  # stops at the missing option
        (["freeze", "forward"], [], False),
        (["freeze", "forward", "handover", "drain"], [], True),
        (["freeze", "forward", "handover", "drain", "withdraw"], [], False),  # wants the domain typed
    ],
)
def test_steps_that_users_and_senders_notice_are_asked_for_first(
    closing: Closing, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    taken: list[str], options: list[str], asked: bool,
) -> None:  # fmt: skip
    done = {step: {"when": "2026-01-01T00:00:00+00:00", "by": "x", "found": {}} for step in taken}
    (closing.target.data / FILE).write_text(json.dumps(done), encoding="utf-8")
    steps: list[str] = []

    def advance(self: Closing) -> tuple[str, dict[str, object]]:
        steps.append(self.next)
        return self.next, {}

    monkeypatch.setattr(Closing, "advance", advance)
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    command = ["decommission", str(closing.target.data), "--next", *options]
    assert cli.run(command) == (1 if asked else 0)
    assert ("Take this step? [y/N]" in capsys.readouterr().err) is asked
    assert steps == ([] if asked else [STEPS[len(taken)]])
    assert cli.run([*command, "--yes"]) == 0
    assert steps[-1] == STEPS[len(taken)]
