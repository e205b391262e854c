"""Results of verifications are stored, compared, and reported past the mail queue."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from io import StringIO
from pathlib import Path

import pytest

from outpost.cli.console import Console
from outpost.cli.verify import send, show_verdict
from outpost.errors import OutpostError
from outpost.onhost.tell import News
from outpost.target import LAB, Target
from outpost.verification.history import KEPT, Run, difference, folder, keep, read, runs
from outpost.verification.live import PENDING, Result, Verdict

NEWS = News("po.example: 1 failed", "FAILED mta\n    expected: it holds\n", {"broken": ["a"]})


def result(name: str, outcome: str = "passed", host: str = "mta") -> Result:
    return Result(name, host, f"{name} holds", ("REL-01",), outcome, "seen", 0.1)


def run(*results: Result, when: str = "2026-01-02T03:04:05+00:00", selection: str = "") -> Run:
    return Run(when, "me@here", "abc", "0" * 64, selection, 1.0, results)


@pytest.fixture
def lab(tmp_path: Path) -> Target:
    return Target(LAB, tmp_path, tmp_path, "one")


def test_a_stored_run_is_read_unchanged(lab: Target) -> None:
    kept = run(result("a"), result("b", "failed"))
    assert read(keep(lab, kept)) == kept
    assert runs(lab) == (kept,)


def test_old_runs_go(lab: Target) -> None:
    for number in range(KEPT + 3):
        keep(lab, run(result("a"), when=f"2026-01-02T03:{number:02}:05+00:00"))
    assert len(runs(lab)) == KEPT
    assert runs(lab)[0].when > runs(lab)[-1].when


def test_another_office_keeps_its_runs_in_the_state_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert folder(Target("po", tmp_path, tmp_path)) == tmp_path / "outpost" / "po" / "verifications"


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_text("{}")
    with pytest.raises(OutpostError, match="not a saved verification"):
        read(file)


def pending(name: str, what: str = "delegate it") -> Result:
    return Result(name, "ns1", f"{name} holds", ("DNS-01",), "skipped", f"Skipped: {PENDING}{what}", 0.1)


def test_what_others_have_to_do_yet_is_no_failure_and_is_printed_once() -> None:
    held = Result("c", "ns1", "c holds", (), "skipped", "Skipped: a container has no kernel of its own", 0.1)
    verdict = Verdict(
        (result("x"), pending("a", "waits"), pending("b"), pending("d", "enter:\n  NS"), pending("e"), held),
        1.0,
        "",
    )
    assert verdict.proven
    assert [(what, [each.id for each in results]) for what, results in verdict.pending.items()] == [
        ("enter:\n  NS", ["d"]),
        ("waits", ["a"]),
        ("delegate it", ["b", "e"]),
    ]
    assert not Verdict((pending("a"),), 1.0, "").proven, "nothing was seen to hold"


def test_a_check_that_several_hosts_skip_is_printed_once_with_their_names(lab: Target) -> None:
    def skipped(host: str, why: str) -> Result:
        return Result(
            f"audit[{host}]", host, "Administration is audited", (), "skipped", f"Skipped: {why}", 0.1
        )

    verdict = Verdict(
        (
            result("x"),
            skipped("ns1", "a [container]"),
            skipped("mta", "a [container]"),
            skipped("store", "other"),
        ),
        1.0,
        "",
    )
    text = StringIO()
    show_verdict(verdict, lab, Console(file=text, no_color=True, highlight=False, width=100))
    printed = text.getvalue()
    assert "- skipped on mta, ns1: Administration is audited\n    a [container]\n" in printed
    assert "- skipped on store: Administration is audited\n    other\n" in printed
    assert printed.splitlines()[-1].split() == ["mta", "1", "1"]


def test_a_check_that_passed_and_is_pending_again_is_news() -> None:
    first, again = run(pending("a")), run(result("a"))
    assert not difference(first, []).is_news
    assert [each.id for each in difference(run(pending("a")), [again]).broken] == ["a"]


def test_what_broke_and_what_was_repaired_is_news() -> None:
    before = run(result("a"), result("b", "failed"), result("c", "failed"), result("gone"))
    found = difference(
        run(result("a", "failed"), result("b"), result("c", "failed"), result("new")), [before]
    )
    names = [[each.id for each in part] for part in (found.broken, found.mended, found.still)]
    assert names == [["a"], ["b"], ["c"]]
    assert (found.added, found.gone) == (1, ("gone",))
    assert found.is_news


def test_what_fails_as_before_is_no_news() -> None:
    before = run(result("a", "failed"))
    assert not difference(run(result("a", "failed")), [before]).is_news


def test_a_run_of_one_host_says_nothing_of_the_others() -> None:
    whole = run(result("a", "failed"), result("b", host="ns1"))
    partial = run(result("b", host="ns1"), when="2026-01-02T04:00:00+00:00", selection="ns1")
    found = difference(run(result("a"), result("b", host="ns1")), [partial, whole])
    assert [each.id for each in found.mended] == ["a"]
    assert difference(partial, [whole]).gone == ()


def test_a_first_failure_is_news() -> None:
    assert difference(run(result("a", "failed")), []).is_news


def test_a_command_gets_the_report(tmp_path: Path) -> None:
    file = tmp_path / "reported"
    send(f"tee {file}", NEWS)
    assert file.read_text() == NEWS.text


def test_a_webhook_gets_the_report() -> None:
    received: list[dict[str, object]] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # the library's name
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Hook) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        send(f"http://127.0.0.1:{server.server_port}/hook", NEWS)
    assert received == [{"subject": NEWS.subject, "text": NEWS.text, "broken": ["a"]}]


@pytest.mark.parametrize("path", ["false", "http://127.0.0.1:1/", "smtp://127.0.0.1:1/?to=a@b&from=c@d"])
def test_a_path_that_leads_nowhere_is_an_error_with_a_remedy(path: str) -> None:
    with pytest.raises(OutpostError, match="did not accept the message"):
        send(path, NEWS)


def test_mail_without_recipient_is_refused() -> None:
    with pytest.raises(OutpostError, match="names no server, to or from"):
        send("smtp://relay.example/?to=a@b", NEWS)


def test_a_login_without_its_password_is_refused() -> None:
    with pytest.raises(OutpostError, match="names no password_file for outpost"):
        send("smtps://outpost@relay.example/?to=a@b&from=c@d", NEWS)
