"""`outpost trace`, `queue`, `alarms` and `peer`: mail on its way, what needs a human, what the other end has to know."""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

from rich.markup import escape

from outpost import alarms, peers, queue, trace
from outpost.answers import line
from outpost.cli.console import Table, duration, out, say_json, size
from outpost.errors import OutpostError
from outpost.office import Office, load
from outpost.office.peering import OtherEnd
from outpost.office.tables.routes import Peer
from outpost.target import LAB, find, labs


def trace_message(
    office: str,
    name: str | None,
    identifiers: list[str],
    via: str | None,
    *,
    since: str,
    last: int,
    as_json: bool,
) -> int:
    """Show the hops of the messages that the identifiers mean."""
    target = find(office, name)
    loaded = load(target.data)
    ask = trace.asker(target, loaded, since=since, last=last, via=via)
    told = trace.found(target, tuple(identifiers), trace.follow(loaded, identifiers, ask))
    if as_json:
        say_json([asdict(story) for story in told])
        return 0
    for story in told:
        out.print(f"[bold]{escape(story.message_id)}[/] (UTC)")
        width = max(len(hop.id) for hop in story.hops)
        for hop in story.hops:
            moment = time.strftime("%d %H:%M:%S", time.gmtime(hop.time)) + f".{int(hop.time % 1 * 1000):03}"
            hop_line = f"{moment}  {hop.host:<7} {escape(hop.id):<{width}}  {escape(hop.what)}"
            out.print(
                hop_line + "".join(f"  [dim]{escape(part)}[/]" for part in (_after(hop), hop.tls) if part)
            )
        out.print(f"{story.hops[-1].time - story.hops[0].time:.1f} s from the first hop to the last\n")
    return 0


def queue_office(
    office: str, name: str | None, via: str | None, *, release: list[str], hold: list[str], as_json: bool
) -> int:
    """Show what waits, after releasing or holding what the words mean."""
    target = find(office, name)
    loaded = load(target.data)
    messages = queue.waiting(target, loaded, via)
    if release:
        queue.release(queue.chosen(messages, release), target, loaded, via)
    if hold:
        queue.hold(queue.chosen(messages, hold), target, loaded, via)
    if release or hold:
        messages = queue.waiting(target, loaded, via)
    if as_json:
        say_json([asdict(message) for message in messages])
        return 0
    if not messages:
        out.print(f"{escape(target.title)}: [green]nothing waits[/]")
        return 0
    routes = Table("route", "messages", "oldest", "most often because", box=None, padding=(0, 2, 0, 0))
    for route, count, age, reason in queue.by_route(messages):
        routes.add_row(route, str(count), duration(age), escape(reason))
    out.print(routes)
    out.print()
    for message in messages:
        told = f"{message.host} [bold]{escape(message.id)}[/] {message.queue}, {duration(time.time() - message.arrived)}"
        out.print(f"{told}, {size(message.size)}, from {escape(message.sender)}")
        for address, reason in message.reasons.items():
            out.print(f"    to {escape(address)}" + (f": {escape(reason)}" if reason else ""))
    return 0


def show_alarms(office: str, name: str | None, via: str | None, *, test: bool, as_json: bool) -> int:
    """What each host would tell now; with `test`, whether it can."""
    target = find(office, name)
    loaded = load(target.data)
    with ThreadPoolExecutor(len(loaded.hosts)) as pool:
        answers = list(
            pool.map(lambda host: alarms.of_host(target, loaded, host, via, test=test), loaded.hosts)
        )
    found = [alarm for answer in answers for alarm in answer]
    if as_json:
        say_json(found)
        return 1 if found else 0
    for alarm in found:
        about, text = (escape(line(alarm[what])) for what in ("about", "text"))
        out.print(f"[bold red]{escape(alarm['host'])}[/] {about}: {text}")
    if not found:
        told = "every host was heard" if test else "no host needs a human"
        paths = (
            ", ".join(path.partition("?")[0] for path in loaded.alarms.tell) or "nobody: see [alarms] tell"
        )
        out.print(f"{escape(target.title)}: [green]{told}[/] (told: {escape(paths)})")
    return 1 if found else 0


def print_peer(
    office: str, name: str | None, peer: str | None, *, postfix: bool, recipients: bool, as_json: bool
) -> int:
    """Print what the other end of each route, or of one, has to set up."""
    from outpost.reference import case_study

    loaded = case_study() if office == LAB and name is None and not _runs() else load(find(office, name).data)
    ends = [OtherEnd(loaded, each) for each in _peers(loaded, peer)]
    if as_json:
        say_json([end.as_data() for end in ends])
    elif recipients:
        sys.stdout.write("".join(peers.recipients(end) for end in ends))
    elif postfix:
        sys.stdout.write("\n".join(f"{peers.main_cf(end)}\n{peers.master_cf(end)}" for end in ends))
    else:
        sys.stdout.write("\n".join(peers.facts(end) for end in ends))
    return 0


def _after(hop: trace.Hop) -> str:
    if hop.delay is None:
        return ""
    return f"after {hop.delay:g} s" + (f" ({hop.parts})" if hop.parts else "")


def _runs() -> bool:
    return (labs() / LAB / "office.toml").is_file()


def _peers(office: Office, wanted: str | None) -> list[Peer]:
    chosen = [peer for peer in office.peers if wanted in (None, peer.name)]
    if not chosen:
        known = ", ".join(peer.name for peer in office.peers)
        raise OutpostError(
            f"{office.domain} has no peer {wanted or ''}".rstrip(),
            f"one of: {known}" if known else "declare one as [[peers]]",
        )
    return chosen
