"""The office's secrets: made once, kept encrypted with age beside the office file, never printed.

``secrets.age`` is one age file holding JSON. Everything in it can be made again except what others already
rely on (keys in the DNS, the authority, users' first passwords), so ``complete`` only ever adds.
"""

from __future__ import annotations

import base64
import json
import os
import secrets as random
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path

import pyrage
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from pydantic import BaseModel, ConfigDict, SecretStr, field_serializer

from outpost.errors import OutpostError
from outpost.office.model import Host, IPAddress, Office

FILE_NAME = "secrets.age"
IDENTITY_VARIABLE = "OUTPOST_IDENTITY"
DEFAULT_IDENTITY = Path("~/.config/outpost/identity.txt")
AUTHORITY_DAYS = 3650
HOST_DAYS = 397
RENEW_DAYS = 30
"""A host certificate with fewer days left is made anew by ``complete``, with the key it has."""
BACKDATE = timedelta(hours=1)
"""Certificates begin this much in the past: a host whose clock lags must not refuse them."""


class _Kept(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class KeyPair(_Kept):
    """A certificate (public) and its private key, PEM."""

    certificate: str
    key: SecretStr

    @field_serializer("key", when_used="json")
    def _reveal(self, value: SecretStr) -> str:
        return value.get_secret_value()


class DkimKeys(_Kept):
    """The two private keys a message is signed with (RFC 8301, RFC 8463), PEM."""

    rsa: SecretStr
    ed25519: SecretStr

    @field_serializer("rsa", "ed25519", when_used="json")
    def _reveal(self, value: SecretStr) -> str:
        return value.get_secret_value()


class Secrets(_Kept):
    """All secrets of one office.

    Attributes:
        authority: The office's own certificate authority.
        hosts: Host name to the certificate of its internal links.
        public: Host name to the certificate that users and strangers see.
        tsig: Name to key, base64 (HMAC-SHA256, RFC 8945).
        dkim: Selector to keys.
        passwords: Address to password hash, ``{ARGON2ID}…``; rendered on the store only.
        webmail_key: Encrypts the password inside a webmail session; 24 characters.
    """

    authority: KeyPair
    hosts: dict[str, KeyPair]
    public: dict[str, KeyPair]
    tsig: dict[str, SecretStr]
    dkim: dict[str, DkimKeys]
    passwords: dict[str, SecretStr]
    webmail_key: SecretStr

    @field_serializer("tsig", "passwords", when_used="json")
    def _reveal_all(self, values: Mapping[str, SecretStr]) -> dict[str, str]:
        return {name: value.get_secret_value() for name, value in values.items()}

    @field_serializer("webmail_key", when_used="json")
    def _reveal(self, value: SecretStr) -> str:
        return value.get_secret_value()

    def to_json(self) -> str:
        """What pyinfra shows of it."""
        return "<secrets>"


@dataclass(frozen=True)
class Completed:
    """The outcome of ``complete``.

    Attributes:
        added: What was made, in words without secrets.
        new_passwords: Address to first password of users who had none; shown once, stored nowhere.
    """

    secrets: Secrets
    added: tuple[str, ...]
    new_passwords: Mapping[str, str]


# Making what is missing ---------------------------------------------------------------------------------------


def complete(office: Office, existing: Secrets | None = None, *, now: datetime | None = None) -> Completed:
    """Add what the office needs and its secrets lack; nothing that exists and is still good is replaced."""
    now = now or datetime.now(UTC)
    added: list[str] = []
    authority = existing.authority if existing else _new_authority(office, now)
    if existing is None:
        added.append("the office's certificate authority")
    hosts, public = (dict(existing.hosts), dict(existing.public)) if existing else ({}, {})
    for host in office.hosts:
        names: tuple[str, ...] = (host.fqdn,)
        if not _good(hosts.get(host.name), names, host.all_addresses, now):
            hosts[host.name] = _issue(authority, names, host.all_addresses, now, hosts.get(host.name))
            added.append(f"certificate of {host.name} for internal links")
        names = public_names(office, host)
        if names and not _good(public.get(host.name), names, (), now):
            public[host.name] = _issue(authority, names, (), now, public.get(host.name))
            added.append(f"certificate of {host.name} for {', '.join(names)}")
    tsig = dict(existing.tsig) if existing else {}
    if "transfer" not in tsig:
        tsig["transfer"] = SecretStr(base64.b64encode(random.token_bytes(32)).decode())
        added.append("TSIG key for zone transfers")
    dkim = dict(existing.dkim) if existing else {}
    if not dkim:
        dkim[f"{now:%Y}q{(now.month + 2) // 3}"] = _new_dkim()
        added.append("DKIM keys")
    passwords = dict(existing.passwords) if existing else {}
    fresh = {user.address: new_password() for user in office.users if user.address not in passwords}
    passwords |= {address: SecretStr(password_hash(password)) for address, password in fresh.items()}
    added += [f"first password of {address}" for address in fresh]
    webmail_key = existing.webmail_key if existing else SecretStr(random.token_urlsafe(18))
    made = Secrets(
        authority=authority,
        hosts=hosts,
        public=public,
        tsig=tsig,
        dkim=dkim,
        passwords=passwords,
        webmail_key=webmail_key,
    )
    return Completed(made, tuple(added), fresh)


def public_names(office: Office, host: Host) -> tuple[str, ...]:
    """Names on the certificate that a host shows to users and strangers; none for name servers."""
    if host.role == "dns":
        return ()
    if host.role == "webmail":
        return (
            host.fqdn,
            *(f"{label}.{office.domain}" for label in ("mta-sts", "autoconfig", "autodiscover")),
        )
    return (host.fqdn,)


def new_password() -> str:
    """A random password of 80 bits in groups that can be read out over a telephone."""
    alphabet = "abcdefghijkmnpqrstuvwxyz23456789"
    return "-".join("".join(random.choice(alphabet) for _ in range(4)) for _ in range(4))


def password_hash(password: str) -> str:
    """Dovecot's Argon2id scheme (AUT-01): 64 MiB, three passes, one lane, which is all that libsodium verifies."""
    from argon2 import PasswordHasher

    return "{ARGON2ID}" + PasswordHasher(time_cost=3, memory_cost=64 * 1024, parallelism=1).hash(password)


def _new_dkim() -> DkimKeys:
    return DkimKeys(
        rsa=SecretStr(_pem(rsa.generate_private_key(public_exponent=65537, key_size=2048))),
        ed25519=SecretStr(_pem(ed25519.Ed25519PrivateKey.generate())),
    )


def _new_authority(office: Office, now: datetime) -> KeyPair:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, office.organisation[:64]),
            x509.NameAttribute(NameOID.COMMON_NAME, f"Office authority of {office.domain}"[:64]),
        ]
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + timedelta(days=AUTHORITY_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        # Whoever trusts this authority trusts it for the office's names and addresses, for nobody else's.
        .add_extension(x509.NameConstraints(_subtrees(office), None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return KeyPair(certificate=_cert_pem(certificate), key=SecretStr(_pem(key)))


def _subtrees(office: Office) -> list[x509.GeneralName]:
    networks = [network for zone in office.zones.values() for network in zone.networks]
    singles = [ip_network(address) for host in office.hosts for address in host.all_addresses]
    outside = [single for single in singles if not any(_within(single, network) for network in networks)]
    return [x509.DNSName(office.domain), *(x509.IPAddress(network) for network in (*networks, *outside))]


def _within(single: object, network: object) -> bool:
    return getattr(single, "version", 0) == getattr(network, "version", 1) and single.subnet_of(network)  # type: ignore[attr-defined]


def _issue(
    authority: KeyPair,
    names: tuple[str, ...],
    addresses: tuple[IPAddress, ...],
    now: datetime,
    previous: KeyPair | None,
) -> KeyPair:
    """A certificate for server and client use; the key of a previous one is kept, so that pins stay true."""
    issuer = x509.load_pem_x509_certificate(authority.certificate.encode())
    signer = load_pem_private_key(authority.key.get_secret_value().encode(), password=None)
    if not isinstance(signer, ec.EllipticCurvePrivateKey):
        raise TypeError("the office authority's key is not an elliptic-curve key")
    kept = load_pem_private_key(previous.key.get_secret_value().encode(), password=None) if previous else None
    key = kept if isinstance(kept, ec.EllipticCurvePrivateKey) else ec.generate_private_key(ec.SECP256R1())
    subject: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
    subject += [x509.IPAddress(address) for address in addresses]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])]))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + timedelta(days=HOST_DAYS))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
            critical=False,
        )
        .add_extension(x509.SubjectAlternativeName(subject), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
        .sign(signer, hashes.SHA256())
    )
    return KeyPair(certificate=_cert_pem(certificate), key=SecretStr(_pem(key)))


