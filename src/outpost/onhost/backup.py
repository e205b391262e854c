"""Backs its host up to head office and restores it: borg does the work, and this program decides what borg gets.

BKP-01. Standard library only and one file: it runs on the hosts, and on a host that is still empty. ``/etc/outpost/backup/settings.json``
says what is kept (`outpost.office.backup`); each source is of a kind:

- ``mail``: a tree of Maildirs. Every message is linked into a snapshot beside it: a message is a file that never changes, so a link
  is a copy. What Dovecot writes in place (UIDs, keywords, indexes with what only they know) is copied. Then the daemon's processes
  are stopped (SIGSTOP) while what changed meanwhile is brought up to date. The snapshot shows all mailboxes at one moment, as a power
  cut would; sessions wait and do not end. Search indexes and caches are left out: they are made again.
- ``sqlite``: a database, by SQLite's own online copy, which a process of its owner makes.
- ``knot``: the name server's signing keys, by its own backup.
- ``copy``: files as they are.

Each source has an owner. What is done below its path is done with that owner's rights: the owner's processes could put a link
where root would follow it. An archive is hostile input, too: only declared paths come back from it, and only as plain files.

Commands: ``run``, ``clean``, ``list``, ``check``, ``extract`` (or its halves ``export`` and ``unpack``), ``manifest``, ``probe``.
They print JSON.
"""

import argparse
import errno
import fcntl
import fnmatch
import hashlib
import json
import os
import pwd
import re
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BufferedReader
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

SETTINGS = Path("/etc/outpost/backup/settings.json")
LINKED = ("cur", "new")
"""Directories of a Maildir whose files never change: a flag is a new name."""
COMPILED = "*.svbin"
"""Filters in Dovecot's compiled form. Dovecot makes them again, and would run a foreign one, too."""
LEFT_OUT = (
    COMPILED, "fts-flatcurve", "dovecot.index.cache", "dovecot.list.index*", "tmp", ".snapshot", ".restored-*",
    "*.lock",
)  # fmt: skip
MAIL, REST = "mail", "rest"
LONGEST_LIST = 1 << 28
"""Most octets of a mailbox's list of UIDs."""
OF_HEADER = re.compile(r" ([VN])(\d{1,10})\b", re.ASCII)
OF_MESSAGE = re.compile(r"(\d{1,10})[^:]*:(.*)", re.ASCII)
"""Lines of such a list."""
PIECE = 1 << 20
SPARE = 1 << 29
"""Octets of the disk that copies for an archive leave free."""
COPY_PATIENCE = 600.0
"""Seconds for the copy of a daemon's database."""
STILL_WITHIN = 10.0
"""Seconds until all processes must have stopped: a process finishes its current write."""
WAITED = ("--lock-wait", "600")
QUOTA = "storage quota"
"""Part of borg's message when the server accepts no more (``borg serve --storage-quota``)."""
FULL = "full"
"""File beside ``last.json`` while the quota is used up, for the alarm (`outpost.onhost.watch`)."""


OF_THE_ENTRY = (
    errno.EEXIST, errno.EILSEQ, errno.EINVAL, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOENT, errno.ENOTDIR,
)  # fmt: skip
"""Errors for which only the one entry of an archive is left out: a compromised host chose its name."""


NO_FILE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO)
"""Errors for names that are not files: deleted meanwhile, a link, a socket."""


ONLINE_COPY = """
import sqlite3, sys
live, copy = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True), sqlite3.connect(":memory:")
live.backup(copy)
sys.stdout.buffer.write(copy.serialize())
"""


class BackupError(Exception):
    """A failure that an administrator has to examine."""


