"""Replace the office's own authority. Everybody trusts the new one before it issues a certificate.

1. Generate the next authority.
2. Every host trusts both.
3. People give the new certificate to users and peers who know the office by its authority.
4. The new authority issues every certificate again. Keys stay the same, so pins and TLSA records stay true.
5. Every host shows its new certificate.
6. No host trusts the old authority any more.

It also issues the certificates of the links between the office's hosts. A new certificate for the same key needs no order: every
host verifies the authority. A new key does, because the MTA's listener for users' mail names the store's key: first the MTAs
accept both, then every host shows its new one, then the old one is forgotten. Each step is applied before the next is written down.
"""

from outpost.keys.model import NextAuthority
from outpost.keys.pairs import new_authority
from outpost.keys.rotation.engine import Desk, Rows
from outpost.keys.secrets_file import complete, renewed_hosts, succeeded
from outpost.office.role import serving


def advance(desk: Desk) -> None:
    """Take the next step. The step before the switch is the administrator's, so the switch is a separate call."""
    upcoming = desk.secrets.authority_next
    if upcoming and upcoming.trusted:
        desk.keep(succeeded(desk.office, desk.secrets, desk.now()))
        desk.report("the next authority has issued every certificate again")
    if desk.secrets.authority_past:
        _forget(desk)
    else:
        _trust(desk)


def status(desk: Desk) -> Rows:
    """Which authority, its stage, what comes next."""
    kept, again = desk.secrets, f"go on with: ./outpost rotate authority {desk.target.typed}"
    ends = kept.authority.loaded.not_valid_after_utc
    rows = [("authority", "in use", f"ends {ends:%Y-%m-%d}; its certificates end then, too")]
    if kept.authority_next:
        stage = "trusted by every host" if kept.authority_next.trusted else "not trusted everywhere"
        rows.append(("the next one", stage, again))
    if kept.authority_past:
        rows.append(("the one before", "still trusted", again))
    return rows


def _trust(desk: Desk) -> None:
    upcoming = desk.secrets.authority_next
    if upcoming is None:
        upcoming = NextAuthority(pair=new_authority(desk.office, desk.now()))
        desk.change(authority_next=upcoming)
        desk.report("generated the next authority")
    desk.apply(desk.office.hosts)
    desk.change(authority_next=upcoming.model_copy(update={"trusted": desk.now()}))
    desk.report(
        f"every host trusts both. Users and peers who know the office by its authority need both, too: give them what "
        f"./outpost secrets ca {desk.target.typed} prints, then run the same command again"
    )


def _forget(desk: Desk) -> None:
    desk.apply(desk.office.hosts)
    desk.report("every host shows its new certificate")
    desk.change(authority_past="")
    desk.apply(desk.office.hosts)
    desk.report("no host trusts the old authority any more")


def links_due(desk: Desk) -> bool:
    """Whether a certificate is to be renewed, or a roll was interrupted."""
    renewed = complete(desk.office, desk.secrets, now=desk.now()).secrets.hosts
    return bool(desk.secrets.hosts_past) or renewed != desk.secrets.hosts


def renew_links(desk: Desk, *, keys: bool) -> None:
    """Issue every host's certificate again; with `keys` for a new key."""
    kept = desk.secrets
    if not kept.hosts_past:
        past = {name: pair.certificate for name, pair in kept.hosts.items()} if keys else {}
        fresh = renewed_hosts(desk.office, kept, desk.now(), keys=keys)
        desk.change(hosts=fresh, hosts_past=past)
        desk.report(f"issued {len(fresh)} certificates{' for new keys' if keys else ''}")
    if desk.secrets.hosts_past:
        desk.apply(serving(desk.office, "transport"))
        desk.report("the MTAs accept the store's old and new key")
    desk.apply(desk.office.hosts)
    desk.report("every host shows its new certificate")
    if desk.secrets.hosts_past:
        desk.change(hosts_past={})
        desk.apply(serving(desk.office, "transport"))
        desk.report("the old keys are no longer accepted")


def links_status(desk: Desk) -> Rows:
    """Host, stage, end of its certificate."""
    stage = "rolling" if desk.secrets.hosts_past else "in use"
    return [
        (name, stage, f"valid until {pair.loaded.not_valid_after_utc:%Y-%m-%d}, renewed 30 days before")
        for name, pair in desk.secrets.hosts.items()
    ]
