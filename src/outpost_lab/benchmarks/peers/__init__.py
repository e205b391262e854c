"""The peers: the same hosts with the same content, kept by Ansible and by pyinfra's own operations."""
