"""The known state has only what is declared or accepted, even if applies are interrupted or probes fail (docs/adr/0021)."""

from __future__ import annotations

import grp
import hashlib
import importlib
import json
import os
import pkgutil
import pwd
import random
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from outpost.drift.differences import Difference, directory
from outpost.drift.findings import Beside, findings, found
from outpost.office.tables.topology import FOUND
from outpost.onhost import observe
from outpost.onhost.observe import (
    KEY,
    accounts,
    debian,
    expected,
    files,
    known,
    made,
    main,
    packages,
    permissions,
    places,
    reading,
)
from outpost.onhost.observe import declared as records
from outpost.onhost.observe.daemons import steady
from outpost.onhost.observe.expected import Expected
from outpost.onhost.observe.facts import WORDS, is_grave, words
from outpost.onhost.observe.files import below
from outpost.onhost.observe.kept_answers import DAY
from outpost.onhost.observe.reading import BlindError, lines_in, lines_of, named, plain

OBSERVER = "observer\tabc\t"
GOOD = (
    OBSERVER, "version\tknot\t3.4.6", "package\tbash\t", "account\troot\t0:0:/root:/bin/bash:locked", "group\troot\t0", "setting\tnet.x\t1",
    "account\tknot\t110:110:/var/lib/knot:/usr/sbin/nologin:locked", "group\tknot\t110", "group\tsudo\t27", "mode\t/var/log\t755 root root",
    "effective\tredis-server.service@8\tacl default", "package\tknot\t", "link\teth0\tup", "control\tknot\t3.4.6 abc",
)  # fmt: skip
INJECTED = (
    ("file\t/etc/sudoers.d/evil\tabc", ""), ("account\tghost\t0:0:/root:/bin/bash:locked", ""), ("package\ttelnetd\t", ""),
    ("mode\t/var/log\t777 root root", "mode\t/var/log\t755 root root"), ("member\tsudo\tnobody", ""), ("unit\tevil.service\tenabled for multi-user.target", ""),
    ("running\tevil.service\t", ""), ("effective\tredis-server.service@8\tacl evil", "effective\tredis-server.service@8\tacl default"),
    ("setting\tnet.x\t0", "setting\tnet.x\t1"), ("conffile\t/etc/login.defs\tabc", ""), ("special\t/usr/bin/tac\t4755 root root", ""),
    ("unit\tssh.service\tmasked", ""), ("table\tinet evil\t", ""), ("hold\tknot\t", ""), ("manager\tLD_PRELOAD\t/tmp/x", ""),
    ("account\tknot\t110:110:/var/lib/knot:/bin/bash:locked", "account\tknot\t110:110:/var/lib/knot:/usr/sbin/nologin:locked"),
    ("loopback\t127.0.0.1:99\tnc", ""), ("rule\t4 100 from all lookup 7\t", ""), ("capability\t/usr/bin/tac\t01", ""),
    ("control\tknot\t3.4.6 evil", "control\tknot\t3.4.6 abc"), ("group\tnobody\t27", ""),
)  # fmt: skip
"""A change by hand, and the fact that it replaces."""
BLIND = "blind\taccounts\tOSError: no"


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Only the stored state of a host."""
    for name in ("KNOWN", "FOUND", "VERIFIED", "APPLIED"):
        monkeypatch.setattr(known, name, tmp_path / name.lower())
    monkeypatch.setattr(known, "STATE", tmp_path)
    monkeypatch.setattr(known, "CONTRACT", str(tmp_path / "contract.json"))
    monkeypatch.setattr(known, "keep_copies", lambda *_: None)
    monkeypatch.setattr(
        known, "newer", lambda now, before: {f for f in now ^ before if f.startswith("version\t")}
    )
    monkeypatch.setattr(known, "_started_since", lambda _unit: False)
    monkeypatch.setattr(expected, "owned_by_packages", set)
    monkeypatch.setattr(Expected, "_package", lambda *_: _[1] == "bash")
    contract(tmp_path)
    return tmp_path


def contract(host: Path, **more: object) -> None:
    (host / "contract.json").write_text(json.dumps({"packages": ["knot"]} | more))


def scanned(states: set[str], *faults: str) -> dict[str, list[str]]:
    answer: dict[str, list[str]] = known.compared(sorted(states), list(faults))  # type: ignore[assignment]
    return answer


def reported(states: set[str]) -> set[str]:
    """Facts that a plan reports."""
    answer = scanned(states)
    return {*answer["appeared"], *answer["vanished"], *answer["found"]}


def remembered(states: set[str], *faults: str) -> None:
    known.remember(sorted(states), list(faults), 0.0)


def test_what_is_explained_becomes_known_and_is_reported_no_more(host: Path) -> None:
    remembered(set(GOOD))
    assert reported(set(GOOD)) == set()
    assert not scanned(set(GOOD))["news"]
    assert not (host / "found").read_text()


def test_copies_that_an_older_version_made_are_sealed_by_the_first_apply_alone(
    host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files to which a failed apply goes back."""
    monkeypatch.setenv(KEY, "secret")
    monkeypatch.setattr(known, "DECLARED", host)
    (host / "known").write_text("")
    for name in ("ssh", "later"):
        subprocess.run(["tar", "-cf", host / f"{name}.tar", "-T", "/dev/null"], check=True)
        remembered(set(GOOD))
    assert (host / "ssh.seal").exists()
    assert not (host / "later.seal").exists()


