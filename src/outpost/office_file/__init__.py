"""Writing ``office.toml``: a new one, and people in an existing one. Reading it is `outpost.office.load`.

Called by the commands `new`, `user`, `alias`, `group`, `shared`, and when an office is closed.

- `new` makes the file of a new office from a few answers.
- `people` adds, changes and removes entries and keeps comments.
"""
