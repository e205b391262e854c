"""However a command ends, it prints one line with what is left and what to do, never a traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from rich.console import Console

from outpost import __main__ as entry
from outpost import target
from outpost.cli import COMMANDS, app, apply, console, office, verify
from outpost.cli.console import Table
from outpost.cli.options import At
from outpost.engine import run
from outpost.engine.follower import Follower
from outpost.errors import OutpostError
from outpost.office import Host
from outpost.target import INVENTORY, Target
from outpost.templates import TemplateMistakeError, environment, render
from outpost.transport import answers
from outpost.verification import live
from outpost.verification.live import Result
from outpost_lab.attack.weakness import RESTORES_LEFT

HARBOUR = Target("harbour", INVENTORY / "harbour", INVENTORY / "harbour")


@pytest.fixture(autouse=True)
def begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """The state of a new process: an apply of another test may have ended before it changed anything."""
    monkeypatch.setattr(console, "unchanged", False)


@pytest.mark.parametrize("error", [KeyboardInterrupt, BrokenPipeError])
@pytest.mark.parametrize(
    ("command", "left"),
    [
        (["apply", "lab", "-y"], "./outpost plan harbour shows what is left, and apply goes on"),
        (["--offices", "/srv/offices", "apply", "harbour"], "apply goes on where it stopped"),
        (["user", "add", "harbour", "erin"], "office.toml may be changed"),
        (["user", "list", "harbour"], "nothing was changed"),
        (["machines", "up", "harbour"], "the server may be changed in part"),
        (["lab", "info"], "nothing was changed"),
        (["lab", "up"], "or ./outpost lab down to remove it"),
        (["check", "lab"], "nothing was changed"),
        (["verify", "lab", "--sabotage"], "each host where a sabotage was undone: ./outpost plan harbour"),
        ([], "nothing was changed"),
    ],
)
def test_what_is_broken_off_says_what_is_left(
    error: type[BaseException],
    command: list[str],
    left: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def stopped(_words: list[str]) -> int:
        raise error

    monkeypatch.setattr(app, "run", stopped)
    monkeypatch.setattr(entry, "silent", lambda: None)
    monkeypatch.setattr(target, "_found", [HARBOUR])
    assert entry.main(command) == (130 if error is KeyboardInterrupt else 141)
    assert left in capsys.readouterr().err


def test_what_is_interrupted_before_it_knows_its_office_has_changed_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(target, "_found", [])
    assert entry.broken_off(["apply", "harbour"], "interrupted", 130) == 130
    assert capsys.readouterr().err == "\noutpost: interrupted; nothing was changed.\n"


@pytest.mark.parametrize("answer", ["n", "", "\N{REPLACEMENT CHARACTER}", KeyboardInterrupt, EOFError])
def test_a_person_who_does_not_agree_reads_that_nothing_was_changed(
    answer: str | type[BaseException], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def typed(*_: object, **__: object) -> str:
        if isinstance(answer, str):
            return answer
        raise answer

    monkeypatch.setattr(target, "_found", [HARBOUR])
    monkeypatch.setattr(console.err, "input", typed)
    monkeypatch.setattr(app, "run", lambda _words: int(console.agreed("Apply?")))
    if answer is EOFError:
        with pytest.raises(OutpostError, match=r"nothing was changed. Remedy: agree with --yes"):
            console.agreed("Apply?")
    else:
        assert entry.main(["apply", "harbour"]) == (130 if answer is KeyboardInterrupt else 0)
        assert "nothing was changed" in capsys.readouterr().err


def test_a_later_question_says_what_stays_and_not_that_nothing_was_changed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def typed(*_: object, **__: object) -> str:
        assert not console.unchanged, "an interrupt now is none before the beginning"
        return "n"

    monkeypatch.setattr(console.err, "input", typed)
    assert not console.agreed("Restart ns2 now?", "ns2 stays on")
    assert capsys.readouterr().err == "ns2 stays on\n"


def test_interrupts_that_the_launcher_ignored_are_accepted_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_words: list[str]) -> int:
        signal.raise_signal(signal.SIGINT)
        return 0

    monkeypatch.setattr(app, "run", interrupted)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert entry.main(["check", "harbour"]) == 0, "by nohup"
        monkeypatch.setenv("OUTPOST_INTERRUPTS", "accept")
        assert entry.main(["check", "harbour"]) == 130
        assert "OUTPOST_INTERRUPTS" not in os.environ, "for no other program"
    finally:
        signal.signal(signal.SIGINT, before)
    assert capsys.readouterr().err == "\noutpost: interrupted; nothing was changed.\n"


def test_an_interrupt_while_modules_are_loaded_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An interrupted import leaves half a module, and the next import of it fails."""
    monkeypatch.setitem(sys.modules, "outpost.cli", None)
    monkeypatch.setattr(target, "_found", [])
    assert entry.broken_off(["apply", "harbour"], "interrupted", 130) == 130
    assert capsys.readouterr().err == "\noutpost: interrupted; nothing was changed.\n"


