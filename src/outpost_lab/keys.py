"""Keys and certificates of the test environment. They protect nothing but the lab."""

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import dns.dnssec
import dns.name
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509.oid import NameOID
from pydantic import SecretStr

from outpost.keys.pairs import KeyPair, authority_begun, issue, new_key, new_ssh_key, pem, ssh_public
from outpost.target import written


def ec_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """The P-256 key in a PEM file, made on first use."""
    if not path.exists():
        written(path, new_key().get_secret_value())
    key = load_pem_private_key(path.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)  # our own file
    return key


def ssh_key(path: Path, comment: str) -> str:
    """The public line of an Ed25519 SSH key, whose private half is made at ``path`` on first use."""
    if not path.exists():
        written(path, new_ssh_key().get_secret_value())
    line = f"{ssh_public(SecretStr(path.read_text()))} {comment}"
    path.with_name(path.name + ".pub").write_text(line + "\n")
    return line


def authority(certificate: Path, key: Path, name: str) -> x509.Certificate:
    """The self-signed authority in two PEM files, made on first use."""
    if not certificate.exists():
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        made = authority_begun(subject, signer := ec_key(key), datetime.now(UTC))
        certificate.write_bytes(made.sign(signer, hashes.SHA256()).public_bytes(Encoding.PEM))
    return x509.load_pem_x509_certificate(certificate.read_bytes())


def certificate(
    path: Path, names: Iterable[str], ca: x509.Certificate, ca_key: ec.EllipticCurvePrivateKey
) -> bytes:
    """A PEM certificate for the key at ``path``, both made on first use; the first name is the subject's."""
    stored = path.with_suffix(".crt")
    if not stored.exists():
        by = KeyPair(certificate=ca.public_bytes(Encoding.PEM).decode(), key=SecretStr(pem(ca_key)))
        own = KeyPair(certificate="", key=SecretStr(pem(ec_key(path))))
        stored.write_text(issue(by, tuple(names), (), datetime.now(UTC), own).certificate)
    return stored.read_bytes()


def tlsa(path: Path) -> str:
    """The data of a ``TLSA 3 1 1`` record for the key at ``path`` (RFC 6698: SHA-256 of its public half)."""
    public = ec_key(path).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(public).hexdigest()


def ds(zone: str, key: ec.EllipticCurvePrivateKey) -> str:
    """The data of the DS record (SHA-256) of a zone whose only key, flags 257, is this one."""
    name = dns.name.from_text(zone)
    dnskey = dns.dnssec.make_dnskey(key.public_key(), "ECDSAP256SHA256", flags=257)
    return dns.dnssec.make_ds(name, dnskey, "SHA256").to_text()
