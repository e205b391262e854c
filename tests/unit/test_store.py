"""The store's values from an office, and its rendered templates, without a host."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from email import message_from_bytes, policy
from pathlib import Path

import pytest

from outpost.converge.files import rendered
from outpost.office import Office, load, ports
from roles.store.view import StoreView, decoy

LAB = Path(__file__).resolve().parents[2] / "inventory" / "lab"
HASH = "{ARGON2ID}$argon2id$v=19$m=65536,t=3,p=1$c29tZXNhbHQxMjM0$" + "q" * 42 + "w"


@pytest.fixture
def office(tmp_path: Path) -> Office:
    """The lab's office, without the files that only a running lab has."""
    text = (
        (LAB / "office.toml").read_text().replace('trusted_authorities = ["world-ca.pem", "acme-ca.pem"]', "")
    )
    (tmp_path / "office.toml").write_text(text)
    return load(tmp_path)


@pytest.fixture
def store(office: Office) -> StoreView:
    return StoreView(office, office.with_role("store")[0])


def configuration(store: StoreView) -> str:
    """dovecot.conf of this store."""
    file = rendered(
        "store",
        "/etc/dovecot/dovecot.conf",
        store=store,
        ports=ports,
        deliveries_per_user=1,
        quota_grace=1,
        folders=2000,
        room_beyond_quota=1,
        readers=1,
        decoy=decoy(HASH),
        logins_port=1,
        logins_nonce="nonce",
    )
    return file.content.decode()


def without_zone(office: Office, kind: str) -> Office:
    """The same office without a zone of that kind; its rules are not checked."""
    zones = {name: zone for name, zone in office.zones.items() if zone.kind != kind}
    return office.model_copy(update={"zones": zones})


def test_delivery_and_logins_have_addresses_of_their_zones_only(store: StoreView) -> None:
    zones = {"core": store.me.in_zone("core"), "lan": store.me.in_zone("lan")}
    assert set(store.lmtp_addresses) == set(zones["core"]) == set(store.office_addresses)
    assert set(store.login_addresses) == {*zones["core"], *zones["lan"]}


def test_only_the_users_networks_log_in_without_a_certificate(store: StoreView) -> None:
    assert store.certless_networks == store.office.zones["lan"].networks


def test_where_no_users_zone_exists_every_login_needs_a_certificate(office: Office) -> None:
    store = StoreView(without_zone(office, "users"), office.with_role("store")[0])
    assert store.certless_networks == ()
    assert 'if("eq", "valid", "0.0.0.0/0,::/0", "255.255.255.255")' in configuration(store)


def test_a_mailbox_has_as_many_messages_as_its_blocks_take_its_quota(store: StoreView) -> None:
    largest = max(store.office.quota(user) for user in store.office.users)
    assert store.most_messages == largest // 4096
    assert f"quota_message_count = {store.most_messages}\n" in configuration(store)


def test_each_account_has_its_own_quota(store: StoreView) -> None:
    lines = rendered(
        "store",
        "/etc/dovecot/users",
        store=store,
        own="/own",
        shared_root="/shared",
        one_time=(),
        passwords=dict.fromkeys(store.office.mailboxes, HASH),
    ).content.decode()
    accounts = [line for line in lines.splitlines() if not line.startswith("#")]
    assert accounts == [
        f"{user.address}:{HASH}::::::userdb_quota_storage_size={store.office.quota(user)}B"
        for user in store.office.users
    ]
    assert len({store.office.quota(user) for user in store.office.users}) > 1


def test_unknown_users_are_checked_against_a_hash_that_costs_as_much_and_fits_nothing(
    store: StoreView,
) -> None:
    before, after = HASH.split("$"), decoy(HASH).split("$")
    assert after[:-2] == before[:-2]
    assert [len(part) for part in after] == [len(part) for part in before]
    assert set(after[-1]) == {"A"}
    script = rendered(
        "store", "/etc/dovecot/accounts.lua", own="/o", used="/u", decoy=decoy(HASH), calendars=False
    ).content.decode()
    assert f'DECOY = "{decoy(HASH)}"' in script
    assert "bob@" not in configuration(store), "another user is no other configuration"


def test_only_the_mtas_names_open_the_delivery_port(store: StoreView) -> None:
    listener = rendered("store", "/etc/stunnel/lmtp.conf", store=store, ports=ports).content.decode()
    named = [
        line.removeprefix("checkHost = ") for line in listener.splitlines() if line.startswith("checkHost")
    ]
    assert named == [mta.fqdn for mta in store.office.with_role("mta")]


NAMES = (
    "Myertor project office",
    'Smith & Sons "Bau", Ltd.',
    "$(touch /tmp/x) `id` ${HOME} $1",
    "Müller, Söhne ?> 100 % %{user}",
    "a\\",
    "O'Brien",
    "株式会社" * 20,
)


@pytest.mark.parametrize("name", NAMES)
def test_the_offices_name_is_text_wherever_it_stands(store: StoreView, tmp_path: Path, name: str) -> None:
    named = replace(store, office=store.office.model_copy(update={"organisation": name}))
    script = rendered(
        "store", "/usr/local/lib/outpost/quota-warning", mode="0755", store=named
    ).content.decode()
    lda = tmp_path / "lda"
    lda.write_text("#!/bin/sh\ncat\n")
    lda.chmod(0o755)
    program = tmp_path / "warn"
    program.write_text(script.replace("/usr/lib/dovecot/dovecot-lda", str(lda)))
    output = subprocess.run(
        ["sh", str(program), "80", "alice@po.myertor.test"], capture_output=True, check=True
    ).stdout
    message = message_from_bytes(output, policy=policy.default)
    (sender,) = message["From"].addresses
    shown = sender.display_name.replace(" ", "")  # this parser puts spaces between folded encoded words
    assert (shown, sender.addr_spec) == (name.replace(" ", ""), store.office.postmaster)
    assert message["To"] == "alice@po.myertor.test"
    assert not message.defects
    line = next(line for line in configuration(named).splitlines() if line.startswith("  name = "))
    assert line == f"  name = {store.quoted(name)}"
