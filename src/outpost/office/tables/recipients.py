"""Whom the office takes mail for: users, aliases, shared mailboxes."""

from pydantic import Field

from outpost.office.tables.values import Line, MailAddress, Part, Size


class User(Part):
    """A person with a mailbox (`[[users]]`)."""

    address: MailAddress = Field(examples=["alice@po.example.com"])
    """The mailbox, in the office's domain."""
    full_name: Line = Field(default="", examples=["Alice Archer"])
    """Shown in webmail and address books."""
    quota: Size | None = Field(default=None, examples=["2GiB"])
    """Mailbox size; `limits.mailbox_quota` where it is not given."""
    disabled: bool = False
    """Whether the account is disabled: no login by any way, open sessions end, filters redirect nothing. Mail is
    still delivered and kept."""
    forward: tuple[MailAddress, ...] = Field(default=(), examples=[["alice@example.net"]])
    """Outside addresses that get a copy of all mail; the mailbox keeps its own. Copies have this user's address as
    sender and an ARC seal, and count against `limits.redirects`."""
    send_as: tuple[MailAddress, ...] = Field(default=(), examples=[["site@po.example.com"]])
    """More addresses of the office that this user may send from, besides aliases and shared mailboxes that list the
    user."""

    @property
    def name(self) -> str:
        """The local part."""
        return self.address.partition("@")[0]


class Alias(Part):
    """An address that stands for several mailboxes (`[[aliases]]`)."""

    address: MailAddress = Field(examples=["site@po.example.com"])
    """The alias, in the office's domain."""
    members: tuple[MailAddress, ...] = Field(
        min_length=1, examples=[["alice@po.example.com", "bob@po.example.com"]]
    )
    """Users or other aliases of this office."""
    inside_only: bool = False
    """Whether only the office's own users may write to it (`550 5.7.1` to everybody else)."""


class SharedMailbox(Part):
    """A mailbox that several people read and nobody logs in to (`[[shared]]`)."""

    address: MailAddress = Field(examples=["tenders@po.example.com"])
    """The mailbox, in the office's domain."""
    members: tuple[MailAddress, ...] = Field(
        default=(), examples=[["alice@po.example.com", "bob@po.example.com"]]
    )
    """Users who read, file, delete and send from it. They find it below `Shared/` among their folders."""
    readers: tuple[MailAddress, ...] = Field(default=(), description="Users who read it, and nothing else.")
    quota: Size | None = Field(default=None, examples=["2GiB"])
    """Its size; `limits.mailbox_quota` where it is not given."""

    @property
    def folder(self) -> str:
        """Its name below ``Shared/``; a dot would be a folder within a folder."""
        return self.address.partition("@")[0].replace(".", "-")