def test_the_first_apply_seals_copies_of_what_is_installed_and_no_others(
    host: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first apply makes most copies before it installs the sealing program; a copy without a seal is never restored."""
    monkeypatch.setenv(KEY, "secret")
    monkeypatch.setattr(known, "DECLARED", host)
    for name in ("ssh", "edited"):
        file = tmp_path / f"{name}.conf"
        file.write_text("declared\n")
        subprocess.run(["tar", "-C/", "-cf", host / f"{name}.tar", str(file).lstrip("/")], check=True)
    (tmp_path / "edited.conf").write_text("somebody's\n")
    assert not (host / "known").exists()
    remembered(set(GOOD))
    assert (host / "ssh.seal").exists()
    assert not (host / "edited.seal").exists()


@pytest.mark.usefixtures("host")
def test_an_account_whose_shell_holds_a_colon_is_reported() -> None:
    """For getpwent(3) everything after the sixth colon is the shell."""
    evil = "account\tevil\t0:0:/root:/bin/sh:x:password"
    remembered(set(GOOD))
    assert reported({*GOOD, evil}) == {evil}
    assert reported({*GOOD} - {GOOD[3]} | {evil.replace("evil", "root")})
    for facts in (frozenset({evil}), frozenset({evil, "account\tevil\t0:0:/root:/bin/sh:password"})):
        (finding,) = findings(Beside(usable=True, appeared=facts))
        assert finding.thing == "evil"
    (finding,) = findings(Beside(usable=True, vanished=frozenset({evil})))
    assert finding.cause == "removed by hand"


@pytest.mark.parametrize("sealed", [True, False])
@pytest.mark.parametrize("value", ["", "\tx", "\tx y", "\ta:b", "\t1:2:3:4:5", "\t²", "\tlink to \tx"])
def test_what_is_no_fact_in_the_known_state_makes_nobody_blind(
    host: Path, monkeypatch: pytest.MonkeyPatch, value: str, *, sealed: bool
) -> None:
    """Root can write such a line. A scan that ends with an error names no drift."""
    monkeypatch.setenv(KEY, "secret")
    monkeypatch.setattr(known, "DECLARED", host)
    evil = "file\t/etc/sudoers.d/evil\tabc"
    if sealed:
        remembered(set(GOOD))
    kinds = {*WORDS, *expected.NOT_MISSED, "effective", "observer", "seal", "x"}
    text = (host / "known").read_text() if sealed else ""
    (host / "known").write_text(text + "".join(f"{kind}\t/etc/x{value}\n{kind}\n" for kind in sorted(kinds)))
    assert evil in {*scanned({*GOOD, evil})["appeared"], *scanned({*GOOD, evil})["found"]}


@pytest.mark.parametrize(("seed"), range(40))
def test_an_injected_drift_is_reported_whatever_broke_off(host: Path, seed: int) -> None:
    """At random moments drift is injected, an apply ends or is interrupted, a probe fails, or the known state or the contract is lost."""
    chance = random.Random(seed)  # noqa: S311 (no secret)
    there, states = set[str](), set(GOOD)
    for _ in range(12):
        step = chance.choice(
            ("inject", "inject", "remember", "blind", "break off", "forget", "another observer", "upgrade")
        )
        if step == "inject":
            new, old = chance.choice(INJECTED)
            states = (states - {old}) | {new}
            there.add(new)
        elif step == "remember":
            remembered(states)
        elif step == "blind":
            with pytest.raises(SystemExit):
                remembered({fact for fact in states if not fact.startswith("account\t")}, BLIND)
        elif step == "break off":
            (host / "applied").mkdir(exist_ok=True)
            (host / "applied" / "knot").write_text("path /etc/knot/knot.conf\n")
        elif step == "forget":
            (host / "known").unlink(missing_ok=True)
        elif step == "another observer":
            states = {fact for fact in states if not fact.startswith("observer\t")} | {
                f"observer\t{chance.random()}\t"
            }
        else:
            states = {fact for fact in states if not fact.startswith("version\t")} | {
                f"version\tknot\t{chance.random()}"
            }
        if not (host / "known").exists():  # only the known state records what ran before
            there = {
                new
                for new in there
                if not new.startswith(("effective\t", "setting\t", "running\t", "loopback\t", "control\t"))
            }
        hidden = {new for new in there if (host / "known").exists() and new in states} - reported(states)
        assert hidden == set(), f"after {step}"


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        ("account", "knot", "112:110:/var/lib/knot:/usr/sbin/nologin:locked"),
        ("account", "knot", "110:27:/var/lib/knot:/usr/sbin/nologin:locked"),
        ("group", "evil", "110"),
    ],
)
def test_a_number_that_another_has_is_drift_of_the_one_that_came(
    host: Path, kind: str, name: str, value: str
) -> None:
    """This also holds for an account of a role, whose shell and home may change."""
    contract(host, accounts=["knot"])
    remembered(set(GOOD))
    new = f"{kind}\t{name}\t{value}"
    old = {fact for fact in GOOD if fact.startswith(f"{kind}\t{name}\t")}
    for _ in range(2):
        assert reported({*GOOD, new} - old) == {new, *old}
        remembered({*GOOD, new} - old)
    seen = Beside(usable=True, appeared=frozenset((new,)), vanished=frozenset(old))
    assert [finding.thing for finding in findings(seen)] == [name]


@pytest.mark.parametrize(
    ("name", "target", "known"),
    [
        ("rspamd.service", "/opt/evil/rspamd.service", False),
        ("rspamd.service", "/usr/lib/systemd/system/debug-shell.service", False),
        ("rspamd.service", "/usr/lib/systemd/system/rspamd.service", True),
        ("sshd.service", "/usr/lib/systemd/system/ssh.service", True),
        ("sshd.service", "/usr/lib/systemd/system/debug-shell.service", False),
        ("redis.service", "/usr/lib/systemd/system/redis-server.service", False),
    ],
)
def test_a_link_in_the_name_of_a_unit_leads_where_its_package_leads_it(
    host: Path, monkeypatch: pytest.MonkeyPatch, name: str, target: str, known: bool
) -> None:
    """Root can also write the records of deb-systemd-helper(1p). They count only while packages are installed."""
    contract(host, units=["rspamd.service"])
    monkeypatch.setattr(expected, "HELPER", str(host))
    (host / "redis.service").touch()
    remembered(set(GOOD))
    link = f"unit\t{name}\tlink to {target}"
    for _ in range(2):
        assert (reported({*GOOD, link}) == set()) is known
        remembered({*GOOD, link})


@pytest.mark.usefixtures("host")
def test_the_network_of_a_machine_of_a_cloud_is_known_at_the_first_apply_and_not_later() -> None:
    networkd = "unit\tsystemd-networkd.service\tenabled for multi-user.target"
    assert networkd not in reported({*GOOD, networkd})
    remembered(set(GOOD))
    assert reported({*GOOD, networkd}) == {networkd}


def test_a_note_that_a_package_enabled_a_unit_explains_it_only_while_packages_come(
    host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root can write the records of deb-systemd-helper(1p)."""
    notes = host / "enabled"
    monkeypatch.setattr(expected, "HELPER", str(notes))
    (notes / "sysinit.target.wants").mkdir(parents=True)
    (notes / "sysinit.target.wants" / "debug-shell.service").touch()
    shell = "unit\tdebug-shell.service\tenabled for sysinit.target"
    remembered(set(GOOD))
    assert reported({*GOOD, shell}) == {shell}
    assert reported({*GOOD, shell, "version\tother\t1"}) == {shell}  # another package does not explain it
    monkeypatch.setattr(
        expected,
        "files_of",
        lambda names: {"/usr/lib/systemd/system/debug-shell.service"} if "new" in names else set(),
    )
    assert reported({*GOOD, shell, "version\tnew\t1"}) == set()


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize(
    "fact",
    [
        f"file\t/etc/apparmor.d/local/evil\t{debian.EMPTY}",
        "file\t/usr/share/rspamd/www/js/evil.js\tabc",
        "file\t/usr/bin/evil\tlink to /etc/alternatives/..",
        "file\t/etc/cron.d/evil\tabc",
        "diversion\t/usr/bin/id\tto /usr/bin/id.distrib, for new",
    ],
)
def test_what_a_packages_scripts_could_have_made_is_explained_only_while_packages_come(
    monkeypatch: pytest.MonkeyPatch, fact: str
) -> None:
    """Root can choose its name, and write the records of ucf(1) and dpkg-divert(1)."""
    monkeypatch.setattr(expected, "digested", lambda *_: "123")
    monkeypatch.setattr(expected, "is_shipped", lambda *_: True)
    monkeypatch.setattr(debian, "kept_by_ucf", lambda: frozenset(("123 /etc/cron.d/evil",)))
    remembered(set(GOOD))
    assert reported({*GOOD, fact}) == {fact}
    remembered({*GOOD, fact})
    assert reported({*GOOD, fact}) == {fact}
    assert reported({*GOOD, fact, "version\tnew\t1"}) == set()


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize(
    "fact",
    [
        "file\t/etc/cron.d/evil\tabc",
        "file\t/etc/apparmor.d/local/usr.sbin.clamd\tabc",
        "diversion\t/usr/bin/id\tto /x, for knot",
    ],
)
def test_an_upgrade_of_any_package_explains_no_file_that_no_package_has(
    monkeypatch: pytest.MonkeyPatch, fact: str
) -> None:
    """Upgrades come every night: a file that is added beside one would become known with the next apply."""
    monkeypatch.setattr(expected, "digested", lambda *_: "123")
    monkeypatch.setattr(expected, "is_shipped", lambda *_: False)
    monkeypatch.setattr(debian, "kept_by_ucf", lambda: frozenset(("123 /etc/cron.d/evil",)))
    remembered(set(GOOD))
    for version in "123":
        assert reported({*GOOD, fact, f"version\tnew\t{version}"}) == {fact}
        remembered({*GOOD, fact, f"version\tnew\t{version}"})


def test_only_a_packages_file_of_the_same_name_is_shipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "info").mkdir()
    (tmp_path / "info/php.md5sums").write_text(
        f"{'0' * 32}  usr/lib/php/php.ini-production\n{'1' * 32}  usr/share/x\n"
    )
    monkeypatch.setattr(packages, "DATABASE", str(tmp_path))
    files = [
        ("/etc/php/php.ini", "0"),
        ("/etc/php/php.ini", "1"),
        ("/etc/cron.d/evil", "0"),
        ("/etc/php/php.ini", "2"),
    ]
    assert [packages.is_shipped(path, digit * 32) for path, digit in files] == [True, False, False, False]


