"""Machines before their first apply, so that nothing is typed at a console.

- `seed`: what the first boot of each needs, as NoCloud seeds for cloud-init.
- `hypervisor`: the guests of one server as the office declares them, pure. `server`: what the server has. `guests`: the steps, pure.
  `up`: runs them by pyinfra (`deploy`).
- `keys`: what the office's secrets keep for machines.
- `image`: a bootable disk image.

The command line is in ``outpost.cli.machines``.
"""
