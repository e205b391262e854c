"""A new site: hosts as an installer leaves them, a domain that is not delegated, and an administrator with the README.

The administrator has a home of their own, an SSH key and the commands of the README; nothing here reaches a host in
another way, and nothing is prepared on one but what an installer or a provider prepares. The test
environment is the lab's: a resolver that is also the clock, and the DNS above the office.
"""

from __future__ import annotations

import logging
import os
import re
import resource
import shlex
import subprocess
import sys
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import tomlkit
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from outpost.cli.suite import EVIDENCE
from outpost.office.certificates import acme_hosts, mode
from outpost.office.load import load
from outpost.office.model import Office
from outpost.office.tables.topology import Host
from outpost.target import ROOT
from outpost_lab import aptcache, containers, dnszones, engine, images, keys, networks, room, trust, up, world
from outpost_lab.instance import OFFICE, VAULT, Instance
from outpost_lab.render import File
from outpost_lab.world import Machine
from tests import wheel
from tests.awaiting import until

logger = logging.getLogger(__name__)
AROUND = ("gw", "root")
"""Machines of the lab's test environment that every site needs, for names and time."""
ZONES = ("wan", "core", "lan", "mgmt")
WORKED = r"""cat /proc/[0-9]*/stat 2>/dev/null | sed 's/.*) //' | awk '{ s += $12 + $13 + $14 + $15 } END { print s / 100 }'"""
"""Processor seconds of a running process and of its ended children (proc(5))."""
PIPX = """export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
apt-get -qq -y --no-install-recommends install pipx openssh-client
pipx install --quiet /wheel/*.whl"""
"""What docs/how-to/install.md says; the packages and the wheel's dependencies come from the network."""
ACME_PROXY = "http://10.77.4.4:8888"
"""The lab's way to its certificate authority."""


@dataclass(frozen=True)
class Shape:
    """An office, and the hosts it gets (``shapes.toml``)."""

    name: str
    new: dict[str, str]
    families: tuple[int, ...]
    login: str
    edits: dict[str, Any] = field(default_factory=dict)
    default: bool = False
    around: tuple[str, ...] = ()
    hosts: str = ""
    refused: str = ""
    remedy: str = ""
    wheel: bool = False
    names: dict[str, str] = field(default_factory=dict)
    users: int = 0
    aliases: int = 0
    shared: int = 0
    peers: int = 0

    @property
    def people(self) -> dict[str, Any]:
        """Lines of the office file for the numbers of users and peers."""
        domain = self.new["domain"]
        addresses = [f"u{number}@{domain}" for number in range(1, self.users + 1)]
        some = addresses[:3]
        found: dict[str, Any] = {}
        if addresses:
            found["users"] = [
                {"address": address, "full_name": f"User {address[:4]}"} for address in addresses
            ]
        if self.aliases:
            found["aliases"] = [
                {"address": f"list{n}@{domain}", "members": addresses[n : n + 3]} for n in range(self.aliases)
            ]
        if self.shared:
            found["shared"] = [{"address": f"room{n}@{domain}", "members": some} for n in range(self.shared)]
        if self.peers:
            found["peers"] = [
                {
                    "name": f"peer{n}",
                    "domains": [f"peer{n}.test"],
                    "zone": "wan",
                    "relays": [f"203.0.113.{n + 1}"],
                    "next_hop": f"mx.peer{n}.test",
                    "listen": 2525 + n,
                    "tls": "verify",
                }
                for n in range(self.peers)
            ]
        return found


def shapes() -> tuple[Shape, ...]:
    """All of the matrix."""
    data = tomllib.loads(Path(__file__).with_name("shapes.toml").read_text(encoding="utf-8"))
    return tuple(Shape(name=name, **entry) for name, entry in data.items())


