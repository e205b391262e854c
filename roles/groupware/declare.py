"""Groupware: nginx, and behind it Radicale, which has no network and sees no password.

nginx asks the store before each request whether the login is right, and passes the user's name to Radicale.
"""

import shlex

import outpost.onhost.davquota
from outpost.converge.declaration import Items
from outpost.converge.files import File, as_json, program, rendered, text
from outpost.converge.shapes import absent, account, confined, directory, once, packages, service, settings
from outpost.drift.differences import Finding
from outpost.keys.model import Secrets
from outpost.office import Host, Office, ports
from roles.base.declare import tls_files
from roles.groupware import CACHE, STORAGE
from roles.groupware.view import GroupwareView

PACKAGES = ("gunicorn", "nginx", "radicale")
TOOL = "/usr/local/lib/outpost/calendars"
AS_RADICALE = "runuser -u radicale --"
CONFIG = ("/etc/radicale/config", "/etc/radicale/rights")


def declare(*, office: Office, me: Host, secrets: Secrets) -> Items:
    """Declare the office's calendar host."""
    view = GroupwareView(office, me)
    yield packages(*PACKAGES)
    yield account("radicale", home=STORAGE)
    yield absent("Debian's default site", ("/etc/nginx/sites-enabled/default",))
    for place in (STORAGE, CACHE):
        yield directory(place, owner="radicale", group="radicale", mode="0700")
    yield from _collections(view)
    yield from _radicale(view)
    yield from _web_server(view, tls_files(office=office, me=me, secrets=secrets))


def _collections(view: GroupwareView) -> Items:
    """The office's shared calendars, and the calendars of former users. Only Radicale's own account changes its files."""
    tool = _from_template(TOOL, view, mode="0755")
    yield settings(name="calendars-tool", files=[tool], check=f"sh -n {TOOL}")
    yield once(
        "the office's shared calendar and address book",
        unless=f"{AS_RADICALE} {TOOL} made",
        untouched=(f"{STORAGE}/collection-root/{view.shared}/*", f"{CACHE}/*"),
        command=f"{AS_RADICALE} {TOOL} make",
    )
    former = f"{AS_RADICALE} {TOOL} {{}} {shlex.join(view.office.mailboxes)}"
    yield once(
        "calendars of former users are archived",
        unless=f'! [ -x {TOOL} ] || [ -z "$({former.format("former")})" ]',
        untouched=(f"{STORAGE}/collection-root/*",),
        command=former.format("archive"),
        finding=Finding(
            "account",
            "at groupware, that the office does not declare",
            "there are calendars of a user who is not in the office file: the user was removed there, or they were added by hand",
            f"they move to {STORAGE}/former",
            ("AUT-07",),
        ),
    )
    about = {"D:displayname": view.office.organisation, "tag": "VADDRESSBOOK"}
    cards = (text(f"{view.directory}/{name}", card) for name, card in view.cards.items())
    yield settings(name="directory", files=[as_json(f"{view.directory}/.Radicale.props", about), *cards])


def _radicale(view: GroupwareView) -> Items:
    quota = program("/usr/local/lib/outpost/dav/davquota.py", outpost.onhost.davquota)
    unit = _unit("radicale.service.d/outpost.conf", view)
    yield confined("radicale-unit", "radicale.service", [unit, quota])
    yield service(name="radicale-socket", unit="radicale.socket", files=[_unit("radicale.socket", view)])
    yield service(name="radicale", files=[_from_template(path, view) for path in CONFIG])


def _web_server(view: GroupwareView, certificates: tuple[File, ...]) -> Items:
    yield confined("nginx-unit", "nginx.service", [_unit("nginx.service.d/outpost.conf", view)])
    nginx, check = _from_template("/etc/nginx/nginx.conf", view), "nginx -t -q"
    yield service(name="nginx", files=[nginx], watches=certificates, check=check, on_change="reload")


def _unit(name: str, view: GroupwareView) -> File:
    return _from_template(f"/etc/systemd/system/{name}", view)


def _from_template(path: str, view: GroupwareView, mode: str = "0644") -> File:
    return rendered("groupware", path, mode=mode, view=view, ports=ports)
