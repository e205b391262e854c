"""The scan on the host: what is live and beside the declared files, compared with the state after the last apply.

Base installs it and starts it as ``/usr/local/lib/outpost/observe``; only Python's own library. ``look`` prints one JSON
object; ``remember`` makes the present state the known one, except for the facts on standard input; both are told which
files are the host's own. ``view`` waits for others to leave the host alone, and prints a scan, states of units and what a script says
that reads files alone (`outpost.converge.observation`). ``release FILE...`` takes away attributes and access lists that keep files from being replaced; ``mode MODE FILE`` sets one's mode.

A fact is a line ``kind TAB object TAB value``. Two sorts: *states* are compared with ``/var/lib/outpost/known``;
*faults* are wrong whatever was before (a sysctl that differs from its file, a socket outside the role's contract).
"""

OBSERVER = "/usr/local/lib/outpost/observe"
KEY = "OUTPOST_KEEPING_KEY"
"""In the environment: the office's secret for this host. An intruder could write the known state and answers that were kept, but not seal them."""
