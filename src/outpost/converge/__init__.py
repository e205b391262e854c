"""How a declaration reaches a host: ordinary pyinfra operations, called by ``deploy.py``.

- `declaration`, `shapes`, `files`: what roles declare, as data. `walk`, `operations`: how the hosts are converged.
- `guard`: a change of SSH or the packet filter that can be undone.
- `observation`, `drift`, `reporting`, `failures`: what a host shows, what that means, and how it is reported.
"""
