"""Webmail: nginx, PHP-FPM and Roundcube, and the files that other mail systems and mail programs fetch.

It keeps no mail and no password: Roundcube logs in to the store with what the user types, and its sessions are
in memory that only the PHP unit sees.
"""

import shlex
from typing import Any

from outpost.converge.declaration import Items
from outpost.converge.files import File, below, rendered, text
from outpost.converge.shapes import absent, account, confined, directory, once, packages, service, settings
from outpost.drift.differences import Finding
from outpost.keys.model import Secrets
from outpost.office import Host, Office, ports
from outpost.office.dns import mta_sts_policy
from roles.base.declare import tls_files
from roles.webmail.guide import LANGUAGES, PROFILE, apple_profile, page
from roles.webmail.view import WebmailView

PACKAGES = (
    "nginx",
    "php8.4-fpm",  # by name: Debian's "php" would install Apache, too
    "php8.4-zip",  # for several attachments in one download; php8.4-gd is left out: it parses images from strangers
    "roundcube-core",
    "roundcube-plugin-contextmenu",
    "roundcube-plugins",
    "roundcube-sqlite3",
)
PRESEED = (
    # Roundcube's package would create a database of its own, and configure whatever web server it finds
    "roundcube-core roundcube/dbconfig-install boolean false",
    "roundcube-core roundcube/reconfigure-webserver multiselect",
)
DEFAULTS = ("/etc/php/8.4/fpm/pool.d/www.conf", "/etc/nginx/sites-enabled/default")
DATABASES = "/var/lib/roundcube/db"
SESSIONS = "/var/lib/roundcube/sessions"
DATABASE_TOOL = "/usr/local/lib/outpost/roundcube-database"
CONFIG = "/etc/roundcube/config.inc.php"
PHP = ("/etc/php", "/etc/roundcube/plugins", "/var/lib/roundcube/plugins")
"""Directories of the templates of PHP and of Roundcube's plugins."""
STATIC = (
    "/var/www/webmail/office.svg",
    "/var/www/webmail/too-large.html",
    "/var/www/autoconfig/mail/config-v1.1.xml",
    "/var/www/autoconfig/autodiscover/autodiscover.xml",
)


def declare(*, office: Office, me: Host, secrets: Secrets) -> Items:
    view = WebmailView(office, me)
    yield packages(*PACKAGES, preseed=PRESEED)
    yield account("roundcube", home="/var/lib/roundcube")
    yield absent("Debian's default pool and site", DEFAULTS)
    yield from _database(view)
    yield from _roundcube(view, secrets)
    yield from _web_server(view, secrets, tls_files(office=office, me=me, secrets=secrets))


def _database(view: WebmailView) -> Items:
    """Preferences and contacts: the schema is made once, and updated when the package has a newer one."""
    yield directory(DATABASES, owner="roundcube", group="roundcube", mode="0700")
    yield settings(name="roundcube-database", files=[rendered("webmail", DATABASE_TOOL, mode="0755")])
    yield once(
        "Roundcube's database",
        unless=f"runuser -u roundcube -- {DATABASE_TOOL} current",
        untouched=(f"{DATABASES}/*",),
        command=f"runuser -u roundcube -- {DATABASE_TOOL} update",
    )
    former = f"runuser -u roundcube -- {DATABASE_TOOL} {{}} {shlex.join(view.office.mailboxes)}"
    yield once(
        "webmail's rows of former users are archived",
        unless=f'! [ -x {DATABASE_TOOL} ] || [ -z "$({former.format("former")})" ]',
        untouched=(f"{DATABASES}/*",),
        command=former.format("archive"),
        finding=Finding(
            "account",
            "at webmail, that the office does not declare",
            "webmail's database has a user who is not in the office file: the user was removed there, or the row was added by hand",
            "its addresses and identities in webmail move to /var/lib/roundcube/db/former",
            ("AUT-07",),
        ),
    )
    yield once(
        "webmail's database has no object of PHP",
        unless=f'! [ -x {DATABASE_TOOL} ] || {{ found=$(runuser -u roundcube -- {DATABASE_TOOL} objects) && [ -z "$found" ]; }}',
        untouched=(f"{DATABASES}/*",),
        command=f"runuser -u roundcube -- {DATABASE_TOOL} reset",
        finding=Finding(
            "database",
            f"{DATABASES}/roundcube.sqlite",
            "an object of PHP among somebody's preferences or saved searches",
            "PHP makes it when that user logs in, and it may run an intruder's program; these preferences are reset",
            ("BKP-02",),
        ),
    )
    cleaning = _from_template("/etc/systemd/system/roundcube-cleandb.service.d/outpost.conf", view)
    yield service(name="roundcube-cleandb", unit="roundcube-cleandb.timer", files=[cleaning])
    yield once(
        "roundcube-gc masked",  # it would find nothing to clean on the disk, and may not see PHP's memory
        unless="systemctl is-enabled roundcube-gc.timer roundcube-gc.service | grep -cx masked | grep -x 2",
        untouched=(),
        masks=("roundcube-gc.timer", "roundcube-gc.service"),
        command="systemctl mask --now --quiet roundcube-gc.timer roundcube-gc.service",
    )


def _roundcube(view: WebmailView, secrets: Secrets) -> Items:
    """Roundcube and the PHP that runs it."""
    context: dict[str, Any] = {"view": view, "ports": ports}
    key = secrets.webmail_key.get_secret_value()
    protection: dict[str, Any] = {"mode": "0640", "group": "roundcube", "secret": True}
    files = [rendered("webmail", CONFIG, **protection, session_key=key, **context)]
    files += [file for place in PHP for file in below("webmail", place, **context)]
    scripts = (file.path for file in files if file.path.endswith((".php", ".inc")))
    syntax = (f"php --syntax-check {path} >/dev/null" for path in scripts)
    yield directory(SESSIONS)  # the unit has a separate file system there
    yield from _sandbox("php8.4-fpm.service", view)
    yield service(
        name="php8.4-fpm",
        files=files,
        check=" && ".join(["php-fpm8.4 --test", *syntax]),
        on_change="reload",  # a reload ends no session; a restart ends all of them
    )


def _web_server(view: WebmailView, secrets: Secrets, certificates: tuple[File, ...]) -> Items:
    """nginx and what it serves besides Roundcube."""
    policy = text("/var/www/mta-sts/.well-known/mta-sts.txt", mta_sts_policy(view.office))
    profile = apple_profile(view.office, authority=secrets.authority.certificate)
    pages = [page(view.office, language) for language in LANGUAGES]
    static = [_from_template(path, view) for path in STATIC]
    yield settings(name="client-setup", files=[policy, profile, *pages, *static])
    yield from _sandbox("nginx.service", view)
    served: dict[str, Any] = {"view": view, "ports": ports, "profile_path": PROFILE, "languages": LANGUAGES}
    nginx, check = rendered("webmail", "/etc/nginx/nginx.conf", **served), "nginx -t -q"
    yield service(name="nginx", files=[nginx], watches=certificates, check=check, on_change="reload")


def _sandbox(unit: str, view: WebmailView) -> Items:
    drop_in = _from_template(f"/etc/systemd/system/{unit}.d/outpost.conf", view)
    yield confined(f"{unit.removesuffix('.service')}-unit", unit, [drop_in])


def _from_template(path: str, view: WebmailView) -> File:
    return rendered("webmail", path, view=view, ports=ports)
