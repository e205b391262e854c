"""Files in the host's configuration that neither a package nor the office installed."""

import glob
import os
import re

from outpost.onhost.observe import places
from outpost.onhost.observe.declared import CONTRACT, contract_of, is_local
from outpost.onhost.observe.packages import expect_lists, owned_by_packages
from outpost.onhost.observe.places import expanded
from outpost.onhost.observe.reading import fingerprint, named

OWN_TRACES = re.compile(
    r"^/(root|home/[^/]+)/\.(\w*_?history|lesshst|viminfo|wget-hsts|python_history|sqlite_history|hushlogin|sudo_as\S*)\Z"
)
"""Files that programs write into an administrator's home."""
UNITS = ("/usr/lib/systemd/system", "/etc/systemd/system")
UNIT_LINK = re.compile(r"^/(etc|run)/systemd/system/([^/]+\.(wants|requires)/)?[^/\n]+\Z")
AUTHORITIES = "/etc/ssl/certs/"
BUNDLED = re.compile(r"^[^/]+\Z|^/usr/share/ca-certificates/|^/usr/local/share/ca-certificates/")
"""Where the links of update-ca-certificates lead; their targets are scanned there."""


def files(declared: set[str]) -> list[str]:
    """Files in directories that configure the host, which neither a package nor the office installed."""
    single = [
        path
        for path in expanded(places.SINGLE)
        if os.path.isfile(path) and not OWN_TRACES.match(path) and not _of_a_moment(path)
    ]
    homes = (found for name in places.HOMES for found in glob.glob(f"/home/*/{name}"))
    there = filter(os.path.lexists, places.MERGED)
    merged = [f"alias\t{path}\t{fingerprint(path) or 'no link'}" for path in there]
    others = (place for place in expanded(places.PACKAGES_OWN) if not place.startswith("/usr/"))
    tops = [*expanded(places.WATCHED), *homes, *others]
    return merged + strangers([*single, *expanded(places.UNSCANNED), *below(tops)], declared)


def _of_a_moment(path: str) -> bool:
    """Whether it is the file of a unit that systemd-run(1) made, under a name that no lasting unit has; the running units show it."""
    top, name = os.path.split(path)
    return top == places.TRANSIENT and not any(os.path.lexists(f"{lasting}/{name}") for lasting in UNITS)


def files_among_packages(declared: set[str]) -> list[str]:
    """The same below /usr: undeclared files among packages' programs, and the targets of packages' links to commands."""
    aliases = [
        f"alias\t{named(path)}\tlink to {os.readlink(path)}"
        for path in owned_by_packages()
        if path.startswith(places.COMMANDS_BELOW) and os.path.islink(path)
    ]
    tops = [place for place in expanded(places.PACKAGES_OWN) if place.startswith("/usr/")]
    return aliases + strangers(below(tops), declared)


def below(tops: list[str]) -> list[str]:
    """Files there, except links that another scan covers."""
    found = [top for top in tops if os.path.islink(top)]
    accepted = contract_of(CONTRACT).get("accepted", ()) if found else ()
    for top in tops:
        # the files of a directory are gone if somebody has put a link in its place
        if top in found and f"file {top}" not in accepted and top not in owned_by_packages():
            continue
        for directory, inner, names in os.walk(top):
            inner[:] = [name for name in inner if f"{directory}/{name}" not in places.FOR_PEOPLE]
            links = [name for name in inner if os.path.islink(f"{directory}/{name}")]
            for name in (*names, *links):
                path = f"{directory}/{name}"
                if UNIT_LINK.match(path) and os.path.islink(path):
                    continue  # the scan of units covers it
                if path.startswith(AUTHORITIES) and os.path.islink(path) and BUNDLED.match(os.readlink(path)):
                    continue
                found.append(path)
    return found


def strangers(paths: list[str], declared: set[str]) -> list[str]:
    """Files that nobody installed, with a digest of their content."""
    expect_lists()
    owned = owned_by_packages()
    return [
        f"{'local' if is_local(path) else 'compiled' if places.COMPILED.search(path) else 'file'}\t{named(path)}\t{fingerprint(path)}"
        for path in dict.fromkeys(paths)
        if path.removesuffix(places.NEW) not in declared
        and path not in owned
        and not places.PASSING.search(path)
    ]
