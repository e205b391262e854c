"""How an apply is rolled out, without a host."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from outpost.cli import outcomes
from outpost.cli.app import run
from outpost.cli.progress import checks_progress
from outpost.engine import rollout
from outpost.engine import run as pyinfra
from outpost.engine.rollout import WEEKDAYS, is_read_only, waves
from outpost.engine.run import Change, Outcome, Silent
from outpost.errors import OutpostError
from outpost.evidence.reference import case_study
from outpost.office import Host, Office
from outpost.office.tables.operation import Maintenance
from outpost.onhost.observe import OBSERVER
from outpost.target import Target, find
from outpost.verification.live import OnResult, Result, Verdict


@pytest.fixture
def office() -> Office:
    """The case study's office."""
    return case_study()


def test_two_hosts_of_one_role_are_never_changed_at_the_same_time(office: Office) -> None:
    steps = waves(office, tuple(host.name for host in office.hosts))
    assert sorted(name for wave in steps for name in wave) == sorted(host.name for host in office.hosts)
    for wave in steps:
        roles = [office.host(name).role for name in wave]
        assert len(roles) == len(set(roles)), wave
    assert ["ns1" in steps[0], "ns2" in steps[1]] == [True, True]


def test_a_new_office_is_one_wave_and_a_new_host_beside_others_is_not(office: Office) -> None:
    every = tuple(host.name for host in office.hosts)
    assert waves(office, every, frozenset(every)) == [every]
    assert waves(office, ("ns1", "ns2"), {"ns1"}) == [("ns1",), ("ns2",)]


def test_hosts_that_are_as_declared_are_in_no_wave(office: Office) -> None:
    assert waves(office, ("ns2", "store")) == [("ns2", "store")]


def test_a_read_only_day_is_one_of_the_office_file(office: Office) -> None:
    friday = datetime(2026, 11, 27, 12, tzinfo=UTC)
    careful = office.model_copy(update={"maintenance": Maintenance(read_only=("friday",))})
    assert is_read_only(careful, friday)
    assert not is_read_only(careful, friday + timedelta(days=1))
    assert not is_read_only(office, friday)


@pytest.mark.parametrize(("seen", "back"), [("Skipped: pending: no DS", ()), ("assert 1 == 2", ("ns1",))])
def test_what_others_have_to_do_yet_rolls_nothing_back(
    office: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seen: str, back: tuple[str, ...]
) -> None:
    changes = (Change("ns1", "dns | knot"), Change("ns2", "dns | knot"))
    outcome = "skipped" if seen.startswith("Skipped") else "failed"
    result = Result("a", "ns1", "it is delegated", (), outcome, seen, 0.1)
    verdict = Verdict((result, replace(result, id="b", outcome="passed", seen="")), 1.0, "")

    def apply(_target: Target, *, limit: tuple[str, ...], **_: object) -> Outcome:
        return Outcome(limit, tuple(change for change in changes if change.host in limit), {}, (), 1.0)

    undone: list[str] = []
    monkeypatch.setattr("outpost.engine.run.apply", apply)
    monkeypatch.setattr(
        rollout, "run_script", lambda _target, _office, host, *_, **__: undone.append(host.name)
    )
    monkeypatch.setattr(rollout, "_failing", lambda *_: frozenset())
    monkeypatch.setattr(rollout, "verify", lambda *_, **__: verdict)
    done = rollout.roll_out(
        Target("po", tmp_path, tmp_path),
        office,
        limit=(),
        connector=None,
        watcher=Silent,
        proposed=Outcome(("ns1", "ns2"), changes, {}, (), 1.0),
    )
    assert (done.went_back, tuple(undone), done.waiting) == (back, back, ("ns2",) if back else ())
    assert done.good == (not back)


def test_a_host_that_cannot_roll_back_is_not_reported_as_rolled_back(
    office: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_target: Target, _office: Office, host: Host, script: str, *_: object, **__: object) -> str:
        assert "previous/knot-sandbox/undo; [" in script  # the last change first
        if host.name == "ns1":
            raise OutpostError("ns1 does not answer", "check its console")
        return ""

    monkeypatch.setattr(rollout, "run_script", refused)
    names = ("ns1", "ns2")
    changes = tuple(Change(name, f"dns | {what}") for name in names for what in ("knot", "knot-sandbox"))
    done = Outcome(names, changes, {}, (), 1.0)
    assert rollout._go_back(Target("po", tmp_path, tmp_path), office, done, names, 1, None) == ("ns2",)


