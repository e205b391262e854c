"""How the controller reaches a host, and how it reads the host's answers.

Called by everything that runs something on a host. It does not depend on what is asked.

- `ssh` writes the OpenSSH configuration of an office; `connector` is pyinfra's way to a host (SSH or a container).
- `remote` runs one script on a host; `shell` sends many questions over one connection.
- `answers` reads a host's output, bounded and typed, because it is hostile input.
"""
