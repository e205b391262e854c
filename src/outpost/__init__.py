"""Outpost: a project office's mail system, provisioned, re-applied and proven.

The packages, from the bottom up; each may import only those above it in this list (docs/adr/0032, ``tests/lint/test_layers.py``):

- `errors`, `units`, `target`, `templates`, `tools`: small things that every package uses.
- `onhost`: programs that run on the hosts. They import nothing of the others.
- `office`: the model of an office and its views; pure. `office_file` writes ``office.toml``.
- `transport`: how a host is reached, and its answers.
- `verification`: runs the checks of ``tests/live``.
- `engine`: plan and apply.
- `keys`: secrets and their rotation.
- `hosts`: pyinfra's inventory. The inventory files of offices import it by this name.
- `drift`: what a difference means. `converge`: how a declaration reaches a host (pyinfra's operations).
- `roles` (beside ``src``): one package each, what its hosts are to have and what all others read of it (docs/adr/0033).
- `machines`: what new machines boot with, and a server's guests.
- `mail`, `recovery`, `evidence`: what administrators and auditors ask of a running office.
- `cli`: the command line.

Below `cli` and above all others stands `outpost_lab`: the lab, attacks, judges, the restore drill, benchmarks.
"""

__version__ = "1.1.0.dev0"
