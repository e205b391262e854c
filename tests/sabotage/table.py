"""Every sabotage, the check variants that it must turn red, and what no sabotage in the lab can show."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

from tests.sabotage import backup, base, dns, groupware, mta, store, timeserver, webmail
from tests.sabotage.breaking import Check, Sabotage

LIVE = Path(__file__).resolve().parents[1] / "live"

SABOTAGES: tuple[Sabotage, ...] = (
    *mta.SABOTAGES,
    *store.SABOTAGES,
    *webmail.SABOTAGES,
    *dns.SABOTAGES,
    *base.SABOTAGES,
    *backup.SABOTAGES,
    *groupware.SABOTAGES,
    *timeserver.SABOTAGES,
)

SPARED: dict[Check, str] = {
    "hardening::unused_kernel_modules_do_not_load": (
        "a container has nothing that loads modules, so the check is skipped in the lab, and says so"
    ),
    "hardening::administration_is_audited_where_the_kernel_is_the_hosts_own": (
        "a container has no audit of its own, so the check is skipped in the lab, and says so; tests/lab/test_machines.py makes it red"
    ),
    "store::no_other_account_of_the_store_hands_users_mail_to_the_mtas": (
        "the lab has one MTA, so the check is skipped there, and says so; tests/lab/test_second_mta.py asks with two"
    ),
    "hardening::apparmor_confines_where_the_kernel_is_the_hosts_own": (
        "a container has no profiles of its own, so the check is skipped in the lab, and says so; tests/lab/test_machines.py makes it red"
    ),
}
"""Checks that cannot be sabotaged in the lab, with the reason."""


@cache
def checks() -> frozenset[Check]:
    """Every check function of tests/live."""
    return frozenset(
        f"{file.stem.removeprefix('test_')}::{node.name.removeprefix('test_')}"
        for file in sorted(LIVE.glob("test_*.py"))
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    )


def function(check: Check) -> Check:
    """A check without its parameter."""
    return check.partition("[")[0]


def file_of(check: Check) -> str:
    """The test file that a check is in."""
    return str(LIVE / f"test_{check.partition('::')[0]}.py")


def variant(nodeid: str, host: str) -> Check:
    """pytest's name of a check without the host: ``…/test_mta.py::test_x[mta-TLS 1.1]`` → ``mta::x[TLS 1.1]``."""
    path, _, rest = nodeid.partition("::test_")
    name, _, parameters = rest.partition("[")
    parameters = parameters.removesuffix("]")
    others = (
        ""
        if parameters == host
        else parameters.removeprefix(f"{host}-")
        if parameters.startswith(f"{host}-")
        else parameters.removesuffix(f"-{host}")
    )
    return f"{Path(path).stem.removeprefix('test_')}::{name}" + (f"[{others}]" if others else "")


def meant(check: Check, aims: tuple[Check, ...]) -> bool:
    """Whether a check is among these, by its own name or by its function."""
    return check in aims or function(check) in aims
