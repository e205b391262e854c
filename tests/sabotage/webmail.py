"""Sabotage of webmail."""

from __future__ import annotations

from tests.awaiting import listening, replaced
from tests.sabotage.breaking import broken, closed_to_nobody, drop_ins_gone, edit, edited, stopped

NGINX, FPM, ROUNDCUBE = (
    "/etc/nginx/nginx.conf",
    "/etc/php/8.4/fpm/php-fpm.conf",
    "/etc/roundcube/config.inc.php",
)
ACCESS = "/var/lib/roundcube/plugins/access/access.php"
INVITATION = "/var/lib/roundcube/plugins/invitations/invitation.php"
DATABASE = "/var/lib/roundcube/db"
UNITS = ("nginx.service", "php8.4-fpm.service")
# its old workers accept connections until they get the signal to finish; php-fpm and a started nginx report when they are ready
RELOAD = replaced("nginx: worker process", "systemctl reload nginx")
RESTART = "systemctl restart php8.4-fpm"
POLICY, SETTINGS, OUTLOOK = (
    "/var/www/mta-sts/.well-known/mta-sts.txt",
    "/var/www/autoconfig/mail/config-v1.1.xml",
    "/var/www/autoconfig/autodiscover/autodiscover.xml",
)

SABOTAGES = (
    broken(
        "webmail", "the Apple profile is missing", "rm /var/www/autoconfig/mail/apple.mobileconfig",
        "webmail::apple_devices_are_given_a_profile_to_install", keeps=("/var/www/autoconfig/mail/apple.mobileconfig",),
    ),
    broken(
        "webmail", "the guide is missing", "rm /var/www/webmail/guide.html",
        "webmail::users_find_the_offices_guide", keeps=("/var/www/webmail/guide.html",),
    ),
    # The host
    stopped(
        "webmail", *UNITS,
        red=(
            "webmail::webmail_runs_and_comes_up_with_the_host",
            "webmail::nothing_but_the_entry_script_and_its_pictures_is_served",
        ),
    ),
    broken(
        "webmail", "a second web server is installed",
        r"printf '\nPackage: apache2\nStatus: install ok installed\nVersion: 1\nArchitecture: all\n"
        r"Maintainer: nobody\nDescription: trial\n' >> /var/lib/dpkg/status",
        "webmail::no_second_web_server_and_no_database_server_is_installed", keeps=("/var/lib/dpkg/status",),
    ),
    broken(
        "webmail", "another program listens on port 443",
        "systemd-run --quiet --unit=outpost-sabotage python3 -c 'import signal, socket\n"
        f"held = socket.create_server((\"127.0.0.9\", 443))\nsignal.pause()'; {listening('127.0.0.9:443')}",
        "webmail::web_server_listens_on_its_zone_addresses_and_no_wildcard", undo="systemctl stop outpost-sabotage",
    ),
    edited(
        "webmail", "one client may open any number of uploads", NGINX, r"s/^ *limit_conn uploads .*//",
        "webmail::one_client_does_not_take_the_room_for_uploads", activate=RELOAD,
    ),
    edited(
        "webmail", "one client may open any number of requests", NGINX, r"s/^ *limit_conn pages .*//",
        "webmail::requests_of_one_client_do_not_take_that_room_either", activate=RELOAD,
    ),
    edited(
        "webmail", "GET requests may have a large body", NGINX, r"s/^ *client_max_body_size 1k;$/client_max_body_size 36m;/",
        "webmail::only_a_form_brings_a_file", activate=RELOAD,
    ),
    edited(
        "webmail", "the HTTP redirect follows the Host header", NGINX, r"s|return 301 https://[^/]*/|return 301 https://$host/|",
        "webmail::http_answers_with_a_redirect_to_https_and_nothing_else", activate=RELOAD,
    ),
    broken(
        "webmail", "PHP is in the group of nginx", "usermod --append --groups www-data roundcube",
        "webmail::php_runs_as_an_account_of_its_own_and_never_as_root", keeps=("/etc/group", "/etc/gshadow"),
    ),
    drop_ins_gone(
        "webmail", *UNITS, red=("webmail::web_units_are_sandboxed", "hardening::every_listening_unit_is_in_a_sandbox")
    ),
    edited(
        "webmail", "PHP shows errors", FPM, r"s/^(php_admin_flag\[display_errors\]) = off/\1 = on/",
        "webmail::php_keeps_what_an_intruder_would_want_switched_off", activate=RESTART,
    ),
    edited(
        "webmail", "a stranger chooses the name of a session", FPM, r"s/^(php_admin_flag\[session.use_strict_mode\]) = on/\1 = off/",
        "webmail::php_keeps_what_an_intruder_would_want_switched_off", activate=RESTART,
    ),
    edited(
        "webmail", "a slow client holds its connection for an hour", "/etc/nginx/nginx.conf", "s/client_header_timeout .*/client_header_timeout 1h;/",
        "webmail::a_client_that_sends_or_reads_nothing_holds_no_connection", activate=RELOAD,
    ),
    edited(
        "webmail", "PHP may start programs", FPM, r"s/^(php_admin_value\[disable_functions\]) = .*/\1 = phpinfo/",
        "webmail::php_keeps_what_an_intruder_would_want_switched_off", activate=RESTART,
    ),
    closed_to_nobody(
        "webmail", "nginx can read Roundcube's key", ROUNDCUBE, "0644", "0640",
        "webmail::only_roundcube_reads_its_key_and_its_database",
    ),
    broken(
        "webmail", "the database has another schema and a cached message",
        f"sqlite3 {DATABASE}/roundcube.sqlite \"UPDATE system SET value = '2000010100' WHERE name = 'roundcube-version'; "
        "INSERT INTO cache_shared (cache_key, expires, data) VALUES ('trial', NULL, 'mail')\"",
        "webmail::database_has_the_schema_of_the_installed_version",
        "webmail::no_message_and_no_session_is_in_the_database", keeps=(DATABASE,),
    ),
    broken(
        "webmail", "uploads and sessions are on the disk",
        "for pair in php8.4-fpm:/var/lib/roundcube/temp php8.4-fpm:/var/lib/roundcube/sessions nginx:/var/lib/nginx; do nsenter --mount "
        "--target $(systemctl show --property MainPID --value ${pair%%:*}) umount --lazy ${pair#*:}; done",
        "webmail::sessions_and_uploads_live_in_the_units_own_memory",
        undo="systemctl restart nginx php8.4-fpm",
    ),
    edited(
        "webmail", "sessions share the file system of attachments", "/etc/php/8.4/fpm/php-fpm.conf", "s@/roundcube/sessions@/roundcube/temp@",
        "webmail::attachments_take_no_room_of_sessions", activate="systemctl restart php8.4-fpm",
    ),
    edited(
        "webmail", "files that PHP writes can be run", "/etc/systemd/system/php8.4-fpm.service.d/outpost.conf",
        "/^(NoExecPaths|ExecPaths|TemporaryFileSystem)/d", "hardening::what_a_daemon_writes_cannot_be_run",
        activate="systemctl daemon-reload; systemctl restart php8.4-fpm",
    ),
    edited(
        "webmail", "webmail does not verify the store's certificate", ROUNDCUBE, "s/('verify_peer' *)=> true/\\1=> false/",
        "webmail::roundcube_speaks_with_the_store_alone_and_checks_that_it_is",
    ),
    broken(
        "webmail", "remote pictures are loaded, the protocol is logged, and the plug-in is missing",
        f"printf '%s\\n' '$config[\"show_images\"] = 2; $config[\"imap_debug\"] = true; $config[\"plugins\"] = [];' >> {ROUNDCUBE}",
        "webmail::no_picture_is_fetched_unasked", "webmail::neither_protocol_nor_session_is_logged",
        "webmail::guesses_at_webmail_are_counted_by_the_browsers_address", keeps=(ROUNDCUBE,),
    ),
    stopped("webmail", "roundcube-cleandb.timer", red=("webmail::deleted_contacts_go_for_good",)),
    # What a browser gets
    edited(
        "webmail", "pages have no security headers", NGINX, "/^ *add_header/d", "webmail::pages_carry_the_security_headers_once",
        activate=RELOAD,
    ),
    edited(
        "webmail", "invitations are read without bounds", INVITATION, "s/LONGEST = [0-9]+;/LONGEST = PHP_INT_MAX;/",
        "webmail::a_strangers_invitation_is_read_within_bounds_and_is_nothing_but_text",
    ),
    edited(
        "webmail", "attachments may run scripts", ACCESS, "s/script-src 'none'/script-src 'self'/",
        "webmail::attachments_shown_in_the_browser_run_no_script", activate=RESTART,
    ),
    edited(
        "webmail", "logins share the processes of pages", NGINX, "s/OUTPOST_POOL .*/OUTPOST_POOL login;/",
        "webmail::a_login_has_processes_of_its_own", activate=RELOAD,
    ),
    edited(
        "webmail", "every HTTP method reaches PHP", NGINX, "s/return 405/break/",
        "webmail::webmail_knows_no_other_method_than_browsers_use", activate=RELOAD,
    ),
    edited(
        "webmail", "scripts can read cookies", FPM, r"s/(session.cookie_(secure|httponly)\]) = on/\1 = off/",
        "webmail::session_cookies_stay_with_this_host_and_out_of_scripts", activate=RESTART,
    ),
    broken(
        "webmail", "the login form offers a choice of server",
        f"echo \"\\$config['imap_host'] = ['ssl://a.invalid:993', 'ssl://b.invalid:993'];\" >> {ROUNDCUBE}",
        "webmail::login_form_offers_no_choice_of_server", keeps=(ROUNDCUBE,), activate=RESTART,
    ),
    edited(
        "webmail", "uploads of any size are accepted", NGINX, "s/client_max_body_size .*/client_max_body_size 0;/",
        "webmail::too_large_a_file_is_refused_in_plain_words", activate=RELOAD,
    ),
    edited(
        "webmail", "one client may begin any number of logins", NGINX, r"s/^ *limit_conn logins .*//",
        "webmail::one_client_does_not_take_the_room_for_logins", activate=RELOAD,
    ),
    edited(
        "webmail", "one client may begin any number of sessions", "/etc/nginx/nginx.conf", "/^ *limit_req zone=beginning/d",
        "webmail::a_made_up_session_takes_no_memory",
    ),
    edited(
        "webmail", "files have no security headers", NGINX, r"s/^( *)gzip on; .*/&\n\1add_header X-Trial 1;/; s/^( *)try_files .guide.*/&\n\1add_header X-Trial 1;/; "
        r"s/^( *)location = .skins.elastic.watermark.html \{/&\n\1add_header X-Trial 1;/",
        "webmail::files_carry_the_security_headers_as_well", activate=RELOAD,
    ),
    edited(
        "webmail", "pages are compressed", NGINX, r"s/^( *)gzip off;/\1gzip on;/", "webmail::pages_are_not_compressed", activate=RELOAD,
    ),
    edited(
        "webmail", "a client names another address than its own", NGINX,
        r"s/^( *)limit_conn_status 429;/&\n\1set_real_ip_from 0.0.0.0\/0;\n\1set_real_ip_from ::\/0;\n\1real_ip_header X-Forwarded-For;/",
        "webmail::the_log_names_the_browsers_own_address_and_no_secret", activate=RELOAD,
    ),
    edited(
        "webmail", "the log has tokens and search words", NGINX, r's/"\$request_method \$uri \$server_protocol"/"$request"/',
        "webmail::the_log_names_the_browsers_own_address_and_no_secret", activate=RELOAD,
    ),
    *(
        broken(
            "webmail", what, f"echo '$config[\"{setting}\"] = {value};' >> {ROUNDCUBE}",
            "webmail::roundcube_has_keys_and_limits_of_its_own", keeps=(ROUNDCUBE,),
        )
        for what, setting, value in (
            ("sessions are encrypted with Roundcube's default key", "des_key", '"rcmail-!24ByteDESkey*Str"'),
            ("a user's preferences may name another server", "dont_override", "[]"),
            ("a proxy's word on the client's address counts", "proxy_whitelist", '["192.0.2.1"]'),
        )
    ),
    # What the Internet gets
    edited(
        "webmail", "every name gets a certificate", NGINX, "s/ssl_reject_handshake on/ssl_reject_handshake off/",
        "webmail::webmail_is_not_there_for_the_internet_unless_the_office_opens_it",
        "webmail::unknown_names_get_no_handshake_and_see_no_certificate", activate=RELOAD,
    ),
    broken(
        "webmail", "the MTA-STS policy and the client settings are wrong",
        "; ".join(
            (
                edit(POLICY, "s/enforce/testing/"),
                edit(SETTINGS, "s/993/143/"),
                edit(OUTLOOK, "s/993/143/"),
            )
        ),
        "webmail::mta_sts_policy_is_the_mx_set", "webmail::mail_programs_find_their_settings",
        "webmail::outlook_finds_its_settings_by_asking_with_a_post", keeps=(POLICY, SETTINGS, OUTLOOK),
    ),
    # TLS
    edited(
        "webmail", "old TLS is accepted", NGINX,
        r"s/ssl_protocols .*/ssl_protocols TLSv1 TLSv1.1 TLSv1.2;/; s/ssl_ciphers .*/ssl_ciphers ALL:@SECLEVEL=0;/; "
        "/SignatureAlgorithms|NoRenegotiation/d",
        "webmail::old_offers_are_taken_only_where_the_office_says_so", "webmail::only_forward_secret_authenticated_ciphers_are_taken",
        "webmail::no_weak_signature_no_renegotiation_no_compression", activate="systemctl restart nginx",
    ),
)  # fmt: skip
