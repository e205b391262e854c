"""The roles, for the office model: found by name in the package `roles`, and imported only on demand.

The model is below the roles, and imports none of them (docs/adr/0033).
"""

from functools import cache
from importlib import import_module

from outpost.office.model import Office
from outpost.office.role import Duty, Role
from outpost.office.size import EVERY_HOST, CgroupLimit, Size
from outpost.office.tables.topology import ROLE_NAMES, Host, RoleName


@cache
def every_role() -> dict[RoleName, Role]:
    """Name → role, in the order of trust."""
    found: list[Role] = [import_module(f"roles.{name}").ROLE for name in ROLE_NAMES]
    return {role.name: role for role in sorted(found, key=lambda role: role.trust)}


def role_of(host: Host) -> Role:
    return every_role()[host.role]


def serves(host: Host, duty: Duty) -> bool:
    return duty in role_of(host).duties


def serving(office: Office, duty: Duty) -> tuple[Host, ...]:
    """Hosts that have a duty, in the order of the file; the first one is the primary where that matters (DNS)."""
    return tuple(host for host in office.hosts if serves(host, duty))


def cgroup_limits(role: RoleName, size: Size) -> dict[str, CgroupLimit]:
    """Unit → limit, for the daemons of a host (control DOS-11)."""
    return EVERY_HOST | every_role()[role].limits(size)
