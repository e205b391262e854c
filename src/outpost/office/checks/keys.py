"""Certificates that come."""

from __future__ import annotations

from collections.abc import Iterator

from outpost.office.certificates import mode
from outpost.office.checks.rule import Rule, placed
from outpost.office.model import Office
from outpost.office.problems import Problem


def _certificates_come(office: Office) -> Iterator[Problem]:
    given = {item.host for item in office.tls.provided}
    for host in office.hosts:
        chosen = mode(office, host)
        field = f"hosts.{host.name}.certificates"
        if not placed(office, host):
            continue
        if chosen == "acme" and not office.addresses_of_kind(host, "internet") and not office.acme.proxy:
            yield Problem(
                field,
                "acme",
                f"{host.name} has no address on the Internet, so it cannot ask the authority",
                'name a proxy in acme.proxy, or give the host certificates = "office"',
            )
        if chosen == "provided" and host.name not in given:
            yield Problem(
                field,
                "provided",
                f"no certificate in {host.name}.pem beside office.toml",
                f"put it there with its chain; its request: outpost secrets csr OFFICE {host.name}",
            )


def awaits_certificate(problem: Problem) -> bool:
    """Whether a certificate that an authority issues by hand is all that is missing."""
    return problem.value == "provided" and problem.field.endswith(".certificates")


RULES: tuple[Rule, ...] = ((_certificates_come, {"hosts", "zones", "acme"}),)