@dataclass(frozen=True)
class Site(Instance):
    """The lab instance that stands for the new site."""

    home: Path = Path()
    around: tuple[str, ...] = ()

    @property
    def office_directory(self) -> Path:
        """Where the administrator keeps the office."""
        return self.home / "office"

    @property
    def office_file(self) -> Path:
        return self.office_directory / "office.toml"

    @property
    def office(self) -> Office:
        return load(self.office_file)

    @cached_property
    def machines(self) -> tuple[Machine, ...]:
        """The machines around the office that it needs, and the hosts of the office file."""
        around = tuple(item for item in world.around(self.slot) if item.name in (*AROUND, *self.around))
        return around + tuple(self._stock(host) for host in self.office.hosts)

    def _stock(self, host: Host) -> Machine:
        """Docker gives each card addresses of both families; a site without one family removes them."""
        addresses = {}
        for zone in host.addresses:
            found = {str(address.version): str(address) for address in host.in_zone(zone)}
            number = int(host.in_zone(zone)[0]) & 0xFF
            other = dict(zip("46", world.address(zone, number, self.slot), strict=True))
            addresses[zone] = (found.get("4", other["4"]), found.get("6", other["6"]))
        return Machine(
            host.name, host.role, host.fqdn, "stock", addresses, office=True, units=("ssh.service",)
        )