@pytest.mark.usefixtures("host")
def test_a_compiled_filter_is_known_only_as_its_script_makes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The compiled filter is made again when an apply changes the script (`outpost user forward`)."""

    def sievec(command: str) -> list[str]:
        _, script, file, *_ = command.split()
        assert script == "/etc/dovecot/sieve/forward/erin@po.test.sieve"
        Path(file).write_text("compiled")
        return []

    monkeypatch.setattr(made, "lines_of", sievec)
    monkeypatch.setattr(made, "RUN", str(tmp_path / "run"))
    path = "/etc/dovecot/sieve/forward/erin@po.test.svbin"
    right = f"file\t{path}\t{hashlib.sha256(b'compiled').hexdigest()[:16]}"
    remembered(set(GOOD))
    assert reported({*GOOD, right}) == set()
    remembered({*GOOD, f"file\t{path}\tedited"})
    assert f"file\t{path}\tedited" in reported({*GOOD, f"file\t{path}\tedited"})
    remembered({*GOOD, right})
    monkeypatch.setattr(made, "lines_of", lambda _: pytest.fail("what is known is not compiled again"))
    assert reported({*GOOD, right}) == set()
    assert reported(set(GOOD)) == set(), "it went with its script"
    monkeypatch.setattr("os.path.lexists", lambda path: path.endswith("erin@po.test.sieve"))
    assert right in reported(set(GOOD))


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("package", ["evil", ":"])
def test_no_package_that_is_not_installed_diverts_a_file(package: str) -> None:
    diverted = f"diversion\t/usr/bin/id\tto /x, for {package}"
    remembered(set(GOOD))
    assert reported({*GOOD, diverted, "version\tnew\t1"}) == {diverted}


@pytest.mark.usefixtures("host")
def test_a_package_that_somebody_put_in_by_hand_explains_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made, mode = f"file\t/etc/apparmor.d/local/evil\t{debian.EMPTY}", "special\t/etc/services\t600 root root"
    monkeypatch.setattr(expected, "owned_by_packages", lambda: {"/etc/services"})
    monkeypatch.setattr(
        expected, "files_of", lambda names: {"/etc/services"} if "netbase" in names else set()
    )
    remembered(set(GOOD))
    assert {made, mode} <= reported({*GOOD, made, mode, "package\ttelnetd\t", "version\ttelnetd\t1"})
    assert reported({*GOOD, made, mode, "version\tlibx\t1"}) == {mode}
    assert reported({*GOOD, made, mode, "version\tnetbase\t1"}) == set()
    monkeypatch.setattr(known, "newer", lambda *_: set())
    assert {made, mode} <= reported({*GOOD, made, mode, "version\tnetbase\t0"})


@pytest.mark.usefixtures("host")
def test_an_upgrade_takes_no_link_along_that_leads_to_what_no_package_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(expected, "astray", lambda links: [path for path in links if path == "/usr/bin/sh"])
    before = {*GOOD, "alias\t/usr/bin/sh\tlink to dash", "alias\t/usr/bin/awk\tlink to mawk"}
    remembered(before)
    after = {
        "version\tknot\t3.5",
        "alias\t/usr/bin/sh\tlink to /opt/evil",
        "alias\t/usr/bin/awk\tlink to gawk",
    }
    kept = {fact for fact in before if not fact.startswith(("version", "alias", "control"))}
    assert reported(kept | after) >= {"alias\t/usr/bin/sh\tlink to /opt/evil"}
    assert not any("awk" in fact for fact in reported(kept | after))


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("now", ["link to /opt/evil", "no link"])
def test_an_upgrade_takes_no_other_program_of_webmails_along(
    now: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expected, "astray", lambda links: list(links))
    program = "alias\t/var/lib/roundcube/program\t"
    before = {*GOOD, f"{program}link to /usr/share/roundcube/program"}
    remembered(before)
    kept = {fact for fact in before if not fact.startswith(("version", "alias", "control"))}
    assert f"{program}{now}" in reported({*kept, "version\tknot\t3.5", f"{program}{now}"})


def test_a_packages_link_leads_to_what_a_package_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "info").mkdir()
    (tmp_path / "info" / "x.list").write_text("/.\n/lib/x\n/usr/src/x\n")
    (tmp_path / "status").write_text("Package: x\nStatus: install ok installed\n")
    monkeypatch.setattr(packages, "DATABASE", str(tmp_path))
    links = {
        "/usr/lib/good": "/usr/lib/x.1",
        "/usr/lib/own": "/usr/src/x",
        "/usr/lib/masked": "/dev/null",
        "/usr/lib/set": "/etc/x.conf",
        "/usr/lib/evil": "/opt/x",
        "/usr/lib/hidden": "/usr/share/doc/x",
        "/usr/lib/spare": "/usr/src/y",
    }
    assert packages.astray(links) == ["/usr/lib/evil", "/usr/lib/hidden", "/usr/lib/spare"]


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("path", ["/srv/x", "/etc/apparmor.d/local/x", "/home/x/.ssh/authorized_keys"])
def test_a_device_outside_dev_is_reported_and_a_persons_to_accept(path: str) -> None:
    (fact,) = permissions.special_elsewhere(set(), [f"660 root disk b|{path}", "644 root root f|/srv/y"])
    assert fact == f"file\t{path}\tdevice"
    remembered({*GOOD, fact})
    assert reported({*GOOD, fact}) == {fact}
    assert reported({*GOOD, fact, "version\tnew\t1"}) == {fact}


@pytest.mark.parametrize(
    "path",
    [
        "/etc/logrotate.d/x.cache",
        "/etc/logrotate.d/x.db",
        "/etc/logrotate.d/x.outpost-new",
        "/etc/logrotate.d/x.dpkg-evil",
        "/etc/logrotate.d/.placeholder",
        "/usr/lib/python3/dist-packages/sitecustomize.pyc",
        "/usr/local/lib/x/__pycache__/x.pyc",
        "/root/unbound_x.key",
        "/etc/systemd/system-generators/evil.outpost-new",
        "/usr/lib/modules/6.12.57/updates/evil.ko",
        "/var/lib/clamav/evil.cld",
        "/usr/lib/systemd/system-generators/evil.cache",
    ],
)
def test_no_name_that_a_program_reads_is_passed_over(path: str) -> None:
    assert not places.PASSING.search(path)


@pytest.mark.parametrize(
    "path",
    [
        "/usr/lib/modules/6.12.57/modules.dep.bin",
        "/var/lib/clamav/daily.cld",
        "/etc/logrotate.d/x.dpkg-old",
        "/etc/ld.so.cache",
        "/etc/aliases.db",
        "/usr/lib/x86_64-linux-gnu/gconv/gconv-modules.cache",
        "/etc/cron.d/.placeholder",
        "/etc/unbound/unbound_server.key",
        "/etc/php/.x.ini.swp",
    ],
)
def test_what_the_system_makes_itself_is_passed_over(path: str) -> None:
    assert places.PASSING.search(path)


def test_programs_are_read_once_a_day_whatever_the_host_says_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    verified = tmp_path / "verified"
    monkeypatch.setattr(packages, "VERIFIED", str(verified))
    now = 20_000.5 * DAY
    monkeypatch.setattr("time.time", lambda: now)
    assert packages.verified_today() == 0
    verified.touch()
    for moment, believed in ((now - 60, True), (now - DAY, False), (now + 60, False)):
        os.utime(verified, (moment, moment))
        assert bool(packages.verified_today()) is believed


@pytest.mark.usefixtures("host")
def test_what_dpkg_keeps_of_a_package_changes_with_its_version_alone() -> None:
    """Maintainer scripts and checksums: the host has no other record of them."""
    remembered(set(GOOD))
    before, version = "control\tknot\t3.4.6 abc", "version\tknot\t3.4.6"
    rest = set(GOOD) - {before}
    assert reported({*rest, "control\tknot\t3.4.6 evil"}) == {before, "control\tknot\t3.4.6 evil"}
    assert reported(rest) == {before}, "all of it was removed"
    later = {*rest - {version}, "version\tknot\t3.4.7", "control\tknot\t3.4.7 def"}
    assert reported(later) == set()
    assert reported({*GOOD, "package\tbash\t", "version\tnew\t1", "control\tnew:amd64\t1 x"}) == set()
    assert reported({*GOOD, "control\tnew\t1 x"}) == {"control\tnew\t1 x"}
    assert reported(rest - {version, "package\tknot\t"}) == set(), "a package that went"


@pytest.mark.control("SYS-06")
@pytest.mark.usefixtures("host")
def test_a_version_that_somebody_edited_is_never_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose repair fails once: the package's own version must not be an older one afterwards."""
    upward = known.newer
    monkeypatch.setattr(known, "newer", lambda now, before: upward(now, before) if now - set(GOOD) else set())
    monkeypatch.setattr(expected, "has_log", lambda _: True)
    remembered(set(GOOD))
    edited = {
        fact.replace("\t3.4.6", "\t99:1") if fact.startswith(("version\tknot\t", "control\tknot\t")) else fact
        for fact in GOOD
    }
    assert reported(edited) == {"control\tknot\t99:1 abc", "control\tknot\t3.4.6 abc"}
    remembered(edited)
    assert reported(set(GOOD)) == set()


