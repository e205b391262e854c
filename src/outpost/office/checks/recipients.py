"""Users, aliases and shared mailboxes: each address once, and each leads to a mailbox."""

from collections.abc import Iterable, Iterator

from outpost.office.checks.rule import nearest, own_names, path_back, rule
from outpost.office.model import ROLE_ADDRESSES, Office
from outpost.office.problems import Problem

DAEMONS = ("mailer-daemon", "double-bounce", "bounce", "noreply-dmarc", "dmarc-noreply", "nobody", "daemon")


MOST_SHOWN = 8
"""Addresses of a circle that a message names."""


def _addresses_of(office: Office) -> Iterator[tuple[str, str]]:
    for table in ("users", "shared", "aliases"):
        for at, each in enumerate(getattr(office, table)):
            yield f"{table}[{at}].address", each.address


@rule()
def _recipients_unique(office: Office) -> Iterator[Problem]:
    owner: dict[str, str] = {}
    for field, address in _addresses_of(office):
        if address in owner:
            message = f"declared already, as {owner[address]}"
            yield Problem(field, address, message, "remove one, or give it another address")
        owner.setdefault(address, field)


@rule("domain")
def _recipients_ours(office: Office) -> Iterator[Problem]:
    found = list(_addresses_of(office))
    domains = {address.partition("@")[2] for _, address in found}
    if len(domains) == 1 and len(found) > 1 and office.domain not in domains:
        message = f"no address of the office has this domain: all are in {domains.pop()}"
        remedy = "write the domain of the addresses, or the addresses in this domain"
        yield Problem("domain", office.domain, message, remedy)
        return
    for field, address in found:
        local, _, domain = address.partition("@")
        if domain != office.domain:
            yield Problem(field, address, "not in the office's domain", f"write {local}@{office.domain}")


@rule()
def _recipients_free(office: Office) -> Iterator[Problem]:
    """Names that mail servers write from, and names of RFC 2142, which stand for a task and not a person."""
    for field, address in _addresses_of(office):
        local = address.partition("@")[0]
        person = field.startswith("users")
        if local in DAEMONS:
            message = "mail servers send their own notices from this address"
            yield Problem(field, address, message, "give it another name")
        elif person and local in ROLE_ADDRESSES:
            remedy = f"give the person a name of their own; an alias {local}@ may lead to others"
            yield Problem(field, address, "a role address (RFC 2142), whose mail the postmaster gets", remedy)


def _unknown(
    field: str, named: Iterable[str], known: list[str], message: str, remedy: str = "name a declared one"
) -> Iterator[Problem]:
    for address in named:
        if address not in known:
            yield Problem(field, address, message, f"{remedy}{nearest(address, known)}")


@rule("users", "aliases", "shared", "domain", "postmaster")
def _alias_members(office: Office) -> Iterator[Problem]:
    known = [alias.address for alias in office.all_aliases] + list(office.mailboxes)
    message = "neither a user nor an alias of this office"
    for index, alias in enumerate(office.aliases):
        yield from _unknown(f"aliases[{index}].members", alias.members, known, message)


@rule("users")
def _shared_mailboxes(office: Office) -> Iterator[Problem]:
    people = [user.address for user in office.users]
    folders = [mailbox.folder for mailbox in office.shared]
    for index, mailbox in enumerate(office.shared):
        if mailbox.folder in folders[:index]:
            message = f"the same folder Shared/{mailbox.folder} as another one"
            yield Problem(f"shared[{index}].address", mailbox.address, message, "give it another name")
        if not mailbox.members + mailbox.readers:
            remedy = "name users in members or readers, or remove the mailbox"
            yield Problem(f"shared[{index}].members", mailbox.address, "nobody reads it", remedy)
        for address in mailbox.readers:
            if address in mailbox.members:
                message = "among its members, too, who may do more"
                yield Problem(f"shared[{index}].readers", address, message, "remove it here")
        for key, addresses in (("members", mailbox.members), ("readers", mailbox.readers)):
            yield from _unknown(f"shared[{index}].{key}", addresses, people, "not a user of this office")


@rule("users", "aliases", "shared", "domain", "limits")
def _users_rights(office: Office) -> Iterator[Problem]:
    ours = [alias.address for alias in office.all_aliases] + list(office.mailboxes)
    own = own_names(office)
    for index, user in enumerate(office.users):
        message = "not an address of this office: its mail would be refused elsewhere as forged"
        remedy = "name one of its users, aliases or shared mailboxes"
        yield from _unknown(f"users[{index}].send_as", user.send_as, ours, message, remedy)
        for address in user.forward:
            if address.partition("@")[2] in own:
                remedy = "forwarding is for addresses outside: make an alias with both members"
                yield Problem(f"users[{index}].forward", address, "an address of this office", remedy)
        if len(user.forward) > office.limits.redirects:
            message = f"more copies than limits.redirects ({office.limits.redirects}) allows"
            yield Problem(f"users[{index}].forward", str(len(user.forward)), message, "remove some addresses")


@rule()
def _alias_loops(office: Office) -> Iterator[Problem]:
    members = {alias.address: alias.members for alias in office.aliases}
    reported: set[str] = set()
    for index, alias in enumerate(office.aliases):
        path = () if alias.address in reported else path_back(alias.address, members)
        reported |= {*path}
        if path:
            message, remedy = "an alias that leads back to itself", "remove the member that leads back"
            shown = path if len(path) <= MOST_SHOWN else (*path[: MOST_SHOWN - 1], "…", path[-1])
            yield Problem(f"aliases[{index}].members", " -> ".join(shown), message, remedy)


@rule("users", "aliases", "shared", "domain", "postmaster", "limits")
def _alias_sizes(office: Office) -> Iterator[Problem]:
    known = {*office.mailboxes, *(alias.address for alias in office.all_aliases)}
    if not office.limits.alias_members or any({*alias.members} - known for alias in office.all_aliases):
        return
    address, mailboxes = max(office.expanded.items(), key=lambda found: len(found[1]))
    if len(mailboxes) > office.alias_members:
        message = f"{address} stands for {len(mailboxes)} mailboxes: mail to it would wait"
        remedy = f"write {len(mailboxes)} or more"
        yield Problem("limits.alias_members", str(office.alias_members), message, remedy)


@rule("domain", "closing")
def _closing(office: Office) -> Iterator[Problem]:
    address = office.closing.forward
    if address and address.partition("@")[2] in own_names(office):
        message = "an address of this office: its mail would come back for ever"
        yield Problem("closing.forward", address, message, "give an address outside")


@rule("users", "postmaster")
def _postmaster(office: Office) -> Iterator[Problem]:
    people, message = [user.address for user in office.users], "not one of the users"
    yield from _unknown("postmaster", [office.postmaster], people, message, "name a declared user")


@rule("users", "peers", "domain", "verification")
def _verification(office: Office) -> Iterator[Problem]:
    domains = {domain for peer in office.peers for domain in peer.domains}
    people, canaries = [user.address for user in office.users], filter(None, [office.verification.canary])
    yield from _unknown("verification.canary", canaries, people, "not one of the users")
    for index, address in enumerate(office.verification.correspondents):
        if address.partition("@")[2] in {office.domain, *domains}:
            message = "not on the Internet: the office's own or a peer's"
            remedy = "remove it (peers are asked in any case)"
            yield Problem(f"verification.correspondents[{index}]", address, message, remedy)
