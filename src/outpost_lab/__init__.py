"""The test environment of Outpost: the product never imports it, its command line does when a command of the lab runs.

The modules here are the lab, an Internet in a box around a project office, on Docker, several side by side: ``engine`` finds or
installs Docker, ``images`` builds what the containers start from, ``networks`` makes zones of Docker networks, ``world`` says
which machines stand around the office, ``render`` writes their configuration, ``instance`` is what remains between two
commands, ``up`` brings up and removes, ``office`` deploys the office and sends first messages, ``box`` makes virtual machines.

What works on a lab, or in containers of its own:

- `attack`: the attacks of ``controls/attacks.toml``, with their positive controls.
- `benchmarks`: the rows of `outpost bench`, and the peers that they are measured against.
- `drill`: the restore drill, in throw-away containers (`drill_machines`). `judges`: others' tools, run on an office.
- `pace`: how busy this machine is, for everything that waits.
"""

from outpost_lab.errors import LabError

__all__ = ["LabError"]
