"""Sabotage of the name servers. Where it shows the same, the second one's copy of the zone is damaged: it fetches the zone again."""

from __future__ import annotations

from tests.awaiting import on_host
from tests.sabotage.breaking import broken, closed_to_nobody, edited, stopped

KNOT = "/etc/knot/knot.conf"
ZONE = "zone=$(knotc zone-status | grep -v arpa | grep -o '^[[]po[^]]*\\|^[[][^]]*' | tr -d '[' | grep -v arpa | head -1)"
# it reports that it is ready before it has read its zones
LOADED = on_host(
    "knotc zone-status >/dev/null 2>&1 && ! knotc zone-status | grep -q 'serial: \\(-\\|none\\)'"
)
# systemd refuses the sixth start within ten seconds, which only sabotages cause
RESTART = f"systemctl restart knot; {LOADED}"
SIGN = "knotc reload; knotc -b zone-sign"

SABOTAGES = (
    broken(
        "ns2", "a name server has a wrong copy of the zone",
        f"{ZONE}; knotc zone-begin $zone; knotc zone-unset $zone _25._tcp.mta TLSA; knotc zone-unset $zone _dmarc TXT; "
        "knotc zone-unset $zone @ CDS; knotc zone-set $zone trial 300 A 192.0.2.1; knotc zone-commit $zone",
        "dns::every_record_of_the_model_is_served", "dns::nothing_is_served_that_the_model_does_not_know",
        "dns::the_parent_gets_the_key_to_trust", "dns::servers_hold_the_same_version",
        undo=f"{ZONE}; knotc -b zone-retransfer $zone",
    ),
    broken(
        "ns2", "a name server has no TLSA records",
        f"{ZONE}; knotc zone-begin $zone; knotc zone-unset $zone _25._tcp.mta TLSA; knotc zone-commit $zone",
        "certificates::every_name_server_shows_the_current_key_and_the_next",
        undo=f"{ZONE}; knotc -b zone-retransfer $zone", looked_at="mta",
    ),
    edited(
        "ns1", "the host's resolver does not validate", "/etc/unbound/unbound.conf", 's/"validator iterator"/"iterator"/',
        "dns::each_zone_is_proven_from_the_trust_anchor", activate="systemctl restart unbound",
    ),
    stopped("ns1", "unbound.service", red=("dns::each_parent_names_the_offices_servers_and_their_key",)),
    edited(
        "ns2", "the name server does not listen on one address", KNOT, "0,/^ *listen:/{/^ *listen:/d}",
        "dns::server_answers_on_each_of_its_addresses", activate=RESTART,
    ),
    edited(
        "ns1", "signatures last two days, and NSEC3 has extra iterations", KNOT,
        "s/rrsig-lifetime: .*/rrsig-lifetime: 2d/; s/rrsig-refresh: .*/rrsig-refresh: 1d/; s/nsec3-iterations: 0/nsec3-iterations: 5/; "
        "s/nsec3-salt-length: 0/nsec3-salt-length: 8/",
        "dns::zone_is_signed_by_its_own_keys_for_days_to_come",
        "dns::missing_names_are_denied_without_salt_or_extra_rounds",
        activate=SIGN,
    ),
    edited(
        "ns1", "NSEC3 leaves room for names that nobody signed", KNOT, "s/^( *)nsec3-iterations: 0/&\\n\\1nsec3-opt-out: on/",
        "dns::missing_names_are_denied_without_salt_or_extra_rounds", activate=SIGN,
    ),
    edited(
        "ns2", "floods are answered whole", KNOT, "s/^( *slip: ).*/\\11/; s/^( *instant-limit: ).*/\\199999/",
        "dns::floods_of_questions_are_limited", activate="knotc reload",
    ),
    edited(
        "ns2", "zones are not checked when they are loaded", KNOT, "s/semantic-checks: on/semantic-checks: off/",
        "dns::every_zone_has_the_settings_that_the_office_gives_to_all", activate="knotc reload",
    ),
    broken(
        "ns2", "the name server answers for foreign names",
        r"printf '$ORIGIN example.com.\n@ 60 SOA ns hostmaster 1 60 60 60 60\n@ 60 NS ns\nns 60 A 192.0.2.1\n@ 60 A 192.0.2.1\n' "
        r"> /var/lib/knot/trial.zone; printf '  - domain: example.com\n    file: /var/lib/knot/trial.zone\n    zonefile-load: whole\n"
        rf"    master: []\n' >> {KNOT}; chown knot: /var/lib/knot/trial.zone",
        "dns::foreign_names_are_refused", keeps=(KNOT,), activate=RESTART, undo="rm -f /var/lib/knot/trial.zone",
    ),
    edited(
        "ns2", "zone transfers need no key", KNOT,
        r"s/^acl:/&\n  - id: anybody\n    address: [ 0.0.0.0\/0, ::\/0 ]\n    action: transfer/; s/^    acl: \[ /&anybody, /",
        "dns::zone_transfer_needs_the_key", activate=RESTART,
    ),
    edited(
        "ns1", "every client can change the zone", KNOT,
        r"s/^acl:/&\n  - id: anybody\n    address: [ 0.0.0.0\/0, ::\/0 ]\n    action: update/; s/^    acl: \[ /&anybody, /",
        "dns::a_change_of_the_zone_needs_a_key", activate="knotc reload",
    ),
    edited(
        "ns1", "keys do not roll", KNOT, "s/^( *[zk]sk-lifetime: ).*/\\10/", "dns::keys_roll_by_themselves", activate="knotc reload",
    ),
    edited(
        "ns2", "the zone is not loaded", KNOT, r"/^zone:/,$d", "dns::question_for_everything_gets_one_record_set",
        activate=RESTART,
    ),
    edited(
        "ns2", "DNS cookies and rate limits are off", KNOT, "/^ *global-module:/d", "dns::server_offers_cookies",
        "dns::floods_of_questions_are_limited", activate=RESTART,
    ),
    edited(
        "ns2", "the name server reveals its version", KNOT, 's/^ *(identity|version): ""/    \\1: "trial"/',
        "dns::server_answers_neither_version_nor_name", activate=RESTART,
    ),
    closed_to_nobody(
        "ns2", "every account can read the TSIG key", "/etc/knot/tsig.conf", "0644", "0640",
        "dns::keys_are_readable_by_the_server_only",
    ),
    broken(
        "ns1", "CAA records allow every authority", "sed -i '/[[:space:]]CAA[[:space:]]/d' /etc/knot/zones/*",
        "certificates::only_the_hosts_own_account_may_have_its_names_certified", keeps=("/etc/knot/zones",),
        activate="knotc -b zone-reload", looked_at="webmail",
    ),
    edited(
        "ns1", "a host's TSIG key can write every name", KNOT,
        "/^ *update-(type|owner|owner-match|owner-name):/d",
        "certificates::the_hosts_key_writes_its_own_challenges_and_nothing_else", activate="knotc reload",
        looked_at="webmail",
    ),
)  # fmt: skip
