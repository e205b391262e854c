"""The roles. One package each (docs/adr/0033).

- `roles/NAME/__init__.py`: `ROLE`, all that the rest of the product reads about it (`outpost.office.role`). Pure, without pyinfra.
- `roles/NAME/become.py`: what a host of the role becomes. `view.py`: what its templates may print.
- `base`: what every host becomes, before its role.
"""

from pathlib import Path

NAMES = tuple(
    sorted(
        file.parent.name for file in Path(__file__).parent.glob("*/become.py") if file.parent.name != "base"
    )
)
"""Every package here that is a role."""
