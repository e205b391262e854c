"""Which failed operation ends a host's run, and which does not."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Generator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pyinfra.context import ctx_host

from outpost.cli.progress import checks_progress
from outpost.converge import drift, failures, files, observation, operations, shapes
from outpost.converge.declaration import Declaration
from outpost.converge.files import shell
from outpost.converge.operations import HELD
from outpost.engine.follower import Follower
from outpost.engine.run import Outcome, _last, _outcome
from outpost.errors import OutpostError
from outpost.templates import TemplateMistakeError
from outpost.transport.connector import REFUSED
from outpost.transport.remote import UNFINISHED
from outpost.verification.live import Result


class Host:
    """The parts of pyinfra that a failure uses."""

    def __init__(self, *, reached: bool) -> None:
        self.reached = reached
        self.data = {"_sudo": True}

    def run_shell_command(self, _command: str, _sudo: bool) -> tuple[bool, None]:
        return self.reached, None


@pytest.mark.parametrize(
    ("reached", "vital", "stderr", "ends"),
    [
        (True, False, "bad permissions", False),
        (False, False, "bad permissions", True),
        (True, True, "no packages", True),
        (True, False, HELD, True),
    ],
)
def test_a_failed_operation_ends_a_run_only_where_nothing_may_follow(
    monkeypatch: pytest.MonkeyPatch, reached: bool, vital: bool, stderr: str, ends: bool
) -> None:
    host: Any = Host(reached=reached)
    with ctx_host.use(host):
        observation.begin(Declaration(()))
        observation.run().vital = vital
    monkeypatch.setattr(failures, "_failed", lambda *_: SimpleNamespace(stderr=stderr))
    assert failures._ends(SimpleNamespace(), host, "x") is ends  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "printed", ["Timeout, server 192.0.2.3 not responding.", "Connection to 192.0.2.3 port 22 timed out"]
)
def test_a_host_that_died_is_not_asked_again_while_the_others_wait(
    monkeypatch: pytest.MonkeyPatch, printed: str
) -> None:
    host: Any = Host(reached=True)
    with ctx_host.use(host):
        observation.begin(Declaration(()))
    monkeypatch.setattr(host, "run_shell_command", lambda *_, **__: pytest.fail("it is asked again"))
    monkeypatch.setattr(failures, "_failed", lambda *_: SimpleNamespace(stderr=printed))
    assert failures._ends(SimpleNamespace(), host, "x")  # type: ignore[arg-type]


def test_after_an_operation_that_succeeded_no_later_failure_counts_as_vital(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    host: Any = Host(reached=True)
    with ctx_host.use(host):
        observation.begin(Declaration(()))
        observation.run().vital = True
    answers = iter((None, SimpleNamespace(stderr="")))
    monkeypatch.setattr(failures, "_failed", lambda *_: next(answers))
    assert [failures._ends(SimpleNamespace(), host, "x") for _ in range(2)] == [False, False]  # type: ignore[arg-type]


def test_everything_that_was_not_done_is_in_the_reason_of_a_failed_host() -> None:
    follower = Follower()
    for line in (
        "--> Starting operation: base | sshd",
        "    [ns2] /etc/ssh/x line 1: Bad configuration option: nonsense",
        "    [ns2] Error (ignored): executed 0 commands",
        "--> Starting operation: base | chrony",
        "    [ns2] Success",
        "--> Starting operation: known state",
        "    [ns2] not done: base | sshd: terminating. Remedy: correct it",
        "    [ns2] not repaired: file /etc/x: edited by hand. Remedy: do it",
        "    [ns2] Error: executed 0 commands",
    ):
        follower.feed(line)
    host = follower.hosts["ns2"]
    assert host.troubled == "base | sshd"
    assert host.failed == "known state"
    assert _last(host).splitlines() == [
        "not done: base | sshd: terminating. Remedy: correct it",
        "not repaired: file /etc/x: edited by hand. Remedy: do it",
    ]


# Answers that nobody expected -------------------------------------------------------------------------------------


def test_an_answer_that_nobody_expected_ends_the_run_of_its_host_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    host: Any = Host(reached=True)
    host.print_prefix = "[mta] "
    ended: list[Any] = []
    monkeypatch.setattr(failures, "state", SimpleNamespace(fail_hosts=ended.extend))
    result: dict[str, Any] = {}
    with ctx_host.use(host), failures.contained():
        result["unfinished"]
    assert ended == [host]


@pytest.mark.parametrize("mistake", [OutpostError("no"), TemplateMistakeError("x.j2:1", "no")])
def test_a_mistake_of_the_office_or_its_templates_ends_all(mistake: Exception) -> None:
    with pytest.raises(type(mistake)), failures.contained():
        raise mistake


@pytest.mark.parametrize("executing", [False, True])
def test_an_operation_that_cannot_read_an_answer_fails_by_itself(
    monkeypatch: pytest.MonkeyPatch, executing: bool
) -> None:
    monkeypatch.setattr(observation, "pyinfra_operation", lambda: lambda function: function)
    monkeypatch.setattr(observation, "state", SimpleNamespace(is_executing=executing))

    @observation.operation
    def broken() -> Generator[str, None, None]:
        yield "first"
        raise IndexError("it's \x1b[2K")

    steps = broken()
    assert next(steps) == "first"
    if not executing:
        with pytest.raises(IndexError):
            next(steps)
        return
    done = subprocess.run(["sh", "-c", str(next(steps))], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (
        1,
        "it gave an answer that cannot be read (IndexError: it's \\x1b[2K)\n",
    )
    assert next(steps, None) is None


@pytest.mark.parametrize(
    ("records", "vital"), [({}, True), ({"apt": ()}, True), ({"apt": (), "sysctl": ()}, False)]
)
def test_a_first_apply_ends_where_its_packages_cannot_be_installed(
    monkeypatch: pytest.MonkeyPatch, records: dict[str, tuple[str, ...]], vital: bool
) -> None:
    """Otherwise every later operation fails for want of a program. Before them only apt's own settings are applied."""
    packages = shapes.packages("knot")
    own = observation.Run(Declaration((("dns", (packages,)),)), ())
    monkeypatch.setattr(operations, "run", lambda: own)
    monkeypatch.setattr(operations, "observe", lambda: SimpleNamespace(records=records))
    monkeypatch.setattr(operations, "answer_to", lambda _question: [])
    monkeypatch.setattr(operations, "void", lambda: None)
    monkeypatch.setattr(operations, "differs", lambda *_: None)
    assert len(list(operations.install._inner(packages))) == 1  # type: ignore[attr-defined]
    assert own.vital is vital


