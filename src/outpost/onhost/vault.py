"""Keeps the backups of an office on the backup server. No statement of a host decides what stays (docs/adr/0022).

BKP-01. Standard library and borg. `outpost backup OFFICE --other-end` installs it; its settings stand beside it. A host's key
starts ``borg serve --append-only`` and nothing else; borg only adds files there. Three commands:

- ``copy`` (root, by a timer): each day's copy of every repository, as hard links. The linked files become root's, so neither a
  host's key nor the account behind it can change them.
- ``thin-out`` (the office's account, by a key that is on no host): examines new archives, and deletes old ones.
- ``roll-back HOST DATE`` (root, by hand): puts a copy in the place of a repository.
"""

from __future__ import annotations

import fcntl
import json
import os
import pwd
import re
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

DAY = 86400.0
NAME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{6}Z-[0-9]{3}", re.ASCII)
DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
CLOCKS = 300.0
"""Seconds by which two clocks may differ."""
SPARE = 24
"""Archives besides the timer's that may come between two runs: backups by hand, drills."""
MOST_FILES = 50_000
"""Most files of a repository. A backup makes a few, of up to 500 MB; borg's quota counts their content, and not the files."""
COPIES = 30
"""Days for which copies are kept. A compromised host must be noticed within them."""
COMPACTED = 7 * DAY
"""Least time between two compactions. What is marked as deleted stays readable until the next one."""
WAITED = ("--lock-wait", "600")


class VaultError(Exception):
    """A repository that an administrator has to examine."""


@dataclass
class Known:
    """What the last run found, by this machine's clock."""

    archives: dict[str, str] = field(default_factory=dict)  # ID to name
    latest: float = 0.0
    examined: float = 0.0
    compacted: float = 0.0


def objections(
    known: Known, found: list[tuple[str, str, float]], now: float, every: float, oldest: float
) -> Iterator[str]:
    """Yields reasons why the archives (ID, name, time) of a repository cannot all come from an honest host since the last run.

    Names are printed only if they have the form that the backup gives them.
    """
    present = {identifier for identifier, _, _ in found}
    if gone := sorted(name for identifier, name in known.archives.items() if identifier not in present):
        yield f"deleted by the host: {' '.join(gone[:5])}{f' and {len(gone) - 5} more' if len(gone) > 5 else ''}"
    new = [entry for entry in found if entry[0] not in known.archives]
    if strange := sum(1 for _, name, _ in new if not NAME.fullmatch(name)):
        yield f"{strange} archives with names that the backup does not give"
    for _, name, moment in new:
        if not NAME.fullmatch(name):
            continue
        if moment > now + CLOCKS or _named(name) > now + CLOCKS:
            yield f"dated into the future: {name}"
        elif moment <= known.latest or abs(moment - _named(name)) > 2 * CLOCKS:
            yield f"dated back: {name}"
    if known.examined and len(new) > SPARE + 2 * (now - known.examined) / every:
        yield f"{len(new)} archives since {_shown(known.examined)}, more than its timer makes"
    newest = max((moment for _, _, moment in found), default=0.0)
    if newest < now - oldest:
        yield f"no archive since {_shown(newest)}" if newest else "no archive"


def _named(name: str) -> float:
    try:
        return datetime.strptime(name[:18], "%Y-%m-%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return float("inf")


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def _shown(moment: float) -> str:
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M} UTC"


