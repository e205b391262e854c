"""Make, change and remove the guests of a site: ask the server what it has, and let pyinfra do what is missing."""

import json
import os
import re
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from outpost.engine import run
from outpost.engine.preflight import Finding
from outpost.errors import OutpostError
from outpost.keys import secrets_file
from outpost.machines import guests, hardening, server
from outpost.machines.guests import Image, Step
from outpost.machines.hypervisor import DIRECTORY, Guest, Site, site_of
from outpost.machines.image import digest as digest_of
from outpost.machines.server import Server
from outpost.office.model import Office
from outpost.office.tables.topology import LOGIN, Host, parted
from outpost.target import Target
from outpost.transport import answers, ssh
from outpost.transport.remote import run_script

FIRST_BOOT = 600.0
"""Seconds until a new guest answers; an emulated one gets three times as much."""
PACE = 3.0
UPLOAD = 12 * 3600.0
"""Seconds for an image on its way: 800 MB by a line of 150 kbit/s."""
DEBIAN = "https://cloud.debian.org/images/cloud/trixie/latest/debian-13-genericcloud-amd64.qcow2"
GROW = (
    "root=$(findmnt --noheadings --output SOURCE /) && disk=$(lsblk --noheadings --output PKNAME $root) && "
    "{ growpart /dev/$disk $(cat /sys/class/block/${root##*/}/partition) || [ $? = 1 ]; } && resize2fs $root 2>&1"
)
"""Shell, on a guest: extend its root file system to all of a disk that has grown (growpart's status 1: nothing to do)."""


@dataclass(frozen=True)
class Work:
    """One site on one server, for an office's command.

    Attributes:
        whole: The site with every guest of the server.
        site: The guests that the command is about.
    """

    target: Target
    office: Office
    login: str
    whole: Site
    site: Site
    found: Server

    def outcome(
        self,
        steps: list[Step],
        watcher: run.Watcher,
        *,
        files: bool = True,
        seeds: dict[str, Path] | None = None,
        dry: bool = False,
    ) -> run.Outcome:
        """What pyinfra changed on the server, or would change."""
        with tempfile.TemporaryDirectory(prefix="outpost-site-") as directory:
            declared = Path(directory) / "declared.json"
            declared.touch(mode=0o600)
            data = {
                "packages": self.whole.packages,
                "files": self.whole.files() if files else {},
                "seeds": {name: str(path) for name, path in (seeds or {}).items()},
                "steps": [vars(step) for step in steps],
            }
            declared.write_text(json.dumps(data), encoding="utf-8")
            user = parted(self.login)[0] or "root"
            given = {
                "openssh_config": str(ssh.server_configuration(self.login, server.NAME, self.target.data)),
                "declared": str(declared),
                "_sudo": user != "root",
            }
            inventory = Path(directory) / "inventory.py"
            inventory.write_text(f"server = [('@openssh/{server.NAME}', {given!r})]\n", encoding="utf-8")
            deploy = Path(__file__).with_name("deploy.py")
            arguments = ["pyinfra", str(inventory), str(deploy), "--dry" if dry else "-y"]
            remedy = "run the command again with OUTPOST_DEBUG=1 for pyinfra's full output"
            return run.pyinfra(arguments, watcher, remedy, environment=os.environ)


def hosts_on(office: Office, login: str) -> tuple[Host, ...]:
    """The hosts on a server: those that name it in the office file, or no server."""
    if not login or not re.fullmatch(LOGIN.strip("^$"), login):
        raise OutpostError(f"--on {login} names no server", "write user@address, for example root@192.0.2.5")
    hosts = tuple(host for host in office.hosts if host.server in ("", login))
    if not hosts:
        problem = f"office.toml places no host of {office.domain} on {login}"
        raise OutpostError(problem, "compare hosts.NAME.server with --on")
    return hosts


