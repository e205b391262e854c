"""The secrets of an office, and what is derived from them."""

import hashlib
import re
from datetime import datetime
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, SecretStr, StringConstraints, ValidationInfo, field_validator

from outpost.keys.pairs import Hidden, KeyPair
from outpost.office.dns import DkimKey, PublicKeys, dkim_public, dkim_selector, key_digest, private_key_digest

TRANSFER = "transfer"


class _Kept(BaseModel, frozen=True, extra="forbid"):
    pass


class NextAuthority(_Kept):
    """The office's next authority, trusted before it issues anything.

    Attributes:
        trusted: Since when every host trusts it; None: not yet.
    """

    pair: KeyPair
    trusted: datetime | None = None


class NextKey(_Kept):
    """The next key of a host's public certificate (PEM), published before it is used.

    Attributes:
        since: When it was made, which is when the current key came into use.
        seen: Since when every authoritative server has published its TLSA record; None if not yet.
    """

    key: Hidden
    since: datetime | None = None
    seen: datetime | None = None


class BackupKeys(_Kept):
    """The keys to one host's backup, and to no other one.

    Attributes:
        ssh_key: Opens the host's repository on the backup server, OpenSSH.
        passphrase: Encrypts what is in it; 256 bits, base64.
    """

    ssh_key: Hidden
    passphrase: Hidden


ACCOUNT = re.compile(r"https://[a-z0-9.-]{1,253}(?::\d{1,5})?(?:/[A-Za-z0-9._~%=-]{0,100}){1,10}")
"""An account's URL (RFC 8555, section 7.1.2), without characters that have a meaning in a CAA record."""


class AcmeAccount(_Kept):
    """An authority's name for a host's account (public); another authority does not know it."""

    directory: str
    url: str

    @field_validator("url")
    @classmethod
    def _of_that_authority(cls, value: str, info: ValidationInfo) -> str:
        """A host reports it, and the zone publishes it: it must be one URI, of the authority that was asked."""
        origin = urlsplit(info.data.get("directory", ""))[:2]
        if not ACCOUNT.fullmatch(value) or urlsplit(value)[:2] != origin:
            raise ValueError("not an account of that authority")
        return value


DkimStage = Literal["published", "active", "retired", "revoked"]


class DkimKeys(_Kept):
    """The two private keys that sign a message (RFC 8301, RFC 8463), PEM, and their stage.

    Attributes:
        stage: ``published`` before the first signature, ``active`` while it signs, ``retired`` while messages with
            its signature are still on their way, ``revoked`` (empty ``p=``, private halves destroyed) at the end.
        since: When it reached that stage.
        seen: Since when every authoritative server shows this stage; None: not yet.
    """

    rsa: Hidden
    ed25519: Hidden
    stage: DkimStage = "active"
    since: datetime | None = None
    seen: datetime | None = None


_PEM = re.compile(
    r"-----BEGIN PRIVATE KEY-----\n(?:[A-Za-z0-9+/]{1,76}={0,2}\n){1,60}-----END PRIVATE KEY-----\n?"
)


class SigningKey(_Kept):
    """A DNSSEC key as the primary name server keeps it; the secrets have a copy, so that it survives that server.

    Attributes:
        id: The server's name for it, made from its public half.
        roles: ``ksk``, ``zsk`` or both.
        timers: The dates of the key on the server: name to UNIX time.
        key: The private key, PEM.
    """

    id: Annotated[str, StringConstraints(pattern="^[0-9a-f]{40}$")]
    roles: tuple[Literal["ksk", "zsk"], ...]
    algorithm: Annotated[int, Field(ge=1, le=255)]
    timers: dict[
        Annotated[str, StringConstraints(pattern="^[a-z_]{1,30}$")], Annotated[int, Field(ge=0, le=2**40)]
    ]
    key: Hidden

    @field_validator("key")
    @classmethod
    def _is_a_key(cls, value: SecretStr) -> SecretStr:
        # Not cryptography's parser: GnuTLS omits leading zeros in one private value of 256, and that parser refuses such a key
        if not _PEM.fullmatch(value.get_secret_value()):
            raise ValueError("no private key in PEM")
        return value


