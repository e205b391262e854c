"""Promises of the store, asked of its daemons: only authorised clients read, deliver or send. The checks leave no mail behind."""

from __future__ import annotations

import inspect
import json
import re
import shlex
from collections.abc import Sequence
from ipaddress import ip_address
from secrets import randbelow, token_hex

import pytest
from testinfra.host import Host as TestinfraHost

from outpost.office import Host, Office, ports
from outpost.office.tables.values import IPAddress
from outpost.onhost import learn
from outpost.target import Target
from outpost_lab import pace
from roles.store.declare import INDEXES_IN_USE
from roles.store.view import FOLDERS, QUOTA_GRACE, StoreView
from tests.live.asking import LOGINS, account, at, doveconf, modes
from tests.live.conftest import reach
from tests.live.speaking import OLD_OFFERS
from tests.live.systemd import Units

pytestmark = [pytest.mark.role("store"), pytest.mark.looks, pytest.mark.daemons("dovecot")]

TLS = "/etc/outpost/tls"
OWN_CERTIFICATE = f"-cert {TLS}/host.pem -key {TLS}/host.key"
CLEAR_TEXT_PORTS = (110, 143, 587, 995, 2000)
TLS_FIRST = (ports.IMAPS, ports.SUBMISSIONS)
SECURED = dict.fromkeys(TLS_FIRST, "") | {ports.MANAGESIEVE: "-starttls sieve"}
"""Ports that users reach → the way TLS begins there (``openssl s_client``)."""
ASK = """
import json, sys, urllib.request
for command, question in json.loads(sys.argv[2]):
    url = f"http://127.0.0.1:{sys.argv[1]}/?command={command}"
    with urllib.request.urlopen(url, json.dumps(question).encode()) as answer:
        print(json.load(answer)["status"])
"""

PASSKEY = """
import hashlib, json, sys
sys.path.insert(0, "/usr/local/lib/outpost/accounts")
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from fido2 import cose, utils, webauthn
from outpost.onhost.passkeys import Passkeys

host = json.load(open("/etc/outpost/accounts.json"))["site"]
passkeys, key = Passkeys(host), ec.generate_private_key(ec.SECP256R1())
public = cose.ES256.from_cryptography_key(key.public_key())
stored = bytes(webauthn.AttestedCredentialData.create(bytes(16), b"own", public)).hex()

def sign(question, site, signer):
    challenge = question["publicKey"]["challenge"]
    client = json.dumps({"type": "webauthn.get", "challenge": challenge, "origin": site}).encode()
    data = hashlib.sha256(host.encode()).digest() + b"\\1" + bytes(4)
    signature = signer.sign(data + hashlib.sha256(client).digest(), ec.ECDSA(hashes.SHA256()))
    parts = {"clientDataJSON": client, "authenticatorData": data, "signature": signature}
    encoded = {name: utils.websafe_encode(part) for name, part in parts.items()}
    name = utils.websafe_encode(b"own")
    return json.dumps({"id": name, "rawId": name, "type": "public-key", "response": encoded})

def opens(kept, answer):
    try:
        passkeys.check(kept, [stored], answer)
    except ValueError:
        return False
    return True

question, kept = passkeys.to_use([stored])
results = {site: opens(kept, sign(question, site, key)) for site in sys.argv[1:]}
other, _ = passkeys.to_use([stored])
results["another key"] = opens(kept, sign(question, sys.argv[1], ec.generate_private_key(ec.SECP256R1())))
results["another question"] = opens(kept, sign(other, sys.argv[1], key))
print(json.dumps(results))
"""
"""A passkey in software, made for this check, and pages that ask it."""


@pytest.fixture
def store(office: Office, me: Host) -> StoreView:
    """The host as the store role derives it."""
    return StoreView(office, me)


@pytest.fixture
def mta(target: Target, office: Office, pytestconfig: pytest.Config) -> TestinfraHost:
    """The host whose certificate the delivery port accepts."""
    return reach(target, office, office.with_role("mta")[0], pytestconfig)


@pytest.fixture
def webmail(target: Target, office: Office, pytestconfig: pytest.Config) -> TestinfraHost:
    """A host that can reach ManageSieve; from the store itself Dovecot treats every connection as secure."""
    return reach(target, office, office.with_role("webmail")[0], pytestconfig)


# The client waits for the greeting and for the end of the connection, because a client that talks too early is refused for that.
DIALOGUE = """
coproc S { exec timeout $PATIENCE openssl s_client -quiet "${@:2}" 2>&1; }
trap 'kill $S_PID 2>/dev/null' EXIT
exec 3<&"${S[0]}" 4>&"${S[1]}"
while [[ $GREETED ]] && IFS= read -r line <&3; do
    printf '%s\\n' "$line"
    case $line in 220*|OK*|\\**OK*) break;; esac
done
printf %s "$1" >&4 2>/dev/null
cat <&3
"""


def dialogue(
    client: TestinfraHost, socket: str, lines: Sequence[str] = (), options: str = "", *, greeted: bool = True
) -> str:
    """A server's answers to these lines over TLS; after the last one it must close the connection.

    Args:
        greeted: Whether the protocol begins with the server's greeting.
    """
    commands = "".join(f"{line}\r\n" for line in lines)
    trust = f"-CAfile {TLS}/ca.pem -CApath /etc/ssl/certs -verify_return_error"
    command = (
        f"GREETED={'yes' if greeted else ''} PATIENCE={20 * pace.load():.0f} bash -c {shlex.quote(DIALOGUE)} dialogue {shlex.quote(commands)} "
        f"-connect {shlex.quote(socket)} {trust} {options} 2>&1"
    )
    # bash closes the pipes of a process that ends before they are used
    for _ in range(5):
        output: str = client.run(command, live=True).stdout
        if "Bad file descriptor" not in output:
            break
    return output


def handshake(client: TestinfraHost, socket: str, options: str) -> str:
    """The output of openssl about a handshake."""
    command = f"timeout {20 * pace.load():.0f} openssl s_client -connect {shlex.quote(socket)} {options} </dev/null 2>&1"
    output: str = client.run(command, live=True).stdout
    return output


@pytest.fixture(scope="session")
def settings(host: TestinfraHost) -> dict[str, str]:
    """Settings as Dovecot understands them."""
    return doveconf(host)


