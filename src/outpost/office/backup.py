"""The content of each host's backup, and how the host makes it: the role's view of its own state. Pure. It does not contain
what an apply makes again (configuration, certificates, accounts of the office file), nor the MTA's queue: a
restored queue would deliver its messages a second time. The queue holds them for minutes only, and senders keep every message
for which they got no `250` (BKP-01).
"""

from typing import Any

from outpost.office.base import HostView
from outpost.office.model import Office
from outpost.office.role import role_of
from outpost.office.tables.operation import Backup
from outpost.office.tables.topology import Host

LIB = "/usr/local/lib/outpost/backup"
SETTINGS = "/etc/outpost/backup"
STATE = "/var/lib/outpost-backup"
LEAST_RATE = 16
"""KiB/s that a backup gets even on the slowest line."""


class BackupView:
    """The backup of one host."""

    def __init__(self, office: Office, me: Host, backup: Backup) -> None:
        self.office, self.me, self.backup = office, me, backup
        role = role_of(me)
        self.account = backup.account or f"outpost-{office.name}"
        """The office's account on the backup server."""
        self.directory = backup.directory or f"/srv/outpost/{office.name}"
        """The office's directory on the backup server."""
        self.path = f"{self.directory}/repositories/{me.name}"
        """This host's repository on the backup server; only its own key opens it."""
        self.known_name = f"backup.{office.name}"
        """The name of the backup server in known_hosts."""
        self.known_hosts = "".join(f"{self.known_name} {key}\n" for key in backup.host_keys)
        """The file that pins its keys."""
        self.url = f"ssh://{self.account}@{HostView.socket(backup.server, backup.port)}{self.path}"
        """The repository as borg names it."""
        share = backup.line_percent
        self.rate = max(LEAST_RATE, office.link.rate_kbit * share * 1000 // (100 * 8 * 1024)) if share else 0
        """KiB/s that a backup may send; 0 means no limit."""
        ssh = {"kind": "copy", "path": "/etc/ssh", "only": "ssh_host_*_key*"}
        self.sources: tuple[dict[str, Any], ...] = (ssh, *role.kept(office, me))
        """What is kept of this host (`outpost.onhost.backup` explains the kinds), its owner and the mode it is restored with (BKP-02)."""
        self.still = next((source["still"] for source in self.sources if "still" in source), "")
        """The unit whose processes are stopped for the snapshot; empty means none."""
        keeps_mail = any(source["kind"] == "mail" for source in self.sources)
        mailboxes = sum((*map(office.quota, office.users), *map(office.quota, office.shared)))
        self.quota = int(backup.quota) + 2 * mailboxes * keeps_mail
        """Bytes that its archives may take on the server. Besides its mailboxes, a store has old mail in old archives."""
        self.places = {_directory(source): source["owner"] for source in self.sources if "owner" in source}
        """Directories that exist before anything is restored, with their owners."""
        self.accounts = role.owners
        """Accounts that own what is restored, with their homes: they are made first (BKP-02: the drill works this way)."""

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of the host's program; they contain no secret."""
        reached = {"repository": self.url, "known_name": self.known_name, "rate": self.rate}
        return {**reached, "state": STATE, "secrets": SETTINGS, "sources": list(self.sources)}


def _directory(source: dict[str, Any]) -> str:
    path = str(source["path"])
    return path.rpartition("/")[0] if source["kind"] == "sqlite" else path


def backup_of(office: Office, host: Host) -> BackupView | None:
    """The backup of a host; None if the office has none."""
    return BackupView(office, host, office.backup) if office.backup else None
