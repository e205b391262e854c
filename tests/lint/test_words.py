"""Help texts, messages and remedies: no word that docs/glossary.md replaces, and a remedy is an imperative."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Callable, Iterator
from typing import Any

from outpost.cli import COMMANDS
from outpost.target import ROOT
from tests.lint.test_project import files

PRODUCT = sorted(file for top in ("src", "roles") for file in (ROOT / top).rglob("*.py"))
REMEDY = {
    "say_error": 1,
    "Problem": 3,
    "OutpostError": 1,
    "TakenError": 1,
    "EngineMissing": 1,
}
"""Call → which of its arguments is the remedy."""
PRINTED = {*REMEDY, "Finding", "Option", "Argument", "Typer", "command", "print", "status"}
SAYS = {"message", "problem", "remedy", "seen", "question", "what"}
"""Variables that hold such a text until it is printed."""
NAMES = re.compile(r"\[alarms\] tell|alarms\.tell")
"""Options and keys of the office file that have such a word for their name."""
HELP = (ROOT / "src" / "outpost" / "cli" / "commands.toml").read_text()
NO_COMMAND = re.compile(
    r"`?(\./outpost|lsblk|journalctl|docker)\b[^;]* (shows|lists|starts|writes|says|prints)\b"
)
"""A remedy that describes a command, where it should say: run it."""
IS_NO = re.compile(r"(?<!there )\b(is|are|was) no (?!longer\b|more\b)[a-z]")
"""Written as `is not a …`, which readers of average English understand at once."""
UNTYPABLE = re.compile(rf"(?<![\w./-])outpost ({'|'.join(COMMANDS)})\b")
"""A command that a checkout does not have: there it is ./outpost; an installed wheel prints it without (outpost.cli.console)."""
NO_VERB = re.compile(
    r"(an?|the|it|its|one|what|this|that|is|at|more|less|nothing|known:?|only|every|no|each|somebody|others)\b",
    re.IGNORECASE,
)


def avoided() -> re.Pattern[str]:
    """The quoted words in the last column of the glossary's tables."""
    rows = re.findall(r"^\|.*\|(.*)\|$", (ROOT / "docs" / "glossary.md").read_text(), flags=re.MULTILINE)
    words = [word for row in rows for word in re.findall(r"`([^`]+)`", row)]
    assert len(words) > 9
    return re.compile(rf"\b({'|'.join(words)})\b", re.IGNORECASE)


AVOIDED = avoided()


def called(node: ast.Call) -> str:
    return ast.unparse(node.func).split(".")[-1]


