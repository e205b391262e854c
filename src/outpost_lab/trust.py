"""What the test environment learns about a deployed office: the key of its zone, and its authority."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import dns.dnssec
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rdataclass
import dns.rdatatype

from outpost.errors import OutpostError
from outpost.keys import secrets_file
from outpost.office.certificates import acme_hosts
from outpost.recovery.backup import other_end
from outpost_lab import containers, dnszones, engine, pace, render
from outpost_lab.instance import VAULT, Instance

SIGNED_WITHIN = 30.0  # seconds that the primary may take to sign and answer
ACME_ROOT = "curl --silent --fail --insecure --retry 5 --retry-connrefused https://127.0.0.1:15000/roots/0"
RENEW_IF_FOREIGN = (
    "openssl verify -CAfile /root/acme-ca.pem -untrusted /etc/outpost/tls/public.pem /etc/outpost/tls/public.pem "
    "|| systemd-run --quiet --collect --wait --pipe /usr/local/lib/outpost/certificate renew --force"
)
SEP = 0x0001  # RFC 4034, section 2.1.1: the key that a DS points to


def after_deploy(instance: Instance) -> None:
    """Gives the DS records of the office's zones to their parents, and its authority to the test environment's machines; may be repeated.

    A parent that has a DS of the zone follows its CDS by itself from then on (templates/world/root).
    """
    client = engine.connect()
    root = instance.container("root", client)
    for child in dnszones.children(instance):
        shown = zone_ds(instance, child.name)
        if not any(ds in containers.run(root, "cat", child.ds_file).upper() for ds in map(str.upper, shown)):
            lines = "".join(f"{child.name} 5 IN DS {ds}\n" for ds in shown)
            containers.put(root, [render.File(child.ds_file, lines.encode())])
            containers.run(root, "touch", f"{dnszones.STORAGE}/{child.parent.file}.zone")
            containers.run(root, "knotc", "-b", "zone-reload", child.parent.name)
            containers.run(instance.container("gw", client), "unbound-control", "flush_zone", child.name)
    # head office's machine keeps the backups: it runs the script that `outpost backup --other-end` prints
    if instance.office.backup and (instance.directory / secrets_file.FILE_NAME).exists():
        vault = instance.container(VAULT, client)
        script = other_end(instance.office, secrets_file.read(instance.directory))
        containers.put(vault, [render.File("/root/set-up.sh", script.encode())])
        containers.run(vault, "sh", "/root/set-up.sh")
    containers.update_peers(client, instance)
    outside = [machine.name for machine in instance.machines if not machine.office]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda name: _trust(instance.container(name, client), render.trust(instance)), outside))


def learn_acme_root(instance: Instance) -> None:
    """Stores the root of the test environment's ACME authority, which makes a new one at each start."""
    certificate = containers.run(instance.container("acme", engine.connect()), "sh", "-c", ACME_ROOT)
    instance.acme_ca.write_text(certificate)


def certificates(instance: Instance) -> None:
    """Lets every host fetch its certificate, or a new one if the authority has changed."""
    client = engine.connect()
    root = instance.acme_ca.read_bytes()

    def fetch(container: Any) -> None:
        containers.put(container, [render.File("/root/acme-ca.pem", root)])
        containers.run(container, "systemctl", "start", "outpost-certificate.service")
        containers.run(container, "sh", "-c", RENEW_IF_FOREIGN)

    hosts = [instance.container(host.name, client) for host in acme_hosts(instance.office)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(fetch, hosts))


def zone_ds(instance: Instance, name: str) -> list[str]:
    """DS data (SHA-256) of one of the office's zones, from the DNSKEYs of its primary; it checks signatures."""
    zone = dns.name.from_text(name)
    primary = instance.office.with_role("dns")[0]
    server = str(primary.in_zone("wan")[0])
    wait, problem = pace.Patience(SIGNED_WITHIN), "no DNSKEY"
    while wait.left:
        try:
            return _ds(zone, server)
        except (dns.exception.DNSException, OSError) as error:
            problem = str(error) or type(error).__name__
        time.sleep(0.5)
    remedy = f"docker exec {instance.container_name(primary.name)} knotc zone-status {name}"
    raise OutpostError(f"{primary.fqdn} ({server}) does not show a signed zone {name}: {problem}", remedy)


def _ds(zone: dns.name.Name, server: str) -> list[str]:
    query = dns.message.make_query(zone, dns.rdatatype.DNSKEY, want_dnssec=True)
    answer = dns.query.tcp(query, server, timeout=5)
    shown, key, signature = answer.answer, dns.rdatatype.DNSKEY, dns.rdatatype.RRSIG
    keys = answer.find_rrset(shown, zone, dns.rdataclass.IN, key)
    signatures = answer.find_rrset(shown, zone, dns.rdataclass.IN, signature, key)
    dns.dnssec.validate(keys, signatures, {zone: keys})
    return [dns.dnssec.make_ds(zone, key, "SHA256").to_text() for key in keys if key.flags & SEP]


def _trust(container: Any, authorities: list[render.File]) -> None:
    """Installs authorities, unless a machine has exactly these already."""
    wanted = "".join(file.content.decode() for file in authorities)
    paths = [file.path for file in authorities]
    # the last file exists once they are installed: a new container has the others, and trusts no authority yet
    code, held = container.exec_run(["cat", *paths, "/etc/ssl/certs/outpost-office-ca.pem"])
    if code == 0 and held.decode().startswith(wanted):
        return
    containers.put(container, authorities)
    containers.run(container, "update-ca-certificates")
