"""The roles. One package each (docs/adr/0033).

- `roles/NAME/__init__.py`: `ROLE`, all that the rest of the product reads about it (`outpost.office.role`). Pure, without pyinfra.
- `roles/NAME/declare.py`: what a host of the role is to have, as data. `view.py`: what its templates may print.
- `base`: what every host becomes, before its role.

`outpost.office.tables.topology.ROLE_NAMES` are the names of the packages here that are roles.
"""