def examined(target: Target, office: Office, login: str, names: Collection[str] = ()) -> Work:
    """The site with the server's answer.

    Args:
        names: The hosts that the command is about; empty means all on the server.
    """
    hosts = hosts_on(office, login)
    if away := set(names) - {host.name for host in hosts}:
        problem = f"{', '.join(sorted(away))}: office.toml names another server than {login}"
        raise OutpostError(problem, "compare hosts.NAME.server with --on")
    whole = site_of(office, hosts)
    found = server.survey(login, target, whole)
    whole = whole.on("kvm" if found.kvm else "qemu", found.ports)
    return Work(target, office, login, whole, whole.only(names) if names else whole, found)


def named(source: str, digest: str) -> Image:
    """The image that --image and --sha512 name; the digest may also be in FILE.sha512.

    Raises:
        OutpostError: There is none, or its content has another digest.
    """
    file = Path(source)
    if not source.startswith(("https://", "http://")):
        beside = Path(f"{source}.sha512")
        if not file.is_file():
            raise OutpostError(f"there is no image {source}", "make one with ./outpost machines image")
        if not digest and beside.is_file():
            digest = beside.read_text(encoding="utf-8").split(" ")[0].strip()
    if not re.fullmatch(r"[0-9a-f]{128}", digest):
        raise OutpostError(
            f"the SHA-512 of {source} is missing",
            "give it with --sha512; for Debian's images it is in the file SHA512SUMS beside them",
        )
    if file.is_file() and digest_of(file) != digest:
        raise OutpostError(f"{source} does not have this SHA-512", "fetch or build the image again")
    return Image(source, digest)


def drift(work: Work, watcher: run.Watcher) -> Iterator[Finding]:
    """What `machines up` would do on the server, besides its baseline and restarts of guests."""
    remedy = f"run `./outpost machines up {work.target.typed} --on {work.login}`"
    new = {guest.name for guest in guests.new(work.site, work.found)}
    for name in sorted(new):
        yield Finding(work.login, "bad", f"has no disk of {name}", remedy)
    made = work.site.only({guest.name for guest in work.site.guests} - new)
    planned = work.outcome(list(guests.steps(made, work.found, None, ())), watcher, dry=True)
    known = {part.name for part in hardening.BASELINE}
    for change in planned.expect_success("run the command again", "not reached:").changes:
        if not change.conditional and change.operation not in known:
            yield Finding(work.login, "bad", f"not as declared: {change.operation}", remedy)
    for guest in guests.to_restart(work.site, work.found):
        yield Finding(
            work.login, "note", f"{guest.name} runs with its former size", f"{remedy[:-1]} --restart`"
        )


def hardened(work: Work) -> Iterator[Finding]:
    """Whether the server itself has its baseline."""
    for part in hardening.BASELINE:
        if part.control in work.found.holds:
            yield Finding(work.login, "good", f"{part.name} ({part.control})")
        else:
            remedy = f"run `./outpost machines up {work.target.typed} --on {work.login}`"
            yield Finding(work.login, "bad", f"not true: {part.name} ({part.control})", remedy)


def reopened(work: Work) -> Iterator[Finding]:
    """Whether the server itself can open the encrypted disks now, as it has to at its next start."""
    bound = [guest for guest in work.site.guests if guest.bound]
    script = "\n".join(
        f"timeout 60 clevis decrypt < {each.bound} > /dev/null 2>&1 && echo {each.name}" for each in bound
    )
    patience = 60.0 + 65 * len(bound)
    opened = server.run(work.login, work.target, f"{script}\n:", patience=patience).split() if bound else []
    for guest in work.site.guests:
        if not guest.encrypted:
            continue
        if not guest.bound:
            seen = f"{guest.name} stays off after a start of the server"
            remedy = "run `./outpost machines up`, or name a server in disks.tang, or set disks.tpm"
            yield Finding(work.login, "note", seen, remedy)
        elif guest.name in opened:
            yield Finding(work.login, "good", f"the server can open the disk of {guest.name}")
        else:
            seen = (
                f"the server cannot open the disk of {guest.name}: it stays off after a start of the server"
            )
            remedy = (
                "let the server reach the URLs of disks.tang, or its TPM, and run `./outpost machines up`"
            )
            yield Finding(work.login, "bad", seen, remedy)


