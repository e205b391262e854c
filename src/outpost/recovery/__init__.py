"""What outlives a host: its backup, its restore, and the end of the office.

Called by the commands `backup`, `restore` and `decommission`, and by the drill (`outpost_lab.drill`).

- `backup` sets up and asks the repositories; `restore` brings a host or a mailbox back.
- `drills` keeps the results of restore drills.
- `decommission` closes an office step by step.
"""
