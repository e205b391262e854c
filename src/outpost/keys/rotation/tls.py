"""Public TLS keys roll from the current one to the next, whose TLSA record has been in the DNS all the time.

The switch is refused until every authoritative name server has shown the next key's record for two TTLs: for a sender with the
old records in its cache the new key would be an attack, and its mail would wait (RFC 7671, section 8.1;
RFC 7672, section 2.2). After it the old key stays published until the host is seen to show the new one. A host that fetches its
certificate by ACME uses its old pair until it has one for the new key.
"""

from datetime import datetime, timedelta

from outpost.errors import OutpostError
from outpost.keys.model import NextKey, public_keys
from outpost.keys.pairs import issue_public, new_key
from outpost.keys.rotation import engine
from outpost.keys.rotation.engine import Desk, NotYetError, Rows, spoken
from outpost.keys.secrets_file import public_pair
from outpost.office.certificates import mode, public_names, signing_service
from outpost.office.dns import Record, key_digest, office_zone
from outpost.office.role import role_of, serving
from outpost.office.tables.topology import Host
from outpost.transport.remote import run_script


def hosts(desk: Desk, name: str | None = None) -> tuple[Host, ...]:
    """Hosts with a public key: all, or the one of that name."""
    known = tuple(host for host in desk.office.hosts if host.name in desk.secrets.public_next)
    chosen = tuple(host for host in known if name in (None, host.name))
    if name and not chosen:
        remedy = f"choose one of: {', '.join(host.name for host in known) or 'none yet'}"
        raise OutpostError(f"{name} has no public key", remedy)
    return chosen


def roll(desk: Desk, host: Host) -> None:
    """Take the next step: finish an interrupted switch, else switch to the next key."""
    if host.name not in desk.secrets.public_past:
        engine.expect_usable(desk, f"the next key of {host.name}", note_published(desk, host))
        _switch(desk, host)
    _finish(desk, host)


def note_published(desk: Desk, host: Host) -> datetime:
    """Note since when every name server has shown the host's records; returns that."""
    upcoming = desk.secrets.public_next[host.name]
    if absent := engine.missing(desk.office, records(desk, host)):
        _note(desk, host, None)
        remedy = f"./outpost apply {desk.target.typed} --limit dns, then run this command again"
        raise NotYetError(f"the next key of {host.name} is not shown by {'; '.join(absent)}", remedy)
    if upcoming.seen is None:
        _note(desk, host, desk.now())
    return upcoming.seen or desk.now()


def due(desk: Desk, host: Host) -> bool:
    """Whether the key in use has reached its lifetime, or a switch was interrupted."""
    since = desk.secrets.public_next[host.name].since
    old = since is not None and desk.now() - since >= timedelta(seconds=desk.office.tls.key_lifetime)
    return old or host.name in desk.secrets.public_past


def status(desk: Desk) -> Rows:
    """Host, stage and what comes next; queries the name servers."""
    rows = []
    for host in hosts(desk):
        if host.name in desk.secrets.public_past:
            following = f"go on with: ./outpost rotate tls {desk.target.typed} {host.name}"
            rows.append((host.name, "switching", following))
            continue
        try:
            usable = engine.usable(desk, note_published(desk, host))
        except NotYetError as wait:
            rows.append((host.name, "not published everywhere", wait.message))
            continue
        ready = "may be used now" if desk.now() >= usable else f"may be used after {spoken(usable)}"
        rows.append((host.name, mode(desk.office, host) or "", f"the next key {ready}{_account(desk, host)}"))
    return rows


def records(desk: Desk, host: Host) -> tuple[Record, ...]:
    ends = tuple(f"._tcp.{name}." for name in public_names(desk.office, host))
    zone = office_zone(desk.office, public_keys(desk.secrets))
    return tuple(record for record in zone.records if record.type == "TLSA" and record.name.endswith(ends))


def _switch(desk: Desk, host: Host) -> None:
    kept = desk.secrets
    old, upcoming = kept.public[host.name], kept.public_next[host.name]
    pair = issue_public(desk.office, host, kept.authority, upcoming.key, desk.now())
    update = {
        "public": kept.public | {host.name: pair},
        "public_next": kept.public_next | {host.name: NextKey(key=new_key(), since=desk.now())},
        "public_past": kept.public_past | {host.name: key_digest(old.certificate)},
    }
    changed = kept.model_copy(update=update)
    public_pair(
        desk.office, host, changed
    )  # a provided certificate is for the new key before anything changes
    desk.keep(changed)


def _finish(desk: Desk, host: Host) -> None:
    pair = desk.secrets.public[host.name]
    if _shown_digest(desk, host) != key_digest(pair.certificate):
        desk.apply((host,))
        if mode(desk.office, host) == "acme":
            _fetch(desk, host)
        if _shown_digest(desk, host) != key_digest(pair.certificate):
            remedy = f"run systemctl status {signing_service(host)} on {host.name}, then run the same command again"
            raise NotYetError(f"{host.name} still shows its old key", remedy)
    desk.report(f"{host.name} shows its new key")
    rest = {name: digest for name, digest in desk.secrets.public_past.items() if name != host.name}
    desk.change(public_past=rest)
    desk.apply(serving(desk.office, "names"))
    desk.report(f"the old key of {host.name} is no longer published; the next one is")
    note_published(desk, host)


def _fetch(desk: Desk, host: Host) -> None:
    try:
        run_script(desk.target, desk.office, host, "systemctl start outpost-certificate.service", desk.via)
    except OutpostError as error:
        message = f"{host.name} has no certificate for its new key yet, and still uses the old key and certificate: {error.message}"
        remedy = "run journalctl -u outpost-certificate on that host to see why; run the same command again when its timer has tried again"
        raise NotYetError(message, remedy) from error


def _shown_digest(desk: Desk, host: Host) -> str:
    """SHA-256 of the public key that the host's daemon shows, not of the key in its files."""
    shown = role_of(host).shown
    if shown is None:
        return ""
    address = desk.office.addresses_of_kind(host, shown.zone)[0]
    script = (
        f"openssl s_client -connect {address}:{shown.probe} -servername {host.fqdn} </dev/null 2>/dev/null "
        "| openssl x509 -noout -pubkey | openssl pkey -pubin -outform DER | sha256sum | cut -d' ' -f1"
    )
    return run_script(desk.target, desk.office, host, script, desk.via, most=1024).strip()


def _account(desk: Desk, host: Host) -> str:
    if mode(desk.office, host) != "acme":
        return ""
    url = public_keys(desk.secrets).account(desk.office, host)
    return f"; ACME account {url or 'not known yet: ./outpost rotate due OFFICE'}"


def _note(desk: Desk, host: Host, seen: datetime | None) -> None:
    upcoming = desk.secrets.public_next[host.name]
    if upcoming.seen != seen:
        changed = upcoming.model_copy(update={"seen": seen})
        desk.change(public_next=desk.secrets.public_next | {host.name: changed})