def passphrases(target: Target, office: Office, site: Site, found: Server) -> dict[str, str]:
    """The passphrases of this site's encrypted disks, by guest. A new one is kept before its disk is made.

    Raises:
        OutpostError: A disk exists, and the secrets do not have its passphrase.
    """
    names = [guest.name for guest in site.guests if guest.encrypted]
    if not names:
        return {}
    kept = secrets_file.read(target.data)
    if missing := [name for name in names if found.guests[name].disk and name not in kept.disks]:
        raise OutpostError(
            f"the secrets have no passphrase for the disk of {', '.join(missing)}",
            "restore the secrets.age with which the disk was made, for example from version control",
        )
    if set(names) - set(kept.disks):
        made = {name: secrets_file.random_key() for name in names} | kept.disks
        kept = kept.model_copy(update={"disks": made})
        secrets_file.write(target.data, kept, office.secrets.recipients)
    return {name: kept.disks[name].get_secret_value() for name in names}


def upload(work: Work, image: Image) -> None:
    """Send an image to the server, which checks its digest; skip it if the server has the image."""
    if image.is_remote or image.name in work.found.files:
        return
    place = f"{DIRECTORY}/{image.name}"
    script = (
        f"set -e; mkdir -p -m 0711 {DIRECTORY}; cat > {place}.new; "
        f"echo '{image.digest}  {place}.new' | sha512sum --check --quiet; mv {place}.new {place}"
    )
    command = answers.as_argument(server.shell_command(work.login, work.target), script)
    try:
        with Path(image.source).open("rb") as content:
            done = answers.exchange(command, content, patience=UPLOAD, most=server.MOST)
    except (TimeoutError, answers.TooMuchError):
        raise OutpostError(
            f"{work.login} did not store the image as expected", "check the server before you trust it"
        ) from None
    if done.status:
        lines = done.errors.decode(errors="replace").strip().splitlines() or ["no message"]
        problem = f"the image did not arrive on {work.login}: {answers.line(lines[-1], 500)}"
        raise OutpostError(problem, "run the command again")


def await_first_boots(work: Work, tell: Callable[[str], None]) -> None:
    """Wait until new guests answer with their pinned keys and cloud-init has finished; then erase their seeds.

    Raises:
        OutpostError: Some did not; their seeds are kept.
    """
    waiting = {guest.name: guest for guest in guests.unfinished(work.site, work.found)}
    patience = FIRST_BOOT * (1 if work.found.kvm else 3)
    until, last = time.monotonic() + patience, ""
    while waiting and time.monotonic() < until:
        for name, guest in tuple(waiting.items()):
            answer = _output(work, name, "test ! -e /etc/cloud/cloud-init.disabled || echo done")
            if answer == "done":
                forget = guests.forget_seed(guest, work.found.guests[name])
                server.run(work.login, work.target, f"set -e\n{forget}")
                tell(f"{name} answers with its pinned key; its seed is erased")
                del waiting[name]
            else:
                last = answer or last
        if waiting:
            time.sleep(PACE)
    if waiting:
        names = ", ".join(waiting)
        raise OutpostError(
            f"{names} did not answer within {patience:.0f} s{f' ({last})' if last else ''}; the seeds are kept",
            f"read a console (ssh {work.login} virsh console {next(iter(waiting))}); let this machine reach the management zone; "
            "run the command again",
        )


def _output(work: Work, name: str, script: str) -> str:
    """What a guest prints, or why there is no answer, as one line."""
    try:
        answer = run_script(
            work.target, work.office, work.office.host(name), script, "ssh", patience=45, most=server.MOST
        )
        return answers.line(answer.strip(), 300)
    except OutpostError as error:
        return error.message


def grow_file_systems(work: Work, grown: Collection[Guest]) -> list[str]:
    """Let guests use a disk that has grown; returns what went wrong."""
    wrong = []
    for guest in grown:
        try:
            run_script(work.target, work.office, work.office.host(guest.name), GROW, "ssh")
        except OutpostError as error:
            wrong.append(f"{guest.name}: its file system does not use all of its disk yet ({error.message})")
    return wrong
