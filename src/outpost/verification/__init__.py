"""Checks of the running hosts (``tests/live``): how they run and how runs are compared.

Called by `outpost verify`, and by an apply after each wave.

- `live` runs the checks with pytest (it is also their plugin) and gives a verdict.
- `ahead` asks each host all questions of its checks in one round trip.
- `history` keeps the runs and reports what is different.
"""