def test_a_list_in_the_name_of_no_package_makes_no_file_a_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "DATABASE", str(tmp_path))
    (tmp_path / "info").mkdir()
    for name in ("a", "c:amd64", "gone", "evil"):
        (tmp_path / "info" / f"{name}.list").write_text(f"/.\n/etc/{name}\n")
    (tmp_path / "status").write_text(
        "Package: a\nStatus: install ok installed\n\nPackage: c\nStatus: install ok installed\n\n"
        "Package: gone\nStatus: deinstall ok config-files\nDescription: x\n Package: evil\n\n"
        "Package: evil\nStatus: purge ok not-installed\n"
    )
    assert packages.listed_by_packages() == ["/etc/a", "/etc/c:amd64", "/etc/gone"]


def test_a_package_that_a_person_has_accepted_may_come_from_no_source_of_apt(
    host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A vendor's own package, installed by hand, and its upgrades."""
    monkeypatch.setattr(known, "newer", lambda *_: set())
    contract(host, accepted=["package vendor"])
    remembered(set(GOOD))
    own = {"package\tvendor\t", "version\tvendor\t2", "control\tvendor\t2 abc"}
    assert reported({*GOOD, *own}) == set()
    assert reported({*GOOD, *own, "version\tother\t2"}) == {"version\tother\t2"}


@pytest.mark.usefixtures("host")
def test_only_a_package_that_was_here_leaves_its_configuration() -> None:
    """SYS-08: dpkg's status may name any package as removed, and each file in its list counts as a package's."""
    left, rest = (
        "control\tknot\tremoved",
        set(GOOD) - {"control\tknot\t3.4.6 abc", "version\tknot\t3.4.6", "package\tknot\t"},
    )
    remembered(set(GOOD))
    evil = "control\tevil\tremoved"
    assert reported({*GOOD, evil}) == {evil}
    assert left not in reported({*rest, left})
    remembered({*rest, left})
    assert reported({*rest, left, evil}) == {evil}
    (finding,) = findings(Beside(usable=True, appeared=frozenset((evil,))))
    assert "mv --backup" in finding.repair


def test_what_dpkg_keeps_of_each_package_is_digested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "DATABASE", str(tmp_path))
    (tmp_path / "info").mkdir()
    for name in ("a.list", "a.postinst", "a.b.list", "c:amd64.list", "gone.list"):
        (tmp_path / "info" / name).write_text(name)
    (tmp_path / "status").write_text(
        "Package: a\nEssential: yes\nStatus: install ok installed\nVersion: 1\n\n"
        "Package: a.b\nStatus: install ok installed\nPriority: x\nVersion: 2\n\n"
        "Package: c\nStatus: hold ok installed\nVersion: 3\n\nPackage: gone\nStatus: deinstall ok config-files\nVersion: 4\n"
    )
    before = packages.controls()
    assert before.pop() == f"control\tgone\t{packages.REMOVED}"
    assert [fact.rpartition(" ")[0] for fact in before] == [
        "control\ta\t1",
        "control\ta.b\t2",
        "control\tc:amd64\t3",
    ]
    packages.expect_lists()
    (tmp_path / "info" / "c:amd64.list").unlink()
    with pytest.raises(BlindError, match="list of the files of c"):
        packages.expect_lists()
    (tmp_path / "info" / "c:amd64.list").write_text("c:amd64.list")
    (tmp_path / "info" / "a.postinst").write_text("evil")
    assert [fact in before for fact in packages.controls()[:-1]] == [False, True, True]