@pytest.mark.parametrize(
    "words", [["trace", "harbour", "\udcff@x"], ["new", "/tmp/none/x", "--domain", "\udcff"]]
)
def test_an_argument_in_another_encoding_is_no_bug(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert entry.main(words) == 1
    assert "is not in UTF-8 Remedy: run locale" in capsys.readouterr().err.replace(".", "")


def test_an_interrupt_waits_for_no_host() -> None:
    answered = threading.Event()

    def asked() -> None:
        with answers.Pool(1) as pool:
            pool.submit(answered.wait, 60)
            raise KeyboardInterrupt

    waiting = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        asked()
    assert threading.active_count() > waiting, "it still waits, and nobody for it"
    answered.set()


def test_a_remedy_names_the_office_so_that_it_can_be_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    site = tmp_path / "north site"
    site.mkdir()
    text = (HARBOUR.data / "office.toml").read_text()
    assert 'certificates = "acme"' in text
    (site / "office.toml").write_text(text.replace('certificates = "acme"', 'certificates = "provided"'))
    assert entry.main(["check", str(site)]) == 1
    assert f"./outpost secrets csr '{site}' mta" in capsys.readouterr().err

    def interrupted(_words: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(app, "run", interrupted)
    entry.main(["apply", str(site)])
    assert f"./outpost plan '{site}' shows what is left" in capsys.readouterr().err


def test_a_verification_that_is_interrupted_has_changed_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(live, "verify", interrupted)
    assert entry.main(["verify", "harbour"]) == 130
    assert capsys.readouterr().err.endswith("interrupted; nothing was changed.\n")


def test_an_interrupted_sabotage_is_undone_and_its_hosts_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The processes of a sabotage end before it is undone, and Ctrl-C reaches none of them."""
    ends: list[str] = []

    class Broken:
        pid = 4711

        def __init__(self, *_: object, start_new_session: bool, **__: object) -> None:
            assert start_new_session
            ends.append("began")

        def wait(self) -> int:
            if ends[-1] == "began":
                ends.append("interrupted")
                raise KeyboardInterrupt
            return -9

    def undone(_target: object, _office: object, host: Host, script: str, _via: object) -> str:
        assert script == RESTORES_LEFT
        ends.append(host.name)
        return "restored\n" if host.role == "store" and "interrupted" in ends else ""

    monkeypatch.setattr("subprocess.Popen", Broken)
    monkeypatch.setattr("os.killpg", lambda pid, _signal: ends.append(f"killed {pid}"))
    monkeypatch.setattr(verify, "run_script", undone)
    at = At("harbour")
    at.__dict__["target"] = HARBOUR._replace(instance="lab")
    with pytest.raises(KeyboardInterrupt):
        verify.sabotage_office(at, ())
    hosts = sorted(host.name for host in at.office.hosts)
    begun = ends.index("began")
    assert sorted(ends[:begun]) == hosts, "what an earlier run left is undone first"
    assert ends[begun + 1 : begun + 3] == ["interrupted", "killed 4711"]
    assert sorted(ends[begun + 3 :]) == hosts
    (store,) = at.office.with_role("store")
    assert f"{store.name}: a sabotage was in effect; it is undone" in capsys.readouterr().err


def test_every_command_says_what_it_leaves_or_changes_nothing() -> None:
    changing = {name for name, about in COMMANDS.items() if "interrupted" in about}
    reading = {
        "plan",
        "check",
        "preflight",
        "report",
        "trace",
        "queue",
        "alarms",
        "hosts",
        "dns",
        "peer",
    }
    assert {"apply", "lab", "rotate", "user"} <= changing
    assert not reading & changing
    assert reading <= set(COMMANDS)


def started(*words: str, **options: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "outpost", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)  # type: ignore[call-overload, no-any-return]


def test_a_closed_pipe_ends_without_a_traceback() -> None:
    process = started("attack", "lab", "--list")
    assert process.stdout is not None
    process.stdout.close()
    stderr = process.communicate()[1]
    assert "Traceback" not in stderr
    assert "Exception ignored" not in stderr
    assert "the program that reads the output has ended; " in stderr
    assert process.returncode == 141


def test_an_interrupt_within_a_command_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_arguments: object, **_options: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(office, "problems_of", interrupted)
    assert entry.main(["check", "harbour"]) == 130
    assert capsys.readouterr().err == "\noutpost: interrupted; nothing was changed.\n"


def test_an_interrupt_ends_without_a_traceback() -> None:
    """This also holds at the start, while modules are loaded."""
    process = started("check", "harbour")
    process.send_signal(signal.SIGINT)
    stderr = process.communicate()[1]
    assert "KeyboardInterrupt" not in stderr or process.returncode == -signal.SIGINT


@pytest.mark.skipif(os.geteuid() != 0, reason="a read-only file system is mounted by root")
def test_a_home_that_cannot_be_written_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "access", lambda _place, _mode: False)
    monkeypatch.setenv("HOME", "/proc/none")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    for variable in entry.KEPT:
        monkeypatch.delenv(variable, raising=False)
    entry.find_room()
    place = tmp_path / f"outpost-{os.getuid()}"
    assert os.environ["XDG_CACHE_HOME"] == f"{place}/cache"
    assert place.stat().st_mode & 0o777 == 0o700
    assert "cannot be written" in capsys.readouterr().err
    place.chmod(0o777)
    for variable in entry.KEPT:
        monkeypatch.delenv(variable)
    with pytest.raises(SystemExit, match="other users may have access"):
        entry.find_room()


def test_a_question_shows_the_answers_that_it_takes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    planned = run.Outcome(("mta",), (run.Change("mta", "x"),), {}, (), 1.0)
    monkeypatch.setattr(run, "plan", lambda *_, **__: planned)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda *_: "n")
    assert apply.apply_office(At("harbour")) == 1
    assert "Apply? [y/N]" in capsys.readouterr().err


def test_an_apply_that_is_interrupted_while_it_plans_has_changed_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr(run, "plan", interrupted)
    assert entry.main(["apply", "harbour", "--refresh"]) == 130
    assert capsys.readouterr().err.endswith("interrupted; nothing was changed.\n")
    monkeypatch.setattr("outpost.engine.claim.changing", interrupted)
    assert entry.main(["apply", "harbour", "--refresh", "-y"]) == 130
    assert "hosts may be changed in part" in capsys.readouterr().err


def test_a_table_breaks_an_address_and_cuts_none(capsys: pytest.CaptureFixture[str]) -> None:
    address = "2001:db8:40:1:2:3:4:5678"
    table = Table("host", "address", box=None)
    table.add_row("mta", address)
    Console(width=20).print(table)
    lines = capsys.readouterr().out.splitlines()[1:]
    assert "".join(line[6:].strip() for line in lines) == address
    assert console.out.width == console.PIPED or console.out.is_terminal


def test_a_host_that_has_its_turn_behind_it_waits_until_all_have() -> None:
    follower = Follower()
    for line in (
        "--> Starting operation: mta | a",
        "    [ns1] Success",
        "    [mta] doing something",
    ):
        follower.feed(line)
    assert follower.hosts["ns1"].doing == "waiting"
    follower.feed("--> Results:")
    assert {host.doing for host in follower.hosts.values()} == {"done"}


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("one\n{{ view.missing }}\n", "templates/mta/x.j2:2", "missing"),
        ("one\ntwo\n{% if %}\n", "templates/mta/x.j2:3", "Expected an expression"),
        ("{{ 1 // 0 }}\n", "templates/mta/x.j2:1", "ZeroDivisionError"),
        ("{% include 'mta/y.j2' %}\n", "templates/mta/y.j2:2", "'nothing' is undefined"),
    ],
)
def test_a_templates_mistake_names_file_and_line(tmp_path: Path, text: str, place: str, message: str) -> None:
    folder = tmp_path / "templates" / "mta"
    folder.mkdir(parents=True)
    (folder / "x.j2").write_text(text)
    (folder / "y.j2").write_text("fine\n{{ nothing }}\n")
    with pytest.raises(TemplateMistakeError) as caught:
        render(environment(tmp_path / "templates"), "mta/x.j2", {"view": object()})
    assert caught.value.message.startswith(f"{place}: ")
    assert message in caught.value.message
    assert caught.value.remedy == f"correct {place}"


def test_a_run_that_broke_off_has_the_remedy_of_its_reason() -> None:
    follower = Follower()
    follower.feed(
        "outpost.templates.TemplateMistakeError: templates/mta/x.j2:2: no. Remedy: correct templates/mta/x.j2:2."
    )
    error = run._stopped(follower, 1, "read the log")
    follower = Follower()
    follower.feed("no secrets at x/secrets.age. Remedy: make them with: ./outpost secrets init x.")
    ended = run._stopped(follower, 1, "read the log")
    assert (ended.message, ended.remedy) == (
        "no secrets at x/secrets.age",
        "make them with: ./outpost secrets init x",
    )
    assert (error.message, error.remedy) == ("templates/mta/x.j2:2: no", "correct templates/mta/x.j2:2")
    assert run._stopped(Follower(), 1, "read the log").remedy == "read the log"


def test_a_mistake_in_the_inventory_is_named_with_its_line_or_its_stage() -> None:
    follower = Follower()
    for line in (
        "--> Loading inventory...",
        '  File "po/ssh.py", line 7',
        "    def (",
        "SyntaxError: invalid syntax",
    ):
        follower.feed(line)
    assert (
        run._stopped(follower, 1, "x").message
        == "pyinfra stopped: SyntaxError: invalid syntax (po/ssh.py, line 7)"
    )
    follower = Follower()
    follower.feed("--> Loading inventory...")
    assert (
        run._stopped(follower, 3, "x").message
        == "pyinfra stopped with exit code 3 at the stage Loading inventory"
    )


def test_a_run_that_a_signal_ended_names_the_signal() -> None:
    follower = Follower()
    follower.feed("[]")
    error = run._stopped(follower, -signal.SIGTERM, "apply once more")
    assert (error.message, error.remedy) == ("pyinfra was ended by SIGTERM", "apply once more")


def test_a_failed_check_has_its_own_remedy_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A check's own remedy comes first. An apply is named if it sets what the check reads, otherwise only the daemon's journal."""
    checks = tmp_path / "test_checks.py"
    checks.write_text(
        "import pytest\n"
        "class Me: name = 'mta'\n"
        "me = pytest.mark.parametrize('me', [Me()])\n"
        "@pytest.mark.remedy('do this')\n@pytest.mark.looks\n@me\ndef test_own(me): assert 0\n"
        "@pytest.mark.looks\n@pytest.mark.daemons('knot')\n@me\ndef test_reads(me): assert 0\n"
        "@pytest.mark.looks\n@pytest.mark.live\n@pytest.mark.daemons('knot')\n@me\ndef test_acts(me): assert 0\n"
        "def test_says_nothing(): assert 0\n"
    )
    monkeypatch.setattr(live, "unreached", lambda *_: {})
    monkeypatch.setattr(live, "SIDE_BY_SIDE", ())  # one process starts faster than five
    verdict = live.verify(HARBOUR, files=(str(checks), "-p", "tests.conftest"))
    found = {
        result.id.partition("::test_")[2].partition("[")[0]: result.mended_by for result in verdict.results
    }
    assert found == {
        "own": "do this",
        "reads": "./outpost apply harbour --limit mta, if ./outpost plan harbour --limit mta shows a change; "
        "read journalctl -b -u knot on mta",
        "acts": "read journalctl -b -u knot on mta",
        "says_nothing": "",
    }
    unreached = f"outpost.errors.OutpostError: {OutpostError('ns1: gone', 'switch it on')}"
    assert Result("id", "mta", "x", (), "failed", unreached, 0.1, "other").mended_by == "switch it on"


def finding(host: str, thing: str, cause: str) -> dict[str, object]:
    diff = [f"+line {number}" for number in range(30)]
    return {
        "host": host,
        "kind": "file",
        "thing": thing,
        "cause": cause,
        "consequence": "x",
        "controls": [],
        "diff": diff,
    }


def test_the_first_plan_of_a_new_host_is_a_summary(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    new = [finding("mta", f"/etc/file{number}", "declared, not on the host yet") for number in range(70)]
    new += [
        finding("mta", "/etc/ssh/sshd_config", "not as declared"),
        finding("mta", "/usr/local/lib/outpost/observe", "declared, not on the host yet"),
        finding("mta", "/etc/outpost", "not there") | {"kind": "directory"},
        finding("mta", "/etc/sudoers.d/backdoor", "there, and nobody declared it") | {"diff": []},
    ]
    known = [finding("ns1", "/etc/drifted", "edited by hand")]
    changes = tuple(run.Change("mta", f"base | {number}") for number in range(40))
    planned = run.Outcome(("mta", "ns1"), changes, {}, (), 1.0, tuple(new + known))
    monkeypatch.setattr(run, "plan", lambda *_, **__: planned)
    assert apply.plan_office(At("harbour")) == 2
    output = capsys.readouterr().out
    assert len(output.splitlines()) < 50
    assert "72 files, 1 directory" in output
    assert "/etc/ssh/sshd_config" in output  # files that it replaces are named
    assert "/etc/drifted" in output
    assert "nobody declared it" in output  # what a person has to decide is never part of a summary
    assert "/etc/file9" not in output
    assert "base 40" in output
    apply.plan_office(At("harbour"), everything=True)
    assert "/etc/file9" in capsys.readouterr().out
