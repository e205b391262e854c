"""Sabotage of the MTA. What a sabotaged host accepts goes to `discard`: no virus ends in a mailbox."""

from __future__ import annotations

from outpost_lab.attack import weakness
from tests.awaiting import on_host
from tests.sabotage.breaking import (
    Sabotage,
    broken,
    closed_to_nobody,
    edit,
    edited,
    laid_bare,
    stopped,
    unit_laid_bare,
)

MAIN, MASTER = "/etc/postfix/main.cf", "/etc/postfix/master.cf"
POSTFIX = weakness.POSTFIX_RELOADS
UNITS = (
    "postfix.service",
    "rspamd.service",
    "redis-server.service",
    "clamav-daemon.service",
    "stunnel@scanner.service",
    "stunnel@learning.service",
)
OLD_TLS = "/etc/postfix/trial"
CLAMD = "/etc/clamav/clamd.conf"
CLAMD_RESTARTS = f"systemctl restart clamav-daemon; {on_host('[ -S /run/clamav/clamd.ctl ]', 60)}"


def postfix(what: str, *red: str, entries: tuple[str, ...] = (), **settings: str) -> Sabotage:
    """Settings of Postfix."""
    return Sabotage(what, weakness.postfix(*entries, **settings), red)


SABOTAGES = (
    edited(
        "mta", "one user alone can train the filter", "/etc/rspamd/local.d/classifier-bayes.conf", "s/min_learns = .*/min_learns = 1;/",
        "mta::bayes_has_no_weight_until_several_users_taught_it_and_teaches_itself_nothing",
    ),
    # The host
    stopped("mta", *UNITS, red=("mta::daemon_runs_and_comes_up_with_the_host",)),
    stopped("mta", "unbound.service", red=("mta::the_hosts_addresses_have_its_name",)),
    stopped("mta", "postfix.service", red=("defences::endless_commands_end_in_an_error_or_the_end",)),
    laid_bare("mta", *UNITS, red=("mta::daemon_runs_in_a_sandbox", "hardening::every_listening_unit_is_in_a_sandbox")),
    postfix(
        "Postfix has an unknown setting", "mta::postfix_finds_nothing_wrong_with_its_configuration",
        no_such_setting="yes",
    ),
    broken(
        "mta", "Postfix runs outside its chroot", "postconf -F '*/*/chroot=n'",
        "mta::what_parses_strangers_words_is_unprivileged_and_chrooted", keeps=(MASTER,),
    ),
    postfix(
        "every account of the host can send mail", "mta::a_filter_that_was_broken_into_cannot_send_mail",
        authorized_submit_users="static:anyone", virtual_transport="discard:",
    ),
    # Settings of main.cf, overridden in master.cf; and settings that the check of main.cf does not ask for
    broken(
        "mta", "mail of peers is not scanned", edit(MASTER, "s/^    -o smtpd_sender_restrictions=.peer_sender_restrictions/&\\n    -o smtpd_milters=/"),
        "mta::nothing_passes_while_a_filter_is_down", keeps=(MASTER,), activate=POSTFIX,
    ),
    Sabotage(
        "master.cf overrides what main.cf says of TLS, bounces and pipelining",
        weakness.postfix(
            "smtp/unix/smtp_tls_security_level=may", "lmtp/unix/lmtp_tls_security_level=may", "bounce/unix/bounce_size_limit=50000",
            "smtpd/pass/smtpd_forbid_unauth_pipelining=no",
        ),
        (
            "mta::the_internet_is_reached_by_dane_where_it_has_it", "mta::delivery_proves_the_store_and_itself",
            "mta::a_bounce_carries_no_more_than_headers", "mta::commands_do_not_run_ahead_of_their_answers",
        ),
    ),
    postfix(
        "strangers' mail is not counted", "defences::postfix_goes_on_while_the_policy_service_is_down",
        entries=("smtpd/pass/smtpd_recipient_restrictions=reject_unlisted_recipient",),
    ),
    postfix("the MTA is a relay for one domain", "mta::the_mta_takes_mail_for_the_offices_domain_only", relay_domains="victim.example"),
    postfix("a copy of all mail goes elsewhere", "mta::the_mta_takes_mail_for_the_offices_domain_only", always_bcc="collect@victim.example"),
    postfix("all mail goes elsewhere", "mta::the_mta_takes_mail_for_the_offices_domain_only", content_filter="smtp:[192.0.2.66]"),
    postfix("the MTA's notifications are not signed", "mta::the_mtas_own_notifications_are_signed", internal_mail_filter_classes=""),
    edited(
        "mta", "Redis forgets what the filter learned", "/etc/redis/redis.conf", "s/volatile-ttl/allkeys-lru/",
        "mta::redis_keeps_what_the_filter_knows", activate="systemctl restart redis-server.service",
    ),
    edited(
        "mta", "Redis takes orders while it runs", "/etc/redis/redis.conf", "/^user default/d",
        "mta::redis_takes_no_orders_while_it_runs", activate="systemctl restart redis-server.service",
    ),
    broken(
        "mta", "the store's trace line names users' machines", "sed -i '/Received/d' /etc/postfix/users_headers",
        "mta::a_users_machine_is_not_named_to_the_world", keeps=("/etc/postfix/users_headers",),
    ),
    broken(
        "mta", "a login may write as somebody else, a network passes postscreen, and a mailbox has no limit",
        "echo 'director@elsewhere.example somebody' >> /etc/postfix/sender_logins; echo '203.0.113.0/24 permit' >> /etc/postfix/postscreen_access; "
        "sed -i 's/\"mailbox_messages\": /&9/' /etc/outpost/policy.json",
        "declared::every_declared_file_is_unchanged",
        keeps=("/etc/postfix/sender_logins", "/etc/postfix/postscreen_access", "/etc/outpost/policy.json"),
        activate="systemctl restart outpost-policy",
    ),
    postfix("a NUL is accepted", "defences::no_message_has_a_nul", message_reject_characters="", virtual_transport="discard:"),
    postfix("a lone CR leaves as it is", "mta::what_leaves_has_whole_line_ends", cleanup_replace_stray_cr_lf="no"),
    postfix(
        "strangers can write the filter's fields", "mta::only_the_filter_writes_what_the_store_believes",
        entries=("cleanup/unix/header_checks=",),
    ),
    # What waits
    postfix(
        "mail bounces after an hour", "mta::mail_waits_as_long_as_the_office_says_and_its_routes_are_probed",
        maximal_queue_lifetime="1h",
    ),
    # Who gets mail
    postfix(
        "every recipient is accepted", "mta::unknown_recipient_is_refused_at_once_and_learns_nothing_else",
        "mta::guessing_addresses_ends_after_ten_errors", virtual_mailbox_maps="static:taken",
    ),
    broken(
        "mta", "recipients with any octets are accepted", "sed -i '/^[^#]/d' /etc/postfix/recipient_syntax",
        "mta::recipients_that_the_store_rejects_are_rejected_before", keeps=("/etc/postfix/recipient_syntax",), activate=POSTFIX,
    ),
    postfix("no recipient is accepted", "mta::every_address_of_the_office_is_known", virtual_mailbox_maps="inline:{nobody@invalid=x}"),
    postfix("the MTA is an open relay", "mta::stranger_cannot_relay", smtpd_relay_restrictions="permit, reject"),
    # Who sends
    postfix(
        "envelope senders are not checked", "mta::nobody_outside_writes_in_the_offices_name",
        "mta::peers_names_are_believed_from_their_relays_only", "mta::an_address_has_one_at_sign",
        "defences::a_helo_name_or_sender_domain_that_cannot_be_real_is_rejected",
        smtpd_sender_restrictions="", smtpd_helo_restrictions="",
    ),
    postfix(
        "the syntax of envelopes is not checked", "mta::envelopes_follow_the_rfc",
        smtpd_command_filter="regexp:{{/^MAIL FROM:/ MAIL FROM:<>}}",
    ),
    postfix("HELO is not required", "mta::helo_is_required", smtpd_helo_required="no"),
    postfix("the null sender may have many recipients", "mta::a_bounce_has_one_recipient", smtpd_data_restrictions=""),
    postfix(
        "strangers are offered every SMTP extension", "mta::strangers_get_no_delivery_notifications",
        "mta::strangers_are_offered_nothing_but_delivery", "mta::a_client_that_speaks_bdat_or_http_is_disconnected",
        smtpd_discard_ehlo_keywords="", disable_vrfy_command="no", smtpd_forbidden_commands="",
    ),
    postfix(
        "messages of any size are accepted", "mta::a_message_too_large_is_refused_before_it_is_sent",
        "mta::the_scanner_reads_more_than_postfix_takes", message_size_limit="1000000000", queue_minfree="0",
    ),
    postfix(
        "a bare LF ends a line", "mta::a_bare_line_feed_ends_no_message", smtpd_forbid_bare_newline="no",
        virtual_transport="discard:",
    ),
    broken(
        "mta", "postscreen is off",
        edit(MASTER, r"s/ 1 postscreen$/ - smtpd/; /postscreen_cache_map/d"), "filter::strangers_meet_postscreen_before_anything_else",
        "mta::what_parses_strangers_words_is_unprivileged_and_chrooted", keeps=(MASTER,), activate=POSTFIX,
    ),
    postfix("a client may talk before the greeting", "mta::a_client_that_talks_before_the_greeting_is_rejected", postscreen_greet_action="ignore"),
    postfix("guessing addresses has no limit", "mta::guessing_addresses_ends_after_ten_errors", smtpd_hard_error_limit="1000"),
    # What it carries
    postfix(
        "mail is not scanned", "mta::a_virus_is_refused_in_the_session", "mta::a_virus_from_inside_is_refused_as_well",
        "mta::spam_is_refused_in_the_session", "mta::nothing_passes_while_a_filter_is_down",
        "defences::nobody_outside_writes_the_offices_name_into_from",
        "defences::peers_names_in_from_are_believed_from_their_relays_only",
        "defences::a_login_owns_from_and_sender_as_well", "defences::what_runs_or_cannot_be_scanned_is_refused",
        "defences::users_get_the_same_answer", "defences::headers_without_end_are_refused",
        "defences::parts_within_parts_without_end_are_refused", "defences::a_bounce_of_what_was_never_sent_is_refused",
        "defences::a_message_that_goes_round_is_stopped",
        smtpd_milters="", virtual_transport="discard:", hopcount_limit="1000",
    ),
    # Routes
    postfix(
        "the MTA adds a second Subject", "routes::a_message_from_outside_reaches_its_mailbox_with_valid_headers",
        header_checks="regexp:{{/^Date:/ PREPEND Subject: trial}}",
    ),
    edited(
        "mta", "users get no DSN", MASTER, "s/(etrn,chunking,vrfy,auth)$/\\1,dsn/",
        "routes::a_users_message_arrives_and_its_sender_gets_a_report", activate=POSTFIX,
    ),
    # Links
    broken(
        "mta", "users' mail is accepted without a certificate",
        edit(MASTER, "s/smtpd_tls_req_ccert=yes/smtpd_tls_req_ccert=no/")
        + "; postconf -e 'submission_client_restrictions=check_client_access static:permit, reject' submission_sender_restrictions=permit",
        "mta::users_mail_comes_with_the_stores_certificate_or_not_at_all", "mta::a_login_owns_its_sender_addresses",
        "mta::without_a_login_the_store_sends_for_its_own_users_only", keeps=(MAIN, MASTER), activate=POSTFIX,
    ),
    edited(
        "mta", "a message may have any number of recipients", MASTER, "s/smtpd_recipient_limit=.*/smtpd_recipient_limit=1000/",
        "mta::a_user_names_so_many_recipients_and_no_more", activate=POSTFIX,
    ),
    edited(
        "mta", "peers may send in clear text", MASTER, "s/smtpd_tls_security_level=encrypt/smtpd_tls_security_level=may/",
        "mta::a_peers_listener_speaks_with_its_relays_and_in_no_clear_text", activate=POSTFIX,
    ),
    postfix(
        "the TLS policy of peers is in a table that Postfix does not read", "mta::mail_to_peers_waits_rather_than_travel_unproven",
        smtp_tls_policy_maps="",
    ),
    edited(
        "mta", "mail to peers may go in clear text", "/etc/postfix/tls_policy", r"s/\b(secure|dane-only)\b/may/",
        "mta::mail_to_peers_waits_rather_than_travel_unproven",
    ),
    postfix("the store's certificate is not verified", "mta::delivery_proves_the_store_and_itself", lmtp_tls_security_level="encrypt"),
    postfix(
        "mail that the store rejects bounces", "mta::what_the_store_rejects_waits_and_is_not_returned", entries=("lmtp/unix/soft_bounce=no",),
    ),
    postfix("DANE is off", "mta::the_internet_is_reached_by_dane_where_it_has_it", smtp_tls_security_level="may"),
    broken(
        "mta", "old TLS is accepted, and the certificate has another name",
        f"openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=somebody.invalid -keyout {OLD_TLS}.key -out {OLD_TLS}.pem "
        f"2>/dev/null; postconf -e smtpd_tls_chain_files={OLD_TLS}.key,{OLD_TLS}.pem smtpd_tls_protocols= smtpd_tls_exclude_ciphers= "
        "tls_config_name= tls_config_file=none tls_high_cipherlist=ALL:@SECLEVEL=0 tls_ffdhe_auto_groups=ffdhe2048",
        "mta::weak_offers_are_refused", "mta::old_offers_are_taken_only_where_the_office_says_so",
        "mta::strangers_see_the_certificate_of_the_hosts_name",
        keeps=(MAIN,), activate=POSTFIX, undo=f"rm -f {OLD_TLS}.key {OLD_TLS}.pem",
    ),
    postfix(
        "post-quantum key exchange is off", "mta::good_offers_are_taken[post-quantum key exchange]",
        tls_eecdh_auto_curves="X25519 prime256v1"
    ),
    postfix("strangers are not offered TLS", "mta::good_offers_are_taken", smtpd_tls_security_level="none"),
    broken(
        "mta", "a peer has an unexpected certificate",
        edit("/etc/postfix/tls_policy", r"s/secure.*/secure match=somebody.invalid/")
        + f"; {POSTFIX}; "
        "postsuper -d ALL deferred 2>/dev/null; domain=$(awk '!/^#/ { print $1; exit }' "
        "/etc/postfix/transport); printf 'Subject: trial\\n\\nx\\n' | sendmail -f '<>' \"trial@$domain\"; "
        + f"{on_host('postqueue -j | grep -q delay_reason', 30)}; "
        r'find /var/spool/postfix/deferred -type f -exec sed -i -E "s/T(.)[0-9]{10} /T\1$(($(date +%s) - 18000)) /" {} + -exec touch --date="+1 hour" {} +',  # until then it is not tried again
        "mta::no_mail_waits_for_a_next_hop_that_cannot_prove_itself", "upkeep::nothing_waits_in_the_queue_for_hours",
        "routes::every_peer_and_the_internet_would_take_the_offices_mail_now",
        keeps=("/etc/postfix/tls_policy",), activate=POSTFIX,
        undo="postsuper -d ALL deferred",
    ),
    # Signatures
    closed_to_nobody(
        "mta", "every account can read the DKIM keys", "/etc/rspamd/dkim/*.key", "0644", "0640",
        "mta::the_signing_keys_are_two_and_private",
    ),
    Sabotage(
        "DKIM does not oversign From",
        weakness.rspamd("oversigning", dkim_signing='sign_headers = "from:to:subject:date";'),
        ("mta::nobody_adds_a_second_from_or_subject_to_what_was_signed",),
    ),
    edited(
        "mta", "DKIM signs with a key that is not in the DNS", "/etc/rspamd/local.d/dkim_signing.conf",
        r's/(selector = ")[^"]*rsa"/\1trial"/', "mta::the_keys_that_sign_are_published",
    ),
    Sabotage(
        "users' mail is not signed", weakness.rspamd("DKIM signing", dkim_signing="enabled = false;"),
        ("filter::what_users_send_is_signed_so_that_others_can_verify_it",),
    ),
    Sabotage(
        "strangers' mail is signed",
        weakness.rspamd("who is signed for", dkim_signing="sign_inbound = true; sign_networks = \"0.0.0.0/0\"; try_fallback = true;"),
        ("filter::mail_from_strangers_is_not_signed",),
    ),
    Sabotage(
        "SPF, DKIM, DMARC and ARC are not checked",
        weakness.rspamd("SPF, DKIM, DMARC and ARC", **dict.fromkeys(("spf", "dkim", "dmarc", "arc"), "enabled = false;")),
        ("mta::rspamd_checks_whether_the_senders_domain_authorised_the_message", "filter::mail_that_its_domain_disowns_ends_as_the_office_says"),
    ),
    Sabotage(
        "the office's own rules are off", weakness.rspamd("the office's own rules in Rspamd", "gone"),
        (
            "filter::a_colleagues_name_in_other_characters_is_refused_or_marked",
            *(  # DMARC refuses the two other forms, too
                f"filter::an_author_who_is_none_or_resembles_ours_is_refused_or_marked[{form}]"
                for form in ("no address", "nothing", "digits", "full stops and a wide at")
            ),
        ),
    ),
    edited(
        "mta", "mail that fails DMARC is accepted", "/etc/rspamd/local.d/force_actions.conf", "/DMARC_(REFUSED|TO_JUNK) \\{/,/^  \\}/d",
        "filter::mail_that_its_domain_disowns_ends_as_the_office_says", activate=weakness.RSPAMD_RESTARTS,
    ),
    edited(
        "mta", "a stranger's Authentication-Results header stays", "/etc/rspamd/local.d/milter_headers.conf", '/"?Authentication-Results"? = 0/d',
        "mta::authentication_results_of_strangers_are_removed",
    ),
    stopped("mta", "outpost-dmarc-reports.timer", red=("mta::domains_get_daily_reports_of_what_was_sent_in_their_name",)),
    edited(
        "mta", "DSNs name the members of an alias and the store", "/etc/postfix/notices",
        "/undisclosed@|Remote-MTA/d", "mta::a_notification_names_neither_the_store_nor_who_is_behind_an_alias",
    ),
    postfix("a mailbox gets several deliveries at a time", "mta::a_mailbox_gets_one_message_at_a_time", lmtp_destination_recipient_limit="50"),
    postfix("a bounce carries the message", "mta::a_bounce_carries_no_more_than_headers", bounce_size_limit="50000"),
    postfix("bounces are in one language", "mta::a_notification_is_in_english_and_german", bounce_template_file=""),
    edited(
        "mta", "Received headers show users' clients", MASTER, "s/smtpd_hide_client_session=yes/smtpd_hide_client_session=no/",
        "mta::a_users_machine_is_not_named_to_the_world",
    ),
    postfix(
        "unauthorised pipelining is accepted", "mta::commands_do_not_run_ahead_of_their_answers", smtpd_forbid_unauth_pipelining="no",
        smtpd_data_restrictions="", virtual_transport="discard:",
    ),
    edited(
        "mta", "the MTA does not know a mailbox", "/etc/postfix/mailboxes", "0,/@/{/@/d}",
        "upkeep::the_edge_knows_the_stores_mailboxes_and_no_other",
    ),
    edited(
        "mta", "the scanner skips large messages", CLAMD, "s/^StreamMaxLength .*/StreamMaxLength 1M/",
        "mta::the_scanner_reads_more_than_postfix_takes", activate=CLAMD_RESTARTS,
    ),
    edited(
        "mta", "the scanner opens no archive within another", CLAMD, "s/^MaxRecursion .*/MaxRecursion 1/",
        "filter::the_scanner_opens_archives_within_archives", activate=CLAMD_RESTARTS,
    ),
    edited(
        "mta", "the scanner does not report archives with a password", CLAMD, "s/^AlertEncryptedArchive .*/AlertEncryptedArchive no/",
        "filter::the_scanner_reports_what_has_a_password", activate=CLAMD_RESTARTS,
    ),
    broken(
        "mta", "the office's virus signatures are missing", "rm /var/lib/clamav/local.hdb", "mta::the_scanner_knows_fresh_signatures",
        keeps=("/var/lib/clamav/local.hdb",),
    ),
    broken(
        "mta", "the scanner trusts the sizes that archives declare", "rm /var/lib/clamav/outpost.yar",
        "filter::the_scanner_refuses_an_archive_that_lies_in_any_wrapping",
        keeps=("/var/lib/clamav/outpost.yar",), activate=CLAMD_RESTARTS,
    ),
    broken(
        "mta", "the scanner passes what is packed too deeply", edit(CLAMD, "s/^AlertExceedsMax .*/AlertExceedsMax no/"),
        "filter::what_is_packed_too_deeply_is_refused", keeps=(CLAMD,), activate=CLAMD_RESTARTS,
    ),
    broken(
        "mta", "the office's lists of refused files are missing", "rm /var/lib/clamav/outpost.[cln]db",
        "filter::the_scanner_knows_what_the_office_refuses",
        keeps=("/var/lib/clamav",), activate=CLAMD_RESTARTS,
    ),
    Sabotage(
        "attachments are not scanned by themselves", weakness.rspamd("a scan of each attachment", antivirus="attachments { enabled = false; }"),
        ("mta::the_message_and_each_attachment_are_scanned",),
    ),
    Sabotage(
        "mail of one network is not scanned",
        weakness.rspamd(
            "an exempt network", settings='trial { priority = high; ip = ["198.51.100.0/24"]; apply { symbols_enabled = ["DKIM_SIGNED"]; } }'
        ),
        ("mta::no_client_is_exempt_from_the_filter",),
    ),
    edited(
        "mta", "mail of one network is accepted without a scan", "/etc/rspamd/rspamd.conf.override",
        's@^multimap .*@multimap { trial { type = "ip"; map = "/etc/hosts"; prefilter = true; action = "accept"; } }@',
        "mta::no_client_is_exempt_from_the_filter", activate=weakness.RSPAMD_RESTARTS,
    ),
    Sabotage(
        "spam has other thresholds", weakness.rspamd("thresholds", actions="reject = 1500; add_header = 1400;"),
        ("filter::spam_is_refused_at_the_offices_thresholds",),
    ),
    Sabotage(
        "domains get no DMARC reports", weakness.rspamd("reports", dmarc="reporting { enabled = false; }"),
        ("mta::domains_get_daily_reports_of_what_was_sent_in_their_name",),
    ),
    edited(
        "mta", "a stranger's X-Office-Author stays", "/etc/rspamd/local.d/milter_headers.conf", r"s/\{ \['X-Office-Author'\] = 0 \}/{}/",
        "filter::nobody_outside_writes_what_the_store_believes", activate=weakness.RSPAMD_RESTARTS,
    ),
    broken(
        "mta", "every account can use Redis", "chmod 0777 /run/redis/redis.sock", "mta::only_rspamd_reaches_redis",
        undo="chmod 0770 /run/redis/redis.sock",
    ),
    # Rates, room, budgets
    stopped(
        "mta", "outpost-policy.service",
        red=(
            "defences::postfix_goes_on_while_the_policy_service_is_down",
            "defences::a_large_message_to_many_destinations_is_more_than_the_line_carries",
        ),
    ),
    unit_laid_bare("mta", "outpost-policy.service", "defences::the_policy_service_runs_in_a_sandbox"),
    postfix(
        "the alarm listener accepts any recipient", "defences::the_alarm_listener_takes_mail_for_the_postmaster_only",
        alarm_recipient_restrictions="permit", smtpd_relay_restrictions="permit, reject",
    ),
    stopped("mta", "outpost-shaping.service", red=("defences::mail_leaves_below_the_rate_of_the_line",)),
    # Floods
    postfix(
        "commands of any length are accepted", "defences::endless_commands_end_in_an_error_or_the_end[EHLO ]", line_length_limit="100000"
    ),
    postfix(
        "one client has no limits", "defences::connections_messages_and_recipients_of_a_client_are_limited",
        smtpd_client_connection_count_limit="0",
    ),
    postfix(
        "master.cf overrides the limits of main.cf", "defences::connections_messages_and_recipients_of_a_client_are_limited",
        entries=("smtpd/pass/smtpd_client_message_rate_limit=0",),
    ),
    edited(
        "mta", "users are counted by address", MASTER, "/^ *-o smtpd_client_(message|recipient)_rate_limit=0/d",
        "defences::users_behind_one_address_are_counted_by_login",
    ),
    postfix("an alias may have any number of members", "defences::one_message_does_not_become_many", virtual_alias_expansion_limit="100000"),
)  # fmt: skip