class Vault:
    """The directory of one office."""

    def __init__(self, top: Path, settings: dict[str, Any]) -> None:
        self.top, self.settings = top, settings
        self.repositories, self.copies = top / "repositories", top / "copies"

    # The office's account ------------------------------------------------------------------------------------------

    def thin_out(self, host: str, passphrase: str) -> str:
        """Examine a repository and delete old archives; returns the result as text."""
        repository = self.repositories / host
        if not repository.is_dir():
            return "nothing kept yet"
        now = time.time()
        with self._without(host):
            if (files := max(map(_files, self._written(host)))) > MOST_FILES:
                raise VaultError(f"{files} files, more than its archives need")
            file = self.repositories / f"{host}.known"
            known = Known(**json.loads(file.read_text(encoding="utf-8"))) if file.exists() else Known()
            found = self._archives(repository, passphrase)
            if why := list(objections(known, found, now, self.settings["every"], self.settings["oldest"])):
                raise VaultError("; ".join(why[:5]))
            due = bool(known.compacted) and now - known.compacted >= COMPACTED
            # All of it is read here: a host can delete the data of an archive and leave the archive.
            self._borg(repository, passphrase, "check", *(("--verify-data",) if due else ()))
            if due:
                self._copied_lately(host, now)
                keep = [
                    f"--keep-{unit}={self.settings[unit]}"
                    for unit in ("hourly", "daily", "weekly", "monthly")
                ]
                # Borg has noted the host's quota in it, and would refuse to prune when that is used up.
                self._borg(repository, passphrase, "config", "--delete", str(repository), "storage_quota")
                self._borg(repository, passphrase, "prune", *keep)
                self._borg(repository, passphrase, "compact")
                found = self._archives(repository, passphrase)
            known = Known(
                {identifier: name for identifier, name, _ in found},
                max([known.latest, *(moment for _, _, moment in found)]),
                now,
                now if due or not known.compacted else known.compacted,
            )
            partial = file.with_suffix(".new")
            partial.write_text(json.dumps(vars(known)), encoding="utf-8")
            partial.replace(file)
        return f"{len(found)} archives, undamaged{', old ones were deleted' if due else ''}"

    @contextmanager
    def _without(self, host: str) -> Iterator[None]:
        """The host's key starts nothing meanwhile: a host may break borg's own lock."""
        with (self.top / "locks" / host).open("rb") as lock:
            deadline = time.monotonic() + 600
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise VaultError("its host has been connected for more than ten minutes") from None
                    time.sleep(0.5)
            yield

    def _copied_lately(self, host: str, now: float) -> None:
        dates = self._dates(host)
        if not dates or now - _moment(dates[-1]) > 2 * DAY:
            raise VaultError("no copy of today or yesterday: systemctl status 'outpost-vault-*'")

    def _archives(self, repository: Path, passphrase: str) -> list[tuple[str, str, float]]:
        listed = json.loads(self._borg(repository, passphrase, "list", "--json"))
        return [(entry["id"], entry["name"], _moment(entry["time"])) for entry in listed["archives"]]

    def _borg(self, repository: Path, passphrase: str, command: str, *arguments: str) -> str:
        environment = os.environ | {
            "BORG_REPO": str(repository),
            "BORG_PASSPHRASE": passphrase,
            "BORG_BASE_DIR": str(self.repositories / ".borg"),
            "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes",
            "BORG_EXIT_CODES": "modern",
            "LC_ALL": "C.UTF-8",
            "TZ": "UTC",
        }
        words = ["borg", command, *WAITED, *arguments]
        done = subprocess.run(
            words, env=environment, capture_output=True, text=True, errors="replace", check=False
        )
        if done.returncode and (done.returncode < 100 or command == "check"):
            lines = done.stderr.strip().splitlines() or [f"code {done.returncode}"]
            why = next((line for line in lines if "rror" in line or "issing" in line), lines[-1])
            raise VaultError(f"borg {command}: {why[:200]}")
        return done.stdout

    # root ----------------------------------------------------------------------------------------------------------

    def copy(self, host: str) -> None:
        """Make today's copy of a repository, and keep at most `COPIES` of them."""
        repository, place = self.repositories / host, self.copies / host
        for written in self._written(host):
            if _files(written) > MOST_FILES:
                _closed(written)
                raise VaultError(
                    "too many files: the repository was not copied, and the server accepts no more for this host"
                )
        today = place / f"{datetime.now(UTC):%Y-%m-%d}"
        if today.exists() or not (repository / "config").exists():
            return
        owner = pwd.getpwnam(self.settings["account"])
        partial = place / ".new"
        shutil.rmtree(partial, ignore_errors=True)
        (partial / "data").mkdir(parents=True)
        with _directory(repository) as source:
            for directory, _, files, here in os.fwalk("data", dir_fd=source):
                (partial / directory).mkdir(exist_ok=True)
                for name in files:
                    path = partial / directory / name
                    os.link(name, path, src_dir_fd=here, follow_symlinks=False)
                    if not stat.S_ISREG(path.lstat().st_mode):
                        path.unlink()  # borg makes none
                        continue
                    os.chown(path, 0, owner.pw_gid, follow_symlinks=False)
                    path.chmod(0o440)
            for name in ("config", "README", "nonce"):
                _copied(name, source, partial / name)
        partial.rename(today)
        for date in self._dates(host)[:-COPIES]:
            shutil.rmtree(place / date)

    def _written(self, host: str) -> tuple[Path, Path]:
        """The repositories that a host's key opens; the first only shows what the key may do."""
        return self.repositories / f"{host}.probe", self.repositories / host

    def roll_back(self, host: str, date: str) -> None:
        """Put a copy in the place of a repository, which is kept beside it."""
        if date not in self._dates(host):
            raise VaultError(f"no copy of that day; there are: {' '.join(self._dates(host))}")
        owner = pwd.getpwnam(self.settings["account"])
        repository, copy = self.repositories / host, self.copies / host / date
        fresh = self.copies / host / ".back"
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.copytree(copy, fresh, copy_function=_linked_or_copied)
        # Not the files below data: they are the copy's own, too. The directory itself comes last: until then the account cannot enter it
        for path in (*fresh.glob("data/**/"), *fresh.iterdir(), fresh):
            os.chown(path, owner.pw_uid, owner.pw_gid, follow_symlinks=False)
        with self._without(host):
            if repository.exists():
                repository.rename(self.repositories / f"{host}.refused-{int(time.time())}")
            fresh.rename(repository)
            (self.repositories / f"{host}.known").unlink(missing_ok=True)
            shutil.rmtree(self.repositories / ".borg", ignore_errors=True)

    def _dates(self, host: str) -> list[str]:
        return sorted(path.name for path in (self.copies / host).glob("*") if DATE.fullmatch(path.name))