@pytest.fixture(scope="session")
def on_delivery(host: TestinfraHost) -> dict[str, str]:
    """Those that hold where mail is delivered."""
    return doveconf(host, delivery=True)


# Who gets in ----------------------------------------------------------------------------------------------------


@pytest.mark.probe
@pytest.mark.control("TLS-10")
def test_delivery_is_refused_without_a_certificate(host: TestinfraHost, store: StoreView) -> None:
    """LMTP is refused to a client without a certificate."""
    for address in store.lmtp_addresses:
        output = dialogue(host, at(address, ports.LMTP), ["LHLO stranger.invalid", "QUIT"])
        assert "alert certificate required" in output
        assert "220 " not in output


@pytest.mark.live
@pytest.mark.control("TLS-10")
def test_delivery_is_refused_with_a_certificate_of_a_foreign_authority(
    host: TestinfraHost, store: StoreView, office: Office
) -> None:
    """LMTP is refused to a client with a certificate of a foreign authority."""
    name = office.with_role("mta")[0].fqdn
    forged = host.check_output("mktemp -d")
    try:
        host.check_output(
            f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN={name} "
            f"-addext subjectAltName=DNS:{name} -keyout {forged}/key -out {forged}/pem 2>&1"
        )
        for address in store.lmtp_addresses:
            output = dialogue(
                host,
                at(address, ports.LMTP),
                ["LHLO stranger.invalid", "QUIT"],
                f"-cert {forged}/pem -key {forged}/key",
            )
            assert "alert unknown ca" in output
            assert "220 " not in output
    finally:
        host.run(f"rm -rf {forged}")


@pytest.mark.probe
@pytest.mark.control("TLS-10")
def test_delivery_is_refused_to_the_offices_hosts_that_are_no_mta(
    host: TestinfraHost, store: StoreView
) -> None:
    """LMTP is refused to hosts of the office that are no MTA."""
    for address in store.lmtp_addresses:
        output = dialogue(host, at(address, ports.LMTP), ["LHLO store.invalid", "QUIT"], OWN_CERTIFICATE)
        assert "alert" in output
        assert "220 " not in output


@pytest.mark.probe
@pytest.mark.control("TLS-10")
def test_only_webmail_asks_about_accounts(
    host: TestinfraHost, mta: TestinfraHost, webmail: TestinfraHost, store: StoreView
) -> None:
    """Only webmail, with its certificate, can query the accounts service."""
    question = '{"do": "state", "user": "nobody", "session": "none"}'
    for address in store.listens(ports.ACCOUNTS):
        socket = at(address, ports.ACCOUNTS)
        assert "refused" in dialogue(webmail, socket, [question], OWN_CERTIFICATE, greeted=False)
        assert "refused" not in dialogue(host, socket, [question], OWN_CERTIFICATE, greeted=False)
        assert "refused" not in dialogue(host, socket, [question], greeted=False)
        assert "CONNECTED" not in dialogue(mta, socket, [question], OWN_CERTIFICATE, greeted=False)


@pytest.mark.probe
@pytest.mark.control("TLS-10")
def test_no_other_account_of_the_store_hands_users_mail_to_the_mtas(
    host: TestinfraHost, store: StoreView
) -> None:
    """Accounts of the store that cannot read its key cannot hand over users' mail to the MTAs."""
    if not store.has_relay_listener:
        pytest.skip("this office has one MTA, so the store has no listener in front of several")
    for address in store.relay_listeners:
        socket = at(address, ports.RELAY)
        assert "220 " in dialogue(host, socket, ["QUIT"], OWN_CERTIFICATE)
        assert "220 " not in dialogue(host, socket, ["QUIT"])


@pytest.mark.control("AUT-02", "AUT-06")
def test_nobody_reads_what_users_chose_but_dovecot(host: TestinfraHost) -> None:
    """Passwords and settings that users chose are readable for Dovecot and the accounts service only."""
    assert modes(host, "/var/lib/outpost-accounts") == ["outpost-accounts dovecot 2750"]
    looked = "setpriv --reuid=%s --regid=%s --init-groups ls /var/lib/outpost-accounts >/dev/null"
    assert host.run(looked, "nobody", "nogroup").rc != 0
    assert host.run(looked, "vmail", "vmail").rc != 0
    assert host.run(looked, "outpost-accounts", "outpost-accounts").rc == 0


@pytest.mark.control("AUT-06")
def test_a_passkey_opens_nothing_for_a_page_that_imitates_webmail(
    host: TestinfraHost, office: Office
) -> None:
    """A passkey's answer opens webmail on its own page only, by the right key and to the question asked."""
    name = office.with_role("webmail")[0].fqdn
    own = f"https://{name}"
    others = (f"http://{name}", f"https://{name}.example", f"https://not.{name}", f"https://{name}:444")
    results = json.loads(host.check_output(f"python3 -I -B -c %s {own} {' '.join(others)}", PASSKEY))
    assert results == {own: True} | dict.fromkeys((*others, "another key", "another question"), False)


@pytest.mark.probe
@pytest.mark.control("TLS-10", "DSN-01")
def test_the_mta_delivers_to_mailboxes_and_unknown_ones_are_rejected_at_once(
    mta: TestinfraHost, store: StoreView, office: Office
) -> None:
    """The MTA can deliver to mailboxes, and an unknown recipient is rejected at once."""
    for address in store.lmtp_addresses:
        output = dialogue(
            mta,
            at(address, ports.LMTP),
            [
                "LHLO mta.invalid",
                "MAIL FROM:<>",
                f"RCPT TO:<{office.mailboxes[0]}>",
                f"RCPT TO:<{office.mailboxes[0].replace('@', '+detail@')}>",
                f"RCPT TO:<no-such-user@{office.domain}>",
                "QUIT",
            ],
            OWN_CERTIFICATE,
        )
        assert output.count("250 2.1.5") == 2, output
        assert "550 5.1.1" in output


@pytest.mark.probe
@pytest.mark.control("STO-02", "REL-03")
@pytest.mark.parametrize("port", CLEAR_TEXT_PORTS)
def test_no_clear_text_port_is_open(host: TestinfraHost, me: Host, port: int) -> None:
    """No port for clear text is open."""
    for address in me.all_addresses:
        assert not host.addr(str(address)).port(port).is_reachable


