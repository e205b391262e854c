"""The TLS versions and cipher suites of the office's servers: Mozilla's profiles, as OpenSSL writes them. Pure.

Strangers and users get the profile that `tls.profile` names; the links between the office's hosts and to its peers
are "intermediate" whatever it says. Every suite has forward secrecy; the certificates' keys are ECDSA (P-256), the
RSA suites serve certificates that were provided.
"""

from dataclasses import dataclass
from typing import Literal

TlsProfile = Literal["intermediate", "old"]

_AEAD = (
    "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305", "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256",
)  # fmt: skip
_CBC = ("ECDHE-ECDSA-AES256-SHA", "ECDHE-RSA-AES256-SHA", "ECDHE-ECDSA-AES128-SHA", "ECDHE-RSA-AES128-SHA")
_LEGACY = "@SECLEVEL=0"
"""OpenSSL's setting that makes TLS 1.0 and 1.1 possible at all (their handshake is signed with SHA-1)."""


@dataclass(frozen=True)
class TlsLevel:
    """What a server accepts.

    Attributes:
        versions: TLS versions, the oldest first, as nginx writes them.
        ciphers: Suites of TLS 1.2 and before, the preferred ones first, as OpenSSL writes them.
    """

    versions: tuple[str, ...]
    ciphers: str

    @property
    def oldest(self) -> str:
        return self.versions[0]


INTERMEDIATE = TlsLevel(("TLSv1.2", "TLSv1.3"), ":".join(_AEAD))
OLD = TlsLevel(("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"), ":".join((*_AEAD, *_CBC, _LEGACY)))
LEVELS: dict[TlsProfile, TlsLevel] = {"intermediate": INTERMEDIATE, "old": OLD}
