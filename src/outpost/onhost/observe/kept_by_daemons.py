"""What daemons store: databases, the mail queue, signing keys; and what somebody has added to them by hand."""

import collections.abc
import contextlib
import glob
import itertools
import json
import os
import re
import shlex
import time

from outpost.onhost.observe.kept_answers import identity, kept
from outpost.onhost.observe.reading import WALK, BlindError, content, ended, lines_in, lines_of, named, opened

TOP, DEEP = "/var/lib", 2
ENDINGS = (".db", ".sqlite", ".sqlite3")
TRIGGERS = "SELECT type, name, sql FROM sqlite_master WHERE type IN ('trigger', 'view') LIMIT ?"
MOST, LONGEST = 10_000, 1 << 18
"""Most triggers and views of one database that are named, and most octets about it."""
MAGIC = b"SQLite format 3\0"
PATIENCE = 5.0
"""Seconds to wait for a daemon that writes."""
MEMORY = 1 << 30
"""Octets of address space for the process that reads a database."""


def functions(listed: list[str]) -> list[str]:
    """Libraries that somebody loaded into Redis: they survive its restart, and the office has none."""
    names = (name for label, name in itertools.pairwise(listed) if label == "library_name")
    return [f"function\tredis-server.service\t{named(name)}" for name in names]


def triggers() -> list[str]:
    """A fact for each trigger and view: every account that writes to the database runs it."""
    return [f"trigger\t{named(path)}\t{line}" for path in _databases(TOP, DEEP) for line in _as_owner(path)]


# SYS-01: without it root parses a database that a daemon's account made.
def _as_owner(path: str) -> list[str]:
    """The answer about a database from a process with only the rights of the account that could have made it."""
    import hashlib  # modules that take time to load, and not every host has such a database
    import resource
    import sqlite3

    output = os.memfd_create("triggers")
    if not (child := os.fork()):
        with contextlib.suppress(BaseException):
            os.setpgid(0, 0)
            owner = _maker(path)
            if not os.geteuid():
                os.setgroups([])
                os.setresgid(owner.st_gid, owner.st_gid, owner.st_gid)
                os.setresuid(owner.st_uid, owner.st_uid, owner.st_uid)
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
            with open(path, "rb") as stream:
                if stream.read(len(MAGIC)) != MAGIC:
                    os._exit(0)
            connected = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=PATIENCE)
            with contextlib.closing(connected) as database:
                room = LONGEST
                for kind, name, sql in database.execute(TRIGGERS, (MOST,)):
                    digest = hashlib.sha256(str(sql).encode(errors="replace")).hexdigest()[:16]
                    line = f"{kind} {digest} {named(str(name))}\n".encode()
                    if (room := room - len(line)) < 0:
                        os._exit(1)
                    os.write(output, line)
            os._exit(0)
        os._exit(1)
    late, status = ended(child)
    try:
        lines = os.pread(output, LONGEST, 0).decode(errors="replace").split("\n")[:-1]
    finally:
        os.close(output)
    if (late or status) and os.path.lexists(path):  # a copy for a backup may be deleted meanwhile
        raise BlindError(
            f"its owner's rights do not suffice to read {named(path)}, or it is damaged, or has too many triggers"
        )
    return [line.replace("\t", " ") for line in lines]


def _maker(path: str) -> os.stat_result:
    """The first thing on the way to a file that is not root's: whose it is may have put there what follows, links too, at any moment."""
    ways = (path, os.path.realpath(path))  # root's own link: of wtmpdb, for example
    found = [
        os.lstat(way[:end])
        for way in ways
        for end in (*(each.start() for each in re.finditer("(?!^)/", way)), None)
    ]
    return next((each for each in found if each.st_uid), found[-1])


def _databases(top: str, deep: int) -> collections.abc.Iterator[str]:
    with contextlib.suppress(FileNotFoundError), os.scandir(top) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):  # a daemon's link to itself
                if entry.name.endswith(ENDINGS) and entry.is_file():
                    yield entry.path
                elif deep and entry.is_dir():
                    yield from _databases(entry.path, deep - 1)


MAIL = "/srv/mail"
LINKS = f"! [ -e {MAIL} ] || find {MAIL} -maxdepth 3 -type l -printf '%p//%l\\0' | tr '\\n\\0' '\\001\\n'"
"""find(1): links as far down as the folders of a mailbox; messages are not read."""


# SYS-09: without it a link in place of a folder gives its user the mail of another for good, and no file of the office shows it.
def links_in_mail() -> list[str]:
    """Links that lead out of the directory that they are in; the one to a user's active filter does not."""
    found = []
    for path, _, target in (line.replace("\1", "\n").partition("//") for line in lines_of(LINKS, WALK)):
        if target.startswith("/") or ".." in target.split("/"):
            found.append(f"astray\t{named(path)}\t{named(target)}")
    return found


RIGHTS = "dovecot-acl"


# SYS-09: without it somebody gives a user the mail of a shared mailbox by a file that only Dovecot reads.
def granted() -> list[str]:
    """Access lists of folders in shared mailboxes with other rights than their mailbox's; Dovecot itself copies these to a new folder."""
    found = []
    for path in glob.iglob(f"{MAIL}/.shared/.[!.]*/{RIGHTS}"):
        top = f"{MAIL}/.shared/.{path.split('/')[-2].split('.')[1]}/{RIGHTS}"
        if _rights(path) - _rights(top):
            found.append(f"granted\t{named(path)}\t{named(top)}")
    return found