@pytest.mark.probe
@pytest.mark.control("REL-04", "AUT-05")
def test_managesieve_takes_no_password_before_tls(webmail: TestinfraHost, store: StoreView) -> None:
    """ManageSieve accepts no password before TLS."""
    login = r'AUTHENTICATE "PLAIN" "AGEAYg=="\r\n'
    for address in store.office_addresses:
        output = webmail.check_output(
            "bash -c %s",
            f"exec 3<>/dev/tcp/{address}/{ports.MANAGESIEVE}; printf '{login}' >&3; "
            # the refusal first: otherwise output behind the login would count as its answer
            r"while IFS= read -t 10 -r line <&3; do echo \"$line\"; [[ $line != NO* ]] || break; done; "
            r"printf 'LOGOUT\r\n' >&3; timeout 10 cat <&3",
        )
        assert '"SASL" ""' in output
        assert "NO (ENCRYPT-NEEDED)" in output


@pytest.mark.probe
@pytest.mark.control("AUT-05", "REL-03")
def test_submission_wants_a_login_and_offers_two_ways_to_send_a_password(
    host: TestinfraHost, store: StoreView
) -> None:
    """Submission requires a login, and offers AUTH PLAIN and LOGIN only."""
    for address in store.login_addresses:
        output = dialogue(
            host, at(address, ports.SUBMISSIONS), ["EHLO client.invalid", "MAIL FROM:<a@example.com>", "QUIT"]
        )
        assert "250-AUTH PLAIN LOGIN\n" in output.replace("\r", "")
        assert "STARTTLS" not in output
        assert "530 5.7.0" in output


@pytest.mark.probe
@pytest.mark.control("AUT-04")
def test_a_wrong_password_and_an_unknown_user_get_the_same_answer(
    host: TestinfraHost, store: StoreView, office: Office
) -> None:
    """A wrong password and an unknown user get the same answer."""
    socket = at(store.login_addresses[0], ports.IMAPS)
    answers = {
        dialogue(host, socket, [f'a LOGIN {user} "not-the-password"', "b LOGOUT"])
        .replace(user, "")
        .partition("a NO")[2]
        for user in (office.mailboxes[0], f"no-such-user@{office.domain}")
    }
    assert len(answers) == 1
    assert "[AUTHENTICATIONFAILED] Authentication failed." in answers.pop()


@pytest.mark.control("TLS-10")
def test_a_login_needs_a_certificate_or_the_users_network(settings: dict[str, str], store: StoreView) -> None:
    """A login needs a certificate of the office, or an address in the users' networks."""
    rule = settings["passdb/lua/passdb_fields/allow_real_nets"]
    assert rule.startswith('%{cert | if("eq", "valid", "0.0.0.0/0,::/0", ')
    assert ",".join(map(str, store.certless_networks)) in rule


@pytest.fixture
def known(target: Target, store: StoreView) -> tuple[str, str]:
    """A user's address and password; outside the lab only the user knows them."""
    if target.instance is None:
        pytest.skip("it needs a user's password, which Outpost knows in a lab only")
    passwords: dict[str, str] = json.loads((target.data / "passwords.json").read_text(encoding="utf-8"))
    of_open = [(user, password) for user, password in passwords.items() if user in store.active]
    if not of_open:
        pytest.skip("no account is open, as after the first step of `outpost decommission`")
    return of_open[0]


@pytest.mark.probe
@pytest.mark.control("TLS-10")
def test_the_right_password_opens_nothing_from_a_host_without_its_certificate(
    webmail: TestinfraHost, store: StoreView, known: tuple[str, str]
) -> None:
    """The right password is refused from a host of the office that shows no certificate."""
    login = 'a LOGIN {} "{}"'.format(*known)
    for address in store.office_addresses:
        socket = at(address, ports.IMAPS)
        assert "\na OK" in dialogue(webmail, socket, [login, "b LOGOUT"], OWN_CERTIFICATE)
        assert "\na NO [AUTHENTICATIONFAILED]" in dialogue(webmail, socket, [login, "b LOGOUT"])


@pytest.mark.probe
@pytest.mark.control("TLS-10")
def test_the_right_password_opens_nothing_from_outside_the_users_networks(
    host: TestinfraHost, store: StoreView, known: tuple[str, str]
) -> None:
    """The right password is refused from outside the users' networks.

    Dovecot's login service is asked directly, because the packet filter would drop such a connection (NET-01).
    """
    (user, password), users = known, store.certless_networks[0]
    for remote, expected in ((users[9], "auth succeeded"), (ip_address("198.51.100.1"), "auth failed")):
        command = f"doveadm auth test -x service=imap -x rip={remote} -x real_rip={remote} {user}"
        assert expected in host.run("printf '%%s\\n' %s | " + command, password, live=True).stdout, remote


# Encryption -----------------------------------------------------------------------------------------------------


@pytest.mark.probe
@pytest.mark.control("TLS-01", "TLS-02", "TLS-03")
@pytest.mark.parametrize(
    "offer",
    [
        "-tls1_2 -cipher kRSA",
        "-tls1_2 -cipher DHE+AESGCM",
        "-tls1_2 -cipher ECDHE-ECDSA-AES128-SHA256:ECDHE-RSA-AES128-SHA256",
        "-tls1_2 -sigalgs ECDSA+SHA224:RSA+SHA224",
    ],
    ids=["RSA key exchange", "finite-field key exchange", "CBC with SHA-256", "SHA-224"],
)
def test_weak_offers_are_refused(
    host: TestinfraHost, mta: TestinfraHost, store: StoreView, offer: str
) -> None:
    """Weak TLS offers are refused."""
    for address in store.login_addresses:
        for port, first in SECURED.items():
            assert "Cipher is (NONE)" in handshake(host, at(address, port), f"{first} {offer}"), at(
                address, port
            )
    for address in store.lmtp_addresses:
        assert "Cipher is (NONE)" in handshake(mta, at(address, ports.LMTP), f"{OWN_CERTIFICATE} {offer}")


