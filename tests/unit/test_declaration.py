"""What is declared for a host can be read without any host, and without patching anything."""

from __future__ import annotations

import hashlib
import json
import shutil

import pytest

from outpost.converge.declaration import Declaration, Directory, declaration, shown
from outpost.keys import secrets_file
from outpost.keys.model import Secrets
from outpost.office import Office, load
from outpost.office.role import role_of
from outpost.onhost.observe.declared import CONTRACT
from outpost.target import ROOT


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Office:
    directory = tmp_path_factory.mktemp("office")
    shutil.copy(ROOT / "inventory/harbour/office.toml", directory)
    return load(directory)


@pytest.fixture(scope="module")
def secrets(office: Office) -> Secrets:
    return secrets_file.complete(office, None).secrets


@pytest.fixture(scope="module")
def declarations(office: Office, secrets: Secrets) -> dict[str, Declaration]:
    return {host.name: declaration(office, secrets, host.name) for host in office.hosts}


def test_every_host_has_a_declaration_and_is_not_asked(declarations: dict[str, Declaration]) -> None:
    for known in declarations.values():
        assert "/etc/nftables.conf" in known.content
        assert known.files >= set(known.content)
    assert "/etc/postfix/main.cf" in shown(declarations["mta"])["file"]
    assert "/etc/postfix/main.cf" not in shown(declarations["store"])["file"]
    assert "dovecot.service" in shown(declarations["store"])["unit"]


def test_it_is_whole(declarations: dict[str, Declaration]) -> None:
    """The observer's files come first, and name what roles declare later."""
    for known in declarations.values():
        contract = json.loads(known.content[CONTRACT].content)
        assert set(contract["units"]) == set(known.units)
        assert set(contract["packages"]) == known.package_names


def test_no_secret_is_shown(declarations: dict[str, Declaration]) -> None:
    for known in declarations.values():
        printed = json.dumps(shown(known))
        hidden = [file for file in known.content.values() if file.secret]
        assert hidden
        for file in hidden:
            assert hashlib.sha256(file.content).hexdigest() not in printed


def test_a_change_of_the_office_shows_on_the_hosts_that_it_touches(
    office: Office, secrets: Secrets, declarations: dict[str, Declaration]
) -> None:
    changed = office.model_copy(update={"postmaster": office.users[1].address})
    touched = {
        host.name
        for host in office.hosts
        if shown(declaration(changed, secrets, host.name)) != shown(declarations[host.name])
    }
    assert "mta" in touched
    assert shown(declaration(office, secrets, "mta")) == shown(declarations["mta"])


def test_what_a_restore_brings_to_a_store_has_a_directory_before_any_job_has_run(
    office: Office, declarations: dict[str, Declaration]
) -> None:
    """It is unpacked with the owner's rights, and the owner cannot create files in /var/lib. The drill starts no job."""
    (store,) = office.with_role("store")
    made = {item.name: item.owner for item in declarations[store.name].of(Directory)}
    for source in role_of(store).kept(office, store):
        assert made[source["path"]] == source["owner"]


def test_a_new_user_changes_nothing_that_reloads_dovecot(
    office: Office, secrets: Secrets, declarations: dict[str, Declaration]
) -> None:
    """This also holds for a user who is first in the alphabet."""
    (store,) = office.with_role("store")
    user = office.users[0].model_copy(update={"address": f"aaron@{office.domain}", "full_name": ""})
    more = office.model_copy(update={"users": (*office.users, user)})
    passwords = secrets_file.complete(more, None).secrets.passwords
    first = {user.address: passwords[user.address], **secrets.passwords}
    after = declaration(more, secrets.model_copy(update={"passwords": first}), store.name)
    changed = {
        path for path, file in after.content.items() if file != declarations[store.name].content.get(path)
    }
    assert "/etc/dovecot/users" in changed
    assert changed.isdisjoint({"/etc/dovecot/dovecot.conf", "/etc/dovecot/accounts.lua"})