def _rights(path: str) -> set[tuple[str, frozenset[str]]]:
    lines = (line.rpartition(" ") for line in lines_in(path))
    return {(who.strip('"'), frozenset(letters)) for who, _, letters in lines}


HOLD = "/var/spool/postfix/hold"
NOTED = ("/var/lib/outpost-policy/large", "/var/lib/outpost/on-hold")
"""A file with the name of each message that the policy service, or an administrator by `outpost queue`, put on hold."""
REFUSED = b"X-Office-Held:"
"""Marks mail of a backup MX that the filter refused; milters add header fields at either end of a queue file (milter_header_checks)."""
PIECE = 128 * 1024


def on_hold() -> list[str]:
    """One fact for each message; nothing if there is no queue."""
    waiting: set[str] = set()
    with contextlib.suppress(FileNotFoundError):
        waiting.update(os.listdir(HOLD))
    for place in NOTED if waiting else ():
        with contextlib.suppress(OSError):
            waiting.difference_update(os.listdir(place))
    held = (name for name in sorted(waiting) if not _refused(f"{HOLD}/{name}"))
    return [f"held\tmail queue\t{name}" for name in held]


def _refused(path: str) -> bool:
    try:
        with open(opened(path), "rb") as file:
            start = file.read(PIECE)
            file.seek(max(PIECE, os.fstat(file.fileno()).st_size - PIECE))
            return REFUSED in start or REFUSED in file.read()
    except FileNotFoundError:  # it is gone meanwhile
        return True
    except OSError:  # not a message
        return False


CONFIGURATION = "/etc/knot/knot.conf"
LIFETIME = re.compile(r"^ +(ksk|zsk)-lifetime: (\d+)$", re.MULTILINE)
"""Lifetimes of keys by role, in that file."""
KEYS = "/var/lib/knot/keys/data.mdb"
TIMERS = ("publish", "ready", "active", "retire-active", "retire", "post-active", "revoke", "remove")
SLACK = 300
"""Seconds by which a clock may have been set back."""


def set_by_hand() -> list[str]:
    """Dates of keys that are in the future; zones that no key signs now."""
    if not os.path.exists(KEYS):
        return []
    return kept("keys", f"{identity(KEYS)} {int(time.time() // 3600)}", _timers)


def _timers() -> list[str]:
    lifetimes = {role: int(seconds) for role, seconds in LIFETIME.findall(content(CONFIGURATION))}
    found = []
    for zone in lines_of("keymgr --list"):
        listed = "\n".join(lines_of(f"keymgr --json {shlex.quote(zone)} list"))
        found += times_to_come(zone, listed, time.time(), lifetimes)
    return found


def times_to_come(zone: str, listed: str, now: float, lifetimes: dict[str, int]) -> list[str]:
    """Facts about one zone, from its keys as keymgr(8) prints them in JSON.

    Args:
        lifetimes: Seconds by role of a key.
    """
    if not listed:
        raise BlindError(f"keymgr(8) did not answer for {zone}")
    keys = json.loads(listed)
    to_come = ((key, name) for key in keys for name in TIMERS if key.get(name, 0) > now + SLACK)
    found = [f"timer\t{zone}\t{key['id']} {name} {key[name]}" for key, name in to_come]
    begun = (key for key in keys if 0 < (key["active"] or key["ready"]) <= now)
    signs = [key for key in begun if not any(0 < key[end] <= now for end in ("retire", "remove"))]
    if keys and not all(any(key[role] for key in signs) for role in ("ksk", "zsk")):
        found.append(f"timer\t{zone}\tno key signs")
    for role in lifetimes:
        own = sorted((key for key in signs if key[role]), key=lambda key: int(key["publish"]))
        # Knot makes the next key when the first has reached its lifetime (knot.conf(5), Policy section)
        found += [
            f"timer\t{zone}\ta second {role.upper()} signs: {key['id']}"
            for key in own[1:]
            if key["publish"] + SLACK < (own[0]["active"] or own[0]["ready"]) + (lifetimes[role] or 1 << 40)
        ]
    return found


ANCHORS, PACKAGES_ANCHORS = "/var/lib/unbound/root.key", "/usr/share/dns/root.key"
ROOT_KEY = re.compile(r"^\.\s+(?:\d+\s+)?IN\s+DNSKEY\s+(\d+ \d+ \d+ \S+)", re.MULTILINE)


def anchors() -> list[str]:
    """Root keys that Unbound trusts and Debian does not have (RFC 5011, unbound-anchor(8))."""
    if not os.path.exists(ANCHORS):
        return []
    ours, theirs = (
        {" ".join(key.split()) for key in ROOT_KEY.findall(re.sub(r"[()\t]", " ", content(path)))}
        for path in (ANCHORS, PACKAGES_ANCHORS)
    )
    return [f"anchor\t{ANCHORS}\t{key[:60]}" for key in sorted(ours - theirs)]
