"""Every host, whatever its role: packages, packet filter, names, clock, SSH, logs, the office's certificates."""

from pathlib import PurePosixPath
from typing import Any

import outpost.onhost.logs
import outpost.onhost.tell
import outpost.onhost.watch
from outpost.converge.declaration import Declaration, Items
from outpost.converge.files import LIB, File, as_json, program, rendered, text
from outpost.converge.shapes import account, directory, group, job, once, own, packages, service, settings
from outpost.drift.differences import Finding
from outpost.keys.model import Secrets
from outpost.keys.pairs import KeyPair
from outpost.keys.secrets_file import public_pair
from outpost.office import Host, Office
from outpost.office.backup import STATE, backup_of
from outpost.office.base import BaseView
from outpost.office.certificates import AcmeView, mode, tsig_name
from outpost.office.role import every_role, role_of
from outpost.units import restarted
from roles.base.backup import backup
from roles.base.hardening import hardening, names_and_clock, network, timers
from roles.base.observer import observer

TLS = "/etc/outpost/tls"
ACME = "/etc/outpost/acme"
EVERYWHERE = [
    "ca-certificates", "chrony", "dns-root-data", "nftables", "openssh-server", "sudo", "unattended-upgrades",
    "unbound",
]  # fmt: skip


def tls_files(*, office: Office, me: Host, secrets: Secrets) -> tuple[File, ...]:
    """The certificates that base installs; daemons that load them name them in their `watches`. A public certificate that the host
    fetches itself is not among them: the unit that fetches it reloads the daemon.
    """
    files = [text(f"{TLS}/ca.pem", secrets.trusted), *_pair("host", secrets.hosts[me.name])]
    if mode(office, me) in ("office", "provided"):
        files += _pair("public", public_pair(office, me, secrets))
    return tuple(files)


def _pair(name: str, pair: KeyPair, *, where: str = TLS, group: str = "outpost-tls") -> tuple[File, File]:
    key = pair.key.get_secret_value()
    return (
        text(f"{where}/{name}.pem", pair.certificate),
        text(f"{where}/{name}.key", key, mode="0640", group=group, secret=True),
    )


def declare(*, office: Office, me: Host, secrets: Secrets) -> Items:
    """What all roles share."""
    view = BaseView(office, me)
    yield from _packages(office, me)
    yield from network(view)
    yield from _identity(office=office, me=me, secrets=secrets)
    yield from names_and_clock(view)
    yield from _access(view)
    yield from backup(office=office, me=me, secrets=secrets)
    if office.logs.collector:
        yield from _logs(view, office=office, me=me, secrets=secrets)
    yield from _watch(office, me)


def host(*, office: Office, me: Host, secrets: Secrets, role: Items) -> Declaration:
    """Everything a host is to have: the base role's part, then its own role's. The observer knows all of it and comes before the role."""
    before = (
        ("base", tuple(declare(office=office, me=me, secrets=secrets))),
        ("hardening", tuple(hardening(office=office, me=me))),
    )
    after = ((me.role, tuple(role)), ("hardening", tuple(timers())))
    watching = observer(office=office, me=me, others=Declaration((*before, *after)))
    return Declaration((*before, ("base", (watching,)), *after))


def _watch(office: Office, me: Host) -> Items:
    """Alarms, sent past the mail queue (LOG-04)."""
    yield directory("/var/lib/outpost-watch", mode="0700")
    for package in ("", "/outpost", "/outpost/onhost"):
        yield directory(f"{LIB}/python{package}")
    yield job(
        "base",
        "outpost-watch",
        program(f"{LIB}/python/outpost/onhost/tell.py", outpost.onhost.tell),
        program(f"{LIB}/python/outpost/onhost/watch.py", outpost.onhost.watch),
        as_json("/etc/outpost/watch.json", watch_settings(office, me)),
        name="outpost-watch",
        every=office.alarms.every,
    )


def _packages(office: Office, me: Host) -> Items:
    sources = "/etc/apt/sources.list.d/debian.sources"
    yield settings(
        name="apt",
        files=[
            rendered("base", sources, archive=office.archive),
            rendered("base", "/etc/apt/apt.conf.d/30outpost", archive=office.archive),
            rendered("base", "/etc/apt/apt.conf.d/52outpost-unattended", platform=office.platform_of(me)),
            text("/etc/apt/sources.list", f"# See {sources}.\n"),
        ],
        check="apt-config dump >/dev/null",
    )
    yield packages(*EVERYWHERE, *(["borgbackup"] if office.backup else []))
    yield once(
        "no mail server but the role's",
        unless="! dpkg-query --show --showformat '${db:Status-Abbrev}|${Package}\\n' 'exim4*' sendmail-bin nullmailer | grep '^.[^n]'",
        untouched=(),
        # where another mail server has replaced it, exim4 still runs: its init script is a configuration file
        command="systemctl stop 'exim4*'; DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=300 purge "
        "'^exim4.*' '^sendmail-bin$' '^nullmailer$' </dev/null && systemctl daemon-reload && systemctl reset-failed",
    )


