"""What a host becomes, one module a role, called by ``deploy.py`` within pyinfra; what differs is in `outpost.drift`'s words.

- `base`, `network`, `hardening`, `backup`: every host. `dns`, `mta`, `store`, `webmail`: the roles, in the order of trust.
- `shapes`, `operations`, `files`: how any change reaches a host. `guard`: a change of SSH or the packet filter that can be undone.
- `observation`, `drift`, `reporting`, `failures`: what the host shows, what that means, and how it is said.
"""
