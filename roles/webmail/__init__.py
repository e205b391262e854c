"""Webmail: nginx and Roundcube, with neither mail nor passwords."""

from outpost.errors import OutpostError
from outpost.office import ports
from outpost.office.model import Office
from outpost.office.role import NewHost, Role, Shown
from outpost.office.size import MIB, WORKER_MIB, CgroupLimit, Size
from outpost.office.tables.topology import ZoneKind

DATABASE = "/var/lib/roundcube/db/roundcube.sqlite"
FORMER = "/var/lib/roundcube/db/former"
CLIENT_SETUP = ("autoconfig", "autodiscover")
"""Labels at which mail programs fetch their settings (Thunderbird, Outlook)."""
POLICY_NAMES = ("mta-sts", *CLIENT_SETUP)
"""Labels below the domain that the host answers for (the first: RFC 8461)."""


def _limits(size: Size) -> dict[str, CgroupLimit]:
    encoding = max(2, size.php_workers // 4) * size.request_memory
    php = WORKER_MIB * size.php_workers + (size.volatile_size + size.session_room + encoding) // MIB
    return {
        "nginx.service": CgroupLimit(192 + size.volatile_size // MIB, 32),
        "php8.4-fpm.service": CgroupLimit(php, 32 + 2 * size.php_workers),
    }


def _published(office: Office) -> tuple[ZoneKind, ...]:
    return ("users", "internet") if office.webmail.open_to_internet else ("users",)


def _guide(office: Office, language: str) -> str:
    from roles.webmail.guide import LANGUAGES, page

    if language not in LANGUAGES:
        raise OutpostError(
            f"no guide in the language {language!r}", f"write --language {' or '.join(LANGUAGES)}"
        )
    return page(office, language).content.decode()


ROLE = Role(
    name="webmail",
    trust=40,
    hosts=(
        NewHost(
            "webmail", 41, ("wan", "core", "lan", "mgmt"), "users' browsers; keeps neither mail nor passwords"
        ),
    ),
    published=_published,
    duties=("browsers",),
    disk=4096,
    memory=lambda size: 1024 + size.beyond_smallest * WORKER_MIB // 10,
    limits=_limits,
    shown=Shown(unit="nginx.service", ports=lambda _office: (ports.HTTPS,), probe="443", labels=POLICY_NAMES),
    kept=lambda _office, _host: (
        {"kind": "sqlite", "path": DATABASE, "owner": "roundcube"},
        {"kind": "copy", "path": FORMER, "owner": "roundcube"},
    ),
    owners={"roundcube": "/var/lib/roundcube"},
    erased=("/var/lib/roundcube/db", "/etc/roundcube/config.inc.php"),
    stopped=("nginx.service", "php8.4-fpm.service"),
    reloads={"/etc/nginx/": "nginx.service", "/etc/php/": "php8.4-fpm.service"},
    programs=("nginx",),
    guide=_guide,
)
