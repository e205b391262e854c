"""What an observation of a host means: cause, consequence and repair of each difference, without a host."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import itertools
import json
import os
import py_compile
import re
import shlex
import shutil
import socket
import sqlite3
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from outpost.converge import observation
from outpost.converge.files import File, package
from outpost.converge.reporting import file_finding
from outpost.drift import network_repairs, repairs
from outpost.drift.differences import Difference
from outpost.drift.findings import BLIND, ORDER, Beside, _as_findings, findings, folded
from outpost.drift.meanings import FAULTS, STATES
from outpost.drift.repairs import close, end_listening, reload_for, restart
from outpost.drift.several import SEVERAL
from outpost.onhost import observe
from outpost.onhost.observe import (
    daemons,
    everything,
    expected,
    files,
    kept_by_daemons,
    kernel,
    network,
    packages,
    permissions,
    places,
    processes,
    reading,
    units,
)
from outpost.onhost.observe.daemons import discreet
from outpost.onhost.observe.known import _certificates, newer
from outpost.onhost.observe.made import is_its_source
from outpost.onhost.observe.network import listeners, selected, waiting
from outpost.onhost.observe.processes import Processes
from outpost.onhost.observe.reading import BlindError
from outpost.onhost.observe.units import manager
from roles.base.observer import PYTHON, START

NOTHING: dict[str, object] = {"first": False, "unfinished": False, "news": False} | dict.fromkeys(
    ("appeared", "vanished", "learned", "found", "faults"), ()
)
"""What the observer prints about a host without drift."""


def seen(
    *,
    appeared: tuple[str, ...] = (),
    vanished: tuple[str, ...] = (),
    faults: tuple[str, ...] = (),
) -> Beside:
    """An observation as the host prints it."""
    return Beside.parse(json.dumps(NOTHING | {"appeared": appeared, "vanished": vanished, "faults": faults}))


def test_every_kind_has_its_place_in_the_order_of_repair_and_a_meaning() -> None:
    printed = [
        *dict.fromkeys(printed.of for printed in STATES),
        *SEVERAL,
        *(printed.of for printed in FAULTS),
    ]
    assert len(printed) == len(set(printed))
    assert sorted(printed) == sorted(ORDER)


def test_a_host_without_the_observer_has_nothing_beside_its_files() -> None:
    assert findings(Beside.parse("\n")) == ()
    assert not Beside.parse("").usable


@pytest.mark.parametrize(
    "output",
    [
        "x", "{}", "[]", "null", "1", "[" * 100_000,
        *(json.dumps(NOTHING | {"appeared": appeared}) for appeared in (1, [["x"]], ["file\t/etc/x\n[ns1] Error: executed\tx"])),
        *(json.dumps({key: value for key, value in NOTHING.items() if key != missing}) for missing in NOTHING),
    ],
)  # fmt: skip
def test_what_no_observer_says_is_a_host_without_one(output: str) -> None:
    """A fact with a line feed would begin a new line of the log, which could name another host."""
    assert Beside.parse(output) == Beside(blind=True)


def test_a_known_host_that_lost_its_observer_is_no_fresh_one() -> None:
    assert Beside.parse(f"{BLIND}\n") == Beside(blind=True)
    assert not Beside.parse("").blind


@pytest.mark.parametrize(
    "output", ["Traceback", "[]", '{"first": false}', '{"unfinished": false, "appeared": 1}']
)
def test_an_observer_that_answers_something_else_is_one_that_was_lost(output: str) -> None:
    assert Beside.parse(output) == Beside(blind=True)


@pytest.mark.parametrize(
    ("facts", "kind", "thing", "repair"),
    [
        (("file\t/etc/cron.d/evil\tabc",), "file", "/etc/cron.d/evil", "/var/lib/outpost/removed/etc/cron.d/evil"),
        (("unit\tevil.service\tenabled for multi-user.target",), "unit", "evil.service", "systemctl disable --now"),
        (("unit\tknot.service\tmasked",), "unit", "knot.service", "systemctl unmask"),
        (("package\ttelnetd\t",), "package", "telnetd", "apt-get"),
        (("account\tmallory\t1000:1000:/home/mallory:/bin/bash:password",), "account", "mallory", "usermod --lock"),
        (("account\ttoor\t0:0:/root:/bin/bash:locked",), "account", "toor", "sed -i -E '/^toor:/d'"),
        (("member\tsudo\tnobody",), "group", "sudo: nobody", "gpasswd --delete"),
        (("table\tinet evil\t",), "packet filter", "table inet evil", '{"delete": {"table": {"family": "inet", "name": "evil"}}}]}\' | nft --json --file -'),
        (("hold\tknot\tdeinstall",), "package", "knot", "echo knot install | dpkg --set-selections"),
        (("special\t/usr/bin/at\t700 root root",), "file", "/usr/bin/at", "was=; package="),
        (("special\t/usr/bin/at\t644 root root",), "file", "/usr/bin/at", "was=; package="),
        (("hold\tknot\t",), "package", "knot", "echo knot install | dpkg --set-selections"),
        (("diversion\t/usr/bin/at\tto /usr/bin/at.distrib, for :",), "package", "/usr/bin/at", "dpkg-divert --quiet --rename --remove"),
        (("override\t/usr/bin/at\troot root 4755",), "package", "/usr/bin/at", "dpkg-statoverride --quiet --remove"),
        (("program\t/usr/bin/at\tchanged",), "file", "/usr/bin/at", "dpkg-deb --fsys-tarfile"),
        (("special\t/usr/bin/at\t4755 root root",), "file", "/usr/bin/at", "chmod 755 /usr/bin/at"),
        (("capability\t/usr/bin/at\t01000002",), "file", "/usr/bin/at", "removexattr"),
        (("manager\tLD_PRELOAD\t/tmp/x.so",), "environment of daemons", "LD_PRELOAD", "unset-environment LD_PRELOAD"),
        (("link\tevil0\tup dummy",), "network link", "evil0", "ip link delete dev evil0"),
        (("address\t192.0.2.66/24\teth0",), "network address", "192.0.2.66/24", "ip address delete 192.0.2.66/24 dev eth0"),
        (("route\t4 unicast 192.0.2.0/24 via 10.0.0.1\teth0",), "network route", "4 unicast 192.0.2.0/24 via 10.0.0.1",
         "ip -4 route delete unicast 192.0.2.0/24 via 10.0.0.1 dev eth0"),
        (("rule\t6 100 from all lookup 7\t",), "network rule", "6 100 from all lookup 7", "ip -6 rule delete from all lookup 7 priority 100"),
        (("neighbour\t10.0.0.1\t02:00:00:00:00:01 eth0",), "network neighbour", "10.0.0.1", "ip neighbour delete 10.0.0.1 dev eth0"),
        (("neighbour\t10.0.0.9\tproxy eth0",), "network neighbour", "10.0.0.9", "ip neighbour delete proxy 10.0.0.9 dev eth0"),
        (("policy\tsrc 0.0.0.0/0 dst 10.0.0.0/8 dir out\taction block",), "network policy", "src 0.0.0.0/0 dst 10.0.0.0/8 dir out",
         "ip xfrm policy delete src 0.0.0.0/0 dst 10.0.0.0/8 dir out"),
        (("policy\tdefault fwd\tblock",), "network policy", "default fwd", "ip xfrm policy setdefault fwd accept"),
        (("neighbour\t10.0.0.1\t02:00:00:00:00:01 eth0", "neighbour\t10.0.0.1\t02:00:00:00:00:02 eth1", "neighbour\t10.0.0.1\tproxy eth1"), "network neighbour", "10.0.0.1",
         "ip neighbour delete 10.0.0.1 dev eth0 && ip neighbour delete 10.0.0.1 dev eth1 && ip neighbour delete proxy 10.0.0.1 dev eth1"),
        (("address\t192.0.2.66/24\teth0", "address\t192.0.2.66/24\teth1"), "network address", "192.0.2.66/24",
         "ip address delete 192.0.2.66/24 dev eth0 && ip address delete 192.0.2.66/24 dev eth1"),
        (("file\t/srv/x\tdevice",), "file", "/srv/x", "rm -f /srv/x"),
        (("alias\t/usr/bin/at\tlink to /opt/at",), "file", "/usr/bin/at", "dpkg-deb --fsys-tarfile"),
        (("namespace\tevil\t",), "network namespace", "evil", "ip netns delete evil"),
        (("unit\tevil.service\tlink to /opt/evil.service",), "unit", "evil.service", "rm -f /etc/systemd/system/evil.service"),
        (("keeper\tsudo\tnobody",), "group", "sudo", "gpasswd --administrators '' sudo"),
        (("loopback\t127.0.0.1:99\tnc",), "listener", "127.0.0.1:99", "src 127.0.0.1:99 | grep -o 'pid=[0-9]*'"),
        (("loopback\t127.0.0.1:99\tevil.service",), "listener", "127.0.0.1:99", "systemctl stop evil.service"),
        (("special\t/etc/services\t600 root root",), "file", "/etc/services", "chmod 644 /etc/services"),
        (("special\t/etc/services\t644 nobody root",), "file", "/etc/services", "chown root:root /etc/services && chmod 644"),
        (("special\t/usr/bin/at\t700 root root",), "file", "/usr/bin/at", "dpkg-deb --fsys-tarfile"),
        (("queue\teth0\tnetem root",), "traffic control", "eth0", "tc qdisc delete dev eth0 root"),
        (("queue\teth0\tclsact",), "traffic control", "eth0", "tc qdisc delete dev eth0 clsact"),
        (("trigger\t/var/lib/x/y.db\ttrigger 0abc evil",), "database", "/var/lib/x/y.db", "stat --format='%u %g' / /var /var/lib /var/lib/x /var/lib/x/y.db;"),
        (("file\t/var/spool/postfix/etc/evil\tabc",), "file", "/var/spool/postfix/etc/evil", "/var/lib/outpost/removed/var/spool/postfix/etc/evil"),
    ],
)  # fmt: skip
def test_what_appears_by_hand_is_named_and_removed(
    facts: tuple[str, ...], kind: str, thing: str, repair: str
) -> None:
    (finding,) = findings(seen(appeared=facts))
    assert (finding.kind, finding.thing) == (kind, thing)
    assert finding.cause
    assert finding.consequence
    assert repair in finding.repair


@pytest.mark.parametrize(
    ("fault", "kind", "repair"),
    [
        ("linked\t/etc/hosts\t", "file", "observe release /etc/hosts"),
        ("library\t/opt/evil/libz.so.1\t", "file", "ldconfig"),
        ("function\tredis-server.service\tevil", "database", "function flush"),
        ("halted\tknot.service\tknotd 7", "unit", "kill -CONT 7"),
        ("traced\tdovecot.service\tauth 77", "unit", "kill -KILL 77"),
        ("unconfined\tunbound.service\tunconfined", "unit", "systemctl reload apparmor.service"),
        ("foreign\t/opt/x y\tx y 7 ", "program", "kill -KILL 7"),
        ("foreign\t/memfd:x (deleted)\tx 7 nginx.service", "program", "systemctl try-restart nginx.service"),
        ("background\t/usr/bin/dash\tdash 7 php8.4-fpm.service", "program", "kill -KILL 7"),
        ("sniffer\tpython3.13\tpython3.13 7 session-2.scope", "socket", "kill -KILL 7"),
        (
            "within\t/etc/nginx/nginx.conf\tnginx 7 nginx.service",
            "mount",
            "systemctl try-restart nginx.service",
        ),
        ("index\t/usr/lib/modules/6.12.9-x\t", "kernel modules", "depmod 6.12.9-x"),
        ("hushed\tssh.service\t/sys/fs/cgroup/system.slice/ssh.service", "unit", "os.removexattr"),
        ("scheduled\tshutdown\tpoweroff", "host", "shutdown -c"),
        (
            "deleted\t/var/log/x\tnginx.service",
            "file",
            "reset-failed nginx.service 2>/dev/null || true; systemctl try-restart nginx.service",
        ),
    ],
)
def test_what_is_wrong_in_any_case_is_named_and_repaired(fault: str, kind: str, repair: str) -> None:
    (finding,) = findings(seen(faults=(fault,)))
    assert (finding.kind, finding.thing) == (kind, fault.split("\t")[1])
    assert finding.consequence
    assert repair in finding.repair


@pytest.mark.skipif(
    not shutil.which("dpkg"), reason="dpkg itself compares versions, and is not on this machine"
)
def test_an_upgrade_is_no_drift_and_an_older_version_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "lines_of", lambda _: [])
    before = {"version\tknot\t3.4.6-1", "version\tgone\t1.0"}
    assert newer({"version\tknot\t3.4.6-1+deb13u1"}, before - {"version\tgone\t1.0"})
    assert newer({"version\tknot\t3.4.5-1"}, before - {"version\tgone\t1.0"}) == set()
    assert newer(before | {"version\tnew\t1.0"}, before) == {"version\tnew\t1.0"}


@pytest.mark.skipif(
    not shutil.which("dpkg"), reason="dpkg itself compares versions, and is not on this machine"
)
def test_a_version_that_no_source_has_is_no_upgrade(monkeypatch: pytest.MonkeyPatch) -> None:
    """SYS-06: root marks a package of his own as automatic, or makes a higher version of one."""
    before = {"version\tknot\t3.4.6-1"}
    offered = ["      dpkg | 1.22.21 | http://deb.debian.org/debian trixie/main amd64 Packages"]
    monkeypatch.setattr(packages, "lines_of", lambda _: offered)
    assert newer({"version\tknot\t99:1"}, before) == set()
    assert newer(before | {"version\tevil\t1"}, before) == set()
    offered += ["      knot | 99:1 | http://deb.debian.org/debian trixie/main amd64 Packages"]
    assert newer({"version\tknot\t99:1"}, before) == {"version\tknot\t99:1", *before}
    upgraded = {"version\tknot\t3.4.7-1"}  # yesterday, and since then apt's lists name a later one only
    assert newer(upgraded, before) == upgraded | before
    offered[1] = offered[1].replace("99:1", "3.4.6-1")
    assert newer(upgraded, before) == set()
    (finding,) = findings(seen(appeared=("version\tevil\t1",)))
    assert "--auto-remove remove evil" in finding.repair


def test_what_is_the_hosts_own_is_no_stranger() -> None:
    assert findings(seen(appeared=("local\t/etc/nginx/conf.d/own.conf\tabc",))) == ()


def test_interfaces_that_a_boot_named_otherwise_are_no_drift() -> None:
    seen_otherwise = seen(appeared=("address\t10.0.0.1/24\teth1",), vanished=("address\t10.0.0.1/24\teth0",))
    assert findings(seen_otherwise) == ()


ON = {
    "address\t10.0.1.4/24": "eth0",
    "address\tfd00:1::4/64": "eth0",
    "address\t10.0.2.4/24": "eth1",
    "address\tfd00:2::4/64": "eth1",
    "route\t4 unicast default via 10.0.1.1": "eth0",
}
SWAPPED = {"eth0": "eth1", "eth1": "eth0"}
BEFORE = {f"{key}\t{device}" for key, device in ON.items()}
AFTER = {f"{key}\t{SWAPPED[device]}" for key, device in ON.items()}


@pytest.mark.parametrize(
    ("now", "thing", "repair"),
    [
        (AFTER, None, None),
        ({fact.replace("eth1", "ens3") for fact in BEFORE}, None, None),
        ({*BEFORE, "address\t10.0.2.4/24\teth0"}, None, None),  # mounted a second time: a separate finding
        (
            BEFORE - {"address\t10.0.1.4/24\teth0"} | {"address\t10.0.1.4/24\teth1"},
            "address 10.0.1.4/24",
            "ip address delete 10.0.1.4/24 dev eth1; ip address add 10.0.1.4/24 dev eth0",
        ),
        (
            BEFORE - {"route\t4 unicast default via 10.0.1.1\teth0"}
            | {"route\t4 unicast default via 10.0.1.1\teth1"},
            "route 4 unicast default via 10.0.1.1",
            "ip -4 route delete unicast default via 10.0.1.1 dev eth1; ip -4 route add unicast default via 10.0.1.1 dev eth0",
        ),
    ],
    ids=["names swapped by a boot", "another name since a boot", "there twice", "an address", "a route"],
)
@pytest.mark.control("NET-02")
def test_what_is_moved_to_the_interface_of_another_zone_is_named_and_goes_back(
    now: set[str], thing: str | None, repair: str | None
) -> None:
    found = findings(seen(faults=tuple(network.moved(BEFORE, now))))
    assert [(finding.thing, finding.repair) for finding in found] == ([(thing, repair)] if thing else [])


@pytest.mark.control("NET-02")
def test_what_is_moved_while_interfaces_get_other_names_is_a_persons_to_put_back() -> None:
    now = AFTER - {"address\t10.0.1.4/24\teth1"} | {"address\t10.0.1.4/24\teth0"}
    found = findings(seen(faults=tuple(network.moved(BEFORE, now))))
    assert found
    assert {finding.repair for finding in found} == {""}


@pytest.mark.parametrize(
    ("new", "old", "repair"),
    [
        ("file\t/etc/localtime\tlink to /usr/share/zoneinfo/Asia/Tokyo", "file\t/etc/localtime\tlink to /usr/share/zoneinfo/Etc/UTC",
         "ln -sfnT /usr/share/zoneinfo/Etc/UTC /etc/localtime"),
        ("file\t/var/spool/postfix/etc/hosts\tabc", "file\t/var/spool/postfix/etc/hosts\tdef", "cp --archive --dereference --remove-destination -T /etc/hosts /var/spool/postfix/etc/hosts.outpost-new"),
        ("mode\t/etc/gshadow\t755 root root", "mode\t/etc/gshadow\t640 root shadow", "cp --archive /etc/gshadow- /etc/gshadow"),
        ("mode\t/etc/shadow\t120777 root root", "mode\t/etc/shadow\t640 root shadow", "mv -T --backup=numbered /etc/shadow /var/lib/outpost/removed/etc/shadow"),
        ("file\t/etc/alternatives/pager\tlink to /tmp/x", "file\t/etc/alternatives/pager\tlink to /bin/less", "update-alternatives --auto pager"),
        ("setting\tnet.ipv4.tcp_sack\t0", "setting\tnet.ipv4.tcp_sack\t1", "sysctl --quiet --write net.ipv4.tcp_sack=1"),
        (
            "link\teth0\tdown mtu 1300 promisc on veth",
            "link\teth0\tup mtu 1500 promisc off veth",
            "ip link set dev eth0 up mtu 1500 promisc off",
        ),
        ("", "address\t10.0.0.1/24\teth0", "ip address add 10.0.0.1/24 dev eth0"),
        ("", "capability\t/usr/bin/ping\t01000002", "os.setxattr"),
        ("special\t/etc/x\t666 root root", "special\t/etc/x\t4755 root root", "chmod -h 4755 /etc/x"),
        ("shadow\troot\tabc", "shadow\troot\tdef", "/var/lib/outpost/known-files/etc/shadow"),
        ("group\tgames\t0", "group\tgames\t60", r"s/^(games:[^:]*):[0-9]+:/\1:60:/"),
        ("version\tknot\t3.4.5", "version\tknot\t3.4.6", "--allow-downgrades install knot=\"$version\""),
        ("", "version\tlibfstrm0\t0.6.1", "--fix-broken install"),
        ("alias\t/usr/bin/sh\tlink to bash", "alias\t/usr/bin/sh\tlink to dash", "ln -sfnT dash /usr/bin/sh"),
        ("unit\tredis.service\tmasked", "unit\tredis.service\tlink to /usr/lib/x.service", "ln -sfnT /usr/lib/x.service /etc/systemd/system/redis.service"),
        ("mount\t/tmp\trw,nosuid", "mount\t/tmp\trw,nosuid,nodev,noexec", "mount -o remount,bind,rw,nosuid,nodev,noexec /tmp"),
    ],
)  # fmt: skip
def test_what_was_changed_by_hand_goes_back_to_what_it_was(new: str, old: str, repair: str) -> None:
    (finding,) = findings(seen(appeared=(new,) if new else (), vanished=(old,)))
    assert repair in finding.repair
    assert finding.consequence


@pytest.mark.parametrize("fault", ["locked\t/etc/hosts\timmutable", "acl\t/etc/hosts\t"])
def test_what_keeps_a_file_from_being_replaced_goes_first(fault: str) -> None:
    stray = "file\t/etc/cron.d/evil\tabc"
    first, _ = findings(seen(appeared=(stray,), faults=(fault,)))
    assert "observe release /etc/hosts" in first.repair


HOSTILE = ("x;HARM;$(HARM)`HARM`", "x';HARM;'", 'x";HARM;"')
THINGS = (
    "/etc/x", "/etc/systemd/system/x.service", "/etc/alternatives/x", "x", "x.service", "inet x", "default fwd", "zone x", "4 unicast 192.0.2.0/24",
    "4 100 from all iif x lookup 7", "route 4 unicast 192.0.2.0/24", "file x@1",
)  # fmt: skip
VALUES = (
    "", "missing", "masked", "60", "01000002", "eth0", "eth0 eth1", "rw,nosuid", "link to /x", "644 root root", "4755 root root", "0:0:/x:/bin/sh:locked",
    "100:100:/x:/bin/sh:password", "up mtu 1500 promisc off veth", "x 77 x.service", "x 77 session-3.scope", "proxy eth0", "02:00:00:00:00:01 eth0", "eth0 proto ra",
    "k retire 99999", "trigger 0abc x", packages.REMOVED,
)  # fmt: skip


def bare(command: str) -> bool:
    """Whether the word HARM is anywhere in it outside single quotes, where the shell would interpret it."""
    within, position = ["("], 0
    while found := re.compile(r"\\.|['\"()]|\$\(|HARM").search(command, position):
        position, text = found.end(), found[0]
        if text == "HARM":
            return True
        if text == '"':
            within.append(text) if within[-1] == "(" else within.pop()
        elif text == "$(" or (text == "(" and within[-1] == "("):
            within.append("(")
        elif within[-1] == "(" and text == "'":
            position = command.index("'", position) + 1
        elif within[-1] == "(" and text == ")":
            within.pop()
    return False


def forms(kind: str) -> Iterator[Difference]:
    """Differences of one kind, with a hostile word in its thing or in a value."""
    for thing, value in itertools.product(THINGS, VALUES):
        for each, separator in ((thing, " "), (value, " "), (value, ":")):
            parts = each.split(separator)
            for place, hostile in itertools.product(range(len(parts)), HOSTILE):
                changed = separator.join((*parts[:place], hostile, *parts[place + 1 :]))
                if each is thing:
                    yield Difference(kind, changed, (value,))
                    yield Difference(kind, changed, (), (value,))
                    yield Difference(kind, changed, (VALUES[0],), (value,))
                else:
                    yield Difference(kind, thing, (changed,))
                    yield Difference(kind, thing, (), (changed,))
                    yield Difference(kind, thing, (value,), (changed,))


@pytest.mark.control("SYS-08")
@pytest.mark.parametrize("kind", ORDER)
def test_no_repair_runs_what_an_intruder_wrote(kind: str) -> None:
    """The shell is not started: a test that failed would repair this machine."""
    assert bare("echo '$(x)' \"$(dirname 'x' HARM)\"")
    assert not bare("echo \"$(dirname 'HARM')\" 'x'\"'\"'HARM'")
    made, among = set(), FAULTS if any(each.of == kind for each in FAULTS) else STATES
    for it in forms(kind):
        with contextlib.suppress(ValueError, IndexError):  # no host's answer has that form
            made |= {finding.repair for finding in _as_findings(it, among)}
    assert made
    assert [repair for repair in sorted(made) if bare(repair)] == []


@pytest.mark.control("SYS-08")
@pytest.mark.parametrize("hostile", ["x/e touch HARM;s/", "x|e touch HARM;s|", "/e touch HARM #"])
def test_no_name_is_a_command_of_sed(tmp_path: Path, hostile: str) -> None:
    old, new = f"0:{hostile}:{hostile}:{hostile}:password", "0:0:/:/bin/sh:password"
    repaired = [
        *(Difference("group", name, ("0",), (gid,)) for name, gid in (("x", hostile), (hostile, "60"))),
        Difference("account", hostile, ("0:0:/root:/bin/sh:password",)),
        *(Difference("account", name, (new,), (old,)) for name in ("x", hostile)),
    ]
    for it in repaired:
        (tmp_path / "file").write_text(f"x:x:0:0::/:/bin/sh\n{hostile}:x:0:0::/:/bin/sh\n")
        (finding,) = _as_findings(it, STATES)
        assert finding.repair.startswith("sed -i -E ")
        script = shlex.split(finding.repair)[3]
        subprocess.run(["sed", "-i", "-E", script, "file"], cwd=tmp_path, check=True)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]
        assert (tmp_path / "file").read_text() != f"x:x:0:0::/:/bin/sh\n{hostile}:x:0:0::/:/bin/sh\n"


def test_a_rule_of_a_missing_interface_is_one_that_ip_takes() -> None:
    (finding,) = findings(seen(appeared=("rule\t4 100 from all iif x [detached] lookup 7\t",)))
    assert finding.repair == "ip -4 rule delete from all iif x lookup 7 priority 100"


def test_no_repair_deletes_data() -> None:
    facts = (
        "file\t/srv/notes\tabc",
        "account\tmallory\t1000:1000:/home/mallory:/bin/bash:password",
        "package\ttelnetd\t",
    )
    for finding in findings(seen(appeared=facts)):
        assert "rm -r" not in finding.repair
        assert "userdel" not in finding.repair
        assert "purge" not in finding.repair


def test_a_link_in_a_files_place_is_called_one() -> None:
    old, new = "mode\t/etc/shadow\t640 root shadow", "mode\t/etc/shadow\t{} root root"
    linked, opened = (
        findings(seen(appeared=(new.format(mode),), vanished=(old,))) for mode in ("120777", "666")
    )
    assert [finding.cause for finding in (*linked, *opened)] == [
        "a symbolic link has taken its place",
        "permissions or owner changed by hand",
    ]


def test_a_copied_directory_is_one_finding_that_names_every_file() -> None:
    copied = tuple(f"file\t/etc/postfix.old/{number}\tabc" for number in range(22))
    several = folded(findings(seen(appeared=(*copied, "file\t/etc/cron.d/evil\tabc"))))
    one, other = sorted(several, key=lambda finding: finding.thing, reverse=True)
    assert (one.thing, one.cause[:9], len(one.diff), len(one.facts)) == (
        "/etc/postfix.old/",
        "22 files:",
        22,
        22,
    )
    assert one.repair.count("mv -f") == 22
    assert other.thing == "/etc/cron.d/evil"
    few = findings(seen(appeared=copied[:3]))
    assert tuple(folded(few)) == few


def test_a_removed_directory_of_a_package_is_one_finding_and_its_package_is_fetched_once() -> None:
    gone = tuple(f"program\t/usr/share/evil/{name}\tmissing" for name in ("", *map(str, range(300))))
    other = "program\t/usr/bin/cat\tmissing"
    single, one = sorted(folded(findings(seen(appeared=(*gone, other)))), key=lambda finding: finding.thing)
    assert single.thing == "/usr/bin/cat"
    assert (one.thing, one.cause, len(one.facts)) == (
        "/usr/share/evil/",
        "301 files: a package's program, removed by hand",
        301,
    )
    assert set(one.diff) >= {"-/usr/share/evil/0", "-/usr/share/evil/299"}
    assert one.repair.count("apt-get") == 1


def test_a_locked_account_is_no_way_in() -> None:
    assert (
        findings(seen(appeared=("account\tmallory\t1000:1000:/home/mallory:/usr/sbin/nologin:locked",))) == ()
    )


def test_a_password_that_was_locked_stays_locked() -> None:
    new = ("account\tadmin\t1000:1000:/home/admin:/bin/bash:locked", "shadow\tadmin\tabc locked")
    old = ("account\tadmin\t1000:1000:/home/admin:/bin/bash:password", "shadow\tadmin\tdef")
    assert findings(seen(appeared=new, vanished=old)) == ()
    assert [finding.kind for finding in findings(seen(appeared=old, vanished=new))] == ["account", "account"]


def test_a_declared_package_is_no_stranger() -> None:
    assert findings(seen(appeared=("package\tknot\t",)), packages=frozenset({"knot"})) == ()


def test_rules_of_the_filter_are_one_finding_with_every_rule_in_its_diff() -> None:
    (finding,) = findings(
        seen(faults=("filter\tmissing\ttcp dport 25 accept", "filter\tadded\ttcp dport 9 accept"))
    )
    assert finding.diff == ("+tcp dport 9 accept", "-tcp dport 25 accept")


def test_a_listener_of_a_declared_daemon_restarts_it_and_another_unit_is_stopped() -> None:
    line = "listener\ttcp 0.0.0.0 4444\tnc 77 {}"
    declared = frozenset({"postfix.service"})
    (own,) = findings(seen(faults=(line.format("postfix.service"),)), units=declared)
    (other,) = findings(seen(faults=(line.format("backdoor.service"),)), units=declared)
    (bare,) = findings(seen(faults=(line.format("session-3.scope"),)), units=declared)
    assert own.repair.endswith("; systemctl restart postfix.service")
    assert "systemctl disable --now --quiet backdoor.service" in other.repair
    assert bare.repair.startswith("kill 77")


@pytest.mark.parametrize(
    ("shell", "unit"),
    [
        (reload_for("/etc/systemd/journald.conf.d/by-hand.conf"), "systemd-journald.service"),
        (reload_for("/run/systemd/system/knot.service.d/by-hand.conf"), "knot.service"),
        (restart("knot.service"), "knot.service"),
        (close("77", "knot.service", frozenset({"knot.service"})), "knot.service"),
        (end_listening("127.0.0.1:99", "knot.service"), "knot.service"),
    ],
)
def test_a_repair_restarts_what_was_restarted_often_a_moment_ago(shell: str, unit: str) -> None:
    """Several repairs of one daemon in one apply would be the sixth start within ten seconds, and leave it down."""
    assert re.search(rf"systemctl reset-failed {unit} .*; systemctl (try-)?restart {unit}", shell)


@pytest.mark.parametrize(
    "line", ["requirepass hunter2", "password = hunter2", "secret: hunter2", "api_key=hunter2"]
)
def test_a_secret_in_a_daemons_answer_leaves_the_host_as_a_digest(line: str) -> None:
    assert "hunter2" not in discreet(line)
    assert discreet(line) != discreet(line.replace("hunter2", "hunter3"))


def test_the_observer_needs_nothing_but_pythons_own_library() -> None:
    files = package("", observe)
    own = {
        file.path.strip("/").removesuffix(".py").removesuffix("/__init__").replace("/", ".") for file in files
    }
    imported: set[str] = set()
    for node in (node for file in files for node in ast.walk(ast.parse(file.content))):
        if isinstance(node, ast.Import):
            imported.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            imported.add(str(node.module))
    assert imported - own <= sys.stdlib_module_names


def test_the_observer_starts_where_nothing_but_its_own_files_is(tmp_path: Path) -> None:
    for file in package(str(tmp_path / "python"), observe):
        path = Path(file.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.content)
    start = tmp_path / "observe"
    start.write_text(START.replace(PYTHON, str(tmp_path / "python")))
    subprocess.run([sys.executable, "-BIS", start, "release"], check=True, cwd="/", env={})
    assert list(tmp_path.rglob("*.pyc")) == []


def test_an_observer_with_another_module_is_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next apply accepts what the observer sees for the first time."""
    for name in ("observe", "everything.py", "places.py"):
        (tmp_path / name).write_text("")
    monkeypatch.setattr(everything, "__file__", str(tmp_path / "everything.py"))
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "observe"), "look"])
    digests = {everything.own_digest()}
    for name in ("observe", "everything.py", "places.py", "new.py"):
        (tmp_path / name).write_text(name)
        digests.add(everything.own_digest())
    assert len(digests) == 5


