"""Whom the office takes mail for: users, aliases, shared mailboxes."""

from __future__ import annotations

from pydantic import Field

from outpost.office.tables.values import Line, MailAddress, Part, Size


class User(Part):
    """A person with a mailbox (`[[users]]`)."""

    address: MailAddress = Field(
        description="The mailbox, in the office's domain.", examples=["alice@po.example.com"]
    )
    full_name: Line = Field(
        default="", description="Shown in webmail and address books.", examples=["Alice Archer"]
    )
    quota: Size | None = Field(
        default=None,
        description="Mailbox size; `limits.mailbox_quota` where it is not given.",
        examples=["2GiB"],
    )
    disabled: bool = Field(
        default=False,
        description="Whether the account is disabled: no login by any way, open sessions end, filters redirect "
        "nothing. Mail is still delivered and kept.",
    )
    forward: tuple[MailAddress, ...] = Field(
        default=(),
        description="Outside addresses that get a copy of all mail; the mailbox keeps its own. Copies have this "
        "user's address as sender and an ARC seal, and count against `limits.redirects`.",
        examples=[["alice@example.net"]],
    )
    send_as: tuple[MailAddress, ...] = Field(
        default=(),
        description="More addresses of the office that this user may send from, besides aliases and shared mailboxes "
        "that list the user.",
        examples=[["site@po.example.com"]],
    )

    @property
    def name(self) -> str:
        """The local part."""
        return self.address.partition("@")[0]


class Alias(Part):
    """An address that stands for several mailboxes (`[[aliases]]`)."""

    address: MailAddress = Field(
        description="The alias, in the office's domain.", examples=["site@po.example.com"]
    )
    members: tuple[MailAddress, ...] = Field(
        min_length=1,
        description="Users or other aliases of this office.",
        examples=[["alice@po.example.com", "bob@po.example.com"]],
    )
    inside_only: bool = Field(
        default=False,
        description="Whether only the office's own users may write to it (`550 5.7.1` to everybody else).",
    )


class SharedMailbox(Part):
    """A mailbox that several people read and nobody logs in to (`[[shared]]`)."""

    address: MailAddress = Field(
        description="The mailbox, in the office's domain.", examples=["tenders@po.example.com"]
    )
    members: tuple[MailAddress, ...] = Field(
        default=(),
        description="Users who read, file, delete and send from it. They find it below `Shared/` among their folders.",
        examples=[["alice@po.example.com", "bob@po.example.com"]],
    )
    readers: tuple[MailAddress, ...] = Field(default=(), description="Users who read it, and nothing else.")
    quota: Size | None = Field(
        default=None, description="Its size; `limits.mailbox_quota` where it is not given.", examples=["2GiB"]
    )

    @property
    def folder(self) -> str:
        """Its name below ``Shared/``; a dot would be a folder within a folder."""
        return self.address.partition("@")[0].replace(".", "-")
