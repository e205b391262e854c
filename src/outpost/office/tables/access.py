"""Who gets in: administrators by SSH, users by webmail, readers of the secrets."""

from pydantic import Field

from outpost.office.tables.values import Account, AgeRecipient, Part, SshKey


class Ssh(Part):
    """How administrators reach the hosts (`[ssh]`)."""

    user: Account = Field(default="root", examples=["admin"])
    """Account the controller logs in as. Any other than root needs sudo without a password: `USER ALL=(ALL:ALL)
    NOPASSWD: ALL` in `/etc/sudoers.d/outpost-admin`."""
    authorized_keys: tuple[SshKey, ...] = Field(
        default=(), min_length=1, examples=[["ssh-ed25519 AAAA… admin@controller"]]
    )
    """Public keys of the administrators: only these open SSH. Left out: each host keeps those that it has."""
    host_keys: dict[str, tuple[str, ...]] = Field(default={}, exclude=True)
    """Read from `known_hosts` beside the office file: the host keys that the administrator has compared; published as
    SSHFP (RFC 4255)."""


class Webmail(Part):
    """Webmail (`[webmail]`)."""

    open_to_internet: bool = False
    """Whether users may log in from the Internet; else only from the users' zone."""


class Encryption(Part):
    """Who can read the office's secrets (`[secrets]`)."""

    recipients: tuple[AgeRecipient, ...] = Field(default=(), examples=[["age1…"]])
    """age public keys that `secrets.age` is encrypted to."""
