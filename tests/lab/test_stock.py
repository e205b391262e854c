"""pyinfra's own operations and the roles agree: both report the same changes, and both find a converged host correct.

`stock.py` has in stock operations what the roles declare.
"""

from __future__ import annotations

import random
import shlex
from pathlib import Path

import pytest

from outpost.converge.declaration import Declaration, declarations
from outpost.engine.run import Silent, apply, plan
from outpost.target import Target
from outpost_lab.instance import Instance
from tests.engine import executed
from tests.lab.conftest import Pyinfra

INVENTORY = """\
from outpost.converge.declaration import declarations as _contents_of
from outpost.hosts import docker as _docker, lab_directory as _lab_directory

_contents = _contents_of(_lab_directory())
office = [
    (name, data | {{"content": _contents[data["machine"]]}})
    for name, data in _docker(_lab_directory())
    if data["machine"] == {host!r}
]
"""
STOCK = Path(__file__).with_name("stock.py")
Drift = tuple[str, str]
"""The name of a thing, and the shell that changes it."""


def drifts(content: Declaration, never_right: set[str], chance: random.Random) -> list[Drift]:
    """A change of each kind, to random things; nothing twice. Args: never_right: Things that stock operations change at each run."""
    # the plan's scan uses programs below /usr/local/lib/outpost
    plain = [path for path in content.content if not path.startswith("/usr/local/lib/outpost/")]
    accounts = [user for user in content.accounts if user not in never_right]
    paths = chance.sample(plain, 5)
    quoted = [shlex.quote(path) for path in paths]
    unit = chance.choice([unit for unit in content.units if unit.endswith(".timer")])
    place = chance.choice([*content.directories])
    return [
        (paths[0], f"chmod 0600 {quoted[0]}; chmod g+x,o+w {quoted[0]}"),
        (paths[1], f"chown nobody {quoted[1]}"),
        (paths[2], f"echo '# by hand' >> {quoted[2]}"),
        (paths[3], f"rm {quoted[3]}"),
        (paths[4], f": > {quoted[4]}"),
        (place, f"chmod 0701 {shlex.quote(place)}"),
        (unit, f"systemctl disable --now --quiet {unit}"),
        *(
            (account, f"usermod --shell /bin/dash {account}")
            for account in chance.sample(accounts, min(1, len(accounts)))
        ),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("host", ["store", "ns1"])
def test_what_stock_operations_would_change_is_named_and_then_they_would_change_nothing(
    host: str, lab: Instance, pyinfra: Pyinfra, target: Target, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    inventory = tmp_path / "stock_hosts.py"
    inventory.write_text(INVENTORY.format(host=host))

    def judged() -> set[str]:
        run = pyinfra("--dry", "--json", inventory=str(inventory), deploy=STOCK)
        assert run.code == 0, run.log
        return {name.rpartition(" ")[2] for name in run.changes}

    seed = pytestconfig.getoption("--seed") or random.SystemRandom().randrange(100_000)
    before = judged()
    chosen = drifts(declarations(lab.directory)[host], before, random.Random(seed))  # noqa: S311 (no secret)
    for _, command in chosen:
        executed(["docker", "exec", lab.container_name(host), "sh", "-c", command], seconds=60)
    changed = judged() - before
    # a unit whose file is missing or empty is reported together with the file
    assert changed >= {thing for thing, _ in chosen}, f"--seed {seed}: the judge itself is blind"
    named = {
        str(finding["thing"])
        for finding in plan(target, connector="docker", watcher=Silent(), limit=(host,)).findings
    }
    assert changed <= named, f"--seed {seed}"
    done = apply(target, connector="docker", watcher=Silent(), limit=(host,))
    assert not done.failed
    assert judged() == before, f"--seed {seed}"
