"""Sabotage of what every host promises; each runs on one host, and they share the hosts among them."""

from __future__ import annotations

from outpost_lab.attack.weakness import SAVED
from tests.awaiting import listening
from tests.sabotage.breaking import (
    BARE,
    broken,
    closed_to_nobody,
    drop_ins_gone,
    edit,
    edited,
    stopped,
    written,
)

SSHD = "/etc/ssh/sshd_config.d/00-outpost.conf"
GENERATOR = "/etc/systemd/system-generators/systemd-ssh-generator"
UNBOUND = "/etc/unbound/unbound.conf"
NFT = "nft add table inet outpost; nft -f /etc/nftables.conf"
DROP_IN = "/etc/systemd/system/unbound.service.d/zz-trial.conf"
NEVER, STAMP = "/etc/systemd/system/apt-daily.timer.d", "/var/lib/systemd/timers/stamp-apt-daily.timer"
EXTRA_UNIT = "outpost-sabotage"  # of a program that should not run

SABOTAGES = (
    broken(
        "base", "the host does not check itself", "systemctl stop outpost-watch.timer",
        "base::the_host_checks_itself_and_sends_its_alarms", undo="systemctl start outpost-watch.timer",
    ),
    # SSH
    edited(
        "base", "sshd accepts passwords", SSHD, "s/^PasswordAuthentication no/PasswordAuthentication yes/",
        "base::ssh_accepts_keys_only_from_any_source_address",
    ),
    broken(
        "base", "sshd accepts passwords from one network",
        written("/etc/ssh/sshd_config.d/zz-trial.conf", r"Match Address 192.0.2.0/24\n  AuthenticationMethods any\n  PasswordAuthentication yes\n"),
        "base::ssh_accepts_keys_only_from_any_source_address", undo="rm -f /etc/ssh/sshd_config.d/zz-trial.conf",
    ),
    broken(
        "base", "sshd accepts passwords from one network, in another spelling",
        written("/etc/ssh/sshd_config.d/zz-trial.conf", r"match=Address 192.0.2.0/24\n  AuthenticationMethods any\n  PasswordAuthentication yes\n"),
        "base::ssh_accepts_keys_only_from_any_source_address", undo="rm -f /etc/ssh/sshd_config.d/zz-trial.conf",
    ),
    broken(
        "base", "sshd still accepts passwords that its file forbids again",
        f"cp -p {SSHD} {SAVED}/sshd; {edit(SSHD, 's/^AuthenticationMethods .*/AuthenticationMethods any/; s/^PasswordAuthentication no/PasswordAuthentication yes/')}; "
        f"systemctl restart ssh; cp -p {SAVED}/sshd {SSHD}",
        "base::ssh_offers_keys_only", keeps=(SSHD,), activate=":", undo="systemctl restart ssh",
    ),
    edited(
        "base", "sshd logs nothing, and a session's keys choose its environment", SSHD, "s/^LogLevel .*/LogLevel QUIET/; s/^PermitUserEnvironment .*/PermitUserEnvironment yes/",
        "base::ssh_accepts_keys_only_from_any_source_address",
    ),
    broken(
        "base", "sshd asks a program for keys",
        written("/etc/ssh/sshd_config.d/zz-trial.conf", r"AuthorizedKeysCommand /usr/bin/cat /tmp/keys\nAuthorizedKeysCommandUser nobody\n"),
        "base::ssh_accepts_keys_only_from_any_source_address", undo="rm -f /etc/ssh/sshd_config.d/zz-trial.conf",
    ),
    broken(
        "base", "sshd has an option that is in no file of its own",
        "mkdir -p /run/systemd/system/ssh.service.d; "
        + written("/run/systemd/system/ssh.service.d/trial.conf", r"[Service]\nEnvironment=SSHD_OPTS=-oAuthorizedKeysFile=/tmp/keys\nEnvironmentFile=\n"),
        "base::ssh_opens_with_the_offices_keys_only",
        undo="rm -rf /run/systemd/system/ssh.service.d", activate="systemctl daemon-reload; systemctl restart ssh",
    ),
    edited(
        "base", "sshd offers a cipher in CBC mode", SSHD, "s/^Ciphers /&aes128-cbc,/",
        "base::ssh_offers_modern_algorithms_only", activate="systemctl restart ssh",
    ),
    edited(
        "base", "sshd listens in every zone", SSHD, "/^ListenAddress/d",
        "base::ssh_listens_in_the_management_zone_only", "base::every_listener_belongs_to_the_role_contract",
        activate="systemctl restart ssh",
    ),
    broken(
        "base", "sshd listens on a Unix socket",
        f"rm {GENERATOR}; systemctl daemon-reload; systemctl start sshd-unix-local.socket",
        "base::ssh_has_no_listener_that_the_packet_filter_does_not_see", keeps=(GENERATOR,),
        undo="systemctl stop sshd-unix-local.socket", activate="systemctl daemon-reload",
    ),
    stopped("base", "ssh.service", red=("base::every_listener_of_the_role_contract_is_there",)),
    # Packet filter and kernel
    broken(
        "base", "the packet filter accepts everything",
        "for chain in inbound outbound forward; do nft chain inet outpost $chain '{ policy accept; }'; done",
        "base::packet_filter_drops_what_no_flow_allows", "base::live_packet_filter_is_the_one_on_disk_rule_by_rule",
        undo=NFT,
    ),
    broken(
        "base", "a port was opened in the running packet filter",
        "for chain in inbound outbound; do nft insert rule inet outpost $chain tcp dport 8080 accept comment '\"trial\"'; done",
        "base::packet_filter_allows_exactly_the_offices_flows", "base::live_packet_filter_is_the_one_on_disk_rule_by_rule",
        undo=NFT,
    ),
    broken(
        "base", "a rule is missing in the running packet filter and on disk",
        edit("/etc/nftables.conf", "/nd-router-advert, nd-redirect/d") + "; nft -f /etc/nftables.conf",
        "base::live_packet_filter_is_the_one_on_disk_rule_by_rule", keeps=("/etc/nftables.conf",), activate="nft -f /etc/nftables.conf",
    ),
    broken(
        "base", "the packet filter is not loaded at boot", "systemctl disable nftables",
        "base::packet_filter_comes_up_with_the_host", undo="systemctl enable nftables",
    ),
    broken(
        "base", "the host forwards packets", "sysctl -w net.ipv4.ip_forward=1", "base::host_does_not_forward_between_its_zones",
        undo="sysctl --system",
    ),
    broken(
        "base", "the kernel accepts router advertisements", "sysctl -w net.ipv6.conf.lo.accept_ra=1",
        "base::no_neighbour_becomes_the_hosts_ipv6_router", undo="sysctl -w net.ipv6.conf.lo.accept_ra=0",
    ),
    broken(
        "base", "a neighbour can take addresses from the host", "sysctl -w net.ipv6.conf.all.accept_dad=1",
        "base::no_neighbour_takes_an_address_from_the_host_at_boot", undo="sysctl -w net.ipv6.conf.all.accept_dad=0",
    ),
    broken(
        "base", "the kernel follows a neighbour's redirects", "sysctl -w net.ipv4.conf.lo.accept_redirects=1",
        "base::neighbours_cannot_redirect_the_hosts_traffic", undo="sysctl -w net.ipv4.conf.lo.accept_redirects=0",
    ),
    # Names and time
    edited(
        "base", "the resolver does not validate", UNBOUND,
        's/"validator iterator"/"iterator"/; s/^( *)(qname-minimisation|serve-expired|hide-[a-z]+|harden-[a-z-]+|aggressive-nsec|deny-any|'
        r"val-clean-additional): yes/\1\2: no/; s/^( *)hide-version: no/&\n\1val-permissive-mode: yes/",
        "base::resolver_validates_the_offices_own_names",
        *(
            f"base::resolver_is_strict_and_keeps_answers_for_a_cut_line[{option}]"
            for option in (
                "module-config-validator iterator", "val-permissive-mode-no", "harden-algo-downgrade-yes", "harden-below-nxdomain-yes",
                "harden-dnssec-stripped-yes", "harden-glue-yes", "qname-minimisation-yes", "serve-expired-yes", "hide-version-yes",
                "hide-identity-yes", "aggressive-nsec-yes", "deny-any-yes", "val-clean-additional-yes",
            )
        ),
        activate="systemctl restart unbound",
    ),
    edited(
        "base", "the resolver accepts answers in fragments, and keeps wrong ones for a year", UNBOUND,
        r"s/^( *)edns-buffer-size: .*/\1edns-buffer-size: 4096\n\1cache-min-ttl: 3600/; s/unwanted-reply-threshold: .*/unwanted-reply-threshold: 0/; s/(cache-max(-negative)?|serve-expired)-ttl: .*/\1-ttl: 31536000/",
        *(
            f"base::resolver_is_strict_and_keeps_answers_for_a_cut_line[{option}-{value}]"
            for option, value in (
                ("edns-buffer-size", 1232), ("cache-min-ttl", 0), ("unwanted-reply-threshold", 1000000), ("cache-max-ttl", 86400), ("cache-max-negative-ttl", 300),
                ("serve-expired-ttl", 86400),
            )
        ),
        activate="systemctl restart unbound",
    ),
    broken(
        "base", "the resolver believes unsigned answers of one domain", "unbound-control insecure_add victim.example",
        "base::resolver_makes_up_nothing", undo="unbound-control insecure_remove victim.example",
    ),
    broken(
        "base", "the resolver has an answer of its own", "unbound-control local_data 'victim.example. 300 A 192.0.2.66'",
        "base::resolver_makes_up_nothing",
        undo="unbound-control local_data_remove victim.example; unbound-control local_zone_remove victim.example",
    ),
    edited(
        "base", "outside names may point to private addresses", UNBOUND, "/private-address/d", "base::resolver_lets_no_outside_name_point_inside",
        activate="systemctl restart unbound",
    ),
    edited(
        "webmail", "the resolver serves every client", UNBOUND, "s/interface: 127.0.0.1/interface: 0.0.0.0/",
        "base::resolver_serves_this_host_only", activate="systemctl restart unbound",
    ),
    broken(
        "base", "/etc/hosts lacks hosts of the office",
        f"cat /etc/hosts > {SAVED}/hosts; grep -v mta {SAVED}/hosts > /etc/hosts",
        "base::office_hosts_are_found_without_the_dns", undo=f"cat {SAVED}/hosts > /etc/hosts",
    ),
    edited(
        "base", "the clock follows a server that does not exist", "/etc/chrony/chrony.conf", "s/^server [^ ]+/server 192.0.2.1/",
        "base::clock_follows_its_sources", "upkeep::clock_is_right_to_a_second", activate="systemctl restart chrony",
    ),
    # Packages, accounts, logs, keys
    edited(
        "base", "security updates are not installed automatically", "/etc/apt/apt.conf.d/52outpost-unattended",
        's/Unattended-Upgrade "1"/Unattended-Upgrade "0"/', "base::security_upgrades_install_themselves",
    ),
    broken(
        "base", "no package may be updated", written("/etc/apt/apt.conf.d/99trial", 'Unattended-Upgrade::Package-Blacklist { ".*"; };'),
        "base::security_upgrades_install_themselves", undo="rm -f /etc/apt/apt.conf.d/99trial",
    ),
    edited(
        "base", "security updates come during office hours", "/etc/systemd/system/apt-daily-upgrade.timer.d/outpost.conf",
        r"s/^OnCalendar=.*[0-9].*/OnCalendar=*-*-* 11:11/", "hardening::security_upgrades_come_in_their_hours",
        activate="systemctl daemon-reload",
    ),
    broken(
        "base", "a package archive has no signature",
        written("/etc/apt/sources.list.d/trial.list", r"deb [trusted=yes] http://archive.invalid/ stable main\n"),
        "base::packages_come_from_signed_archives_only", undo="rm -f /etc/apt/sources.list.d/trial.list",
    ),
    edited(
        "base", "the office's archive needs no signature", "/etc/apt/sources.list.d/debian.sources", "0,/^Suites/s//Trusted: yes\\n&/",
        "base::packages_come_from_signed_archives_only",
    ),
    broken(
        "base", "a second mail server is installed",
        r"printf '\nPackage: exim4-daemon-light\nStatus: install ok installed\nVersion: 1\nArchitecture: all\n"
        r"Maintainer: nobody\nDescription: trial\n' >> /var/lib/dpkg/status",
        "base::no_mail_server_but_the_roles", keeps=("/var/lib/dpkg/status",),
    ),
    broken(
        "base", "a second resolver is installed",
        r"printf '\nPackage: systemd-resolved\nStatus: install ok installed\nVersion: 1\nArchitecture: all\n"
        r"Maintainer: nobody\nDescription: trial\n' >> /var/lib/dpkg/status",
        "base::no_second_resolver", keeps=("/var/lib/dpkg/status",),
    ),
    broken(
        "base", "cloud-init is on", "mkdir /etc/cloud", "base::cloud_init_is_off", undo="rmdir /etc/cloud",
    ),
    broken(
        "base", "the journal is in memory only",
        written("/etc/systemd/journald.conf.d/zzz-trial.conf", r"[Journal]\nStorage=volatile\n"), "base::journal_survives_a_restart",
        undo="rm -f /etc/systemd/journald.conf.d/zzz-trial.conf", activate="systemctl restart systemd-journald; journalctl --flush",
    ),
    broken(
        "base", "the journal keeps warnings only",
        "mkdir -p /run/systemd/journald.conf.d; " + written("/run/systemd/journald.conf.d/zzz-trial.conf", r"[Journal]\nMaxLevelStore=warning\n"),
        "base::the_journal_keeps_what_daemons_say_of_ordinary_events",
        undo="rm -f /run/systemd/journald.conf.d/zzz-trial.conf", activate="systemctl restart systemd-journald",
    ),
    closed_to_nobody(
        "mta", "every account can read the host's keys", "/etc/outpost/tls/host.key /etc/outpost/tls/public.key", "0644", "0640",
        "base::certificate_keys_are_private_and_match",
    ),
    broken(
        "base", "the host has another name", f"hostname > {SAVED}/name; hostname somebody.invalid",
        "base::host_knows_its_name", undo=f'hostname "$(cat {SAVED}/name)"',
    ),
    broken(
        "base", "a unit has failed", f"systemd-run --quiet --wait --unit={EXTRA_UNIT} false || true",
        "base::no_unit_has_failed", undo=f"systemctl reset-failed {EXTRA_UNIT}",
    ),
    broken(
        "base", "a daemon has no limit of memory and processes",
        written("/etc/systemd/system/unbound.service.d/zz-trial.conf", r"[Service]\nMemoryMax=infinity\nTasksMax=infinity\n"),
        "hardening::no_daemon_may_take_the_whole_host",
        undo="rm -f /etc/systemd/system/unbound.service.d/zz-trial.conf", activate="systemctl daemon-reload",
    ),
    broken(
        "base", "the sandbox was added after the daemon's start",
        written(f"{DROP_IN}", r"\n".join(("[Service]", *BARE, ""))) + f"; systemctl daemon-reload; systemctl restart unbound; rm {DROP_IN}",
        "hardening::what_listens_runs_within_what_its_unit_allows",
        undo=f"rm -f {DROP_IN}; systemctl daemon-reload; systemctl restart unbound", activate="systemctl daemon-reload",
    ),
    drop_ins_gone("base", "unbound.service", red=("hardening::every_listening_unit_is_in_a_sandbox",)),
    edited(
        "base", "a session's files are readable for everybody", "/etc/default/login", "s/UMASK=.*/UMASK=022/",
        "hardening::a_session_leaves_no_memory_on_the_disk",
    ),
    broken(
        "base", "a service account may run every program as root",
        written("/etc/sudoers.d/trial", r"nobody ALL=(ALL) NOPASSWD: ALL\n"), "hardening::only_administrators_run_programs_as_somebody_else",
        undo="rm -f /etc/sudoers.d/trial",
    ),
    edited(
        "base", "the alarms of a host were edited", "/etc/outpost/watch.json", "s/[0-9]+/&0/", "declared::every_declared_file_is_unchanged",
    ),
    stopped("base", "outpost-backup.timer", red=("declared::every_declared_unit_runs_and_starts_at_boot",)),
    broken(
        "base", "a unit of the office starts another program",
        "mkdir -p /run/systemd/system/outpost-watch.service.d; "
        + written("/run/systemd/system/outpost-watch.service.d/trial.conf", r"[Service]\nExecStart=\nExecStart=/bin/true\n"),
        "declared::nothing_elsewhere_adds_to_a_unit",
        undo="rm -rf /run/systemd/system/outpost-watch.service.d", activate="systemctl daemon-reload",
    ),
    edited(
        "base", "a service account has a password", "/etc/shadow", "s/^nobody:[^:]*/nobody:$y$j9T$trial$trial/",
        "hardening::only_known_accounts_can_log_in",
    ),
    stopped("base", "outpost-logs.service", red=("logs::what_the_host_writes_goes_to_the_collector",)),
    broken(
        "base", "the log shipper runs as root",
        "mkdir -p /etc/systemd/system/outpost-logs.service.d; " + written("/etc/systemd/system/outpost-logs.service.d/zz-trial.conf", r"[Service]\nUser=root\n"),
        "logs::the_program_that_sends_the_log_runs_without_root",
        undo="rm -rf /etc/systemd/system/outpost-logs.service.d", activate="systemctl daemon-reload; systemctl restart outpost-logs",
    ),
    edited(
        "base", "sudo does not log", "/etc/sudoers.d/outpost", "s/syslog=authpriv, log_allowed/!syslog, !log_allowed/",
        "logs::what_an_administrator_does_as_somebody_else_is_logged",
    ),
    broken(
        "base", "programs can run from directories that everybody can write to", "mount -o remount,bind,nosuid,nodev,exec /var/tmp",
        "hardening::nothing_runs_from_where_everybody_writes", undo="systemctl restart outpost-mounts",
    ),
    broken(
        "base", "a program differs from its package", "printf trial >> /usr/bin/dpkg-split",
        "hardening::no_program_differs_from_its_package", keeps=("/usr/bin/dpkg-split",),
    ),
    # Upkeep
    stopped("base", "dpkg-db-backup.timer", red=("upkeep::what_packages_do_regularly_is_scheduled",)),
    stopped("base", "apt-daily-upgrade.timer", red=("upkeep::what_the_host_does_by_itself_was_begun_lately",)),
    broken(
        "base", "a timer last ran years ago",
        f"mkdir -p {NEVER}; " + written(f"{NEVER}/zz-trial.conf", r"[Timer]\nOnCalendar=\nOnCalendar=2020-01-01\nPersistent=yes\n")
        + f"; touch -d 2020-06-01 {STAMP}",
        "upkeep::what_the_host_does_by_itself_was_begun_lately", keeps=(STAMP,), undo=f"rm -rf {NEVER}",
        activate="systemctl daemon-reload; systemctl restart apt-daily.timer",
    ),
    broken(
        "base", "a security update waits",
        written("/etc/apt/preferences.d/trial", r"Package: *\nPin: release l=Debian-Security\nPin-Priority: 1001\n"),
        "hardening::no_security_update_waits", undo="rm -f /etc/apt/preferences.d/trial",
    ),
    broken(
        "ns1", "a program without PIE listens",
        "cp $(readlink -f /usr/bin/python3) /usr/local/bin/trial; systemd-run --quiet --unit=outpost-sabotage /usr/local/bin/trial -c "
        f"'import signal, socket\nheld = socket.create_server((\"127.0.0.9\", 8080))\nsignal.pause()'; {listening('127.0.0.9:8080')}",
        "hardening::programs_that_listen_are_hard_to_break_into", undo="systemctl stop outpost-sabotage; rm -f /usr/local/bin/trial",
    ),
    broken(
        "base", "SYN cookies are off", "sysctl -w net.ipv4.tcp_syncookies=0",
        "hardening::half_open_connections_do_not_fill_the_table", undo="sysctl -w net.ipv4.tcp_syncookies=1",
    ),
    broken(
        "base", "an address answers on every interface", "sysctl -w net.ipv4.conf.lo.arp_ignore=0",
        "upkeep::a_packet_comes_in_where_it_belongs_or_not_at_all", undo="sysctl -w net.ipv4.conf.lo.arp_ignore=1",
    ),
    broken(
        "base", "there is a second packet filter for IPv4", "nft add table ip trial; nft add chain ip trial input '{ type filter hook input priority 0; }'",
        "upkeep::one_packet_filter_judges_both_families", undo="nft delete table ip trial",
    ),
    broken(
        "base", "a daemon is not restarted after a crash",
        written("/etc/systemd/system/unbound.service.d/zz-trial.conf", r"[Service]\nRestart=no\n"),
        "upkeep::a_daemon_that_dies_comes_back",
        undo="rm -f /etc/systemd/system/unbound.service.d/zz-trial.conf", activate="systemctl daemon-reload",
    ),
    broken(
        "base", "a program has crashed",
        f"systemd-run --quiet --wait --unit={EXTRA_UNIT} sh -c 'kill -SEGV $$$$' || true; journalctl --sync",
        "upkeep::no_daemon_has_crashed_since_the_last_apply",
        # the line stays in the journal: only lines after the last apply count
        undo=f"systemctl reset-failed {EXTRA_UNIT}; journalctl --sync; touch /var/lib/outpost/applied",
    ),
    broken(
        "base", "a daemon logs an error", "logger --priority daemon.err --tag trial something is wrong; journalctl --sync",
        "upkeep::nothing_worse_than_notice_is_in_the_journal_or_it_is_explained",
        undo="journalctl --sync; touch /var/lib/outpost/applied",
    ),
    # Certificates
    broken(
        "webmail", "the certificate is self-signed, for another name and for one day",
        "name=$(openssl x509 -in /etc/outpost/tls/ca.pem -noout -subject -nameopt compat); "
        "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj \"${name#subject=}\" -addext subjectAltName=DNS:somebody.invalid "
        "-keyout /etc/outpost/tls/public.key -out /etc/outpost/tls/public.pem 2>/dev/null",
        "certificates::every_service_shows_the_hosts_current_key",
        "certificates::every_certificate_has_the_name_and_a_chain_that_is_trusted",
        "certificates::every_certificate_is_strong_and_valid_for_three_weeks",
        "certificates::certificates_come_from_where_the_office_says",
        keeps=("/etc/outpost/tls/public.key", "/etc/outpost/tls/public.pem"), activate="systemctl restart nginx",
    ),
    broken(
        "webmail", "the certificate is not renewed", "systemctl stop outpost-certificate.timer",
        "certificates::renewal_runs_by_a_timer_and_did_not_fail", undo="systemctl start outpost-certificate.timer",
    ),
    broken(
        "webmail", "the ACME client can read the keys",
        "chmod o+x /etc/outpost /etc/outpost/tls /etc/outpost/acme; chmod o+r /etc/outpost/tls/public.key /etc/outpost/acme/public.key",
        "certificates::the_client_that_talks_to_the_authority_cannot_read_the_key",
        keeps=("/etc/outpost/tls", "/etc/outpost/acme"),
    ),
)  # fmt: skip
