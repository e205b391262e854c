"""The MTA's files follow from the office file, for every office: who gets mail, by which route, from whom."""

from __future__ import annotations

import base64
import re
import runpy
import tomllib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pydantic import SecretStr

from outpost.converge.files import TEMPLATES, rendered
from outpost.errors import OutpostError
from outpost.keys import secrets_file
from outpost.office import Office, ports
from outpost.office.flows import listeners
from outpost.office.load import parse
from roles.mta.declare import smarthost_login
from roles.mta.defence import filter_facts, shaped_rate
from roles.mta.view import MtaView, any_of, dkim_ed25519_key

ROOT = Path(__file__).resolve().parents[2]


def office_of(name: str, **changes: object) -> Office:
    data = tomllib.loads((ROOT / f"inventory/{name}/office.toml").read_text(encoding="utf-8"))
    data["tls"].pop("trusted_authorities", None)
    office, problems = parse(data | changes)
    assert office is not None
    assert problems == []
    return office


def view_of(office: Office) -> MtaView:
    return MtaView(office, office.with_role("mta")[0])


@pytest.fixture(params=["lab", "harbour"])
def view(request: pytest.FixtureRequest) -> MtaView:
    return view_of(office_of(request.param))


def printed(view: MtaView, path: str) -> str:
    return rendered("mta", path, mta=view).content.decode()


def table(view: MtaView, name: str) -> dict[str, str]:
    lines = (line for line in printed(view, f"/etc/postfix/{name}").splitlines() if line[:1] != "#")
    return {key: value for key, _, value in (line.partition(" ") for line in lines)}


def test_every_address_of_the_office_has_exactly_one_entry(view: MtaView) -> None:
    mailboxes, aliases = table(view, "mailboxes"), table(view, "aliases")
    assert set(mailboxes) == set(view.office.mailboxes)
    assert set(mailboxes).isdisjoint(aliases)
    assert {f"postmaster@{view.office.domain}", f"abuse@{view.office.domain}"} <= set(aliases)


def test_the_pattern_of_refused_endings_fits_these_and_no_other(view: MtaView) -> None:
    endings = view.office.policy.refused_attachments
    pattern = re.compile(view.refused_ending)
    cut = {ending[:length] for ending in endings for length in range(len(ending))}
    for ending in {*endings, *cut, *(f"{ending}x" for ending in endings)}:
        assert bool(pattern.fullmatch(ending)) == (ending in endings), ending
    assert any_of(["a", "ab", "abc", "b-c"]) == r"(?:a(?:b(?:c)?)?|b\-c)"


def test_aliases_lead_to_mailboxes_in_one_step(view: MtaView) -> None:
    for members in table(view, "aliases").values():
        assert set(members.split(", ")) <= set(view.office.mailboxes)


def test_senders_are_owned_by_the_user_or_the_members_of_the_alias(view: MtaView) -> None:
    owners = table(view, "sender_logins")
    for address in view.office.mailboxes:
        assert owners[address] == address
    for address, members in view.aliases.items():
        assert owners[address] == ", ".join(members)


def test_every_listener_of_the_role_contract_is_in_master_cf_and_no_other(view: MtaView) -> None:
    sockets = set(re.findall(r"^(\S+:\d+) inet ", printed(view, "/etc/postfix/master.cf"), re.MULTILINE))
    contract = {
        (f"[{entry.address}]" if entry.address.version == 6 else str(entry.address)) + f":{entry.port}"
        for entry in listeners(view.office, view.me)
        if entry.port
        not in (22, 13310, 11335, 11336)  # SSH; stunnel has the listeners of scanner and learning
    }
    assert {socket for socket in sockets if not socket.startswith("127.0.0.1:")} == contract


def test_every_peer_has_a_route_that_must_prove_itself(view: MtaView) -> None:
    routes, policies = table(view, "transport"), table(view, "tls_policy")
    transports = set(re.findall(r"^(\S+) unix ", printed(view, "/etc/postfix/master.cf"), re.MULTILINE))
    for peer in view.office.peers:
        for domain in peer.domains:
            transport, _, next_hop = routes[domain].partition(":")
            assert transport in transports
            assert (
                policies[next_hop].split()[0]
                == {
                    "verify": "secure",
                    "dane": "dane-only",
                    "fingerprint": "fingerprint",
                }[peer.tls]
            )


def test_a_smarthost_must_prove_itself_too() -> None:
    view = view_of(office_of("harbour", smarthost={"host": "relay.example.net", "port": 465}))
    assert "\ndefault_transport = smarthost:[relay.example.net]:465\n" in printed(
        view, "/etc/postfix/main.cf"
    )
    assert "smtp_tls_wrappermode=yes" in printed(view, "/etc/postfix/master.cf")
    assert table(view, "tls_policy")["[relay.example.net]:465"] == "secure match=relay.example.net"


def test_a_smarthost_that_goes_by_address_hears_no_login() -> None:
    by_address = office_of("harbour", smarthost={"host": "relay.example.net"})
    assert "smtp_sasl" not in printed(view_of(by_address), "/etc/postfix/master.cf")


def test_a_login_without_its_password_is_reported_before_anything_is_done() -> None:
    office = office_of("harbour", smarthost={"host": "relay.example.net", "user": "site@example.net"})
    made = secrets_file.complete(office).secrets
    with pytest.raises(OutpostError, match="has no password in the office's secrets") as caught:
        smarthost_login(view_of(office), made)
    assert "./outpost secrets smarthost" in caught.value.remedy
    known = made.model_copy(update={"smarthost": SecretStr("word")})
    assert smarthost_login(view_of(office), known) == "[relay.example.net]:25 site@example.net:word\n"
    assert secrets_file.complete(office, known).secrets.smarthost == SecretStr("word")


