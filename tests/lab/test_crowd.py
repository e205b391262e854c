"""Port 25 under many sessions: the packet filter of the lab's MTA in separate network namespaces, with sockets of a whole IPv6 site."""

from __future__ import annotations

import json
import shlex

import pytest

from outpost_lab.instance import Instance
from tests.lab.test_reapply import on

SITE, OTHER = "2001:db8:48", "2001:db8:49"
NETWORKS = 120
SETUP = f"""
ip netns add crowd-in; ip netns add crowd-out
ip -n crowd-in link add crowd0 type veth peer name crowd1 netns crowd-out
ip -n crowd-in address add 2001:db8::25/32 dev crowd0 nodad; ip -n crowd-in link set crowd0 up
ip -n crowd-out address add {OTHER}::1/32 dev crowd1 nodad
for number in $(seq {NETWORKS}); do printf 'address add {SITE}:%x::1/32 dev crowd1 nodad\\n' "$number"; done | ip -n crowd-out -batch -
ip -n crowd-out link set crowd1 up
(echo 'table inet crowd {{'; sed -n '/set crowd4 /,/^    }}/p' /etc/nftables.conf
 echo 'chain inbound {{ type filter hook input priority filter; tcp dport 25 jump crowd; }}'; echo '}}') | sed "$edit" | ip netns exec crowd-in nft -f -
"""
TEARDOWN = "for name in in out; do ip netns delete crowd-$name 2>/dev/null || true; done"
LISTEN = """
import socket

listener = socket.create_server(("2001:db8::25", 25), family=socket.AF_INET6, backlog=500)
print("listens", flush=True)
held = []
while True:
    held.append(listener.accept())
"""
CONNECT = f"""
import json, socket

def taken(source):
    try:
        held.append(socket.create_connection(("2001:db8::25", 25), timeout=20, source_address=(source, 0)))
    except ConnectionRefusedError:
        return False
    return True

held = []
site = sum(taken(f"{SITE}:{{number:x}}::1") for number in range(1, {NETWORKS} + 1))
print(json.dumps([site, taken("{OTHER}::1")]))
"""


def sessions(lab: Instance, edit: str = "") -> tuple[int, bool]:
    """How many networks of a site get a session, and whether another client then gets one."""
    script = (
        f"{TEARDOWN}; edit={shlex.quote(edit)}; {SETUP}\n"
        f"mkfifo /run/crowd-ready; ip netns exec crowd-in python3 -Ic {shlex.quote(LISTEN)} > /run/crowd-ready & listener=$!\n"
        f"read -r word < /run/crowd-ready; ip netns exec crowd-out python3 -Ic {shlex.quote(CONNECT)}; kill $listener"
    )
    try:
        site, other = json.loads(on(lab, "mta", script))
    finally:
        on(lab, "mta", f"rm -f /run/crowd-ready; {TEARDOWN}")
    return site, other


@pytest.mark.control("DOS-01")
def test_a_site_with_a_48_takes_no_more_than_its_share_of_a_crowded_port(lab: Instance) -> None:
    site, other = sessions(lab)
    quarter = int(on(lab, "mta", "sed -n 's/^ *ct count \\([0-9]*\\) return$/\\1/p' /etc/nftables.conf"))
    assert quarter <= site <= quarter + 16 < NETWORKS
    assert other, "and others are served"


@pytest.mark.control("DOS-01")
def test_without_the_limit_for_a_48_one_site_takes_all_sessions(lab: Instance) -> None:
    """The positive control."""
    assert sessions(lab, "/@crowd48/d") == (NETWORKS, True)
