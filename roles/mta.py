"""The MTA: Postfix behind postscreen, Rspamd with Redis, ClamAV. The only host that strangers' mail reaches.

It holds no password and no mailbox (invariant 2), and nothing that a filter has not seen gets past it
(invariant 3). In the order below a daemon comes up after what it needs: memory, scanner, filter, door.
"""

from __future__ import annotations

import hashlib

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pyinfra.api.deploy import deploy

from outpost.office import Host, Office
from outpost.office.dns import dkim_selector
from outpost.office.mta import MtaView, dkim_ed25519_key
from outpost.secrets import KeyPair, Secrets
from roles.shapes import File, directory, once, packages, rendered, service, settings, text

PRESEED = (
    # its package scripts would write a main.cf and edit it seven times, a second each
    "postfix postfix/main_mailer_type select No configuration",
    # these files are ours: the package must not write them again at its next upgrade
    "clamav-daemon clamav-daemon/debconf boolean false",
    "clamav-freshclam clamav-freshclam/autoupdate_freshclam select manual",
)
MAPS = (
    "aliases",
    "filter_senders",
    "mailboxes",
    "own_names",
    "peer_domains",
    "peer_relays",
    "postscreen_access",
    "sender_logins",
    "tls_policy",
    "transport",
    "users_headers",
)
"""Postfix tables, each read as it is (texthash, cidr, regexp)."""
FILTER = (
    "local.d/actions.conf",
    "local.d/antivirus.conf",
    "local.d/force_actions.conf",
    "local.d/greylist.conf",
    "local.d/history_redis.conf",
    "local.d/logging.inc",
    "local.d/milter_headers.conf",
    "local.d/options.inc",
    "local.d/redis.conf",
    "local.d/settings.conf",
    "local.d/worker-controller.inc",
    "local.d/worker-fuzzy.inc",
    "local.d/worker-normal.inc",
    "local.d/worker-proxy.inc",
    "override.d/options.inc",
    "rspamd.conf.override",
)
"""Rspamd's settings below /etc/rspamd."""


@deploy("mta")
def mta(*, office: Office, me: Host, secrets: Secrets) -> None:
    """Make a host the office's door for mail."""
    view = MtaView(office, me)
    packages(
        "Postfix, Rspamd, Redis and ClamAV",
        ["clamav-daemon", "clamav-freshclam", "libsasl2-modules", "postfix", "redis-server", "rspamd"],
        preseed=PRESEED,
    )
    service(
        name="redis",
        unit="redis-server.service",
        files=[rendered("mta", "/etc/redis/redis.conf", mode="0640", group="redis")],
    )
    _scanner(view)
    _filter(view, secrets)
    _door(view, secrets)


def _scanner(view: MtaView) -> None:
    """ClamAV and its signatures."""
    if view.local_signatures:
        signatures = [
            rendered("mta", f"/var/lib/clamav/local.{kind}", owner="clamav", group="clamav")
            for kind in ("hdb", "ndb")
        ]
        once(
            "no freshclam: it would ask the network",
            unless="systemctl is-enabled clamav-freshclam.service clamav-freshclam-once.timer "
            "clamav-freshclam-once.service | grep -vx masked | wc -l | grep -qx 0",
            command="systemctl disable --now --quiet clamav-freshclam.service clamav-freshclam-once.timer\n"
            "systemctl mask --quiet clamav-freshclam.service clamav-freshclam-once.timer clamav-freshclam-once.service",
        )
    else:
        signatures = []
        service(
            name="freshclam",
            unit="clamav-freshclam.service",
            files=[rendered("mta", "/etc/clamav/freshclam.conf", mta=view)],
        )
        once(
            "the first signatures",
            unless="ls /var/lib/clamav/main.c[vl]d /var/lib/clamav/daily.c[vl]d",
            command="for _ in $(seq 120); do ls /var/lib/clamav/main.c[vl]d /var/lib/clamav/daily.c[vl]d >/dev/null 2>&1 "
            "&& exit 0; sleep 5; done; echo 'freshclam has fetched no signatures in ten minutes' >&2; exit 1",
        )
    service(
        name="clamav",
        unit="clamav-daemon.service",
        files=[
            rendered("mta", "/etc/clamav/clamd.conf", mta=view),
            _drop_in("clamav-daemon.service", view),
            _drop_in("clamav-daemon.socket", view),
            *signatures,
        ],
        check="clamconf --config-dir=/etc/clamav >/dev/null",
    )


def _filter(view: MtaView, secrets: Secrets) -> None:
    """Rspamd and the keys it signs with."""
    # In the spool, because Postfix is chrooted there; its group may connect, nobody else may look.
    directory("/var/spool/postfix/rspamd", owner="_rspamd", group="postfix", mode="2750")
    keys: dict[str, File] = {}
    for selector, pair in secrets.dkim.items():
        rsa, ed25519 = pair.rsa.get_secret_value(), dkim_ed25519_key(pair.ed25519.get_secret_value())
        for name, key in (
            (dkim_selector(selector, "rsa"), rsa),
            (dkim_selector(selector, "ed25519"), ed25519),
        ):
            path = f"/etc/rspamd/dkim/{name}.key"
            keys[name] = text(path, key, mode="0640", group="_rspamd", secret=True)
    signing = rendered(
        "mta",
        "/etc/rspamd/local.d/dkim_signing.conf",
        mta=view,
        keys={name: key.path for name, key in keys.items()},
    )
    _sandbox("rspamd.service", view)
    service(
        name="rspamd",
        unit="rspamd.service",
        files=[
            *(rendered("mta", f"/etc/rspamd/{name}", mta=view) for name in FILTER),
            signing,
            *keys.values(),
        ],
        check="rspamadm configtest --quiet",
        on_change="reload",
    )


def _door(view: MtaView, secrets: Secrets) -> None:
    """Postfix."""
    _sandbox("postfix.service", view)
    certificates = [secrets.hosts[store.name] for store in view.office.with_role("store")]
    service(
        name="postfix",
        unit="postfix.service",
        files=[
            rendered("mta", "/etc/postfix/main.cf", mta=view),
            rendered("mta", "/etc/postfix/master.cf", mta=view),
            rendered("mta", "/etc/postfix/openssl.cnf"),
            rendered("mta", "/etc/postfix/sasl/smtpd.conf"),
            *(rendered("mta", f"/etc/postfix/{name}", mta=view) for name in MAPS),
            rendered(
                "mta", "/etc/postfix/store_certificates", store_keys=[_pin(pair) for pair in certificates]
            ),
        ],
        check="postfix check",
        on_change="reload",
    )


def _sandbox(unit: str, view: MtaView) -> None:
    """Apart from the daemon's configuration: that is reloaded, and drops no session; this needs a restart."""
    name = unit.replace(".service", "-sandbox")
    settings(name=name, files=[_drop_in(unit, view)], activate=f"systemctl try-restart {unit}")


def _drop_in(unit: str, view: MtaView) -> File:
    return rendered("mta", f"/etc/systemd/system/{unit}.d/outpost.conf", mta=view)


def _pin(pair: KeyPair) -> str:
    """The public key's SHA-256, as Postfix writes it; it outlives a renewal, which keeps the key."""
    key = x509.load_pem_x509_certificate(pair.certificate.encode()).public_key()
    digest = (
        hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest().upper()
    )
    return ":".join(digest[start : start + 2] for start in range(0, len(digest), 2))
