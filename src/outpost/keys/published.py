"""The public halves of an office's keys, for its zones: from `Secrets` to what `outpost.office.dns` publishes."""

from outpost.keys.model import Secrets
from outpost.office.dns import DkimKey, PublicKeys, dkim_public, dkim_selector, key_digest, private_key_digest


def public_keys(secrets: Secrets) -> PublicKeys:
    dkim = tuple(
        DkimKey(
            dkim_selector(selector, algorithm),
            algorithm,
            "" if pair.stage == "revoked" else dkim_public(key.get_secret_value()),
        )
        for selector, pair in secrets.dkim.items()
        for algorithm, key in (("rsa", pair.rsa), ("ed25519", pair.ed25519))
    )
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