class Backup:
    """One host's backup, from its settings."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.secrets, self.state = Path(settings["secrets"]), Path(settings["state"])
        self.stage = self.state / "stage"
        self.mail = next((source for source in settings["sources"] if source["kind"] == "mail"), None)
        self.frozen = 0.0

    # borg ---------------------------------------------------------------------------------------------------

    @property
    def environment(self) -> dict[str, str]:
        """Environment with which borg finds its keys; its arguments contain no secret."""
        shell = (
            f"ssh -F none -i {self.secrets}/key -o IdentitiesOnly=yes -o UserKnownHostsFile={self.secrets}/known_hosts "
            f"-o HostKeyAlias={self.settings['known_name']} -o GlobalKnownHostsFile=/dev/null -o StrictHostKeyChecking=yes -o BatchMode=yes "
            "-o ConnectTimeout=30 -o ServerAliveInterval=30"
        )
        return os.environ | {
            "BORG_REPO": self.settings["repository"],
            "BORG_RSH": shell,
            "BORG_PASSCOMMAND": f"cat {self.secrets}/passphrase",
            "BORG_BASE_DIR": str(self.state),
            "BORG_EXIT_CODES": "modern",
            "LC_ALL": "C.UTF-8",
        }

    def borg(self, *arguments: str, **variables: str) -> str:
        """Run borg; returns its output."""
        output, errors = self._tried(*arguments, **variables)
        if errors:
            lines = errors.splitlines()
            raise BackupError(
                f"borg {arguments[0]}: {next((line for line in lines if QUOTA in line), lines[-1])}"
            )
        return output

    def _tried(self, *arguments: str, **variables: str) -> tuple[str, str]:
        """borg's output, and its messages if it fails."""
        command, environment = ["borg", *arguments], self.environment | variables
        done = subprocess.run(
            command, cwd="/", env=environment, capture_output=True, text=True, errors="replace", check=False
        )
        if done.returncode and done.returncode < 100:
            return done.stdout, done.stderr.strip() or str(done.returncode)
        return done.stdout, ""

    def archives(self) -> list[dict[str, str]]:
        """Every archive, the oldest first."""
        found: list[dict[str, str]] = json.loads(self.borg("list", *WAITED, "--json"))["archives"]
        return found

    def ensure(self) -> None:
        """The repository; the first backup makes it."""
        try:
            self.borg("info", *WAITED, "--json")
        except BackupError as error:
            if "does not exist" not in str(error) and "not a valid repository" not in str(error):
                raise
            self.borg("init", "--encryption", "repokey-blake2", "--make-parent-dirs")

    # What is kept ---------------------------------------------------------------------------------------------

    @contextmanager
    def snapshot(self) -> Iterator[list[str]]:
        """Arrange the files for borg as paths below ``/``; they are removed afterwards."""
        shutil.rmtree(self.stage, ignore_errors=True)
        self.stage.mkdir(parents=True, mode=0o700)
        try:
            for source in self.settings["sources"]:
                getattr(self, f"_{source['kind']}")(source)
            shown = [*([self.mail["snapshot"]] if self.mail else []), str(self.stage)]
            yield [path.lstrip("/") for path in shown]
        finally:
            self.clean()

    def clean(self) -> None:
        """Remove the remains of a killed backup."""
        shutil.rmtree(self.stage, ignore_errors=True)
        if self.mail:
            with as_owner(self.mail):
                _gone(self.mail["snapshot"])

    def _mail(self, source: dict[str, Any]) -> None:
        top, into = source["path"], source["snapshot"]
        with as_owner(source):
            _gone(into)
            seen: dict[str, Seen] = {}
            linked_tree(top, into, seen)
        with self._still(source["still"]), as_owner(source):
            linked_tree(top, into, seen)

    @contextmanager
    def _still(self, unit: str) -> Iterator[None]:
        """Stop the unit's processes; they always continue afterwards (the unit's ExecStopPost does it if this program is killed)."""
        began = time.monotonic()
        deadline = began + STILL_WITHIN
        try:
            while moving := [pid for pid, state in members(unit) if state not in "TtZX"]:
                if time.monotonic() > deadline:
                    raise BackupError(f"processes of {unit} could not be stopped for the snapshot: {moving}")
                subprocess.run(
                    ["systemctl", "kill", "--signal=SIGSTOP", unit], capture_output=True, check=False
                )
                time.sleep(0.01)
            yield
        finally:
            subprocess.run(["systemctl", "kill", "--signal=SIGCONT", unit], capture_output=True, check=False)
            self.frozen = time.monotonic() - began

    def _sqlite(self, source: dict[str, Any]) -> None:
        path = Path(source["path"])
        if not os.path.lexists(path):
            return
        if not stat.S_ISREG(path.lstat().st_mode):  # root would copy what the daemon's link leads to
            raise BackupError(f"{path} is not a regular file")
        # SYS-01: without it root parses a database that its owner made; the process below only passes on bytes for the archive.
        with self._staged(path).open("wb") as copy:
            try:
                done = subprocess.run(
                    [sys.executable, "-I", "-c", ONLINE_COPY, str(path)], timeout=COPY_PATIENCE,
                    stdout=copy, stderr=subprocess.PIPE, check=False, cwd="/", env={}, **rights_of(source),
                )  # fmt: skip
            except subprocess.TimeoutExpired as error:  # somebody has locked it
                raise BackupError(f"{path} could not be copied within {COPY_PATIENCE} s") from error
        if done.returncode:
            raise BackupError(
                f"{path}: {done.stderr.decode(errors='replace').strip()[-200:] or done.returncode}"
            )

    def _knot(self, source: dict[str, Any]) -> None:
        shutil.rmtree(source["path"], ignore_errors=True)
        done = subprocess.run(
            ["knotc", "--blocking", "--timeout", "120", "zone-backup", "+backupdir", source["path"], "+nozonefile"],
            capture_output=True, text=True, errors="replace", check=False,
        )  # fmt: skip
        if done.returncode:
            raise BackupError(f"knotc zone-backup: {(done.stderr or done.stdout).strip()}")
        into = self._staged(Path(source["path"]))
        copied_tree(Path(source["path"]), into, source)
        shutil.rmtree(source["path"], ignore_errors=True)

    def _copy(self, source: dict[str, Any]) -> None:
        path = Path(source["path"])
        if path.exists():
            copied_tree(path, self._staged(path), source)

    def _staged(self, path: Path) -> Path:
        into = self.stage / str(path).lstrip("/")
        into.parent.mkdir(parents=True, exist_ok=True)
        return into

    # Commands -------------------------------------------------------------------------------------------------

    def run(self, *, with_manifest: bool = False) -> dict[str, Any]:
        """Make an archive, and store the result for `verify`."""
        self.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self.state / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            began, started = time.monotonic(), datetime.now(UTC)
            self.ensure()
            rate = ("--upload-ratelimit", str(self.settings["rate"])) if self.settings["rate"] else ()
            found: dict[str, Any] | None = None
            with self.snapshot() as shown:
                started = datetime.now(UTC)
                output = self._create(
                    "create", *WAITED, *rate, "--json", "--compression", "zstd", "--files-cache", "mtime,size,inode",
                    "--checkpoint-interval", "600", f"::{started:%Y-%m-%dT%H%M%SZ}-{started.microsecond // 1000:03}",
                    *shown,
                )  # fmt: skip
                if with_manifest:
                    found = manifest(Path(self.mail["snapshot"]) if self.mail else None, self.stage)
            made = json.loads(output)["archive"]
            outcome: dict[str, Any] = {
                "archive": made["name"],
                "id": made["id"],
                "started": started.isoformat(timespec="seconds"),
                "finished": datetime.now(UTC).isoformat(timespec="seconds"),
                "seconds": round(time.monotonic() - began, 1),
                "frozen": round(self.frozen, 3),
                "files": made["stats"]["nfiles"],
                "size": made["stats"]["original_size"],
                "added": made["stats"]["deduplicated_size"],
            }
            partial = self.state / "last.new"
            partial.write_text(json.dumps(outcome, indent=1) + "\n", encoding="utf-8")
            partial.replace(self.state / "last.json")
        return outcome | ({"manifest": found} if found is not None else {})

    def _create(self, *arguments: str) -> str:
        full = self.state / FULL
        try:
            output = self.borg(*arguments)
        except BackupError as error:
            if QUOTA in str(error):
                full.touch()
            raise
        full.unlink(missing_ok=True)
        return output

    def extract(self, archive: str, into: dict[str, Path], below: str = "", only: str = "") -> str:
        """Restore the mail, the rest or both, each below a directory; returns the archive's name.

        Args:
            archive: Its name; ``latest``.
            into: ``mail`` → where the mailboxes go, ``rest`` → where ``/`` is.
            below: Only this part of the mail.
            only: Of the rest, only the source with this path.
        """
        names = [entry["name"] for entry in self.archives()]
        if not names:
            raise BackupError("there is no archive yet")
        name = names[-1] if archive == "latest" else archive
        if name not in names:
            raise BackupError(f"there is no archive {name}; the latest is {names[-1]}")
        refused = 0
        for source in self.settings["sources"]:
            kind = MAIL if source["kind"] == "mail" else REST
            if kind in into and (kind == MAIL or only in ("", source["path"])):
                _, place, _ = self.archived(source)
                refused += self._extract(
                    name, source, into[kind] / ("" if kind == MAIL else place.lstrip("/")), below
                )
        if refused:
            sys.stderr.write(
                f"{refused} entries were refused: links, devices or paths that no source declares\n"
            )
        return name

    def source(self, path: str) -> dict[str, Any]:
        return next(source for source in self.settings["sources"] if source["path"] == path)

    def archived(self, source: dict[str, Any]) -> tuple[str, str, dict[str, Any]]:
        """Where an archive has a source, the directory that it is restored to, and the rules for its entries."""
        if source["kind"] == "mail":
            return source["snapshot"].strip("/"), source["path"], source
        place, rules = Path(source["path"]), source
        if source["kind"] == "sqlite":  # a file, not a directory
            place, rules = place.parent, source | {"only": place.name}
        return f"{self.stage}{place}".strip("/"), str(place), rules

    def export(self, archive: str, source: dict[str, Any], below: str = "") -> list[str]:
        """The command that writes a source of an archive to standard output, as a tar archive."""
        path, _, _ = self.archived(source)
        below = Path(source["path"]).name if source["kind"] == "sqlite" else below
        depth, wanted = str(len(Path(path).parts)), f"{path}/{below}" if below else path
        return ["borg", "export-tar", *WAITED, "--strip-components", depth, f"::{archive}", "-", wanted]

    def unpack(self, stream: IO[bytes], source: dict[str, Any], into: Path) -> int:
        """Unpack that tar archive with the rights of the source's owner; returns how many entries were refused."""
        _, _, rules = self.archived(source)
        with as_owner(source):
            into.mkdir(parents=True, exist_ok=True, mode=0o700)
            return unpacked(stream, into, rules)

    def _extract(self, name: str, source: dict[str, Any], into: Path, below: str) -> int:
        command = self.export(name, source, below if source["kind"] == "mail" else "")
        with tempfile.TemporaryFile() as errors:  # a full pipe would stop the restore half-way
            with subprocess.Popen(
                command, env=self.environment, stdout=subprocess.PIPE, stderr=errors
            ) as export:
                assert export.stdout is not None
                refused = self.unpack(export.stdout, source, into)
            errors.seek(max(0, errors.tell() - 4000))
            lines = errors.read().decode(errors="replace").strip().splitlines()
        if export.returncode and export.returncode < 100:
            raise BackupError(f"borg export-tar: {lines[-1] if lines else export.returncode}")
        return refused

    def check(self, *, quick: bool = False) -> dict[str, str]:
        """Let the server read its repository; unless it must be quick, this host also reads the latest archive's list."""
        self.borg(
            "check", *WAITED, *(("--repository-only", "--max-duration", "60") if quick else ("--last", "1"))
        )
        return {"checked": self.archives()[-1]["name"]}

    def probe(self) -> dict[str, str]:
        """What the server lets this host do to a repository made for this test: only add to it.

        Each answer is the refusal, or ``allowed``.
        """
        trial, found = f"{self.settings['repository']}.probe", {}
        sure = {
            "BORG_DELETE_I_KNOW_WHAT_I_AM_DOING": "YES",
            "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
        }
        if self._tried("info", BORG_REPO=trial, **sure)[1]:
            self.borg("init", "--encryption", "none", BORG_REPO=trial)
        elsewhere = f"{self.settings['repository'].rpartition('/')[0]}/elsewhere"
        for what, repository, arguments, refusal in (
            ("delete a repository", trial, ("delete", "--force"), "append-only"),
            ("open another host's", elsewhere, ("info",), "not allowed"),
        ):
            _, output = self._tried(*arguments, BORG_REPO=repository, **sure)
            refused = [line.strip() for line in output.splitlines() if refusal in line]
            found[what] = refused[0] if refused else f"allowed ({output[-200:] or 'done'})"
        found["a shell"] = self._shell()
        return found

    def _shell(self) -> str:
        """Whether its key opens more than borg; a repository on the host itself is always open to it."""
        place = urlsplit(self.settings["repository"])
        if not place.hostname:
            return "allowed"
        there = ("-p", str(place.port or 22), f"{place.username}@{place.hostname}")
        command = [*self.environment["BORG_RSH"].split(), *there, "echo outpost-shell"]
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", input="", check=False, timeout=60
        )
        return "allowed" if "outpost-shell" in done.stdout else "no command but borg's"


