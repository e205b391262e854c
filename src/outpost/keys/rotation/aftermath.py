"""What an apply brings to light and the office's secrets must keep: DNSSEC keys that were made, ACME accounts."""

from collections.abc import Collection

from outpost.keys.rotation import accounts, dnssec, engine
from outpost.keys.rotation.engine import Report
from outpost.office.roles import serving
from outpost.target import Target


def keep(target: Target, hosts: Collection[str], report: Report, via: str | None = None) -> None:
    """Keep it, as far as these hosts were reached; name servers that were among them show it at once."""
    with engine.desk(target, report, via=via) as desk:
        servers = serving(desk.office, "names")
        if servers[0].name in hosts:
            try:
                dnssec.keep(desk)
            except dnssec.UnexplainedError as error:  # the hosts are as declared; the copy stays as it was
                report(f"DNSSEC keys were not kept: {error.message}. Remedy: {error.remedy}")
        if accounts.learn(desk, hosts):
            if {server.name for server in servers} <= set(hosts):
                desk.apply(servers)
            else:  # an apply of some hosts changes no others
                report(
                    f"the name servers show it after: ./outpost apply {target.typed} --limit {servers[0].role}"
                )