@pytest.mark.probe
@pytest.mark.control("TLS-01", "TLS-02")
@pytest.mark.parametrize("offer", OLD_OFFERS.values(), ids=OLD_OFFERS)
def test_old_offers_are_taken_only_where_the_office_says_so(
    host: TestinfraHost, mta: TestinfraHost, store: StoreView, office: Office, offer: str
) -> None:
    """Old TLS offers are accepted only if [tls] profile is "old", and never between hosts of the office."""
    for address in store.lmtp_addresses:
        assert "Cipher is ECDHE" not in handshake(mta, at(address, ports.LMTP), f"{OWN_CERTIFICATE} {offer}")
    for address in store.login_addresses:
        for port, first in SECURED.items():
            taken = "Cipher is ECDHE" in handshake(host, at(address, port), f"{first} {offer}")
            relaxed = office.tls.profile == "old" and address not in store.office_addresses
            assert taken == relaxed, at(address, port)


@pytest.mark.probe
@pytest.mark.control("TLS-02")
def test_a_current_client_gets_a_post_quantum_key_exchange(host: TestinfraHost, store: StoreView) -> None:
    """A current client gets a post-quantum key exchange."""
    for address in store.login_addresses:
        for port, first in SECURED.items():
            output = handshake(host, at(address, port), f"{first} -tls1_3 -groups X25519MLKEM768")
            assert "Cipher is TLS_" in output, at(address, port)


@pytest.mark.probe
@pytest.mark.control("TLS-02")
def test_a_current_client_gets_tls_1_3(host: TestinfraHost, store: StoreView) -> None:
    """A current client gets TLS 1.3."""
    for address in store.login_addresses:
        for port in TLS_FIRST:
            output = dialogue(
                host, at(address, port), ["QUIT" if port == ports.SUBMISSIONS else "a LOGOUT"], "-tls1_3"
            )
            assert "ready" in output


@pytest.mark.probe
@pytest.mark.control("TLS-10")
def test_users_see_the_public_certificate_and_hosts_the_internal_one(
    host: TestinfraHost, store: StoreView
) -> None:
    """Users are shown the public certificate, and hosts of the office the internal one."""
    for address in store.login_addresses:
        expected = "host" if address in store.office_addresses else "public"
        shown = host.check_output(
            f"openssl s_client -connect {at(address, ports.IMAPS)} </dev/null 2>/dev/null | openssl x509 -noout -fingerprint -sha256"
        )
        assert shown == host.check_output(
            f"openssl x509 -in {TLS}/{expected}.pem -noout -fingerprint -sha256"
        )


@pytest.mark.probe
@pytest.mark.control("DSN-06")
def test_greetings_name_no_software(host: TestinfraHost, store: StoreView) -> None:
    """Greetings do not name the software."""
    for address in store.login_addresses:
        for port, goodbye in ((ports.IMAPS, "a LOGOUT"), (ports.SUBMISSIONS, "QUIT")):
            output = dialogue(host, at(address, port), [goodbye])
            assert "ready" in output
            assert "dovecot" not in output.lower()


# Accounts and mailboxes -----------------------------------------------------------------------------------------


def test_the_configuration_is_accepted_without_a_warning(host: TestinfraHost) -> None:
    """Dovecot accepts its configuration without a warning."""
    assert host.run("doveconf -n >/dev/null").stderr == ""


@pytest.mark.control("AUT-01", "SEC-01")
def test_accounts_are_the_offices_users_with_argon2id(
    host: TestinfraHost, office: Office, store: StoreView
) -> None:
    """The accounts are exactly the office's users, with passwords hashed by Argon2id."""
    assert modes(host, "/etc/dovecot/users") == ["root dovecot 640"]
    schemes = host.check_output("sed -nE 's/^([^#:]+):(\\{[^}]*\\}\\$[^$]*).*/\\1 \\2/p' /etc/dovecot/users")
    assert schemes.splitlines() == [f"{address} {{ARGON2ID}}$argon2id" for address in store.active]
    assert host.check_output("doveadm user '*'").splitlines() == list(office.mailboxes)


@pytest.mark.control("STO-01")
def test_mail_belongs_to_one_account_and_nobody_else_reads_it(host: TestinfraHost) -> None:
    """All mail belongs to the account vmail, and no other account can read it."""
    assert modes(host, "/srv/mail") == ["vmail vmail 700"]
    assert host.check_output("find /srv/mail ! -user vmail -o -type d -perm /077 | head -5") == ""
    assert account(host, "vmail") == ("/usr/sbin/nologin", ["vmail"])


@pytest.mark.control("DOS-08")
def test_each_mailbox_has_the_size_that_the_office_file_gives_it(host: TestinfraHost, office: Office) -> None:
    """Each mailbox has the quota that the office file sets."""
    rows = host.check_output("doveadm -f tab quota get -A").splitlines()[1:]
    limits = {
        address: int(limit) * 1024 if limit.isdigit() else None
        for address, _, kind, _, limit, *_ in (row.split("\t") for row in rows)
        if kind == "STORAGE"
    }
    assert {user.address: limits.get(user.address) for user in office.users} == {
        user.address: office.quota(user) for user in office.users
    }


@pytest.mark.control("DOS-08")
def test_a_full_mailbox_takes_one_more_message_at_most(settings: dict[str, str]) -> None:
    """A mailbox exceeds its quota by 10 MiB at most."""
    assert settings["quota_storage_grace"] == f"{QUOTA_GRACE}B"


@pytest.mark.control("DOS-08")
def test_no_service_of_dovecot_lacks_the_plugins_for_quotas_and_rights(
    host: TestinfraHost, office: Office
) -> None:
    """Each service of Dovecot has the plug-ins for quotas and for the rights to shared mailboxes."""
    shown = host.check_output("doveconf -n | sed -n '/mail_plugins/,/}/p'")
    assert "mail_plugins =" not in shown, "a list that replaces the common one"
    common, *_ = re.findall(r"^mail_plugins \{([^}]*)\}", shown, re.MULTILINE)
    assert {"quota", *(["acl"] if office.shared else [])} <= set(re.findall(r"(\w+) = yes", common))
    assert re.findall(r"(\w+) = no", shown) == []


@pytest.mark.control("DOS-14")
def test_messages_folders_and_filters_of_a_user_are_limited(
    settings: dict[str, str], store: StoreView
) -> None:
    """Each user's messages, folders and filter scripts are limited in number, and a filter's CPU time too.

    The settings must be numbers: "unlimited" and 0 set no limit.
    """
    assert int(settings["quota_message_count"]) == store.most_messages
    assert 0 < int(settings["quota_mailbox_count"]) <= FOLDERS
    assert 0 < int(settings["sieve_quota_script_count"]) <= 50
    assert settings["sieve_quota_storage_size"] in ("4 M", "4M")
    assert settings["sieve_max_cpu_time"] in ("10 secs", "10s")


