"""The office's content by pyinfra's own operations, as its documentation shows them: a deploy for raw pyinfra.

Its inventory is made by `outpost_lab.benchmarks.peers.setup`; it never looks ahead, and asks each operation's facts by themselves.
"""

from io import BytesIO
from typing import Any

from pyinfra.context import host
from pyinfra.operations import apt, files, server, systemd

content = host.data.content
each: Any = host.loop

for number, names in enumerate(each(content.packages)):
    apt.packages(name=f"packages {number}", packages=names, no_recommends=True)
for name in each(content.groups):
    server.group(name=f"group {name}", group=name, system=True)
for account in each(content.accounts):
    server.user(
        name=f"account {account['user']}", user=account["user"], home=account["home"], shell=account["shell"],
        groups=[account["user"], *account["groups"]], append=True, system=True, ensure_home=False,
    )  # fmt: skip
for directory in each(content.directories):
    files.directory(
        name=directory["path"],
        path=directory["path"],
        user=directory["owner"],
        group=directory["group"],
        mode=directory["mode"],
    )
for path, (mode, owner, group, body) in each(content.files.items()):
    files.put(name=path, src=BytesIO(body), dest=path, user=owner, group=group, mode=mode)
for unit in each(content.units):
    systemd.service(name=unit, service=unit, running=True, enabled=True)
