"""Replace DKIM keys in stages. None of them can be skipped.

1. Generate and publish a new pair.
2. Every name server shows it.
3. Two TTLs later, sign with it.
4. The old pair stays published while messages with its signature are on their way.
5. Revoke the old pair with an empty ``p=``, and destroy its private keys.
6. Remove it.

A receiver therefore always finds the key of a message (RFC 6376, section 3.1; M3AAWG, "DKIM Key Rotation Best Common
Practices").
"""

from datetime import datetime, timedelta

from pydantic import SecretStr

from outpost.keys.model import DkimKeys, Secrets, public_keys
from outpost.keys.rotation import engine
from outpost.keys.rotation.engine import Desk, NotYetError, Rows, spoken
from outpost.keys.secrets_file import new_dkim, new_selector
from outpost.office.dns import Record, dkim_selector, office_zone
from outpost.office.role import serving


def begin(desk: Desk) -> str:
    """Generate a pair and publish it; mail is still signed with the old pair. Returns the new selector."""
    if pending := _in_stage(desk.secrets, "published"):
        message = f"{pending[0]} is published, but not in use yet"
        raise NotYetError(message, "go on with: ./outpost rotate dkim OFFICE")
    now = desk.now()
    selector = new_selector(desk.secrets.dkim, now)
    desk.change(dkim=desk.secrets.dkim | {selector: new_dkim(now, "published")})
    desk.report(f"generated {selector}")
    _publish(desk)
    return selector


def go_on(desk: Desk) -> bool:
    """Take all steps that are due, for old pairs and the new one; returns whether there was one."""
    return any([_settle(desk), _retire(desk), _use(desk)])


def advance(desk: Desk) -> None:
    """Take the step that an administrator asks for: use the published pair, or publish a new one."""
    pending = _in_stage(desk.secrets, "published")
    go_on(desk)
    if not pending:
        begin(desk)


def due(desk: Desk) -> bool:
    """Whether the pair in use has reached its lifetime and no successor is published."""
    age = min((keys.since or _LONG_AGO for keys in desk.secrets.signing.values()), default=desk.now())
    waited = desk.now() - age >= timedelta(seconds=desk.office.dns.dkim_lifetime)
    return waited and not _in_stage(desk.secrets, "published")


def status(desk: Desk) -> Rows:
    """Selector, stage and what comes next, oldest first."""
    return [(selector, keys.stage, _next(desk, keys)) for selector, keys in desk.secrets.dkim.items()]


def _next(desk: Desk, keys: DkimKeys) -> str:
    since = keys.since or desk.now()
    if keys.stage == "published":
        return f"signs from {spoken(_usable(desk, keys))}" if keys.seen else "waits for every name server"
    if keys.stage == "active":
        return f"rolls after {spoken(since + timedelta(seconds=desk.office.dns.dkim_lifetime))}"
    if keys.stage == "retired":
        return f"revoked after {spoken(_retired_until(desk))}"
    return f"removed after {spoken(since + _retention(desk))}"


_LONG_AGO = datetime.fromisoformat("2000-01-01T00:00:00+00:00")


def _settle(desk: Desk) -> bool:
    """A run was interrupted after a switch was written down: the MTAs may still sign with the old pair."""
    unsettled = [name for name, keys in desk.secrets.signing.items() if keys.seen is None]
    if not unsettled or not _in_stage(desk.secrets, "retired"):
        return False
    _sign(desk)
    return True


def _use(desk: Desk) -> bool:
    pending = _in_stage(desk.secrets, "published")
    if not pending:
        return False
    selector, *_ = pending
    keys = desk.secrets.dkim[selector]
    if keys.seen is None:
        _publish(desk)
        return True
    engine.expect_usable(desk, selector, keys.seen)
    if absent := engine.missing(desk.office, _records(desk, selector)):
        _change(desk, selector, seen=None)
        remedy = "repair that name server, then run this command again"
        raise NotYetError(f"{selector} is no longer shown by {'; '.join(absent)}", remedy)
    now = desk.now()
    changed = {
        name: keys.model_copy(update={"stage": "retired", "since": now, "seen": None})
        for name, keys in desk.secrets.signing.items()
    }
    changed[selector] = keys.model_copy(update={"stage": "active", "since": now, "seen": None})
    desk.change(dkim=desk.secrets.dkim | changed)
    _sign(desk)
    return True


def _publish(desk: Desk) -> None:
    desk.apply(serving(desk.office, "names"))
    for selector in _in_stage(desk.secrets, "published"):
        if absent := engine.missing(desk.office, _records(desk, selector)):
            remedy = "run this command again; if it fails again, run ./outpost verify OFFICE to see what is wrong with the name server"
            raise NotYetError(f"{selector} is not shown by {'; '.join(absent)}", remedy)
        _change(desk, selector, seen=desk.now())
        usable = spoken(_usable(desk, desk.secrets.dkim[selector]))
        desk.report(f"{selector} is shown by every name server; it may sign from {usable}")


def _sign(desk: Desk) -> None:
    desk.apply(serving(desk.office, "transport"))
    for selector in _in_stage(desk.secrets, "active"):
        _change(desk, selector, seen=desk.now())
        desk.report(f"mail is signed with {selector}")


def _retire(desk: Desk) -> bool:
    """Old pairs: revoke them, remove them later."""
    done = False
    for selector, keys in tuple(desk.secrets.dkim.items()):
        if keys.stage == "retired" and desk.now() >= _retired_until(desk):
            destroyed = dict.fromkeys(("rsa", "ed25519"), SecretStr(""))
            _change(desk, selector, stage="revoked", since=desk.now(), **destroyed)
            desk.report(f"revoked {selector}; its private keys are destroyed")
            done = True
        elif keys.stage == "revoked" and desk.now() >= (keys.since or desk.now()) + _retention(desk):
            desk.change(dkim={name: kept for name, kept in desk.secrets.dkim.items() if name != selector})
            desk.report(f"removed {selector}")
            done = True
    if done:  # the MTAs remove a revoked pair, which workers might have used until now
        desk.apply((*serving(desk.office, "names"), *serving(desk.office, "transport")))
    return done


def _records(desk: Desk, selector: str) -> list[Record]:
    selectors = (dkim_selector(selector, algorithm) for algorithm in ("rsa", "ed25519"))
    names = {f"{name}._domainkey.{desk.office.domain}." for name in selectors}
    zone = office_zone(desk.office, public_keys(desk.secrets))
    return [record for record in zone.records if record.name in names]


def _usable(desk: Desk, keys: DkimKeys) -> datetime:
    return engine.usable(desk, keys.seen or desk.now())


def _retired_until(desk: Desk) -> datetime:
    """Retire the old pair only when the MTAs are known to sign with the new one, not when that was decided."""
    switched = [keys.seen for keys in desk.secrets.signing.values()]
    last = max((seen for seen in switched if seen), default=desk.now())
    return last + _retention(desk)


def _retention(desk: Desk) -> timedelta:
    return timedelta(seconds=desk.office.dns.dkim_retention)


def _in_stage(secrets: Secrets, stage: str) -> list[str]:
    return [selector for selector, keys in secrets.dkim.items() if keys.stage == stage]


def _change(desk: Desk, selector: str, **changes: object) -> None:
    changed = desk.secrets.dkim[selector].model_copy(update=changes)
    desk.change(dkim=desk.secrets.dkim | {selector: changed})
