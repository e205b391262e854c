"""Certificates that come, and keys that are public ones."""

from __future__ import annotations

import re
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


def _keys_are_public(office: Office) -> Iterator[Problem]:
    for index, key in enumerate(office.ssh.authorized_keys):
        if not re.match(r"(ssh-ed25519|ecdsa-sha2-|sk-ssh-|sk-ecdsa-|ssh-rsa) ?\S+", key):
            yield Problem(
                f"ssh.authorized_keys[{index}]",
                key[:24],
                "not a public SSH key",
                "paste the line of the .pub file",
            )
    for index, recipient in enumerate(office.secrets.recipients):
        if not re.fullmatch(r"age1[0-9a-z]{58}", recipient):
            yield Problem(
                f"secrets.recipients[{index}]",
                recipient,
                "not an age public key",
                "paste the age1… line that outpost secrets prints",
            )


RULES: tuple[Rule, ...] = (
    (_certificates_come, {"hosts", "zones"}),
    (_keys_are_public, set()),
)
