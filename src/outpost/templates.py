"""Jinja2 as every template of plain text expects it: configuration files, shell scripts, what is printed."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined


def environment(directory: Path) -> Environment:
    """For the templates below a directory; an undefined name is an error, and nothing is escaped.

    Pages of HTML that are among them escape by themselves.
    """
    return Environment(
        loader=FileSystemLoader(directory),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 (see above)
    )
