"""The office's secrets for machines: SSH host keys for seeds, and passphrases of encrypted disks."""

from collections.abc import Sequence
from pathlib import Path

from outpost.errors import OutpostError
from outpost.keys import pairs, secrets_file
from outpost.keys.model import Secrets
from outpost.machines.hypervisor import Site
from outpost.machines.seed import Seed, pins, seed
from outpost.machines.server import Server
from outpost.office.model import Office
from outpost.office.tables.topology import Host
from outpost.target import Target, shown


def passphrases(target: Target, office: Office, site: Site, found: Server) -> dict[str, str]:
    """The passphrases of this site's encrypted disks, by guest. A new one is kept before its disk is made.

    Raises:
        OutpostError: A disk exists, and the secrets do not have its passphrase.
    """
    names = [guest.name for guest in site.guests if guest.encrypted]
    if not names:
        return {}
    kept = secrets_file.read(target.data)
    if missing := [name for name in names if found.guests[name].disk and name not in kept.disks]:
        raise OutpostError(
            f"the secrets have no passphrase for the disk of {', '.join(missing)}",
            "restore the secrets.age with which the disk was made, for example from version control",
        )
    if set(names) - set(kept.disks):
        made = {name: secrets_file.random_key() for name in names} | kept.disks
        kept = kept.model_copy(update={"disks": made})
        secrets_file.write(target.data, kept, office.secrets.recipients)
    return {name: kept.disks[name].get_secret_value() for name in names}


def kept_seeds(target: Target, office: Office, kept: Secrets, hosts: Sequence[Host]) -> list[Seed]:
    """The hosts' seeds; the keys in them are kept and pinned."""
    keys = {host.name: kept.ssh_hosts.get(host.name) or pairs.new_ssh_key() for host in hosts}
    for host in hosts:
        known = set(office.ssh.host_keys.get(host.name, ()))
        if known - {pairs.ssh_public(keys[host.name])}:
            raise OutpostError(
                f"{host.name} is in known_hosts with a key of its own: its machine exists already",
                f"remove its lines from {shown(target.data / 'known_hosts')} if you replace it, or choose other hosts with --limit",
            )
    made = [seed(office, host, keys[host.name]) for host in hosts]
    if {host.name for host in hosts} - set(kept.ssh_hosts):
        kept = kept.model_copy(update={"ssh_hosts": {**kept.ssh_hosts, **keys}})
        secrets_file.write(target.data, kept, office.secrets.recipients)
    if made:
        _pin(target.data / "known_hosts", pins(office, keys))
    return made


def _pin(file: Path, lines: dict[str, str]) -> None:
    """Add missing lines to ``known_hosts``."""
    before = file.read_text(encoding="utf-8") if file.exists() else ""
    new = [line for line in lines.values() if line not in before.splitlines()]
    if before and not before.endswith("\n"):
        before += "\n"
    file.write_text(before + "".join(f"{line}\n" for line in new), encoding="utf-8")