def _files(repository: Path) -> int:
    return sum(len(names) for _, _, names in os.walk(repository / "data"))


def _closed(repository: Path) -> None:
    """Keep borg from writing more: it needs a new directory for every thousand files, and can make none until a roll-back."""
    with _directory(repository) as source, _directory("data", source) as data:
        os.fchown(data, 0, -1)
        os.fchmod(data, 0o750)


@contextmanager
def _directory(path: Path | str, above: int | None = None) -> Iterator[int]:
    """Open a directory, and nothing that a link leads to."""
    opened = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=above)
    try:
        yield opened
    finally:
        os.close(opened)


def _copied(name: str, source: int, into: Path) -> None:
    """Borg writes these in place, so they are copied."""
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=source)
    except FileNotFoundError:
        return
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor
        into.write_bytes(file.read(1 << 20))


def _linked_or_copied(source: str, target: str) -> None:
    if Path(source).parent.parent.name == "data":
        os.link(source, target)
    else:
        shutil.copy2(source, target)


def main(arguments: list[str] | None = None) -> int:
    """The command line; ``thin-out`` reads lines of ``HOST PASSPHRASE``."""
    command, *rest = sys.argv[1:] if arguments is None else arguments
    top = Path(__file__).resolve().parent
    vault = Vault(top, json.loads((top / "vault.json").read_text(encoding="utf-8")))
    hosts: list[str] = vault.settings["hosts"]
    tasks: list[tuple[str, ...]] = [(host,) for host in hosts]
    if command == "thin-out":
        tasks = [
            (host, word)
            for host, _, word in (line.strip().partition(" ") for line in sys.stdin)
            if host in hosts
        ]
    elif command == "roll-back":
        tasks = [(rest[0], rest[1])] if len(rest) == 2 and rest[0] in hosts else []
    run = {"copy": vault.copy, "thin-out": vault.thin_out, "roll-back": vault.roll_back}[command]
    failed = not tasks
    for host, *more in tasks:
        try:
            result = run(host, *more)  # type: ignore[operator]
        except (VaultError, OSError, ValueError, KeyError, TypeError) as error:
            result, failed = f"refused: {error}", True
        if result:
            sys.stdout.write(f"{host}: {result}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
