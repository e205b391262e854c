"""The secrets of an office: made, encrypted beside the office file, published, rotated.

Called by the roles (which render them), the inventory, the commands `secrets`, `rotate` and `user`.

- `pairs` makes private keys and the certificates for them.
- `model`: what they are, and their public halves that the zone shows.
- `secrets_file` reads, completes and writes ``secrets.age``.
- `rotation` replaces keys, one module for each kind.
"""
