"""The observer: the program that scans a host, and what it compares it with."""

from outpost.converge.declaration import Change, Declaration, Once
from outpost.converge.files import LIB, RUN, as_json, package, parses, text
from outpost.converge.shapes import settings
from outpost.office import Host, Office
from outpost.office.flows import listeners
from outpost.onhost import observe
from outpost.onhost.observe import OBSERVER
from outpost.onhost.observe.declared import CONTRACT

PYTHON = f"{LIB}/python"
START = f"""#!/usr/bin/python3 -IS
import gc
import os
import sys

gc.disable()
sys.pycache_prefix = "{RUN}/compiled"
sys.path.append("{PYTHON}")
from outpost.onhost.observe.main import main

main()
sys.stdout.flush()
os._exit(0)  # skips the teardown of the interpreter
"""
"""The observer imports modules from Python itself and from `PYTHON` only: neither site nor environment adds any. Its bytecode lasts until a boot."""


# SYS-08: without it what an intruder changes of programs, units, accounts and rules stays unseen.
def observer(*, office: Office, me: Host, others: Declaration) -> Change:
    """The observer, and the lists that it compares sockets and host name with.

    Args:
        others: Everything else that is declared for the host.
    """
    contract = {
        "hostname": me.fqdn,
        "kernel": office.platform_of(me) != "docker",
        "listeners": sorted([each.protocol, str(each.address), each.port] for each in listeners(office, me)),
        # what may become known without a person's decision (`outpost.onhost.observe.expected`)
        "packages": sorted(others.package_names),
        "units": sorted(others.units),
        "masks": sorted({unit for item in others.of(Once) for unit in item.masks}),
        "administrator": [office.ssh.user],
        "accounts": sorted(others.accounts),
        "directories": sorted(others.directories),
        "absent": sorted(others.absent),
        "accepted": sorted({*office.maintenance.accepted, *me.accepted}),
    }
    modules, start = package(PYTHON, observe), text(OBSERVER, START, mode="0755")
    return settings(
        name="observer",
        files=[*modules, start, as_json(CONTRACT, contract)],
        check=parses(start.path, *(file.path for file in modules)),
    )
