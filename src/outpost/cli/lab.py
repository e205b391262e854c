"""``outpost lab …``."""

import os
import sys
import time
from contextlib import nullcontext, redirect_stdout
from pathlib import Path

import typer

from outpost.cli.console import Table, err, out, say_json
from outpost.cli.options import App
from outpost.errors import OutpostError
from outpost.target import LAB, find
from outpost.templates import environment, render
from outpost_lab import box as vagrant
from outpost_lab import up as bringing
from outpost_lab.instance import DEFAULT, Instance
from outpost_lab.instance import info as lab_info
from outpost_lab.up import Progress

app = App()
lab = app.group("lab")


@lab.named("up")
def up(
    name: str = DEFAULT, yes: bool = False, verify: bool = True, timings: bool = False, as_json: bool = False
) -> None:
    from outpost.cli.progress import watcher
    from outpost.recovery import backup
    from outpost_lab import office, trust

    progress = Progress(err)
    instance = bringing.up(name, progress=progress, install=yes)
    started = time.monotonic()
    office.deploy(instance, watcher())
    progress.seconds["deploy"] = round(time.monotonic() - started, 1)
    with progress.step("trust"):
        trust.after_deploy(instance)
    with progress.step("certificates"):
        trust.certificates(instance)
        office.settle(instance)
    if instance.office.backup:
        with progress.step("first backups"):  # so that a restore is possible from the first minute
            backup.run_now(find(LAB, instance.name), instance.office)
    office.came_up(instance)
    with progress.step("first messages") as note:
        for sender, reader in office.first_messages(instance):
            note(f"{sender} → {reader}")
    proven = _verified(name, as_json=as_json) if verify else True
    if as_json:
        say_json(lab_info(instance))
    else:
        _show_next(instance)
    if timings:
        _show_timings(progress.seconds)
    raise typer.Exit(0 if proven else 1)


def _verified(name: str, *, as_json: bool) -> bool:
    from outpost.cli.options import At
    from outpost.cli.verify import verify_office

    with redirect_stdout(sys.stderr) if as_json else nullcontext():  # the result alone is JSON
        return verify_office(At(LAB, name)) == 0


def _show_next(instance: Instance) -> None:
    """Print what there is to see, and what to try next."""
    data, option = lab_info(instance), "" if instance.name == DEFAULT else f" --name {instance.name}"
    at = next(host["addresses"]["lan"][0] for host in data["hosts"].values() if host["role"] == "webmail")
    facts = {"option": option, "at": at, "login": next(iter(data["users"].items()))}
    out.print(render(environment(Path(__file__).parent), "lab-next.j2", data | facts))


def _show_timings(seconds: dict[str, float]) -> None:
    table = Table("step", "seconds")
    for step, taken in seconds.items():
        table.add_row(step, f"{taken:.1f}")
    table.add_row("in all", f"{sum(seconds.values()):.1f}", style="bold")
    err.print(table)


@lab.named("down")
def down(name: str = DEFAULT, every: bool = False) -> None:
    if every:
        bringing.down_all(progress=Progress(err))
    else:
        bringing.down(name, progress=Progress(err))


@lab.named("info")
def info_(name: str = DEFAULT, as_json: bool = False) -> None:
    data = lab_info(Instance.load(name))
    if as_json:
        say_json(data)
        return
    table = Table("machine", "role", "container", "addresses", title=f"{data['domain']} in the lab {name}")
    for group in ("hosts", "world"):
        for machine, shape in data[group].items():
            where = "\n".join(f"{zone}: {', '.join(pair)}" for zone, pair in shape["addresses"].items())
            table.add_row(machine, shape["role"], shape["container"], where)
        table.add_section()
    out.print(table)
    for user, password in data["users"].items():
        out.print(f"{user}  {password}", highlight=False)
    out.print(f"authority: {data['ca']}", highlight=False)


@lab.named("shell")
def shell(host: str, command: list[str] | None = None, name: str = DEFAULT) -> None:
    instance = Instance.load(name)
    container = instance.container_name(instance.machine(host).name)
    terminal = ["--tty"] if sys.stdin.isatty() and sys.stdout.isatty() else []
    arguments = ["docker", "exec", "--interactive", *terminal, container, *(command or ["bash", "-l"])]
    os.execvp("docker", arguments)  # noqa: S606


@lab.named("box")
def box(yes: bool = False) -> None:
    with Progress(err).step("box") as note:
        vagrant.make(install=yes, note=note)


@lab.named("vm")
def vm(hosts: list[str], name: str = DEFAULT) -> None:
    vagrant.replace(_stored(name), tuple(hosts))


@lab.named("first-files", hidden=True)
def first_files(host: str, name: str = DEFAULT) -> None:
    sys.stdout.buffer.write(vagrant.first_files(_stored(name), host))


def _stored(name: str) -> Instance:
    """An instance, running or not."""
    if instance := Instance.stored(name):
        return instance
    raise OutpostError(f"there is no lab {name} on this machine", f"./outpost lab up --name {name}")
