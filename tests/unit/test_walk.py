"""pyinfra itself applies a declaration to simulated hosts that answer like bare ones."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from outpost.converge import operations, reporting
from outpost.converge.declaration import Change, Declaration, Packages, declaration
from outpost.converge.files import text
from outpost.converge.observation import Run
from outpost.converge.shapes import service, settings
from outpost.drift.differences import Finding
from outpost.keys import secrets_file
from outpost.keys.secrets_file import IDENTITY_VARIABLE
from outpost.office import load
from outpost.target import ROOT

INVENTORY = """
from pathlib import Path as _Path

from outpost.converge.declaration import declaration as _declaration
from outpost.converge.observation import END as _END, PART as _PART, Run as _Run
from outpost.keys import secrets_file as _secrets_file
from outpost.office import load as _load

_place = _Path(__file__).parent
_office, _secrets = _load(_place), _secrets_file.read(_place)


def _bare(name):
    asking = _Run(_declaration(_office, _secrets, name), ()).asking
    states = [[each] * len(asking.units) for each in ("inactive", "disabled")]
    parts = [["", *states[0]], [], [], [], states[1], *([] for _ in asking.questions)]
    return [*(line for part in parts for line in (_PART, *part, "")), _END]


everywhere = [
    (f"@fake/{host.name}", {
        "office": _office, "secrets": _secrets, "machine": host.name, "fake_delay": 0, "fake_delay_jitter": 0,
        "fake_responses": {_END: _bare(host.name), "/etc/group": "root:x:0:", "uname -s": "Linux"},
    })
    for host in _office.hosts
]
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An office with its secrets, and an inventory of hosts that are not there."""
    place = tmp_path_factory.mktemp("office")
    shutil.copy(ROOT / "inventory" / "harbour" / "office.toml", place)
    public = secrets_file.create_identity(place / "identity.txt")
    secrets_file.write(place, secrets_file.complete(load(place), None).secrets, (public,))
    (place / "inventory.py").write_text(INVENTORY, encoding="utf-8")
    return place


@pytest.fixture(scope="module")
def declared(place: Path) -> dict[str, Declaration]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(IDENTITY_VARIABLE, str(place / "identity.txt"))
        office, secrets = load(place), secrets_file.read(place)
    return {host.name: declaration(office, secrets, host.name) for host in office.hosts}


@pytest.fixture(scope="module")
def rows(place: Path) -> list[tuple[list[str], list[str]]]:
    """A plan's rows in their order: names of the operation, and hosts that it changes."""
    done = subprocess.run(
        [sys.executable, "-m", "pyinfra", str(place / "inventory.py"), "deploy.py", "--dry", "--json"],
        cwd=ROOT,
        env=os.environ | {IDENTITY_VARIABLE: str(place / "identity.txt")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [
        (row["names"], [host.removeprefix("@fake/") for host in row["hosts_with_change"]])
        for row in json.loads(done.stdout)["plan"]
    ]


def test_on_bare_hosts_everything_declared_is_done_in_its_order(
    declared: dict[str, Declaration], rows: list[tuple[list[str], list[str]]]
) -> None:
    for host, known in declared.items():
        done = [names[0] for names, hosts in rows if host in hosts]
        packages = {title for title, item in known.titles.items() if isinstance(item, Packages)}
        wanted = [title for title in known.titles if title not in packages]
        assert [title for title in done if title in wanted] == wanted
        assert done.index("base | apt") < done.index("base | packages") < done.index("base | sysctl")


def test_a_row_is_one_thing_and_hosts_that_have_it_get_it_side_by_side(
    declared: dict[str, Declaration], rows: list[tuple[list[str], list[str]]]
) -> None:
    assert [names for names, _ in rows if len(names) != 1] == []
    names = [names[0] for names, _ in rows]
    assert sorted(names) == sorted(set(names))
    assert {frozenset(hosts) for names, hosts in rows if names == ["base | nftables"]} == {
        frozenset(declared)
    }


def test_packages_of_all_roles_are_installed_at_once(rows: list[tuple[list[str], list[str]]]) -> None:
    assert [names[0] for names, _ in rows if "packages" in names[0]][:1] == ["base | packages"]
    assert not [names for names, _ in rows if names[0].startswith("mta | packages")]


def test_two_things_of_one_name_are_refused(declared: dict[str, Declaration]) -> None:
    one, other = (settings(name="x", files=[text("/etc/x", content)]) for content in "ab")
    with pytest.raises(ValueError, match=r"mta \| x"):
        _ = Declaration((("mta", (one, other)),)).titles
    assert len(Declaration((("mta", (one, one)),)).titles) == 1
    for known in declared.values():
        assert len(known.changes) == len(list(known.of(Change))), "each has a record of its own on the host"


def test_what_is_declared_is_known_without_pyinfra(place: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from outpost.converge.declaration import declaration\n"
        "from outpost.keys import secrets_file; from outpost.office import load\n"
        "place = Path(sys.argv[1]); office = load(place)\n"
        "for host in office.hosts: declaration(office, secrets_file.read(place), host.name)\n"
        "print('pyinfra' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(place)],
        env=os.environ | {IDENTITY_VARIABLE: str(place / "identity.txt")},
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert done.stdout == "False\n"


def test_a_record_under_a_new_name_loses_neither_its_unit_nor_its_files(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A host of an earlier version has the record `old`; its unit and its files belong to `new` now."""
    listener = service(name="new", unit="stunnel@x.service", files=[text("/etc/stunnel/x.conf", "x")])
    known = Declaration((("store", (listener,)),))
    entries = ("unit stunnel@x.service", "path /etc/stunnel/x.conf", "digest 0")
    gone = ("unit gone.service", "path /etc/gone", "digest 0")
    (file,) = known.content.values()
    answer = SimpleNamespace(
        records={"old": entries, "gone": gone}, files={file.path: file.fingerprint}, units={"stunnel@x.service": ("active", "enabled")},
    )  # fmt: skip
    found: list[Finding] = []
    monkeypatch.setattr(operations, "run", lambda: Run(known))
    monkeypatch.setattr(operations, "observe", lambda: answer)
    monkeypatch.setattr(operations, "answer_to", lambda _: ())
    monkeypatch.setattr(operations, "sealing", lambda: "")
    monkeypatch.setattr(operations, "void", lambda: None)
    for module in (operations, reporting):
        monkeypatch.setattr(module, "report", found.append)
    monkeypatch.setattr(operations, "state", SimpleNamespace(is_executing=False))
    retire: Any = operations.retire
    converge: Any = operations.converge
    old, other, *_ = (str(command) for command in retire._inner())
    assert "stunnel" not in old.partition("systemctl daemon-reload")[0]
    assert "applied/old" in old
    assert "disable --now --quiet gone.service" in other
    assert "rm -f -- /etc/gone" in other
    assert [(each.kind, each.thing) for each in found] == [("unit", "gone.service"), ("file", "/etc/gone")]
    found.clear()
    assert next(converge._inner(listener))
    assert [each.cause for each in found] == ["not applied under this name yet"]
    found.clear()
    answer.files[file.path] = replace(file, content=b"y").fingerprint
    monkeypatch.setattr(
        operations, "state", SimpleNamespace(is_executing=False, config=SimpleNamespace(DIFF=True))
    )
    monkeypatch.setattr(operations, "read_now", lambda _: ("y",))
    next(converge._inner(listener))
    assert [each.cause for each in found] == ["declared differently since the last apply"]
