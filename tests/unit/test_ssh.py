"""One generated configuration says how every host is reached, and OpenSSH reads it correctly."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from outpost.evidence.reference import case_study
from outpost.transport import ssh


@pytest.fixture
def configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    directory = tmp_path / "office"
    directory.mkdir()
    (directory / "ssh_key").touch()
    return ssh.configuration(case_study(), directory)


def meant(configuration: Path, host: str, *options: str) -> dict[str, str]:
    """What ssh would do."""
    done = subprocess.run(
        ["ssh", "-F", str(configuration), *options, "-G", host], capture_output=True, text=True, check=True
    )
    return dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)


def test_a_host_is_reached_by_its_name_at_its_management_address(configuration: Path) -> None:
    office = case_study()
    for host in office.hosts:
        found = meant(configuration, host.name)
        assert (found["user"], found["hostname"], int(found["port"])) == ssh.target(office, host)


def test_only_a_pinned_key_is_accepted(configuration: Path) -> None:
    found = meant(configuration, "mta")
    assert found["stricthostkeychecking"] == "true"
    assert found["userknownhostsfile"].strip('"').endswith("office/known_hosts")
    assert found["updatehostkeys"] == "false"
    others = ("globalknownhostsfile", "verifyhostkeydns", "knownhostscommand")
    assert [found.get(name, "none") for name in others] == ["/dev/null", "false", "none"]
    assert found["identitiesonly"] == "yes"


def test_no_host_is_lent_what_opens_others(configuration: Path, tmp_path: Path) -> None:
    """A line for all hosts in the user's own file would forward the administrator's agent to a compromised host."""
    own = tmp_path / "own"
    own.write_text(
        "Host *\nForwardAgent yes\nForwardX11 yes\nGSSAPIDelegateCredentials yes\nPermitLocalCommand yes\nTunnel yes\n"
        "RemoteForward 4711 127.0.0.1:22\n"
    )
    text = configuration.read_text()
    assert "Include ~/.ssh/config" in text
    configuration.write_text(text.replace("~/.ssh/config", str(own)))
    found = meant(configuration, "mta")
    lent = ("forwardagent", "forwardx11", "gssapidelegatecredentials", "permitlocalcommand", "tunnel")
    assert [found[name] for name in lent] == ["no", "no", "no", "no", "false"]
    assert found["clearallforwardings"] == "yes"


def test_a_connection_is_kept_for_an_hourly_run_and_a_new_one_can_be_asked_for(configuration: Path) -> None:
    assert int(meant(configuration, "mta")["controlpersist"]) > 3600
    found = meant(configuration, "mta", *ssh.NEW)
    assert (found["controlmaster"], found.get("controlpath", "none")) == ("false", "none")


def test_kept_connections_are_the_users_alone(configuration: Path) -> None:
    assert configuration.parent.stat().st_mode & 0o077 == 0
