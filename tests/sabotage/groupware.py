"""Sabotage of calendars; carried out in an office that has them."""

from __future__ import annotations

from outpost.office import ports
from tests.awaiting import listening, replaced
from tests.sabotage.breaking import broken, closed_to_nobody, drop_ins_gone, edited, stopped

NGINX, RIGHTS = "/etc/nginx/nginx.conf", "/etc/radicale/rights"
UNIT, SOCKET = "/etc/systemd/system/radicale.service.d/outpost.conf", "/etc/systemd/system/radicale.socket"
RELOAD = replaced("nginx: worker process", "systemctl reload nginx")
RESTART = "systemctl daemon-reload; systemctl restart radicale.socket radicale.service"

SABOTAGES = (
    stopped("groupware", "radicale.socket", "radicale.service", "nginx.service", red=("groupware::calendars_run_and_come_up_with_the_host",)),
    broken(
        "groupware", "calendars are served by HTTP",
        "systemd-run --quiet --unit=outpost-sabotage python3 -c 'import signal, socket\n"
        f"held = socket.create_server((\"127.0.0.9\", 5232))\nsignal.pause()'; {listening('127.0.0.9:5232')}",
        "groupware::calendars_are_served_by_tls_in_their_zone_and_nowhere_else", undo="systemctl stop outpost-sabotage",
    ),
    drop_ins_gone("groupware", "nginx.service", "radicale.service", red=("groupware::calendar_units_are_sandboxed",)),
    edited(
        "groupware", "Radicale has the host's network", UNIT, "/^PrivateNetwork/d", "groupware::radicale_has_no_network", activate=RESTART,
    ),
    edited(
        "groupware", "every account can connect to Radicale", SOCKET, "s/^SocketMode=.*/SocketMode=0666/",
        "groupware::only_the_web_server_speaks_with_radicale", activate=RESTART,
    ),
    closed_to_nobody(
        "groupware", "every account can read calendars", "/var/lib/radicale", "0755", "0700", "groupware::nobody_but_radicale_reads_calendars",
    ),
    edited(
        "groupware", "calendars need no password", NGINX, r"/^ *(auth_request|proxy_set_header X-Remote-User)/d",
        "groupware::without_the_right_password_there_is_nothing", activate=RELOAD,
    ),
    edited(
        "groupware", "calendar entries of any size are accepted", NGINX, "s/client_max_body_size .*/client_max_body_size 0;/",
        "groupware::too_large_an_entry_is_refused", activate=RELOAD,
    ),
    edited(
        "groupware", "Radicale starts in the directory of the calendars", UNIT, "s|^WorkingDirectory=.*|WorkingDirectory=/var/lib/radicale|",
        "groupware::radicale_takes_no_program_from_among_the_calendars", activate=RESTART,
    ),
    edited(
        "groupware", "requests for calendars share one process", UNIT,
        "s/--workers [0-9]+ --worker-class sync/--workers 2 --worker-class gthread --threads 4/",
        "groupware::each_request_for_calendars_has_a_process_that_can_be_ended", activate=RESTART,
    ),
    edited(
        "groupware", "calendars have no quota", UNIT, "s/--pythonpath .*/radicale:application/",
        "groupware::calendars_have_a_quota", activate=RESTART,
    ),
    edited(
        "groupware", "answers have no security headers", NGINX, "/^ *add_header/d",
        "groupware::answers_carry_the_security_headers_once", activate=RELOAD,
    ),
    edited(
        "groupware", "clients cannot find calendars", NGINX, r"s/well-known/well-hidden/",
        "groupware::programs_find_calendars_by_webmails_name_and_by_this_one", activate=RELOAD,
    ),
    edited(
        "groupware", "every user can write every calendar", RIGHTS, r"s/^(collection) =.*/\1 = .*/; s/^(permissions) =.*/\1 = RrWw/",
        "groupware::a_user_reads_neither_calendars_of_others_nor_without_a_name",
        "groupware::everybody_reads_the_directory_and_nobody_writes_it",
        activate=RESTART,
    ),
    edited(
        "store", "every client can query logins", "/etc/stunnel/calendars.conf", "/^(requireCert|verifyChain|checkHost|CAfile)/d",
        "groupware::only_this_host_asks_the_store_about_logins",
        activate=f"systemctl restart stunnel@calendars; {listening(f':{ports.CALENDARS}')}", looked_at="groupware",
    ),
    edited(
        "store", "guesses at calendars are not counted", "/etc/dovecot/dovecot.conf", "/^auth_policy_server_url/d",
        "groupware::guesses_at_calendars_are_counted_with_those_at_mail",
        activate="systemctl restart dovecot", looked_at="groupware",
    ),
)  # fmt: skip