def test_apply_refuses_on_a_read_only_day_and_says_how_to_insist(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (Path("inventory") / "harbour" / "office.toml").read_text()
    today = WEEKDAYS[datetime.now(UTC).weekday()]
    (tmp_path / "office.toml").write_text(text + f'\n[maintenance]\nread_only = ["{today}"]\n')
    assert run(["apply", str(tmp_path), "-y"]) == 1
    stderr = capsys.readouterr().err
    assert "--force" in stderr
    assert today in stderr


def failing(*names: str) -> Verdict:
    """A verification in which these checks of ns1 fail."""
    results = tuple(Result(name, "ns1", name, (), "failed", "no", 0.1) for name in names)
    return Verdict(results, 0.1, "")


@pytest.mark.parametrize(
    ("before", "after", "last", "fresh", "back", "waiting"),
    [
        ((), (), (), False, (), ()),
        (("clock",), ("clock",), ("clock",), False, (), ()),
        (("clock",), ("clock",), (), False, (), ()),
        (("clock",), ("clock", "names"), None, False, ("ns1",), ("ns2",)),
        ((), ("names",), None, False, ("ns1",), ("ns2",)),
        ((), ("names",), None, True, (), ("ns2",)),
    ],
)
def test_only_a_check_that_newly_fails_is_a_reason_to_go_back(
    office: Office,
    monkeypatch: pytest.MonkeyPatch,
    before: tuple[str, ...],
    after: tuple[str, ...],
    last: tuple[str, ...] | None,
    *,
    fresh: bool,
    back: tuple[str, ...],
    waiting: tuple[str, ...],
) -> None:
    """A check that needs a host of a later wave (another MTA) fails before and after its own wave, and is made again at the end."""
    changes = tuple(Change(host, "dns | knot") for host in ("ns1", "ns2"))
    missing = {"host": "ns1", "thing": OBSERVER, "cause": "declared, not on the host yet"}
    planned = Outcome(("ns1", "ns2"), changes, {}, (), 0.1, (missing,) if fresh else ())
    verdicts = iter(
        [
            *([] if fresh else [failing(*before)]),
            failing(*after),
            failing(),
            failing(),
            failing(*(last or ())),
        ]
    )
    monkeypatch.setattr(rollout, "verify", lambda *_, **__: next(verdicts))
    monkeypatch.setattr(rollout, "_go_back", lambda _target, _office, _done, hosts, *_: hosts)

    def applied(*_: object, limit: tuple[str, ...], **__: object) -> Outcome:
        return Outcome(limit, tuple(change for change in changes if change.host in limit), {}, (), 0.1)

    monkeypatch.setattr(pyinfra, "apply", applied)
    target = find("harbour")
    done = rollout.roll_out(target, office, limit=(), connector=None, watcher=Silent, proposed=planned)
    assert (done.went_back, done.waiting) == (back, waiting)
    assert done.good == (last == ())


def test_a_host_that_cannot_be_compared_leaves_the_others_waiting_and_not_as_declared(
    office: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    finding = {
        "host": "ns1",
        "kind": "file",
        "thing": "/etc/hosts",
        "cause": "not as declared",
        "consequence": "",
        "controls": [],
        "diff": [],
    }
    planned = Outcome(
        ("mta", "ns1", "ns2"),
        (Change("ns1", "base | hosts"),),
        {"mta": "it does not answer"},
        (),
        1.0,
        (finding,),
    )
    monkeypatch.setattr(pyinfra, "plan", lambda *_, **__: planned)
    monkeypatch.setattr(pyinfra, "apply", lambda *_, **__: pytest.fail("a host was changed"))
    target = Target("po", tmp_path, tmp_path)
    done = rollout.roll_out(target, office, limit=(), connector=None, watcher=Silent)
    assert (done.waiting, done.good) == (("ns1",), False)
    outcomes.show_rollout(done, target)
    printed = capsys.readouterr()
    state = {line.split()[0]: line for line in printed.out.splitlines() if line.split()}
    assert "not as declared yet" in state["ns1"]
    assert "it does not answer" in state["mta"]
    assert state["ns2"].rstrip().endswith("  as declared")
    assert "/etc/hosts" not in printed.out
    assert "--limit mta --limit ns1" in " ".join(printed.err.split())


def test_the_checks_of_each_wave_show_their_progress(
    office: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = tuple(Change(host, "dns | knot") for host in ("ns1", "ns2"))

    def verify(_target: Target, *, hosts: tuple[str, ...], on_result: OnResult, **_: object) -> Verdict:
        result = Result("a", hosts[0], "its zone is signed", (), "passed", "", 0.1)
        on_result(1, 1, result)
        return Verdict((result,), 0.1, "")

    monkeypatch.setattr(rollout, "verify", verify)
    monkeypatch.setattr(
        pyinfra,
        "apply",
        lambda *_, limit, **__: Outcome(limit, (Change(limit[0], "dns | knot"),), {}, (), 0.1),
    )
    rollout.roll_out(
        Target("po", tmp_path, tmp_path), office, limit=(), connector=None, watcher=Silent, progress=checks_progress,
        proposed=Outcome(("ns1", "ns2"), changes, {}, (), 0.1),
    )  # fmt: skip
    assert capsys.readouterr().err.count("checked 1 of 1, 0 failed") == 4, (
        "two waves, before and after the change"
    )
