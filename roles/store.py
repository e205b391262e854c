"""The store: Dovecot with the office's mailboxes and accounts, the only host that ever sees a password.

Mail comes in from the MTA over mutual TLS (stunnel in front of LMTP), users read, filter and submit, and what they
submit goes to the MTA's trusted listener. Nothing here deletes a mailbox: a user who leaves the office file loses the
login, not the mail.
"""

from __future__ import annotations

from collections.abc import Sequence

from pyinfra.api.deploy import deploy

from outpost.office import Host, Office, ports
from outpost.office.store import DELIVERIES_PER_USER, QUOTA_GRACE, TRASH_ROOM, StoreView, decoy
from outpost.secrets import Secrets
from roles.base import tls_files
from roles.shapes import File, account, directory, packages, rendered, service, settings

PACKAGES = (
    "dovecot-flatcurve",
    "dovecot-imapd",
    "dovecot-lmtpd",
    "dovecot-managesieved",
    "dovecot-sieve",
    "dovecot-submissiond",
    "stunnel4",
)
OPENSSL = "/etc/dovecot/openssl.cnf"
# `doveconf` warns about what it will ignore and still succeeds; a setting that is ignored is not a setting.
CHECK_DOVECOT = 'said=$(doveconf -n 2>&1 >/dev/null) && [ -z "$said" ] || { echo "$said"; exit 1; }'


@deploy("store")
def store(*, office: Office, me: Host, secrets: Secrets) -> None:
    """Make a host the office's store of mail."""
    view = StoreView(office, me)
    packages("Dovecot and stunnel", PACKAGES)
    account("vmail", home="/srv/mail")
    directory("/srv/mail", owner="vmail", group="vmail", mode="0700")
    _accounts(view, secrets)
    certificates = tls_files(office=office, me=me, secrets=secrets)
    some_hash = next(iter(secrets.passwords.values())).get_secret_value()
    _mailboxes(view, certificates, decoy_hash=decoy(some_hash))
    _delivery_door(view, certificates)


def _accounts(view: StoreView, secrets: Secrets) -> None:
    """Users and their hashes. Dovecot looks at the file's time at each login, so nothing needs a reload."""
    settings(
        name="accounts",
        files=[
            rendered(
                "store",
                "/etc/dovecot/users",
                mode="0640",
                group="dovecot",
                secret=True,
                store=view,
                passwords={
                    address: hashed.get_secret_value() for address, hashed in secrets.passwords.items()
                },
            )
        ],
    )


def _mailboxes(view: StoreView, certificates: Sequence[File], *, decoy_hash: str) -> None:
    """Dovecot."""
    # Apart from its configuration, because that is reloaded (no session is dropped) and a drop-in needs a restart.
    settings(
        name="dovecot-unit",
        files=[_drop_in("dovecot.service")],
        activate="systemctl try-restart dovecot.service",
    )
    service(
        name="dovecot",
        unit="dovecot.service",
        files=[
            rendered(
                "store",
                "/etc/dovecot/dovecot.conf",
                store=view,
                ports=ports,
                deliveries_per_user=DELIVERIES_PER_USER,
                quota_grace=QUOTA_GRACE,
                trash_room=TRASH_ROOM,
                decoy=decoy_hash,
            ),
            rendered("store", OPENSSL),
            rendered("store", "/usr/local/lib/outpost/quota-warning", mode="0755", store=view),
        ],
        watches=certificates,
        check=CHECK_DOVECOT,
        on_change="reload",
    )


def _delivery_door(view: StoreView, certificates: Sequence[File]) -> None:
    """stunnel, which Dovecot needs because its LMTP takes a client without a certificate."""
    service(
        name="lmtp-door",
        unit="stunnel@lmtp.service",
    settings(
        name="junk",
        files=[rendered("store", "/etc/dovecot/sieve/junk.sieve")],
        # Dovecot cannot write the compiled form itself, and would complain at each delivery.
        activate="sievec /etc/dovecot/sieve/junk.sieve",
    )
        files=[
            rendered("store", "/etc/stunnel/lmtp.conf", store=view, ports=ports),
            _drop_in("stunnel@lmtp.service"),
        ],
        watches=[*certificates, rendered("store", OPENSSL)],
    )


def _drop_in(unit: str) -> File:
    return rendered("store", f"/etc/systemd/system/{unit}.d/outpost.conf")
