"""`python -m outpost`: what the launcher ./outpost starts. It reports in one line how it ended."""

import os
import signal
import sys
from contextlib import suppress

UNCHANGED = "nothing was changed"


def broken_off(words: list[str], how: str, status: int) -> int:
    """Report what is left, and return the exit code."""
    left = UNCHANGED
    with suppress(Exception):  # a module that was interrupted while it was loaded: no command has begun
        left = _left(words)
    if target := sys.modules.get("outpost.target"):  # else no office is known yet
        left = target.typeable(left)
    try:
        sys.stderr.write(f"\noutpost: {how}; {left}.\n")
        sys.stderr.flush()
    except OSError:
        pass  # this stream has no reader, either
    return status


def _left(words: list[str]) -> str:
    """The state after an interrupted command, from its entry in commands.toml."""
    from outpost.cli import COMMANDS

    console, target = (sys.modules.get(f"outpost.{name}") for name in ("cli.console", "target"))
    name = next((word for word in words if word in COMMANDS), "")
    about = COMMANDS.get(name, {})
    below = next((about[word] for word in words if isinstance(about.get(word), dict)), about)
    left = str(below.get("interrupted", about.get("interrupted", UNCHANGED)))
    begun = target and target.known() if "OFFICE" in left else True
    return left if begun and not (console and console.unchanged) else UNCHANGED


def silent() -> None:
    """Discard the remaining output: its reader has ended."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)


KEPT = {"XDG_CACHE_HOME": ".cache", "XDG_STATE_HOME": ".local/state"}
"""Variables for the directories of caches and state, and the defaults below the home directory."""


def find_room() -> None:
    """Use a temporary directory for caches and state if the home directory cannot be written."""
    home = os.path.expanduser("~")  # noqa: PTH111 (pathlib takes long to load, and raises where there is none)
    for variable, below in KEPT.items():
        place = os.environ.get(variable) or os.path.join(home, below)  # noqa: PTH118
        while not os.path.exists(place) and os.path.dirname(place) != place:  # noqa: PTH110, PTH120
            place = os.path.dirname(place)  # noqa: PTH120
        if not os.access(place, os.W_OK):
            os.environ[variable] = _passing(variable.split("_")[1].lower())
            sys.stderr.write(f"outpost: {place} cannot be written; {os.environ[variable]} is used\n")


def _passing(name: str) -> str:
    """A directory that only this user can access."""
    import tempfile

    place = os.path.join(tempfile.gettempdir(), f"outpost-{os.getuid()}")  # noqa: PTH118
    os.makedirs(place, mode=0o700, exist_ok=True)  # noqa: PTH103
    found = os.lstat(place)
    if found.st_uid != os.getuid() or found.st_mode & 0o77077 != 0o40000:
        raise SystemExit(
            f"outpost: other users may have access to {place}. Remedy: set XDG_CACHE_HOME and XDG_STATE_HOME."
        )
    return os.path.join(place, name)  # noqa: PTH118


def main(words: list[str]) -> int:
    """Run a command line; gives the exit code."""
    try:
        if os.environ.pop("OUTPOST_INTERRUPTS", ""):  # the launcher ignored them until here
            signal.signal(signal.SIGINT, signal.default_int_handler)
        find_room()
        from outpost.cli.app import run

        status = run(words)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return broken_off(words, "interrupted", 130)
    except BrokenPipeError:
        silent()
        return broken_off(words, "the program that reads the output has ended", 141)
    return status


def start() -> int:
    """The installed command `outpost`."""
    try:
        status = main(sys.argv[1:])
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # an interrupt from here on has nothing to report
        if status == 130:
            with suppress(OSError):
                sys.stdout.flush()
            os._exit(status)  # without a wait for threads that ask hosts
    except KeyboardInterrupt:  # interrupted again, during the report
        os._exit(130)
    return status


if __name__ == "__main__":
    sys.exit(start())
