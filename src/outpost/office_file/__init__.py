"""Writing ``office.toml``: a new one, and people in an existing one. Reading it is `outpost.office.load`.

The commands `new`, `user`, `alias`, `group` and `shared` call it, and `decommission` when an office is closed.

- `new` makes the file of a new office from a few answers.
- `people` adds, changes and removes entries and keeps comments.
"""