# Trees --------------------------------------------------------------------------------------------------------------


def members(unit: str) -> Iterator[tuple[int, str]]:
    """Number and state (proc(5)) of each process of a unit."""
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            if f"/{unit}" in (directory / "cgroup").read_text(encoding="ascii", errors="replace"):
                status = (directory / "stat").read_text(encoding="utf-8", errors="replace")
                yield int(directory.name), status.rpartition(")")[2].split()[0]
        except OSError:
            continue  # it has ended meanwhile


def rights_of(source: dict[str, Any]) -> dict[str, Any]:
    """Take the rights of a source's owner in a child process, which cannot get others back."""
    name = source.get("owner", "root")
    if name == "root" or os.geteuid():
        return {}
    owner = pwd.getpwnam(name)
    return {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}


@contextmanager
def as_owner(source: dict[str, Any]) -> Iterator[None]:
    """Act with the rights of a source's owner; without an owner, or if this is not root, with its own."""
    if not (rights := rights_of(source)):
        yield
        return
    groups = os.getgroups()
    os.setgroups(rights["extra_groups"])
    os.setegid(rights["group"])
    os.seteuid(rights["user"])
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


@dataclass
class Seen:
    """A directory at the time when it was linked.

    Attributes:
        mark: Its time and inode; None: it changed just before, so its time says nothing.
        files: What is copied, with time, size and inode; None as above.
    """

    mark: tuple[int, int] | None
    directories: list[str]
    files: dict[str, tuple[int, int, int] | None]