class Secrets(_Kept):
    """All secrets of one office.

    Attributes:
        authority: The office's own certificate authority.
        authority_next: The next authority, while it rolls.
        authority_past: Certificate of the one before it (PEM), trusted until no host shows a certificate of it.
        hosts: Host name to the certificate of its internal links.
        hosts_past: Host name to the certificate before it (PEM), accepted while its key rolls.
        public: Host name to the certificate that users and strangers see.
        public_next: Host name to the key that comes after it.
        public_past: Host name to the SHA-256 of the public key before it, published until the host shows the new one.
        accounts: Host name to the key of its ACME account, PEM.
        acme_accounts: Host name to the account that the authority keeps for that key; CAA names it.
        tsig: Name to key, base64 (HMAC-SHA256, RFC 8945). Zone transfers accept every ``transfer…`` key.
        transfer_key: Name of the one they are asked for with.
        dnssec: Zone to its signing keys, as last fetched from the primary name server.
        dkim: Selector to keys.
        passwords: Address to password hash, ``{ARGON2ID}…``; rendered on the store only.
        one_time: Addresses whose password is a first one, good only for choosing another.
        webmail_key: Encrypts the password inside a webmail session; 24 characters.
        backup: Host name to what opens its backup.
        sealing: The key that each host's sealing key is derived from (`seal_of`); 64 characters; on no host.
        backup_pruning: The SSH key that deletes old archives on the backup server; on no host.
        ssh_hosts: Host name to the SSH host key that its seed brings (`outpost machines seed`); empty where a host has made its own.
        disks: Host name to the passphrase of its encrypted disk on a site's server (`outpost machines up`); on no host.
        smarthost: Password of the office's login at its smarthost.
        readers: The age public keys that the file is encrypted to; the file itself does not name them.
    """

    authority: KeyPair
    authority_next: NextAuthority | None = None
    authority_past: str = ""
    hosts: dict[str, KeyPair]
    hosts_past: dict[str, str] = {}
    public: dict[str, KeyPair]
    public_next: dict[str, NextKey] = {}
    public_past: dict[str, str] = {}
    accounts: dict[str, Hidden] = {}
    acme_accounts: dict[str, AcmeAccount] = {}
    tsig: dict[str, Hidden]
    transfer_key: str = TRANSFER
    dkim: dict[str, DkimKeys]
    dnssec: dict[str, tuple[SigningKey, ...]] = {}
    passwords: dict[str, Hidden]
    one_time: tuple[str, ...] = ()
    webmail_key: Hidden
    sealing: Hidden = SecretStr("")
    backup: dict[str, BackupKeys] = {}
    backup_pruning: Hidden | None = None
    ssh_hosts: dict[str, Hidden] = {}
    disks: dict[str, Hidden] = {}
    smarthost: Hidden | None = None
    readers: tuple[str, ...] = ()

    def seal_of(self, host: str) -> str:
        """The secret that seals a host's stored state, so that nobody on the host can forge it (SYS-08); empty if the office has none."""
        secret = self.sealing.get_secret_value()
        return hashlib.sha256(f"{secret} {host}".encode()).hexdigest() if secret else ""

    @property
    def trusted(self) -> str:
        """Certificates of the authorities that the office's hosts trust for each other, PEM: one, or two during a roll."""
        upcoming = self.authority_next.pair.certificate if self.authority_next else ""
        return self.authority.certificate + upcoming + self.authority_past

    @property
    def transfer_keys(self) -> dict[str, SecretStr]:
        """The TSIG keys that zone transfers accept; several during a roll."""
        return {name: key for name, key in self.tsig.items() if name.startswith(TRANSFER)}

    @property
    def signing(self) -> dict[str, DkimKeys]:
        """The DKIM keys that mail is signed with."""
        return {selector: keys for selector, keys in self.dkim.items() if keys.stage == "active"}

    @property
    def loaded(self) -> dict[str, DkimKeys]:
        """The DKIM keys that the MTAs hold: the active ones, and those just retired."""
        return {selector: keys for selector, keys in self.dkim.items() if keys.stage in ("active", "retired")}

    def to_json(self) -> str:
        """A placeholder for pyinfra, which prints host data."""
        return "<secrets>"


def public_keys(secrets: Secrets) -> PublicKeys:
    def public(selector: str, pair: DkimKeys, algorithm: str) -> DkimKey:
        private = getattr(pair, algorithm).get_secret_value()
        shown = "" if pair.stage == "revoked" else dkim_public(private)
        return DkimKey(dkim_selector(selector, algorithm), algorithm, shown)

    pairs = secrets.dkim.items()
    dkim = tuple(public(*pair, algorithm) for pair in pairs for algorithm in ("rsa", "ed25519"))
    tls = {name: tls_digests(secrets, name) for name in secrets.public}
    return PublicKeys(dkim, tls, secrets.acme_accounts)


def tls_digests(secrets: Secrets, host: str) -> tuple[str, ...]:
    """The TLSA data of a host's public keys: the current and the next key, and the last one until the host no longer shows it."""
    kept = [key_digest(secrets.public[host].certificate)]
    if host in secrets.public_next:
        kept.append(private_key_digest(secrets.public_next[host].key.get_secret_value()))
    if host in secrets.public_past:
        kept.append(secrets.public_past[host])
    return tuple(dict.fromkeys(kept))
