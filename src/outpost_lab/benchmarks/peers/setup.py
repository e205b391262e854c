"""Writes the peers' input: Ansible's inventory, host variables and configuration."""

import json
import os
from pathlib import Path

from outpost.converge.declaration import Declaration, Group, declarations
from outpost.converge.files import NOLOGIN
from outpost.target import ROOT
from outpost.transport import ssh
from outpost_lab.benchmarks.place import Place
from outpost_lab.judges import environment

HERE = Path(__file__).parent


def ansible(place: Place, *, mitogen: bool = False) -> tuple[list[str], dict[str, str]]:
    """The command and its environment, for the hosts of a place."""
    binaries = environment(ROOT / ".lab" / "peers", HERE / "requirements.txt", hashed=False).parent
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
    return [
        str(binaries / "ansible-playbook"),
        "-i",
        str(where / "hosts.json"),
        str(HERE / "playbook.yml"),
    ], variables


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
        files.append(
            {
                "path": file.path,
                "source": str(source),
                "mode": file.mode,
                "owner": file.owner,
                "group": file.group,
            }
        )
    # without commands for what only the host can make, and without drift: the peers have nothing like it, which is to their advantage
    return {
        "packages": list(content.packages),
        "system_groups": [item.group for item in content.of(Group)],  # Ansible has `groups` of its own
        "accounts": [
            {"user": user, "home": home, "shell": NOLOGIN, "groups": []}
            for user, home in content.accounts.items()
        ],
        "directories": [
            {"path": path, "owner": owner, "group": group, "mode": mode}
            for path, (owner, group, mode) in content.directories.items()
        ],
        "files": files,
        "units": content.units,
    }
