"""Backup: every host copies what only it has to head office, encrypted, with a key that can add archives and delete none."""

import outpost.onhost.backup
from outpost.converge.declaration import Items
from outpost.converge.files import File, as_json, parses, program, rendered, text
from outpost.converge.shapes import directory, service
from outpost.errors import OutpostError
from outpost.keys.model import Secrets
from outpost.office import Host, Office
from outpost.office.backup import LIB, SETTINGS, STATE, backup_of


def backup(*, office: Office, me: Host, secrets: Secrets) -> Items:
    """The program, its keys and its timer; the first backup makes the repository (BKP-01)."""
    view = backup_of(office, me)
    if view is None:
        return
    yield directory(STATE, mode="0700")
    yield directory(SETTINGS, mode="0700")
    yield service(
        name="backup",
        unit="outpost-backup.timer",
        files=[
            *files(office=office, me=me, secrets=secrets),
            rendered("base", "/etc/systemd/system/outpost-backup.service", backup=view, state=STATE),
            rendered("base", "/etc/systemd/system/outpost-backup.timer", backup=view.backup),
        ],
        check=parses(LIB),
    )


def files(*, office: Office, me: Host, secrets: Secrets) -> list[File]:
    """The files that a host needs to reach its backup; an empty host needs them, too, for a restore."""
    view, keys = backup_of(office, me), secrets.backup.get(me.name)
    if view is None or keys is None:
        problem = f"{me.name} has no keys for its backup in the office's secrets"
        raise OutpostError(problem, "./outpost secrets init OFFICE")
    return [
        program(LIB, outpost.onhost.backup, mode="0755"),
        as_json(f"{SETTINGS}/settings.json", view.settings),
        text(f"{SETTINGS}/known_hosts", view.known_hosts),
        text(f"{SETTINGS}/key", keys.ssh_key.get_secret_value(), mode="0600", secret=True),
        text(f"{SETTINGS}/passphrase", keys.passphrase.get_secret_value(), mode="0600", secret=True),
    ]