@pytest.mark.control("AUT-03", "AUT-04")
def test_a_client_is_known_by_the_address_it_comes_from(settings: dict[str, str], store: StoreView) -> None:
    """Only webmail can name another client address, and a wrong password is answered after two seconds."""
    assert set(settings["login_trusted_networks"].split()) == set(map(str, store.webmail_addresses))
    assert settings["auth_failure_delay"] in ("2 secs", "2s")


@pytest.mark.control("AUT-06")
def test_no_password_opens_an_account_but_the_users_own(
    host: TestinfraHost, settings: dict[str, str]
) -> None:
    """Passwords are compared with those of the user's account only, by one passdb, and at each login again."""
    databases = re.findall(r"^passdb (\S+) \{", host.check_output("doveconf passdb"), re.MULTILINE)
    assert databases == ["lua"]
    assert settings["auth_cache_size"] == "0", "a removed password would go on opening the account"


@pytest.mark.control("TLS-10", "SPO-02")
def test_users_mail_leaves_for_the_mta_alone(settings: dict[str, str]) -> None:
    """The store hands over users' mail by TLS with a verified certificate, and without the user's address."""
    assert settings["submission_relay_ssl"] == settings["submission_ssl"] == "smtps"
    assert settings["submission_relay_ssl_verify"] == settings["submission_relay_trusted"] == "yes"
    assert settings["submission_add_received_header"] == "no"


def test_a_sender_does_not_choose_the_folder(on_delivery: dict[str, str]) -> None:
    """Mail to an address with a detail goes to the inbox, unless the user's filter says otherwise."""
    assert on_delivery["lmtp_save_to_detail_mailbox"] == "no"


@pytest.mark.control("DSN-01", "DOS-08")
def test_a_full_mailbox_makes_mail_wait_and_never_bounce(on_delivery: dict[str, str]) -> None:
    """Mail to a full mailbox is deferred, never bounced."""
    assert on_delivery["quota_full_tempfail"] == on_delivery["lmtp_rcpt_check_quota"] == "yes"


@pytest.mark.control("QUE-02")
def test_no_sender_writes_what_proves_a_second_copy(on_delivery: dict[str, str]) -> None:
    """A message counts as a second copy by the MTA's own trace line, which is below the store's."""
    assert on_delivery["lmtp_add_received_header"] == "yes"


@pytest.mark.control("AVL-02")
def test_what_was_acknowledged_is_on_disk(on_delivery: dict[str, str]) -> None:
    """A delivered message is on disk (fsync) before it is acknowledged."""
    assert on_delivery["mail_fsync"] == "always"


@pytest.mark.control("DSN-09")
def test_an_automatic_reply_comes_once_a_day_at_most(settings: dict[str, str]) -> None:
    """A sender gets at most one vacation reply a day."""
    assert settings["sieve_vacation_min_period"] in ("1 days", "1d", "24h")


@pytest.mark.control("SPO-02")
def test_filters_send_with_their_users_address(settings: dict[str, str]) -> None:
    """Mail that a Sieve filter sends has the filter's user as envelope sender."""
    assert settings["sieve_vacation_send_from_recipient"] == "yes"
    assert settings["sieve_redirect_envelope_from"] == "recipient"


@pytest.mark.probe
@pytest.mark.control("DSN-01", "AMP-04", "DOS-14")
def test_filters_cannot_reject_edit_headers_or_notify(host: TestinfraHost, store: StoreView) -> None:
    """Sieve filters cannot reject accepted mail, edit headers, send notifications or use regular expressions."""
    output = dialogue(host, at(store.login_addresses[0], ports.MANAGESIEVE), ["LOGOUT"], "-starttls sieve")
    (offered,) = (line for line in output.splitlines() if line.startswith('"SIEVE"'))
    assert "vacation" in offered
    assert not {"reject", "ereject", "enotify", "editheader", "regex"} & set(
        offered.replace('"', " ").split()
    )


@pytest.mark.control("DOS-13")
def test_one_users_program_does_not_take_everybodys_sessions(
    host: TestinfraHost, settings: dict[str, str], office: Office, store: StoreView
) -> None:
    """IMAP connections are limited for each user and in total."""
    most = host.check_output("doveconf -f protocol=imap -h mail_max_userip_connections")
    assert (
        int(settings["mail_max_userip_connections"]) == office.limits.imap_connections_per_user == int(most)
    )
    assert int(settings["service/imap-login/process_limit"]) == store.size.sessions
    assert int(settings["service/stats/client_limit"]) == store.size.dovecot_clients


@pytest.mark.control("LOG-03")
def test_passwords_are_in_no_log(settings: dict[str, str]) -> None:
    """Passwords are not logged."""
    for name in ("auth_verbose_passwords", "auth_debug_passwords", "auth_debug"):
        assert settings[name] == "no", name


# Processes ------------------------------------------------------------------------------------------------------


@pytest.mark.control("INP-13")
def test_what_strangers_send_is_read_without_root(host: TestinfraHost, settings: dict[str, str]) -> None:
    """Processes that read strangers' input do not run as root."""
    assert set(host.check_output("ps -o user:32= -C stunnel4").split()) == {"stunnel4"}
    for name in LOGINS:
        assert settings[f"service/{name}/user"] in ("dovenull", "$SET:default_login_user"), name
        assert settings[f"service/{name}/chroot"] == "login", name
        assert settings[f"service/{name}/client_limit"] == "1", name
    for name in ("lmtp", "indexer-worker", "quota-warning"):
        assert settings[f"service/{name}/user"] == "vmail", name


UNITS = ("dovecot.service", "stunnel@lmtp.service", "stunnel@accounts.service", "outpost-accounts.service")


@pytest.mark.parametrize("unit", UNITS)
def test_dovecot_starts_at_boot_and_after_a_crash(units: Units, unit: str) -> None:
    """The service starts when the host boots, and restarts after a crash."""
    assert units.runs(unit)
    assert units.comes_up(unit)
    assert units[unit]["Restart"] == "on-failure"


@pytest.mark.control("SYS-01")
@pytest.mark.parametrize("unit", UNITS)
def test_dovecot_runs_in_a_sandbox(units: Units, unit: str) -> None:
    """The service runs in a sandbox (at most 4.0 by systemd-analyze security)."""
    assert units.exposure(unit) <= 4.0


