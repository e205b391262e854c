"""Wrong certificates, installed on running machines and removed again."""

from __future__ import annotations

import datetime as dt
import logging
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import NameOID

from tests.awaiting import until

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Authority:
    """The authority that signs a certificate."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


@dataclass(frozen=True)
class Shown:
    """A server's certificate and private key, PEM."""

    certificate: str
    key: str

    @property
    def tlsa(self) -> str:
        """The data of a TLSA record for it: 3 1 1 (RFC 7672, section 3.1.1)."""
        public = x509.load_pem_x509_certificate(self.certificate.encode()).public_key()
        digest = hashes.Hash(hashes.SHA256())
        digest.update(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
        return f"3 1 1 {digest.finalize().hex()}"


def certificate(names: Sequence[str], authority: Authority | None = None, *, expired: bool = False) -> Shown:
    """A certificate with its own key, valid for a week around now, or long expired. Without an authority it is self-signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    signer = authority.key if authority else key
    now = dt.datetime.now(dt.UTC)
    begin = now - dt.timedelta(days=400 if expired else 1)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(authority.certificate.subject if authority else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + dt.timedelta(days=7))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
        .sign(signer, hashes.SHA256())
    )
    return Shown(
        made.public_bytes(Encoding.PEM).decode(),
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
    )


@contextmanager
def replaced(container: str, files: Mapping[str, str], activate: str) -> Iterator[None]:
    """Replace the content of files of a machine while the block lasts; owner and mode stay.

    The former content is restored in several attempts: a machine that keeps a wrong certificate fails every test that follows.
    """
    before = {path: run(container, ["cat", path]) for path in files}

    def install(contents: Mapping[str, str]) -> None:
        for path, content in contents.items():
            write(container, path, content)
        run(container, ["sh", "-c", activate])

    def restored() -> bool:
        try:
            install(before)
        except AssertionError as refused:
            log.warning("%s", refused)
            return False
        return all(run(container, ["cat", path]) == content for path, content in before.items())

    try:
        install(files)
        yield
    finally:
        until(restored, f"{container} has its own {', '.join(files)} again", pace=2)


def write(container: str, path: str, content: str) -> None:
    """Write content into a file of a machine."""
    run(container, ["sh", "-c", 'cat >"$1"', "write", path], content)


def run(container: str, command: Sequence[str], stdin: str = "") -> str:
    """The output of a command on a machine."""
    done = subprocess.run(
        ["docker", "exec", "--interactive", container, *command],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{container}: {command}: {done.stderr}"
    return done.stdout
