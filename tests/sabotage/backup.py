"""Sabotage of the backup, on any host."""

from __future__ import annotations

from tests.sabotage.breaking import broken, closed_to_nobody, edit, edited

SETTINGS, STATE = "/etc/outpost/backup", "/var/lib/outpost-backup"

ELSEWHERE = edit(f"{SETTINGS}/settings.json", rf's#"ssh://[^"]*"#"{STATE}/trial"#')
"""The other end is a directory of the host's own."""

SABOTAGES = (
    edited(
        "base", "the last backup is years old", f"{STATE}/last.json", r's/("started": ")20[0-9]{2}/\12020/',
        "backup::the_last_backup_is_not_older_than_the_office_allows",
    ),
    broken(
        "base", "the host can delete its backups",
        ELSEWHERE,
        "backup::this_host_cannot_take_away_what_is_kept", "backup::what_is_kept_is_there_and_can_be_read",
        keeps=(f"{SETTINGS}/settings.json",), undo=f"rm -rf {STATE}/trial*",
    ),
    broken(
        "base", "the backup server's disk is damaged",
        f"{ELSEWHERE}; python3 -B /usr/local/lib/outpost/backup run >/dev/null; "
        f"printf damaged | dd of=$(find {STATE}/trial/data -type f -size +1k | head -1) bs=1 seek=600 conv=notrunc status=none",
        "backup::the_repository_is_undamaged_at_the_other_end",
        keeps=(f"{SETTINGS}/settings.json", f"{STATE}/last.json"), undo=f"rm -rf {STATE}/trial*",
    ),
    closed_to_nobody(
        "base", "every account can read the backup's key", f"{SETTINGS}/key", "0644", "0600",
        "backup::what_opens_the_backup_is_roots_alone",
    ),
)  # fmt: skip