@pytest.mark.control("SYS-01")
@pytest.mark.parametrize(
    "unit",
    ["outpost-digest.service", "outpost-forget.service", "outpost-rescan.service", "outpost-twice.service"],
)
def test_what_works_on_mailboxes_by_night_is_in_a_sandbox_and_no_root(
    units: Units, host: TestinfraHost, unit: str
) -> None:
    """Scheduled jobs on mailboxes run as vmail and in a sandbox."""
    assert units.exposure(unit) <= 4.0
    assert host.check_output(f"systemctl show --property User --value {unit}") == "vmail"


@pytest.mark.live
@pytest.mark.control("AUT-03")
def test_guessers_are_shut_out_and_nobody_else(host: TestinfraHost, office: Office) -> None:
    """Many different wrong passwords for an account block that account, and nobody else.

    The check queries the login policy service itself. The accounts cannot exist, so that no alarm follows (`outpost.onhost.watch.logins`).
    """
    guessed, colleague = (f"{name}-{token_hex(4)}@verification.invalid" for name in ("guessed", "colleague"))
    place = f"198.18.{randbelow(256)}.66"  # an address of RFC 2544, a new one each time: verifications must not count as a guesser
    wrong = {"remote": place, "success": False}
    questions: list[tuple[str, dict[str, object]]] = [
        *(
            ("report", wrong | {"login": guessed, "pwhash": str(n)})
            for n in range(office.limits.login_failures)
        ),
        *(("report", wrong | {"login": colleague, "pwhash": "old"}) for _ in range(30)),
        ("allow", {"login": guessed, "remote": place}),
        ("allow", {"login": guessed, "remote": "198.51.100.1"}),
        ("allow", {"login": colleague, "remote": place}),
    ]
    output = host.check_output("python3 -c %s %s %s", ASK, str(ports.LOGINS), json.dumps(questions))
    answers = output.split()[-3:]
    assert answers == ["-1", "-1", "0"]
    assert host.service("outpost-logins.service").is_enabled
    assert f"server_url = http://127.0.0.1:{ports.LOGINS}/" in host.check_output("doveconf -n")


@pytest.mark.live
@pytest.mark.control("AUT-03")
def test_only_dovecot_and_root_use_the_login_policy(host: TestinfraHost) -> None:
    """No other account of the host can use the login policy service."""
    questions = json.dumps([("allow", {"login": "check@verification.invalid", "remote": "198.51.100.1"})])
    command = f"python3 -c {shlex.quote(ASK)} {ports.LOGINS} {shlex.quote(questions)}"
    assert host.check_output(command) == "0"
    result = host.run(f"setpriv --reuid=nobody --regid=nogroup --clear-groups {command}")
    assert result.rc != 0
    closed = (
        "RemoteDisconnected",
        "BrokenPipeError",
        "ConnectionResetError",
    )  # before or after the question was sent
    assert any(error in result.stderr for error in closed), result.stderr


@pytest.mark.control("AUT-03")
def test_nobody_is_slowed_for_what_others_behind_the_same_address_do(host: TestinfraHost) -> None:
    """A login is not delayed because of wrong passwords of others behind the same address."""
    assert host.run("test -e /run/dovecot/anvil-auth-penalty").rc == 1


@pytest.mark.control("SYS-01")
def test_the_login_policy_runs_in_a_sandbox(units: Units) -> None:
    """The login policy service runs in a sandbox (at most 4.0 by systemd-analyze security)."""
    assert units.exposure("outpost-logins.service") <= 4.0


@pytest.mark.probe
@pytest.mark.control("VIR-04")
def test_mailboxes_are_scanned_again_by_night(host: TestinfraHost, units: Units, store: StoreView) -> None:
    """Mailboxes are scanned for viruses again every night, and each MTA's scanner answers."""
    assert units.runs("outpost-rescan.timer")
    assert units.comes_up("outpost-rescan.timer")
    scanners = host.check_output("python3 -I /usr/local/lib/outpost/rescan ping")
    assert scanners.split() == ["PONG"] * len(store.mtas)


@pytest.mark.control("QUE-02")
def test_a_second_copy_is_removed_within_the_hour(units: Units) -> None:
    """The second copy of a message that was delivered twice is removed within the hour."""
    assert units.runs("outpost-twice.timer")
    assert units.comes_up("outpost-twice.timer")
    assert units["outpost-twice.service"]["Result"] == "success"


@pytest.mark.control("AVL-04")
def test_damaged_search_indexes_are_removed_before_dovecot_starts(host: TestinfraHost, units: Units) -> None:
    """After a loss of power, search indexes that may be damaged are removed before Dovecot starts."""
    assert units.runs("outpost-search.service")
    assert units.comes_up("outpost-search.service")
    assert "dovecot.service" in units["outpost-search.service"]["Before"].split()
    assert host.file(INDEXES_IN_USE).is_file  # otherwise the next start takes a loss of power for a stop


@pytest.mark.control("TIM-01")
def test_dovecot_restarts_when_somebody_sets_the_clock(units: Units) -> None:
    """Dovecot restarts when the clock is set.

    If the clock were set back by an hour, it would otherwise serve nobody for an hour.
    """
    assert units.runs("outpost-clock.timer")
    assert units.comes_up("outpost-clock.timer")
    assert units["outpost-clock.timer"]["OnClockChange"] == "yes"


@pytest.mark.probe
@pytest.mark.control("VIR-04", "TLS-10")
def test_the_scanner_takes_messages_from_the_store_and_nobody_else(
    host: TestinfraHost, mta: TestinfraHost, webmail: TestinfraHost, office: Office, me: Host
) -> None:
    """The MTA's virus scanner accepts messages for a scan from the store only."""
    for address in office.link_addresses(office.with_role("mta")[0], me):
        socket = at(address, ports.SCANNER)
        assert "PONG" in dialogue(host, socket, ["nPING"], OWN_CERTIFICATE, greeted=False)
        assert "PONG" not in dialogue(host, socket, ["nPING"], greeted=False)
        assert "PONG" not in dialogue(mta, socket, ["nPING"], OWN_CERTIFICATE, greeted=False)
        assert "CONNECTED" not in dialogue(webmail, socket, ["nPING"], OWN_CERTIFICATE, greeted=False)