def test_a_dhcp_client_is_no_listener_and_another_program_at_its_port_is() -> None:
    """Closing it stops systemd-networkd, and the host loses its address."""
    sockets = [
        ("udp", "192.0.2.7", 68, "systemd-networkd", "999999"),
        ("udp", "192.0.2.7", 68, "evil", "999998"),
    ]
    assert listeners({}, sockets) == ["listener\tudp 192.0.2.7 68\tevil 999998 "]


LISTED = """\
udp UNCONN 0      0         127.0.0.1:323  0.0.0.0:* ino:11 sk:1 cgroup:/system.slice/chrony.service <->
tcp LISTEN 0      128    192.0.2.7%lo:22   0.0.0.0:* ino:12 sk:2 cgroup:/x tcp 9 ino:15  <->
tcp LISTEN 0      5           [::1]:9003      [::]:* uid:103 ino:13 sk:3 cgroup:/y v6only:1 <->
tcp LISTEN 0      5               *:9001         *:* ino:14 sk:4 cgroup:/z v6only:0 <->
tcp LISTEN 0      5      127.0.0.11:41555  0.0.0.0:* ino:19 sk:5 cgroup:unreachable:1 <->"""


def test_who_waits_for_others_is_known_with_program_and_process() -> None:
    """Docker's resolver (the last line) is not a process of the host."""
    holders = {str(number): ("a", str(number)) for number in range(11, 16)}
    assert waiting({"sockets": LISTED.splitlines()}, holders) == [
        ("tcp", "192.0.2.7", 22, "a", "12"),
        ("tcp", "::", 9001, "a", "14"),
        ("tcp", "::1", 9003, "a", "13"),
        ("udp", "127.0.0.1", 323, "a", "11"),
    ]
    with pytest.raises(BlindError):
        waiting({"sockets": []}, holders)