RACY = 2_000_000_000
"""Nanoseconds: a file that changed so shortly before it was read may change again without a new time."""


def linked_tree(top: str, into: str, seen: dict[str, Seen]) -> int:
    """Make or update a copy of a tree of Maildirs in which messages are hard links; returns how many were linked.

    Args:
        seen: What an earlier call for the same copy found; only later changes are read.
    """
    linked, now = 0, time.time_ns()
    status = os.stat(top)  # noqa: PTH116 - 300 mailboxes have thousands of directories, and mail waits
    mark = (status.st_mtime_ns, status.st_ino)
    held = seen.get(top)
    fresh = held is None or held.mark != mark
    if held is None or fresh:
        os.makedirs(into, mode=0o700, exist_ok=True)  # noqa: PTH103
        directories, files = [], []
        for entry in os.scandir(top):
            if _left_out(entry.name):
                continue
            if entry.is_dir(follow_symlinks=False):
                directories.append(entry.name)
            elif entry.is_file(follow_symlinks=False) or entry.is_symlink():
                files.append(entry.name)
        for name in {entry.name for entry in os.scandir(into)} - {*directories, *files}:
            _gone(f"{into}/{name}")
        linking = os.path.basename(top) in LINKED  # noqa: PTH119
        copied = {} if held is None else held.files
        held = seen[top] = Seen(
            mark if mark[0] < now - RACY else None,
            directories,
            {} if linking else {name: copied.get(name) for name in files},
        )
        for name in set(files) - {entry.name for entry in os.scandir(into)} if linking else ():
            with suppress(FileNotFoundError):  # it has another name now: the directory is read again
                os.link(f"{top}/{name}", f"{into}/{name}", follow_symlinks=False)
                linked += 1
    for name, before in held.files.items():
        with suppress(FileNotFoundError):
            status = os.lstat(f"{top}/{name}")
            found = (status.st_mtime_ns, status.st_size, status.st_ino)
            if found != before:
                _gone(f"{into}/{name}")
                shutil.copy2(f"{top}/{name}", f"{into}/{name}", follow_symlinks=False)
                held.files[name] = found if found[0] < now - RACY else None
    for name in held.directories:
        with suppress(FileNotFoundError):
            linked += linked_tree(f"{top}/{name}", f"{into}/{name}", seen)
    if fresh:
        shutil.copystat(top, into)
    return linked


