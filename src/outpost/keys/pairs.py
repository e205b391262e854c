"""Private keys, and the certificates that the office issues for them with its own authority."""

from datetime import datetime, timedelta
from ipaddress import ip_network
from typing import Annotated

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_ssh_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from pydantic import BaseModel, PlainSerializer, SecretStr

from outpost.office.certificates import public_names
from outpost.office.model import Office
from outpost.office.tables.topology import Host
from outpost.office.tables.values import IPAddress

AUTHORITY_DAYS = 3650
HOST_DAYS = 365
RENEW_DAYS = 30
"""A host certificate with fewer days left is issued again by ``complete``, for the same key."""
BACKDATE = timedelta(hours=1)
"""Certificates are valid from this much earlier: a host whose clock is slow must not refuse them."""

Hidden = Annotated[SecretStr, PlainSerializer(SecretStr.get_secret_value, when_used="json")]
"""A secret: never shown, and written only into the encrypted file."""


class KeyPair(BaseModel, frozen=True, extra="forbid"):
    """A certificate (public) and its private key, PEM."""

    certificate: str
    key: Hidden

    @property
    def loaded(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.certificate.encode())

    @property
    def signer(self) -> ec.EllipticCurvePrivateKey:
        """The private key; a key of the office's own authority or of a host is an elliptic-curve key."""
        key = load_pem_private_key(self.key.get_secret_value().encode(), password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise TypeError("a key of the office's authority or of a host is not an elliptic-curve key")
        return key

    @property
    def names(self) -> x509.SubjectAlternativeName:
        return self.loaded.extensions.get_extension_for_class(x509.SubjectAlternativeName).value

    def serves(self, names: tuple[str, ...], addresses: tuple[IPAddress, ...], now: datetime) -> bool:
        """Whether its certificate is for exactly these names, and need not be renewed yet."""
        same = set(self.names.get_values_for_type(x509.DNSName)) == set(names)
        same = same and set(self.names.get_values_for_type(x509.IPAddress)) == set(addresses)
        return same and self.loaded.not_valid_after_utc - now > timedelta(days=RENEW_DAYS)


def new_key() -> SecretStr:
    """A P-256 key, PEM."""
    return SecretStr(pem(ec.generate_private_key(ec.SECP256R1())))


def new_ssh_key() -> SecretStr:
    """An Ed25519 key in OpenSSH's format."""
    key = ed25519.Ed25519PrivateKey.generate()
    return SecretStr(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode())


def ssh_public(key: SecretStr) -> str:
    """`TYPE KEY` of an SSH key's public half."""
    loaded = load_ssh_private_key(key.get_secret_value().encode(), None)
    return loaded.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def signing_request(office: Office, host: Host, key: SecretStr) -> str:
    """A request (PKCS #10, PEM) for a certificate with all of a host's public names."""
    names = [x509.DNSName(name) for name in public_names(office, host)]
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(KeyPair(certificate="", key=key).signer, hashes.SHA256())
        .public_bytes(Encoding.PEM)
        .decode()
    )


def issue_public(office: Office, host: Host, authority: KeyPair, key: SecretStr, now: datetime) -> KeyPair:
    """The office's own certificate for a host's public names and the given key."""
    return issue(authority, public_names(office, host), (), now, KeyPair(certificate="", key=key))


def new_authority(office: Office, now: datetime) -> KeyPair:
    """A certificate authority for the office's names and addresses only."""
    key = ec.generate_private_key(ec.SECP256R1())
    attributes = {
        NameOID.ORGANIZATION_NAME: office.organisation,
        NameOID.COMMON_NAME: f"Office authority {now:%Y-%m} of {office.domain}",
    }
    name = x509.Name([x509.NameAttribute(kind, text[:64]) for kind, text in attributes.items()])
    # Anybody who trusts this authority trusts it for the office's names and addresses only.
    limits = x509.NameConstraints(_subtrees(office), None)
    return _signed(authority_begun(name, key, now).add_extension(limits, critical=True), key, by=key)


def authority_begun(
    name: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime
) -> x509.CertificateBuilder:
    """An authority's own certificate with the extensions that all have, to be completed and signed."""
    return (
        _certificate(name, name, key, now, days=AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
    )


def _subtrees(office: Office) -> list[x509.GeneralName]:
    networks = [network for zone in office.zones.values() for network in zone.networks]
    outside = [
        ip_network(address)
        for host in office.hosts
        for address in host.all_addresses
        if not any(address in network for network in networks)
    ]
    return [x509.DNSName(office.domain), *(x509.IPAddress(network) for network in (*networks, *outside))]


def issue(
    authority: KeyPair,
    names: tuple[str, ...],
    addresses: tuple[IPAddress, ...],
    now: datetime,
    previous: KeyPair | None,
) -> KeyPair:
    """A certificate for server and client use; it keeps the key of a previous one, so that pins stay valid."""
    signer = authority.signer
    key = previous.signer if previous else ec.generate_private_key(ec.SECP256R1())
    subject: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
    subject += [x509.IPAddress(address) for address in addresses]
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    own_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    builder = (
        _certificate(own_name, authority.loaded.subject, key, now, days=HOST_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(x509.SubjectAlternativeName(subject), critical=False)
        .add_extension(issuer, critical=False)
    )
    return _signed(builder, key, by=signer)


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, *, days: int
) -> x509.CertificateBuilder:
    """A certificate with what all of the office have, to be completed and signed."""
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _signed(
    builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey, *, by: ec.EllipticCurvePrivateKey
) -> KeyPair:
    certificate = builder.sign(by, hashes.SHA256()).public_bytes(Encoding.PEM).decode()
    return KeyPair(certificate=certificate, key=SecretStr(pem(key)))


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    """The allowed uses of a key of an authority, or of a server."""
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


def pem(key: CertificateIssuerPrivateKeyTypes) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