# The store's program that trains the filter, started on any host, with or without the host's certificate.
TEACH = (
    inspect.getsource(learn).partition("\nif __name__")[0]
    + """
context = ssl.create_default_context(cafile=str(TLS / "ca.pem"))
address, port, name, message, shown = sys.argv[1:]
if shown:
    context.load_cert_chain(TLS / "host.pem", TLS / "host.key")
with suppress(OSError):
    print(answered_to(message.encode(), address, int(port), context, name).decode(errors="replace"))
"""
)


def taught(
    client: TestinfraHost, mta: Host, address: IPAddress, port: int, message: str = "", *, shown: bool = True
) -> str:
    """The filter's answer to a message that teaches nothing; empty if it refuses the connection."""
    arguments = (str(address), str(port), mta.fqdn, message, "yes" if shown else "")
    output: str = client.run("python3 -I -c %s %s %s %s %s %s", TEACH, *arguments, live=True).stdout
    return output


@pytest.mark.probe
@pytest.mark.control("JNK-01")
def test_the_store_trains_the_filter_of_each_mta(host: TestinfraHost, units: Units, store: StoreView) -> None:
    """The store can train each MTA's filter with messages that users mark as junk, and does it by a timer."""
    assert units.runs("outpost-learn.timer")
    assert units.comes_up("outpost-learn.timer")
    output = host.check_output("python3 -I /usr/local/lib/outpost/learn ping")
    assert output.count("empty message") == 2 * len(store.mtas)  # reached, and nothing was learnt


@pytest.mark.control("JNK-01")
@pytest.mark.parametrize(
    ("of", "verdict"),
    [
        ("mailbox Junk", "spam"),
        ("imapsieve_from Junk", "ham"),
        pytest.param("mailbox Junk/Blocked", "block", marks=pytest.mark.control("JNK-05")),
        pytest.param("imapsieve_from Junk/Blocked", "unblock", marks=pytest.mark.control("JNK-05")),
        pytest.param("mailbox Junk/Blocked/Domains", "block_domain", marks=pytest.mark.control("JNK-05")),
        pytest.param(
            "imapsieve_from Junk/Blocked/Domains", "unblock_domain", marks=pytest.mark.control("JNK-05")
        ),
    ],
)
def test_a_move_into_junk_and_out_of_it_is_noticed(host: TestinfraHost, of: str, verdict: str) -> None:
    """A move into a junk folder or out of it starts the training."""
    _, _, section = host.check_output("doveconf -n").partition(f"{of} {{")
    _, _, script = section.partition(f"sieve_script {verdict} {{")
    assert {"cause = copy", f"path = /etc/dovecot/sieve/{verdict}.sieve"} <= {
        line.strip() for line in script.partition("}")[0].splitlines()
    }
    assert host.file(f"/etc/dovecot/sieve/{verdict}.svbin").exists


@pytest.mark.probe
@pytest.mark.control("JNK-02")
def test_no_user_fills_what_waits_to_be_learnt(host: TestinfraHost) -> None:
    """The messages of one user that wait to be learned are limited in number."""
    spool, program = "/var/lib/dovecot/learn", "/usr/local/lib/outpost/sieve/learn"
    moves = f"for _ in $(seq 40); do echo text | {program} spam check@check.invalid; done"
    found = host.check_output(
        f"runuser -u vmail -- sh -c 'cd {spool}; {moves}; ls; rm -f check@check.invalid.*'"
    )
    assert 0 < sum(name.startswith("check@check.invalid.spam.") for name in found.split()) <= 25
    host.check_output(f"runuser -u vmail -- {program} spam ../../../tmp/check < /dev/null")
    assert not host.run("ls -d /tmp/check*").stdout


@pytest.mark.probe
@pytest.mark.control("JNK-03", "TLS-10")
@pytest.mark.parametrize("port", [ports.LEARN_SPAM, ports.LEARN_HAM])
def test_only_the_store_teaches_the_filter(
    host: TestinfraHost, mta: TestinfraHost, webmail: TestinfraHost, office: Office, me: Host, port: int
) -> None:
    """Only the store can train the filter."""
    filtering = office.with_role("mta")[0]
    for address in office.link_addresses(filtering, me):
        assert "empty message" in taught(host, filtering, address, port)
        assert not taught(host, filtering, address, port, shown=False)
        assert not taught(mta, filtering, address, port)
        assert not taught(webmail, filtering, address, port)


@pytest.mark.probe
@pytest.mark.control("JNK-03")
@pytest.mark.parametrize("request_line", ["GET /stat", "GET /symbols", "POST /saveactions", "POST /checkv2"])
def test_the_store_does_nothing_to_the_filter_but_teach_it(
    host: TestinfraHost, office: Office, me: Host, request_line: str
) -> None:
    """The store can train the filter, but neither query nor configure it.

    A compromised store cannot reach Rspamd's controller: its input counts as a message that is too short to learn.
    """
    request = f"{request_line} HTTP/1.0\r\nContent-Length: 0\r\n\r\n"
    filtering = office.with_role("mta")[0]
    for address in office.link_addresses(filtering, me):
        output = taught(host, filtering, address, ports.LEARN_SPAM, request)
        assert "less tokens than required" in output
        assert "HTTP/1" not in output


@pytest.mark.probe
@pytest.mark.control("JNK-03")
def test_no_filter_of_a_users_starts_a_program(host: TestinfraHost, store: StoreView) -> None:
    """Users' Sieve filters cannot start programs."""
    output = dialogue(host, at(store.login_addresses[0], ports.MANAGESIEVE), ["LOGOUT"], "-starttls sieve")
    (offered,) = (line for line in output.splitlines() if line.startswith('"SIEVE"'))
    assert "vacation" in offered
    assert not {"vnd.dovecot.pipe", "vnd.dovecot.execute", "vnd.dovecot.filter"} & set(
        offered.replace('"', " ").split()
    )


@pytest.mark.probe
@pytest.mark.control("JNK-04")
def test_who_was_taken_out_of_junk_is_allowed_and_nobody_else(host: TestinfraHost) -> None:
    """An author whose message was moved out of Junk is allowed, and no other author.

    The programs run as Dovecot starts them, for a user with an empty home directory that exists for this check only.
    """
    programs = "/usr/local/lib/outpost/sieve"
    script = f"""
        export HOME=$(mktemp -d); trap 'rm -rf "$HOME" /var/lib/dovecot/learn/allows@check.invalid.*' EXIT
        echo | {programs}/learn ham allows@check.invalid shop@example.net
        for author in Shop@example.net other@example.net '.*'; do {programs}/allowed "$author" && echo "$author"; done; true
    """
    assert host.check_output("runuser -u vmail -- sh -c %s", script).split() == ["Shop@example.net"]