def test_capabilities_are_sought_in_all_of_a_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "src" / "deep").mkdir(parents=True)
    (tmp_path / "src" / "deep" / "evil").touch()
    monkeypatch.setattr(permissions, "capability", lambda path: [f"capability\t{path}\t01"])
    assert f"capability\t{tmp_path}/src/deep/evil\t01" in permissions.privileges(set(), str(tmp_path))


def test_a_record_that_the_controller_does_not_read_declares_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "APPLIED", str(tmp_path))
    for name in (".evil", "base:evil", "evil.new", "a\nb"):
        (tmp_path / name).write_text("path /etc/sudoers.d/evil\n")
    (tmp_path / "php8.4-fpm").write_text(
        "unit x.service\npath /etc/x\ndigest abc\x0bpath /etc/sudoers.d/evil\n\x85path /y\n"
    )
    assert records.records() == ({"x.service": ["/etc/x"]}, {"/etc/x"})


@pytest.mark.usefixtures("host")
def test_only_a_persons_word_lets_bin_lead_elsewhere() -> None:
    remembered({*GOOD, "alias\t/bin\tlink to usr/bin"})
    moved = "alias\t/bin\tlink to /opt/bin"
    assert moved in reported({*GOOD, moved})


def test_only_what_a_person_accepted_by_name_becomes_known_and_only_once(host: Path) -> None:
    ghost = "account\tghost\t1000:1000:/home/ghost:/bin/bash:password"
    remembered({*GOOD, ghost})
    assert reported({*GOOD, ghost}) == {ghost}
    contract(host, accepted=["account ghost"])
    remembered({*GOOD, ghost})
    assert reported({*GOOD, ghost}) == set()
    root = "account\tghost\t0:0:/home/ghost:/bin/bash:password"
    remembered({*GOOD, root})
    assert reported({*GOOD, root}) == {ghost, root}, "as it was when it was accepted, and no further"


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize(
    "fact", [drift for drift, _ in INJECTED if is_grave(drift)], ids=lambda fact: fact.split("\t")[0]
)
def test_what_was_written_into_the_known_state_by_hand_is_reported(fact: str) -> None:
    remembered(set(GOOD))
    with known.KNOWN.open("a") as stream:
        stream.write(f"{fact}\n")
    assert scanned({*GOOD, fact})["appeared"] == [fact]
    remembered({*GOOD, fact})
    assert scanned({*GOOD, fact})["appeared"] == [fact]


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize(
    "fact",
    ["account\tghost\t0:0:/root:/bin/bash:locked", "member\tsudo\tnobody", "file\t/etc/sudoers.d/evil\tabc"],
)
def test_what_was_written_into_the_known_state_by_hand_is_not_made_by_an_apply(fact: str) -> None:
    remembered(set(GOOD))
    with known.KNOWN.open("a") as stream:
        stream.write(f"{fact}\n")
    assert scanned(set(GOOD))["vanished"] == []
    remembered(set(GOOD))
    assert fact not in known.KNOWN.read_text()


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize(
    "edit",
    [
        lambda text, fact: f"{text}{fact}\n",
        lambda text, fact: (
            f"{text.partition(chr(10))[2]}{fact}\n"
        ),  # without its seal, as an earlier version wrote it
        lambda text, fact: f"seal\t{'0' * 128}\n{text.partition(chr(10))[2]}{fact}\n",
    ],
)
@pytest.mark.parametrize(
    "fact", ["file\t/srv/x.conf\tabc", "trigger\t/x.db\ty", "override\t/x\troot root 755"]
)
def test_an_edited_known_state_is_reported_and_hides_nothing(
    fact: str, edit: Callable[[str, str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """This also holds for a line that grants nothing and is not drift itself."""
    monkeypatch.setenv(KEY, "office")
    remembered(set(GOOD))
    assert scanned(set(GOOD))["faults"] == []
    known.KNOWN.write_text(edit(known.KNOWN.read_text(), fact))
    monkeypatch.delenv(KEY)
    assert scanned(set(GOOD))["faults"] == [], "who has no secret cannot say"
    monkeypatch.setenv(KEY, "office")
    seen = scanned({*GOOD, fact})
    assert seen["faults"] == [f"edited\t{known.KNOWN}\t"]
    assert fact in {*seen["found"], *seen["appeared"]}
    assert scanned(set(GOOD))["vanished"] == [], "an apply makes none of it"
    assert findings(Beside(usable=True, faults=frozenset(seen["faults"])))[0].kind == "known state"
    remembered({*GOOD, fact})
    seen = scanned({*GOOD, fact})
    assert seen["faults"] == []
    assert fact in {*seen["found"], *seen["appeared"]}, "an apply seals it, and accepts nothing"


@pytest.mark.usefixtures("host")
def test_a_daemons_new_answer_with_a_new_observer_is_accepted_without_a_persons_decision(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    remembered(set(GOOD))
    fact = "effective\tredis-server.service@8\tacl two"
    now = {fact, "observer\tdef\t", *GOOD} - {OBSERVER}
    assert scanned(now)["found"] == []
    assert scanned(now)["appeared"] == [fact]
    monkeypatch.setattr(known, "_started_since", lambda _unit: True)
    remembered(now)
    assert fact in known.KNOWN.read_text()
    assert known.FOUND.read_text() == ""


@pytest.mark.parametrize(
    ("selected", "is_all"),
    [
        ("# x\n\nmozilla/A.crt\nmozilla/B.crt\n", True),
        ("mozilla/A.crt\nmozilla/B.crt\n!mozilla/gone.crt\n", True),
        ("mozilla/A.crt\n!mozilla/B.crt\n", False),
        ("mozilla/A.crt\nmozilla/B.crt\n!mozilla/B.crt\n", False),
        ("mozilla/A.crt\n", False),
        ("mozilla/A.crt\nmozilla/B.crt\n../../tmp/evil.crt\n", False),
    ],
)
@pytest.mark.usefixtures("host")
def test_a_selection_of_authorities_is_explained_only_if_it_leaves_none_out(
    selected: str, is_all: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf = tmp_path / "ca-certificates.conf"
    (tmp_path / "mozilla").mkdir()
    for name in "AB":
        (tmp_path / f"mozilla/{name}.crt").touch()
    conf.write_text(selected)
    monkeypatch.setattr(made, "SELECTED", str(conf))
    monkeypatch.setattr(made, "SELECTABLE", str(tmp_path))
    remembered({*GOOD, f"file\t{conf}\tbefore"})
    assert (reported({*GOOD, f"file\t{conf}\tafter"}) == set()) is is_all


@pytest.mark.usefixtures("host")
def test_a_packages_program_that_changed_with_a_new_observer_is_drift_and_not_for_a_person_to_decide() -> (
    None
):
    remembered(set(GOOD))
    drift = {"special\t/usr/bin/tac\t4755 root root", "program\t/usr/bin/tac\tchanged"}
    now = {*drift, "observer\tdef\t", *GOOD} - {OBSERVER}
    assert scanned(now)["found"] == []
    assert set(scanned(now)["appeared"]) == drift
    remembered(now)
    assert reported(now) == drift


def test_a_scan_that_was_not_whole_is_not_remembered_and_does_not_miss_what_it_cannot_see(host: Path) -> None:
    remembered(set(GOOD))
    before = (host / "known").read_text()
    seen = {fact for fact in GOOD if not fact.startswith(("account\t", "group\t"))}
    assert scanned(seen, BLIND)["vanished"] == []
    with pytest.raises(SystemExit, match="accounts cannot be observed"):
        remembered(seen, BLIND)
    assert (host / "known").read_text() == before


@pytest.mark.usefixtures("host")
def test_a_daemons_own_answer_is_accepted_only_after_its_start(monkeypatch: pytest.MonkeyPatch) -> None:
    remembered(set(GOOD))
    states = (set(GOOD) - {INJECTED[7][1]}) | {INJECTED[7][0]}
    remembered(states)
    assert reported(states) == set(INJECTED[7])
    monkeypatch.setattr(known, "_started_since", lambda unit: unit == "redis-server.service")
    assert reported(states) == set(INJECTED[7]), "a plan reports it all the same"
    remembered(states)
    monkeypatch.setattr(known, "_started_since", lambda _unit: False)
    assert reported(states) == set()


@pytest.mark.usefixtures("host")
def test_other_classes_of_the_offices_shaping_are_drift_until_its_service_starts_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        known, "contract_of", lambda _: {"packages": ["knot"], "units": ["outpost-shaping.service"]}
    )
    earlier, own, other = (f"queue\teth3\thtb root{digest}" for digest in ("", " 11111111", " 22222222"))
    remembered({*GOOD, earlier})  # an older observer's, without a digest
    remembered({*GOOD, own})
    assert reported({*GOOD, own}) == set()
    assert reported({*GOOD, other}) == {own, other}
    remembered({*GOOD, other})
    assert reported({*GOOD, other}) == {own, other}, "an apply that repaired nothing explains nothing"
    monkeypatch.setattr(known, "_started_since", lambda unit: unit == "outpost-shaping.service")
    remembered({*GOOD, other})
    assert reported({*GOOD, other}) == set()
    assert reported(set(GOOD)) == {other}


def test_a_limit_is_accepted_if_its_file_has_it_and_the_daemon_runs_on(
    host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More users raise limits, and restart nothing."""
    printed = "effective\tstunnel@lmtp.service@systemd\t{}".format
    before = {*GOOD, printed("TasksMax=128"), printed("MemoryMax=134217728"), printed("ProtectSystem=strict")}
    remembered(before)
    monkeypatch.setattr(known, "LIMITS", f"{host}/{{unit}}.conf")
    (host / "stunnel@lmtp.service.conf").write_text("# DOS-11\n[Service]\nMemoryMax=256M\nTasksMax=190\n")
    known.limits_in_file.cache_clear()
    more = {*GOOD, printed("TasksMax=190"), printed("MemoryMax=268435456"), printed("ProtectSystem=strict")}
    remembered(more)
    assert reported(more) == set()
    for key, value in (
        ("TasksMax=190", "TasksMax=infinity"),
        ("MemoryMax=268435456", "MemoryMax=infinity"),
        ("ProtectSystem=strict", "ProtectSystem=no"),
    ):
        other = (more - {printed(key)}) | {printed(value)}
        remembered(other)
        assert reported(other) == {printed(key), printed(value)}


@pytest.mark.parametrize(
    "fact", [new for new, _ in INJECTED if not new.startswith(("effective", "mode", "setting"))]
)
def test_what_was_here_first_has_a_finding_that_says_how_to_decide(fact: str) -> None:
    waiting, gone = found(Beside(usable=True, found=frozenset((fact,))), host="ns1", refused=frozenset())
    assert [each.repair for each in waiting] == [""] * len(waiting)
    assert all(
        f"`{words(fact)}`" in each.consequence and "hosts.ns1.accepted" in each.consequence
        for each in waiting
    )
    assert (len(waiting), gone) == (1, ())
    refused = frozenset((words(fact),))
    waiting, gone = found(Beside(usable=True, found=frozenset((fact,))), host="ns1", refused=refused)
    assert (waiting, [each.repair != "" for each in gone]) == ((), [True])


@pytest.mark.parametrize(
    "fact", [new for new, old in INJECTED if not old and not new.startswith("unit\tssh")]
)
def test_the_words_that_accept_are_those_of_the_plan(fact: str) -> None:
    (finding,) = findings(Beside(usable=True, appeared=frozenset((fact,))))
    assert words(fact) == f"{finding.kind} {finding.thing}"
    assert FOUND.fullmatch(words(fact))


def test_a_probe_that_fails_is_a_finding_and_the_others_see_on() -> None:
    probes = reading.Probes()
    nothing: list[str] = []

    def broken() -> list[str]:
        raise IndexError("list index out of range\nand \x1b[2K")

    assert probes("accounts", broken, otherwise=nothing) == []
    assert probes("files", lambda: ["file\tx\t"], otherwise=nothing) == ["file\tx\t"]
    (fault,) = probes.blind
    (finding,) = findings(Beside(usable=True, faults=frozenset((fault,))))
    assert finding.cause == r"cannot be observed: IndexError: list index out of range and \x1b[2K"
    assert reading.unseen(probes.blind) == {"account", "group", "member", "keeper", "shadow"}


def test_chrony_that_does_not_answer_blinds_nobody() -> None:
    assert steady({"chrony.service": ["506 Cannot talk to daemon"]})["chrony.service"] == []


def test_the_systems_own_programs_answer_a_scan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not what somebody put where a shell finds it first (`/usr/local/bin/id`)."""
    (tmp_path / "id").write_text("#!/bin/sh\necho evil\n")
    (tmp_path / "id").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr("sys.argv", ["observe", "release"])
    assert lines_of("id -u") == ["evil"]
    main.main()
    assert lines_of("id -u") == [str(os.getuid())]


def test_a_command_that_was_killed_has_no_answer() -> None:
    assert lines_of("echo x; echo y") == ["x", "y"]
    with pytest.raises(BlindError):
        lines_of("echo x; kill -9 $$")


@pytest.mark.parametrize(
    "name",
    [
        b"evil\xff",
        b"a\tb",
        b"a\nfile\t/etc/passwd\t",
        b"back\\slash",
        "Főtanúsítvány".encode(),
        b"it's",
        b"a\n",
        b"a\n\n",
        b"\xff\n",
        b"\n",
        rb"a\x0a",
        b"d\n/x\n",
    ],
)
def test_any_name_of_a_file_stands_in_a_fact_and_comes_back_in_the_shell(name: bytes, tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    fact = f"file\t{named(str(path))}\tabc"
    assert (fact.count("\t"), fact.isprintable() or "\t" in fact, plain(fact)) == (2, True, fact)
    quoted = Difference("file", named(str(path)), ("abc",)).quoted
    above = directory(named(str(path)))
    printed = subprocess.run(["sh", "-euc", f"printf %s/ {quoted} {above}"], check=True, capture_output=True)
    assert printed.stdout == os.fsencode(f"{path}/{path.parent}/")
    subprocess.run(["sh", "-euc", f"rm {quoted}"], check=True)
    assert not path.exists()


def test_what_programs_trust_is_accepted_only_as_the_sum_of_what_was_given(tmp_path: Path) -> None:
    def certificate(text: str) -> str:
        return f"-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n"

    files = {
        "etc/ca-certificates.conf": "# x\nmozilla/A.crt\n!mozilla/B.crt\n",  # anybody who is root edits it
        "usr/share/ca-certificates/mozilla/A.crt": certificate("A"),
        "usr/local/share/ca-certificates/own.crt": certificate("own"),
        "etc/ssl/certs/ca-certificates.crt": certificate("A") + certificate("own"),
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    assert known.bundle_is_its_sources(str(tmp_path))
    with (tmp_path / "etc/ssl/certs/ca-certificates.crt").open("a") as bundle:
        bundle.write(certificate("B"))
    assert not known.bundle_is_its_sources(str(tmp_path)), "one more"
    (tmp_path / "usr/share/ca-certificates/mozilla/B.crt").write_text(certificate("B"))
    assert known.bundle_is_its_sources(str(tmp_path))
    (tmp_path / "etc/ssl/certs/ca-certificates.crt").write_text(certificate("A") + certificate("own"))
    assert not known.bundle_is_its_sources(str(tmp_path)), "one was deselected"


STOCK = (
    "account\tadmin\t1000:1000:/home/admin:/bin/bash:password",
    "member\tsudo\tadmin",
    "member\tadm\tadmin",
    "special\t/usr/bin/dotlockfile\t2755 root mail",
    "file\t/usr/lib/locale/locale-archive\tabc",
    "file\t/etc/ssh/sshd_config.d/50-cloud-init.conf\t6bf43c7543d384fe",
)


def test_what_an_installer_leaves_is_known_and_no_more(host: Path) -> None:
    """The account that the office names and Debian's accounts need no decision; similar ones do."""
    contract(host, administrator=["admin"])
    remembered({*GOOD, *STOCK})
    assert reported({*GOOD, *STOCK}) == set()
    strange = {
        "account\tadmin\t0:0:/root:/bin/bash:password",
        "account\tother\t1001:1001:/home/other:/bin/bash:password",
        "member\tsudo\tother",
        "file\t/etc/ssh/sshd_config.d/50-cloud-init.conf\tabc",
        "special\t/usr/bin/dotlockfile\t4755 root root",
    }
    (host / "known").unlink()
    remembered({*GOOD, *strange})
    assert strange <= reported({*GOOD, *strange})


def test_what_cloud_init_started_at_the_first_boot_is_not_missed_once_it_is_disabled(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(expected, "CLOUD_INIT_OFF", str(tmp_path / "disabled"))
    link = "file\t/run/systemd/generator.early/multi-user.target.wants/cloud-init.target\tlink to /lib/systemd/system/cloud-init.target"
    gone = (link, "running\tcloud-init-hotplugd.socket\tlistening")
    judge = Expected({}, set(), set(gone))
    monkeypatch.setattr(os.path, "exists", lambda path: Path(path) != tmp_path / "disabled")
    assert not judge.dismisses(link), "cloud-init still runs at each boot, and somebody has stopped it"
    monkeypatch.setattr(os.path, "exists", lambda _path: True)
    assert all(map(judge.dismisses, gone))
    assert not judge.dismisses(link.replace("cloud-init.target\t", "ssh.target\t"))


INSTALLED = "# by the installer\n\nsource /etc/network/interfaces.d/*\nauto lo\niface lo inet loopback\nallow-hotplug eno1\niface eno1 inet static\n\taddress 192.0.2.5/24\n\tgateway 192.0.2.1\n\tdns-nameservers 192.0.2.1 2001:db8::1\n"


@pytest.mark.parametrize(
    ("path", "text", "explained"),
    [
        ("/etc/network/interfaces", INSTALLED, True),
        ("/etc/network/interfaces.d/50-cloud-init", INSTALLED, True),
        ("/etc/network/interfaces", "", False),
        ("/etc/network/interfaces", INSTALLED + "\tpost-up /root/x\n", False),
        ("/etc/network/interfaces", INSTALLED + "\taddress 192.0.2.5; /root/x\n", False),
        ("/etc/network/interfaces", INSTALLED + "\taddress $(/root/x)\n", False),
        ("/etc/network/interfaces", INSTALLED + "source /tmp/x\n", False),
        ("/etc/network/interfaces", INSTALLED + "address-script /tmp/x\n", False),
        ("/etc/network/interfaces", INSTALLED + "mapping eth0\n\tscript /root/x\n", False),
        ("/etc/network/interfaces", INSTALLED + "iface ppp0 inet ppp\n", False),
        ("/etc/network/if-up.d/x", "auto lo\n", False),
        ("/etc/systemd/network/10-cloud-init-eth0.network", "[Match]\nName=eth0\n", True),
        ("/etc/systemd/network/x.sh", "[Match]\n", False),
        ("/etc/systemd/networkd.conf", "[Network]\n", False),
        ("/etc/netplan/50-cloud-init.yaml", "network: {version: 2}\n", True),
    ],
)
def test_the_first_configuration_of_cards_is_explained_unless_it_starts_a_program(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, path: str, text: str, explained: bool
) -> None:
    (tmp_path / "file").write_text(text)
    monkeypatch.setattr(expected, "lines_in", lambda _path, read=lines_in: read(str(tmp_path / "file")))
    fact = f"file\t{path}\tabc"
    assert Expected({}, {fact}, set()).explains(fact) is explained
    assert not Expected({}, {fact}, {"version\tapt\t1"}).explains(fact), "a later one is reported"
    assert not Expected({}, {fact}, set()).explains(f"file\t{path}\tlink to /tmp/x")


@pytest.mark.parametrize(
    ("content", "explained"),
    [
        ("# by cloud-init\n\nadmin ALL=(ALL) NOPASSWD:ALL\n", True),
        ("admin ALL = (ALL:ALL) NOPASSWD: ALL\n", True),
        ("admin ALL=(ALL) NOPASSWD:ALL\nDefaults:admin !requiretty\n", True),
        ("admin ALL=(ALL) NOPASSWD:ALL\nDefaults:other !requiretty\n", False),
        ("admin ALL=(ALL) NOPASSWD:ALL\nDefaults:admin !requiretty, !syslog\n", False),
        ("admin ALL=(ALL) NOPASSWD:ALL\nother ALL=(ALL) NOPASSWD:ALL\n", False),
        ("admin ALL=(ALL) NOPASSWD:ALL\n#1001 ALL=(ALL) NOPASSWD:ALL\n", False),
        ("admin ALL=(ALL) NOPASSWD:ALL\n#includedir /tmp\n", False),
        ("admin,other ALL=(ALL) NOPASSWD:ALL\n", False),
        ("admin ALL=(ALL) NOPASSWD:ALL, !/bin/true\n", False),
        ("", False),
    ],
)
def test_sudo_of_the_offices_administrator_is_explained_and_nobody_elses(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str, explained: bool
) -> None:
    (tmp_path / "90-cloud-init-users").write_text(content)
    monkeypatch.setattr(
        expected, "_lines", lambda path, read=expected._lines: read(str(tmp_path / Path(path).name))
    )
    judge = Expected({"administrator": ["admin"]}, set(), set())
    assert judge.explains("file\t/etc/sudoers.d/90-cloud-init-users\tabc") is explained
    assert not judge.explains("file\t/etc/sudoers.d/90-cloud-init-users\tlink to /tmp/x")


@pytest.mark.parametrize(("more", "explained"), [("", True), ("ssh-ed25519 BBB evil\n", False)])
def test_keys_in_a_home_directory_are_explained_by_those_of_the_office(
    monkeypatch: pytest.MonkeyPatch, more: str, explained: bool
) -> None:
    held = {
        "/home/admin/.ssh/authorized_keys": {"ssh-ed25519 AAA me", *more.splitlines()},
        "/etc/ssh/authorized_keys.d/admin": {"ssh-ed25519 AAA me", "ssh-ed25519 CCC you"},
    }
    monkeypatch.setattr(expected, "_lines", lambda path: held.get(path, set()))
    judge = Expected({"administrator": ["admin"]}, set(), set())
    assert judge.explains("file\t/home/admin/.ssh/authorized_keys\tabc") is explained


def test_a_units_dynamic_account_comes_and_goes_unnoticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """But an entry in /etc/passwd is an account, whatever its number."""
    files = {"/etc/passwd": [("evil", "x", "")], "/etc/group": [], "/etc/shadow": [], "/etc/gshadow": []}
    people = [
        pwd.struct_passwd((name, "x", 65260, 65260, "", "/", "/usr/sbin/nologin")) for name in ("dyn", "evil")
    ]
    monkeypatch.setattr(accounts, "entries", files.__getitem__)
    monkeypatch.setattr(pwd, "getpwall", lambda: people)
    monkeypatch.setattr(grp, "getgrall", lambda: [grp.struct_group(("dyn", "x", 65260, []))])
    assert accounts.accounts() == ["account\tevil\t65260:65260:/:/usr/sbin/nologin:locked"]


@pytest.mark.usefixtures("host")
def test_an_account_that_nobody_accepted_may_be_deleted_by_hand() -> None:
    """Its missing line in /etc/shadow is not reported, unless the account is known."""
    account = {"account\tother\t1001:1001:/home/other:/bin/bash:password", "shadow\tother\tabc"}
    known_one = "shadow\tknot\tdef locked"
    remembered({*GOOD, *account, known_one})
    assert reported({*GOOD, *account, known_one}) == {next(fact for fact in account if fact[0] == "a")}
    assert reported({*GOOD, known_one}) == set()
    assert known_one in reported(set(GOOD))
    assert "shadow\tother\tabc" in reported({*GOOD, known_one, *(fact for fact in account if fact[0] == "a")})


@pytest.mark.parametrize(
    ("unit", "forgotten"),
    [
        ("stunnel@relay.service", True),  # an office with one MTA again
        ("stunnel@lmtp.service", False),
        ("getty@tty1.service", False),
    ],
)
def test_an_instance_that_no_role_declares_any_more_may_go_though_its_template_stays(
    unit: str, forgotten: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for template in ("stunnel@.service", "getty@.service"):
        (tmp_path / template).touch()
    monkeypatch.setattr(expected, "UNITS", (str(tmp_path),))
    judge = Expected({"units": ["stunnel@lmtp.service"]}, set(), set())
    assert judge.dismisses(f"running\t{unit}\t") is forgotten
    assert judge.dismisses(f"unit\t{unit}\tenabled for multi-user.target") is forgotten


def test_a_copy_of_another_file_than_the_known_one_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daemon's account replaces the file after root has checked it: by a link to a file of root, or by another file."""
    monkeypatch.setattr(known, "STATE", tmp_path / "state")
    secret, path = tmp_path / "secret", tmp_path / "declared"
    secret.write_text("root's")
    path.write_text("known")
    value, examined = reading.fingerprint(str(path)), reading.fingerprint
    fact = f"file\t{path}\t{value}"
    copy = tmp_path / "state/known-files" / str(path).lstrip("/")
    known.keep_copies({fact}, {"shadow\tx\t"})
    assert copy.read_text() == "known"
    copy.unlink()

    def exchanged(asked: str) -> str:
        if asked != str(path):
            return examined(asked)
        path.unlink()
        path.symlink_to(secret)
        return value

    monkeypatch.setattr(known, "fingerprint", exchanged)
    known.keep_copies({fact}, {"shadow\tx\t"})
    assert not copy.exists()
    assert not copy.is_symlink()


def test_a_package_has_another_change_log_with_each_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A higher version in dpkg's status would keep all upgrades away."""
    monkeypatch.setattr(packages, "DATABASE", str(tmp_path))
    (tmp_path / "info").mkdir()
    (tmp_path / "info/knot.md5sums").write_text("0  usr/share/doc/knot/changelog.gz\n")
    (tmp_path / "info/sse3-support.md5sums").write_text("0  usr/bin/x\n")

    def is_new(name: str, digest: str) -> bool:
        before = {f"version\t{name}\t3", f"control\t{name}\t3 aa"}
        now = {f"version\t{name}\t4", f"control\t{name}\t4 {digest}"}
        return Expected({}, now, before).explains(f"control\t{name}\t4 {digest}")

    assert is_new("knot", "bb")
    assert not is_new("knot", "aa")
    assert is_new("sse3-support", "aa"), "its change log is in another package"


@pytest.mark.usefixtures("host")
def test_what_root_keeps_for_himself_opens_nothing() -> None:
    remembered(set(GOOD))
    own = {f"special\t{path}\t700 root root" for path in ("/opt/x", "/root/x")}
    assert reported({*GOOD, *own}) == set()
    strange = {"special\t/opt/x\t4755 root root", "special\t/usr/bin/x\t700 root root"}
    assert reported({*GOOD, *strange}) == strange


def test_the_files_of_a_watched_directory_are_gone_when_a_link_has_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One apply removes the link and brings them back. Behind a link that a person has accepted they are seen."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/job").touch()
    (tmp_path / "cron").symlink_to("elsewhere")
    monkeypatch.setattr(files, "owned_by_packages", set)
    monkeypatch.setattr(files, "contract_of", lambda _: {})
    assert below([str(tmp_path / "cron")]) == [f"{tmp_path}/cron"]
    monkeypatch.setattr(files, "contract_of", lambda _: {"accepted": [f"file {tmp_path}/cron"]})
    assert below([str(tmp_path / "cron")]) == [f"{tmp_path}/cron", f"{tmp_path}/cron/job"]


def test_a_package_selected_for_removal_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    status = "Package: knot\nStatus: deinstall ok installed\nVersion: 3\n\nPackage: gone\nStatus: deinstall ok config-files\nVersion: 3\n"
    monkeypatch.setattr(packages, "content", lambda _: status)
    monkeypatch.setattr(packages, "lines_in", lambda _: [])
    assert packages.packages() == ["package\tknot\t", "version\tknot\t3", "hold\tknot\tdeinstall"]


def test_no_line_feed_at_the_end_of_a_name_is_passed_over() -> None:
    patterns = [
        pattern
        for module in pkgutil.iter_modules(observe.__path__, f"{observe.__name__}.")
        for pattern in vars(importlib.import_module(module.name)).values()
        if isinstance(pattern, re.Pattern) and not pattern.flags & re.MULTILINE
    ]
    assert places.PASSING in patterns
    assert [each.pattern for each in patterns if re.search(r"(?<!\\)\$", each.pattern)] == []
    assert not places.PASSING.search("/etc/systemd/system-generators/x.dpkg-old\n")
    assert not files.UNIT_LINK.match("/etc/systemd/system/x.service\n")
