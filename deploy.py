"""pyinfra's entry: what each host becomes. Run ``pyinfra inventory/lab/docker.py deploy.py``.

`roles/NAME/declare.py` says it, as data; every host is first what all are. Hosts run side by side; nothing here waits for
another host, or ends with it.
"""

from pyinfra.context import config, host

from outpost.converge import failures, walk
from outpost.converge.declaration import declaration
from outpost.office import Host, Office

config.REQUIRE_PYINFRA_VERSION = ">=3.10,<3.11"

office: Office = host.data.office
me: Host = office.host(host.data.machine)

with failures.contained():
    walk.converge(declaration(office, host.data.secrets, me.name), local=me.local)
