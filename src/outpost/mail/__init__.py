"""Messages on their way, for an administrator who searches for one.

Called by the commands `trace` and `queue`.

- `tracing` follows one message across all hosts.
- `queues` lists, holds and releases what waits on the MTAs.
"""
