"""Machines before their first apply, so that nothing is typed at a console.

- `seed`: what the first boot of each needs, as NoCloud seeds for cloud-init.
- `hypervisor`: the guests of one server as the office declares them, pure. `server`: what the server has. `guests`: the steps, pure.
  `up`: runs them by pyinfra (`deploy`).
- `hardening`: the baseline of that server itself.
- `image`: a bootable disk image.

The command line is in ``outpost.cli.machines``.
"""