def test_a_variable_of_systemds_is_known_without_its_quotation_marks() -> None:
    shown = ["LANG=C.UTF-8", "PATH=/usr/bin", r"EVIL=$'a b\'c\\d'"]
    assert manager(shown) == ["manager\tPATH\t/usr/bin", "manager\tEVIL\ta b'c\\d"]


def test_the_holder_of_a_socket_is_known_by_its_inode() -> None:
    with socket.create_server(("127.0.0.1", 0)) as opened:
        inode = os.fstat(opened.fileno()).st_ino
        name, pid = Processes().holders[str(inode)]
        assert (name, pid) == (processes.name_of(str(Path("/proc/self/exe").readlink())), str(os.getpid()))


def test_a_daemon_that_stands_still_and_a_log_that_nobody_sees_are_faults(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    status = "Name:\tx\nState:\t{} (x)\nTgid:\t1\nPPid:\t1\nTracerPid:\t{}\n"
    states = {"5": ("S", 0), "6": ("t", 77), "7": ("T", 0), "8": ("S", 0)}
    programs = {"5": "/opt/v/agent", "6": "/usr/bin/auth", "7": "/usr/bin/daemon", "8": "/memfd:x (deleted)"}
    units_of = {"5": "d", "6": "c", "7": "a", "8": "b"}
    shown = {f"/proc/{pid}/status": status.format(*state) for pid, state in states.items()}
    shown |= {f"/proc/{pid}/cgroup": f"0::/system.slice/{unit}.service" for pid, unit in units_of.items()}
    mapped = "7f00-7f10 r-xp 00000000 00:2f 123       {}\n7f10-7f20 r--p 00000000 00:2f 124       /tmp/data\n"
    loaded = {"7": "/tmp/preloaded.so"}
    shown |= {
        f"/proc/{pid}/maps": mapped.format(loaded.get(pid, "/usr/lib/libc.so.6 (deleted)")) for pid in states
    }
    listed = {
        "/proc": ["6", "7", "8", "9", "5", "self"],
        "/proc/5/fd": [],
        "/proc/6/fd": [],
        "/proc/7/fd": [],
        "/proc/8/fd": ["3", "4"],
    }
    links = {"/proc/8/fd/3": "socket:[55]", "/proc/8/fd/4": "/var/log/journal/x\ny (deleted)"}
    links |= {f"/proc/{pid}/exe": program for pid, program in programs.items()}
    links |= {f"/proc/{pid}/root": "/" for pid in states} | {
        f"/proc/{pid}/ns/mnt": "mnt:[1]" for pid in states
    }

    def led(path: str) -> str:
        if path not in links:
            raise FileNotFoundError(path)  # a process of the kernel
        return links[path]

    def printed(path: str) -> str:
        if path not in shown:
            raise FileNotFoundError(path)
        return shown[path]

    monkeypatch.setattr(processes, "content", printed)
    monkeypatch.setattr(
        processes, "os", SimpleNamespace(listdir=listed.__getitem__, readlink=led, path=os.path)
    )
    monkeypatch.setattr(processes, "shipped", {"/opt/v/agent"}.intersection)
    seen_now = Processes()
    assert seen_now.faults == [
        "traced\tc.service\tauth 77",
        "halted\ta.service\tdaemon 7",
        "deleted\t/var/log/journal/x\\x0ay\tb.service",
        "foreign\t/tmp/preloaded.so\tdaemon 7 a.service",
        "foreign\t/memfd:x (deleted)\tmemfd:x (deleted) 8 b.service",
    ]
    assert seen_now.holders == {"55": ("/memfd:x (deleted)", "8")}
    assert seen_now.views == {"mnt:[1]": ("auth", "6")}


def test_a_service_whose_profile_is_not_enforced_is_reported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "disable").mkdir()
    for name in ("usr.sbin.unbound", "usr.sbin.chronyd", "usr.bin.man", "disable/usr.bin.man"):
        (tmp_path / name).touch()
    attributes = {"5": "unconfined", "6": "/usr/sbin/chronyd (enforce)", "7": "unconfined", "8": "unconfined"}
    programs = {
        "5": "/usr/sbin/unbound",
        "6": "/usr/sbin/chronyd",
        "7": "/usr/bin/man",
        "8": "/usr/sbin/knotd",
    }
    monkeypatch.setattr(processes, "PROFILES", str(tmp_path))
    monkeypatch.setattr(processes, "unit_of", lambda pid: f"{pid}.service")
    monkeypatch.setattr(processes, "content", lambda path: f"{attributes[path.split('/')[2]]}\n")
    monkeypatch.setattr("outpost.onhost.observe.processes.os.path.isdir", lambda _: True)
    assert processes.unconfined({"kernel": True}, programs) == ["unconfined\t5.service\tunconfined"]
    assert processes.unconfined({"kernel": False}, programs) == []


