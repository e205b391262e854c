"""What holds on the running hosts: the checks of ``tests/live``, run and compared with earlier runs.

Called by `outpost verify`, and by an apply after each wave.

- `live` runs the checks with pytest (it is also their plugin) and gives a verdict.
- `ahead` asks each host all questions of its checks in one round trip.
- `history` keeps the runs and says what is different.
"""
