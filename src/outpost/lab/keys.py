"""Keys and certificates of the world around the office. They protect nothing but the lab."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterable
from pathlib import Path

import dns.dnssec
import dns.dnssectypes
import dns.name
import dns.rdtypes.ANY.DNSKEY
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_ssh_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFETIME = dt.timedelta(days=825)


def ec_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """The P-256 key in a PEM file, made on first use."""
    if not path.exists():
        _write(
            path,
            ec.generate_private_key(ec.SECP256R1()).private_bytes(
                Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
            ),
        )
    key = load_pem_private_key(path.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)  # our own file
    return key


def ssh_key(path: Path, comment: str) -> str:
    """The public line of an Ed25519 SSH key, whose private half is made at ``path`` on first use."""
    if not path.exists():
        _write(
            path,
            ed25519.Ed25519PrivateKey.generate().private_bytes(
                Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()
            ),
        )
    public = load_ssh_private_key(path.read_bytes(), None).public_key()
    line = f"{public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()} {comment}"
    path.with_name(path.name + ".pub").write_text(line + "\n")
    return line


def authority(certificate: Path, key: Path, name: str) -> x509.Certificate:
    """The self-signed authority in two PEM files, made on first use."""
    signer = ec_key(key)
    if not certificate.exists():
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = dt.datetime.now(dt.UTC)
        made = (
            x509.CertificateBuilder(subject, subject, signer.public_key(), x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + LIFETIME)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(signer.public_key()), critical=False)
            .sign(signer, hashes.SHA256())
        )
        certificate.write_bytes(made.public_bytes(Encoding.PEM))
    return x509.load_pem_x509_certificate(certificate.read_bytes())


def certificate(
    path: Path, names: Iterable[str], ca: x509.Certificate, ca_key: ec.EllipticCurvePrivateKey
) -> bytes:
    """A PEM certificate for the key at ``path``, which is made on first use.

    Args:
        path: Private key, PEM; the certificate stands beside it as ``.crt``.
        names: DNS names, the first one the subject.
        ca: Issuer.
        ca_key: Its key.
    """
    stored = path.with_suffix(".crt")
    if not stored.exists():
        public = ec_key(path).public_key()
        listed = list(names)
        now = dt.datetime.now(dt.UTC)
        made = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, listed[0])]))
            .issuer_name(ca.subject)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + LIFETIME)
            .add_extension(
                x509.SubjectAlternativeName([x509.DNSName(name) for name in listed]), critical=False
            )
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs=False), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
            )
            .sign(ca_key, hashes.SHA256())
        )
        stored.write_bytes(made.public_bytes(Encoding.PEM))
    return stored.read_bytes()


def tlsa(path: Path) -> str:
    """The data of a ``TLSA 3 1 1`` record for the key at ``path`` (RFC 6698: SHA-256 of its public half)."""
    public = ec_key(path).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(public).hexdigest()


def ds(zone: str, key: ec.EllipticCurvePrivateKey) -> str:
    """The data of the DS record (SHA-256) of a zone whose only key, flags 257, is this one."""
    name = dns.name.from_text(zone)
    dnskey = dns.dnssec.make_dnskey(key.public_key(), dns.dnssectypes.Algorithm.ECDSAP256SHA256, flags=257)
    return dns.dnssec.make_ds(name, dnskey, "SHA256").to_text()


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_bytes(content)