def _gone(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):  # noqa: PTH112, PTH114
        shutil.rmtree(path)
    else:
        with suppress(FileNotFoundError):
            os.unlink(path)  # noqa: PTH108


def unpacked(stream: IO[bytes], into: Path, source: dict[str, Any]) -> int:
    """Unpack a tar archive of one source, with any content from a compromised host; returns how many entries were refused.

    BKP-02: without it links, devices, setuid programs and paths of the archive's choice come back as root. Directories and
    plain files come back, below ``into``, with the source's modes and as the account that runs this; and links that stay below it: a
    user's active filter is one, and a message that was copied is a hard link.
    """
    refused = 0
    only, mode = source.get("only", ""), int(source.get("mode", "0600"), 8)
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        for member in archive:
            if member.isdir() and only:  # entries of the tree that the files were copied from
                continue
            if fnmatch.fnmatchcase(member.name, COMPILED):  # of an older backup
                continue
            link = member.islnk() or member.issym()
            names = [member.name, *([member.linkname] if link else [])]
            plain = member.isreg() or member.isdir() or (link and not only)
            if not plain or not all(_below(name, only, directory=member.isdir()) for name in names):
                refused += 1
                continue
            taken = member.replace(mode=0o700 if member.isdir() else mode, uid=0, gid=0, deep=False)
            try:
                if link:
                    _linked(member, into)
                else:
                    archive.extract(taken, into, numeric_owner=True, filter="fully_trusted")
            except (tarfile.TarError, KeyError, OverflowError):
                refused += 1
            except OSError as error:
                if error.errno not in OF_THE_ENTRY:  # a full disk stops all others, too
                    raise
                refused += 1
    return refused


