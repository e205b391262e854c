"""pyinfra's entry: what each host becomes. Run ``pyinfra inventory/lab/docker.py deploy.py``.

Every host is first what all are, then its role (`roles/NAME/become.py`). Hosts run side by side; nothing here waits for
another host, or ends with it.
"""

from importlib import import_module

from pyinfra.context import config, host

from outpost.converge import drift, failures, shapes
from outpost.converge.observation import declaring
from outpost.keys.secrets_file import Secrets
from outpost.office import Host, Office
from roles.base.become import become as base
from roles.base.hardening import hardening, timers

config.REQUIRE_PYINFRA_VERSION = ">=3.10,<3.11"

office: Office = host.data.office
secrets: Secrets = host.data.secrets
me: Host = office.host(host.data.machine)
role = import_module(f"roles.{me.role}.become")


@failures.contained()
def become() -> None:
    """What this host is."""
    drift.first()
    base(office=office, me=me, secrets=secrets)
    hardening(office=office, me=me)
    drift.contract(office=office, me=me)
    role.become(office=office, me=me, secrets=secrets)
    timers()
    shapes.retire_undeclared()
    drift.last()


with declaring():  # first the questions, so that one scan answers them all
    become()
become()
