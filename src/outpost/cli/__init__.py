"""The command line, on top of everything. Nothing imports it but `outpost.__main__`.

`commands.toml` has every command with its help and options; each is a function in the module of its subject, which is imported
when the command runs. Only this package may import `outpost_lab`, and only when a command of the lab runs.
"""

import tomllib
from pathlib import Path
from typing import Any

COMMANDS: dict[str, dict[str, Any]] = tomllib.loads(
    Path(__file__).with_name("commands.toml").read_text(encoding="utf-8")
)
PROGRAM = COMMANDS.pop("outpost")