class Administrator:
    """Somebody with the README, a home, a key, and a checkout."""

    def __init__(self, shape: Shape, directory: Path, name: str) -> None:
        self.shape, self.home = shape, directory / "home"
        self.client = engine.ensure()
        here = {machine.image for machine in world.around(0) if machine.name in (*AROUND, *shape.around)}
        images.build(self.client, ("base", "stock", "apt-cache", *sorted(here)))
        (self.home / ".ssh").mkdir(parents=True, mode=0o700)
        self.key = keys.ssh_key(self.home / ".ssh" / "id_ed25519", "admin@desk")
        made = partial(Site, name, delegated=False, home=self.home, around=self.shape.around)
        self.site, self.zones = networks.settle(self.client, made, range(world.SLOTS))
        self.office = str(self.site.office_directory)
        self.typed: list[str] = []
        # OpenSSH takes the home from the passwd file, and no test writes there
        self.socket = self.home / "agent"
        self.agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(self.socket)], stdout=subprocess.DEVNULL)
        until(self.socket.exists, "the agent listens", seconds=10)
        add = ["ssh-add", "-q", str(self.home / ".ssh" / "id_ed25519")]
        subprocess.run(add, env=os.environ | {"SSH_AUTH_SOCK": str(self.socket)}, check=True)
        self.command = (
            self._by_pipx(directory / "tools") if shape.wheel else [sys.executable, "-m", "outpost"]
        )

    # What the README says ---------------------------------------------------------------------------------------

    def types(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """One command of ``./outpost``."""
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("OUTPOST_", "XDG_"))
        }
        own = {"HOME": str(self.home), "SSH_AUTH_SOCK": str(self.socket)}
        if not self.shape.wheel:
            own["PYTHONPATH"] = f"{ROOT}/src:{ROOT}"
        started, worked = time.monotonic(), self._worked()
        done = subprocess.run(
            [*self.command, *arguments],
            cwd=self.home if self.shape.wheel else ROOT,
            env=environment | own,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        self.typed.append(arguments[0])
        took = time.monotonic() - started, self._worked() - worked
        logger.info("%s: %s took %.0f s, a processor for %.0f s", self.shape.name, arguments[0], *took)
        return done

    def _by_pipx(self, tools: Path) -> list[str]:
        """The command on a machine of its own: a bare Debian, with this version's wheel by pipx."""
        tools.mkdir()
        wheel.build(tools)
        machine = self.client.containers.run(
            images.tag("base"),
            ["sleep", "infinity"],
            entrypoint=[],
            name=f"outpost-{self.site.name}-desk",
            labels=self.site.labels,
            detach=True,
            network_mode="host",
            volumes=[
                f"{self.home}:{self.home}",
                f"{tools}:/wheel:ro",
                "/etc/ssl/certs:/etc/ssl/certs:ro",
                "/etc/resolv.conf:/etc/resolv.conf:ro",
            ],
        )
        code, printed = machine.exec_run(["sh", "-euc", PIPX])
        assert code == 0, printed.decode()
        path = "PATH=/root/.local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        own = (f"HOME={self.home}", f"SSH_AUTH_SOCK={self.socket}", path)
        return ["docker", "exec", "--workdir", str(self.home), machine.id, "env", *own, "outpost"]

    def merges(self, job: str) -> subprocess.CompletedProcess[str]:
        """A job of the example of continuous integration, on the machine that has the command by pipx."""
        offices = (f"OUTPOST_OFFICES={self.home}", f"OFFICES={Path(self.office).name}")
        command = [*self.command[:-1], *offices, "bash", "-e", "-c", job]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def _worked(self) -> float:
        """Processor seconds of commands and hosts, as far as known; printed for information only."""
        own = resource.getrusage(resource.RUSAGE_CHILDREN)
        outputs = (item.exec_run(["sh", "-c", WORKED]).output for item in self.site.containers(self.client))
        hosts = sum(float(number) for number in outputs if re.fullmatch(rb"\d+(\.\d+)?\n", number))
        return own.ru_utime + own.ru_stime + hosts

    def answers(self) -> subprocess.CompletedProcess[str]:
        """``new`` with the answers of the shape, and then the office file edited."""
        found = {zone: world.network(zone, self.site.slot) for zone in ZONES}
        nets = {
            zone: ",".join(
                net for net, version in zip(pair, (4, 6), strict=True) if version in self.shape.families
            )
            for zone, pair in found.items()
        }
        forwarders = ",".join(self._of_families([*self._gateway.addresses["core"]]))
        site = {"proxy": self.cache, "forwarders": forwarders, "ssh-user": self.shape.login, "key": self.key}
        if self.shape.new["certificates"] == "acme":
            site["acme-proxy"] = world.shifted(ACME_PROXY, self.site.slot)
        options = {**nets, **site, **self.shape.new}
        done = self.types("new", self.office, *(f"--{key}={value}" for key, value in options.items()))
        if done.returncode == 0:
            self._edit()
        if done.returncode == 0 and (self.shape.people or self.shape.around or "hosts" in self.shape.edits):
            done = self.types("secrets", "init", self.office)
        return done

    @property
    def _gateway(self) -> Machine:
        return next(machine for machine in world.around(self.site.slot) if machine.name == "gw")

    @property
    def cache(self) -> str:
        """The site's package proxy."""
        (place,) = self._of_families([*world.address("mgmt", world.APT_CACHE_OCTET, self.site.slot)])[:1]
        return f"http://{f'[{place}]' if ':' in place else place}:{aptcache.PORT}"

    def _edit(self) -> None:
        self.site.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.site.save()
        self.site.world_authority()
        self.site.acme_ca.write_bytes(self.site.world_ca.read_bytes())
        for authority in (self.site.world_ca, self.site.acme_ca):
            (self.site.office_directory / authority.name).write_bytes(authority.read_bytes())
        edits = tomllib.loads(world.shifted(tomlkit.dumps(self.shape.edits), self.site.slot))
        if "backup" in edits:
            key = keys.ssh_key(self.site.directory / "hosts" / VAULT, VAULT)
            edits["backup"]["host_keys"] = [key.rpartition(" ")[0]]
        accepted = [*_of_containers(), *edits.get("maintenance", {}).pop("accepted", ())]
        clocks = [*self._gateway.addresses["mgmt"]]
        wanted: dict[str, Any] = {
            "platform": "docker",  # the container uses the kernel and the clock of this machine
            "resolver": {
                "trust_anchor": dnszones.trust_anchor(self.site)
            },  # the lab has a DNS root of its own
            "time": {"servers": self._of_families(clocks)},
            "scanner": {
                "signatures": "local",
                "network_checks": False,
            },  # ClamAV's servers cannot be reached from here
            "maintenance": {"accepted": accepted},
        }
        text = self.site.office_file.read_text()
        for old, new in self.shape.names.items():
            text = text.replace(f"[hosts.{old}]", f"[hosts.{new}]")
        document = tomlkit.parse(text)
        for changes in (wanted, self.shape.people, edits):
            _merge(document, changes)
        self.site.office_file.write_text(tomlkit.dumps(document))

    def _of_families(self, addresses: list[str]) -> list[str]:
        return [item for item in addresses if (6 if ":" in item else 4) in self.shape.families]

    def pins(self) -> None:
        """The hosts' keys, as their consoles show them."""
        lines = []
        for machine in self._hosts():
            show = partial(self._run, machine, "cat /etc/ssh/ssh_host_ed25519_key.pub")
            key = until(show, f"{machine.name} shows its key").rpartition(" ")[0]
            lines.append(f"{','.join(item for pair in machine.addresses.values() for item in pair)} {key}\n")
        (self.site.office_directory / "known_hosts").write_text("".join(lines))

    def certifies(self) -> None:
        """An authority that people use by hand: a request for each host with a public certificate, and the answer."""
        office = load(self.site.office_file, uncertified=True)
        certificate, key = self.site.world_authority()
        for host in (host for host in office.hosts if mode(office, host) == "provided"):
            request = x509.load_pem_x509_csr(
                self.types("secrets", "csr", self.office, host.name).stdout.encode()
            )
            names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName)
            made = (
                x509.CertificateBuilder(
                    certificate.subject, request.subject, request.public_key(), x509.random_serial_number()
                )
                .not_valid_before(datetime.now(UTC) - timedelta(hours=1))
                .not_valid_after(datetime.now(UTC) + timedelta(days=90))
                .add_extension(names.value, critical=False)
                .sign(key, hashes.SHA256())
            )
            (self.site.office_directory / f"{host.name}.pem").write_bytes(made.public_bytes(Encoding.PEM))

    def obeys(self, printed: str) -> None:
        """What preflight said: typed on each host, and written into the office file."""
        document = tomlkit.parse(self.site.office_file.read_text())
        for proxy in re.findall(r'write proxy = "([^"]*)" below \[archive\]', printed):
            _merge(document, {"archive": {"proxy": proxy}})
        self.site.office_file.write_text(tomlkit.dumps(document))
        for machine in self._hosts():
            self._run(machine, f"export DEBIAN_FRONTEND=noninteractive\n{self.shape.remedy}")

    # What somebody else has done: the machines, the world ---------------------------------------------------------

    def _containers(self) -> list[Machine]:
        """The machines that somebody else sets up as containers."""
        return list(self.site.machines)

    def _hosts(self) -> list[Machine]:
        return [machine for machine in self.site.machines if machine.office]

    def _run(self, machine: Machine, script: str) -> str:
        return containers.run(self.site.container(machine.name, self.client), "sh", "-c", script)

    def machines_come(self) -> None:
        """The site's networks, its hosts as an installer leaves them, and the world's names and clock."""
        room.ensure(self.client, len(self.site.machines), self.site.name, consent=False, note=logger.info)
        zones = self.zones
        place = world.address("mgmt", world.APT_CACHE_OCTET, self.site.slot)
        aptcache.ensure(self.client, images.tag("apt-cache"))
        aptcache.attach(self.client, zones["mgmt"], *place)

        keys.ssh_key(self.site.ssh_key, "outpost")  # all of them use it, so it is made before they start

        def come(machine: Machine) -> None:
            containers.ensure(self.client, self.site, machine, zones)
            containers.wait(self.site.container(machine.name, self.client), machine)
            if machine.office:
                self._installed(machine)

        with ThreadPoolExecutor(up.AT_ONCE) as pool:
            list(pool.map(come, self._containers()))
        if "acme" in self.shape.around:
            trust.learn_acme_root(self.site)  # a public authority would be among Debian's
            (self.site.office_directory / self.site.acme_ca.name).write_bytes(self.site.acme_ca.read_bytes())

    def _installed(self, machine: Machine) -> None:
        name = machine.fqdn
        zone = "wan" if "wan" in machine.addresses else "core"
        gateway = self._of_families([*self._gateway.addresses[zone]])[0]
        owner = self.shape.login
        account = "/root" if owner == "root" else f"/home/{owner}"
        # an installer makes one of the two
        others = (
            "userdel --remove admin; rm /etc/sudoers.d/90-cloud-init-users;"
            if owner == "root"
            else f"""rm -rf /root/.ssh; [ {owner} = admin ] || {{
            usermod --login {owner} --home {account} --move-home admin && groupmod --new-name {owner} admin
            sed -i 's/^admin /{owner} /' /etc/sudoers.d/90-cloud-init-users; }};"""
        )
        script = f"""{others} set -e
            mkdir -p -m 0700 {account}/.ssh; echo {shlex.quote(self.key)} > {account}/.ssh/authorized_keys
            chown -R {owner} {account}/.ssh; chmod 0600 {account}/.ssh/authorized_keys
            printf '%s\\n' '127.0.0.1 localhost' '127.0.1.1 {name} {machine.name}' '::1 localhost ip6-localhost' > /etc/hosts
            echo {machine.name} > /etc/hostname; hostname {machine.name}
            echo 'nameserver {gateway}' > /etc/resolv.conf
            {self._without_the_other_family()}
            export http_proxy={self.cache}
            {self.shape.hosts}
            systemctl restart ssh"""
        self._run(machine, script)

    def _without_the_other_family(self) -> str:
        """A site without IPv4 or without IPv6: its hosts have no such address, except on the loopback interface."""
        return "; ".join(
            f"for card in $(ls /sys/class/net | grep -v lo); do ip -{version} addr flush dev $card scope global; done"
            for version in {4, 6} - set(self.shape.families)
        )

    def journals(self) -> str:
        """The log lines of sudo on the hosts."""
        return "".join(
            self._run(machine, "journalctl --no-pager --output=cat _COMM=sudo") for machine in self._hosts()
        )

    def is_delegated(self) -> None:
        """The registry enters the administrator's records: NS, glue and DS."""
        delegated = replace(self.site, delegated=True)
        root = self.site.container("root", self.client)
        made = dict(dnszones.files(delegated))
        for child in dnszones.children(delegated):
            zone = f"{dnszones.STORAGE}/{child.parent.file}.zone"
            lines = "".join(f"{child.name} 5 IN DS {ds}\n" for ds in trust.zone_ds(delegated, child.name))
            containers.put(root, [File(zone, made[zone]), File(child.ds_file, lines.encode())])
            containers.run(root, "knotc", "-b", "zone-reload", child.parent.name)
        for machine in ("gw", *(host.name for host in self._hosts())):  # cached answers have expired
            containers.run(self.site.container(machine, self.client), "unbound-control", "flush_zone", ".")

    def others_do_theirs(self) -> None:
        """Head office accepts backups and logs, set up by the printed commands; hosts fetch their certificates."""
        if VAULT in self.shape.around:
            script = self.types("backup", self.office, "--other-end").stdout
            vault = self.site.container(VAULT, self.client)
            containers.put(vault, [File("/root/set-up.sh", script.encode())])
            containers.run(vault, "sh", "/root/set-up.sh")
        if "collector" in self.shape.around:
            authority = self.types("secrets", "ca", self.office).stdout
            collector = self.site.container("collector", self.client)
            containers.put(collector, [File("/etc/outpost/office-ca.pem", authority.encode())])
        for host in acme_hosts(self.site.office):
            place = self.site.container(host.name, self.client)
            containers.run(place, "systemctl", "start", "outpost-certificate.service")
        if acme_hosts(self.site.office):
            self.types("rotate", "due", self.office)
        if VAULT in self.shape.around:
            self.types("backup", self.office, "--now")

    def evidence(self) -> str:
        """The state of every machine after a failure."""
        results = (
            (item.name, item.exec_run(["sh", "-c", EVIDENCE])) for item in self.site.containers(self.client)
        )
        return "\n".join(f"--- {name}\n{answer.output.decode(errors='replace')}" for name, answer in results)

    def leaves(self) -> None:
        """Remove everything."""
        self.agent.terminate()
        self.agent.wait()
        up.down(self.site.name)


def _of_containers() -> list[str]:
    """Things of the lab's images that Debian lacks, because they are containers; the lab's office accepts them by name."""
    accepted: list[str] = tomllib.loads(OFFICE.read_text(encoding="utf-8"))["maintenance"]["accepted"]
    udev = ("udevd.service", "udevd-control.socket", "udevd-kernel.socket", "udev-trigger.service")
    return [*accepted, *(f"unit systemd-{name}" for name in udev)]


def _merge(into: Any, changes: dict[str, Any]) -> None:
    for key, value in changes.items():
        if isinstance(value, dict) and key in into:
            _merge(into[key], value)
        else:
            into[key] = value