def _identity(*, office: Office, me: Host, secrets: Secrets) -> Items:
    yield settings(
        name="hostname",
        # together with the addresses: sudo waits half a minute for the DNS if /etc/hosts lacks the host's new name
        files=[
            rendered("base", "/etc/hosts", view=BaseView(office, me)),
            text("/etc/hostname", f"{me.fqdn}\n"),
        ],
        activate="hostname --file /etc/hostname",
    )
    yield once(
        "clock in UTC",
        unless="[ ! -e /etc/localtime ] || readlink --canonicalize /etc/localtime | grep -E '/(Etc/)?U(TC|niversal)$'",
        untouched=(),
        command="ln -sfn /usr/share/zoneinfo/Etc/UTC /etc/localtime",
    )
    yield group("outpost-tls")
    yield directory("/etc/outpost")
    yield directory(TLS)
    yield from _certificates(office=office, me=me, secrets=secrets)
    update = "update-ca-certificates --fresh >/dev/null"
    yield settings(name="trusted-authorities", files=_authorities(office), activate=update)


def _authorities(office: Office) -> list[File]:
    return [
        text(f"/usr/local/share/ca-certificates/{PurePosixPath(authority.name).stem}.crt", authority.pem)
        for authority in office.tls.trusted_authorities
    ]


def _certificates(*, office: Office, me: Host, secrets: Secrets) -> Items:
    files = tls_files(office=office, me=me, secrets=secrets)
    if mode(office, me) != "acme":
        yield settings(name="certificates", files=files)
        return
    view = AcmeView(office, me)
    yield packages("knot-dnsutils", "openssl", "uacme")
    yield account("outpost-acme", home="/var/lib/outpost-acme")
    yield directory("/var/lib/outpost-acme", owner="outpost-acme", group="outpost-acme", mode="0700")
    yield directory(ACME, group="outpost-acme", mode="0750")
    yield directory(f"{ACME}/private", group="outpost-acme", mode="0750")
    for_client: dict[str, Any] = {"mode": "0640", "group": "outpost-acme"}
    account_key = secrets.accounts[me.name].get_secret_value()
    shared = secrets.tsig[tsig_name(me)].get_secret_value()
    yield settings(
        name="certificates",
        files=[
            *files,
            # its certificate until the authority has answered for the first time: nothing waits for the DNS
            *_pair("public", secrets.public[me.name], where=ACME, group="root"),
            rendered("base", f"{ACME}/settings", acme=view, **for_client),
            rendered(
                "base", f"{ACME}/tsig.key", name=tsig_name(me), shared=shared, secret=True, **for_client
            ),
            text(f"{ACME}/private/key.pem", account_key, secret=True, **for_client),
            rendered("base", f"{LIB}/certificate", mode="0755"),
            rendered("base", f"{LIB}/acme-challenge", mode="0755"),
        ],
        check=f"sh -n {LIB}/certificate && sh -n {LIB}/acme-challenge",
        activate=f"{LIB}/certificate install",
        made=(f"{TLS}/public.pem", f"{TLS}/public.key"),
    )
    cause = "not a certificate that was issued to this host, or it does not match its key"
    consequence = "users and peers are shown a certificate that they cannot verify"
    yield once(
        "the certificate that is shown",
        unless=f'[ "$(openssl pkey -in {TLS}/public.key -pubout)" = "$(openssl x509 -in {TLS}/public.pem -noout -pubkey)" ] && '
        f"for given in {ACME}/public.pem /var/lib/outpost-acme/*-cert.pem; do ! timeout 10 cmp $given {TLS}/public.pem || exit 0; done; exit 1",
        untouched=(f"{ACME}/public.pem", "/var/lib/outpost-acme/*-cert.pem"),
        command=f"{LIB}/certificate install",
        finding=Finding("file", f"{TLS}/public.pem", cause, consequence, ("TLS-04",)),
    )
    yield job("base", "outpost-certificate", name="outpost-certificate", acme=view)