# BKP-02: without it tarfile reads to the end for the target of a link that cannot be made, and skips everything after it.
def _linked(member: tarfile.TarInfo, into: Path) -> None:
    path = into / member.name
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    if member.issym():
        path.symlink_to(member.linkname)
    else:
        os.link(into / member.linkname, path, follow_symlinks=False)


def _below(name: str, only: str, *, directory: bool) -> bool:
    """Whether a name in an archive is a path below a source."""
    parts = name.removesuffix("/").split("/")
    if parts in ([""], ["."]):
        return directory
    if {"", ".", ".."} & set(parts):
        return False
    return not only or (len(parts) == 1 and fnmatch.fnmatchcase(parts[0], only))


def copied_tree(top: Path, into: Path, source: dict[str, Any]) -> None:
    """A copy of a tree with owners and times, read with its owner's rights."""
    with as_owner(source):
        tree = [(Path(directory), files) for directory, _, files in os.walk(top)]
    for directory, files in tree:
        here = into / directory.relative_to(top)
        here.mkdir(parents=True, exist_ok=True)
        for name in fnmatch.filter(files, source.get("only", "*")):
            with as_owner(source):
                found = regular(directory / name)
            if found:
                # piece by piece: memory does not grow with the file
                with found as file, (here / name).open("wb") as copy:
                    status = os.fstat(file.fileno())
                    # BKP-01: without it a file with holes, or one that grows meanwhile, fills the disk of the copy
                    if status.st_size + SPARE > shutil.disk_usage(here).free:
                        raise BackupError(
                            f"{directory / name} has {status.st_size} octets, more than there is room for"
                        )
                    while piece := file.read(min(PIECE, status.st_size - copy.tell())):
                        copy.write(piece)
                os.utime(here / name, ns=(status.st_atime_ns, status.st_mtime_ns))


def _left_out(name: str) -> bool:
    return name not in LINKED and any(fnmatch.fnmatch(name, pattern) for pattern in LEFT_OUT)


# What is in a tree --------------------------------------------------------------------------------------------------


def manifest(mail: Path | None, rest: Path | None) -> dict[str, Any]:
    """Everything that must be restored unchanged: each folder's UIDVALIDITY, each message's UID, flags and SHA-256, other files."""
    folders: dict[str, Any] = {}
    files: dict[str, str] = {}
    if mail is not None:
        for directory, names, found in os.walk(mail):
            names[:] = sorted(name for name in names if not _left_out(name))
            here = Path(directory)
            if {"cur", "new"} <= set(names):
                folders[str(here.relative_to(mail))] = folder(here)
            if here.name not in LINKED:
                for name in found:
                    if not name.startswith("dovecot") and not _left_out(name):
                        files[f"{MAIL}/{(here / name).relative_to(mail)}"] = _sha256(here / name)
    if rest is not None and rest.exists():
        for directory, _, found in os.walk(rest):
            for name in found:
                path = Path(directory) / name
                files[f"{REST}/{path.relative_to(rest)}"] = _sha256(path)
    return {"folders": folders, "files": files}


