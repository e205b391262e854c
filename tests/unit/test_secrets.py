"""Secrets are only added, are readable for their recipients only, and are printed nowhere."""

from __future__ import annotations

import json
import shutil
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store

from outpost.cli.app import run
from outpost.errors import OutpostError
from outpost.keys import pairs, secrets_file
from outpost.keys.model import Secrets
from outpost.keys.secrets_file import password_hash
from outpost.office import Office
from outpost.office.load import parse
from outpost.target import INVENTORY

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def office() -> Office:
    data = tomllib.loads((ROOT / "inventory/harbour/office.toml").read_text(encoding="utf-8"))
    office, _ = parse(data)
    assert office is not None
    return office


@pytest.fixture(scope="module")
def done(office: Office) -> secrets_file.Completed:
    """With real hashes of passwords."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(secrets_file, "password_hash", password_hash)
        return secrets_file.complete(office)


def canaries(kept: Secrets) -> list[str]:
    """Every secret value, in the form that a leak would show."""
    pairs = [kept.authority, *kept.hosts.values(), *kept.public.values()]
    keys = [pair.key for pair in pairs] + [upcoming.key for upcoming in kept.public_next.values()]
    keys += [*kept.accounts.values()]
    keys += [key for pair in kept.dkim.values() for key in (pair.rsa, pair.ed25519)]
    bodies = [key.get_secret_value().splitlines()[1] for key in keys]
    return bodies + [
        value.get_secret_value()
        for value in (*kept.tsig.values(), *kept.passwords.values(), kept.webmail_key, kept.sealing)
    ]


def test_nothing_secret_shows_in_representations(done: secrets_file.Completed) -> None:
    shown = f"{done.secrets!r} {done.secrets} {done.secrets.to_json()} {done.added}"
    assert len(canaries(done.secrets)) > 10
    assert not [canary for canary in canaries(done.secrets) if canary in shown]


def test_completing_again_adds_nothing_and_keeps_everything(
    office: Office, done: secrets_file.Completed
) -> None:
    again = secrets_file.complete(office, done.secrets)
    assert len(done.secrets.seal_of("mta")) == 64
    assert again.secrets.seal_of("mta") == done.secrets.seal_of("mta") != done.secrets.seal_of("ns1")
    assert again.added == ()
    assert again.new_passwords == {}
    assert again.secrets == done.secrets


def test_a_certificate_near_its_end_is_renewed_with_the_same_key(
    office: Office, done: secrets_file.Completed
) -> None:
    later = datetime.now(UTC) + timedelta(days=pairs.HOST_DAYS - pairs.RENEW_DAYS + 1)
    renewed = secrets_file.complete(office, done.secrets, now=later).secrets
    assert renewed.hosts["mta"].certificate != done.secrets.hosts["mta"].certificate
    assert renewed.hosts["mta"].key == done.secrets.hosts["mta"].key
    assert renewed.authority == done.secrets.authority


def test_a_new_user_gets_a_password_and_the_others_keep_theirs(
    office: Office, done: secrets_file.Completed
) -> None:
    fewer = done.secrets.model_copy(update={"passwords": dict(list(done.secrets.passwords.items())[:1])})
    again = secrets_file.complete(office, fewer)
    assert list(again.new_passwords) == ["tom@harbour.example.com"]
    assert (
        again.secrets.passwords["maria@harbour.example.com"]
        == done.secrets.passwords["maria@harbour.example.com"]
    )


def test_passwords_are_hashed_with_argon2id(done: secrets_file.Completed) -> None:
    for address, password in done.new_passwords.items():
        stored = done.secrets.passwords[address].get_secret_value()
        assert stored.startswith("{ARGON2ID}$argon2id$v=19$m=65536,t=3,p=1$")
        assert PasswordHasher().verify(stored.removeprefix("{ARGON2ID}"), password)


def test_the_authority_vouches_for_its_own_office_only(office: Office, done: secrets_file.Completed) -> None:
    authority = x509.load_pem_x509_certificate(done.secrets.authority.certificate.encode())
    verifier = PolicyBuilder().store(Store([authority]))
    for host in office.hosts:
        leaf = x509.load_pem_x509_certificate(done.secrets.hosts[host.name].certificate.encode())
        assert verifier.build_server_verifier(x509.DNSName(host.fqdn)).verify(leaf, [])
    permitted = authority.extensions.get_extension_for_class(x509.NameConstraints).value.permitted_subtrees
    assert permitted is not None
    assert [name.value for name in permitted if isinstance(name, x509.DNSName)] == [office.domain]


def test_sealed_secrets_open_to_their_reader_only(
    tmp_path: Path, done: secrets_file.Completed, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = secrets_file.create_identity(tmp_path / "reader.txt")
    other = secrets_file.create_identity(tmp_path / "other.txt")
    secrets_file.write(tmp_path, done.secrets, (reader,))
    sealed = (tmp_path / secrets_file.FILE_NAME).read_bytes()
    assert not [canary for canary in canaries(done.secrets) if canary.encode() in sealed]
    monkeypatch.setenv(secrets_file.IDENTITY_VARIABLE, str(tmp_path / "reader.txt"))
    assert secrets_file.read(tmp_path) == done.secrets.model_copy(update={"readers": (reader,)})
    monkeypatch.setenv(secrets_file.IDENTITY_VARIABLE, str(tmp_path / "other.txt"))
    with pytest.raises(OutpostError, match=f"was not encrypted to the identity.*public key, {other}, for"):
        secrets_file.read(tmp_path)


@pytest.mark.parametrize("line", ["AGE-SECRET-KEY-1X", "AGE-SECRET-KEY-", "age1abc", ""])
def test_a_damaged_identity_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "identity.txt").write_text(f"# mine\n{line}\n")
    with pytest.raises(OutpostError, match=r"identity\.txt holds no age identity"):
        secrets_file.read_identity(tmp_path / "identity.txt")


def test_an_identity_that_others_may_read_is_named_by_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(INVENTORY / "harbour", tmp_path / "po")
    identity = tmp_path / "identity.txt"
    secrets_file.create_identity(identity)
    (tmp_path / "po" / secrets_file.FILE_NAME).touch()
    monkeypatch.setenv(secrets_file.IDENTITY_VARIABLE, str(identity))
    assert run(["check", str(tmp_path / "po")]) == 0
    assert "chmod" not in capsys.readouterr().err
    identity.chmod(0o640)
    assert run(["check", str(tmp_path / "po")]) == 0
    assert f"chmod 600 {identity}" in capsys.readouterr().err


def test_an_identity_is_never_overwritten_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "identity.txt"
    secrets_file.create_identity(path)
    assert path.stat().st_mode & 0o777 == 0o600
    before = path.read_text()
    with pytest.raises(OutpostError, match="exists"):
        secrets_file.create_identity(path)
    assert path.read_text() == before


def test_secrets_without_a_reader_are_refused(tmp_path: Path, done: secrets_file.Completed) -> None:
    with pytest.raises(OutpostError, match="nobody could read"):
        secrets_file.write(tmp_path, done.secrets, ())
    assert not (tmp_path / secrets_file.FILE_NAME).exists()


def test_readers_join_and_leave_with_the_office_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    site = tmp_path / "site"
    site.mkdir()
    text = (ROOT / "inventory/harbour/office.toml").read_text(encoding="utf-8")
    mine, colleague = (
        secrets_file.create_identity(tmp_path / f"{name}.txt") for name in ("mine", "colleague")
    )

    def named(*readers: str) -> int:
        (site / "office.toml").write_text(
            text.replace("recipients = []", f"recipients = {json.dumps(readers)}"), encoding="utf-8"
        )
        return run(["secrets", "init", str(site)])

    def opens(name: str) -> bool:
        monkeypatch.setenv(secrets_file.IDENTITY_VARIABLE, str(tmp_path / f"{name}.txt"))
        try:
            return bool(secrets_file.read(site))
        except OutpostError:
            return False
        finally:
            monkeypatch.setenv(secrets_file.IDENTITY_VARIABLE, str(tmp_path / "mine.txt"))

    monkeypatch.setenv(secrets_file.IDENTITY_VARIABLE, str(tmp_path / "mine.txt"))
    assert "recipients = []" in text
    assert named(mine) == 0
    assert (opens("mine"), opens("colleague")) == (True, False)
    before = secrets_file.read(site)
    assert named(mine, colleague) == 0
    assert (opens("mine"), opens("colleague"), secrets_file.sealed_to(site)) == (True, True, 2)
    assert (
        secrets_file.read(site).model_copy(update={"readers": before.readers}) == before
    )  # and no key is another
    assert f"{colleague} reads the secrets now" in capsys.readouterr().out
    (site / "office.toml").write_text(text.replace("recipients = []", f"recipients = {json.dumps([mine])}"))
    run(["check", str(site)])
    assert "secrets.age has 2 readers, and the office file names 1" in capsys.readouterr().err
    assert named(mine) == 0
    assert (opens("mine"), opens("colleague")) == (True, False)
    assert named(colleague) == 1  # nobody locks themselves out by mistake
    assert "you could not read" in capsys.readouterr().err
    assert opens("mine")


def test_missing_secrets_say_how_to_make_them(tmp_path: Path) -> None:
    with pytest.raises(OutpostError, match="no secrets at") as error:
        secrets_file.read(tmp_path)
    assert "secrets init" in error.value.remedy
