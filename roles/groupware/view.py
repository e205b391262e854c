"""What the templates of a groupware host may print: its names and addresses, its way to the store, the directory's cards."""

import re
import uuid
from dataclasses import dataclass
from typing import ClassVar

from outpost.office.base import FrontView
from roles.groupware import CACHE, ENTRIES, ENTRY, STORAGE, workers

SHARED = "office"
"""The principal that owns the office's shared calendars; a user's name has an @ in it."""


@dataclass(frozen=True)
class GroupwareView(FrontView):
    """One groupware host."""

    storage: ClassVar[str] = STORAGE
    cache: ClassVar[str] = CACHE
    entry: ClassVar[int] = ENTRY
    entries: ClassVar[int] = ENTRIES
    shared: ClassVar[str] = SHARED
    directory: ClassVar[str] = "/etc/outpost/directory"

    @property
    def quota(self) -> int:
        """Bytes of one user's calendars and address books together."""
        return int(self.office.limits.calendar_quota)

    @property
    def users(self) -> str:
        """A pattern for the office's logins in Radicale's syntax, where Radicale fills in braces."""
        return rf"[^@]+@{re.escape(self.office.domain)}"

    @property
    def workers(self) -> int:
        return workers(self.size)

    @property
    def cards(self) -> dict[str, str]:
        """File name → vCard (RFC 2426) of everybody who has an address in the office."""
        made: dict[str, str] = {}
        for user in self.office.users:
            if not user.disabled:
                uid = str(uuid.uuid5(uuid.NAMESPACE_URL, f"mailto:{user.address}"))
                name = _escaped(user.full_name or user.name)
                lines = (
                    "BEGIN:VCARD", "VERSION:3.0", f"UID:{uid}", f"FN:{name}", f"N:;{name};;;",
                    f"EMAIL;TYPE=INTERNET:{_escaped(user.address)}", f"ORG:{_escaped(self.office.organisation)}",
                    "END:VCARD", "",
                )  # fmt: skip
                made[f"{uid}.vcf"] = "\r\n".join(lines)
        return made


def _escaped(text: str) -> str:
    """A value of a vCard."""
    return re.sub(r"[\\,;]", lambda found: f"\\{found[0]}", " ".join(text.split()))
