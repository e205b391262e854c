"""pyinfra's entry: what each host becomes. Run ``pyinfra inventory/lab/docker.py deploy.py``.

`roles/NAME/declare.py` declares it as data; every host gets the base role first. Hosts run side by side: none waits for
another, and the failure of one does not end the others.
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
