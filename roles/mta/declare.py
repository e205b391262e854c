"""The MTA: Postfix behind postscreen, Rspamd with Redis, ClamAV. The only host that strangers' mail reaches.

It holds no user's password and no mailbox (invariant 2), and no message passes without the filter
(invariant 3). In the order below each daemon starts after those that it needs: Redis, scanner, filter, Postfix.
"""

from collections.abc import Sequence
from functools import partial

import outpost.onhost.policy
import outpost.onhost.routes
import outpost.onhost.scanning
import outpost.onhost.settle
from outpost.converge.declaration import Items
from outpost.converge.files import File, as_json, below, parses, program, rendered, stunnel, text
from outpost.converge.shapes import account, confined, directory, job, once, own, packages, service, settings
from outpost.errors import OutpostError
from outpost.keys.model import Secrets
from outpost.office import Host, Office, ports
from outpost.office.dns import dkim_selector
from roles.base.declare import tls_files
from roles.base.script import script
from roles.mta import LEARNING
from roles.mta.defence import filter_facts, policy_settings, route_settings, shaped_rate
from roles.mta.view import MtaView, dkim_ed25519_key, key_fingerprint

PACKAGES = (
    "clamav-daemon", "clamav-freshclam", "libsasl2-modules", "postfix", "redis-server", "rspamd", "stunnel4"
)  # fmt: skip
PRESEED = (
    # otherwise its package would write a main.cf and edit it five times, with a pause of two seconds after each
    "postfix postfix/main_mailer_type select No configuration",
    # the role owns these files: an upgrade of packages must not write them again
    "clamav-daemon clamav-daemon/debconf boolean false",
    "clamav-freshclam clamav-freshclam/autoupdate_freshclam select manual",
)
TEST_SIGNATURES = "/var/lib/clamav/local."
FRESHCLAM = "clamav-freshclam.service clamav-freshclam-once.service clamav-freshclam-once.timer"


def declare(*, office: Office, me: Host, secrets: Secrets) -> Items:
    view, certificates = MtaView(office, me), tls_files(office=office, me=me, secrets=secrets)
    yield packages(*PACKAGES, preseed=PRESEED)
    redis = below("mta", "/etc/redis", group="redis", mode="0640")
    yield service(name="redis", unit="redis-server.service", files=redis)
    yield from _scanner(view)
    # the store has mailboxes scanned again (VIR-04): it may have a message scanned, and nothing else
    scanning = program("/usr/local/lib/outpost/scanning", outpost.onhost.scanning)
    after = "clamav-daemon.socket"
    yield from _stores_listener("scanner", view, certificates, scanning, after=after, also_in="clamav")
    yield from _filter(view, secrets)
    # the store has Rspamd learn what users call junk (JNK-01), and can do nothing else to it (JNK-03)
    yield from _stores_listener("learning", view, certificates, after="rspamd.service")
    yield from _policy(view, certificates)
    yield from _shaping(view)
    # settings that Postfix has only for the whole queue, for each peer separately (QUE-01)
    routes = program("/usr/local/lib/outpost/routes", outpost.onhost.routes)
    yield job("mta", "outpost-routes", routes, as_json("/etc/outpost/routes.json", route_settings(view)))
    yield from _transport_security(view)
    # DMARC aggregate reports, once a day (DMC-03)
    reports = rendered("mta", "/usr/local/lib/outpost/dmarc-reports", mode="0755", mta=view)
    yield job("mta", "outpost-dmarc-reports", reports)
    yield from _listener(view, secrets, certificates)


def _scanner(view: MtaView) -> Items:
    """ClamAV and its signatures."""
    signatures = below("mta", "/var/lib/clamav", owner="clamav", group="clamav", mta=view)
    enabled = f"! systemctl is-enabled {FRESHCLAM} | grep"
    masking = partial(once, untouched=(), masks=FRESHCLAM.split())
    if view.local_signatures:
        mask = f"systemctl disable --now --quiet {FRESHCLAM} || true\nsystemctl mask --quiet {FRESHCLAM}"
        unless = f"{enabled} --invert-match --line-regexp masked"
        yield masking("no freshclam: it would ask the network", unless=unless, command=mask)
    else:
        signatures = [file for file in signatures if not file.path.startswith(TEST_SIGNATURES)]
        unmask = f"systemctl unmask --quiet {FRESHCLAM}"
        yield masking("freshclam may run", unless=f"{enabled} --line-regexp masked", command=unmask)
        freshclam = rendered("mta", "/etc/clamav/freshclam.conf", mta=view)
        yield service(name="freshclam", unit="clamav-freshclam.service", files=[freshclam])
        yield once(
            "the first signatures",
            unless="ls /var/lib/clamav/main.c[lv]d /var/lib/clamav/daily.c[lv]d",
            command="for _ in $(seq 120); do [ -e /var/lib/clamav/main.c[lv]d ] && [ -e /var/lib/clamav/daily.c[lv]d ] "
            "&& exit 0; sleep 5; done; echo 'freshclam fetched no signatures within ten minutes' >&2; exit 1",
        )
    yield service(
        name="clamav",
        unit="clamav-daemon.service",
        files=[
            rendered("mta", "/etc/clamav/clamd.conf", mta=view),
            *below("mta", "/etc/systemd/system/clamav-daemon.service.d", mta=view),
            *below("mta", "/etc/systemd/system/clamav-daemon.socket.d", mta=view),
            *signatures,
        ],
        # clamconf reports a mistake and succeeds all the same
        check="! clamconf --config-dir=/etc/clamav 2>&1 | grep '^ERROR'",
    )


