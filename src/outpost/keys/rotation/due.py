"""Every step of every kind that is due now. One kind that must wait or fails does not keep the others back."""

from collections.abc import Callable

from outpost.errors import OutpostError
from outpost.keys.rotation import accounts, dkim, dnssec, hosts, tls
from outpost.keys.rotation.engine import Desk, NotYetError
from outpost.office.roles import serving


def take(desk: Desk) -> None:
    """Take these steps."""
    kinds: tuple[Callable[[Desk], object], ...] = (_dkim, dnssec.keep, _accounts, _tls, _hosts)
    failed: list[OutpostError] = []
    for kind in kinds:
        try:
            kind(desk)
        except NotYetError as wait:
            desk.report(f"waits: {wait.message}")
        except OutpostError as error:
            failed.append(error)
    if failed:
        raise OutpostError("; ".join(error.message for error in failed), failed[0].remedy)


def _dkim(desk: Desk) -> None:
    if dkim.due(desk):
        dkim.begin(desk)
    while dkim.go_on(desk):
        pass


def _tls(desk: Desk) -> None:
    for host in tls.hosts(desk):
        if tls.due(desk, host):
            tls.roll(desk, host)
        else:
            tls.note_published(desk, host)


def _hosts(desk: Desk) -> None:
    if hosts.due(desk):
        hosts.roll(desk, keys=False)


def _accounts(desk: Desk) -> None:
    if accounts.learn(desk, [host.name for host in desk.office.hosts]):
        desk.apply(serving(desk.office, "names"))
