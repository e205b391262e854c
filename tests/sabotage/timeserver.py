"""Sabotage of a time server; carried out in an office that has one."""

from __future__ import annotations

from tests.sabotage.breaking import edited

SERVE = "/etc/chrony/conf.d/outpost.conf"
RESTART = "systemctl restart chrony"

SABOTAGES = (
    edited(
        "timeserver",
        "no host may query the time",
        SERVE,
        "/^allow /d",
        "timeserver::every_host_of_the_office_gets_the_time",
        activate=RESTART,
    ),
    edited(
        "timeserver",
        "every client may query the time",
        SERVE,
        "s/^allow .*/allow/",
        "timeserver::other_clients_get_no_time",
        activate=RESTART,
    ),
)
