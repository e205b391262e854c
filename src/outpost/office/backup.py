"""The content of each host's backup, and how the host makes it: the role's view of its own state. Pure. It does not contain
what an apply makes again (configuration, certificates, accounts of the office file), nor the MTA's queue: a
restored queue would deliver its messages a second time. The queue holds them for minutes only, and senders keep every message
for which they got no `250` (BKP-01).
"""

from dataclasses import dataclass
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


@dataclass(frozen=True)
class BackupView(HostView):
    """The backup of one host."""

    backup: Backup

    @property
    def account(self) -> str:
        """The office's account on the backup server."""
        return self.backup.account or f"outpost-{self.office.name}"

    @property
    def directory(self) -> str:
        """The office's directory on the backup server."""
        return self.backup.directory or f"/srv/outpost/{self.office.name}"

    @property
    def path(self) -> str:
        """This host's repository on the backup server; only its own key opens it."""
        return f"{self.directory}/repositories/{self.me.name}"

    @property
    def known_name(self) -> str:
        """The name of the backup server in known_hosts."""
        return f"backup.{self.office.name}"

    @property
    def known_hosts(self) -> str:
        """The file that pins its keys."""
        return "".join(f"{self.known_name} {key}\n" for key in self.backup.host_keys)

    @property
    def url(self) -> str:
        """The repository as borg names it."""
        return f"ssh://{self.account}@{self.socket(self.backup.server, self.backup.port)}{self.path}"

    @property
    def rate(self) -> int:
        """KiB/s that a backup may send; 0 means no limit."""
        share = self.backup.line_percent
        return max(LEAST_RATE, self.office.link.rate_kbit * share * 1000 // (100 * 8 * 1024)) if share else 0

    @property
    def sources(self) -> tuple[dict[str, Any], ...]:
        """What is kept of this host (`outpost.onhost.backup` explains the kinds), its owner and the mode it is restored with (BKP-02)."""
        ssh = {"kind": "copy", "path": "/etc/ssh", "only": "ssh_host_*_key*"}
        return (ssh, *role_of(self.me).kept(self.office, self.me))

    @property
    def still(self) -> str:
        """The unit whose processes are stopped for the snapshot; empty means none."""
        return next((source["still"] for source in self.sources if "still" in source), "")

    @property
    def quota(self) -> int:
        """Bytes that its archives may take on the server. Besides its mailboxes, a store has old mail in old archives."""
        keeps_mail = any(source["kind"] == "mail" for source in self.sources)
        office = self.office
        mailboxes = sum((*map(office.quota, office.users), *map(office.quota, office.shared)))
        return int(self.backup.quota) + 2 * mailboxes * keeps_mail

    @property
    def places(self) -> dict[str, str]:
        """Directories that exist before anything is restored, with their owners."""

        def directory(source: dict[str, Any]) -> str:
            path = str(source["path"])
            return path.rpartition("/")[0] if source["kind"] == "sqlite" else path

        return {directory(source): source["owner"] for source in self.sources if "owner" in source}

    @property
    def accounts(self) -> dict[str, str]:
        """Accounts that own what is restored, with their homes: they are made first (BKP-02: the drill works this way)."""
        return role_of(self.me).owners

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of the host's program; they contain no secret."""
        reached = {"repository": self.url, "known_name": self.known_name, "rate": self.rate}
        return {**reached, "state": STATE, "secrets": SETTINGS, "sources": list(self.sources)}


def backup_of(office: Office, host: Host) -> BackupView | None:
    """The backup of a host; None if the office has none."""
    return BackupView(office, host, office.backup) if office.backup else None
