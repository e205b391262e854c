"""A few answers become an office: its file is correct, and an existing one is never overwritten."""

from __future__ import annotations

import errno
import os
from io import StringIO
from pathlib import Path

import pytest

from outpost.cli.app import run
from outpost.keys import secrets_file
from outpost.office import load

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPvl2VGKbSb6DB9Jbjn8cDsxhYg3Q6hVZCAT1Z0tOAa maria@site"
ANSWERS = ("--domain", "po.example.com", "--organisation", 'Maria\'s "site" office', "--postmaster", "maria")


def new(directory: Path, *more: str) -> int:
    return run(["new", str(directory), *ANSWERS, *more])


@pytest.fixture(autouse=True)
def nobody_is_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OUTPOST_IDENTITY", str(tmp_path / "identity.txt"))
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.mark.parametrize(
    "more",
    [
        ("--wan", "192.0.2.0/28"),
        ("--wan", "192.0.2.0/28,2001:db8:1::/64", "--lan", "10.1.0.0/24,fd00:1::/64", "--users", "tom,ann"),
        ("--wan", "192.0.2.0/24", "--certificates", "office", "--proxy", "http://10.40.4.9:3142"),
        ("--wan", "192.0.2.0/29", "--acme-proxy", "http://10.40.4.9:8888"),
    ],
)
def test_what_is_written_is_sound(tmp_path: Path, more: tuple[str, ...]) -> None:
    assert new(tmp_path / "site", "--no-secrets", *more) == 0
    office = load(tmp_path / "site")
    assert [host.role for host in office.hosts] == ["dns", "dns", "mta", "store", "webmail"]
    assert office.postmaster == "maria@po.example.com"
    addresses = [address for host in office.hosts for address in host.all_addresses]
    assert len(addresses) == len(set(addresses))
    assert (tmp_path / "site" / "ssh.py").exists()


def test_its_secrets_are_made_and_not_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert new(tmp_path / "site", "--wan", "192.0.2.0/28") == 0
    output = capsys.readouterr().out
    (handover,) = tmp_path.glob("*-first-passwords.txt")
    assert (tmp_path / "site" / "secrets.age").exists()
    assert handover.read_text().split()[1] not in output


def test_the_password_of_a_smarthost_is_kept_and_not_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    assert new(site, "--wan", "192.0.2.0/28") == 0
    monkeypatch.setattr("sys.stdin", StringIO("a word of theirs\n"))
    assert run(["secrets", "smarthost", str(site)]) == 1
    assert "[smarthost] user" in capsys.readouterr().err
    with (site / "office.toml").open("a") as file:
        file.write('\n[smarthost]\nhost = "relay.example.net"\nuser = "site@example.net"\n')
    assert run(["secrets", "smarthost", str(site)]) == 0
    kept = secrets_file.read(site).smarthost
    assert kept is not None
    assert kept.get_secret_value() == "a word of theirs"
    assert "word of theirs" not in capsys.readouterr().out
    assert "word of theirs" not in (site / "secrets.age").read_text(encoding="latin-1")
    monkeypatch.setattr("sys.stdin", StringIO("\n"))
    assert run(["secrets", "smarthost", str(site)]) == 1
    assert secrets_file.read(site).smarthost == kept


def test_an_office_that_is_there_stays(tmp_path: Path) -> None:
    assert new(tmp_path / "site", "--no-secrets", "--wan", "192.0.2.0/28") == 0
    before = (tmp_path / "site" / "office.toml").read_text()
    assert new(tmp_path / "site", "--no-secrets", "--wan", "198.51.100.0/28") == 1
    assert (tmp_path / "site" / "office.toml").read_text() == before


@pytest.mark.parametrize("wan", ["192.0.2.1/28", "everything", "192.0.2.0/30", ""])
def test_a_network_that_cannot_be_is_refused_with_a_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], wan: str
) -> None:
    assert new(tmp_path / "site", "--no-secrets", "--wan", wan) == 1
    assert "Remedy" in capsys.readouterr().err
    assert not (tmp_path / "site").exists()


@pytest.mark.parametrize(
    "more",
    [
        ("--domain", "quay example"),
        ("--postmaster", "Maria Schmidt"),
        ("--core", "10.40.2.0/24", "--lan", "10.40.2.0/24"),
        ("--rate", "2 Mbit"),
        ("--rate", "1"),
        ("--ssh-user", "ad min; rm"),
        ("--key", "/no/such/file.pub"),
        ("--key", "ssh-ed25519 AAAA me"),
        ("--smarthost", "relay"),
        ("--forwarders", "192.0.2.255, 127.0.0.1"),
        ("--certificates", "letsencrypt"),
        ("--proxy", "erin, bob"),
        ("--acme-proxy", "10.40.4.9"),
    ],
)
def test_a_mistake_leaves_no_half_made_office_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...]
) -> None:
    assert new(tmp_path / "site", "--no-secrets", "--wan", "192.0.2.0/28", *more) == 1
    assert "Remedy" in capsys.readouterr().err
    assert not (tmp_path / "site").exists()