def _good(
    pair: KeyPair | None, names: tuple[str, ...], addresses: tuple[IPAddress, ...], now: datetime
) -> bool:
    if pair is None:
        return False
    certificate = x509.load_pem_x509_certificate(pair.certificate.encode())
    subject = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    same = set(subject.get_values_for_type(x509.DNSName)) == set(names)
    same = same and set(subject.get_values_for_type(x509.IPAddress)) == set(addresses)
    return same and certificate.not_valid_after_utc - now > timedelta(days=RENEW_DAYS)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(key: CertificateIssuerPrivateKeyTypes) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def _cert_pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


# Keeping them -------------------------------------------------------------------------------------------------


def identity_path(directory: Path) -> Path:
    """Where the age identity is: $OUTPOST_IDENTITY, else beside the office (lab), else the user's own."""
    named = os.environ.get(IDENTITY_VARIABLE)
    if named:
        return Path(named).expanduser()
    beside = directory / "identity.txt"
    return beside if beside.exists() else DEFAULT_IDENTITY.expanduser()


def create_identity(path: Path) -> str:
    """Write a new age identity that only its owner can read; returns its public key.

    Raises:
        OutpostError: There is one already.
    """
    identity = pyrage.x25519.Identity.generate()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise OutpostError(
            f"{path} exists", "it is kept: losing it would lose every secret encrypted to it"
        ) from None
    with os.fdopen(descriptor, "w") as file:
        file.write(f"# public key: {identity.to_public()}\n{identity}\n")
    return str(identity.to_public())