def test_what_is_left_below_systemd_and_is_no_daemon_is_in_the_background(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    adopted = {
        "one.service": [("/usr/sbin/one", "5")],
        "two.service": [("/usr/sbin/two", "6"), ("/usr/bin/dash", "7"), ("/usr/bin/ended", "8")],
        "once.service": [("/usr/sbin/dhclient", "9"), ("/usr/sbin/dhclient", "10")],
        "made-up.service": [("/usr/bin/perl", "13")],
        "begun.service": [("/usr/sbin/begun", "14")],
        "containerd.service": [("/usr/bin/containerd", "15"), ("/usr/bin/containerd-shim-runc-v2", "16")],
        "session-3.scope": [("/usr/bin/nc", "11")],
        "": [("/usr/bin/socat", "12")],
    }
    units = [f"{name}.service loaded active running X" for name in ("one", "two", "once", "containerd")]
    units.append("begun.service loaded inactive dead X")  # a moment ago
    main = {
        "two.service": "6",
        "once.service": "0",
        "made-up.service": "0",
        "begun.service": "14",
        "containerd.service": "15",
    }

    def shown(command: str) -> list[str]:
        unit = command.split()[-1]
        delegates = f"Delegate={'yes' if unit == 'containerd.service' else 'no'}"
        return [f"MainPID={main[unit]}", delegates] if unit in main else [delegates]

    monkeypatch.setattr(processes, "lines_of", shown)
    monkeypatch.setattr(processes, "content", lambda path: f"PPid:\t{1 - path.count('/8/')}\n".join("\n\n"))
    assert processes.in_background(adopted, units) == [
        "background\t/usr/bin/dash\tdash 7 two.service",
        "background\t/usr/bin/perl\tperl 13 made-up.service",
        "background\t/usr/bin/nc\tnc 11 session-3.scope",
        "background\t/usr/bin/socat\tsocat 12 ",
    ]


@pytest.mark.parametrize(
    ("groups", "unit"),
    [
        ("0::/system.slice/ssh.service", "ssh.service"),
        ("1:name=systemd:/docker/1/system.slice/ssh.service\n0::/docker/1", "ssh.service"),
        ("0::/user.slice/user-0.slice/session-3.scope", "session-3.scope"),
        ("0::/", ""),
        ("0::/evil $(reboot) .service", ""),
        ("0::/system.slice/ssh.service/x y.scope", "ssh.service"),
    ],
)
def test_a_control_group_with_another_name_than_systemd_gives_is_no_unit(
    monkeypatch: pytest.MonkeyPatch, groups: str, unit: str
) -> None:
    monkeypatch.setattr(processes, "content", lambda _: f"{groups}\n")
    assert processes.unit_of("7") == unit


def test_a_program_is_known_by_its_file_and_not_by_the_name_that_it_gives_itself(tmp_path: Path) -> None:
    """An upgrade deletes the file of a running program, and puts another one there."""
    there = os.path.realpath("/usr/bin/env")
    assert processes.name_of(there) == processes.name_of(f"{there} (deleted)") == Path(there).name
    for foreign in (f"{tmp_path}/unbound", "/usr/local/bin/unbound", "/usr/sbin/no-such-program (deleted)"):
        assert processes.name_of(foreign) == foreign


HOSTS_OWN = """\
10 1 0:50 / / rw - overlay overlay rw
11 10 0:60 / /run rw - tmpfs tmpfs rw
12 10 8:1 /mail /srv/mail rw - ext4 /dev/sda1 rw
"""
SANDBOX = """\
20 1 0:50 / / rw - overlay overlay rw
21 20 0:50 /etc /etc ro - overlay overlay rw
22 20 8:1 /mail /srv/mail ro - ext4 /dev/sda1 rw
23 20 0:50 /tmp/systemd-private-0-nginx.service-x/tmp /tmp rw - overlay overlay rw
24 20 0:60 /systemd/inaccessible/dir /usr/lib/modules ro - tmpfs tmpfs rw
25 20 0:71 / /var/lib/nginx rw - tmpfs tmpfs rw
26 20 0:72 / /proc rw - proc proc rw
"""


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ("30 20 0:50 /opt/evil.conf /etc/nginx/nginx.conf rw - overlay overlay rw", "/etc/nginx/nginx.conf"),
        ("30 20 0:73 / /var/www rw - tmpfs tmpfs rw", "/var/www"),
        ("30 20 0:74 /systemd/inaccessible/dir /etc/nginx ro - tmpfs tmpfs rw", "/etc/nginx"),
        ("30 20 8:1 /other /srv/mail rw - ext4 /dev/sda1 rw", "/srv/mail"),
    ],
)
def test_what_is_mounted_in_a_services_own_view_is_found_beside_its_sandbox(
    line: str, place: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "nginx.service.d").mkdir()
    (tmp_path / "nginx.service.d" / "outpost.conf").write_text(
        "# /var/www /etc/nginx\n[Service]\nTemporaryFileSystem=/var/lib/nginx:size=5M,mode=0755\n"
    )
    monkeypatch.setattr(units, "OF_UNITS", (str(tmp_path),))
    monkeypatch.setattr(processes, "unit_of", lambda _: "nginx.service")
    monkeypatch.setattr("os.readlink", lambda _: "mnt:[1]")
    shown = {"/proc/1/mountinfo": HOSTS_OWN, "/proc/7/mountinfo": SANDBOX}
    monkeypatch.setattr(processes, "content", lambda path: shown[path])
    views = {"mnt:[1]": ("systemd", "1"), "mnt:[2]": ("nginx", "7")}
    assert processes.mounted_within(views) == []
    shown["/proc/7/mountinfo"] += f"{line}\n"
    assert processes.mounted_within(views) == [f"within\t{place}\tnginx 7 nginx.service"]