def folder(directory: Path) -> dict[str, Any]:
    """A Maildir: UIDVALIDITY, next UID, and base name → (UID, flags, SHA-256) of each message."""
    first, lines = "", []
    if listed := regular(directory / "dovecot-uidlist"):
        with listed:
            first, *lines = listed.read(LONGEST_LIST).decode("utf-8", "replace").split("\n")
    # BKP-01: without it one line of a user's process ends the list of everything that must come back
    header = dict(OF_HEADER.findall(first))
    uids = {match[2].partition(":2,")[0]: int(match[1]) for match in map(OF_MESSAGE.match, lines) if match}
    messages = {}
    for place in (directory / part for part in LINKED if not (directory / part).is_symlink()):
        for file in sorted(place.iterdir()):
            base, _, flags = file.name.partition(":2,")
            messages[base] = [uids.get(base, 0), flags, _sha256(file)]
    return {"uidvalidity": int(header.get("V", "0")), "next": int(header.get("N", "0")), "messages": messages}


def _sha256(path: Path) -> str:
    if path.is_symlink():  # the link's target does not belong to the mail
        return hashlib.sha256(str(path.readlink()).encode("utf-8", "surrogateescape")).hexdigest()
    if not (found := regular(path)):
        return "not a regular file"
    with found as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def regular(path: Path) -> BufferedReader | None:
    """Open a regular file; None for anything else: root would wait for ever for a FIFO of its owner's, and read the target of a link."""
    try:
        number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in NO_FILE:
            return None
        raise
    if stat.S_ISREG(os.fstat(number).st_mode):
        return os.fdopen(number, "rb")
    os.close(number)
    return None


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="backup")
    parser.add_argument("--settings", type=Path, default=SETTINGS)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("run").add_argument("--manifest", action="store_true")
    commands.add_parser("list")
    commands.add_parser("clean")
    commands.add_parser("check").add_argument("--quick", action="store_true")
    commands.add_parser("probe")
    extract = commands.add_parser("extract")
    extract.add_argument("archive")
    extract.add_argument("--mail", type=Path)
    extract.add_argument("--rest", type=Path)
    extract.add_argument("--below", default="")
    extract.add_argument("--only", default="")
    piped = commands.add_parser("export")
    piped.add_argument("archive")
    piped.add_argument("source")
    commands.add_parser("unpack").add_argument("source")
    shown = commands.add_parser("manifest")
    shown.add_argument("--mail", type=Path)
    shown.add_argument("--rest", type=Path)
    chosen = parser.parse_args(arguments)
    if chosen.command == "manifest":
        result: Any = manifest(chosen.mail, chosen.rest)
    else:
        backup = Backup(json.loads(chosen.settings.read_text(encoding="utf-8")))
        try:
            if chosen.command == "run":
                result = backup.run(with_manifest=chosen.manifest)
            elif chosen.command == "list":
                result = backup.archives()
            elif chosen.command == "check":
                result = backup.check(quick=chosen.quick)
            elif chosen.command == "clean":
                backup.clean()
                return 0
            elif chosen.command == "export":
                command = backup.export(chosen.archive, backup.source(chosen.source))
                done = subprocess.run(command, env=backup.environment, check=False)
                return 0 if done.returncode == 0 or done.returncode >= 100 else 1
            elif chosen.command == "unpack":
                source = backup.source(chosen.source)
                result = {
                    "refused": backup.unpack(sys.stdin.buffer, source, Path(backup.archived(source)[1]))
                }
            elif chosen.command == "probe":
                result = backup.probe()
            else:
                into = {part: where for part, where in ((MAIL, chosen.mail), (REST, chosen.rest)) if where}
                result = backup.extract(chosen.archive, into, chosen.below, chosen.only)
        except (BackupError, OSError) as error:
            sys.stderr.write(f"{error}\n")
            return 1
    json.dump(result, sys.stdout)
    sys.stdout.write("\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
