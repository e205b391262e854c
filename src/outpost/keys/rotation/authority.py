"""Replace the office's own authority. Everybody trusts the new one before it issues a certificate.

1. Generate the next authority.
2. Every host trusts both.
3. People give the new certificate to users and peers who know the office by its authority.
4. The new authority issues every certificate again. Keys stay the same, so pins and TLSA records stay true.
5. Every host shows its new certificate.
6. No host trusts the old authority any more.
"""

from outpost.keys.model import NextAuthority
from outpost.keys.pairs import new_authority
from outpost.keys.rotation.engine import Desk, Rows
from outpost.keys.secrets_file import succeeded


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
    rows = [("authority", "in use", f"ends {ends:%Y-%m-%d}, and what it issued with it")]
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
