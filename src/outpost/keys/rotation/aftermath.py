"""After an apply, store what the office's secrets must keep: new DNSSEC keys and ACME accounts."""

from collections.abc import Collection

from outpost.keys.rotation import accounts, dnssec, engine
from outpost.keys.rotation.engine import Report
from outpost.office.roles import serving
from outpost.target import Target


def keep(target: Target, hosts: Collection[str], report: Report, via: str | None = None) -> None:
    """Store it, as far as these hosts were reached; name servers among them publish it at once."""
    with engine.desk(target, report, via=via) as desk:
        servers = serving(desk.office, "names")
        if servers[0].name in hosts:
            try:
                dnssec.keep(desk)
            except dnssec.UnexplainedError as error:  # the hosts are as declared; the copy stays unchanged
                report(f"DNSSEC keys were not kept: {error.message}. Remedy: {error.remedy}")
        if accounts.learn(desk, hosts):
            if {server.name for server in servers} <= set(hosts):
                desk.apply(servers)
            else:  # an apply of some hosts changes no others
                report(
                    f"the name servers show it after: ./outpost apply {target.typed} --limit {servers[0].role}"
                )