def read_identity(path: Path) -> pyrage.x25519.Identity:
    """The age identity in a file.

    Raises:
        OutpostError: There is none, or it is not an age identity.
    """
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except OSError:
        raise OutpostError(
            f"no age identity at {path}",
            f"set {IDENTITY_VARIABLE} to yours, or make one with: outpost secrets init OFFICE",
        ) from None
    except UnicodeDecodeError:
        lines = []
    for line in lines:
        if line.startswith("AGE-SECRET-KEY-"):
            return pyrage.x25519.Identity.from_str(line.strip())
    raise OutpostError(f"{path} holds no age identity", "it must have a line AGE-SECRET-KEY-1…")


def read(directory: Path) -> Secrets:
    """Decrypt the secrets beside an office file.

    Raises:
        OutpostError: They or the identity are missing, or were encrypted to somebody else.
    """
    file = directory / FILE_NAME
    try:
        sealed = file.read_bytes()
    except OSError:
        raise OutpostError(
            f"no secrets at {file}", f"make them with: outpost secrets init {directory}"
        ) from None
    path = identity_path(directory)
    try:
        plain = pyrage.decrypt(sealed, [read_identity(path)])
    except pyrage.DecryptError:
        raise OutpostError(
            f"{file} was not encrypted to the identity in {path}",
            f"set {IDENTITY_VARIABLE} to an identity among its recipients",
        ) from None
    return Secrets.model_validate_json(plain)


def write(directory: Path, secrets: Secrets, recipients: tuple[str, ...]) -> None:
    """Encrypt the secrets beside an office file; the old file stays whole until the new one is.

    Raises:
        OutpostError: No recipient, or one that is not an age public key.
    """
    if not recipients:
        raise OutpostError(
            "nobody could read the secrets", "add your age public key to secrets.recipients in office.toml"
        )
    try:
        keys = [pyrage.x25519.Recipient.from_str(recipient) for recipient in recipients]
    except pyrage.RecipientError:
        raise OutpostError(
            "secrets.recipients holds something that is no age public key", "paste the age1… line"
        ) from None
    plain = json.dumps(json.loads(secrets.model_dump_json()), indent=1, sort_keys=True).encode()
    with tempfile.NamedTemporaryFile(dir=directory, prefix=FILE_NAME, delete=False) as file:
        file.write(pyrage.encrypt(plain, keys))
        file.flush()
        os.fsync(file.fileno())
    Path(file.name).replace(directory / FILE_NAME)
