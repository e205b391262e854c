"""pyinfra's entry: what each host becomes. Run ``pyinfra inventory/lab/docker.py deploy.py``.

One line per role, in the order of trust. Hosts run side by side; nothing here waits for another host, or ends with it.
"""

from pyinfra.context import config, host

from outpost.keys.secrets_file import Secrets
from outpost.office import Host, Office
from roles import drift, failures, shapes
from roles.base import base
from roles.dns import dns
from roles.hardening import hardening, timers
from roles.mta import mta
from roles.observation import declaring
from roles.store import store
from roles.webmail import webmail

config.REQUIRE_PYINFRA_VERSION = ">=3.10,<3.11"

office: Office = host.data.office
secrets: Secrets = host.data.secrets
me: Host = office.host(host.data.machine)


@failures.contained()
def become() -> None:
    """What this host is."""
    drift.first()
    base(office=office, me=me, secrets=secrets)
    hardening(office=office, me=me)
    drift.contract(office=office, me=me)
    if me.role == "dns":
        dns(office=office, me=me, secrets=secrets)
    if me.role == "mta":
        mta(office=office, me=me, secrets=secrets)
    if me.role == "store":
        store(office=office, me=me, secrets=secrets)
    if me.role == "webmail":
        webmail(office=office, me=me, secrets=secrets)
    timers()
    shapes.retire_undeclared()
    drift.last()


with declaring():  # first what to look at, so that one look answers for all
    become()
become()
