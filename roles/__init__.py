"""The roles. One package each (docs/adr/0033).

- `roles/NAME/__init__.py`: `ROLE`, all that the rest of the product reads about it (`outpost.office.role`). Pure, without pyinfra.
- `roles/NAME/declare.py`: what a host of the role is to have, as data. `view.py`: what its templates may print.
- `base`: what every host becomes, before its role.
"""

from pathlib import Path

NAMES = tuple(
    sorted(
        file.parent.name for file in Path(__file__).parent.glob("*/declare.py") if file.parent.name != "base"
    )
)
"""Every package here that is a role."""
