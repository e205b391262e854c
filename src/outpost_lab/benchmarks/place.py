"""The lab's office behind a slow line: the same hosts, behind ports of a `Link`."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import tomlkit

from outpost.errors import OutpostError
from outpost.office import Office, load
from outpost.target import ROOT, Target
from outpost.transport import ssh
from outpost_lab import engine
from outpost_lab.benchmarks.link import Link

INVENTORY = ROOT / "inventory" / "harbour" / "ssh.py"
FAR = ("hosts", "world", "instance.json")
"""Parts of an instance's directory that do not belong to an office."""


@dataclass(frozen=True)
class Place:
    """An office directory whose hosts are reached over a line, by local ports of it."""

    directory: Path
    office: Office
    link: Link
    ports: dict[str, int]

    @property
    def configuration(self) -> Path:
        """The file for ``ssh -F``."""
        return ssh.configuration(self.office, self.directory)

    def environment(self) -> dict[str, str]:
        """The environment of programs that read this office; they may cache compiled Python, as in a normal shell."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return os.environ | {
            "PATH": path,
            "PYINFRA_PROGRESS": "off",
            "PYTHONDONTWRITEBYTECODE": "",
            "XDG_STATE_HOME": str(self.directory.parent),
        }

    def cold(self) -> None:
        """Close the open connections."""
        for host in self.ports:
            command = ["ssh", "-F", str(self.configuration), "-O", "exit", host]
            subprocess.run(command, capture_output=True, check=False)

    def bare(self) -> float:
        """Seconds for one `ssh HOST true` to each host, side by side, each with a connection of its own."""
        command = ["ssh", "-F", str(self.configuration), "-o", "ControlMaster=no"]
        started = time.monotonic()
        running = [subprocess.Popen([*command, host, "true"]) for host in self.ports]
        failed = [process.wait() for process in running]
        if any(failed):
            raise OutpostError("ssh to a host failed", "check that the lab is up: ./outpost lab info")
        return time.monotonic() - started

    def closed(self, then: Callable[[], float]) -> Callable[[], float]:
        """The same measurement, with no connection open."""

        def run() -> float:
            self.cold()
            return then()

        return run

    def paired(self, ours: Callable[[], float], runs: int) -> dict[str, list[float]]:
        """Bare logins and ours in turn, with no connection open: a disturbance affects both."""
        samples: dict[str, list[float]] = {"peer": [], "ours": []}
        for _ in range(runs):
            samples["peer"].append(self.closed(self.bare)())
            samples["ours"].append(self.closed(ours)())
        return samples

    def timed(self, command: Sequence[str], *, environment: dict[str, str] | None = None) -> float:
        """Seconds of a command at the top of the checkout; it must succeed."""
        started = time.monotonic()
        engine.run(*command, lines=25, cwd=ROOT, env=self.environment() | (environment or {}))
        return time.monotonic() - started


@contextlib.contextmanager
def behind(target: Target, *, rtt: float, rate: float = 0.0) -> Iterator[Place]:
    """The office of a lab instance, behind a line with this round trip time and rate."""
    office = load(target.data)
    link = Link(rtt, rate)
    targets = [ssh.target(office, host)[1:] for host in office.hosts]
    with (
        tempfile.TemporaryDirectory(prefix="outpost-bench-") as temporary,
        link.open(targets) as ports,
    ):
        directory = Path(temporary) / target.name
        shutil.copytree(target.data, directory, ignore=shutil.ignore_patterns(*FAR))
        by_host = dict(zip((host.name for host in office.hosts), ports, strict=True))
        document = tomlkit.parse((directory / "office.toml").read_text(encoding="utf-8"))
        for name, port in by_host.items():
            document["hosts"][name]["ssh"] = f"127.0.0.1:{port}"
        (directory / "office.toml").write_text(tomlkit.dumps(document), encoding="utf-8")
        known = (directory / "known_hosts").read_text(encoding="utf-8")
        lines = [line.split(" ", 1) for line in known.splitlines()]
        for host in office.hosts:
            address = ssh.target(office, host)[1]
            key = next(rest for names, rest in lines if address in names.split(","))
            known += f"[127.0.0.1]:{by_host[host.name]} {key}\n"
        (directory / "known_hosts").write_text(known, encoding="utf-8")
        shutil.copy(INVENTORY, directory / "ssh.py")
        place = Place(directory, load(directory), link, by_host)
        try:
            yield place
        finally:
            place.cold()
            place.configuration.unlink(missing_ok=True)
