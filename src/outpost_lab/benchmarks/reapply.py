"""Re-apply and verify an unchanged office over a slow line: beside a bare login, Ansible and mitogen."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from outpost.converge.declaration import Declaration, Group, declarations
from outpost.converge.files import NOLOGIN
from outpost.target import LAB, ROOT, Target
from outpost.transport import ssh
from outpost.transport.remote import run_script
from outpost.verification.live import LEAN, SIDE_BY_SIDE, WHITE_BOX
from outpost_lab import office
from outpost_lab.benchmarks.measure import Figures, of_samples
from outpost_lab.benchmarks.place import Place, behind
from outpost_lab.instance import Instance
from outpost_lab.judges import environment as tools

RTT = 0.150
RUNS = 5


def cold(target: Target) -> Figures:
    """No-op re-apply of all hosts, no connection open, against bare logins; a whole comparison as a note."""
    with _settled(target, RTT) as place:
        samples = place.paired(_apply(place), RUNS)
        notes = {"whole comparison (--refresh), s": place.closed(_apply(place, "--refresh"))}
    return of_samples(samples, notes)


def opened(target: Target) -> Figures:
    """The same with open connections from the run before, as an hourly timer finds them."""
    with _settled(target, RTT) as place:
        bare = [place.closed(place.bare) for _ in range(RUNS)]
        _apply(place)()
        return of_samples({"peer": bare, "ours": [_apply(place)() for _ in range(RUNS)]})


def thin(target: Target) -> Figures:
    """The same, cold, on a line of 1.544 Mbit/s."""
    with _settled(target, RTT, 1_544_000) as place:
        return of_samples(place.paired(_apply(place), RUNS))


def ansible(target: Target, *, rtt: float, mitogen: bool = False) -> Figures:
    """No-op re-apply against Ansible with equal content; it takes minutes: one run, and two with mitogen."""
    with _settled(target, rtt) as place:
        command, environment = ansible_command(place, mitogen=mitogen)
        peer = [place.timed(command, environment=environment) for _ in range(1 + mitogen)]
        _apply(place, "--refresh")()  # files that the peer leaves on the hosts
        ours = [place.closed(_apply(place)) for _ in range(3)]
    return of_samples({"ours": ours, "peer": peer})


def traffic(target: Target) -> Figures:
    """Bytes of a no-op on the line, for the host that sends most; the bytes of the login are included."""
    with _settled(target, 0.0) as place:
        seen = []
        for run in (place.bare, _apply(place), _apply(place, "--refresh")):
            place.cold()
            place.link.traffic = [0] * len(place.ports)
            since = time.time()
            run()
            carried = dict(zip(place.ports, place.link.traffic, strict=True))
            commands = {host: _commands(place, host, since) for host in place.ports}
            seen.append({"bytes": carried, "commands": commands})
    bare, ours, whole = seen
    worst = max(ours["bytes"].values())
    return Figures(worst, 8000.0, {}, {"no-op": ours, "whole comparison": whole, "bare login": bare})


def one_template(target: Target) -> Figures:
    """One changed template, beside nothing to change; raw pyinfra, so that both do the whole work."""
    with _settled(target, RTT) as place:
        script = "echo '# by hand' >> /etc/locale.conf"
        noop = [place.closed(_raw(place)) for _ in range(3)]
        ours = []
        for _ in range(3):
            for host in place.office.hosts:
                run_script(target, place.office, host, script, "docker")
            ours.append(place.closed(_raw(place)))
    return of_samples({"ours": ours, "peer": noop})


@contextmanager
def _settled(target: Target, rtt: float, rate: float = 0.0) -> Iterator[Place]:
    """A place whose hosts are as declared and were asked before."""
    with behind(target, rtt=rtt, rate=rate) as place:
        _apply(place, "--refresh")()
        _apply(place)()
        yield place


def _apply(place: Place, *options: str) -> Callable[[], float]:
    return lambda: place.timed([str(ROOT / "outpost"), "apply", str(place.directory), "-y", *options])


def _raw(place: Place) -> Callable[[], float]:
    return lambda: place.timed(["pyinfra", str(place.directory / "ssh.py"), "deploy.py", "-y"])


def _commands(place: Place, host: str, since: float) -> int:
    """How many commands a host's sshd has started."""
    count = f"journalctl --unit=ssh --since=@{since:.3f} --output=cat | grep -c '^Starting session' || true"
    command = ["ssh", "-F", str(place.configuration), host, count]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout) - 1  # this command itself