def test_what_failed_is_named_by_its_reason_and_its_own_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """apt prints advice below the reason; what nobody declared is the remedy only where the message names it."""
    lock = (
        "dpkg: error: dpkg frontend lock was locked by another process with pid 7",
        "Note: do not remove it.",
    )
    sshd = ("/etc/ssh/sshd_config.d/10-corp.conf line 1: Bad option", "terminating")
    meta = {
        name: SimpleNamespace(stdout_lines=(), stderr_lines=lines)
        for name, lines in (("a", lock), ("b", sshd), ("c", DPKG))
    }
    full = "cat: write error: No space left on device"
    host = SimpleNamespace(connector_data={REFUSED: {"d": full}})
    meta["d"] = SimpleNamespace(
        stdout_lines=[], stderr_lines=[]
    )  # an upload: pyinfra keeps nothing of its error
    monkeypatch.setattr(failures, "ctx_host", SimpleNamespace(get=lambda: host))
    monkeypatch.setattr(
        failures,
        "state",
        SimpleNamespace(
            get_op_order=lambda: list(meta), get_op_meta=lambda key: SimpleNamespace(names={key})
        ),
    )
    monkeypatch.setattr(failures, "_failed", lambda _state, _host, key: meta[key])
    waiting = ("file\t/etc/ssh/sshd_config.d/10-corp.conf\tx", "account\tchef\tx", "file\t/etc/doas.conf\tx")
    monkeypatch.setattr(drift, "_waiting", lambda: [SimpleNamespace(facts={fact}) for fact in waiting])
    monkeypatch.setattr(drift, "_me", lambda: SimpleNamespace(name="ns1"))
    assert [drift._undone(*each) for each in failures.failures()] == [
        f"not done: a: {lock[0]}. Remedy: correct on ns1 what the message names",
        "not done: b: terminating. Remedy: put `file /etc/ssh/sshd_config.d/10-corp.conf` into hosts.ns1.refused or hosts.ns1.accepted",
        f"not done: c: {DPKG[0]}. Remedy: {UNFINISHED}",
        f"not done: d: {full}. Remedy: run df -h and df -i, as root on the host; delete what is not needed, or enlarge the full file system; "
        "then run the same command again",
    ]


BUSY = "E: Could not get lock /var/lib/apt/lists/lock. It is held by process 1 (apt-get)"
LOCKED = "dpkg: error: dpkg frontend lock was locked by another process with pid 7"


