"""A compromised service cannot use its own directory to make root act for it."""

from __future__ import annotations

import time

import pytest

from outpost_lab.instance import Instance
from tests.lab.test_reapply import on

STATE = "/var/lib/outpost-policy"


@pytest.mark.control("SYS-01")
def test_no_link_of_the_policy_service_makes_root_delete_a_message(lab: Instance) -> None:
    """outpost-routes runs as root each minute and tidies up in that service's directory."""
    place = f"/var/lib/postfix/trial{time.time_ns()}"
    victim = f"{place}/4gVxB25hBLz1"
    try:
        on(
            lab,
            "mta",
            f"mkdir {place}; touch -d '1 hour ago' {victim}; mv {STATE}/large {STATE}/large.aside 2>/dev/null || true; ln -s {place} {STATE}/large; systemctl start outpost-routes",
        )
        assert on(lab, "mta", f"ls {place}").split() == ["4gVxB25hBLz1"]
    finally:
        on(
            lab,
            "mta",
            f"rm -rf {place} {STATE}/large; mv {STATE}/large.aside {STATE}/large 2>/dev/null || true",
        )


@pytest.mark.control("SYS-01")
def test_a_directory_of_its_own_is_tidied(lab: Instance) -> None:
    """The positive control: the same file, without a link."""
    on(
        lab,
        "mta",
        f"mkdir -p {STATE}/large; touch -d '1 hour ago' {STATE}/large/4gVxB25hBLz1; systemctl start outpost-routes",
    )
    assert on(lab, "mta", f"ls {STATE}/large").split() == []


@pytest.mark.control("SYS-01")
def test_an_administrators_release_writes_nothing_as_root(lab: Instance) -> None:
    victim = f"/etc/trial{time.time_ns()}"
    held = '{"eve@po.myertor.test": 9999999999}'
    try:
        on(
            lab,
            "mta",
            f"touch {victim}; printf '%s' '{held}' > {STATE}/held.json; ln -sf {victim} {STATE}/held.new; "
            "python3 /usr/local/lib/outpost/policy release eve@po.myertor.test; true",
        )
        assert on(lab, "mta", f"wc -c < {victim}; stat -c %U {victim}").split() == ["0", "root"]
    finally:
        on(
            lab,
            "mta",
            f"rm -f {STATE}/held.new {victim}; printf '{{}}' > {STATE}/held.json; chown outpost-policy:outpost-policy {STATE}/held.json",
        )
