"""The office that a command is about: its file, the pyinfra inventory that reaches it, the lab instance; how files of it are written."""

import os
import re
import threading
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from outpost.errors import OutpostError

ROOT = Path(__file__).resolve().parents[2]
INSTALLED = not (ROOT / "outpost").is_file()  # from a wheel, which has no launcher
INVENTORY = ROOT / "inventory"
OFFICES_VARIABLE = "OUTPOST_OFFICES"
LAB = "lab"
INSTANCE_VARIABLE = "OUTPOST_LAB"  # names the instance whose state in .lab/ inventory/lab/*.py reads
CONNECTORS = ("docker", "ssh", "vagrant")  # the first that the office has an inventory for is the default


class Target(NamedTuple):
    """The office that a command's arguments name.

    Attributes:
        name: The office's directory name.
        directory: `inventory/<office>`, or a directory elsewhere.
        data: The directory with `office.toml` and the secrets: for the lab, its instance's state.
        instance: The lab instance; None for any other office.
    """

    name: str
    directory: Path
    data: Path
    instance: str | None = None

    @property
    def office_file(self) -> Path:
        return self.data / "office.toml"

    @property
    def typed(self) -> str:
        """The office as an argument of the next command: its name if that finds it, else its path."""
        return self.name if self.directory == _named(self.name) else shown(self.directory)

    @property
    def environment(self) -> dict[str, str]:
        """The environment for pyinfra and pytest, which read the instance from it."""
        chosen = {INSTANCE_VARIABLE: self.instance} if self.instance else {}
        return os.environ | chosen

    def inventory(self, connector: str | None = None) -> Path:
        """The pyinfra inventory file that reaches the office's hosts."""
        available = [kind for kind in CONNECTORS if (self.directory / f"{kind}.py").is_file()]
        if not available or (connector or available[0]) not in available:
            wanted = f"{connector}.py" if connector else "inventory"
            remedy = (
                f"choose one of: {', '.join(available)}" if available else "copy inventory/lab/ssh.py there"
            )
            raise OutpostError(f"{shown(self.directory)} has no {wanted}", remedy)
        return self.directory / f"{connector or available[0]}.py"

    @property
    def title(self) -> str:
        """The office in a sentence."""
        return f"{self.name} (instance {self.instance})" if self.instance not in (None, LAB) else self.name


def expect_checkout() -> None:
    """Refuse a command that needs source files which a wheel does not contain."""
    if INSTALLED:
        raise OutpostError(
            "this command needs a checkout of the sources", "clone the sources, and run ./outpost there"
        )


def labs() -> Path:
    """The directory of lab instances: $OUTPOST_LAB_STATE, or .lab/ in the checkout; without a checkout the user's state directory."""
    if chosen := os.environ.get("OUTPOST_LAB_STATE"):
        return Path(chosen)
    if INSTALLED:
        return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "outpost" / "lab"
    return ROOT / ".lab"


def shown(path: Path) -> str:
    """A path relative to the current directory, if that is shorter."""
    for base in (Path.cwd(), ROOT):
        if path.is_relative_to(base):
            return str(path.relative_to(base)) or "."
    return str(path)


_found: list[Target] = []
"""The office that this command is about, once it is known."""


def known() -> bool:
    """Whether the command has got as far as its office."""
    return bool(_found)


def typeable(text: str) -> str:
    """A text in which commands stand as they can be typed here: with this program's name, and with the office of this command."""
    if _found and " OFFICE" in text:
        import shlex  # slow to load

        office = shlex.quote(_found[-1].typed)
        text = re.sub(r"(\./outpost [a-z]+(?: [a-z]+)?) OFFICE\b", lambda match: f"{match[1]} {office}", text)
    return text.replace("./outpost ", "outpost ") if INSTALLED else text


def written(file: Path, content: str | bytes, *, mode: int = 0o600, durable: bool = False) -> Path:
    """Write a file completely or not at all; nobody else may read its directory, if it has to be made.

    Args:
        durable: Wait until it is on the disk.
    """
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # several threads may write it
    new = file.with_name(f".{file.name}.{os.getpid()}-{threading.get_ident()}")
    try:
        new.touch(mode=0o600)
        new.write_bytes(content if isinstance(content, bytes) else content.encode())
        new.chmod(mode)
        if durable:
            with new.open("rb") as whole:
                os.fsync(whole.fileno())
        return new.replace(file)
    except OSError:
        new.unlink(missing_ok=True)
        raise


def offices_directory() -> Path:
    """The directory of offices: $OUTPOST_OFFICES (`--offices`), the working directory if it contains offices, else inventory/.

    Directories above the working directory are not searched: an office has code, and they may be another user's.
    """
    here = Path.cwd()
    if chosen := os.environ.get(OFFICES_VARIABLE):
        if not Path(chosen).is_dir():
            raise OutpostError(
                f"{OFFICES_VARIABLE} (--offices) names {chosen}, which is not a directory", f"mkdir {chosen}"
            )
        return Path(chosen).resolve()
    return here if INSTALLED or any(here.glob("*/office.toml")) else INVENTORY


def offices() -> list[str]:
    return sorted({LAB, *(file.parent.name for file in offices_directory().glob("*/office.toml"))})


def _named(office: str) -> Path | None:
    """The directory that a name stands for: the user's own office before those that come with Outpost; `lab` is always Outpost's."""
    places = (INVENTORY,) if office == LAB else (offices_directory(), INVENTORY)
    return next((place / office for place in places if (place / office).is_dir()), None)


def _declared(name: str) -> Path | None:
    """The only office with this name in its file; a running lab counts."""
    import tomllib

    own = offices_directory().glob("*/office.toml")
    places = {file: file.parent for file in own if file.parent.name != LAB}
    places[labs() / LAB / "office.toml"] = INVENTORY / LAB
    found = set()
    for file, directory in places.items():
        with suppress(OSError, ValueError):
            if tomllib.loads(file.read_text(encoding="utf-8")).get("name") == name:
                found.add(directory)
    return found.pop() if len(found) == 1 else None


def find(office: str, instance: str | None = None) -> Target:
    """The target of `OFFICE` and `--name`; messages name this office from now on.

    Args:
        office: A name (`offices_directory`), or the path of an office directory or its office.toml, or the `name` in that file.
        instance: The lab instance; only for the office `lab`, where it defaults to `lab`.
    """
    path = Path(office)
    if re.fullmatch(r"[\w.-]+", office) and (named := _named(office)):
        directory = named
    elif path.exists():
        path = path.resolve()
        directory = path if path.is_dir() else path.parent
    elif declared := _declared(office):
        directory = declared
    else:
        import difflib  # takes longer to load than everything else here

        known = offices()
        close = difflib.get_close_matches(office, known, n=1)
        remedy = (
            f"did you mean {close[0]}?" if close else f"choose one of: {', '.join(known)}; or give a path"
        )
        raise OutpostError(f"there is no office {office}", remedy)
    if directory != INVENTORY / LAB:
        if instance:
            raise OutpostError(
                f"--name {instance} selects a lab instance, and {office} is not a lab", "leave it out"
            )
        target = Target(directory.name, directory, directory)
    else:
        instance = instance or LAB
        state = labs() / instance
        if not (state / "office.toml").is_file():
            remedy = f"./outpost lab up --name {instance}"
            raise OutpostError(f"the lab instance {instance} does not run", remedy)
        target = Target(LAB, directory, state, instance)
    _found[:] = [target]
    return target
