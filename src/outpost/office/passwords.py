"""What somebody who knows the office would guess first as a password (AUT-02): its names, places in the DNS, and people."""

from outpost.office.model import Office
from outpost.onhost.passwords import words_of


def office_words(office: Office) -> frozenset[str]:
    """Words that a guesser takes from the office: its names, places in the DNS, and people."""
    texts = [office.name, office.organisation, office.domain]
    texts += [host.name for host in office.hosts]
    texts += [domain for peer in office.peers for domain in (peer.name, *peer.domains)]
    texts += [text for user in office.users for text in (user.name, user.full_name)]
    texts += [alias.address.partition("@")[0] for alias in office.all_aliases]
    return words_of(texts)
