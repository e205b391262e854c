"""The office's secrets: made once, encrypted with age beside the office file, never printed.

``secrets.age`` is one age file holding JSON. Everything in it can be made again except what others already
rely on (keys in the DNS, the authority, users' first passwords), so ``complete`` only ever adds.
"""

import base64
import json
import os
import secrets as random
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from string import ascii_lowercase
from typing import Any, NamedTuple

import pyrage
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from pydantic import SecretStr

from outpost.errors import OutpostError
from outpost.keys.model import TRANSFER, BackupKeys, DkimKeys, DkimStage, NextKey, Secrets
from outpost.keys.pairs import KeyPair, issue, issue_public, new_authority, new_key, new_ssh_key, pem
from outpost.office.certificates import acme_hosts, mode, public_names, tsig_name
from outpost.office.model import Office
from outpost.office.tables.topology import Host
from outpost.target import shown, written

FILE_NAME = "secrets.age"
IDENTITY_VARIABLE = "OUTPOST_IDENTITY"
DEFAULT_IDENTITY = Path("~/.config/outpost/identity.txt")
TABLES = ("hosts", "public", "public_next", "accounts", "tsig", "dkim", "passwords", "backup")
"""Fields of the secrets to which a larger office adds entries."""


class Completed(NamedTuple):
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
    """Add what the office needs and its secrets lack; nothing that exists and is still valid is replaced."""
    now = now or datetime.now(UTC)
    added: list[str] = []
    kept: dict[str, Any] = dict(existing) if existing else {}
    kept |= {field: dict(kept.get(field, {})) for field in TABLES}

    def need(table: dict[str, Any], key: str, make: Callable[[], object], what: str) -> None:
        if not table.get(key):
            table[key] = make()
            added.append(what)

    need(kept, "authority", lambda: new_authority(office, now), "the office's certificate authority")
    for host in office.hosts:
        public = public_names(office, host)
        for table, names, addresses, purpose in (
            ("hosts", (host.fqdn,), host.all_addresses, "internal links"),
            ("public", public, (), ", ".join(public)),
        ):
            own: KeyPair | None = kept[table].get(host.name)
            if names and (own is None or not own.serves(names, addresses, now)):
                kept[table][host.name] = issue(kept["authority"], names, addresses, now, own)
                added.append(f"certificate of {host.name} for {purpose}")
    for name in kept["public"]:
        need(kept["public_next"], name, lambda: NextKey(key=new_key(), since=now), f"next key of {name}")
    for host in acme_hosts(office):
        need(kept["accounts"], host.name, new_key, f"ACME account key of {host.name}")
        need(kept["tsig"], tsig_name(host), random_key, f"TSIG key for {host.name}'s challenges")
    need(kept["tsig"], kept.get("transfer_key", TRANSFER), random_key, "TSIG key for zone transfers")
    need(kept, "dkim", lambda: {new_selector((), now): new_dkim(now)}, "DKIM keys")
    known = kept["passwords"]
    fresh = {user.address: new_password() for user in office.users if user.address not in known}
    # a hash takes a quarter of a second and 64 MiB, without Python's lock
    with ThreadPoolExecutor(4) as pool:
        known |= zip(fresh, map(SecretStr, pool.map(password_hash, fresh.values())), strict=True)
    added += [f"first password of {address}" for address in fresh]
    need(kept, "sealing", lambda: SecretStr(random.token_hex(32)), "key that seals hosts' known state")
    if office.backup:
        for host in office.hosts:
            need(kept["backup"], host.name, new_backup_keys, f"keys of {host.name}'s backup")
        need(kept, "backup_pruning", new_ssh_key, "SSH key that prunes backups")
    kept["one_time"] = tuple(dict.fromkeys((*kept.get("one_time", ()), *fresh)))
    kept["webmail_key"] = kept.get("webmail_key") or SecretStr(random.token_urlsafe(18))
    return Completed(Secrets(**kept), tuple(added), fresh)


def public_pair(office: Office, host: Host, secrets: Secrets) -> KeyPair:
    """A host's public key with its certificate, from the office or an authority."""
    own = secrets.public[host.name]
    if mode(office, host) != "provided":
        return own
    pem = next(item.pem for item in office.tls.provided if item.host == host.name)
    given = KeyPair(certificate=pem, key=own.key)
    remedy = f"get a certificate for the request that `./outpost secrets csr OFFICE {host.name}` prints"
    if given.loaded.public_key() != own.loaded.public_key():
        raise OutpostError(f"{host.name}.pem is a certificate for another key than {host.name}'s", remedy)
    if missing := set(public_names(office, host)) - set(given.names.get_values_for_type(x509.DNSName)):
        raise OutpostError(f"{host.name}.pem lacks {', '.join(sorted(missing))}", remedy)
    return given


def succeeded(office: Office, kept: Secrets, now: datetime) -> Secrets:
    """The secrets after the next authority has taken over: it has issued every certificate again, for the same keys."""
    if kept.authority_next is None:
        return kept
    pair = kept.authority_next.pair
    roles = {"authority": pair, "authority_next": None, "authority_past": kept.authority.certificate}
    after = kept.model_copy(update=roles)
    public = {
        host.name: issue_public(office, host, pair, kept.public[host.name].key, now)
        for host in office.hosts
        if host.name in kept.public
    }
    hosts = renewed_hosts(office, after, now, keys=False)
    return after.model_copy(update={"hosts": hosts, "public": kept.public | public})


def renewed_hosts(office: Office, kept: Secrets, now: datetime, *, keys: bool) -> dict[str, KeyPair]:
    """Issue every host's internal certificate again, for its key or a new one."""
    own: Mapping[str, KeyPair] = {} if keys else kept.hosts
    return {
        host.name: issue(kept.authority, (host.fqdn,), host.all_addresses, now, own.get(host.name))
        for host in office.hosts
    }