def _stores_listener(
    name: str, view: MtaView, certificates: Sequence[File], *programs: File, **unit: str
) -> Items:
    """A listener that lets only the store reach a daemon of the filter."""
    openssl = rendered("mta", "/etc/postfix/openssl.cnf", mta=view)
    listener = rendered("mta", f"/etc/stunnel/{name}.conf", mta=view, ports=ports)
    yield service(
        name=f"{name}-listener",
        unit=f"stunnel@{name}.service",
        files=[listener, *programs, stunnel(name, openssl=openssl.path, **unit)],
        watches=[*certificates, openssl],
    )


def _filter(view: MtaView, secrets: Secrets) -> Items:
    """Rspamd and the keys it signs with."""
    keys: list[File] = []
    signing: dict[str, str] = {}
    # A retired pair stays on the host: until the reload is complete, workers still sign with it, and others
    # refuse unsigned mail.
    for selector, pair in secrets.loaded.items():
        ed25519 = dkim_ed25519_key(pair.ed25519.get_secret_value())
        for algorithm, key in (("rsa", pair.rsa.get_secret_value()), ("ed25519", ed25519)):
            name = dkim_selector(selector, algorithm)
            path = f"/etc/rspamd/dkim/{name}.key"
            if selector in secrets.signing:
                signing[name] = path
            keys.append(text(path, key, mode="0640", group="_rspamd", secret=True))
    # In the spool, because Postfix is chrooted there. Its group may connect; nobody else may list the directory.
    yield directory("/var/spool/postfix/rspamd", owner="_rspamd", group="postfix", mode="2750")
    # it is in the groups of stunnel and of Rspamd, which may read more here: stunnel's cannot read DKIM keys, Rspamd's has no network
    yield directory(LEARNING, owner="_rspamd", group="stunnel4", mode="2750")
    yield from _sandbox("rspamd.service")
    yield service(
        name="rspamd",
        files=[*below("mta", "/etc/rspamd", mta=view, signing=signing, facts=filter_facts(view)), *keys],
        check="rspamadm configtest --quiet",
        on_change="reload",
    )


def _policy(view: MtaView, certificates: Sequence[File]) -> Items:
    """The service that Postfix asks at RCPT: quotas, rates, budgets."""
    yield account("outpost-policy")
    yield directory("/var/spool/postfix/policy", owner="outpost-policy", group="postfix", mode="2750")
    yield own("mta", "policy", outpost.onhost.policy, policy_settings(view), watches=certificates)


def _shaping(view: MtaView) -> Items:
    """Limit outgoing traffic to less than the line's rate (AMP-03)."""
    if rate := shaped_rate(view):
        yield script("mta", "shaping", "shape", mta=view, shaped=rate)


def _transport_security(view: MtaView) -> Items:
    """MTA-STS for domains without DANE (TLS-06); it must answer before Postfix asks."""
    if not view.finds_policies:
        return
    yield packages("postfix-mta-sts-resolver", "python3-dnspython")
    yield directory("/var/spool/postfix/mta-sts", owner="_mta-sts", group="postfix", mode="2750")
    yield service(
        name="mta-sts",
        unit="postfix-mta-sts-resolver.service",
        files=[
            rendered("mta", "/etc/mta-sts-daemon.yml", mta=view),
            rendered("mta", "/usr/local/lib/outpost/mta-sts", mode="0755"),
            *below("mta", "/etc/systemd/system/postfix-mta-sts-resolver.service.d"),
        ],
        check=parses("/usr/local/lib/outpost/mta-sts"),
    )


def _listener(view: MtaView, secrets: Secrets, certificates: Sequence[File]) -> Items:
    """Postfix."""
    stores = [store.name for store in view.office.with_role("store")]
    accepted = [secrets.hosts[name].certificate for name in stores]
    accepted += [secrets.hosts_past[name] for name in stores if name in secrets.hosts_past]
    files = below("mta", "/etc/postfix", mta=view, store_keys=[key_fingerprint(pem) for pem in accepted])
    if login := smarthost_login(view, secrets):
        files.append(text("/etc/postfix/smarthost_login", login, mode="0600", secret=True))
    settle = program("/usr/local/lib/outpost/settle", outpost.onhost.settle)
    yield settings(name="postfix-settle", files=[settle])
    yield from _sandbox("postfix.service")
    check = "postfix check"
    yield service(name="postfix", files=files, watches=certificates, check=check, on_change="reload")


def smarthost_login(view: MtaView, secrets: Secrets) -> str:
    """The line that Postfix's SMTP client reads as root (sasl_passwd, SASL_README)."""
    relay = view.office.smarthost
    if relay is None or not relay.user:
        return ""
    if secrets.smarthost is None:
        message = f"smarthost.user: {relay.user!r} has no password in the office's secrets"
        raise OutpostError(message, "give it: ./outpost secrets smarthost OFFICE")
    return f"{view.smarthost} {relay.user}:{secrets.smarthost.get_secret_value()}\n"


def _sandbox(unit: str) -> Items:
    yield confined(unit.replace(".service", "-sandbox"), unit, below("mta", f"/etc/systemd/system/{unit}.d"))
