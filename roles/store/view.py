"""What a store's files say, derived from the office: accounts, listeners, who needs a certificate, the way to the MTA.

Pure: no I/O, no pyinfra. Templates below ``templates/store/`` get one ``StoreView`` as ``store`` and print it.
"""

import shlex
from dataclasses import dataclass
from email.header import Header
from email.utils import formataddr

from outpost.office import ports
from outpost.office.base import HostView
from outpost.office.flows import inbound
from outpost.office.model import Office
from outpost.office.tables.recipients import SharedMailbox
from outpost.office.tables.topology import Host
from outpost.office.tables.values import IPAddress, IPNetwork
from outpost.onhost.passwords import words_of

QUOTA_GRACE = 10 * 1024**2
"""Bytes by which one delivery may exceed the quota of a mailbox that is not full yet, so that the last message is not refused at random."""

FOLDERS = 2000
"""Most folders of a mailbox; each takes ten files besides its messages."""

BLOCK = 4096
"""Bytes that a file takes on the disk at least."""

DELIVERIES_PER_USER = 4
"""Parallel deliveries into one mailbox. Each may exceed the quota once, and a mail bomb must not take every process."""


def decoy(hashed: str) -> str:
    """A hash that no password matches and that takes as long to check as a real one: unknown users are checked against it."""
    *parameters, salt, digest = hashed.split("$")
    return "$".join((*parameters, "A" * len(salt), "A" * len(digest)))


@dataclass(frozen=True)
class StoreView(HostView):
    """One store of an office."""

    @property
    def sender(self) -> str:
        """The office as a name in a From header (RFC 5322, RFC 2047), quoted for the shell."""
        name, postmaster = self.office.organisation, self.office.postmaster
        if name.isascii():
            return shlex.quote(formataddr((name, postmaster)))
        return shlex.quote(f"{Header(name, 'utf-8').encode()} <{postmaster}>")

    @staticmethod
    def quoted(text: str) -> str:
        """Text as a quoted value of dovecot.conf, in which nothing is expanded."""
        plain = text.replace("\\", "\\\\").replace('"', '\\"').replace("%{", "%%{")
        return f'"{plain}"'

    @staticmethod
    def rights(mailbox: SharedMailbox) -> dict[str, str]:
        """Login → its rights in a shared mailbox (RFC 4314): readers see and read, members do everything but grant rights."""
        return dict.fromkeys(mailbox.readers, "lrs") | dict.fromkeys(mailbox.members, "lrwstipekx")

    @property
    def indexed(self) -> int:
        """Octets of a message's text and attachments that the search index takes at most."""
        return 1024**2

    @property
    def shared_quota(self) -> int:
        """What members may store in all shared mailboxes together, in bytes."""
        return sum(int(self.office.quota(mailbox)) for mailbox in self.office.shared)

    @property
    def most_messages(self) -> int:
        """The most messages in a mailbox. Each file uses at least one block of the disk."""
        quota, office = self.office.quota, self.office
        sizes = (*map(quota, office.users), *map(quota, office.shared), int(office.limits.mailbox_quota))
        return max(sizes) // BLOCK

    @property
    def forwards(self) -> dict[str, tuple[str, ...]]:
        """Login → the outside addresses that get copies."""
        return {
            user.address: user.forward for user in self.office.users if user.forward and not user.disabled
        }

    @property
    def active(self) -> tuple[str, ...]:
        """Addresses that accept logins."""
        return tuple(user.address for user in self.office.users if not user.disabled)

    @property
    def login_addresses(self) -> tuple[IPAddress, ...]:
        """Where users' programs and webmail read, send and manage filters."""
        return self.listens(ports.IMAPS)

    @property
    def lmtp_addresses(self) -> tuple[IPAddress, ...]:
        """Where the MTAs deliver."""
        return self.listens(ports.LMTP)

    @property
    def office_addresses(self) -> tuple[IPAddress, ...]:
        """Login addresses that only the office's own hosts use: there the store shows its host certificate and requires one."""
        return tuple(
            address
            for address in self.login_addresses
            if all(
                flow.source.host is not None
                for flow in inbound(self.office, self.me)
                if flow.port == ports.IMAPS and any(address in net for net in flow.destination.networks)
            )
        )

    @property
    def certless_networks(self) -> tuple[IPNetwork, ...]:
        """Networks from which users log in without a client certificate; a login from anywhere else needs one."""
        flows = (flow for flow in inbound(self.office, self.me) if flow.port == ports.IMAPS)
        users = (flow.source for flow in flows if flow.source.host is None)
        return tuple(network for source in users for network in source.networks)

    @property
    def webmail_addresses(self) -> tuple[IPAddress, ...]:
        """Addresses from which webmail logs in, for many browsers."""
        flows = (flow for flow in inbound(self.office, self.me) if flow.port == ports.IMAPS)
        hosts = (flow.source for flow in flows if flow.source.host is not None)
        return tuple(network.network_address for source in hosts for network in source.networks)

    @property
    def mtas(self) -> tuple[Host, ...]:
        """The MTAs: only their certificates open the delivery port."""
        return self.office.with_role("mta")

    @property
    def calendars(self) -> tuple[Host, ...]:
        """Hosts with calendars: only their certificates may ask about logins."""
        return self.office.with_role("groupware")

    @property
    def relays(self) -> tuple[IPAddress, ...]:
        """The MTAs that get users' mail: the first one, and the others when it is down. See docs/adr/0007."""
        return tuple(self.office.link_addresses(mta, self.me)[0] for mta in self.office.mail_servers)

    @property
    def relay_listeners(self) -> tuple[IPAddress, ...]:
        """Where Dovecot reaches it; not on loopback, because the certificate has this host's own addresses."""
        return self.office.link_addresses(self.me, self.me)

    @property
    def has_relay_listener(self) -> bool:
        """Whether stunnel stands between Dovecot and several MTAs: Dovecot supports only one relay (docs/adr/0019)."""
        return len(self.relays) > 1


def office_words(office: Office) -> frozenset[str]:
    """Words that a guesser takes from the office: its names, places in the DNS, and people."""
    texts = [office.name, office.organisation, office.domain]
    texts += [host.name for host in office.hosts]
    texts += [domain for peer in office.peers for domain in (peer.name, *peer.domains)]
    texts += [text for user in office.users for text in (user.name, user.full_name)]
    texts += [alias.address.partition("@")[0] for alias in office.all_aliases]
    return words_of(texts)