def test_a_unit_whose_messages_journald_drops_is_found_unless_its_file_declares_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported = tmp_path / "units" / "log-"
    exported.parent.mkdir()
    monkeypatch.setattr(units, "EXPORTED", str(exported))
    monkeypatch.setattr(units, "OF_UNITS", (str(tmp_path),))
    (tmp_path / "quiet@.service").write_text("[Service]\nLogLevelMax=notice\n")
    for unit in ("quiet@7.service", "ssh.service"):
        Path(f"{exported}level-max:{unit}").symlink_to("0")
    Path(f"{exported}extra-fields:ssh.service").write_text("")
    (fact,) = units.hushed()
    assert fact == f"hushed\tssh.service\t{exported}level-max:ssh.service"
    monkeypatch.setattr(repairs, "EXPORTED", str(exported))
    (finding,) = findings(seen(faults=(fact,)))
    subprocess.run(["sh", "-c", finding.repair], check=True)
    assert units.hushed() == []


@pytest.mark.parametrize(("mode", "facts"), [("reboot", []), ("poweroff", ["scheduled\tshutdown\tpoweroff"])])
def test_a_shutdown_that_somebody_has_scheduled_is_found_and_a_restart_is_an_upgrades(
    mode: str, facts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(units, "SHUTDOWN", str(tmp_path / "scheduled"))
    assert units.shutdown() == []
    (tmp_path / "scheduled").write_text(f"USEC=1\nWARN_WALL=1\nMODE={mode}\n")
    assert units.shutdown() == facts


def test_a_second_mount_on_a_place_is_found_and_so_is_one_below_run() -> None:
    usual = (
        "tmpfs /run tmpfs rw 0 0\ntmpfs /run/user/1000 tmpfs rw 0 0\nramfs /run/credentials/x.service ramfs ro 0 0\nproc /proc proc rw 0 0\n"
        "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\ndevpts /dev/pts devpts rw 0 0\nsystemd-1 /boot autofs rw 0 0\n/dev/sda1 /home ext4 rw 0 0\n"
        "tmpfs /run/netns tmpfs rw 0 0\nnsfs /run/netns/x nsfs rw 0 0\n"  # ip-netns(8) leaves the first mount behind
    )
    before = set(permissions.mounts(usual))
    assert {fact for fact in before if fact.startswith("mounted")} == {"mounted\t/home\t"}
    for line, fact, number in (
        ("/dev/sda2 /home ext4 rw 0 0", "mounted\t/home\t2 times", 1),
        ("tmpfs /mnt tmpfs rw 0 0\ntmpfs /mnt tmpfs rw 0 0", "mounted\t/mnt\t2 times", 2),
        ("udev /run/systemd/journal/dev-log devtmpfs rw 0 0", "mounted\t/run/systemd/journal/dev-log\t", 1),
        ("tmpfs /run/systemd/system tmpfs rw 0 0", "mounted\t/run/systemd/system\t", 1),
        ("tmpfs /proc tmpfs rw 0 0", "mounted\t/proc\t", 1),
    ):
        now = set(permissions.mounts(usual + line))
        assert now - before == {fact}
        (finding,) = findings(seen(appeared=tuple(now - before), vanished=tuple(before - now)))
        assert f"seq {number})" in finding.repair


@pytest.mark.parametrize("family", ["4", "6"])
def test_a_rule_that_somebody_added_is_named_by_the_words_that_remove_it(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernels = {"priority": 0, "src": "all", "table": "local", "protocol": "kernel"}
    assert selected(family, [kernels]) == ["0 from all lookup local"]
    commands: list[str] = []

    def rules(command: str) -> list[str]:
        commands.append(command)
        return ["0:\tfrom all lookup local", "100:\tfrom 203.0.113.9 lookup 7"]

    monkeypatch.setattr(network, "lines_of", rules)
    for strange in ({"protocol": "static"}, {"srclen": 24}, {"fwmark": "0x1"}):
        assert selected(family, [kernels, kernels | strange]) == [
            "0 from all lookup local",
            "100 from 203.0.113.9 lookup 7",
        ]
    assert commands == [f"ip -{family} rule"] * 3


def test_a_trigger_of_a_database_is_seen_and_taken_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "some.db"
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.executescript(
            "CREATE TABLE t (a); CREATE TRIGGER 'ev\"il' AFTER INSERT ON t BEGIN DELETE FROM t; END; CREATE VIEW v AS SELECT 1;"
            "CREATE VIEW 'w\nfile\t/etc/passwd\tabc' AS SELECT 2"
        )
    (tmp_path / "other.db").write_bytes(b"no database")
    monkeypatch.setattr(kept_by_daemons, "TOP", str(tmp_path))
    facts = kept_by_daemons.triggers()
    assert [(fact.split("\t")[0], fact.split(" ")[-1]) for fact in facts] == [
        ("trigger", 'ev"il'),
        ("trigger", "v"),
        ("trigger", r"w\x0afile\x09/etc/passwd\x09abc"),
    ], "no name makes a fact of its own"
    (finding,) = findings(seen(appeared=tuple(facts)))
    subprocess.run(["sh", "-c", finding.repair], check=True)
    assert kept_by_daemons.triggers() == []


def test_a_daemons_database_is_read_with_the_rights_of_its_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever SQLite does with what a taken-over daemon wrote, root does not do it."""
    owner = os.geteuid() or 65534
    with tempfile.TemporaryDirectory() as place:
        path = Path(place, "some.db")
        with contextlib.closing(sqlite3.connect(path)) as database:
            database.executescript("CREATE VIEW v AS SELECT 1")
        os.chown(place, owner, -1)  # a file may belong to root although a daemon wrote it
        path.chmod(0o644)
        for name, target in (("link.db", "/etc/passwd"), ("loop.db", "loop.db"), ("loop", "loop")):
            Path(place, name).symlink_to(target)
        monkeypatch.setattr(kept_by_daemons, "TOP", place)
        monkeypatch.setattr(
            kept_by_daemons,
            "named",
            lambda text: f"{text} {os.getresuid()} {os.getgroups()}".replace("[]", ""),
        )
        (fact,) = kept_by_daemons.triggers()
        assert f"v {(owner,) * 3}" in fact
        path.write_bytes(kept_by_daemons.MAGIC + b"x" * 200)
        with pytest.raises(BlindError, match="damaged"):
            kept_by_daemons.triggers()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: the test changes to the account of a daemon")
@pytest.mark.parametrize("kind", ["directory", "file"])
def test_a_link_of_a_daemons_makes_root_neither_read_nor_change_a_database(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """SYS-01: its account may exchange the link for its own database between any two looks at the path."""
    with tempfile.TemporaryDirectory() as place:
        own, roots = Path(place, "own"), Path(place, "roots")
        Path(place).chmod(0o755)
        own.mkdir()
        roots.mkdir()
        with contextlib.closing(sqlite3.connect(roots / "some.db")) as database:
            database.executescript("CREATE VIEW v AS SELECT 1")
        (roots / "some.db").chmod(0o600)
        link = own / ("some.db" if kind == "file" else "there")
        link.symlink_to(roots / "some.db" if kind == "file" else roots)
        os.chown(own, 65534, 65534)
        monkeypatch.setattr(kept_by_daemons, "TOP", str(own))
        with pytest.raises(BlindError, match="rights do not suffice"):
            kept_by_daemons.triggers()
        (finding,) = findings(
            seen(
                appeared=(
                    f"trigger\t{own / ('some.db' if kind == 'file' else 'there/some.db')}\tview 0abc v",
                )
            )
        )
        assert subprocess.run(["sh", "-c", finding.repair], check=False, capture_output=True).returncode
        with contextlib.closing(sqlite3.connect(roots / "some.db")) as database:
            assert database.execute("SELECT name FROM sqlite_master").fetchall() == [("v",)]


@pytest.mark.parametrize("link", ["a directory", "a file"])
def test_the_packages_root_key_goes_to_no_place_to_which_a_link_leads(tmp_path: Path, link: str) -> None:
    """SYS-01: the directory is Unbound's, and what is written there is, too."""
    own, elsewhere, theirs = tmp_path / "own", tmp_path / "elsewhere", tmp_path / "root.key"
    own.mkdir()
    elsewhere.mkdir()
    (elsewhere / "file").touch()
    theirs.write_text("key")
    (own / "root.key").symlink_to(elsewhere if link == "a directory" else elsewhere / "file")
    (finding,) = findings(seen(faults=(f"anchor\t{own}/root.key\t257 3 8 EVIL=",)))
    repair = finding.repair.replace("-o unbound -g unbound", "").replace(
        "/usr/share/dns/root.key", str(theirs)
    )
    subprocess.run(["sh", "-c", f"systemctl() {{ :; }}; {repair}"], check=True)
    assert (own / "root.key").read_text() == "key"
    assert not (own / "root.key").is_symlink()
    assert [(each.name, each.stat().st_size) for each in elsewhere.iterdir()] == [("file", 0)]


@pytest.mark.parametrize(
    ("queue", "found"),
    [
        ({"kind": "noqueue", "dev": "lo", "root": True, "handle": "0:"}, []),
        ({"kind": "fq_codel", "dev": "eth0", "parent": "1:10", "handle": "8001:"}, []),
        ({"kind": "netem", "dev": "eth0", "root": True}, ["queue\teth0\tnetem root"]),
        ({"kind": "clsact", "dev": "eth0"}, ["queue\teth0\tclsact"]),
        # chosen by hand to drop all but one packet, or to slow down
        ({"kind": "pfifo", "handle": "1:", "dev": "eth0", "root": True, "options": {"limit": 1}}, ["queue\teth0\tpfifo root"]),
    ],
)  # fmt: skip
def test_only_a_queueing_discipline_that_somebody_set_is_a_fact(
    queue: dict[str, object], found: list[str]
) -> None:
    facts = network.queues({"queues": [json.dumps([queue])]})
    assert [fact.rpartition(" ")[0] for fact in facts] == found


def test_a_class_or_filter_that_somebody_changed_is_another_fact() -> None:
    root: dict[str, object] = {"kind": "htb", "handle": "1:", "dev": "eth0", "root": True, "options": {"default": "0x30", "direct_packets_stat": 7}}  # fmt: skip
    leaf: dict[str, object] = {
        "kind": "pfifo",
        "handle": "80d7:",
        "dev": "eth0",
        "parent": "1:20",
        "options": {"limit": 100},
    }
    classes: list[dict[str, object]] = [{"class": "htb", "handle": "1:20", "leaf": "80d7", "rate": 86750}, {"class": "fq_codel", "handle": "1:1a3"}]  # fmt: skip
    rules = '[{"parent":"1:","kind":"u32","options":{"match":{"value":"35"},"match":{"value":"1"}}}]'

    def fact(*answers: object, filters: str = rules) -> str:
        lines = [json.dumps(answer) for answer in answers]
        (only,) = network.queues({"queues": [lines[0], "[]", "[]", *lines[1:], filters]})
        return only

    steady = fact([root, leaf], classes)
    later = root | {"options": {"default": "0x30", "direct_packets_stat": 9}}
    assert fact([later, leaf | {"handle": "9:"}], [classes[0] | {"leaf": "9"}]) == steady
    leaves = [leaf | {"parent": "1:10"}, leaf | {"parent": "1:30"}]
    assert fact([root, *leaves], classes) == fact([root, *reversed(leaves)], classes)
    assert {
        fact([root, leaf | {"options": {"limit": 1}}], classes),
        fact([root, leaf], [classes[0] | {"rate": 1}]),
        fact([root, leaf], classes, filters=rules.replace('"35"', '"36"')),
    }.isdisjoint({steady})


def test_dockers_directory_is_left_out_only_where_docker_is(monkeypatch: pytest.MonkeyPatch) -> None:
    mounted = "overlay /var/lib/docker/overlay2/x/merged overlay rw 0 0\n"
    monkeypatch.setattr(places, "CONTAINERS", ())
    assert permissions.mounts(mounted) == ["mounted\t/var/lib/docker/overlay2/x/merged\t"]
    monkeypatch.setattr(places, "CONTAINERS", ("/var/lib/docker/",))
    assert permissions.mounts(mounted) == []


def test_an_ipsec_policy_is_a_fact_and_that_of_a_key_daemons_socket_is_not() -> None:
    listed = [
        "src 0.0.0.0/0 dst 10.0.0.0/8 ", "\tdir out action block priority 0 ptype main ",
        "src 0.0.0.0/0 dst 0.0.0.0/0 ", "\tsocket in priority 0 ptype main ",
        "src 10.0.0.1/32 dst 10.0.0.2/32 ", "\tdir in priority 0 ptype main ", "\ttmpl src 0.0.0.0 dst 0.0.0.0", "\t\tproto esp reqid 0 mode tunnel",
        "src ::/0 dst ::/0 proto tcp sport 25 ", "\tdir out action block priority 0 ptype sub ", "\tmark 0x5/0xff ", "\tif_id 0x7",
        "Default policies:", " in:  accept", " fwd: block", " out: accept",
    ]  # fmt: skip
    assert network.policies({"policies": listed}) == [
        "policy\tdefault fwd\tblock",
        "policy\tsrc 0.0.0.0/0 dst 10.0.0.0/8 dir out\taction block priority 0 ptype main",
        "policy\tsrc 10.0.0.1/32 dst 10.0.0.2/32 dir in\tpriority 0 ptype main",
        "policy\tsrc ::/0 dst ::/0 proto tcp sport 25 dir out mark 0x5 mask 0xff if_id 0x7 ptype sub\taction block priority 0 ptype sub",
    ]
    assert network.policies({"policies": ["none"]}) == []  # the answer of a kernel without IPsec
    for blind in ({}, {"policies": listed[:2]}):
        with pytest.raises(BlindError):
            network.policies(blind)


def test_a_program_of_a_moment_is_not_hidden_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "apt-daily.service").touch()
    monkeypatch.setattr(units, "OF_A_MOMENT", (str(tmp_path / "none"), str(tmp_path)))
    notes = tuple((begin, end, f"{tmp_path}/note-") for begin, end, _ in units.NOTED)
    monkeypatch.setattr(units, "NOTED", notes)
    for note in ("ssh", "c1", "12"):
        (tmp_path / f"note-{note}").touch()
    hidden = [
        "session-13.scope",
        "outpost-undo-evil.timer",
        "apt-daily.service",
        "session-evil.service",
        "user@evil.service",
        "evil.scope",
        "session-evil.scope",
    ]
    usual = [
        "user@0.service",
        "getty@tty1.service",
        "serial-getty@ttyS0.service",
        "logrotate.service",
        "outpost-undo-ssh.timer",
        "init.scope",
        "session-c1.scope",
        "session-12.scope",
    ]
    assert units.running_units([f"{name} loaded active running x" for name in (*hidden, *usual)]) == [
        f"running\t{name}\t" for name in hidden
    ]


def test_a_unit_of_a_moment_before_a_lasting_one_is_a_file_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lasting, transient = tmp_path / "lasting", tmp_path / "transient"
    for path in (lasting, transient):
        path.mkdir()
        (path / "outpost-watch.timer").touch()
    (transient / "run-u1.timer").touch()
    monkeypatch.setattr(files, "UNITS", (str(lasting),))
    monkeypatch.setattr(places, "TRANSIENT", str(transient))
    assert not files._of_a_moment(f"{transient}/outpost-watch.timer")
    assert files._of_a_moment(f"{transient}/run-u1.timer")


def test_what_somebody_mounts_on_another_file_system_or_on_a_kernel_setting_is_a_difference() -> None:
    listed = "\n".join(
        f"x {place} {kind} {options} 0 0"
        for place, kind, options in (
            ("/", "ext4", "rw"),
            ("/proc", "proc", "rw"),
            ("/proc/sys/fs/binfmt_misc", "binfmt_misc", "rw"),
            ("/run", "tmpfs", "rw,nosuid,nodev,size=10%"),
            ("/run/lock", "tmpfs", "rw"),
            ("/dev/shm", "tmpfs", "rw,nosuid,nodev,noexec"),
            ("/srv/mail", "tmpfs", "rw,nosuid,nodev,noexec,relatime"),
            ("/srv/mail", "tmpfs", "rw,nosuid,nodev,noexec,relatime"),
            ("/proc/sys/net", "proc", "ro"),
            ("/sys/fs/cgroup", "cgroup2", "rw"),
        )
    )
    assert permissions.mounts(listed) == [
        "mounted\t/\t",
        "mount\t/run\trw,nosuid,nodev",
        "mount\t/dev/shm\trw,nosuid,nodev,noexec",
        "mount\t/srv/mail\trw,nosuid,nodev,noexec",
        "mounted\t/srv/mail\t",
        "mounted\t/proc/sys/net\t",
    ]


def test_a_program_that_the_kernel_starts_for_others_is_a_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("register", "status", "evil"):
        (tmp_path / name).touch()
    monkeypatch.setattr(kernel, "HANDLERS", str(tmp_path))
    assert kernel.handlers({}) == []  # in a container, which shares its machine's kernel
    (fact,) = kernel.handlers({"kernel": True})
    (finding,) = findings(seen(faults=(fact,)))
    assert finding.repair == f"echo -1 > {tmp_path}/evil"


def test_a_program_that_takes_an_interfaces_packets_is_a_difference() -> None:
    entry = {"ifname": "eth0", "mtu": 1500, "flags": ["UP"], "xdp": {"mode": 2, "prog": {"id": 1}}}
    printed = network.network({"links": [json.dumps([entry]), *("[]",) * 4], "links 6": ["[]", "[]"]}, {})
    assert printed == ["link\teth0\tup mtu 1500 promisc off xdp"]
    (finding,) = findings(seen(appeared=(printed[0],), vanished=(printed[0].removesuffix(" xdp"),)))
    assert finding.repair == "ip link set dev eth0 xdp off && ip link set dev eth0 up mtu 1500 promisc off"


def test_mail_that_nobody_noted_as_on_hold_is_a_finding_for_a_person(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue, noted = tmp_path / "hold", tmp_path / "noted"
    queue.mkdir()
    noted.mkdir()
    (queue / "4BYHAND").write_bytes(b"Subject: x\n" * 30000)
    (queue / "4REFUSED").write_bytes(b"x" * 300_000 + b"X-Office-Held: refused\n")
    (queue / "4NOTED").touch()
    (noted / "4NOTED").touch()
    monkeypatch.setattr(kept_by_daemons, "HOLD", str(queue))
    monkeypatch.setattr(kept_by_daemons, "NOTED", (str(tmp_path / "none"), str(noted)))
    assert kept_by_daemons.on_hold() == ["held\tmail queue\t4BYHAND"]
    several = ("held\tmail queue\t4A", "held\tmail queue\t4B")
    (finding,) = findings(seen(faults=several))
    assert (finding.diff, finding.repair) == (("4A", "4B"), "")
    assert "./outpost queue OFFICE --release" in finding.consequence


def test_a_key_whose_time_was_set_by_hand_is_a_finding_and_is_set_back() -> None:
    key = {"active": 10, "ready": 0, "publish": 10, "retire": 0, "remove": 0}
    keys = [{"id": "a", "ksk": True, "zsk": False} | key, {"id": "b", "ksk": False, "zsk": True} | key]
    assert kept_by_daemons.times_to_come("z.", json.dumps(keys), 1000, {}) == []
    keys[1]["retire"] = 90_000
    (fact,) = kept_by_daemons.times_to_come("z.", json.dumps(keys), 1000, {})
    (finding,) = findings(seen(faults=(fact,)))
    assert finding.repair.startswith("keymgr z. set b retire=0")
    keys[1]["retire"] = 500
    assert kept_by_daemons.times_to_come("z.", json.dumps(keys), 1000, {}) == ["timer\tz.\tno key signs"]


@pytest.mark.parametrize(
    ("published", "lifetime", "found"), [(5000, 5000, []), (5000, 0, ["c"]), (5000, 9000, ["c"])]
)
def test_a_key_that_signs_before_knot_would_have_made_it_is_a_finding_for_a_person(
    published: int, lifetime: int, found: list[str]
) -> None:
    key = {"active": 10, "ready": 0, "publish": 10, "retire": 0, "remove": 0}
    keys = [{"id": "a", "ksk": True, "zsk": False} | key, {"id": "b", "ksk": False, "zsk": True} | key]
    keys.append({"id": "c", "ksk": False, "zsk": True} | key | {"active": published, "publish": published})
    printed = kept_by_daemons.times_to_come("z.", json.dumps(keys), 6000, {"ksk": lifetime, "zsk": lifetime})
    assert printed == [f"timer\tz.\ta second ZSK signs: {name}" for name in found]
    for finding in findings(seen(faults=tuple(printed))):
        assert (finding.cause, finding.repair) == ("a second ZSK signs: c", "")


def test_a_second_key_that_signs_is_found_while_the_parent_zone_does_not_name_the_first() -> None:
    """Knot calls a key of the zone's parent *ready* until then."""
    key = {"active": 0, "ready": 5000, "publish": 5000, "retire": 0, "remove": 0}
    keys = [{"id": "a", "ksk": True, "zsk": True} | key, {"id": "b", "ksk": True, "zsk": False} | key]
    keys[1] |= {"publish": 10_000, "ready": 10_000}
    printed = kept_by_daemons.times_to_come("z.", json.dumps(keys), 11_000, {"ksk": 9000})
    assert printed == ["timer\tz.\ta second KSK signs: b"]


def test_a_key_of_the_root_that_debian_does_not_have_is_a_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs, ours = tmp_path / "debian", tmp_path / "unbound"
    theirs.write_text(".\t172800\tIN\tDNSKEY\t257 3 8 AAAA=\n")
    ours.write_text(
        "; autotrust\n.\t86400\tIN\tDNSKEY\t257 3 8 AAAA= ;{id = 20326 (ksk), size = 2048b} ;;state=2 [  VALID  ]\n"
    )
    monkeypatch.setattr(kept_by_daemons, "PACKAGES_ANCHORS", str(theirs))
    monkeypatch.setattr(kept_by_daemons, "ANCHORS", str(ours))
    assert kept_by_daemons.anchors() == []
    with ours.open("a") as file:
        file.write(".\t86400\tIN\tDNSKEY\t257 3 8 EVIL= ;;state=2 [  VALID  ]\n")
    assert kept_by_daemons.anchors() == [f"anchor\t{ours}\t257 3 8 EVIL="]


ADDRESSES = [
    {"local": "192.0.2.5", "prefixlen": 24},
    {"local": "10.0.0.1", "address": "10.0.0.2", "prefixlen": 32},
    {"local": "198.51.100.7", "prefixlen": 24, "dynamic": True},
    {"local": "2001:db8::5", "prefixlen": 64, "dynamic": True, "protocol": "kernel_ra"},
]
KERNELS = [
    {"dst": "192.0.2.0/24", "type": "unicast"},
    {"dst": "10.0.0.2", "type": "unicast"},
    {"dst": "192.0.2.5", "type": "local"},
    {"dst": "192.0.2.255", "type": "broadcast"},
]
BY_HAND = [
    {"dst": "203.0.113.0/24", "type": "unicast", "protocol": "kernel"},
    {"dst": "192.0.2.0/25", "type": "unicast", "protocol": "kernel"},
    {"dst": "192.0.2.0/24", "type": "unicast", "protocol": "kernel", "gateway": "192.0.2.9"},
    {"dst": "203.0.113.0/24", "type": "local", "protocol": "kernel"},
    {"dst": "default", "type": "unicast", "protocol": "kernel"},
    {"dst": "203.0.113.7", "type": "unicast", "protocol": "ra"},
]


@pytest.mark.parametrize("client", [False, True])
def test_nothing_on_the_network_is_hidden_by_the_name_of_its_origin(*, client: bool) -> None:
    """Root may add addresses and routes with any lifetime and protocol (ip-address(8), ip-route(8))."""
    leased = {"dst": "default", "gateway": "192.0.2.1", "protocol": "dhcp"}
    device = {"ifname": "eth0", "mtu": 1500, "flags": ["UP"], "addr_info": ADDRESSES}
    routes = [{"dev": "eth0", "protocol": "kernel"} | route for route in (*KERNELS, *BY_HAND, leased)]
    six = {"dst": "2001:db8:7::/48", "dev": "eth0", "protocol": "boot", "metric": "1024", "pref": "medium"}
    neighbours = [
        {"dst": "203.0.113.8", "dev": "eth0", "lladdr": "02:00:00:00:00:08", "state": ["NOARP"]},
        {"dst": "ff02::2", "dev": "eth0", "lladdr": "33:33:00:00:00:02", "state": ["NOARP"]},
    ]
    live = {
        "links": [json.dumps(each) for each in ([device], [*routes, six], [], neighbours, [])],
        "links 6": [json.dumps([six]), "[]"],
    }
    found = network.network(live, {"1": ("dhcpcd", "7")} if client else {})
    given = [fact.split("\t")[1] for fact in found if fact.startswith("address\t")]
    assert given == ["192.0.2.5/24", "10.0.0.1/32", *([] if client else ["198.51.100.7/24"])]
    by_hand = [*BY_HAND, *([] if client else [leased])]
    assert [fact.split("\t")[1].split()[2] for fact in found if fact.startswith("route\t")] == [
        each["dst"] for each in (*by_hand, six)
    ]
    assert [fact for fact in found if fact.startswith("neighbour\t")] == [
        "neighbour\t203.0.113.8\t02:00:00:00:00:08 eth0"
    ]


def test_a_library_anywhere_else_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = ["/lib/x86_64-linux-gnu/libz.so.1", "/lib64/ld-linux-x86-64.so.2", "/usr/local/lib/libx.so"]
    strange = [
        "/usr/share/doc/evil/libz.so.1",
        "/libevil/libz.so.1",
        "/opt/e vil/libz.so.1",
        "/usr/lib/man/libz.so.1",
        "/usr/lib/../../var/lib/x/libz.so.1",
        "/usr/lib//x/libz.so.1",
    ]
    lines = [f"\tlibz.so.1 (libc6,x86-64) => {path}" for path in (*usual, *strange)]
    end = "Cache generated by: ldconfig (Debian GLIBC 2.41-12) stable release version 2.41"
    monkeypatch.setattr(daemons, "lines_of", lambda _: ["9 libs found in cache", *lines, end])
    assert daemons.libraries() == [f"library\t{path}\t" for path in strange]
    monkeypatch.setattr(daemons, "lines_of", lambda _: [])
    assert daemons.libraries() == []


def test_a_library_whose_path_only_begins_among_packages_is_a_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "lib"
    own.mkdir()
    (own / "libx.so").symlink_to(tmp_path / "evil.so")
    monkeypatch.setattr(daemons, "LIBRARIES", (f"{own}/",))
    line = f"\tlibx.so (libc6,x86-64) => {own}/libx.so"
    monkeypatch.setattr(daemons, "lines_of", lambda _: ["1 libs found in cache", line])
    assert daemons.libraries() == [f"library\t{own}/libx.so\t"]
    split = f"\tlibx.so (libc6,x86-64) => {own}/x"
    monkeypatch.setattr(daemons, "lines_of", lambda _: ["1 libs found in cache", split, "/../evil.so"])
    assert daemons.libraries() == ["library\t/etc/ld.so.cache\t"]
    more = [split, f"\tlibx.so (libc6) => {own}/y"]
    monkeypatch.setattr(daemons, "lines_of", lambda _: ["1 libs found in cache", *more])
    assert daemons.libraries() == ["library\t/etc/ld.so.cache\t"]


def test_a_file_left_by_an_apply_is_one_that_is_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "owned_by_packages", set)
    monkeypatch.setattr(files, "expect_lists", lambda: None)
    paths = ["/etc/knot/knot.conf.outpost-new", "/etc/systemd/system-generators/evil.outpost-new"]
    assert files.strangers(paths, {"/etc/knot/knot.conf"}) == [f"file\t{paths[1]}\t"]


def test_a_frozen_unit_and_a_log_that_all_may_read_are_findings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = tmp_path / "system.journal"
    journal.touch(mode=0o640)
    monkeypatch.setattr(processes, "PRIVATE", (f"{tmp_path}/*",))
    assert processes.exposed() == []
    journal.chmod(0o644)
    (finding,) = findings(seen(faults=tuple(processes.exposed())))
    assert (finding.thing, finding.repair) == (str(journal), f"chmod -h o= {journal}")
    (tmp_path / "cgroup.controllers").touch()
    group = tmp_path / "system.slice/knot.service"
    group.mkdir(parents=True)
    (group / "cgroup.freeze").write_text("0\n")
    monkeypatch.setattr(processes, "GROUPS", str(tmp_path))
    assert processes.frozen() == []
    (group / "cgroup.freeze").write_text("1\n")
    (finding,) = findings(seen(faults=tuple(processes.frozen())))
    assert (finding.thing, finding.cause) == ("knot.service", "frozen by hand")


@pytest.mark.control("SYS-09")
def test_other_rights_in_a_folder_than_in_its_shared_mailbox_are_a_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_by_daemons, "MAIL", str(tmp_path))
    lines = {".plans": "user=a@x lrs\nuser=b@x lrw\n", ".plans.good": 'user=a@x srl\n"user=b@x" lrw\n'}
    lines |= {
        ".plans.more": "user=a@x lrsw\n",
        ".plans.other.deep": "user=c@x lrs\n",
        ".gone": "user=c@x l\n",
    }
    for name, text in lines.items():
        (tmp_path / ".shared" / name).mkdir(parents=True)
        (tmp_path / ".shared" / name / "dovecot-acl").write_text(text)
    top = f"{tmp_path}/.shared/.plans"
    found = sorted(kept_by_daemons.granted())
    assert found == [
        f"granted\t{top}.{name}/dovecot-acl\t{top}/dovecot-acl" for name in ("more", "other.deep")
    ]
    (finding,) = findings(seen(faults=(found[0],)))
    assert finding.repair == f"runuser -u vmail -- cp -- {top}/dovecot-acl {top}.more/dovecot-acl"


