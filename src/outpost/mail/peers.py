"""The text that ``outpost peer`` prints: facts for any mail server, and the lines for Postfix."""

from outpost.office.peering import OtherEnd
from outpost.target import ROOT
from outpost.templates import environment


def rendered(template: str, end: OtherEnd) -> str:
    """What the peer's administrator has to know for any server (`facts.j2`), or lines for Postfix's main.cf and master.cf."""
    return environment(ROOT / "templates" / "peer").get_template(template).render(end=end)


def recipients(end: OtherEnd) -> str:
    """Every recipient of the office, as a table (``texthash:``) for ``relay_recipient_maps``."""
    return "".join(f"{address} known\n" for address in end.recipients)
