"""Shell that repairs addresses, routes, interfaces, traffic control and tables of the packet filter."""

import json
import shlex

from outpost.drift.differences import Difference
from outpost.onhost.observe.network import XDP
from outpost.units import restarted


def unlearned(thing: str, value: str) -> str:
    """Shell that deletes a route which another machine gave the host, if the host has a default route of its own; else it would be cut off."""
    _, _, rest = thing.partition(" ")
    device, _, protocol = value.partition(" ")
    route = shlex.join([*rest.split(), "dev", device, "proto", protocol])
    own = "ip -6 route show default | grep -v ' proto ra ' | grep -q ."
    return f"! {own} || ip -6 route delete {route} || true"


# SYS-08: root on a host chooses names of interfaces, tables and routes, also in the known state; without it they run as commands of the apply
def words(text: str) -> str:
    """The same words for the shell, which reads nothing else in them."""
    return shlex.join(text.split())


def table_away(table: str) -> str:
    """Shell that deletes a table of the packet filter; its name may be any text (libnftables-json(5))."""
    family, _, name = table.partition(" ")
    document = json.dumps({"nftables": [{"delete": {"table": {"family": family, "name": name}}}]})
    return f"printf %s {shlex.quote(document)} | nft --json --file -"


def network_repair(it: Difference) -> str:
    """The ip(8) commands, one for each value that came or went."""
    name, new, old = it.quoted, it.new, it.old
    if it.kind == "link":
        if new and not old:  # removing one end of a pair removes the other
            return f"! ip link show dev {name} >/dev/null 2>&1 || ip link delete dev {name} || ip link set dev {name} down"
        bare = f"ip link set dev {name} xdp off && " if any(value.endswith(XDP) for value in new) else ""
        return f"{bare}ip link set dev {name} {words(' '.join(old[0].split()[:5]))}" if new else ""
    if it.kind == "namespace":
        return f"ip netns pids {name} | xargs --no-run-if-empty kill; ip netns delete {name}" if new else ""
    values = (*((value, True) for value in new), *((value, False) for value in old))
    return " && ".join(_network_change(it.kind, it.thing, value, came=came) for value, came in values)


def _network_change(kind: str, thing: str, value: str, *, came: bool) -> str:
    verb = "delete" if came else "add"
    family, _, rest = thing.partition(" ")
    device = f" dev {shlex.quote(value)}" if value else ""
    if kind == "address":
        return f"ip address {verb} {shlex.quote(thing)}{device}"
    if kind == "route":
        return f"ip {shlex.quote(f'-{family}')} route {verb} {words(rest)}{device}"
    if kind == "rule":
        priority, _, selector = rest.partition(" ")
        selector = words(selector.replace(" [detached]", ""))  # of an interface that is not there
        return f"ip {shlex.quote(f'-{family}')} rule {verb} {selector} priority {shlex.quote(priority)}"
    first, _, device = value.rpartition(" ")
    place = f"{shlex.quote(thing)} dev {shlex.quote(device)}"
    if first == "proxy":
        return f"ip neighbour {verb} proxy {place}"
    return f"ip neighbour {verb} {place}" + ("" if came else f" lladdr {shlex.quote(first)} nud permanent")


def moved_back(it: Difference) -> str:
    """Shell that puts an address or a route back on its interface; if names have changed, too, a person has to do it."""
    kind, _, thing = it.thing.partition(" ")
    old, new, *unsure = it.new[0].split(" ")
    if unsure:
        return ""
    return f"{_network_change(kind, thing, new, came=True)}; {_network_change(kind, thing, old, came=False)}"


def queue_away(it: Difference) -> str:
    """Shell that removes a queueing discipline; the office's own one is made again if there was one."""
    device, (kind, *_) = shlex.quote(it.thing), it.new[0].split(" ")
    place = kind if kind in ("ingress", "clsact") else "root"
    return f"tc qdisc delete dev {device} {place} || true; {restarted('outpost-shaping.service', only_running=True)} 2>/dev/null || true"