def test_a_link_out_of_a_mailbox_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mailbox = tmp_path / "alice" / "Maildir"
    mailbox.mkdir(parents=True)
    (tmp_path / "alice/.dovecot.sieve").symlink_to("sieve/rules.sieve")
    (mailbox / ".Up").symlink_to("../../bob/Maildir")
    (mailbox / ".Far\n").symlink_to("/etc")
    monkeypatch.setattr(
        kept_by_daemons, "LINKS", kept_by_daemons.LINKS.replace(kept_by_daemons.MAIL, str(tmp_path))
    )
    found = sorted(kept_by_daemons.links_in_mail())
    assert found == [f"astray\t{mailbox}/.Far\\x0a\t/etc", f"astray\t{mailbox}/.Up\t../../bob/Maildir"]
    (finding,) = findings(seen(faults=(found[1],)))
    assert finding.repair == f"runuser -u vmail -- rm -f -- {mailbox}/.Up"


def test_a_daemon_that_somebody_paused_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed = tmp_path / "flushed"
    flushed.touch()
    monkeypatch.setattr(daemons, "FLUSHED", str(flushed))
    source, configured = "*,203.0.113.1,N,-,-,-,-,-,{},-,-,-,-,3,1.0,0.1,0.2,Normal", tmp_path / "chrony.conf"
    monkeypatch.setattr(daemons, "TIME", str(configured))
    well = [
        "[po.test.]",
        "[x.arpa.] freeze: no",
        "2,0,0,0,0",
        source.format("-"),
        "CB007101,203.0.113.1,3,1796.1,Normal",
    ]
    assert daemons.paused(well) == []
    itself = "7F7F0101,,1,1796.1,Normal"
    found = daemons.paused(["[po.test.] freeze: yes", "1,1,0,0,0", source.format("N"), itself])
    assert {each.cause for each in findings(seen(faults=tuple(found)))} == {
        "frozen by hand",
        "its sources set offline by hand",
        "set not to follow 203.0.113.1 by hand",
        "set to follow its own clock by hand",
    }
    assert {each.repair.rpartition("; ")[2] for each in findings(seen(faults=tuple(found)))} == {
        "systemctl try-restart chrony.service",
        "knotc zone-thaw po.test. >/dev/null",
    }
    configured.write_text("local stratum 10\n")
    assert daemons.paused([itself]) == []