def texts(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and text of what the command line prints: messages, remedies, help."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (called(node) in PRINTED or called(node).endswith("Error")):
            for part in (*node.args, *(keyword.value for keyword in node.keywords)):
                for constant in ast.walk(part):
                    if (
                        isinstance(constant, ast.Constant)
                        and isinstance(constant.value, str)
                        and " " in constant.value
                    ):
                        yield constant.lineno, constant.value
        elif isinstance(node, ast.Assign) and SAYS & {ast.unparse(target) for target in node.targets}:
            for constant in ast.walk(node.value):
                if isinstance(constant, ast.Constant) and isinstance(constant.value, str):
                    yield constant.lineno, constant.value
        elif isinstance(node, ast.FunctionDef) and any(
            ".command" in ast.unparse(each) for each in node.decorator_list
        ):
            yield node.lineno, ast.get_docstring(node) or ""


def beginnings(one: ast.expr) -> Iterator[tuple[int, str]]:
    for part in (one.body, one.orelse) if isinstance(one, ast.IfExp) else (one,):
        first = part.values[0] if isinstance(part, ast.JoinedStr) and part.values else part
        if isinstance(first, ast.Constant) and isinstance(first.value, str) and first.value:
            yield first.lineno, first.value


def remedies(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and beginning of each remedy that stands where it is given."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and called(node) in REMEDY:
            place = REMEDY[called(node)]
            given = [
                *node.args[place : place + 1],
                *(word.value for word in node.keywords if word.arg == "remedy"),
            ]
            for one in given:
                yield from beginnings(one)
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "remedy":
            yield from beginnings(node.value)


def constants(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and text of each string that is no docstring."""
    for node in ast.walk(tree):
        for child in ast.iter_child_nodes(node):
            if (
                isinstance(child, ast.Constant)
                and isinstance(child.value, str)
                and not isinstance(node, ast.Expr)
            ):
                yield child.lineno, child.value


def found(of: Callable[[ast.AST], Iterator[tuple[int, str]]], wrong: Callable[[str], object]) -> list[str]:
    """Where the product has such a text."""
    every = ((file, line, text) for file in PRODUCT for line, text in of(ast.parse(file.read_text())))
    return [f"{file.relative_to(ROOT)}:{line}: {text}" for file, line, text in every if wrong(text)]


def avoids(text: str) -> bool:
    return AVOIDED.search(NAMES.sub("", text)) is None


def test_messages_and_help_have_the_glossarys_words() -> None:
    assert found(texts, lambda text: not avoids(text)) == []
    assert [line for line in HELP.splitlines() if not avoids(line)] == []


MOST_WORDS = 25
"""Most words of a sentence in help texts and messages: a longer one has to be read twice."""


def sentences(text: str) -> list[str]:
    """The sentences, without blocks of code; a colon or a semicolon ends one, too."""
    plain = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    return [part for part in re.split(r"(?<=[.?!;:])\s|\n\n", plain) if part.strip()]


def helps(table: dict[str, Any]) -> Iterator[str]:
    """Every text in the tables of the commands."""
    for value in table.values():
        if isinstance(value, dict):
            yield from helps(value)
        else:
            yield from (
                text for text in (value if isinstance(value, list) else [value]) if isinstance(text, str)
            )


def test_sentences_of_help_and_messages_are_short() -> None:
    def long(text: str) -> bool:
        return any(len(part.split()) > MOST_WORDS for part in sentences(text))

    assert found(texts, long) == []
    every = list(helps(tomllib.loads(HELP)))
    assert len(every) > 300
    assert [text for text in every if long(text)] == []
    assert long("one " * 26 + "end.")
    assert not long("one " * 20 + "end. " + "two " * 20)


def test_the_first_line_of_each_commands_help_says_in_80_characters_what_it_does() -> None:
    def first_lines(table: dict[str, Any]) -> Iterator[str]:
        if "help" in table:
            yield table["help"].strip().partition("\n")[0]
        for inner in table.values():
            if isinstance(inner, dict):
                yield from first_lines(inner)

    every = list(first_lines(tomllib.loads(HELP)))
    assert len(every) > 60
    assert [line for line in every if len(line) > 80 or not re.fullmatch(r"[A-Z].*\.", line)] == []


def prose(page: str) -> str:
    """What people read of a page: no code, no targets of links."""
    text = re.sub(r"```.*?```|`[^`]*`|\]\([^)]*\)", "", page, flags=re.DOTALL)
    return re.sub(r"look(ed|s)?[ -]ups?\b", "", text, flags=re.IGNORECASE)


def test_pages_have_the_glossarys_words() -> None:
    docs = ROOT / "docs"
    pages = [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *docs.glob("*.md"),
        *docs.glob("how-to/*.md"),
        *docs.glob("adr/*.md"),
        *docs.glob("examples/*"),
    ]
    others = ("glossary.md", "appendices.md")  # has the words to avoid; quotes what attacks were answered
    read = [page for page in pages if page.name not in others]
    assert len(read) > 20
    assert [str(page) for page in read if AVOIDED.search(prose(page.read_text()))] == []
    assert AVOIDED.search(prose("Whoever looks up `x` is told."))


def test_remedies_begin_with_a_verb() -> None:
    assert found(remedies, lambda text: NO_VERB.match(text) or NO_COMMAND.match(text)) == []
    assert NO_COMMAND.match("./outpost backup OFFICE lists what is kept")
    assert not NO_COMMAND.match("./outpost queue po; run it again when it lists nothing")


def test_messages_say_that_a_thing_is_not_another() -> None:
    assert found(texts, IS_NO.search) == []
    assert IS_NO.search("alice is no user of the office")
    assert not IS_NO.search("there is no user alice, and that file is no longer read")


GONE = re.compile(r"(?<![a-z])(doors?|whoever|afresh|anew)(?![a-z])", re.IGNORECASE)
"""Words that left the code altogether: names, comments, templates, pages."""
KEPT = re.compile(r"--afresh")
"""A deprecated option."""
UNCHANGED = ("CHANGELOG.md", "docs/glossary.md", "tests/lint/test_words.py")
SAID = re.compile(r"(?<![\w.\"'])said(?= =|=|\.\w+\(|\[)|\$said")
"""A variable is named by what it holds: output, reply, result, status."""
NAMED = re.compile(r"def test_\w*?_(told|tells?|said|mend(?:s|ed)?|letters?|look(?:s|ed|ing)?)(?:_\w*)?\(")


def test_words_that_are_gone_do_not_come_back() -> None:
    every = [file for file in files("*") if not str(file.relative_to(ROOT)).startswith(UNCHANGED)]
    lines = [(file, line) for file in every for line in file.read_text(errors="replace").splitlines()]
    assert len(lines) > 50_000
    assert [(str(file), line) for file, line in lines if GONE.search(KEPT.sub("", line))] == []
    assert [(str(file), line) for file, line in lines if NAMED.search(line)] == []
    assert [(str(file), line) for file, line in lines if SAID.search(line)] == []
    assert GONE.search("open_doors = 1")
    assert NAMED.search("def test_users_are_told_why(office)")
    assert SAID.search("said = run()")
    assert not SAID.search("the server said why")


def promises() -> Iterator[tuple[str, str]]:
    """Name of each live check, and what `verify` and the evidence print of it."""
    for file in sorted((ROOT / "tests" / "live").glob("test_*.py")):
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                yield f"{file.stem}::{node.name}", (ast.get_docstring(node) or "").partition("\n")[0]


def test_every_live_check_states_its_promise_in_a_sentence() -> None:
    """It is the first line of the docstring: short, complete, and no other check of the file has the same one."""
    every = list(promises())
    assert len(every) > 200
    sentence = re.compile(r"\w.{15,108}\.")
    assert [name for name, text in every if not sentence.fullmatch(text) or not avoids(text)] == []
    assert len({(name.partition(":")[0], text) for name, text in every}) == len(every)


def test_remedies_and_reasons_of_live_checks_have_the_glossarys_words() -> None:
    files = sorted((ROOT / "tests" / "live").glob("*.py"))
    calls = [
        node for file in files for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)
    ]
    given = {
        kind: [call.args[0] for call in calls if called(call) == kind] for kind in ("remedy", "skip", "pend")
    }
    reasons = {kind: [ast.unparse(text) for text in texts] for kind, texts in given.items()}
    assert all(len(texts) > 3 for texts in reasons.values())
    assert [text for texts in reasons.values() for text in texts if not avoids(text)] == []
    assert [text for text in reasons["remedy"] if NO_VERB.match(text[1:])] == []


def test_commands_are_printed_as_they_are_typed() -> None:
    every = found(constants, UNTYPABLE.search)
    assert [each for each in every if "benchmarks" not in each] == []  # whose rows have such names
    assert UNTYPABLE.search(HELP.replace("`outpost COMMAND --help`", "")) is None


def test_the_page_for_symptoms_quotes_messages_that_are_printed() -> None:
    page = (ROOT / "docs" / "how-to" / "what-to-do-when.md").read_text()
    quoted = re.findall(r"^\| `(.+)` \| \[", page, flags=re.MULTILINE)
    assert len(quoted) > 9
    printed = [file.read_text() for file in PRODUCT]
    assert [each for each in quoted if not any(each in text for text in printed)] == []


def test_what_it_refuses_would_be_found() -> None:
    tree = ast.parse(
        'raise OutpostError(f"{host} is open", f"one of: {names}" if names else "look at the doors")\n'
        '@app.command()\ndef scan() -> None:\n    """Scan everything afresh."""\n'
        'remedy = "the scan is done afresh"\n'
        'typer.Option("--notify", help="What is [alarms] tell.")\n'
    )
    assert {text for _, text in texts(tree) if not avoids(text)} == {
        "look at the doors",
        "Scan everything afresh.",
        "the scan is done afresh",
    }
    assert {text for _, text in remedies(tree) if NO_VERB.match(text)} == {
        "one of: ",
        "the scan is done afresh",
    }
    assert UNTYPABLE.search("make them with: outpost secrets init po")
    assert not UNTYPABLE.search("make them with: ./outpost secrets init po; the outpost and outposts")
