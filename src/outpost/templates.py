"""Jinja2 for all templates of plain text: configuration files, shell scripts, printed text."""

import traceback
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, TemplateNotFound, TemplateSyntaxError

from outpost.errors import OutpostError


class TemplateMistakeError(Exception):
    """A template that cannot be rendered: file, line, and the problem."""

    def __init__(self, place: str, problem: str) -> None:
        self.message, self.remedy = f"{place}: {problem}", f"correct {place}"
        super().__init__(f"{self.message}. Remedy: {self.remedy}.")


def render(templates: Environment, name: str, context: Mapping[str, Any]) -> str:
    try:
        return templates.get_template(name).render(context)
    except TemplateSyntaxError as error:
        raise TemplateMistakeError(
            f"{_shown(error.filename or name)}:{error.lineno}", str(error.message)
        ) from error
    except TemplateNotFound as error:
        raise TemplateMistakeError(f"templates/{name}", f"there is no template {error}") from error
    except OutpostError:
        raise  # it has a remedy of its own
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        inside = [frame for frame in frames if frame.filename.endswith(".j2")]
        if not inside:
            raise
        place = f"{_shown(inside[-1].filename)}:{inside[-1].lineno}"
        raise TemplateMistakeError(place, f"{type(error).__name__}: {error}") from error


def _shown(file: str) -> str:
    """A template's path relative to the checkout."""
    return file[file.rfind("/templates/") + 1 :]


@cache
def environment(directory: Path) -> Environment:
    """The environment for templates below a directory; an undefined name is an error, and nothing is escaped.

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
