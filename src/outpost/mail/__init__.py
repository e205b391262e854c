"""Messages on their way, for an administrator who searches for one.

Called by the commands `trace`, `queue` and `peer`.

- `tracing` follows one message across all hosts.
- `queues` lists, holds and releases what waits on the MTAs.
- `peers` prints what the administrator of a peer's mail server needs.
"""
