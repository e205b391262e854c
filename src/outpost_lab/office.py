"""The office in a lab: its secrets, its deploy, its first messages."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import tomlkit

from outpost.engine import run
from outpost.errors import OutpostError
from outpost.keys import secrets_file
from outpost.keys.rotation import aftermath
from outpost.onhost.observe.declared import APPLIED
from outpost.target import LAB, find, written
from outpost.transport.remote import run_script
from outpost_lab.instance import Instance, info
from outpost_lab.post import Correspondent, NotArrivedError, Town, compose

IDENTITY = "identity.txt"


def seal(instance: Instance) -> None:
    """Make missing secrets of the instance: identity, keys, users' passwords, the authority's PEM file.

    Passwords stand in ``passwords.json`` because a lab's users are made up; an office's are shown once.
    """
    directory = instance.directory
    identity = directory / IDENTITY
    if not identity.exists():
        secrets_file.create_identity(identity)
    recipient = str(secrets_file.read_identity(identity).to_public())
    document = tomlkit.parse(instance.office_file.read_text(encoding="utf-8"))
    if document.get("secrets", {}).get("recipients") != [recipient]:
        document["secrets"] = {"recipients": [recipient]}
        instance.office_file.write_text(tomlkit.dumps(document), encoding="utf-8")
    sealed = directory / secrets_file.FILE_NAME
    existing = secrets_file.read(directory) if sealed.exists() else None
    done = secrets_file.complete(instance.office, existing)
    if done.new_passwords:
        file = directory / "passwords.json"
        known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        written(file, json.dumps(known | dict(done.new_passwords), indent=1))
    if done.added:
        # nobody chooses another password, so this one stays valid
        standing = existing.one_time if existing else ()
        secrets_file.write(directory, done.secrets.model_copy(update={"one_time": standing}), (recipient,))
    instance.office_ca.write_text(done.secrets.trusted, encoding="ascii")


def deploy(instance: Instance, watcher: run.Watcher) -> None:
    """Make the empty hosts an office: the same apply as for any office."""
    seal(instance)
    target = find(LAB, instance.name)
    outcome = run.apply(target, watcher=watcher)
    outcome.expect_success("run the same command again: it goes on where it stopped", "the deploy failed on")
    settle(instance)


def settle(instance: Instance) -> None:
    """Store what the hosts made during their deploy: once they have certificates they have ACME accounts, for CAA."""
    target = find(LAB, instance.name)
    aftermath.keep(target, [host.name for host in instance.office.hosts], lambda _text: None)


def came_up(instance: Instance) -> None:
    """Set the start of the office: log lines from before all hosts existed do not count (LOG-01's check)."""
    target = find(LAB, instance.name)
    for host in instance.office.hosts:
        run_script(target, instance.office, host, f"journalctl --sync; touch {APPLIED}")


def first_messages(instance: Instance) -> Iterator[tuple[str, str]]:
    """Write a message in every direction of the case study and wait until it is read; yields (from, to) as each arrives."""
    town = Town(info(instance))
    alice, bob = town.user("alice"), town.user("bob")
    outside = town.outside
    pairs: list[tuple[Correspondent, Correspondent]] = [(alice, bob)]
    pairs += [(alice, neighbour) for neighbour in outside] + [(neighbour, alice) for neighbour in outside]
    with ThreadPoolExecutor(len(pairs)) as pool:
        for sender, reader, done in [(*pair, pool.submit(_carry, *pair)) for pair in pairs]:
            try:
                done.result()
            except (NotArrivedError, OSError) as error:
                problem = f"mail from {sender.address} to {reader.address}: {error}"
                remedy = f"./outpost lab shell mta --name {instance.name} -- journalctl -n 50 -t postfix"
                raise OutpostError(problem, remedy) from error
            yield sender.address, reader.address


def _carry(sender: Correspondent, reader: Correspondent) -> None:
    message, token = compose(sender.address, [reader.address])
    sender.send(message, [reader.address])
    reader.receive(token)