@pytest.mark.parametrize(
    ("answers", "remedy"),
    [
        (("--domain", "büro-großbaustelle.example"), '"xn--bro-grobaustelle-mlb92c.example"'),
        (("--domain", f"{'x' * 50}.example"), "by 2"),
        (("--postmaster", "o'brien"), '"obrien@po.example.com"'),
        (("--users", "josé"), '"jose@po.example.com"'),
        (("--postmaster", ""), "write it like"),
    ],
)
def test_one_wrong_answer_is_one_mistake_and_no_placeholder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], answers: tuple[str, ...], remedy: str
) -> None:
    assert new(tmp_path / "site", "--no-secrets", "--wan", "192.0.2.0/28", *answers) == 1
    printed = capsys.readouterr().err
    assert printed.count("Remedy:") == 1, printed
    assert remedy in printed
    assert "to-be" not in printed


@pytest.mark.parametrize("file", ["office.toml", "secrets.age"])
def test_a_full_disk_is_named_and_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], file: str
) -> None:
    put = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        put(path, content[:10])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    site = tmp_path / "site"
    with monkeypatch.context() as patched:
        patched.setattr(
            Path, "write_bytes", lambda path, content: (full if file in path.name else put)(path, content)
        )
        assert new(site, "--wan", "192.0.2.0/28") == 1
    printed = capsys.readouterr().err
    assert "free some space" in printed
    assert "bug" not in printed
    assert not [left for left in site.iterdir() if file in left.name]
    again = ["secrets", "init", str(site)] if file == "secrets.age" else None
    assert (run(again) if again else new(site, "--wan", "192.0.2.0/28")) == 0


def test_secrets_that_could_not_be_made_are_named_with_the_next_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OUTPOST_IDENTITY", "/proc/identity.txt")
    assert new(tmp_path / "site", "--wan", "192.0.2.0/28") == 1
    assert f"then run ./outpost secrets init {tmp_path / 'site'}" in capsys.readouterr().err


def test_what_nobody_answered_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert new(tmp_path / "site", "--no-secrets") == 1
    assert "--wan is missing" in capsys.readouterr().err


def test_a_wrong_answer_is_asked_for_again_and_the_others_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = iter(["everything", "192.0.2.0/28", *[""] * 12])
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda *_: next(answers))
    assert new(tmp_path / "site", "--no-secrets") == 0
    assert "Remedy" in capsys.readouterr().err
    assert [str(net) for net in load(tmp_path / "site").zones["wan"].networks] == ["192.0.2.0/28"]


def test_an_interview_judges_each_answer_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    interview = {
        "Mail domain": ["quay example", "quay.example.com"],
        "Name that users see": ["", "Quay"],
        "Who gets postmaster": ["Maria Schmidt", "maria"],
        "Network on the Internet": ["192.0.2.0", "192.0.2.0/28"],
        "Network between": ["10.40.3.0/30", "10.40.3.0/24"],
        "Network of the users": ["10.40.3.0/24", "10.40.6.0/24"],  # the first is taken
        "Network of the administrators": [""],
        "Further users": ["tom ann", "tom, ann"],
        "Rate of the line": ["2 Mbit", "1544"],
        "Relay for mail": ["relay", "relay.provider.example"],
        "Resolvers to ask": ["ns", "198.51.100.53"],
        "Account on the machines": ["ad min", "admin"],
        "Your SSH public key": ["ssh-ed25519 AAAA", KEY],
        "HTTP proxy for packages": ["10.40.4.9:3142", "http://10.40.4.9:3142"],
        "HTTP proxy to": [""],
        "Certificates": ["letsencrypt", "office"],
    }
    answers = {question: iter(replies) for question, replies in interview.items()}

    def answer(question: object) -> str:
        return next(next(replies for start, replies in answers.items() if str(question).startswith(start)))

    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("outpost.cli.new.err.input", answer)
    assert run(["new", str(tmp_path / "site"), "--no-secrets"]) == 0
    printed = capsys.readouterr().err
    assert printed.count("Remedy:") == 13
    assert "reference page" not in printed
    office = load(tmp_path / "site")
    assert (office.domain, len(office.users)) == ("quay.example.com", 3)
    assert [str(network) for network in office.zones["lan"].networks] == ["10.40.6.0/24"]
    assert (office.link.rate_kbit, office.ssh.user, office.ssh.authorized_keys) == (1544, "admin", (KEY,))
    assert office.smarthost is not None
    assert str(office.resolver.forwarders[0]) == "198.51.100.53"


def test_each_office_gets_inner_networks_of_its_own(tmp_path: Path) -> None:
    names = [f"site{number}" for number in range(40)]
    for name in names:
        assert new(tmp_path / name, "--no-secrets", "--wan", "192.0.2.0/28") == 0
    inner = {
        str(net)
        for name in names
        for zone in ("core", "lan", "mgmt")
        for net in load(tmp_path / name).zones[zone].networks
    }
    assert len(inner) == 3 * len(names)


def test_the_key_is_taken_from_its_file_or_left_to_the_machines(tmp_path: Path) -> None:
    (tmp_path / "me.pub").write_text(f"{KEY}\n")
    assert (
        new(tmp_path / "one", "--no-secrets", "--wan", "192.0.2.0/28", "--key", str(tmp_path / "me.pub")) == 0
    )
    assert load(tmp_path / "one").ssh.authorized_keys == (KEY,)
    assert new(tmp_path / "two", "--no-secrets", "--wan", "192.0.2.0/28") == 0
    assert load(tmp_path / "two").ssh.authorized_keys == ()
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/id_ed25519.pub").write_text(f"{KEY}\n")
    assert new(tmp_path / "three", "--no-secrets", "--wan", "192.0.2.0/28") == 0
    assert load(tmp_path / "three").ssh.authorized_keys == (KEY,)
