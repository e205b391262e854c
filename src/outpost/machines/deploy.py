"""pyinfra's entry for a site's server: packages, units, then the guests' steps. ``host.data.declared`` names a file with all of it."""

import json
from io import StringIO
from pathlib import Path

from pyinfra.context import host
from pyinfra.facts.deb import DebPackages
from pyinfra.operations import apt, files, server, systemd
from pyinfra.operations.util import any_changed

from outpost.machines.alarms import TIMER
from outpost.machines.hardening import FILTER, RELOAD_SSH
from outpost.machines.hypervisor import DIRECTORY, UNITS

declared = json.loads(Path(host.data.declared).read_text(encoding="utf-8"))

if declared["files"]:
    missing = [name for name in declared["packages"] if name not in host.get_fact(DebPackages)]
    if missing:
        apt.update(name="package lists")
        apt.packages(name=f"packages: {', '.join(missing)}", packages=missing, no_recommends=True)
    changed = [
        # an alarm's path may hold a password
        files.put(
            name=path, src=StringIO(content), dest=path, mode="600" if path.endswith(".json") else "644"
        )
        for path, content in declared["files"].items()
    ]
    files.directory(name=DIRECTORY, path=DIRECTORY, user="root", group="root", mode="711")
    systemd.daemon_reload(name="units are read", _if=any_changed(*changed))
    systemd.service(name=f"{UNITS[0]} starts", service=UNITS[0], running=True, enabled=True)
    systemd.service(
        name=f"{FILTER} is loaded", service=FILTER, restarted=True, enabled=True, _if=any_changed(*changed)
    )
    server.shell(name="sshd reads its settings", commands=[RELOAD_SSH], _if=any_changed(*changed))
    systemd.service(name=f"{TIMER} starts", service=TIMER, running=True, enabled=True)
    carried_out = f"{UNITS[0]} is carried out"
    systemd.service(name=carried_out, service=UNITS[0], restarted=True, _if=any_changed(*changed))
for name, path in declared["seeds"].items():
    files.put(name=f"{name}: seed arrives", src=path, dest=f"{DIRECTORY}/{name}.iso", mode="600")
for step in declared["steps"]:
    given = {"_stdin": step["stdin"]} if step["stdin"] else {}
    server.shell(name=step["name"], commands=[step["command"]], **given)
if declared["files"]:
    systemd.service(name=f"{UNITS[1]} starts", service=UNITS[1], running=True, enabled=True)
