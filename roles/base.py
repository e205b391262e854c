"""Every host, whatever its role: packages, packet filter, names, clock, SSH, logs, the office's certificates."""

from __future__ import annotations

from pathlib import PurePosixPath

from pyinfra.api.deploy import deploy

from outpost.office import Host, Office
from outpost.office.base import BaseView
from outpost.secrets import Secrets
from roles.network import names_and_clock, network
from roles.shapes import File, directory, group, once, packages, rendered, service, settings, text

TLS = "/etc/outpost/tls"
EVERYWHERE = (
    ["ca-certificates", "chrony", "dns-root-data", "nftables", "openssh-server", "unattended-upgrades", "unbound"]
)


def tls_files(*, me: Host, secrets: Secrets) -> tuple[File, ...]:
    """The certificates base installs; daemons that load them name them in their `watches`."""
    pairs = {"host": secrets.hosts[me.name]}
    if me.name in secrets.public:
        pairs["public"] = secrets.public[me.name]
    files = [text(f"{TLS}/ca.pem", secrets.authority.certificate)]
    for name, pair in pairs.items():
        key = pair.key.get_secret_value()
        files.append(text(f"{TLS}/{name}.pem", pair.certificate))
        files.append(text(f"{TLS}/{name}.key", key, mode="0640", group="outpost-tls", secret=True))
    return tuple(files)


@deploy("base")
def base(*, office: Office, me: Host, secrets: Secrets) -> None:
    """The common ground of all roles."""
    view = BaseView(office, me)
    _packages(office)
    network(view)
    _identity(office=office, me=me, secrets=secrets)
    names_and_clock(view)
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
    packages("what every host has", EVERYWHERE)
    once(
        "no mail server but the role's",
        unless="! dpkg-query --show --showformat '${db:Status-Abbrev}|${Package}\\n' 'exim4*' sendmail-bin nullmailer | grep ^ii",
        command="DEBIAN_FRONTEND=noninteractive apt-get -qq -y purge '^exim4.*' '^sendmail-bin$' '^nullmailer$' </dev/null",
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


def _access(view: BaseView) -> None:
    settings(
        name="sessions",
        files=[rendered("base", "/etc/profile.d/outpost.sh"), rendered("base", "/etc/locale.conf")],
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
        guarded=True,
    )
