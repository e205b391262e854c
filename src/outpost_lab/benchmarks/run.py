"""The rows of `outpost bench`: what is promised, and the function that measures it; and the rows of a cold provision and of many offices.

Many offices: their hosts are simulated, with answers recorded from a lab's hosts. The program `ssh` is replaced:
first every question to the lab's hosts is recorded with its answer, then each office, a copy of the lab's, is answered from the
record. So the controller does all its work, and the hosts none.
"""

import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median

from outpost.converge.declaration import declarations
from outpost.engine.run import Silent, Watcher
from outpost.errors import OutpostError
from outpost.office import load
from outpost.target import ROOT, Target
from outpost.tools import run
from outpost.transport import ssh
from outpost_lab import office
from outpost_lab import up as lab
from outpost_lab.benchmarks import reapply, size
from outpost_lab.benchmarks.measure import Figures, Measurement, Row, of_samples
from outpost_lab.benchmarks.place import FAR, INVENTORY
from outpost_lab.instance import Instance

OFFICES = 100
JOBS = 4
RUNS = 5  # for each office
SSH = Path(__file__).with_name("simulated-ssh.sh")


def fleet(target: Target) -> Figures:
    """Plans of many offices with simulated hosts against one; full comparisons, and those from the cache as a note."""
    jobs = ["--jobs", str(JOBS)]
    with _offices(target, OFFICES) as (offices, environment):
        one = [_plan(environment, "plan", offices[0], "--refresh") for _ in range(RUNS)]
        many = _plan(environment, "each", "plan", *offices, "--refresh", *jobs)
        again = [_plan(environment, "plan", offices[0]) for _ in range(RUNS)]
        many_again = _plan(environment, "each", "plan", *offices, *jobs)
    known = {"one": round(median(again), 2), f"of {OFFICES}": round(many_again / OFFICES, 3)}
    notes = {"offices at a time": JOBS, "nothing changed since the last plan, s per office": known}
    return of_samples({"peer": one, "ours": [many / OFFICES]}, notes)


@contextlib.contextmanager
def _offices(target: Target, count: int) -> Iterator[tuple[list[str], dict[str, str]]]:
    """Copies of the lab's office, and the environment in which their hosts are simulated."""
    with tempfile.TemporaryDirectory(prefix="outpost-fleet-") as temporary:
        top = Path(temporary)
        offices = [top / f"office-{number:03}" for number in range(count)]
        for office in offices:
            shutil.copytree(target.data, office, ignore=shutil.ignore_patterns(*FAR))
            shutil.copy(INVENTORY, office / "ssh.py")
        program = top / "bin" / "ssh"
        program.parent.mkdir()
        shutil.copy(SSH, program)
        program.chmod(0o700)
        (top / "answers").mkdir()
        environment = os.environ | {
            "PATH": f"{program.parent}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "ANSWERS": str(top / "answers"),
            "XDG_CACHE_HOME": str(top / "cache"),
            "PYINFRA_PROGRESS": "off",
        }
        configuration = ssh.configuration(load(target.data), target.data)
        learning = {"REAL": shutil.which("ssh") or "ssh", "CONFIGURATION": str(configuration)}
        for _ in range(2):  # the second plan asks only whether everything is unchanged
            _plan(environment | learning, "plan", str(offices[0]))
        yield [str(office) for office in offices], environment


def _plan(environment: dict[str, str], *words: str) -> float:
    """Seconds that a command takes."""
    started = time.monotonic()
    remedy = "run ./outpost apply lab -y first: the lab's hosts must be as declared"
    run(sys.executable, "-m", "outpost", *words, lines=15, remedy=remedy, cwd=ROOT, env=environment)
    return time.monotonic() - started


NAME = "bench"
PATIENCE = 1800.0  # seconds
INSTALL = (
    "export DEBIAN_FRONTEND=noninteractive; echo 'Acquire::http::Proxy \"{proxy}\";' >/etc/apt/apt.conf.d/proxy; "
    "apt-get update && apt-get install --yes -o APT::Install-Recommends=true"  # Debian's default; the lab's image has another one
)


