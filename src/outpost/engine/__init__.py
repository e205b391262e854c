"""From the office file to changed hosts: plan and apply.

The command line (`outpost plan`, `outpost apply`), rotation, restore and decommissioning call it. pyinfra itself runs
``deploy.py`` in a process of its own, which calls `roles`.

- `preflight` examines machines before the first apply.
- `run` starts pyinfra, and `follower` reads its log; `rollout` applies host after host and verifies each.
- `claim` lets one controller at a time change a host.
- `unchanged` answers without pyinfra where neither the office nor the hosts have changed.
"""
