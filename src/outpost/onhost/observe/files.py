"""Files that neither a package nor the office put where the host is configured."""

from __future__ import annotations

import glob
import os
import re

from outpost.onhost.observe.declared import is_local
from outpost.onhost.observe.packages import owned_by_packages
from outpost.onhost.observe.places import (
    COMMANDS_BELOW,
    HOMES,
    PACKAGES_OWN,
    PASSING,
    SINGLE,
    UNSCANNED,
    WATCHED,
    expanded,
)
from outpost.onhost.observe.reading import fingerprint

OWN_TRACES = re.compile(
    r"^/root/\.(\w*_?history|lesshst|viminfo|wget-hsts|python_history|sqlite_history|selected_editor|hushlogin|sudo_as\S*)$"
)
"""What programs write down in an administrator's home by themselves."""
UNIT_LINK = re.compile(r"^/(etc|run)/systemd/system/([^/]+\.(wants|requires)/)?[^/]+$")
AUTHORITIES = "/etc/ssl/certs/"
BUNDLED = re.compile(r"^[^/]+$|^/usr/share/ca-certificates/|^/usr/local/share/ca-certificates/")
"""Where the links of update-ca-certificates lead; what they lead to is looked at there."""


def files(declared: set[str]) -> list[str]:
    """Files in directories that configure the host, which neither a package nor the office put there."""
    owned = owned_by_packages()
    seen = [
        path for path in expanded(SINGLE) if os.path.isfile(path) and not OWN_TRACES.match(path)
    ] + expanded(UNSCANNED)
    aliases = [
        f"alias\t{path}\tlink to {os.readlink(path)}"
        for path in owned
        if path.startswith(COMMANDS_BELOW) and os.path.islink(path)
    ]
    homes = (found for name in HOMES for found in glob.glob(f"/home/*/{name}"))
    for top in (*WATCHED, *homes, *expanded(PACKAGES_OWN)):
        for directory, inner, names in os.walk(top):
            links = [name for name in inner if os.path.islink(f"{directory}/{name}")]
            for name in (*names, *links):
                path = f"{directory}/{name}"
                if UNIT_LINK.match(path) and os.path.islink(path):
                    continue  # the units tell
                if path.startswith(AUTHORITIES) and os.path.islink(path) and BUNDLED.match(os.readlink(path)):
                    continue
                seen.append(path)
    return aliases + [
        f"{'local' if is_local(path) else 'file'}\t{path}\t{fingerprint(path)}"
        for path in dict.fromkeys(seen)
        if path not in declared and path not in owned and not PASSING.search(path)
    ]
