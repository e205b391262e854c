"""Every host, whatever its role: packages, packet filter, names, clock, SSH, logs, the office's certificates."""

from __future__ import annotations

from pathlib import PurePosixPath

from pyinfra.api.deploy import deploy

from outpost.office import Host, Office
from outpost.office.base import BaseView
from outpost.secrets import Secrets
from roles.shapes import File, directory, group, once, packages, rendered, service, settings, text

TLS = "/etc/outpost/tls"


def tls_files(*, me: Host, secrets: Secrets) -> tuple[File, ...]:
    """The certificates base installs; daemons that load them name them in their `watches`."""
    own = secrets.hosts[me.name]
    files = [
        text(f"{TLS}/ca.pem", secrets.authority.certificate),
        text(f"{TLS}/host.pem", own.certificate),
        text(f"{TLS}/host.key", own.key.get_secret_value(), mode="0640", group="outpost-tls", secret=True),
    ]
    if me.name in secrets.public:
        public = secrets.public[me.name]
        files += [
            text(f"{TLS}/public.pem", public.certificate),
            text(
                f"{TLS}/public.key",
                public.key.get_secret_value(),
                mode="0640",
                group="outpost-tls",
                secret=True,
            ),
        ]
    return tuple(files)


@deploy("base")
def base(*, office: Office, me: Host, secrets: Secrets) -> None:
    """The common ground of all roles."""
    view = BaseView(office, me)
    _packages(office)
    _network(view)
    _identity(office=office, me=me, secrets=secrets)
    _names_and_clock(view)
    _access(view)


def _packages(office: Office) -> None:
    sources = "/etc/apt/sources.list.d/debian.sources"
    settings(
        name="apt",
        files=[
            rendered("base", sources, archive=office.archive),
            rendered("base", "/etc/apt/apt.conf.d/30outpost", archive=office.archive),
            rendered("base", "/etc/apt/apt.conf.d/52outpost-unattended", platform=office.platform),
            text("/etc/apt/sources.list", f"# See {sources}.\n"),
        ],
        check="apt-config dump >/dev/null",
    )
    packages(
        "what every host has",
        [
            "ca-certificates",
            "chrony",
            "dns-root-data",
            "nftables",
            "openssh-server",
            "unattended-upgrades",
            "unbound",
        ],
    )
    once(
        "no mail server but the role's",
        unless="! dpkg-query --show --showformat '${db:Status-Abbrev}|${Package}\\n' 'exim4*' sendmail-bin nullmailer | grep ^ii",
        command="DEBIAN_FRONTEND=noninteractive apt-get -qq -y purge '^exim4.*' '^sendmail-bin$' '^nullmailer$' </dev/null",
    )


def _network(view: BaseView) -> None:
    settings(
        name="sysctl",
        files=[rendered("base", "/etc/sysctl.d/90-outpost.conf", view=view)],
        activate="/usr/lib/systemd/systemd-sysctl",
    )
    service(
        name="nftables",
        unit="nftables.service",
        files=[rendered("base", "/etc/nftables.conf", mode="0755", view=view)],
        check="nft --check --file /etc/nftables.conf",
        on_change="reload",
    )
    once(
        "nftables loaded",  # the unit stays active when somebody flushes the rules by hand
        unless="nft list table inet outpost",
        command="systemctl reload nftables.service",
    )


def _identity(*, office: Office, me: Host, secrets: Secrets) -> None:
    settings(
        name="hostname",
        files=[text("/etc/hostname", f"{me.fqdn}\n")],
        activate="hostname --file /etc/hostname",
    )
    once(
        "clock in UTC",
        unless="[ ! -e /etc/localtime ] || readlink --canonicalize /etc/localtime | grep -E '/(Etc/)?U(TC|niversal)$'",
        command="ln -sfn /usr/share/zoneinfo/Etc/UTC /etc/localtime",
    )
    group("outpost-tls")
    directory("/etc/outpost")
    directory(TLS)
    settings(name="certificates", files=tls_files(me=me, secrets=secrets))
    settings(
        name="trusted-authorities",
        files=[
            text(f"/usr/local/share/ca-certificates/{PurePosixPath(authority.name).stem}.crt", authority.pem)
            for authority in office.tls.trusted_authorities
        ],
        activate="update-ca-certificates --fresh >/dev/null",
    )


def _names_and_clock(view: BaseView) -> None:
    if not view.trust_anchor:
        once(
            "trust anchor of the root",  # Unbound keeps it up to date from then on (RFC 5011)
            unless="test -s /var/lib/unbound/root.key",
            command="install -o unbound -g unbound -m 0644 /usr/share/dns/root.key /var/lib/unbound/root.key",
        )
    service(
        name="unbound",
        unit="unbound.service",
        files=[rendered("base", "/etc/unbound/unbound.conf", view=view)],
        check="unbound-checkconf",
        on_change="reload",
    )
    settings(
        name="resolv.conf",
        files=[rendered("base", "/etc/resolv.conf"), rendered("base", "/etc/hosts", view=view)],
    )
    service(
        name="chrony",
        unit="chrony.service",
        files=[
            rendered("base", path, view=view) for path in ("/etc/chrony/chrony.conf", "/etc/default/chrony")
        ],
        check="chronyd -p -f /etc/chrony/chrony.conf >/dev/null",
    )


def _access(view: BaseView) -> None:
    settings(
        name="sessions",
        files=[rendered("base", "/etc/profile.d/outpost.sh"), rendered("base", "/etc/default/locale")],
    )
    settings(
        name="journald",
        files=[rendered("base", "/etc/systemd/journald.conf.d/outpost.conf")],
        activate="systemctl restart systemd-journald && journalctl --flush",
    )
    keys = f"/etc/ssh/authorized_keys.d/{view.admin}"
    service(
        name="sshd",
        unit="ssh.service",
        files=[
            *([text(keys, "".join(f"{key}\n" for key in view.admin_keys))] if view.admin_keys else []),
            rendered("base", "/etc/ssh/sshd_config.d/00-outpost.conf", view=view),
        ],
        check="sshd -t",
    )