@pytest.mark.probe
@pytest.mark.control("JNK-05")
def test_who_was_blocked_lands_in_junk_and_nobody_else(host: TestinfraHost) -> None:
    """Mail of blocked authors goes to Junk, and no other author's.

    The programs run as Dovecot starts them, for a user with an empty home directory that exists for this check only.
    The filter that they write is run as a delivery would run it.
    """
    programs = "/usr/local/lib/outpost/sieve"
    script = f"""
        export HOME=$(mktemp -d); trap 'rm -rf "$HOME" /var/lib/dovecot/learn/blocks@check.invalid.*' EXIT
        for author in shop@example.net pest@example.net 'a"]{{}}stop;"@example.net'; do echo | {programs}/learn block blocks@check.invalid "$author"; done
        echo | {programs}/learn unblock blocks@check.invalid pest@example.net
        for author in a@bad.example a@mended.example; do echo | {programs}/learn block_domain blocks@check.invalid "$author"; done
        echo | {programs}/learn unblock_domain blocks@check.invalid b@mended.example
        echo | {programs}/learn ham blocks@check.invalid friend@bad.example
        ls /var/lib/dovecot/learn | grep 'blocks@check.invalid.*block'
        for author in Shop@example.net pest@example.net other@example.net b@BAD.example b@mended.example b@very.bad.example friend@bad.example; do
            printf 'From: %s\\nSubject: x\\n\\nx\\n' "$author" > "$HOME/message"
            sieve-test "$HOME/blocked.sieve" "$HOME/message" 2>&1 | grep -q 'folder: Junk' && echo "$author"
        done; true
    """
    blocked = host.check_output("runuser -u vmail -- sh -c %s", script).split()
    assert blocked == ["Shop@example.net", "b@BAD.example"]


@pytest.mark.control("JNK-05")
def test_a_delivery_asks_who_is_blocked_before_the_filters_word(host: TestinfraHost) -> None:
    """Blocked authors are checked before the spam filter's verdict."""
    scripts = re.findall(
        r"^sieve_script (\w+) \{(.*?)\}", host.check_output("doveconf -n"), re.MULTILINE | re.DOTALL
    )
    order = [name for name, _ in scripts]
    assert "blocked" in order
    assert order.index("blocked") < order.index("junk")
    (blocked,) = (body for name, body in scripts if name == "blocked")
    assert "path = ~/blocked.sieve" in blocked
    assert "type = before" in blocked


@pytest.mark.control("JNK-06")
def test_users_read_every_week_what_is_in_junk(host: TestinfraHost, units: Units) -> None:
    """Users get a weekly digest of their Junk folder."""
    assert units.runs("outpost-digest.timer")
    assert units.comes_up("outpost-digest.timer")
    host.check_output("sh -n /usr/local/lib/outpost/digest")


@pytest.mark.control("JNK-04")
def test_an_author_is_allowed_only_where_dmarc_proves_it(host: TestinfraHost) -> None:
    """An allowed author skips Junk only if DMARC proves the author.

    The compiled filter is read; nothing is delivered by it.
    """
    script = host.check_output("sieve-dump /etc/dovecot/sieve/junk.svbin")
    proof, allowed = script.find('"X-Office-Author"'), script.find('"allowed"')
    assert 0 < proof < allowed
    assert (
        host.file("/etc/dovecot/sieve/junk.sieve").mtime <= host.file("/etc/dovecot/sieve/junk.svbin").mtime
    )


# A document of one word, given to the program that Dovecot starts, as the account that it runs as.
ATTACHED = """
import io, subprocess, sys, zipfile
packed = io.BytesIO()
with zipfile.ZipFile(packed, "w") as document:
    document.writestr("word/document.xml", "<w:t>Turmdrehkran</w:t>")
command = ["runuser", "-u", "dovecot", "--", "python3", "-I", "/usr/local/lib/outpost/attachment", "application/x"]
print(subprocess.run(command, input=packed.getvalue(), capture_output=True, check=True).stdout.decode())
"""


@pytest.mark.probe
@pytest.mark.control("STO-04")
def test_words_of_attachments_are_found(host: TestinfraHost) -> None:
    """Words of attachments are extracted, so that a search finds them."""
    assert host.check_output("python3 -I -c %s", ATTACHED).strip() == "Turmdrehkran"


@pytest.mark.control("STO-04")
def test_what_reads_attachments_reaches_nothing_else(host: TestinfraHost) -> None:
    """The program that reads attachments has no network and no access to mail, keys or Dovecot."""
    wanted = {
        "CapabilityBoundingSet": "",
        "DynamicUser": "yes",
        "MemoryMax": str(512 * 1024**2),
        "NoNewPrivileges": "yes",
        "PrivateNetwork": "yes",
        "ProtectSystem": "strict",
        "RestrictNamespaces": "yes",
        "RuntimeMaxUSec": "30s",
    }
    shown = host.check_output(
        f"systemctl show outpost-text@check.service --property={','.join((*wanted, 'InaccessiblePaths'))}"
    )
    found = dict(line.split("=", 1) for line in shown.splitlines())
    assert {"-/srv/mail", "-/etc/outpost", "-/run/dovecot"} <= set(found.pop("InaccessiblePaths").split())
    assert found == wanted


@pytest.mark.probe
@pytest.mark.control("VIR-04")
@pytest.mark.parametrize("command", ["nVERSION", "nSCAN /etc/hostname", "nIDSESSION", "VERSION"])
def test_the_scanner_does_nothing_for_the_store_but_scan_a_message(
    host: TestinfraHost, office: Office, me: Host, command: str
) -> None:
    """The store can have a message scanned, but cannot control ClamAV or read files through it.

    A compromised store can neither stop ClamAV nor make it read the MTA's files.
    """
    for address in office.link_addresses(office.with_role("mta")[0], me):
        answer = dialogue(host, at(address, ports.SCANNER), [command], OWN_CERTIFICATE, greeted=False)
        assert "UNKNOWN COMMAND" in answer
