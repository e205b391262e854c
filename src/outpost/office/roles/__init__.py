"""The roles in the order of trust: names, the MTA, mailboxes, browsers.

- `role.py`: what a role is; `dns.py`, `mta.py`, `store.py`, `webmail.py`: one value each, and all that the product knows of it.
- What a host of the role becomes: `roles/ROLE.py` and `templates/ROLE/`; what its templates print: `outpost.office.ROLE`; its checks:
  `tests/live/test_ROLE.py`; who may connect to it: `outpost.office.flows`.

Pure: no I/O, no pyinfra.
"""

from outpost.office.roles.dns import DNS
from outpost.office.roles.mta import MTA
from outpost.office.roles.role import NewHost, Role, Shown
from outpost.office.roles.store import STORE
from outpost.office.roles.webmail import WEBMAIL
from outpost.office.size import EVERY_HOST, CgroupLimit, Size
from outpost.office.tables.topology import Host, RoleName

ROLES: dict[RoleName, Role] = {role.name: role for role in (DNS, MTA, STORE, WEBMAIL)}


def role_of(host: Host) -> Role:
    return ROLES[host.role]


def cgroup_limits(role: RoleName, size: Size) -> dict[str, CgroupLimit]:
    """Unit → limit, for the daemons of a host (control DOS-11)."""
    return EVERY_HOST | ROLES[role].limits(size)


__all__ = ["ROLES", "NewHost", "Role", "Shown", "cgroup_limits", "role_of"]
