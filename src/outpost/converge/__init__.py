"""How a declaration reaches a host: ordinary pyinfra operations, called by the roles and by ``deploy.py``.

- `shapes`, `operations`, `files`: how any change reaches a host. `guard`: a change of SSH or the packet filter that can be undone.
- `observation`, `drift`, `reporting`, `failures`: what the host shows, what that means, and how it is reported.
"""
