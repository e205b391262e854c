"""The lab: an Internet in a box around a project office, on Docker, several side by side.

``engine`` finds or installs Docker, ``images`` builds what the containers start from, ``networks`` makes
zones of Docker networks, ``world`` says which machines stand around the office and renders their
configuration, ``instance`` is what remains between two commands, ``up`` and ``down`` do the work.
"""

from outpost.lab.errors import LabError

__all__ = ["LabError"]
