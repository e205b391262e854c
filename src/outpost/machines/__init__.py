"""Machines before their first apply: what the first boot of each needs, so that nothing is typed at a console.

``seed`` makes NoCloud seeds for cloud-init. The command line is in ``outpost.cli.machines``.
"""