def white_box(target: Target) -> Figures:
    """White-box checks of all hosts, cold, beside bare logins; their commands were recorded without the line."""
    # log lines of earlier measurements do not count
    office.came_up(Instance.load(target.instance or LAB))
    with behind(target, rtt=0.0) as near, tempfile.TemporaryDirectory() as temporary:
        listed = Path(temporary) / "asked"
        _checks(near, listed, *SIDE_BY_SIDE)()
        with behind(target, rtt=RTT) as place:
            return of_samples(place.paired(_checks(place, listed), RUNS))


def _checks(place: Place, listed: Path, *options: str) -> Callable[[], float]:
    command = [
        sys.executable, "-m", "pytest", "tests/live", "-m", WHITE_BOX, "-q", *LEAN,
        "-p", "outpost.verification.ahead", f"--ahead={listed}", "--office", str(place.directory), "--via", "ssh", *options,
    ]  # fmt: skip
    return lambda: place.timed(command)


HERE = Path(__file__).parent / "peers"


def ansible_command(place: Place, *, mitogen: bool = False) -> tuple[list[str], dict[str, str]]:
    """The command and its environment, for the hosts of a place."""
    binaries = tools(ROOT / ".lab" / "peers", HERE / "requirements.txt", hashed=False).parent
    where = place.directory.parent / "ansible"
    _write_ansible(place, where)
    variables = {
        "ANSIBLE_HOME": str(where),
        "ANSIBLE_HOST_KEY_CHECKING": "true",
        "ANSIBLE_PIPELINING": "true",
        "ANSIBLE_FORKS": "20",
        "ANSIBLE_PYTHON_INTERPRETER": "/usr/bin/python3",
        "ANSIBLE_SSH_ARGS": f"-o ControlMaster=auto -o ControlPersist=600s -o UserKnownHostsFile={place.directory / 'known_hosts'}",
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(where / "cp"),
        "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
    }
    if mitogen:
        found = next(binaries.parent.glob("lib/python3*/site-packages/ansible_mitogen/plugins/strategy"))
        variables |= {"ANSIBLE_STRATEGY": "mitogen_linear", "ANSIBLE_STRATEGY_PLUGINS": str(found)}
    command = [binaries / "ansible-playbook", "-i", where / "hosts.json", HERE / "playbook.yml"]
    return list(map(str, command)), variables


def _write_ansible(place: Place, where: Path) -> None:
    (where / "host_vars").mkdir(parents=True, exist_ok=True, mode=0o700)
    (where / "cp").mkdir(exist_ok=True)
    hosts = {}
    found = declarations(place.directory)
    for host in place.office.hosts:
        user, address, port = ssh.target(place.office, host)
        key = str(place.directory / "ssh_key")
        reached = {"host": address, "port": port, "user": user, "ssh_private_key_file": key}
        hosts[host.name] = {f"ansible_{name}": value for name, value in reached.items()}
        variables = _variables(found[host.name], where / "files" / host.name)
        (where / "host_vars" / f"{host.name}.json").write_text(json.dumps(variables))
    (where / "hosts.json").write_text(json.dumps({"office": {"hosts": hosts}}))


def _variables(content: Declaration, sources: Path) -> dict[str, object]:
    sources.mkdir(parents=True, exist_ok=True, mode=0o700)
    files = []
    for number, file in enumerate(content.content.values()):
        source = sources / str(number)
        source.write_bytes(file.content)
        given = {key: getattr(file, key) for key in ("path", "mode", "owner", "group")}
        files.append(given | {"source": str(source)})
    nobody: dict[str, object] = {"shell": NOLOGIN, "groups": []}
    # without files that only the host can make, and without drift: the peers do not compare these, which is to their advantage
    return {
        "packages": list(content.packages),
        "system_groups": [item.group for item in content.of(Group)],  # Ansible has `groups` of its own
        "accounts": [{"user": user, "home": home, **nobody} for user, home in content.accounts.items()],
        "directories": [
            {"path": path, **dict(zip(("owner", "group", "mode"), rights, strict=True))}
            for path, rights in content.directories.items()
        ],
        "files": files,
        "units": content.units,
    }
