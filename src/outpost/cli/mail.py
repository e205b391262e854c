"""`outpost trace`, `queue`, `alarms` and `peer`: mail on its way, what needs a person, what a peer has to set up."""

import sys
import time
from dataclasses import asdict
from typing import Any

from rich.markup import escape

from outpost.cli.console import Table, duration, out, say_json, size
from outpost.cli.options import App, At
from outpost.errors import OutpostError
from outpost.mail import queues, tracing
from outpost.office import Office, peering
from outpost.office.peering import OtherEnd
from outpost.office.tables.routes import Peer
from outpost.office.tables.topology import Host
from outpost.onhost import watch
from outpost.transport.answers import line, parsed_lines
from outpost.transport.remote import of_each, run_script

app = App()


@app.of_office("trace")
def trace_message(
    at: At, identifiers: list[str], since: str = "-5d", last: int = 5, as_json: bool = False
) -> None:
    ask = tracing.asker(at.target, at.office, since=since, last=last, via=at.via)
    stories = tracing.follow(at.office, identifiers, ask)
    if not stories:
        problem = f"no host of {at.target.title} knows {', '.join(identifiers)} in that time"
        remedy = "search further back with --since, or ask by the sender's or recipient's address"
        raise OutpostError(problem, remedy)
    if as_json:
        say_json([asdict(story) for story in stories])
        return
    for story in stories:
        out.print(f"[bold]{escape(story.message_id)}[/] (UTC)")
        width = max(len(hop.id) for hop in story.hops)
        for hop in story.hops:
            moment = time.strftime("%d %H:%M:%S", time.gmtime(hop.time)) + f".{int(hop.time % 1 * 1000):03}"
            about = "".join(f"  [dim]{escape(part)}[/]" for part in (_after(hop), hop.tls) if part)
            out.print(f"{moment}  {hop.host:<7} {escape(hop.id):<{width}}  {escape(hop.what)}{about}")
        out.print(f"{story.hops[-1].time - story.hops[0].time:.1f} s from the first hop to the last\n")


@app.of_office("queue")
def queue_office(
    at: At, release: list[str] | None = None, hold: list[str] | None = None, as_json: bool = False
) -> None:
    target, loaded, via = at.target, at.office, at.via
    messages = queues.waiting(target, loaded, via)
    if release:
        queues.release(queues.chosen(messages, release), target, loaded, via)
    if hold:
        queues.hold(queues.chosen(messages, hold), target, loaded, via)
    if release or hold:
        messages = queues.waiting(target, loaded, via)
    if as_json:
        say_json([message._asdict() for message in messages])
        return
    if not messages:
        out.print(f"{escape(target.title)}: [green]the queue is empty[/]")
        return
    routes = Table("route", "messages", "oldest", "most often because")
    for route, count, age, reason in queues.by_route(messages):
        routes.add_row(route, str(count), duration(age), escape(reason))
    out.print(routes)
    out.print()
    for message in messages:
        line = f"{message.host} [bold]{escape(message.id)}[/] {message.queue}, {duration(time.time() - message.arrived)}"
        out.print(f"{line}, {size(message.size)}, from {escape(message.sender)}")
        for address, reason in message.reasons.items():
            out.print(f"    to {escape(address)}" + (f": {escape(reason)}" if reason else ""))


@app.of_office("alarms")
def show_alarms(at: At, test: bool = False, as_json: bool = False) -> int:
    answers = of_each(at.office.hosts, lambda host: _alarms_of(at, host, test=test))
    found = [alarm for answer in answers.values() for alarm in answer]
    if as_json:
        say_json(found)
        return 1 if found else 0
    for alarm in found:
        about, text = (escape(line(alarm[what])) for what in ("about", "text"))
        out.print(f"[bold red]{escape(alarm['host'])}[/] {about}: {text}")
    if not found:
        state = "every path works" if test else "no alarm"
        paths = ", ".join(path.partition("?")[0] for path in at.office.alarms.tell)
        paths = paths or "nobody: see [alarms] tell"
        out.print(f"{escape(at.target.title)}: [green]{state}[/] (reports go to: {escape(paths)})")
    return 1 if found else 0


def _alarms_of(at: At, host: Host, *, test: bool) -> list[dict[str, Any]]:
    """A host's alarms; a host that does not answer is an alarm, too. With `test`: the paths that do not work."""
    script = f"PYTHONPATH=/usr/local/lib/outpost/python exec python3 -s -P -B -m outpost.onhost.watch {'test' if test else 'look'}\n"
    try:
        lines = run_script(at.target, at.office, host, script, at.via).splitlines()
        return [{"host": host.name, **asdict(alarm)} for alarm in parsed_lines(lines, watch.Alarm, host.name)]
    except OutpostError as error:
        return [{"host": host.name, "about": "host", "text": error.message.removeprefix(f"{host.name}: ")}]


@app.of_office("peer", asks_hosts=False)
def print_peer(
    at: At, peer: str | None = None, postfix: bool = False, recipients: bool = False, as_json: bool = False
) -> None:
    ends = [OtherEnd(at.pictured, each) for each in _peers(at.pictured, peer)]
    if as_json:
        say_json([end.as_data() for end in ends])
    elif recipients:
        sys.stdout.write("".join(peering.recipients(end) for end in ends))
    elif postfix:
        lines = (peering.rendered(f"{name}.cf.j2", end) for end in ends for name in ("main", "master"))
        sys.stdout.write("\n".join(lines))
    else:
        sys.stdout.write("\n".join(peering.rendered("facts.j2", end) for end in ends))


def _after(hop: tracing.Hop) -> str:
    if hop.delay is None:
        return ""
    return f"after {hop.delay:g} s" + (f" ({hop.parts})" if hop.parts else "")


def _peers(office: Office, wanted: str | None) -> list[Peer]:
    chosen = [peer for peer in office.peers if wanted in (None, peer.name)]
    if not chosen:
        known = ", ".join(peer.name for peer in office.peers)
        remedy = f"choose one of: {known}" if known else "declare one as [[peers]]"
        raise OutpostError(f"{office.domain} has no peer {wanted or ''}".rstrip(), remedy)
    return chosen
