"""What PHP may get from a restored webmail database."""

import sqlite3
import subprocess
from pathlib import Path

import pytest

from outpost.target import ROOT
from roles.webmail.declare import DATABASE_TOOL

ARRAY = 'a:2:{s:8:"timezone";s:4:"auto";s:3:"sig";s:3:"O:1";}'
OBJECT = 'O:8:"stdClass":0:{}'
HOSTILE = (
    OBJECT,
    f"a:1:{{i:0;{OBJECT}}}",
    f'a:2:{{s:1:"\0";i:1;i:0;{OBJECT}}}',
    'a:1:{i:0;C:11:"ArrayObject":0:{}}',
    'a:1:{i:0;E:7:"Foo:Bar";}',
    OBJECT.encode(),
)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    place = tmp_path / "roundcube.sqlite"
    with sqlite3.connect(place) as made:
        made.execute("CREATE TABLE users (username, preferences)")
        made.execute("CREATE TABLE searches (name, data)")
        made.execute("INSERT INTO users VALUES ('usual', ?), ('new', NULL)", (ARRAY,))
    return place


def tool(database: Path, action: str) -> str:
    source = (ROOT / "templates/webmail" / f"{DATABASE_TOOL[1:]}.j2").read_text(encoding="utf-8")
    script = source.replace("/var/lib/roundcube/db/roundcube.sqlite", str(database))
    done = subprocess.run(["sh", "-c", script, "sh", action], capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize(("table", "column"), [("users", "preferences"), ("searches", "data")])
def test_no_object_reaches_php(database: Path, table: str, column: str, hostile: str | bytes) -> None:
    with sqlite3.connect(database) as opened:
        opened.execute(f"INSERT INTO {table} VALUES ('evil', ?)", (hostile,))
    assert tool(database, "objects") == "evil\n"
    tool(database, "reset")
    assert tool(database, "objects") == ""
    with sqlite3.connect(database) as opened:
        assert opened.execute("SELECT preferences FROM users WHERE username = 'usual'").fetchone() == (ARRAY,)
        assert not opened.execute(f"SELECT 1 FROM {table} WHERE {column} = ?", (hostile,)).fetchall()


def test_a_database_of_strangers_shape_is_no_clean_one(database: Path) -> None:
    with sqlite3.connect(database) as opened:
        opened.execute("DROP TABLE searches")
    with pytest.raises(subprocess.CalledProcessError):
        tool(database, "objects")