def test_a_systemd_that_says_nothing_more_is_a_finding() -> None:
    settings = ["LogLevel=err", "LogTarget=null", "ServiceWatchdogs=no"]
    assert units.muted(["LogLevel=info", "LogTarget=journal-or-kmsg", "ServiceWatchdogs=yes"]) == []
    assert [each.cause for each in findings(seen(faults=tuple(units.muted(settings))))] == [
        f"set to {value} in the running systemd by hand" for value in ("err", "null", "no")
    ]


def test_a_service_socket_that_every_account_may_use_is_a_finding() -> None:
    place = Path("/run") / f"outpost-test-{os.getpid()}"
    if os.geteuid():
        pytest.skip("only root makes a socket of another account below /run")
    with socket.socket(socket.AF_UNIX) as listening:
        try:
            listening.bind(str(place))
            os.chown(place, 65534, 65534)
            place.chmod(0o770)
            assert [fact for fact in processes.opened_sockets({}, ()) if str(place) in fact] == []
            place.chmod(0o777)
            (fact,) = (fact for fact in processes.opened_sockets({}, ()) if str(place) in fact)
            (finding,) = findings(seen(faults=(fact,)))
            assert (finding.kind, finding.repair) == ("socket", f"chmod -h o= {place}")
        finally:
            place.unlink(missing_ok=True)