def test_no_parameter_of_main_cf_is_set_twice(view: MtaView) -> None:
    names = re.findall(r"^(\w+) =", printed(view, "/etc/postfix/main.cf"), re.MULTILINE)
    assert len(names) == len(set(names))


def test_filters_read_more_than_postfix_takes(view: MtaView) -> None:
    assert view.message_size < view.scan_size <= view.expanded_size
    assert view.queue_reserve >= 2 * view.message_size


def test_no_template_is_left_out(view: MtaView) -> None:
    """Each template renders with the values of its role: a missing name is found here, not on a host."""
    top = TEMPLATES / "mta"
    for found in sorted(top.rglob("*.j2")):
        path = f"/{found.relative_to(top).with_suffix('')}"
        file = rendered(
            "mta",
            path,
            mta=view,
            signing={"s-rsa": "/k"},
            store_keys=["AA:BB"],
            facts=filter_facts(view),
            shaped=shaped_rate(view),
            ports=ports,
        )
        assert b"{{" not in file.content.replace(b"regexp:{{/^[^A-Z]/ Bogus}}", b"")
        assert file.content.endswith(b"\n")


def test_an_ed25519_key_is_its_seed_in_base64() -> None:
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    assert base64.b64decode(dkim_ed25519_key(pem)) == key.private_bytes_raw()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("<{member}> (expanded from <{alias}>): host {store}[{store}] said:", "A recipient (expanded from <{alias}>):"),
        ("<{member}> (expanded from", "A recipient (expanded from"),
        ("    {store}[{store}] said: 550 5.1.1 <{member}> No: {member}", "Details: the office's mailboxes refuse a recipient"),
        ("    User doesn't exist: {member} (in reply to RCPT TO", "Details: User doesn't exist: a recipient"),
        ("    <{member}> Saved", "Details: a recipient"),
        ("    {store}[{store}]:24: 250 2.0.0", "Details: the office's mailboxes:24: 250 2.0.0"),
        ("    connect to {store}[{store}]:24: no", "Details: connect to the office's mailboxes:24: no"),
        ("Diagnostic-Code: smtp; 550 5.1.1 <{member}> No: {member}", "Diagnostic-Code: smtp; 550 5.1.1 a recipient"),
        ("Diagnostic-Code: X-Postfix; connect to {store}[{store}]:24: no", "Diagnostic-Code: X-Postfix; connect to the office's mailboxes:24: no"),
        ("Remote-MTA: dns; {store}", None),
        ("Remote-MTA: dns; mx.elsewhere.test", "Remote-MTA: dns; mx.elsewhere.test"),
        ("Original-Recipient: rfc822;{alias}", "Original-Recipient: rfc822;{alias}"),
        ("To: {member}", "To: {member}"),
    ],
)  # fmt: skip
def test_a_notification_names_neither_members_nor_the_store(
    view: MtaView, line: str, expected: str | None
) -> None:
    """Apply the rules as Postfix does: the first match counts. `REPLACE` drops blanks at the start, `IGNORE` drops the line."""
    words = {
        "member": next(iter(view.aliases.values()))[0],
        "alias": next(iter(view.aliases)),
        "store": str(view.store_addresses[0]),
    }
    text: str | None = line.format(**words)
    for rule in printed(view, "/etc/postfix/notices").splitlines():
        if not rule.startswith("/"):
            continue
        expression, _, action = rule[1:].partition("/ ")
        found = re.search(expression, line.format(**words))
        if found:
            assert not re.search(r"\$\d[A-Za-z]", action), "Postfix takes that for one long index"
            template = re.sub(r"\$\{?(\d)\}?", r"\\g<\1>", action.removeprefix("REPLACE "))
            text = None if action == "IGNORE" else found.expand(template).lstrip()
            break
    assert text == (None if expected is None else expected.format(**words))


@pytest.mark.parametrize(("version", "listens", "first"), [(4, "ipv4", "any"), (6, "all", "ipv6")])
def test_postfix_without_ipv4_still_has_its_listener_on_loopback(
    version: int, listens: str, first: str
) -> None:
    """With `inet_protocols = ipv6` master(8) does not start: "bad hostname or network address: 127.0.0.1:10025"."""
    office = office_of("lab")
    zones = {
        name: zone.model_copy(
            update={"networks": tuple(net for net in zone.networks if net.version == version)}
        )
        for name, zone in office.zones.items()
    }
    lines = printed(view_of(office.model_copy(update={"zones": zones})), "/etc/postfix/main.cf").splitlines()
    assert f"inet_protocols = {listens}" in lines
    assert f"smtp_address_preference = {first}" in lines


REPORTS = "/usr/local/lib/outpost/dmarc-reports"
TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:09DE 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 1
   1: 0100007F:C350 0100007F:09DE 01 00000000:00000000 00:00000000 00000000   107        0 2
   2: 0100007F:C351 0100007F:09DE 06 00000000:00000000 00:00000000 00000000     0        0 3
"""


@pytest.mark.parametrize(("port", "uid"), [(50000, 107), (50001, None), (50002, None)])
def test_reports_are_taken_from_the_account_that_makes_them(
    view: MtaView, port: int, uid: int | None, tmp_path: Path
) -> None:
    """A daemon of the host could send through the reports' listener, with the office's signature."""
    program = printed(view, REPORTS)
    part = tmp_path / "part.py"
    part.write_text(program[program.index("def account(") : program.index("class Listener(")])
    assert runpy.run_path(str(part))["account"](port, TCP) == uid
    assert "!= os.getuid():" in program[program.index("def handle(") : program.index('self.answer("220')]
