"""Files as a role wants them on a host: rendered from templates, or one of our own programs."""

import hashlib
import inspect
import json
import shlex
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any

from jinja2 import Environment

from outpost.onhost.observe import KEY, OBSERVER
from outpost.target import ROOT
from outpost.templates import environment, render

TEMPLATES = ROOT / "templates"
LIB = "/usr/local/lib/outpost"
"""Directory of the office's own programs on the hosts."""
STATE = "/var/lib/outpost"
APPLIED = f"{STATE}/applied"
PREVIOUS = f"{STATE}/previous"
DECLARED = f"{STATE}/declared"
ARMED = f"{STATE}/armed"
PACKAGES = f"{STATE}/packages"
NOLOGIN = "/usr/sbin/nologin"
RUN = "/run/outpost"
LOCK = f"{RUN}/lock"
"""The lock of everything that changes the host (`operations.alone`)."""
WITH_KEY = f'{KEY}="${{{KEY}-}}" {OBSERVER}'
"""Shell that starts the observer with the office's secret, which `operations.alone` has read from standard input."""


@dataclass(frozen=True)
class File:
    """A file that a host must have.

    Attributes:
        content: Its bytes; text is encoded as UTF-8.
        mode: Octal permissions as text.
        secret: Its content is never shown in a diff.
    """

    path: str
    content: bytes = field(repr=False)
    mode: str = "0644"
    owner: str = "root"
    group: str = "root"
    secret: bool = False

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def fingerprint(self) -> tuple[str, str, str, str]:
        return (self.mode.lstrip("0") or "0", self.owner, self.group, self.sha256)


def text(
    path: str,
    content: str,
    *,
    mode: str = "0644",
    owner: str = "root",
    group: str = "root",
    secret: bool = False,
) -> File:
    return File(path, content.encode(), mode, owner, group, secret)


def as_json(path: str, data: object) -> File:
    """The settings of one of our programs; they contain no secret."""
    return text(path, json.dumps(data, indent=1) + "\n")


def program(path: str, module: ModuleType, *, mode: str = "0644") -> File:
    """One of our modules as a program on the host: it needs only Python's standard library."""
    return text(path, inspect.getsource(module), mode=mode)


def package(place: str, module: ModuleType) -> list[File]:
    """One of our packages with all its modules, importable if `place` is on Python's path; it needs only the standard library."""
    below = f"{place}/{module.__name__.replace('.', '/')}"
    sources = sorted(Path(inspect.getfile(module)).parent.glob("*.py"))
    return [text(f"{below}/{source.name}", source.read_text(encoding="utf-8")) for source in sources]


def parses(*programs: str) -> str:
    """A check for `service` and `settings`: the host's Python can read the programs."""
    source = "import ast, sys; [ast.parse(open(name).read()) for name in sys.argv[1:]]"
    return f"python3 -B -c '{source}' {' '.join(programs)}"


@cache
def _scripts() -> Environment:
    made = environment(Path(__file__).with_name("shell"))
    made.filters |= {"quote": shlex.quote, "above": lambda path: str(PurePosixPath(path).parent)}
    made.globals |= {name: value for name, value in globals().items() if name.isupper()}
    return made


def shell(name: str, **context: Any) -> str:
    """A script that changes a host, rendered from its template beside this module, without the final line feed."""
    return render(_scripts(), f"{name}.sh.j2", context).removesuffix("\n")


def rendered(
    role: str,
    path: str,
    *,
    template: str | None = None,
    mode: str = "0644",
    owner: str = "root",
    group: str = "root",
    secret: bool = False,
    **context: Any,
) -> File:
    """The file at `path` from ``templates/<role><path>.j2`` (or the `template` named, relative to the role)."""
    source = f"{role}/{(template or path).lstrip('/')}.j2"
    content = render(environment(TEMPLATES), source, context)
    return text(path, content, mode=mode, owner=owner, group=group, secret=secret)


def below(role: str, path: str, **options: Any) -> list[File]:
    """Every file that a role has a template for below a directory."""
    top = TEMPLATES / role
    found = sorted((top / path.lstrip("/")).rglob("*.j2"))
    return [rendered(role, f"/{file.relative_to(top).with_suffix('')}", **options) for file in found]


def stunnel(name: str, *, after: str, openssl: str, also_in: str = "", runtime: str = "") -> File:
    """The sandbox of `stunnel@NAME.service`; `after` is the unit behind it, `also_in` a further group, `runtime` a directory below /run."""
    template, path = (f"etc/systemd/system/stunnel@{one}.service.d/outpost.conf" for one in ("", name))
    return rendered(
        "base", f"/{path}", template=template, after=after, openssl=openssl, also_in=also_in, runtime=runtime
    )
