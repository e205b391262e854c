"""Sabotage of the store."""

from __future__ import annotations

from outpost.office import ports
from tests.awaiting import listening, on_host
from tests.sabotage.breaking import (
    broken,
    closed_to_nobody,
    edit,
    edited,
    laid_bare,
    stopped,
    unit_laid_bare,
)

DOVECOT, OPENSSL, STUNNEL = "/etc/dovecot/dovecot.conf", "/etc/dovecot/openssl.cnf", "/etc/stunnel/lmtp.conf"
RESTART = "systemctl restart dovecot; " + on_host("doveadm who >/dev/null 2>&1")
LISTENER = f"systemctl restart stunnel@lmtp; {listening(f':{ports.LMTP}')}"
OLD_TLS, TRUSTED = "/etc/dovecot/trial", "/etc/outpost/tls/ca.pem"

SABOTAGES = (
    edited(
        "store", "every client can query the accounts service", "/etc/stunnel/accounts.conf", "/^(requireCert|verifyChain|checkHost|CAfile)/d",
        "store::only_webmail_asks_about_accounts", activate=f"systemctl restart stunnel@accounts; {listening(f':{ports.ACCOUNTS}')}",
    ),
    broken(
        "store", "every account can read users' passwords and settings", "chmod 0755 /var/lib/outpost-accounts",
        "store::nobody_reads_what_users_chose_but_dovecot", keeps=("/var/lib/outpost-accounts",),
    ),
    edited(
        "store", "passkeys belong to the page of a stranger", "/etc/outpost/accounts.json", r's/"site": "/&login./',
        "store::a_passkey_opens_nothing_for_a_page_that_imitates_webmail",
    ),
    broken(
        "store", "the nightly scan is off", "systemctl disable --now --quiet outpost-rescan.timer",
        "store::mailboxes_are_scanned_again_by_night", undo="systemctl enable --now --quiet outpost-rescan.timer",
    ),
    broken(
        "store", "Dovecot does not restart when the clock is set", "systemctl disable --now --quiet outpost-clock.timer",
        "store::dovecot_restarts_when_somebody_sets_the_clock", undo="systemctl enable --now --quiet outpost-clock.timer",
    ),
    broken(
        "store", "damaged search indexes stay", "systemctl disable --now --quiet outpost-search.service",
        "store::damaged_search_indexes_are_removed_before_dovecot_starts", undo="systemctl enable --now --quiet outpost-search.service",
    ),
    broken(
        "store", "duplicates are not removed", "systemctl disable --now --quiet outpost-twice.timer",
        "store::a_second_copy_is_removed_within_the_hour", undo="systemctl enable --now --quiet outpost-twice.timer",
    ),
    edited(
        "mta", "the scanner accepts messages from every client", "/etc/stunnel/scanner.conf", "/^(requireCert|verifyChain|checkHost|CAfile)/d",
        "store::the_scanner_takes_messages_from_the_store_and_nobody_else",
        activate=f"systemctl restart stunnel@scanner; {listening(f':{ports.SCANNER}')}", looked_at="store",
    ),
    edited(
        "mta", "the store can control the scanner", "/etc/stunnel/scanner.conf", "s@^exec = .*@connect = /run/clamav/clamd.ctl@; /^execArgs/d",
        "store::the_scanner_does_nothing_for_the_store_but_scan_a_message",
        activate=f"systemctl restart stunnel@scanner; {listening(f':{ports.SCANNER}')}", looked_at="store",
    ),
    broken(
        "store", "the filter is not trained", "systemctl disable --now --quiet outpost-learn.timer",
        "store::the_store_trains_the_filter_of_each_mta", undo="systemctl enable --now --quiet outpost-learn.timer",
    ),
    edited(
        "store", "moves into Junk start no training", DOVECOT, "/^ *sieve_script (spam|ham|(un)?block(_domain)?) /,/^ *}/d",
        "store::a_move_into_junk_and_out_of_it_is_noticed",
    ),
    edited(
        "store", "one user can fill the training spool", "/usr/local/lib/outpost/sieve/learn", "s/-lt [0-9]+ /-lt 9999 /; s@^\\*/\\* .*@nobody) ;;@",
        "store::no_user_fills_what_waits_to_be_learnt",
    ),
    edited(
        "mta", "every client can train the filter", "/etc/stunnel/learning.conf", "/^(requireCert|verifyChain|checkHost|CAfile)/d",
        "store::only_the_store_teaches_the_filter",
        activate=f"systemctl restart stunnel@learning; {listening(f':{ports.LEARN_SPAM}')}", looked_at="store",
    ),
    edited(
        "mta", "the store can control the filter", "/etc/stunnel/learning.conf",
        "s@^exec = .*@connect = /var/spool/outpost-learning/controller.sock@; /^execArgs/d",
        "store::the_store_does_nothing_to_the_filter_but_teach_it",
        activate=f"systemctl restart stunnel@learning; {listening(f':{ports.LEARN_SPAM}')}", looked_at="store",
    ),
    edited(
        "store", "users' Sieve filters may start programs", DOVECOT, "s/^sieve_global_extensions/sieve_extensions/",
        "store::no_filter_of_a_users_starts_a_program", activate=RESTART,
    ),
    edited(
        "store", "every author is allowed", "/usr/local/lib/outpost/sieve/allowed", "s/grep -qixF/grep -qvixF/",
        "store::who_was_taken_out_of_junk_is_allowed_and_nobody_else",
    ),
    edited(
        "store", "mail of blocked authors reaches the inbox", "/usr/local/lib/outpost/sieve/learn", "s/fileinto .Junk.;/keep;/",
        "store::who_was_blocked_lands_in_junk_and_nobody_else",
    ),
    edited(
        "store", "a delivery does not check blocked authors", DOVECOT, "/^sieve_script blocked /,/^}/d",
        "store::a_delivery_asks_who_is_blocked_before_the_filters_word",
    ),
    broken(
        "store", "the weekly digest is off", "systemctl disable --now --quiet outpost-digest.timer",
        "store::users_read_every_week_what_is_in_junk", undo="systemctl enable --now --quiet outpost-digest.timer",
    ),
    edited(
        "store", "an author is allowed without DMARC", "/etc/dovecot/sieve/junk.sieve", "s/X-Office-Author/From/",
        "store::an_author_is_allowed_only_where_dmarc_proves_it", activate="sievec /etc/dovecot/sieve/junk.sieve",
    ),
    broken(
        "store", "attachments are not read", "systemctl disable --now --quiet outpost-text.socket",
        "store::words_of_attachments_are_found", undo="systemctl enable --now --quiet outpost-text.socket",
    ),
    edited(
        "store", "the attachment reader can read mail", "/etc/systemd/system/outpost-text@.service",
        "/^(DynamicUser|PrivateNetwork|InaccessiblePaths)=/d",
        "store::what_reads_attachments_reaches_nothing_else", activate="systemctl daemon-reload",
    ),
    # Who gets in
    edited(
        "store", "LMTP accepts every client", STUNNEL, "/^(requireCert|verifyChain|checkHost|CAfile)/d",
        "store::delivery_is_refused_without_a_certificate",
        "store::delivery_is_refused_with_a_certificate_of_a_foreign_authority",
        "store::delivery_is_refused_to_the_offices_hosts_that_are_no_mta", activate=LISTENER,
    ),
    edited(
        "store", "every client can query quotas", STUNNEL, "/^(requireCert|verifyChain|checkHost|CAfile)/d",
        "defences::the_store_answers_this_host_and_no_other_whether_a_mailbox_has_room", activate=LISTENER, looked_at="mta",
    ),
    stopped(
        "store", "dovecot.service", "stunnel@lmtp.service", "stunnel@accounts.service", "outpost-accounts.service",
        red=(
            "store::the_mta_delivers_to_mailboxes_and_unknown_ones_are_rejected_at_once", "store::dovecot_starts_at_boot_and_after_a_crash",
        ),
    ),
    edited(
        "store", "login processes run as root", DOVECOT, r"s/^service imap-login \{/&\n  user = root/",
        "store::what_strangers_send_is_read_without_root",
    ),
    broken(
        "store", "services in clear text listen",
        "systemd-run --quiet --unit=outpost-sabotage python3 -c 'import signal, socket\n"
        "held = [socket.create_server((\"::\", port), family=socket.AF_INET6, dualstack_ipv6=True) for port in (110, 143, 587, 995, 2000)]\n"
        f"signal.pause()'; {listening(':2000')}",
        "store::no_clear_text_port_is_open", "base::every_listener_belongs_to_the_role_contract",
        undo="systemctl stop outpost-sabotage",
    ),
    edited(
        "store", "passwords in clear text are accepted", DOVECOT, r"s/^ssl = required/ssl = yes\nauth_allow_cleartext = yes/",
        "store::managesieve_takes_no_password_before_tls", activate=RESTART,
    ),
    edited(
        "store", "submission offers another login mechanism", DOVECOT, "s/^auth_mechanisms = plain login/& external/",
        "store::submission_wants_a_login_and_offers_two_ways_to_send_a_password", activate=RESTART,
    ),
    edited(
        "store", "the answer reveals whether an account exists", "/etc/dovecot/accounts.lua",
        r's/^( *)request:password_verify\(DECOY, password\)/\1do return result.PASSDB_RESULT_OK, { nologin = "y", reason = "no such account" } end/',
        "store::a_wrong_password_and_an_unknown_user_get_the_same_answer", activate=RESTART,
    ),
    edited(
        "store", "logins from every address are accepted", DOVECOT, "/^ *allow_real_nets = /d",
        "store::a_login_needs_a_certificate_or_the_users_network",
        "store::the_right_password_opens_nothing_from_a_host_without_its_certificate",
        "store::the_right_password_opens_nothing_from_outside_the_users_networks", activate=RESTART,
    ),
    broken(
        "store", "a second password opens every account", f"printf '\\npassdb static {{\\n  password = trial\\n}}\\n' >> {DOVECOT}",
        "store::no_password_opens_an_account_but_the_users_own", keeps=(DOVECOT,), activate=RESTART,
    ),
    edited(
        "store", "every client can name another address than its own", DOVECOT, "s/^login_trusted_networks = .*/login_trusted_networks = 0.0.0.0\\/0/",
        "store::a_client_is_known_by_the_address_it_comes_from",
    ),
    edited(
        "store", "the store does not verify the MTA", DOVECOT, "s/^submission_relay_ssl_verify = yes/submission_relay_ssl_verify = no/",
        "store::users_mail_leaves_for_the_mta_alone",
    ),
    edited(
        "store", "a sender chooses the folder", DOVECOT, "s/lmtp_save_to_detail_mailbox = no/lmtp_save_to_detail_mailbox = yes/",
        "store::a_sender_does_not_choose_the_folder",
    ),
    edited(
        "store", "one user may open 5000 connections, but only by IMAP", DOVECOT,
        r"s/^  imap_hibernate_timeout = .*/&\n  mail_max_userip_connections = 5000/", "store::one_users_program_does_not_take_everybodys_sessions",
    ),
    broken(
        "store", "LMTP accepts every cipher", edit(STUNNEL, "s/^ciphers = .*/ciphers = ALL:@SECLEVEL=0/"),
        "store::old_offers_are_taken_only_where_the_office_says_so[CBC]", "store::weak_offers_are_refused[CBC with SHA-256]",
        keeps=(STUNNEL,), activate=LISTENER,
    ),
    broken(
        "store", "a second authority is trusted",
        f"openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=other -keyout /dev/null 2>/dev/null >> {TRUSTED}",
        "certificates::the_offices_authority_alone_is_trusted_between_hosts", keeps=(TRUSTED,),
    ),
    # Encryption
    broken(
        "store", "old TLS is accepted",
        f"openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=store.invalid -keyout {OLD_TLS}.key -out {OLD_TLS}.pem "
        f"2>/dev/null; openssl genpkey -genparam -algorithm DH -pkeyopt group:ffdhe2048 -out {OLD_TLS}.dh; "
        f"cat {OLD_TLS}.pem >> {TRUSTED}; printf '' > {OPENSSL}; "
        + edit(
            DOVECOT,
            f"s#/etc/outpost/tls/(public|host)[.](pem|key)#{OLD_TLS}.\\2#; s/^ssl_min_protocol = .*/ssl_min_protocol = ANY/; "
            f"s#^ssl_cipher_list = .*#ssl_cipher_list = ALL:@SECLEVEL=0\\nssl_server_dh_file = {OLD_TLS}.dh#",
        ),
        "store::weak_offers_are_refused", "store::old_offers_are_taken_only_where_the_office_says_so",
        "store::users_see_the_public_certificate_and_hosts_the_internal_one",
        keeps=(DOVECOT, OPENSSL, TRUSTED), activate=RESTART, undo=f"rm -f {OLD_TLS}.key {OLD_TLS}.pem {OLD_TLS}.dh",
    ),
    edited(
        "store", "post-quantum key exchange is off", DOVECOT, "s/^ssl_curve_list = X25519MLKEM768:/ssl_curve_list = /",
        "store::a_current_client_gets_a_post_quantum_key_exchange", activate=RESTART,
    ),
    edited(
        "store", "a Sieve filter sends without its owner's address", DOVECOT,
        "/^sieve_vacation_send_from_recipient = /d; /^sieve_redirect_envelope_from = /d",
        "store::filters_send_with_their_users_address", activate=RESTART,
    ),
    edited(
        "store", "Sieve filters can reject accepted mail", DOVECOT, "/^  e?reject = no/d; /^  enotify = no/d",
        "store::filters_cannot_reject_edit_headers_or_notify", activate=RESTART,
    ),
    edited(
        "store", "Sieve filters can use regular expressions", DOVECOT, "/^  regex = no/d",
        "store::filters_cannot_reject_edit_headers_or_notify", activate=RESTART,
    ),
    edited(
        "store", "TLS 1.3 is off", OPENSSL, r"s/^MinProtocol.*/&\nMaxProtocol = TLSv1.2/",
        "store::a_current_client_gets_tls_1_3", activate=RESTART,
    ),
    edited(
        "store", "the greeting names the software", DOVECOT, "s/^login_greeting = .*/login_greeting = Dovecot ready/",
        "store::greetings_name_no_software", activate=RESTART,
    ),
    # Accounts and mailboxes
    broken(
        "store", "Dovecot has an unknown setting", f"echo 'no_such_setting = yes' >> {DOVECOT}",
        "store::the_configuration_is_accepted_without_a_warning", keeps=(DOVECOT,),
    ),
    edited(
        "store", "a password has an old hash", "/etc/dovecot/users", r"0,/\{ARGON2ID\}\$argon2id/s//{SHA512-CRYPT}$6/",
        "store::accounts_are_the_offices_users_with_argon2id",
    ),
    closed_to_nobody(
        "store", "every account of the host can read mail", "/srv/mail", "0755", "0700",
        "store::mail_belongs_to_one_account_and_nobody_else_reads_it",
    ),
    edited(
        "store", "mailboxes have no quota", "/etc/dovecot/users", "s/userdb_quota_storage_size=[0-9]+B/userdb_quota_storage_size=900G/",
        "store::each_mailbox_has_the_size_that_the_office_file_gives_it",
    ),
    broken(
        "store", "mailboxes are not scanned again, but seem to be",
        "mkdir -p /run/systemd/system/outpost-rescan.service.d; "
        "printf '[Service]\\nExecStart=\\nExecStart=/bin/true\\n' > /run/systemd/system/outpost-rescan.service.d/trial.conf",
        "declared::nothing_elsewhere_adds_to_a_unit",
        undo="rm -rf /run/systemd/system/outpost-rescan.service.d", activate="systemctl daemon-reload",
    ),
    stopped("store", "outpost-ended.path", red=("declared::every_declared_unit_runs_and_starts_at_boot",)),
    edited(
        "store", "a full mailbox takes a terabyte more", DOVECOT, "s/^quota_storage_grace = .*/quota_storage_grace = 1T/",
        "store::a_full_mailbox_takes_one_more_message_at_most",
    ),
    edited(
        "store", "deliveries have no quota", DOVECOT, r"s/^  lmtp_add_received_header = .*/&\n  mail_plugins {\n    quota = no\n  }/",
        "store::no_service_of_dovecot_lacks_the_plugins_for_quotas_and_rights",
    ),
    broken(
        "store", "removed passwords go on opening accounts", f"printf 'auth_cache_size = 10M\\nauth_cache_ttl = 1 weeks\\n' >> {DOVECOT}",
        "store::no_password_opens_an_account_but_the_users_own", keeps=(DOVECOT,), activate=RESTART,
    ),
    edited(
        "store", "a Sieve filter has no CPU limit", DOVECOT, "s/^sieve_max_cpu_time = .*/sieve_max_cpu_time = 0/",
        "store::messages_folders_and_filters_of_a_user_are_limited",
    ),
    edited(
        "store", "mail to a full mailbox bounces", DOVECOT, "s/^quota_full_tempfail = yes/quota_full_tempfail = no/",
        "store::a_full_mailbox_makes_mail_wait_and_never_bounce",
    ),
    edited(
        "store", "a stranger's trace line makes a later message vanish", DOVECOT, "s/lmtp_add_received_header = yes/lmtp_add_received_header = no/",
        "store::no_sender_writes_what_proves_a_second_copy",
    ),
    edited(
        "store", "an acknowledged message is in memory only", DOVECOT, "s/^mail_fsync = always/mail_fsync = never/",
        "store::what_was_acknowledged_is_on_disk",
    ),
    edited(
        "store", "every message gets a vacation reply", DOVECOT, "s/^sieve_vacation_min_period = .*/sieve_vacation_min_period = 1 secs/",
        "store::an_automatic_reply_comes_once_a_day_at_most",
    ),
    edited(
        "store", "one user may open 5000 IMAP connections", DOVECOT, "s/^mail_max_userip_connections = .*/mail_max_userip_connections = 5000/",
        "store::one_users_program_does_not_take_everybodys_sessions",
    ),
    edited(
        "store", "passwords are logged", DOVECOT, r"s/^auth_mechanisms = .*/&\nauth_verbose_passwords = plain/",
        "store::passwords_are_in_no_log",
    ),
    # Processes
    laid_bare(
        "store", "dovecot.service", "stunnel@lmtp.service", "stunnel@accounts.service", "outpost-accounts.service",
        red=("store::dovecot_runs_in_a_sandbox", "hardening::every_listening_unit_is_in_a_sandbox"),
    ),
    *(
        unit_laid_bare("store", unit, f"store::what_works_on_mailboxes_by_night_is_in_a_sandbox_and_no_root[{unit}]")
        for unit in ("outpost-digest.service", "outpost-forget.service", "outpost-rescan.service", "outpost-twice.service")
    ),
    unit_laid_bare("store", "outpost-logins.service", "store::the_login_policy_runs_in_a_sandbox"),
    edited(
        "store", "every account can report wrong passwords", "/usr/local/lib/outpost/logins", "s/^    def verify_request/    def not_asked/",
        "store::only_dovecot_and_root_use_the_login_policy", activate="systemctl restart outpost-logins.service",
    ),
    stopped("store", "outpost-logins.service", red=("store::guessers_are_shut_out_and_nobody_else",)),
    edited(
        "store", "wrong passwords delay all users of an address", DOVECOT,
        "/unix_listener anvil-auth-penalty/,/}/d",
        "store::nobody_is_slowed_for_what_others_behind_the_same_address_do", activate=RESTART,
    ),
)  # fmt: skip
