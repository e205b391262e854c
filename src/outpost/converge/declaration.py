"""What the roles declare for a host, without any host."""

from __future__ import annotations

import runpy

from pyinfra.api.config import Config
from pyinfra.api.inventory import Inventory
from pyinfra.api.state import State
from pyinfra.context import ctx_config, ctx_host, ctx_state

from outpost.converge.files import NOLOGIN
from outpost.converge.observation import Declared, declared
from outpost.keys.secrets_file import Secrets
from outpost.office import Office
from outpost.target import ROOT


def declaration(office: Office, secrets: Secrets, name: str) -> Declared:
    """Run the deploy for one host of an office; its operations are not made."""
    data = {"office": office, "secrets": secrets, "machine": name}
    inventory = Inventory(([(f"@fake/{name}", data)], {}))  # type: ignore[no-untyped-call]
    config = Config()  # type: ignore[no-untyped-call]
    state = State(inventory, config)
    with ctx_state.use(state), ctx_host.use(next(iter(inventory))), ctx_config.use(config):
        declared().alone = True
        runpy.run_path(str(ROOT / "deploy.py"))
        return declared()


def shown(known: Declared) -> dict[str, dict[str, tuple[str, ...]]]:
    """All of it by kind and name. No digest of a secret: a short one could be guessed from it."""
    kinds: dict[str, dict[str, tuple[str, ...]]] = {
        "package": {name: () for names in known.packages for name in names},
        "group": dict.fromkeys(known.groups, ()),
        "account": {name: (home or "-", NOLOGIN) for name, home in known.accounts.items()},
        "directory": dict(known.directories),
        "file": {
            path: (file.mode, file.owner, file.group, "secret" if file.secret else file.sha256)
            for path, file in known.content.items()
        },
        "absent": dict.fromkeys(known.absent, ()),
        "unit": dict.fromkeys(known.units, ()),
    }
    return {kind: dict(sorted(things.items())) for kind, things in kinds.items()}
