"""The scan on the host: compares live state, and files beside the declared ones, with the state after the last apply.

Base installs it and starts it as ``/usr/local/lib/outpost/observe``; only Python's own library. ``look`` prints one JSON object.
``remember`` makes the present state the known one, except for the facts on standard input. Both get the list of files that belong to
the host. ``view`` waits until nobody else changes the host, then prints a scan, states of units and the output of a script that only
reads files (`outpost.converge.observation`). ``release FILE...`` removes attributes and access lists that keep files from being
replaced; ``mode MODE FILE`` sets a file's mode.

A fact is a line ``kind TAB object TAB value``. Two sorts: *states* are compared with ``/var/lib/outpost/known``;
*faults* are wrong whatever was before (a sysctl that differs from its file, a socket outside the role's contract).
"""

OBSERVER = "/usr/local/lib/outpost/observe"
KEY = "OUTPOST_KEEPING_KEY"
"""Environment variable with the office's secret for this host. An intruder could write the known state and cached answers, but not seal them."""
