"""Sizes of the daemons by number of users: the arithmetic only; tests/lab/test_sizes.py has the daemons check it."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

import pytest

from outpost.converge.files import rendered
from outpost.office import Office, ports
from outpost.office.base import BaseView
from outpost.office.role import cgroup_limits, every_role
from outpost.office.size import MIB, size_of
from outpost.office.tables.topology import RoleName
from roles.mta.defence import filter_facts, policy_settings
from roles.mta.view import MtaView
from roles.store.view import StoreView
from roles.webmail.view import WebmailView
from tests.unit.test_mta import office_of

SIZES = (4, 54, 117, 300, 600)
URLAUTH = 100
"""imap-urlauth-login's processes, which Dovecot counts although nothing starts one."""


def office_with(users: int) -> Office:
    """The lab's office with this number of users; a tenth of them have aliases."""
    lab = office_of("lab")
    people = [{"address": user.address, "full_name": user.full_name} for user in lab.users]
    people += [
        {"address": f"user{number}@{lab.domain}", "full_name": f"User {number}"}
        for number in range(users - len(people))
    ]
    everybody = {"address": f"everybody@{lab.domain}", "members": [one["address"] for one in people]}
    aliases = [
        {"address": f"alias{number}@{lab.domain}", "members": [one["address"]]}
        for number, one in enumerate(people[::10])
    ]
    return office_of("lab", users=people, aliases=[everybody, *aliases])


@pytest.mark.parametrize("users", SIZES)
def test_every_user_has_room_on_every_host(users: int) -> None:
    size = size_of(office_with(users))
    assert size.sessions >= 6 * users
    logins = size.sessions + 2 * size.short_sessions + URLAUTH
    assert size.dovecot_clients > logins, "more than doveconf asks for"
    assert cgroup_limits("store", size)["dovecot.service"].tasks > 2 * logins - URLAUTH
    assert 10 * size.php_workers >= users
    assert size.web_connections >= 4 * users
    assert cgroup_limits("mta", size)["postfix.service"].tasks > size.postfix_processes
    for unit in ("nginx.service", "php8.4-fpm.service"):
        assert cgroup_limits("webmail", size)[unit].memory * MIB > size.volatile_size, (
            "a full file system is no OOM kill"
        )


@pytest.mark.parametrize("users", SIZES)
def test_every_session_in_idle_has_an_inotify_instance_where_the_kernel_is_the_hosts_own(users: int) -> None:
    setting = re.compile(r"^fs\.inotify\.max_user_instances = (\d+)$", re.MULTILINE)
    office = office_with(users)
    for platform in ("machine", "docker"):
        hosts = tuple(host.model_copy(update={"platform": platform}) for host in office.hosts)
        for host in hosts:
            view = BaseView(office.model_copy(update={"hosts": hosts}), host)
            text = rendered("base", "/etc/sysctl.d/90-outpost.conf", view=view).content.decode()
            allowed = [int(number) for number in setting.findall(text)]
            if (host.role, platform) == ("store", "machine"):
                assert allowed[0] > size_of(office).sessions
            else:
                assert not allowed


@pytest.mark.parametrize(
    ("role", "small", "large"), [("dns", 512, 512), ("store", 1024, 3024), ("webmail", 1024, 1824)]
)
def test_preflight_knows_the_memory_of_a_host(role: RoleName, small: int, large: int) -> None:
    assert every_role()[role].memory(size_of(office_with(4))) == small
    assert every_role()[role].memory(size_of(office_with(300))) == large


def test_a_group_of_everybody_is_delivered_and_a_list_to_everybody_is_taken() -> None:
    office = office_with(300)
    assert office.alias_members >= 300
    assert office.same_signature >= 300
    assert (office_with(4).alias_members, office_with(4).same_signature) == (200, 100)


def files(office: Office) -> Mapping[str, bytes]:
    """Everything that follows from the users or their number: path to content."""
    store, webmail = (office.with_role(role)[0] for role in ("store", "webmail"))
    mta = MtaView(office, office.with_role("mta")[0])
    found = {}
    dovecot: dict[str, Any] = {
        "shared_root": "/s",
        "deliveries_per_user": 1,
        "quota_grace": 1,
        "folders": 2000,
        "readers": 1,
        "room_beyond_quota": 1,
    }
    for path in ("dovecot/dovecot.conf", "systemd/system/dovecot.service.d/outpost.conf"):
        file = rendered(
            "store",
            f"/etc/{path}",
            store=StoreView(office, store),
            ports=ports,
            logins_port=1,
            logins_nonce="n",
            **dovecot,
        )
        found[file.path] = file.content
    for path in ("main.cf", "master.cf", "mailboxes"):
        file = rendered("mta", f"/etc/postfix/{path}", mta=mta)
        found[file.path] = file.content
    view = WebmailView(office, webmail)
    for unit in ("nginx", "php8.4-fpm"):
        file = rendered(
            "webmail", f"/etc/systemd/system/{unit}.service.d/outpost.conf", view=view, ports=ports
        )
        found[file.path] = file.content
    for path in ("/etc/php/8.4/fpm/php-fpm.conf", "/var/lib/roundcube/plugins/office/config.inc.php"):
        found[path] = rendered("webmail", path, view=view, ports=ports).content
    roles: tuple[RoleName, ...] = ("store", "mta", "webmail")
    for role in roles:
        for unit, limit in cgroup_limits(role, size_of(office)).items():
            place = f"/etc/systemd/system/{unit}.d/limits.conf"
            found[place] = rendered("base", place, template="limits.conf", limit=limit).content
    return found


def changed(before: int, after: int) -> set[str]:
    old, new = files(office_with(before)), files(office_with(after))
    return {path for path in old if old[path] != new[path]}


@pytest.mark.parametrize("users", [4, 54, 117, 299])
def test_one_user_more_changes_lists_of_people_and_no_daemon(users: int) -> None:
    assert changed(users, users + 1) == {
        "/etc/postfix/mailboxes",
        "/var/lib/roundcube/plugins/office/config.inc.php",
    }


def test_no_unit_is_restarted_where_the_office_grows_over_a_step() -> None:
    grown = changed(300, 301)
    assert "/etc/dovecot/dovecot.conf" in grown
    assert not {path for path in grown if path.endswith(".service.d/outpost.conf")}


def calls(work: Callable[[], object]) -> int:
    """The number of function calls: a measure of cost that does not depend on the machine's load."""
    count = 0

    def note(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("subject", ["webmail", "mta", "senders"])
def test_twice_the_users_cost_twice_the_work(subject: str) -> None:
    def work(office: Office) -> Callable[[], object]:
        mta = MtaView(office, office.with_role("mta")[0])
        webmail = WebmailView(office, office.with_role("webmail")[0])
        return {
            "webmail": lambda: (webmail.people, webmail.shared_addresses),
            "mta": lambda: (filter_facts(mta), policy_settings(mta), mta.hidden_members),
            "senders": lambda: office.senders,
        }[subject]

    small, large = office_with(100), office_with(200)
    assert calls(work(large)) < 2.5 * calls(work(small))
