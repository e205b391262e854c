"""A time server: the chrony of every host, which also answers here."""

from outpost.converge.declaration import Items
from outpost.converge.files import rendered
from outpost.converge.shapes import settings
from outpost.keys.model import Secrets
from outpost.office import Host, Office
from outpost.units import restarted
from roles.timeserver.view import TimeView


def declare(*, office: Office, me: Host, secrets: Secrets) -> Items:  # noqa: ARG001
    """Declare chrony as a server for the office's hosts."""
    yield settings(
        name="time-service",
        files=[rendered("timeserver", "/etc/chrony/conf.d/outpost.conf", view=TimeView(office, me))],
        check="chronyd -p -f /etc/chrony/chrony.conf >/dev/null",
        activate=restarted("chrony.service"),
    )
