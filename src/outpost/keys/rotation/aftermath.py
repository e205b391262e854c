"""What keeps keys up to date: after an apply new DNSSEC keys and ACME accounts are stored, and `take` takes every step that is due.

A host registers an ACME account with the key that the office gave it. CAA then names it (``accounturi``, RFC 8657), and nobody
else's account can have the host's names certified, however well it proves control over them. Accounts outlive certificates and
hosts, so each is asked for once. After a change of ``acme.directory`` the records drop the old account at once, and the host is asked again.
"""

from collections.abc import Callable, Collection

from outpost.errors import OutpostError
from outpost.keys.model import AcmeAccount, public_keys
from outpost.keys.rotation import authority, dkim, dnssec, engine, tls
from outpost.keys.rotation.engine import Desk, NotYetError, Report
from outpost.office.certificates import acme_hosts
from outpost.office.role import serving
from outpost.target import Target
from outpost.transport import answers
from outpost.transport.remote import run_script


def keep(target: Target, hosts: Collection[str], report: Report, via: str | None = None) -> None:
    """Store it, as far as these hosts were reached; name servers among them publish it at once."""
    with engine.desk(target, report, via=via) as desk:
        servers = serving(desk.office, "names")
        if servers[0].name in hosts:
            try:
                dnssec.keep(desk)
            except dnssec.UnexplainedError as error:  # the hosts are as declared; the copy stays unchanged
                report(f"DNSSEC keys were not kept: {error.message}. Remedy: {error.remedy}")
        if learn(desk, hosts):
            if {server.name for server in servers} <= set(hosts):
                desk.apply(servers)
            else:  # an apply of some hosts changes no others
                command = f"./outpost apply {target.typed} --limit {servers[0].role}"
                report(f"the name servers show it after: {command}")


ASK = "timeout 60 /usr/local/lib/outpost/certificate account"


def learn(desk: Desk, among: Collection[str]) -> bool:
    """Store the accounts of these hosts that are not known yet; returns whether there was one."""
    directory, found = desk.office.acme.directory, {}
    keys = public_keys(desk.secrets)
    for host in acme_hosts(desk.office):
        if host.name not in among or keys.account(desk.office, host):
            continue
        try:
            url = run_script(desk.target, desk.office, host, ASK, desk.via, most=4096).strip()
        except OutpostError:
            url = ""  # host or authority cannot be reached: nothing was changed, a later run asks again
        if url:
            try:
                found[host.name] = AcmeAccount(directory=directory, url=url)
            except ValueError:
                desk.report(
                    f"{host.name} names an account that is not one of {directory}: {answers.line(url, 200)}; check the host"
                )
                continue
            desk.report(f"the account of {host.name} is {url}; the CAA record names it")
        else:
            again = "./outpost rotate due OFFICE asks again"
            desk.report(f"{host.name} has no account at {directory} yet; {again}")
    if found:
        desk.change(acme_accounts=desk.secrets.acme_accounts | found)
    return bool(found)


def take(desk: Desk) -> None:
    """Take every step of every kind that is due now. One kind that must wait or fails does not keep the others back."""
    kinds: tuple[Callable[[Desk], object], ...] = (_dkim, dnssec.keep, _accounts, _tls, _hosts)
    failed: list[OutpostError] = []
    for kind in kinds:
        try:
            kind(desk)
        except NotYetError as wait:
            desk.report(f"waits: {wait.message}")
        except OutpostError as error:
            failed.append(error)
    if failed:
        raise OutpostError("; ".join(error.message for error in failed), failed[0].remedy)


def _dkim(desk: Desk) -> None:
    if dkim.due(desk):
        dkim.begin(desk)
    while dkim.go_on(desk):
        pass


def _tls(desk: Desk) -> None:
    for host in tls.hosts(desk):
        if tls.due(desk, host):
            tls.roll(desk, host)
        else:
            tls.note_published(desk, host)


def _hosts(desk: Desk) -> None:
    if authority.links_due(desk):
        authority.renew_links(desk, keys=False)


def _accounts(desk: Desk) -> None:
    if learn(desk, [host.name for host in desk.office.hosts]):
        desk.apply(serving(desk.office, "names"))