@pytest.mark.parametrize(("edit", "own"), [(b"", True), (b"x = 2\n", False)])
def test_bytecode_is_known_only_where_python_makes_it_of_its_source(
    edit: bytes, own: bool, tmp_path: Path
) -> None:
    source = tmp_path / "module.py"
    source.write_bytes(b"x = 1\n" + edit)
    made = Path(str(py_compile.compile(str(source), doraise=True)))
    source.write_bytes(b"x = 1\n")
    fact, other = f"compiled\t{made}\tabc", f"compiled\t{made}x\tabc"
    assert expected.Expected({}, {fact}, {other}).explains(fact) is own
    assert expected.Expected({}, {fact}, set()).explains(fact)  # before the first known state
    made.write_bytes(b"x" * 16 + b"broken")
    assert not is_its_source(str(made))


def test_what_is_no_plain_file_keeps_nobody_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon's account makes a FIFO or a sparse file where the observer reads: without a limit it would wait for ever."""
    pipe, holes, plain = tmp_path / "pipe", tmp_path / "holes", tmp_path / "plain"
    os.mkfifo(pipe)
    with holes.open("wb") as file:
        file.truncate(1 << 40)
    plain.write_text("x")
    assert [reading.fingerprint(str(path)) for path in (pipe, holes)] == ["", ""]
    assert reading.fingerprint(str(plain)) == "2d711642b726b044"
    for path in (pipe, holes):
        with pytest.raises(OSError, match="no plain file"):
            reading.content(str(path))
    assert reading.content("/proc/self/status").startswith("Name:")
    assert expected._lines(str(pipe)) == set()
    assert _certificates(pipe) == []
    queue = tmp_path / "hold"
    queue.mkdir()
    os.mkfifo(queue / "4PIPE")
    monkeypatch.setattr(kept_by_daemons, "HOLD", str(queue))
    monkeypatch.setattr(kept_by_daemons, "NOTED", ())
    assert kept_by_daemons.on_hold() == ["held\tmail queue\t4PIPE"]
    monkeypatch.setattr(packages, "lines_of", lambda _: [f" {pipe} {'0' * 32}", f" {plain} {'0' * 32}"])
    assert packages.conffiles(set()) == [f"conffile\t{pipe}\tmissing", f"conffile\t{plain}\t2d711642b726b044"]


def test_a_survey_waits_for_no_fifo_in_the_place_of_a_declared_file(tmp_path: Path) -> None:
    pipe, plain = tmp_path / "main.cf", tmp_path / "master.cf"
    os.mkfifo(pipe)
    plain.write_text("x")
    command = observation.Survey().command(observation.Asking(paths={str(pipe): None, str(plain): None}))
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=300, check=False)
    assert f"{hashlib.sha256(b'x').hexdigest()}  {plain}" in done.stdout
    assert done.stdout.endswith(f"{observation.END}\n")
    assert f"fifo|{pipe}" in done.stdout


@pytest.mark.parametrize(
    ("by_hand", "consequence"),
    [
        (False, "chrony works as declared before, until an apply"),
        (True, "chrony does not work as the office declares"),
    ],
)
def test_what_the_office_declares_otherwise_is_no_broken_daemon(by_hand: bool, consequence: str) -> None:
    file = File("/x", b"b")
    found = (*file.fingerprint[:3], "another digest")
    finding = file_finding(file, found, ["a"], owner="chrony", known=True, by_hand=by_hand)
    assert finding.consequence == consequence


def test_a_directory_opened_by_hand_is_one_finding_whose_repair_nothing_undoes() -> None:
    place = "/var/spool/postfix/private"
    (finding,) = findings(
        seen(
            appeared=(f"mode\t{place}\t777 postfix root", f"special\t{place}\t777 postfix root"),
            vanished=(f"mode\t{place}\t700 postfix root",),
        )
    )
    assert "chmod -h 700" in finding.repair


def test_a_version_that_somebody_wrote_into_dpkgs_status_is_named_as_that() -> None:
    (finding,) = findings(
        seen(appeared=("control\tknot\t99:1 abc",), vanished=("control\tknot\t3.4.6-2 abc",))
    )
    assert finding.cause == "its version was edited by hand in dpkg's status"
    assert '--allow-downgrades install knot="$version"' in finding.repair


@pytest.mark.parametrize("name", ["shadow-", "gshadow.old"])
def test_a_copy_of_passwords_that_every_account_may_read_is_a_finding(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "PRIVATE", (f"{tmp_path}/*shadow?*",))
    copy = tmp_path / name
    copy.touch(mode=0o640)
    assert processes.exposed() == []
    copy.chmod(0o644)
    (finding,) = findings(seen(faults=tuple(processes.exposed())))
    assert (finding.thing, finding.repair) == (str(copy), f"chmod -h o= {copy}")


RESOLVER = """# Warning: table ip nat is managed by iptables-nft, do not touch!
table ip nat {
\tchain DOCKER_OUTPUT {
\t\tip daddr 127.0.0.11 tcp dport 53 counter xt target "DNAT"
\t\tip daddr 127.0.0.11 udp dport 53 counter dnat to 127.0.0.11:36487
\t}

\tchain OUTPUT {
\t\ttype nat hook output priority dstnat; policy accept;
\t\tip daddr 127.0.0.11 counter jump DOCKER_OUTPUT
\t}

\tchain DOCKER_POSTROUTING {
\t\tip saddr 127.0.0.11 tcp sport 41829 counter xt target "SNAT"
\t\tip saddr 127.0.0.11 udp sport 34958 counter snat to :53
\t}

\tchain POSTROUTING {
\t\ttype nat hook postrouting priority srcnat; policy accept;
\t\tip daddr 127.0.0.11 counter jump DOCKER_POSTROUTING
\t}
}"""


@pytest.mark.parametrize(
    ("contained", "rule", "passes"),
    [
        (True, "", True),
        (False, "", False),
        (True, 'tcp dport 25 counter dnat to 203.0.113.9 comment "127.0.0.11"', False),
        (True, "ip daddr 127.0.0.11 tcp dport 53 counter dnat to 203.0.113.9:53", False),
        (True, "tcp dport 25 counter jump DOCKER_OUTPUT", False),
    ],
)
def test_only_the_resolver_of_docker_passes_and_only_in_a_container(
    monkeypatch: pytest.MonkeyPatch, contained: bool, rule: str, passes: bool
) -> None:
    monkeypatch.setattr(network, "lines_of", lambda _: [])
    ruleset = RESOLVER.split("\n")
    ruleset[-2:-2] = [f"\t\t{rule}"] if rule else []
    tables, _ = network.packet_filter(ruleset, "", contained=contained)
    assert tables[:1] == ([] if passes else ["table\tip nat\t"])


def index_of(name: str, value: str) -> bytes:
    """A binary index with one entry, as depmod(8) writes it (libkmod, index.h)."""
    node = f"{name}\0".encode() + struct.pack(">II", 1, 0) + f"{value}\0".encode()
    return struct.pack(">III", 0xB007F457, 0x00020001, 12 | 0xC0000000) + node


@pytest.mark.parametrize(
    ("index", "sound"),
    [
        (index_of("nf_nat", "kernel/net/nf-nat.ko.xz: kernel/net/a.ko.xz kernel/b.ko"), True),
        (index_of("nf_nat", "kernel/net/nf-nat.ko.xz:"), True),
        (index_of("nf_nat", "/tmp/nf-nat.ko:"), False),
        (index_of("nf_nat", "kernel/../../../../tmp/nf-nat.ko:"), False),
        (index_of("nf_nat", "kernel/net/nf-nat.ko.xz: kernel/net/a.ko.xz /tmp/b.ko"), False),
        (index_of("nf_nat", "kernel/drivers/usb-storage.ko.xz:"), False),
        (index_of("nf_nat", "kernel/net/nf-nat.ko.xz"), False),
        (index_of("nf_nat", "kernel/net/nf-nat.ko.xz:\nwhole\nx /tmp/x.ko:"), False),
        (index_of("nf_nat", "kernel/net/nf-nat.ko.xz: " + "kernel/a.ko " * 2_000_000), False),
        (b"no index", False),
        (b"", False),
    ],
)
def test_an_index_of_modules_names_files_below_it_by_their_own_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, index: bytes, sound: bool
) -> None:
    top = tmp_path / "6.12; exit"
    top.mkdir()
    (top / "modules.dep.bin").write_bytes(index)
    monkeypatch.setattr(kernel, "MODULES", str(tmp_path))
    assert kernel.indexes() == ([] if sound else [f"index\t{top}\t"])


def test_a_table_of_the_packet_filter_may_have_any_name() -> None:
    document = network_repairs.table_away('ip x";$(id)').removeprefix("printf %s ").rpartition(" | ")[0]
    (quoted,) = shlex.split(document)
    assert json.loads(quoted)["nftables"][0]["delete"]["table"] == {"family": "ip", "name": 'x";$(id)'}
