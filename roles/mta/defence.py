"""Settings of the MTA's policy service and of Rspamd's office rules, derived from the office.

Pure: no I/O, no pyinfra. Both read JSON; the code that reads it is the same for every office.
"""

from typing import Any

from outpost.office import ports
from roles.mta.view import MtaView

POLICY_SOCKET = "/var/spool/postfix/policy/socket"
"""In Postfix's spool, because smtpd is chrooted there."""

ALARM_PORT = 10025
"""Loopback listener that accepts mail for the postmaster only."""

TLS = "/etc/outpost/tls"
COUNTED = {"mailbox_messages", "unknown_recipients", "user_recipients", "user_hold", "message_budget"}
"""Limits that the policy service counts."""


def shaped_rate(view: MtaView) -> int:
    """Outgoing rate in kbit/s; 0 if it is not limited (AMP-03)."""
    link = view.office.link
    return link.rate_kbit * link.shaped_percent // 100


def policy_settings(view: MtaView) -> dict[str, Any]:
    """``/etc/outpost/policy.json`` (outpost.onhost.policy.Settings)."""
    office = view.office
    return {
        "socket": POLICY_SOCKET,
        "domain": office.domain,
        "office": office.name,
        "aliases": {address: list(members) for address, members in view.aliases.items()},
        "mailboxes": list(office.mailboxes),
        "peers": {
            peer.name: {"relays": [str(address) for address in peer.relays], "domains": list(peer.domains)}
            for peer in office.peers
        },
        "own_addresses": [str(address) for address in view.me.all_addresses],
        **office.limits.model_dump(include=COUNTED),
        "postmaster": office.postmaster,
        "alarm_port": ALARM_PORT,
        "large": [
            {
                "name": peer.name,
                "domains": list(peer.domains),
                "size": int(peer.large),
                "hours": peer.large_hours,
            }
            for peer in office.peers
            if peer.large
        ],
        "store": {
            "addresses": [str(address) for address in view.store_addresses],
            "port": ports.QUOTA_STATUS,
            "names": list(view.store_names),
            "authority": f"{TLS}/ca.pem",
            "certificate": f"{TLS}/host.pem",
            "key": f"{TLS}/host.key",
        },
    }


def route_settings(view: MtaView) -> dict[str, Any]:
    """``/etc/outpost/routes.json`` (outpost.onhost.routes)."""
    office = view.office
    longest = office.link.queue_lifetime
    store = {
        "name": "store", "domains": [office.domain], "host": str(view.store_addresses[0]), "port": ports.LMTP,
        "lifetime": longest, "retry": 60, "inside": True,
    }  # fmt: skip
    peers = (
        {
            "name": peer.name, "domains": list(peer.domains), "host": peer.next_hop, "port": peer.port,
            "lifetime": peer.lifetime or longest, "retry": peer.retry, "hours": peer.large_hours if peer.large else "",
            "internet": office.zones[peer.zone].kind == "internet",
        }
        for peer in office.peers
    )  # fmt: skip
    return {"lifetime": longest, "routes": [store, *peers]}


def filter_facts(view: MtaView) -> dict[str, Any]:
    """The facts for the office's rules in Rspamd (``rspamd/lua.local.d/office.lua``)."""
    office = view.office
    policy, limits = office.policy, office.limits
    # a notification may arrive at the other MTA, which does not know what this one has sent
    unsure = policy.forged_bounce == "refuse" and len(office.with_role("mta")) > 1
    return {
        "domain": office.domain,
        "names": [  # a list: two people may have the same name
            {"name": user.full_name, "address": user.address} for user in office.users if user.full_name
        ],
        "owners": {address: list(logins) for address, logins in office.senders.items()},
        "peers": {
            domain: {"name": peer.name, "relays": [str(address) for address in peer.relays]}
            for peer in office.peers
            for domain in peer.domains
        },
        "own_addresses": ["127.0.0.1", "::1"],
        "store_addresses": [str(address) for address in view.store_addresses],
        **policy.model_dump(include={"forged_own", "forged_peer", "impersonation"}),
        "impersonation_subject": policy.impersonation_subject,
        "forged_bounce": "tag" if unsure else policy.forged_bounce,
        "external_subject": policy.external_subject,
        "refused": list(policy.refused_attachments),
        "refused_at_top": list(policy.refused_at_top),
        "same_signature": office.same_signature,
        "mime_depth": limits.mime_depth,
        "header_bytes": int(limits.header_bytes),
    }