def _access(view: BaseView) -> Items:
    sessions = [rendered("base", path) for path in ("/etc/default/login", "/etc/locale.conf")]
    yield settings(name="sessions", files=sessions)
    yield settings(
        name="journald",
        files=[rendered("base", "/etc/systemd/journald.conf.d/zz-outpost.conf")],
        activate=f"systemctl reset-failed 'systemd-journald*' || true; {restarted('systemd-journald.service')} && journalctl --flush",
    )
    yield settings(
        name="sudo",
        files=[rendered("base", "/etc/sudoers.d/outpost", mode="0440")],
        check="visudo --check --file=/etc/sudoers.d/outpost",  # files that others put beside it are reported, and do not make its own check fail
        guarded=True,
    )
    given = "".join(f"{key}\n" for key in view.office.ssh.authorized_keys)
    if given:
        keys = f"/etc/ssh/authorized_keys.d/{view.admin}"
        yield settings(
            name="ssh-keys", files=[text(keys, given)], activate=_end_sessions(view.admin, keys), guarded=True
        )
    yield service(
        name="sshd",
        unit="ssh.service",
        files=[rendered("base", "/etc/ssh/sshd_config.d/00-outpost.conf", view=view)],
        check="mkdir -p -m 0755 /run/sshd && sshd -t",  # the directory goes with a daemon that was stopped
        guarded=True,
    )
    # SSH-02: without it systemd listens on every address in place of sshd.
    yield once(
        "sshd itself listens",
        unless="! systemctl --quiet is-enabled ssh.socket",
        untouched=(),
        command=f"systemctl disable --quiet --now ssh.socket; {restarted('ssh.service')}",
        finding=Finding("unit", "ssh.socket", "enabled", "SSH can be reached on every address", ("SSH-02",)),
    )
    yield settings(
        name="systemd-ssh-generator",
        files=[rendered("base", "/etc/systemd/system-generators/systemd-ssh-generator", mode="0755")],
        activate="systemctl stop sshd-unix-local.socket sshd-vsock.socket 2>/dev/null || true",
    )


def _end_sessions(user: str, keys: str) -> str:
    """Shell that ends the connections of an account's removed keys, except the one that it came by."""
    # SSH-02: without it an administrator who has left goes on over an open connection. sshd logs the key of each; the last line of a number counts.
    sshd = r"[^ ]* [^ ]* [^ ]* [^ ]* sshd-session\[\([0-9]*\)\]"  # after date and host: a user name in a line may hold such words
    logged = rf"s/^{sshd}: Accepted publickey for {user} from .* ssh2: [^ ]* \(SHA256:[^ ]*\).*/\1 \2/p"
    return f"""allowed=$(ssh-keygen -lf {keys} | cut -d ' ' -f 2)
own=' '; each=$$; while [ "$each" -gt 1 ]; do own="$own$each "; each=$(cut -d ' ' -f 4 /proc/$each/stat); done
journalctl --quiet --boot --reverse _COMM=sshd-session _UID=0 | sed -n '{logged}' | awk '!seen[$1]++' | while read -r session key; do
  case "$own" in *" $session "*) continue ;; esac
  case "$allowed" in *"$key"*) continue ;; esac
  [ "$(cat /proc/$session/comm 2>/dev/null)" != sshd-session ] || kill "$session"
done"""


def _logs(view: BaseView, *, office: Office, me: Host, secrets: Secrets) -> Items:
    """Send what the host logs to head office, too."""
    yield account("outpost-shipper", home="/var/lib/outpost-logs")
    logs = office.logs
    content = {"host": me.fqdn, "collector": logs.collector, "address": view.collector, "port": logs.port}
    watched = [*tls_files(office=office, me=me, secrets=secrets), *_authorities(office)]
    yield own("base", "logs", outpost.onhost.logs, content, watches=watched, view=view)


PROBED = ("certificates", "disks", "clock", "backup", "units", "memory")
DAY = 86400
"""Seconds without a time server after which a host's clock is an alarm."""
RECENT = 3600
"""Seconds for which an event in the journal stays an alarm."""
BOUNDS = {"queue_age", "certificate_age", "signature_age", "virus_age", "disk_percent", "wrong_logins"}
"""Keys of `[alarms]` that the probes take."""
VOLUMES = ("/", "/var", "/var/spool/postfix", "/srv/mail", "/var/log", "/run")


def watch_settings(office: Office, me: Host) -> dict[str, Any]:
    """``/etc/outpost/watch.json``."""
    wanted, kept = office.alarms, backup_of(office, me)
    of_roles = dict(pair for role in every_role().values() for pair in role.watching(office, me).items())
    return {
        "host": me.fqdn,
        "office": office.name,
        "tell": list(wanted.tell),
        "probes": [*PROBED, *role_of(me).watched, *(("logs",) if office.logs.collector else ())],
        "recent": RECENT,
        "clock_age": DAY,
        "applied": "/var/lib/outpost/applied",
        "scanner": of_roles.pop("scanner"),
        "corrupt": of_roles.pop("corrupt"),
        "volumes": list(VOLUMES),
        "tls": "/etc/outpost/tls",
        "zones": of_roles.pop("zones"),
        "asked": str(next(iter(me.all_addresses))),
        "virus_signatures": of_roles.pop("virus_signatures"),
        **wanted.model_dump(include=BOUNDS),
        "logs": "/var/lib/outpost-logs/sent",
        "logs_age": wanted.logs_age,
        "backup": f"{STATE}/last.json" if kept else "",
        "backup_age": kept.backup.oldest if kept else 0,
        **of_roles,
    }
