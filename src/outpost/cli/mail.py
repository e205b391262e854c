"""`outpost trace`, `queue`, `alarms` and `peer`: mail on its way, what needs a human, what the other end has to know."""

import sys
import time
from dataclasses import asdict
from typing import Annotated, Any

from rich.markup import escape

from outpost.cli.console import Table, duration, out, say_json, size
from outpost.cli.options import App, Argument, At, JsonOption, Option
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


@app.of_office(
    "trace",
    epilog="Examples: `./outpost trace lab 3F2A1B4C5D`, `./outpost trace lab '<id@example.com>'`, `./outpost trace lab "
    "alice@po.myertor.test --last 3`. Exit code 0: found, 1: no host knows it.",
)
def trace_message(
    at: At,
    identifiers: Annotated[
        list[str], Argument("IDENTIFIER…", "Queue id, Message-ID, or somebody's address.")
    ],
    since: Annotated[str, Option("--since TIME", "How far back to search (systemd.time(7)).")] = "-5d",
    last: Annotated[int, Option("--last N", "For an address: how many of its latest messages.", min=1)] = 5,
    as_json: JsonOption = False,
) -> int:
    """Follow a message across all hosts, with delays and TLS."""
    ask = tracing.asker(at.target, at.office, since=since, last=last, via=at.via)
    stories = tracing.found(at.target, tuple(identifiers), tracing.follow(at.office, identifiers, ask))
    if as_json:
        say_json([asdict(story) for story in stories])
        return 0
    for story in stories:
        out.print(f"[bold]{escape(story.message_id)}[/] (UTC)")
        width = max(len(hop.id) for hop in story.hops)
        for hop in story.hops:
            moment = time.strftime("%d %H:%M:%S", time.gmtime(hop.time)) + f".{int(hop.time % 1 * 1000):03}"
            about = "".join(f"  [dim]{escape(part)}[/]" for part in (_after(hop), hop.tls) if part)
            out.print(f"{moment}  {hop.host:<7} {escape(hop.id):<{width}}  {escape(hop.what)}{about}")
        out.print(f"{story.hops[-1].time - story.hops[0].time:.1f} s from the first hop to the last\n")
    return 0


@app.of_office(
    "queue",
    epilog="Examples: `./outpost queue po`, `./outpost queue po --release headoffice`, `./outpost queue po --hold "
    "@example.org`. Both options take: all, a queue id, an address, @domain, a route (a peer's name, store, Internet). Exit code 0.",
)
def queue_office(
    at: At,
    release: Annotated[
        list[str] | None, Option("--release WORD", "Release from hold and deliver now; may be repeated.")
    ] = None,
    hold: Annotated[
        list[str] | None, Option("--hold WORD", "Put on hold until it is released; may be repeated.")
    ] = None,
    as_json: JsonOption = False,
) -> int:
    """Show the MTAs' queues and why mail waits; release or hold it."""
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
        return 0
    if not messages:
        out.print(f"{escape(target.title)}: [green]the queue is empty[/]")
        return 0
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
    return 0


@app.of_office(
    "alarms",
    epilog="Examples: `./outpost alarms po`; `./outpost alarms po --test` sends one by every path. Exit code 0: none, 1: some.",
)
def show_alarms(
    at: At,
    test: Annotated[bool, Option("--test", "Let each host send a test alarm by each of its paths.")] = False,
    as_json: JsonOption = False,
) -> int:
    """Show each host's alarms: what needs a person now.

    Old mail, certificates, signatures, disks, backups, guessed passwords, failed units.
    """
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
        return [{"host": host.name, "about": "host", "text": error.message}]


@app.of_office(
    "peer",
    asks_hosts=False,
    epilog="Examples: `./outpost peer po` prints instructions, `./outpost peer po headoffice --postfix` their Postfix settings, "
    "`./outpost peer po headoffice --recipients > po_recipients` the table for their backup MX. Exit code 0.",
)
def print_peer(
    at: At,
    peer: Annotated[str | None, Argument("[PEER]", "Only this peer.")] = None,
    postfix: Annotated[bool, Option("--postfix", "Print Postfix settings.")] = False,
    recipients: Annotated[
        bool, Option("--recipients", "Print only the table of recipients, for a backup MX.")
    ] = False,
    as_json: JsonOption = False,
) -> int:
    """Print what peers have to set up on their side."""
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
    return 0


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