def new_password() -> str:
    """A random password of 80 bits in groups that can be read out over a telephone."""
    alphabet = "abcdefghijkmnpqrstuvwxyz23456789"
    return "-".join("".join(random.choice(alphabet) for _ in range(4)) for _ in range(4))


def password_hash(password: str) -> str:
    """Dovecot's Argon2id scheme (AUT-01): 64 MiB, three passes, one lane, which is all that libsodium verifies."""
    from argon2 import PasswordHasher

    return "{ARGON2ID}" + PasswordHasher(time_cost=3, memory_cost=64 * 1024, parallelism=1).hash(password)


def random_key() -> SecretStr:
    """256 bits, base64: a TSIG key for HMAC-SHA256, or a passphrase."""
    return SecretStr(base64.b64encode(random.token_bytes(32)).decode())


def new_backup_keys() -> BackupKeys:
    return BackupKeys(ssh_key=new_ssh_key(), passphrase=random_key())


def new_selector(taken: Iterable[str], now: datetime) -> str:
    """A DKIM selector from the date: ``2026q4``; a second one in the quarter is ``2026q4b``, and so on."""
    base, used = f"{now:%Y}q{(now.month + 2) // 3}", set(taken)
    names = (base, *(f"{base}{letter}" for letter in ascii_lowercase[1:]))
    return next(name for name in names if name not in used)


def new_dkim(now: datetime, stage: DkimStage = "active") -> DkimKeys:
    return DkimKeys(
        rsa=SecretStr(pem(rsa.generate_private_key(public_exponent=65537, key_size=2048))),
        ed25519=SecretStr(pem(ed25519.Ed25519PrivateKey.generate())),
        stage=stage,
        since=now,
    )


# Keeping them -------------------------------------------------------------------------------------------------


def identity_path(directory: Path) -> Path:
    """Where the age identity is: $OUTPOST_IDENTITY, else beside the office (lab), else the user's own."""
    named = os.environ.get(IDENTITY_VARIABLE)
    if named:
        return Path(named).expanduser()
    beside = directory / "identity.txt"
    return beside if beside.exists() else DEFAULT_IDENTITY.expanduser()


def create_identity(path: Path) -> str:
    """Write a new age identity that only its owner can read; returns its public key."""
    identity = pyrage.x25519.Identity.generate()
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        message = f"{path} exists: without it every secret encrypted to it would be lost"
        raise OutpostError(message, "choose another path") from None
    except OSError as error:
        remedy = f"set {IDENTITY_VARIABLE} to a file that you can write"
        raise OutpostError(f"{path} cannot be written ({error.strerror})", remedy) from None
    with os.fdopen(descriptor, "w") as file:
        file.write(f"# public key: {identity.to_public()}\n{identity}\n")
    return str(identity.to_public())


def read_identity(path: Path) -> pyrage.x25519.Identity:
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except OSError:
        remedy = f"set {IDENTITY_VARIABLE} to yours, or make one with: ./outpost secrets init OFFICE"
        raise OutpostError(f"no age identity at {path}", remedy) from None
    except UnicodeDecodeError:
        lines = []
    for line in lines:
        if line.startswith("AGE-SECRET-KEY-"):
            with suppress(pyrage.IdentityError):
                return pyrage.x25519.Identity.from_str(line.strip())
    raise OutpostError(f"{path} holds no age identity", "choose a file with a line AGE-SECRET-KEY-1…")


def read(directory: Path) -> Secrets:
    file = directory / FILE_NAME
    try:
        sealed = file.read_bytes()
    except OSError:
        remedy = f"make them with: ./outpost secrets init {shown(directory)}"
        raise OutpostError(f"no secrets at {shown(file)}", remedy) from None
    path = identity_path(directory)
    identity = read_identity(path)
    try:
        plain = pyrage.decrypt(sealed, [identity])
    except pyrage.DecryptError:
        remedy = (
            f"send an administrator of the office your public key, {identity.to_public()}, for [secrets] recipients; they then run "
            f"./outpost secrets init OFFICE. Or set {IDENTITY_VARIABLE} to an identity among its recipients"
        )
        raise OutpostError(f"{file} was not encrypted to the identity in {path}", remedy) from None
    return Secrets.model_validate_json(plain)


def readers_changed(kept: Secrets, recipients: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Age public keys in the office file that cannot read the secrets yet, and keys that still can but are not in it."""
    now, before = set(recipients), set(kept.readers)
    return tuple(sorted(now - before)), tuple(sorted(before - now))


def sealed_to(directory: Path) -> int:
    """Number of readers of the secrets file; the file's header shows it without a key (age, version 1)."""
    header = (directory / FILE_NAME).read_bytes().partition(b"\n---")[0]
    return sum(line.startswith(b"-> X25519 ") for line in header.splitlines())


def write(directory: Path, secrets: Secrets, recipients: tuple[str, ...]) -> None:
    """Encrypt the secrets beside an office file; the old file stays whole until the new one is."""
    if not recipients:
        remedy = "add your age public key to secrets.recipients in office.toml"
        raise OutpostError("nobody could read the secrets", remedy)
    try:
        keys = [pyrage.x25519.Recipient.from_str(recipient) for recipient in recipients]
    except pyrage.RecipientError:
        problem = "secrets.recipients has an entry that is not an age public key"
        raise OutpostError(problem, "paste the age1… line") from None
    secrets = secrets.model_copy(update={"readers": tuple(sorted(set(recipients)))})
    plain = json.dumps(json.loads(secrets.model_dump_json()), indent=1, sort_keys=True).encode()
    written(directory / FILE_NAME, pyrage.encrypt(plain, keys), durable=True)
