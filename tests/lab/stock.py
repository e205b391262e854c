"""The office's content by pyinfra's own operations, as its documentation shows them: a deploy for raw pyinfra.

Its inventory is made by `tests.lab.test_stock`; it asks for the facts of each operation separately, and never in advance.
"""

from io import BytesIO
from typing import Any

from pyinfra.context import host
from pyinfra.operations import apt, files, server, systemd

from outpost.converge.declaration import Declaration, Group
from outpost.converge.files import NOLOGIN

content: Declaration = host.data.content
each: Any = host.loop

for number, names in enumerate(each(content.packages)):
    apt.packages(name=f"packages {number}", packages=list(names), no_recommends=True)
for item in each(content.of(Group)):
    server.group(name=item.name, group=item.group, system=True)
for user, home in each(content.accounts.items()):
    server.user(
        name=f"account {user}", user=user, home=home, shell=NOLOGIN, groups=[user], append=True, system=True, ensure_home=False
    )  # fmt: skip
for path, (owner, group, mode) in each(content.directories.items()):
    files.directory(name=path, path=path, user=owner, group=group, mode=mode)
for file in each(content.content.values()):
    files.put(
        name=file.path, src=BytesIO(file.content), dest=file.path, user=file.owner, group=file.group, mode=file.mode
    )  # fmt: skip
for unit in each(content.units):
    systemd.service(name=unit, service=unit, running=True, enabled=True)
