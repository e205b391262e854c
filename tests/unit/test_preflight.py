"""Results of preflight: an obstacle is `bad`, and has a remedy."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Barrier
from typing import ClassVar

import pytest

from outpost.engine import preflight
from outpost.engine.preflight import Finding, judge
from outpost.errors import OutpostError
from outpost.office import Office, load
from outpost.target import INVENTORY, Target
from outpost.transport import remote
from outpost.transport.remote import failure
from outpost.transport.shell import Shell
from outpost.verification import live

NOW = 1_700_000_000.0


@pytest.fixture(scope="module")
def office() -> Office:
    return load(INVENTORY / "harbour")


def facts(office: Office, name: str, **changed: str) -> list[tuple[str, str]]:
    """The answer of a fresh machine, with something changed."""
    values = {"release": "debian 13", "clock": str(int(NOW)), "memory": "8192"} | changed
    addresses = [("address", str(address)) for address in office.host(name).all_addresses]
    return [*values.items(), *addresses, ("port", "tcp 22 sshd"), ("outbound", "mx.example.org")]


def seen(office: Office, name: str, answers: list[tuple[str, str]]) -> list[Finding]:
    return [
        found
        for found in judge(office, office.host(name), answers, now=(NOW, NOW + 30))
        if found.level != "good"
    ]


@pytest.mark.parametrize("name", ["ns1", "mta", "store", "webmail"])
def test_a_fresh_machine_is_ready(office: Office, name: str) -> None:
    assert seen(office, name, facts(office, name)) == []


@pytest.mark.parametrize(
    ("name", "changed", "more", "level", "words"),
    [
        ("ns1", {"release": "debian 12"}, [], "bad", "debian 12"),
        ("ns1", {"release": "ubuntu 24.04"}, [], "bad", "ubuntu"),
        ("ns1", {"shell": "/bin/tcsh"}, [], "bad", "/bin/tcsh"),
        ("ns1", {"shell": "/usr/bin/fish"}, [], "bad", "/usr/bin/fish"),
        ("ns1", {"clock": str(int(NOW) - 90)}, [], "note", "90 s behind"),
        ("ns1", {"clock": str(int(NOW) + 90)}, [], "note", "60 s ahead"),
        ("ns1", {"clock": str(int(NOW) - 86_400)}, [], "bad", "86400 s behind"),
        ("ns1", {"clock": str(int(NOW) + 86_430)}, [], "bad", "86400 s ahead"),
        ("mta", {"memory": "900"}, [], "note", "900 MiB"),
        ("mta", {}, [("disk", "5000 /"), ("disk", "2000 /var")], "note", "5000 MiB of disk"),
        (
            "mta",
            {},
            [("disk", "90000 /srv"), ("disk", "300 /var")],
            "bad",
            "300 MiB of disk are free on /var",
        ),
        ("ns1", {}, [("inodes", "600000 /"), ("inodes", "12 /var")], "bad", "12 inodes are free on /var"),
        ("ns1", {}, [("unfinished", "exim4-base")], "bad", "not completely installed: exim4-base"),
        ("store", {}, [("disk", "900 /")], "bad", "900 MiB of disk"),
        ("mta", {"container": "docker"}, [], "bad", "container (docker)"),
        (
            "mta",
            {},
            [("mounted", "/var rw,nosuid,noexec,relatime"), ("mounted", "/ rw,relatime")],
            "bad",
            "/var is mounted noexec",
        ),
        ("mta", {}, [("mounted", "/ ro,relatime,errors=remount-ro")], "bad", "/ is mounted read-only"),
        ("ns1", {"init": "init"}, [], "bad", "first process is init"),
        ("mta", {}, [("port", "tcp 25 opensmtpd")], "bad", "25/tcp by opensmtpd"),
        ("webmail", {}, [("port", "tcp 443 apache2")], "bad", "443/tcp by apache2"),
    ],
)
def test_what_is_in_the_way_is_named(
    office: Office, name: str, changed: dict[str, str], more: list[tuple[str, str]], level: str, words: str
) -> None:
    (found,) = seen(office, name, facts(office, name, **changed) + more)
    assert found.level == level
    assert words in found.seen
    assert found.remedy


def test_a_missing_address_and_a_blocked_port_25_are_named(office: Office) -> None:
    answers = [
        fact
        for fact in facts(office, "mta")
        if fact[0] != "outbound" and fact[1] != str(office.host("mta").all_addresses[0])
    ]
    missing, shut = seen(office, "mta", answers)
    assert (missing.level, shut.level) == ("bad", "note")
    assert str(office.host("mta").all_addresses[0]) in missing.seen


def test_ports_that_are_not_the_offices_do_not_matter(office: Office) -> None:
    assert seen(office, "ns1", [*facts(office, "ns1"), ("port", "tcp 631 cupsd")]) == []


@pytest.mark.parametrize(("host", "port"), [("ns1", "udp 53 systemd-resolve"), ("mta", "tcp 25 exim4")])
def test_a_program_that_an_apply_removes_is_not_in_the_way(office: Office, host: str, port: str) -> None:
    facts_of_bare = [fact for fact in facts(office, host) if fact[0] != "port"]
    assert not [
        finding for finding in seen(office, host, [*facts_of_bare, ("port", port)]) if "ports" in finding.seen
    ]


def test_a_packet_filter_of_the_machines_own_is_named_until_it_is_decided(office: Office) -> None:
    tables = [*facts(office, "ns1"), ("filter", "inet outpost"), ("filter", "inet own")]
    (found,) = seen(office, "ns1", tables)
    assert found.level == "bad"
    assert 'write ["packet filter table inet own"] into hosts.ns1.refused' in found.remedy
    ns1 = office.host("ns1").model_copy(update={"refused": ("packet filter table inet own",)})
    decided = office.model_copy(update={"hosts_by_name": office.hosts_by_name | {"ns1": ns1}})
    assert seen(decided, "ns1", tables) == []


ASKED = [
    ("asked", "yes"),
    ("ntp", "0.debian.pool.ntp.org"),
    ("resolver", "10.40.2.2 2"),
    ("resolver", "2001:db8:40:2::2 2"),
    ("archive", "http://deb.debian.org/debian/dists/trixie"),
    ("archive", "http://deb.debian.org/debian-security/dists/trixie-security"),
]


@pytest.mark.parametrize(
    ("absent", "level", "words"),
    [
        ("ntp", "note", "UDP 123"),
        ("archive", "bad", "through http://10.40.4.2:3142"),
        ("resolver", "bad", "10.40.2.2, 2001:db8:40:2::2 (UDP 53)"),
    ],
)
def test_whom_the_host_needs_and_does_not_reach_is_named(
    office: Office, absent: str, level: str, words: str
) -> None:
    assert seen(office, "store", facts(office, "store") + ASKED) == []
    (found,) = seen(office, "store", facts(office, "store") + [fact for fact in ASKED if fact[0] != absent])
    assert (found.level, words in found.seen) == (level, True), found


def test_the_archives_answer_is_printed(office: Office) -> None:
    url = "http://deb.debian.org/debian/dists/trixie"
    network = [fact for fact in ASKED if fact != ("archive", url)] + [("unfetched", f"{url} 403 Forbidden")]
    (found,) = seen(office, "store", facts(office, "store") + network)
    assert found.seen.endswith("through http://10.40.4.2:3142 (403 Forbidden)")
    (found,) = seen(office, "store", [*facts(office, "store"), *network[:-1], ("unfetched", f"{url} ")])
    assert found.seen.endswith("(no answer within 16 s)")
    unknown = ("unfetched", f"{url} Could not resolve 'deb.debian.org'")
    (found,) = seen(office, "store", [*facts(office, "store"), *network[:-1], unknown])
    assert found.remedy.startswith("run echo 'nameserver 10.40.2.2' > /etc/resolv.conf")


def asked(script: str, **environment: str) -> str:
    """What preflight's script prints on this machine, without questions to others."""
    head = (
        "try_25= resolvers= clocks= urls= proxy= wait=1; work=$(mktemp -d) && trap 'rm -rf \"$work\"' EXIT\n"
    )
    return subprocess.run(
        ["sh", "-s"],
        input=head + script,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout


@pytest.mark.skipif(not shutil.which("apt-config"), reason="the hosts are Debian, and this machine is not")
def test_a_package_proxy_that_only_the_hosts_know_is_named(office: Office, tmp_path: Path) -> None:
    """Debian's installer writes it into /etc/apt/apt.conf."""
    (tmp_path / "apt.conf").write_text('Acquire::http::Proxy "http://198.18.13.9:3142";\n')
    printed = asked(preflight._SCRIPT, APT_CONFIG=str(tmp_path / "apt.conf"))
    assert "\nproxy http://198.18.13.9:3142\n" in printed
    answer = [*facts(office, "store"), *ASKED, ("proxy", "http://198.18.13.9:3142")]
    bare = office.model_copy(update={"archive": office.archive.model_copy(update={"proxy": ""})})
    (found,) = seen(bare, "store", answer)
    assert found.level == "note"
    assert 'write proxy = "http://198.18.13.9:3142" below [archive]' in found.remedy
    assert seen(bare, "store", [*answer[:-1], ("proxy", 'http://x" below [ssh]')]) == []


def test_a_containers_memory_is_what_its_control_group_allows(tmp_path: Path) -> None:
    script = preflight._SCRIPT.replace("/sys/fs/cgroup/", f"{tmp_path}/")
    machine = re.findall(r"^memory (\d+)$", asked(script), re.MULTILINE)
    (tmp_path / "memory").mkdir()
    for name, allowed, memory in (
        ("memory/memory.limit_in_bytes", 9223372036854771712, machine),
        ("memory/memory.limit_in_bytes", 1073741824, ["1024"]),
        ("memory.max", 536870912, ["512"]),
        ("memory.max", "max", ["1024"]),
    ):
        (tmp_path / name).write_text(f"{allowed}\n")
        assert re.findall(r"^memory (\d+)$", asked(script), re.MULTILINE) == memory


@pytest.mark.parametrize("hours", [3, -3])
def test_the_remedy_for_a_wrong_clock_sets_the_right_time(office: Office, hours: int, tmp_path: Path) -> None:
    """The host's own `date` prints three hours too much or too little; its command in the remedy prints the time instead of setting it."""
    (tmp_path / "date").write_text(f"#!/bin/sh\necho $(($({shutil.which('date')} +%s) + {hours * 3600}))\n")
    (tmp_path / "date").chmod(0o755)
    began = time.time()
    printed = asked(preflight._SCRIPT, PATH=f"{tmp_path}:{os.environ['PATH']}")
    clock = re.findall(r"^clock (\d+)$", printed, re.MULTILINE)[0]
    found = judge(office, office.host("ns1"), facts(office, "ns1", clock=clock), now=(began, time.time()))
    (wrong,) = (each for each in found if each.level != "good")
    assert (wrong.level, "behind" in wrong.seen) == ("bad", hours < 0)
    command = re.search(r"run (date --utc --set '[^']*'), as root on the host", wrong.remedy)
    assert command is not None
    shown = ["sh", "-c", f"{command[1].replace('--set', '--date')} +%s"]
    right = int(subprocess.run(shown, capture_output=True, text=True, check=True).stdout)
    assert began - 60 < right <= time.time()


class _Busy(BaseHTTPRequestHandler):
    """Many hosts ask the package proxy at once: apt-cacher-ng answers 503 to one of them, and accepts the next request."""

    refused: ClassVar[set[str]] = set()

    def do_GET(self) -> None:
        first = self.path not in self.refused
        self.refused.add(self.path)
        self.send_response(404 if "absent" in self.path else 503 if first else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.mark.skipif(not Path("/usr/lib/apt/apt-helper").exists(), reason="asks as apt does: needs apt")
def test_a_program_of_no_package_is_named_before_the_first_apply(office: Office) -> None:
    programs = [*facts(office, "ns1"), ("program", "/opt/vendor/agent")]
    (found,) = seen(office, "ns1", programs)
    assert (found.level, "/opt/vendor/agent" in found.seen) == ("note", True)
    assert 'write ["/opt/vendor/agent"] into hosts.ns1.local' in found.remedy
    ns1 = office.host("ns1").model_copy(update={"local": ("/opt/vendor/",)})
    kept = office.model_copy(update={"hosts_by_name": office.hosts_by_name | {"ns1": ns1}})
    assert seen(kept, "ns1", programs) == []


@pytest.mark.skipif(not shutil.which("dpkg-query"), reason="the hosts are Debian, and this machine is not")
def test_the_program_is_known_by_its_file_and_not_by_its_name(tmp_path: Path) -> None:
    """A copy of sleep that calls itself `unbound`; the shell itself belongs to a package."""
    agent = tmp_path / "agent [1]"
    for program in (tmp_path / "agent", agent):
        shutil.copy("/usr/bin/sleep", program)
    running = [
        subprocess.Popen(["unbound", "60"], executable=program) for program in (tmp_path / "agent", agent)
    ]
    try:
        printed = asked(preflight._SCRIPT)
    finally:
        for process in running:
            process.kill()
            process.wait()
    named = [line for line in printed.splitlines() if line.startswith("program ")]
    assert f"program {tmp_path}/agent" in named
    assert not [line for line in named if line.endswith(("/bin/sh", "/dash", "/bash"))]


def test_a_proxy_that_refuses_once_is_asked_again() -> None:
    """apt itself gives up at the first 503."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Busy) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        head = f"wait=8 proxy=http://127.0.0.1:{proxy.server_port} urls='http://a.test/busy http://a.test/absent'"
        script = f"{head} try_25= resolvers= clocks=; work=$(mktemp -d) && trap 'rm -rf \"$work\"' EXIT\n{preflight._SCRIPT}"
        output = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout
        proxy.shutdown()
    assert "archive http://a.test/busy\n" in output
    assert re.search(r"^unfetched http://a\.test/absent 404 ", output, re.MULTILINE), output


def test_a_host_without_apt_is_named(office: Office) -> None:
    script = preflight._SCRIPT.replace("/usr/lib/apt/apt-helper", "/absent/apt-helper")
    head = "wait=8 proxy= urls=http://a.test/x try_25= resolvers= clocks=; work=$(mktemp -d) && trap 'rm -rf \"$work\"' EXIT"
    output = subprocess.run(
        ["sh", "-c", f"{head}\n{script}"], capture_output=True, text=True, check=True
    ).stdout
    (reason,) = re.findall(r"^unfetched http://a\.test/x (.*)$", output, re.MULTILINE)
    url = "http://deb.debian.org/debian/dists/trixie"
    network = [fact for fact in ASKED if fact != ("archive", url)] + [("unfetched", f"{url} {reason}")]
    (found,) = seen(office, "store", facts(office, "store") + network)
    assert found.remedy.startswith("install Debian's package apt")


def test_a_forwarder_without_signatures_is_named(office: Office) -> None:
    network = [("resolver", "10.40.2.2 1") if fact[1] == "10.40.2.2 2" else fact for fact in ASKED]
    (found,) = seen(office, "store", facts(office, "store") + network)
    assert (found.level, found.seen) == ("bad", "10.40.2.2 answers without DNSSEC signatures")


def test_a_machine_that_is_declared_a_container_is_named(office: Office) -> None:
    docker = office.model_copy(update={"platform": "docker"})
    (found,) = seen(docker, "ns1", facts(office, "ns1"))
    assert 'platform = "machine"' in found.remedy


def test_a_host_that_is_slow_to_answer_makes_no_other_ones_clock_wrong(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock of a host is compared with the moments at which that host was asked."""
    printed = "\n".join(f"{key} {value}" for key, value in facts(office, "ns1", clock="{now}"))
    clock = iter(float(NOW + step) for step in (0, 1, 40, 41))
    monkeypatch.setattr(time, "time", lambda: next(clock))
    monkeypatch.setattr(
        preflight, "run_script", lambda *_arguments, **_options: printed.replace("{now}", str(int(NOW)))
    )
    target = Target("harbour", INVENTORY / "harbour", INVENTORY / "harbour")
    answer = preflight._ask(target, office, office.host("ns1"), None)
    assert isinstance(answer, preflight.Answer)
    found = list(judge(office, office.host("ns1"), answer.facts, now=answer.asked))
    assert [item.level for item in found if "clock" in item.seen] == ["good"]


def test_a_login_shell_that_talks_is_named(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        preflight, "run_script", lambda *_arguments, **_options: "Welcome!\nrelease debian 13\n"
    )
    found = preflight._ask(HARBOUR, office, office.host("ns1"), None)
    assert isinstance(found, Finding)
    assert (found.level, "before each answer: Welcome!" in found.seen) == ("bad", True)
    assert "/.bashrc" in found.remedy


@pytest.mark.parametrize(
    ("errors", "means", "remedy"),
    [
        ("@@@@\n@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.", "differs from known_hosts", "ssh-keygen -lf"),
        ("No ED25519 host key is known for 192.0.2.3 and you have requested strict checking.\nHost key verification failed.", "is not in known_hosts", "ssh-keyscan"),
        ("admin@192.0.2.3: Permission denied (publickey).", "refuses your SSH keys", "ssh-copy-id"),
        ("sudo: a password is required", "sudo asks for a password", "NOPASSWD: ALL"),
        ("sudo: sorry, you must have a tty to run sudo", "wants a terminal", "!requiretty"),
        ("Unmatched '''.", "is csh", "usermod --shell /bin/bash"),
        ("WARNING: Your password has expired.\nPassword change required but no TTY available.", "has expired", "chage --maxdays"),
        ("Your account has expired; please contact your system administrator.\nConnection closed by 192.0.2.3 port 22", "account has expired", "chage --expiredate"),
        ("Received disconnect from 192.0.2.3 port 22:2: Too many authentication failures\nDisconnected from 192.0.2.3 port 22", "agent offers", "ssh-add -D"),
        ("kex_exchange_identification: Connection closed by remote host\nConnection closed by 192.0.2.3 port 22", "before anybody logs in", "journalctl -u ssh"),
        ("ssh: connect to host 192.0.2.3 port 22: Connection timed out", "does not answer", "firewall"),
        ("ssh: connect to host 192.0.2.3 port 22: No route to host", "no machine has its address", "office.toml"),
        ("mux_client_request_session: read from master failed: Broken pipe\nFailed to connect to new control master", "takes longer than 30 s", "journalctl -u ssh"),
        ("Connection to 192.0.2.3 port 22 timed out", "takes longer than 30 s", "journalctl -u ssh"),
        ("ssh: connect to host 192.0.2.3 port 22: Connection refused", "nothing listens for SSH", "systemctl start ssh"),
    ],
)  # fmt: skip
def test_a_host_that_cannot_be_asked_says_why(errors: str, means: str, remedy: str) -> None:
    found = failure("ns1", errors)
    assert found is not None
    assert means in found.message
    assert remedy in found.remedy
    assert failure("ns1", "postqueue: fatal: no such queue") is None
    assert failure("ns1", "[Errno 13] Permission denied: '/srv/mail/.snapshot'") is None


HARBOUR = Target("harbour", INVENTORY / "harbour", INVENTORY / "harbour")


@pytest.mark.parametrize(
    ("errors", "remedy"),
    [
        ("admin@192.0.2.3: Permission denied (publickey).", "ssh-copy-id chief@10.40.4.11;"),
        ("sudo: a password is required", "echo 'chief ALL=(ALL:ALL) NOPASSWD: ALL'"),
        ("Host key verification failed.", "ssh-keyscan -t ed25519 10.40.4.11,"),
    ],
)
def test_the_remedy_for_a_host_has_its_account_and_address(
    office: Office, monkeypatch: pytest.MonkeyPatch, errors: str, remedy: str
) -> None:
    command = ["sh", "-c", f"cat >/dev/null; echo {shlex.quote(errors)} >&2; exit 255"]
    monkeypatch.setattr(remote, "shell_command", lambda *_: command)
    chief = office.model_copy(update={"ssh": office.ssh.model_copy(update={"user": "chief"})})
    with pytest.raises(OutpostError) as found:
        remote.run_script(HARBOUR, chief, chief.host("ns1"), "true\n")
    assert remedy in found.value.remedy


def test_hosts_that_do_not_answer_are_waited_for_side_by_side(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = Barrier(
        len(office.hosts), timeout=30
    )  # not reached if the hosts are asked one after the other

    def silent(*_arguments: object, **options: float) -> str:
        together.wait()
        assert options["patience"] < 60
        raise OutpostError("it does not answer", "switch it on")

    monkeypatch.setattr(remote, "run_script", silent)
    assert list(remote.unreached(HARBOUR, office, office.hosts_by_name)) == list(office.hosts_by_name)


def test_verification_waits_for_no_check_of_a_host_that_does_not_answer(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = {
        name: OutpostError(f"{name}: it does not answer", "switch it on") for name in office.hosts_by_name
    }
    monkeypatch.setattr(live, "unreached", lambda *_: gone)
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("checks were started"))
    verdict = live.verify(HARBOUR)
    assert not verdict.proven
    assert [(result.host, result.remedy) for result in verdict.results] == [
        (name, "switch it on") for name in office.hosts_by_name
    ]


def test_a_check_of_no_chosen_host_is_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checks = tmp_path / "test_checks.py"
    checks.write_text(
        "import pytest\n"
        "@pytest.mark.parametrize('me', [])\ndef test_of_another(me): assert 1\n"
        "def test_good(): assert 1\ndef test_skipped(): pytest.skip('no peer')\n"
    )
    monkeypatch.setattr(live, "unreached", lambda *_: {})
    monkeypatch.setattr(live, "SIDE_BY_SIDE", ())  # one process starts faster than five
    verdict = live.verify(HARBOUR, files=(str(checks), "-p", "tests.conftest"))
    assert sorted(result.outcome for result in verdict.results) == ["passed", "skipped"]


@pytest.mark.parametrize("dead", [True, False])
def test_a_host_that_dies_while_it_is_verified_is_one_failure(
    dead: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Earlier results count. If the host answers again, its failures stay failures."""
    checks = tmp_path / "test_checks.py"
    checks.write_text(
        "import pytest\nfrom outpost.errors import OutpostError\n"
        "class Me: name = 'ns1'\n"
        "me = pytest.mark.parametrize('me', [Me()])\n"
        "@me\n@pytest.mark.parametrize('n', range(3))\n"
        "def test_silent(me, n): raise OutpostError('the shell on the host ended', 'check that the host is up')\n"
        "@me\ndef test_wrong(me): assert 0\n"
        "@me\ndef test_good(me): assert 1\n"
    )
    later = {"ns1": OutpostError("ns1: it does not answer", "switch it on")} if dead else {}
    answers = iter([{}, later])
    monkeypatch.setattr(live, "unreached", lambda *_: next(answers))
    verdict = live.verify(HARBOUR, files=(str(checks), "-p", "tests.conftest"))
    failed = verdict.with_outcome("failed")
    assert ["ns1: it does not answer" in result.seen for result in failed].count(True) == dead
    assert len(failed) == (2 if dead else 4)
    assert len(verdict.with_outcome("passed")) == 1


def test_a_shell_that_answered_is_not_waited_for_again_and_again(tmp_path: Path) -> None:
    """A host dies during the run: the first check after that waits for a new connection, the others do not."""
    begun = tmp_path / "begun"
    once = 'echo x >>"$0"; [ "$(wc -l <"$0")" = 1 ] || { echo "Connection timed out" >&2; exit 255; }; shift; exec sh -c "$1"'
    shell = Shell(["sh", "-c", once, str(begun), "-s"])
    assert shell.run("echo here")[1] == b"here\n"
    for _ in range(4):
        with pytest.raises(OutpostError):
            shell.run("kill -9 $PPID")
    assert begun.read_text() == "x\nx\n"


def test_a_shell_that_never_began_is_not_waited_for_again(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    refused = "echo x >>$0; echo 'ssh: connect to host x port 22: Connection timed out' >&2"
    shell = Shell(["sh", "-c", refused, str(begun), "-s"])
    for _ in range(2):
        with pytest.raises(OutpostError, match="does not answer"):
            shell.run("true")
    assert begun.read_text() == "x\n"
