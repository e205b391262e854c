"""The peers: the same hosts with the same content, kept by Ansible."""
