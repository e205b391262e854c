"""One controller at a time changes a host; an older version never does. No answer of a host changes that."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
import tomlkit

from outpost import __version__
from outpost.cli import edit, user
from outpost.cli import user as people
from outpost.cli.options import At
from outpost.engine import claim, run
from outpost.engine.claim import Record, changing, mine
from outpost.errors import OutpostError
from outpost.keys.rotation.engine import desk
from outpost.office import Office, load
from outpost.office.tables.topology import Host
from outpost.target import INVENTORY, ROOT, Target
from outpost.verification import history
from tests.awaiting import until

FULL = json.dumps(
    {
        "by": "maria@desk",
        "when": "2026-11-29T12:00:00+00:00",
        "version": "0.1.0",
        "commit": "0123456789ab+",
        "office_file": "0" * 64,
    }
)


@pytest.fixture
def hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every host is a shell on this machine, with its lock and record below a directory."""
    monkeypatch.setattr(claim, "SCRIPT", at(claim.SCRIPT, tmp_path))
    monkeypatch.setattr(claim, "shell_command", lambda *_: ["sh", "-s"])
    monkeypatch.setattr(history, "commit", lambda: "")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path


def at(script: str, directory: Path) -> str:
    """The same script, with its files elsewhere."""
    return (
        script.replace("/var/lib/outpost", str(directory / "lib"))
        .replace("/run/", f"{directory}/")
        .replace("flock -w 5", "flock -w 1")
    )


@pytest.fixture
def controller(tmp_path: Path) -> Callable[[str], Target]:
    """Another controller: a copy of the office's directory."""

    def made(name: str) -> Target:
        shutil.copytree(INVENTORY / "harbour", tmp_path / name)
        return Target("harbour", tmp_path / name, tmp_path / name)

    return made


