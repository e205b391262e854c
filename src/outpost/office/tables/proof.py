"""What may be done to the office to prove it: attacks, and the checks on running hosts."""

import re
from datetime import date
from typing import Annotated

from pydantic import AfterValidator, Field

from outpost.office.tables.values import Line, MailAddress, Part


class Attack(Part):
    """Whether the office agrees to be attacked by its own administrators (`[attack]`)."""

    consent_until: date | None = Field(default=None, examples=["2026-12-31"])
    """Last day on which `./outpost attack` may run against this office; never without it (the lab needs none).
    Attacks that take a service down run in the lab only."""


def _pattern(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None
    return value


class ExplainedMessage(Part):
    """What a daemon of this office writes though nothing is wrong (`[[verification.explained]]`)."""

    says: Annotated[str, AfterValidator(_pattern)] = Field(
        max_length=300, examples=["^chronyd: Source N.N.N.N offline"]
    )
    """Regular expression that finds the line: `DAEMON: MESSAGE` as in the journal, each number written as `N`."""
    why: Line = Field(min_length=10, examples=["the site's power is off at night"])
    """Why it is harmless."""


class Verification(Part):
    """What the live checks may do and what they accept (`[verification]`)."""

    canary: MailAddress | None = Field(default=None, examples=["canary@po.example.com"])
    """User whose mailbox gets a verification's own messages, which it removes again; empty: the postmaster."""
    correspondents: tuple[MailAddress, ...] = Field(default=(), examples=[["postmaster@example.org"]])
    """Addresses on the Internet whose servers are asked, up to RCPT, whether they would accept mail from the office;
    nothing is sent. The peers' postmasters are always asked."""
    explained: tuple[ExplainedMessage, ...] = ()
    """Warnings and errors in this office's journals that are harmless."""
