"""The test environment is realistic: signed DNS, TLS, and each machine an ordinary Debian."""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from http.client import HTTPConnection
from secrets import token_hex
from urllib.parse import urlsplit

import pytest

from outpost.errors import OutpostError
from outpost_lab import aptcache, containers, dnszones, engine, images, pace
from outpost_lab.instance import Instance, info
from tests.awaiting import until


def on(lab: Instance, machine: str, *command: str) -> str:
    """Output of a command on a machine of the lab."""
    return containers.run(lab.container(machine), *command)


def test_no_unit_has_failed_on_any_machine(lab: Instance) -> None:
    states = {
        machine.name: on(lab, machine.name, "systemctl", "is-system-running").strip()
        for machine in lab.machines
    }
    assert set(states.values()) == {"running"}, states


def test_hosts_and_resolv_conf_are_files_and_not_mounts(lab: Instance) -> None:
    for machine in lab.machines:
        mounts = on(lab, machine.name, "findmnt", "--raw", "--noheadings", "--output", "TARGET").splitlines()
        assert not {"/etc/resolv.conf", "/etc/hosts", "/etc/hostname"} & set(mounts), machine.name


def test_machines_share_neither_identity_nor_ssh_host_key(lab: Instance) -> None:
    for path in ("/etc/machine-id", "/etc/ssh/ssh_host_ed25519_key.pub"):
        assert len({on(lab, machine.name, "cat", path) for machine in lab.machines}) == len(lab.machines)


def test_ssh_opens_with_the_instances_key_and_pinned_host_key(lab: Instance) -> None:
    address = lab.machine("mta").addresses["mgmt"][0]
    options = ["BatchMode=yes", "StrictHostKeyChecking=yes", f"UserKnownHostsFile={lab.known_hosts}"]
    command = [
        "ssh",
        "-i",
        str(lab.ssh_key),
        *(f"-o{item}" for item in options),
        f"root@{address}",
        "hostname",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20 * pace.load())
    assert done.stdout.strip() == lab.machine("mta").fqdn, done.stderr


def test_dns_is_validated_from_the_root_down_to_the_office(lab: Instance) -> None:
    names = [(zone.name, "SOA") for zone in dnszones.zones(lab) if zone.trusted]
    names += [(f"{lab.office.domain}.", "MX"), ("_25._tcp.mx.internet.test.", "TLSA")]
    for name, rrtype in names:
        answer = on(lab, "gw", "kdig", "@127.0.0.1", "+dnssec", name, rrtype)
        assert "status: NOERROR" in answer, name
        assert " ad;" in answer, f"{name} {rrtype} is not validated"


def test_a_zone_is_not_reached_from_another(lab: Instance) -> None:
    core = lab.machine("store").addresses["core"][0]
    with pytest.raises(OutpostError):
        on(lab, "attacker", "nc", "-zw2", core, "22")


@pytest.mark.parametrize(
    ("sender", "recipient", "machine"),
    [
        ("head@myertor.test", "NEW@internet.test", "headoffice"),
        ("client@steeltec.test", "NEW@internet.test", "clientsite"),
        ("anyone@internet.test", "head@myertor.test", "internet"),
        ("anyone@internet.test", "client@steeltec.test", "internet"),
    ],
)
def test_mail_around_the_office_travels_encrypted(
    lab: Instance, sender: str, recipient: str, machine: str
) -> None:
    token = token_hex(8)
    recipient = recipient.replace("NEW", token)
    script = f"printf 'Subject: {token}\\n\\nhello\\n' | /usr/sbin/sendmail -f {sender} {recipient}"
    on(lab, machine, "sh", "-c", script)
    domain = recipient.partition("@")[2]
    target = next(item.name for item in lab.machines if item.domain == domain)
    found = until(
        lambda: on(
            lab, target, "sh", "-c", f"grep -rl --exclude-dir=tmp {token} /var/mail/{domain} || true"
        ).strip(),
        "it arrives",
    )
    assert "TLS1" in (text := on(lab, target, "cat", found)) or "TLSv1" in text


def test_info_names_containers_that_run(lab: Instance) -> None:
    data = info(lab)
    assert set(data["users"]) == set(lab.office.mailboxes)
    for shape in (data["hosts"] | data["world"]).values():
        machine = shape["container"].rpartition("-")[2]
        assert lab.container(machine).status == "running"


def test_the_package_proxy_refuses_none_of_many_hosts_that_ask_at_once() -> None:
    """With Debian's settings apt-cacher-ng answers 503 to each fourth request. The shared cache may be an older lab's: one host asks it."""
    client = engine.connect()
    proxy = client.containers.run(images.tag("apt-cache"), detach=True)

    def answer(_: int) -> int:
        proxy.reload()
        asking = HTTPConnection(urlsplit(aptcache.bridge_url(proxy)).netloc)
        try:
            asking.request("GET", f"{images.MIRROR}/dists/trixie/InRelease")
            answered = asking.getresponse()
            answered.read()  # a client that disconnects ends the download for the others, too
            return answered.status
        except OSError:
            return 0
        finally:
            asking.close()

    try:
        until(lambda: answer(0) == HTTPStatus.OK, "the proxy answers")
        with ThreadPoolExecutor(8) as hosts:
            assert set(hosts.map(answer, range(40))) == {HTTPStatus.OK}
    finally:
        proxy.remove(force=True, v=True)
