"""Provision a whole office from bare machines, beside the default `apt-get install` of the same packages on the same machines."""

import time
from concurrent.futures import ThreadPoolExecutor

import docker

from outpost.converge.declaration import declarations
from outpost.engine.run import Silent, Watcher
from outpost.target import Target
from outpost_lab import engine, office
from outpost_lab import up as lab
from outpost_lab.benchmarks.measure import Figures, of_samples
from outpost_lab.instance import Instance

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
        packages = {
            host: sorted(declared.package_names)
            for host, declared in declarations(instance.directory).items()
        }
        install = INSTALL.format(proxy=instance.office.archive.proxy)
        _on_each(instance, {host: f"{install} --download-only {' '.join(names)} && apt-get clean" for host, names in packages.items()})  # fmt: skip
        peer = _on_each(instance, {host: f"{install} {' '.join(names)}" for host, names in packages.items()})
        client = docker.from_env()  # the hosts are removed; `lab.up` makes them again
        for host in instance.office.hosts:
            client.containers.get(instance.container_name(host.name)).remove(force=True, v=True)
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
        engine.run(*command, remedy="check that the package archive is reached", lines=5, timeout=PATIENCE)

    started = time.monotonic()
    with ThreadPoolExecutor(len(scripts)) as pool:
        list(pool.map(one, scripts))
    return time.monotonic() - started