@pytest.mark.usefixtures("hosts")
def test_a_host_whose_shell_talks_is_not_taken_for_locked(
    controller: Callable[[str], Target], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Text before the answer counts as no answer: without a lock, a second controller would change the host, too."""
    monkeypatch.setattr(claim, "shell_command", lambda *_: ["sh", "-c", "echo 'Welcome to mta'; exec sh -s"])
    with (
        pytest.raises(OutpostError, match="prints text of its own") as raised,
        changing(controller("one"), ["mta"]),
    ):
        pytest.fail("it was changed without a lock")
    assert "root/.bashrc" in raised.value.remedy


def test_a_second_controller_is_stopped_before_anything_changes(
    hosts: Path, controller: Callable[[str], Target]
) -> None:
    one, two = controller("one"), controller("two")
    with changing(one, ["mta"]):
        with (
            pytest.raises(OutpostError, match=r"mta is being changed by .*; this command changed nothing"),
            changing(two, ["mta"]),
        ):
            pytest.fail("both change it")
        with changing(one, ["mta"]):  # the same one goes on
            pass
    with changing(two, ["mta"]):
        pass
    assert not (hosts / "lib").exists()  # nobody converged it


def test_of_two_controllers_that_each_hold_a_part_one_gets_all(
    hosts: Path, controller: Callable[[str], Target], monkeypatch: pytest.MonkeyPatch
) -> None:
    def shell(_target: Target, _office: Office, host: Host, _via: str | None) -> list[str]:
        return ["sh", "-c", f"sed -u 's#{hosts}/outpost-changing#{hosts}/{host.name}#' | sh -s"]

    parts, met, seen, claimed = {"one": "mta", "two": "ns1"}, Barrier(4), set(), claim._claim

    def crossed(target: Target, office: Office, name: str, via: str | None, own: Record) -> Any:
        first = (target.data.name, name) not in seen
        seen.add((target.data.name, name))
        if first and parts[target.data.name] != name:
            met.wait(60)
        found = claimed(target, office, name, via, own)
        if first and parts[target.data.name] == name:
            met.wait(60)
        return found

    def applied(target: Target) -> str:
        try:
            with changing(target, ["mta", "ns1"]):
                return "applied"
        except OutpostError as error:
            return str(error)

    monkeypatch.setattr(claim, "shell_command", shell)
    monkeypatch.setattr(claim, "_claim", crossed)
    with ThreadPoolExecutor() as pool:
        results = list(pool.map(applied, (controller("one"), controller("two"))))
    assert "applied" in results


def test_a_host_records_who_applied_it_only_after_success(
    hosts: Path, controller: Callable[[str], Target]
) -> None:
    one = controller("one")
    with changing(one, ["mta"]) as held:
        assert not held.converged_from(mine(one).office_file)
        held.converged.add("mta")
    kept = Record.parse((hosts / "lib/converged.json").read_text())
    assert kept is not None
    assert kept.office_file == mine(one).office_file
    with changing(one, ["mta"]) as held:
        assert held.converged_from(mine(one).office_file)
        assert not held.converged_from("f" * 64)


@pytest.mark.usefixtures("hosts")
def test_an_office_file_edited_during_an_apply_is_not_recorded_as_applied(
    controller: Callable[[str], Target],
) -> None:
    one = controller("one")
    applied = mine(one).office_file
    with changing(one, ["mta"]) as held:
        held.converged.add("mta")
        one.office_file.write_text(f"{one.office_file.read_text()}# edited\n")
    with changing(one, ["mta"]) as held:
        assert held.converged_from(applied)
        assert not held.converged_from(mine(one).office_file)


@pytest.mark.usefixtures("hosts")
def test_an_apply_that_finds_nothing_to_change_keeps_its_office_file(
    controller: Callable[[str], Target],
) -> None:
    """A second controller whose first apply is empty: its next change of a user starts from that file."""
    one = controller("one")
    with changing(one, ["mta"]) as held:
        assert held.base(one) is None
        held.converged.add("mta")  # as the rollout says where the plan is empty: no apply ran
    with changing(one, ["mta"]) as held:
        assert held.base(one) == one.office_file.read_text()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.usefixtures("hosts")
def test_a_controller_that_dies_leaves_no_lock(
    controller: Callable[[str], Target], how: signal.Signals
) -> None:
    one, two = controller("one"), controller("two")
    program = (
        "import sys, time\nfrom pathlib import Path\nfrom outpost.engine import claim\nfrom outpost.target import Target\n"
        f"claim.SCRIPT = {claim.SCRIPT!r}\nclaim.shell_command = lambda *_: ['sh', '-s']\n"
        f"with claim.changing(Target('harbour', Path({str(one.data)!r}), Path({str(one.data)!r})), ['mta']):\n"
        "    print('held', flush=True)\n    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(OutpostError, match="is being changed"), changing(two, ["mta"]):
            pass
        process.send_signal(how)

    def free() -> bool:
        try:
            with changing(two, ["mta"]):
                return True
        except OutpostError:
            return False

    until(free, "the host is free again")


@pytest.mark.usefixtures("hosts")
def test_an_apply_that_outlives_its_command_line_keeps_the_lock(controller: Callable[[str], Target]) -> None:
    one, two = controller("one"), controller("two")
    with changing(one, ["mta"]) as held:
        apply = subprocess.Popen(["sh", "-c", "read x"], stdin=subprocess.PIPE, pass_fds=held.streams)
        process = held.held["mta"].process
        assert process.stdin is not None
        process.stdin.close()  # as when the command line is killed
        with pytest.raises(OutpostError, match="is being changed"), changing(two, ["mta"]):
            pass
        apply.communicate(b"\n")
        until(lambda: process.poll() is not None, "the lock ends with the apply")
    with changing(two, ["mta"]):
        pass


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "[]",
        FULL[:-1],
        FULL.replace("maria", "\\u001b[2J"),
        FULL.replace("0123456789ab+", "--exec=id"),
        FULL.replace('"0.1.0"', "7"),
        FULL.replace("maria", "m" * 5000),
        FULL.replace("2026", "x"),
    ],
)
def test_what_is_no_record_is_none(text: str) -> None:
    assert Record.parse(text) is None


def test_a_record_says_who_when_and_with_what() -> None:
    record = Record.parse(FULL)
    assert record is not None
    assert record.shown == "maria@desk, 2026-11-29T12:00:00+00:00, with Outpost 0.1.0 at commit 0123456789ab+"


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """A clone of Outpost: git in a directory."""
    root = tmp_path / "clone"
    root.mkdir()
    monkeypatch.setattr(claim, "ROOT", root)
    monkeypatch.setattr(history, "ROOT", root)

    def git(*words: str) -> str:
        who = ("-c", "user.name=x", "-c", "user.email=x@example.com", "-c", "commit.gpgsign=false")
        done = subprocess.run(
            ["git", "-C", str(root), *who, *words], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    git("init", "-q", "-b", "main")
    return git


def test_an_older_clone_is_stopped_before_anything_changes(
    hosts: Path,
    controller: Callable[[str], Target],
    checkout: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("XDG_STATE_HOME", str(hosts / "state"))
    monkeypatch.setattr(claim, "SCRIPT", at(claim.SCRIPT, hosts))
    monkeypatch.setattr(claim, "shell_command", lambda *_: ["sh", "-s"])
    monkeypatch.setattr(claim, "ROOT", hosts / "clone")
    monkeypatch.setattr(history, "ROOT", hosts / "clone")
    for name in ("old", "new"):
        checkout("commit", "-q", "--allow-empty", "-m", name)
    one = controller("one")
    with changing(one, ["mta"]) as held:
        held.converged.add("mta")
    with changing(one, ["mta"]):
        pass  # the same commit
    checkout("checkout", "-q", "HEAD^")
    with (
        pytest.raises(OutpostError, match="does not have that commit: it would undo newer changes") as caught,
        changing(one, ["mta"]),
    ):
        pytest.fail("an older clone changes the host")
    assert "git pull" in caught.value.remedy
    with changing(one, ["mta"], anyway=True):
        pass
    checkout("checkout", "-q", "main")
    checkout("commit", "-q", "--allow-empty", "-m", "newer")
    with changing(one, ["mta"]):
        pass
    # a branch beside it: refused for an office, allowed for a developer's lab
    checkout("checkout", "-q", "-b", "beside", "HEAD~2")
    checkout("commit", "-q", "--allow-empty", "-m", "beside")
    with pytest.raises(OutpostError, match="would undo"), changing(one, ["mta"]):
        pass
    with changing(one._replace(instance="lab"), ["mta"]):
        pass
    record = hosts / "lib/converged.json"
    record.write_text(record.read_text().replace(Record.parse(record.read_text()).commit, "f" * 12))  # type: ignore[union-attr]
    with pytest.raises(OutpostError, match="would undo"), changing(one._replace(instance="lab"), ["mta"]):
        pass  # a commit that this clone does not have


def test_an_office_file_that_lacks_what_a_colleague_applied_is_stopped(
    hosts: Path,
    controller: Callable[[str], Target],
    checkout: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Maria adds a user and does not commit the file: an apply of the same commit elsewhere would remove that user."""
    mine_, text = controller("clone/harbour"), (INVENTORY / "harbour" / "office.toml").read_text()

    def applied(addition: str, who: str) -> None:
        monkeypatch.setattr(history, "who", lambda: who)
        mine_.office_file.write_text(text + addition)
        with changing(mine_, ["mta"]) as held:
            held.converged.add("mta")

    def refused() -> str:
        try:
            with changing(mine_, ["mta"]):
                return ""
        except OutpostError as error:
            return f"{error.message} {error.remedy}"

    checkout("add", "-A")
    checkout("commit", "-q", "-m", "the office")
    monkeypatch.setattr(history, "commit", lambda: "")  # both have the same version of Outpost
    applied("# maria's\n", "maria@desk")
    monkeypatch.setattr(history, "who", lambda: "john@desk")
    assert not refused()  # he has her file
    mine_.office_file.write_text(text + "# john's\n")
    assert re.search("changed by maria@desk.*git pull", refused())
    monkeypatch.setattr(history, "who", lambda: "maria@desk")
    assert not refused()  # her own next change is accepted
    shutil.copytree(hosts / "clone", hosts / "older")
    other = Target("harbour", hosts / "older/harbour", hosts / "older/harbour")
    with pytest.raises(OutpostError, match="changed by maria@desk"), changing(other, ["mta"]):
        pass  # her account, and another clone on the same machine
    monkeypatch.setattr(history, "who", lambda: "john@desk")
    with changing(mine_, ["mta"], urgent=True):  # `user disable`
        pass
    with changing(mine_, ["mta"], anyway=True):
        pass
    mine_.office_file.write_text(text + "# maria's\n")
    checkout("commit", "-q", "-a", "-m", "hers")
    mine_.office_file.write_text(text + "# maria's\n# john's\n")
    assert not refused()  # what she applied is in its history
    shutil.rmtree(hosts / "clone" / ".git")
    mine_.office_file.write_text(text)
    assert not refused()  # no history to compare with


@pytest.mark.parametrize("how", ["a merge", "a filter"])
def test_an_office_file_that_a_merge_or_a_filter_of_git_made_is_known(
    how: str,
    hosts: Path,
    controller: Callable[[str], Target],
    checkout: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A merge that somebody finished by hand has a text that neither side had; with `eol=crlf` git keeps another than the one applied."""
    one, text = controller("clone/harbour"), (INVENTORY / "harbour" / "office.toml").read_text()

    def committed(content: str, *words: str) -> None:
        one.office_file.write_bytes(content.encode())
        checkout("add", "-A")
        checkout("commit", "-q", "--no-edit", *(words or ("-m", "one")))

    committed(text)
    applied = f"{text}# both\n"
    if how == "a merge":
        checkout("checkout", "-q", "-b", "side")
        committed(f"{text}# hers\n")
        checkout("checkout", "-q", "main")
        committed(f"{text}# his\n")
        checkout("merge", "-q", "--no-commit", "-s", "ours", "side")
        committed(applied)
    else:
        applied = applied.replace("\n", "\r\n")
        (one.data / ".gitattributes").write_text("office.toml text eol=crlf\n")
        committed(applied)
    monkeypatch.setattr(history, "commit", lambda: "")
    monkeypatch.setattr(history, "who", lambda: "maria@desk")
    with changing(one, ["mta"]) as held:
        held.converged.add("mta")
    shutil.rmtree(hosts / "state")
    monkeypatch.setattr(history, "who", lambda: "john@desk")
    committed(f"{text}# later\n")
    with changing(one, ["mta"]):
        pass


@pytest.mark.parametrize(
    ("version", "refused"), [("0.9", False), (__version__, False), ("99.0", True), ("no version", False)]
)
def test_an_older_wheel_is_stopped_too(
    hosts: Path,
    controller: Callable[[str], Target],
    monkeypatch: pytest.MonkeyPatch,
    version: str,
    refused: bool,
) -> None:
    monkeypatch.setattr(history, "commit", lambda: "")
    one = controller("one")
    with changing(one, ["mta"]) as held:
        held.converged.add("mta")
    record = hosts / "lib/converged.json"
    record.write_text(record.read_text().replace(f'"version":"{__version__}"', f'"version":"{version}"'))
    if not refused:
        with changing(one, ["mta"]):
            return
    with pytest.raises(OutpostError, match="would undo") as caught, changing(one, ["mta"]):
        pytest.fail("an older version changes the host")
    assert "install Outpost 99.0" in caught.value.remedy
    with changing(one, ["mta"], anyway=True):
        pass


@pytest.mark.usefixtures("hosts")
def test_adding_a_user_applies_no_change_of_others(
    controller: Callable[[str], Target], monkeypatch: pytest.MonkeyPatch
) -> None:
    from outpost.office import load

    one = controller("one")

    class Desk:
        target, via, watcher, office = one, None, run.Silent(), load(one.data)
        printed: list[str] = []  # noqa: RUF012

        def report(self, text: str) -> None:
            self.printed.append(text)

    desk = Desk()
    planned: list[tuple[run.Change, ...]] = [(run.Change("mta", "mta | recipients"),), (), ()]

    def plan(*_arguments: object, **_options: object) -> run.Outcome:
        return run.Outcome(("mta",), planned.pop(0), {}, (), 1.0)

    monkeypatch.setattr(run, "plan", plan)
    with (
        pytest.raises(OutpostError, match=r"mta: mta \| recipients.*office.toml is unchanged") as caught,
        edit._claimed(desk, ("transport",), urgent=False),  # type: ignore[arg-type]
    ):
        pytest.fail("others' changes are applied, too")
    assert f"./outpost apply {one.typed}" in caught.value.remedy
    with edit._claimed(desk, ("transport",), urgent=False):  # type: ignore[arg-type]
        pass  # nothing waits
    planned[:] = [(run.Change("mta", "mta | recipients"),)]
    with edit._claimed(desk, ("transport",), urgent=True):  # type: ignore[arg-type]
        assert "this change is urgent" in desk.printed[-1]
    with changing(one, ["mta"]) as held:
        held.converged.add("mta")
    planned.clear()
    with edit._claimed(desk, ("transport",), urgent=False):  # type: ignore[arg-type]
        pass  # from the record of the host, without a plan


Administered = tuple[Target, set[str]]
"""An office whose people can be changed, and its hosts that do not answer."""


@pytest.fixture
def administered(
    controller: Callable[[str], Target], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Administered:
    from outpost.keys import secrets_file

    dead: set[str] = set()

    def shell(_target: Target, _office: object, host: Host, _via: object) -> list[str]:
        if host.name in dead:
            return [
                "sh",
                "-c",
                "echo 'ssh: connect to host 192.0.2.9 port 22: Connection timed out' >&2; exit 255",
            ]
        (tmp_path / host.name).mkdir(exist_ok=True)
        return ["env", "-C", str(tmp_path / host.name), "sh", "-s"]

    monkeypatch.setattr(claim, "SCRIPT", at(claim.SCRIPT, Path()))
    monkeypatch.setattr(claim, "shell_command", shell)
    monkeypatch.setattr(history, "commit", lambda: "")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    identity = tmp_path / "identity.txt"
    public = secrets_file.create_identity(identity)
    monkeypatch.setenv("OUTPOST_IDENTITY", str(identity))
    one = controller("one")
    document = tomlkit.parse(one.office_file.read_text())
    document["secrets"]["recipients"] = [public]
    declared = tomlkit.dumps(document)
    one.office_file.write_text(declared)
    secrets_file.write(one.data, secrets_file.complete(load(one.data)).secrets, (public,))
    monkeypatch.setattr(edit, "at_desk", lambda *_: desk(one, lambda _: None))
    return one, dead


def test_a_users_change_alone_is_applied_to_the_last_applied_office_file(
    administered: Administered, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other changes stay in the office file and are not applied. If the new change needs them, nothing is edited."""
    one, _ = administered
    declared = one.office_file.read_text()
    applied: list[str] = []

    def pyinfra(target: Target, *_arguments: object, **_options: object) -> run.Outcome:
        applied.append(target.office_file.read_text())
        assert (target.directory / "secrets.age").read_bytes() == (one.data / "secrets.age").read_bytes()
        return run.Outcome(("mta", "store", "webmail"), (), {}, (), 1.0)

    monkeypatch.setattr(run, "_pyinfra", pyinfra)
    run.apply(one, limit=("mta", "store", "webmail"), watcher=run.Silent())
    waiting = declared.replace("[link]", "# of somebody else\n[link]")
    assert waiting != declared
    one.office_file.write_text(waiting)
    for name in ("erin", "frank"):  # the second one starts from the first
        people.add(At(str(one.data)), name)
    domain = load(one.data).domain
    for text in (applied[-1], one.office_file.read_text()):
        assert all(f"{name}@{domain}" in text for name in ("erin", "frank"))
    assert "somebody else" not in applied[-1]
    assert "somebody else" in one.office_file.read_text()
    people.add(At(str(one.data)), "gina", apply=False)
    before, count = one.office_file.read_text(), len(applied)
    with pytest.raises(OutpostError, match="have not been applied yet"):
        user.add_alias(At(str(one.data)), "list", ["gina"])
    assert (one.office_file.read_text(), len(applied)) == (before, count)


def test_a_host_that_does_not_answer_delays_no_change_of_people_on_the_others(
    administered: Administered, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked once; the change is applied to the others, and the remedy brings it to this one later."""
    one, dead = administered
    reached: list[object] = []

    def pyinfra(_target: Target, options: list[str], limit: object, *_: object, **__: object) -> run.Outcome:
        reached.append((options, limit))
        return run.Outcome(("mta", "store"), (), {}, (), 1.0)

    monkeypatch.setattr(run, "_pyinfra", pyinfra)
    run.apply(one, limit=("mta", "store", "webmail"), watcher=run.Silent())
    dead.add("webmail")
    with pytest.raises(OutpostError, match="webmail: it does not answer") as raised:
        people.add(At(str(one.data)), "erin")
    assert reached[1:] == [(["-y"], ("mta", "store"))]
    assert f"then run ./outpost apply {one.typed}" in raised.value.remedy
    assert "erin@" in one.office_file.read_text()
    before = one.office_file.read_text()
    dead.update(("mta", "store"))
    with pytest.raises(OutpostError, match="mta, store, webmail: it does not answer"):
        people.add(At(str(one.data)), "frank")
    assert one.office_file.read_text() == before
