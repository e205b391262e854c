"""The text that ``outpost peer`` prints: facts for any mail server, and the lines for Postfix."""

from __future__ import annotations

from outpost.office.peering import OtherEnd
from outpost.target import ROOT
from outpost.templates import environment


def facts(end: OtherEnd) -> str:
    """What people at the other end have to know, whatever their server is."""
    return _rendered("facts.j2", end)


def main_cf(end: OtherEnd) -> str:
    """Its lines for Postfix's main.cf."""
    return _rendered("main.cf.j2", end)


def master_cf(end: OtherEnd) -> str:
    """Its lines for Postfix's master.cf."""
    return _rendered("master.cf.j2", end)


def recipients(end: OtherEnd) -> str:
    """Every recipient of the office, as a table (``texthash:``) for ``relay_recipient_maps``."""
    return "".join(f"{address} known\n" for address in end.recipients)


def _rendered(template: str, end: OtherEnd) -> str:
    return environment(ROOT / "templates" / "peer").get_template(template).render(end=end)