@pytest.mark.parametrize(
    ("program", "printed", "refused", "attempts", "code"),
    [
        ("apt-get", "503", 0, 1, 0),
        ("apt-get", "503", 3, 4, 0),
        ("apt-get", "503", 9, 4, 1),
        ("apt-get", BUSY, 20, 21, 0),
        ("apt-get", BUSY, 200, 100, 1),
        ("dpkg", LOCKED, 20, 21, 0),
        ("dpkg", "error processing package", 9, 4, 1),
    ],
)
def test_package_programs_that_are_refused_are_tried_again_and_not_for_ever(
    tmp_path: Path, program: str, printed: str, refused: int, attempts: int, code: int
) -> None:
    """A proxy answers 503, or another program holds a lock for minutes."""
    fails = f"echo >> tried; [ $(wc -l < tried) -gt {refused} ] || {{ echo '{printed}' >&2; exit 100; }}"
    for name in ("apt-get", "dpkg", "sleep"):
        (tmp_path / name).write_text(f"#!/bin/sh\n{fails if name == program else ''}\n", encoding="ascii")
        (tmp_path / name).chmod(0o755)
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    script = shell("packages", missing=[], preseed=[], UPGRADES_WAIT="", PACKAGES="/", APT="true")
    found = script[script.index("waited()") :]
    done = subprocess.run(
        ["sh", "-ec", f"{found}\necho on"],
        cwd=tmp_path,
        env=path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (bool(done.returncode), done.stdout) == (bool(code), "" if code else "on\n")
    assert not code or printed in done.stderr
    assert len((tmp_path / "tried").read_text().splitlines()) == attempts


PACKAGES = (
    "    [ns1] Connected",
    "--> Beginning operation run...",
    "--> Starting operation: base | packages",
    "    [ns1] E: Unable to locate package knot",
    "    [ns1] Error (ignored): executed 0 commands",
)


def test_a_host_that_ends_the_run_is_named_with_its_operation_and_its_words() -> None:
    """pyinfra itself only says that no host is left."""
    follower = Follower()
    for line in (*PACKAGES, "--> pyinfra error in /x/failures.py line 55: No hosts remaining!"):
        follower.feed(line)
    with pytest.raises(OutpostError) as caught:
        _outcome(b"", follower, 1, 1.0, "read the log")
    assert caught.value.message == "ns1: base | packages: E: Unable to locate package knot"


DPKG = (
    "dpkg: error processing package corp-agent (--configure):",
    "installed corp-agent package post-installation script subprocess returned error exit status 1",
    "Errors were encountered while processing:",
    "corp-agent",
)
FULL = (
    "dpkg: error processing archive /var/cache/apt/archives/knot_3.deb (--unpack):",
    "cannot copy extracted data for './usr/sbin/knotd' to '/usr/sbin/knotd.dpkg-new': failed to write (No space left on device)",
    "Errors were encountered while processing:",
    "/var/cache/apt/archives/knot_3.deb",
    "E: Sub-process /usr/bin/dpkg returned an error code (1)",
)


@pytest.mark.parametrize(
    ("printed", "message"),
    [
        (
            DPKG,
            "ns1: base | packages: dpkg: error processing package corp-agent (--configure). Remedy: run dpkg --audit",
        ),
        (FULL, "ns1: base | packages: its disk is full. Remedy: run df -h and df -i, as root on the host"),
    ],
)
def test_why_packages_were_not_installed_is_printed_and_not_what_follows_from_it(
    printed: tuple[str, ...], message: str
) -> None:
    follower = Follower()
    lines = [line for line in PACKAGES if "E: " not in line]
    lines[-1:-1] = [f"    [ns1] {line}" for line in printed]
    for line in (*lines, "--> pyinfra error in /x/failures.py line 55: No hosts remaining!"):
        follower.feed(line)
    with pytest.raises(OutpostError) as caught:
        _outcome(b"", follower, 1, 1.0, "read the log")
    assert str(caught.value).startswith(message)


def test_hosts_that_failed_in_two_ways_have_one_line_of_remedies() -> None:
    dead = "it does not answer. Remedy: switch it on"
    failed = {"ns1": "it has no sudo. Remedy: install sudo", "mta": dead, "store": dead}
    with pytest.raises(OutpostError) as caught:
        Outcome(tuple(failed), (), failed, (), 1.0).expect_success("run the same command again")
    assert caught.value.message == "the apply failed on mta, store: it does not answer; ns1: it has no sudo"
    assert (
        caught.value.remedy == "mta, store: switch it on; ns1: install sudo; then run the same command again"
    )
    follower = Follower()
    for name, why in failed.items():
        follower.feed("--> Connecting to hosts...")
        follower.feed(f"    [{name}] {why}")
    with pytest.raises(OutpostError) as caught:
        _outcome(b"", follower, 1, 1.0, "read the log")
    assert caught.value.remedy == "mta, store: switch it on; ns1: install sudo"
    with pytest.raises(OutpostError, match=r"on ns1: no. Remedy: correct the cause; then run it again"):
        Outcome(("ns1",), (), {"ns1": "no"}, (), 1.0).expect_success("run it again")


def test_a_host_whose_run_ended_beside_others_is_named_in_the_same_words() -> None:
    follower = Follower()
    for line in (
        "    [ns2] Connected",
        *PACKAGES,
        "    [ns2] Success",
        "--> Starting operation: base | clock",
        "    [ns2] Success",
    ):
        follower.feed(line)
    result = b'{"results": {"operations": [], "failed_hosts": ["ns1"]}}'
    failed = _outcome(result, follower, 1, 1.0, "read the log").failed
    assert failed == {"ns1": "base | packages: E: Unable to locate package knot"}


@pytest.mark.parametrize(
    "printed",
    ["Connection to 10.79.4.31 port 22 timed out\\x0d", "Timeout, server 10.79.4.31 not responding."],
)
def test_a_host_that_dies_in_the_middle_has_a_remedy(printed: str) -> None:
    follower = Follower()
    for line in (
        "    [ns1] Connected",
        "--> Starting operation: base | sysctl",
        f"    [ns1] {printed}",
        "    [ns1] Error (ignored): executed 0/1 commands",
    ):
        follower.feed(line)
    result = b'{"results": {"operations": [], "failed_hosts": ["ns1"]}}'
    (why,) = _outcome(result, follower, 1, 1.0, "read the log").failed.values()
    assert why.startswith("base | sysctl: it does not answer any more")
    assert "Remedy: check its console" in why
    assert "x0d" not in why


@pytest.mark.parametrize(
    ("output", "code", "how"),
    [(b"Exiting upon user request!\n", 0, "was interrupted"), (b"", 3, "stopped with exit code 3")],
)
def test_a_stop_without_a_reason_says_during_which_operation(output: bytes, code: int, how: str) -> None:
    """`Success` belongs to the operation before, and is not the reason."""
    follower = Follower()
    for line in (
        "    [ns1] Connected",
        "    [ns2] Connected",
        "--> Starting operation: base | packages",
        "    [ns1] Success",
        "    [ns2] Success",
        "--> Starting operation: base | /etc/knot/knot.conf",
        "    [ns2] reading zone",
        "    [ns1] Success",
    ):
        follower.feed(line)
    with pytest.raises(OutpostError) as caught:
        _outcome(output, follower, code, 1.0, "read the log")
    expected = 'ns2 had not finished it, and printed last: "reading zone"'
    assert (
        caught.value.message == f"pyinfra {how} during the operation base | /etc/knot/knot.conf; {expected}"
    )


def test_the_progress_of_verify_names_a_dead_host_once(capsys: pytest.CaptureFixture[str]) -> None:
    """Each of its checks fails for the same reason; other hosts' failures are named as before."""
    dead = "outpost.errors.OutpostError: ns1: it does not answer. Remedy: switch it on"
    with checks_progress() as note:
        for number, (host, seen) in enumerate((*[("ns1", dead)] * 3, ("mta", "assert 0")), 1):
            note(number, 5, Result(str(number), host, "a promise", (), "failed", seen, 0.1))
    lines = [line for line in capsys.readouterr().err.splitlines() if "FAILED" in line]
    assert [line.partition("FAILED ")[2].split()[0] for line in lines] == ["ns1", "mta"], lines
    assert "it does not answer" in lines[0]


APT_STUB = """#!/bin/sh
echo "$*" >> {place}/asked
case $* in
  *" update") ;;
  *) [ "$(grep -c "$4" {place}/asked)" -gt {refusals} ] || {{ echo 'E: {reason}' >&2; exit 100; }} ;;
esac
"""
"""apt-get: it refuses to upgrade and to install a number of times; its fourth word differs between the two."""


@pytest.mark.parametrize(
    ("reason", "refusals", "installed"),
    [
        ("The package cache file is corrupted", 1, True),
        ("The package cache file is corrupted", 9, False),
        ("Sub-process /usr/bin/dpkg returned an error code (1)", 1, False),
    ],
)
def test_an_apt_of_somebody_else_at_the_same_moment_fails_no_apply(
    reason: str, refusals: int, installed: bool, tmp_path: Path
) -> None:
    """apt reads its cache while another apt writes it. Another reason is printed at once, before what follows from it hides it."""
    for name, text in (
        ("apt-get", APT_STUB.format(place=tmp_path, refusals=refusals, reason=reason)),
        ("dpkg", "#!/bin/sh\n"),
        ("sleep", "#!/bin/sh\n"),
    ):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    script = shell("packages", missing=["knot"], preseed=[], UPGRADES_WAIT=":", APT="apt-get -qq -y --none")
    script = script.replace("/usr/sbin/policy-rc.d", f"{tmp_path}/policy").replace(
        files.PACKAGES, f"{tmp_path}/packages"
    )
    done = subprocess.run(
        ["sh", "-c", script], env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}, capture_output=True, text=True, check=False
    )  # fmt: skip
    assert (done.returncode == 0) is installed, done.stderr
    asked = (tmp_path / "asked").read_text()
    assert ("install knot" in asked) is installed
    assert installed or reason in done.stderr