def provision(target: Target, watcher: Watcher | None = None) -> Figures:
    """Cold provision of a lab of its own (`bench`, removed afterwards) beside plain apt-get; the cache is warmed for both."""
    del target  # its hosts are provisioned already
    try:
        instance = lab.up(NAME)
        office.seal(instance)
        declared = declarations(instance.directory).items()
        packages = {host: sorted(each.package_names) for host, each in declared}
        install = INSTALL.format(proxy=instance.office.archive.proxy)
        _on_each(instance, {host: f"{install} --download-only {' '.join(names)} && apt-get clean" for host, names in packages.items()})  # fmt: skip
        peer = _on_each(instance, {host: f"{install} {' '.join(names)}" for host, names in packages.items()})
        for host in instance.office.hosts:  # they are removed; `lab.up` makes them again
            instance.container(host.name).remove(force=True, v=True)
        instance = lab.up(NAME)
        started = time.monotonic()
        office.deploy(instance, watcher or Silent())
        ours = time.monotonic() - started
    finally:
        lab.down(NAME)
    return of_samples({"ours": [ours], "peer": [peer]})


def _on_each(instance: Instance, scripts: dict[str, str]) -> float:
    """Seconds until the last host has run its script, all side by side."""

    def one(host: str) -> None:
        command = "docker", "exec", instance.container_name(host), "sh", "-c", scripts[host]
        run(*command, remedy="check that the package archive is reached", lines=5, timeout=PATIENCE)

    started = time.monotonic()
    with ThreadPoolExecutor(len(scripts)) as pool:
        list(pool.map(one, scripts))
    return time.monotonic() - started


BARE = "bare `ssh HOST true`"
NO_OP = "no-op re-apply, all hosts, cold"


ansible, near = reapply.ansible, partial(reapply.ansible, rtt=0.0)
fleet_of = f"plan of {OFFICES} offices, {5 * OFFICES} simulated hosts, per office"
scan = f"nightly scan, {size.SCANNED_USERS} users, {size.DAILY} messages a day each"
MANY, USERS = size.MESSAGES, size.USERS
ROWS = {
    "reapply-cold": Row(reapply.cold, NO_OP, BARE, 1.25),
    "reapply-open": Row(reapply.opened, "no-op re-apply, connections open", "cold `ssh HOST true`", 0.6),
    "reapply-t1": Row(reapply.thin, "no-op re-apply, cold, 1.544 Mbit/s", BARE, 1.25),
    "ansible-150ms": Row(partial(ansible, rtt=reapply.RTT), NO_OP, "Ansible, equal content, 150 ms", 120, "times faster"),
    "ansible-0ms": Row(near, NO_OP, "Ansible, equal content, no delay", 50, "times faster"),
    "mitogen-0ms": Row(partial(near, mitogen=True), NO_OP, "Ansible with mitogen, no delay", 8, "times faster"),
    "traffic": Row(reapply.traffic, "bytes of a no-op on the link, per host", "8 kB", unit="B"),
    "one-template": Row(reapply.one_template, "one changed file on every host", "no-op (raw pyinfra both)", 2.0),
    "verify": Row(reapply.white_box, "white-box checks of all hosts, cold", BARE, 2.0),
    "provision": Row(
        provision, "cold provision of all hosts, apt cache warm", "default `apt-get install` of the same packages", 1.2
    ),
    "fleet": Row(fleet, fleet_of, "plan of one office"),
    "logins-300": Row(size.logins, f"{USERS} clients log in at once, until the last one has", "a minute"),
    "no-op-300": Row(size.unchanged, f"comparison without a difference, {USERS} users", "the same with the lab's users", 1.5),
    "user-add-300": Row(size.added, f"`user add`, {USERS} users", "the same with the lab's users", 1.5),
    "idle-1000": Row(size.waiting, f"a message is announced to one of {size.SESSIONS} sessions in IDLE", "to the only session", 2.0),
    "search-50000": Row(size.search, f"search in the text of {MANY} messages", f"{size.ANSWER:.0f} s"),
    "backup-50000": Row(size.frozen, f"delivery stopped by a backup, {MANY} messages", "a second"),
    "rescan-300": Row(size.rescanned, scan, "six hours"),
}  # fmt: skip


def measured(target: Target, rows: Sequence[str], watcher: Watcher) -> Iterator[Measurement]:
    """Measure the requested rows, one after the other; `watcher` shows the progress of a provision."""
    for name in rows or ROWS:
        if name not in ROWS:
            raise OutpostError(f"there is no row {name}", f"choose one of: {', '.join(ROWS)}")
    for name in rows or ROWS:
        row, load = ROWS[name], os.getloadavg()[0]
        measure = partial(provision, watcher=watcher) if name == "provision" else row.measure
        yield Measurement(name, row, measure(target), round(load, 1))
