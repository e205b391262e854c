"""ACME accounts: a host registers one with the key that the office gave it, and the authority's name for it is stored here.

CAA then names it (``accounturi``, RFC 8657), and nobody else's account can have the host's names certified, however well
it proves control over them. Accounts outlive certificates and hosts, so each is asked for once. One of another
authority (``acme.directory`` was changed) is forgotten by the records at once and asked for again.
"""

from collections.abc import Collection

from outpost.errors import OutpostError
from outpost.keys.model import AcmeAccount
from outpost.keys.published import public_keys
from outpost.keys.rotation.engine import Desk
from outpost.office.certificates import acme_hosts
from outpost.office.tables.topology import Host
from outpost.transport import answers
from outpost.transport.remote import run_script

ASK = "timeout 60 /usr/local/lib/outpost/certificate account"


def learn(desk: Desk, among: Collection[str]) -> bool:
    """Store the accounts of these hosts that are not known yet; returns whether there was one."""
    directory, found = desk.office.acme.directory, {}
    keys = public_keys(desk.secrets)
    for host in acme_hosts(desk.office):
        if host.name not in among or keys.account(desk.office, host):
            continue
        if url := _ask(desk, host):
            try:
                found[host.name] = AcmeAccount(directory=directory, url=url)
            except ValueError:
                desk.report(
                    f"{host.name} names an account that is not one of {directory}: {answers.line(url, 200)}; check the host"
                )
                continue
            desk.report(f"the account of {host.name} is {url}; the CAA record names it")
        else:
            desk.report(
                f"{host.name} has no account at {directory} yet; ./outpost rotate due OFFICE asks again"
            )
    if found:
        desk.change(acme_accounts=desk.secrets.acme_accounts | found)
    return bool(found)


def _ask(desk: Desk, host: Host) -> str:
    try:
        return run_script(desk.target, desk.office, host, ASK, desk.via, most=4096).strip()
    except OutpostError:
        return ""  # host or authority cannot be reached: nothing was changed, a later run asks again
