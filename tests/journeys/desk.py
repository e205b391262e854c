"""A workstation on the office's LAN: Chromium as a person uses it; it trusts the office's authority and ignores no error."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Playwright, expect

from outpost_lab import desk
from outpost_lab.instance import Instance
from outpost_lab.post import OfficeUser

DISK = "/etc /home /media /mnt /opt /root /srv /tmp /usr/local /var"
"""Where a host stores files; /run is in memory, and the memory of units is searched separately."""

needs_browser = pytest.mark.skipif(
    not desk.present(),
    reason="needs Debian's chromium and libnss3-tools: apt-get install chromium libnss3-tools",
)


def launch(lab: Instance, playwright: Playwright, home: Path) -> Browser:
    """Chromium with a separate profile that resolves only the name of webmail."""
    (webmail,) = lab.office.with_role("webmail")
    address = lab.office.addresses_of_kind(webmail, "users")[0]
    workstation = lab.container_name("workstation")
    return playwright.chromium.launch(**desk.options(webmail.fqdn, str(address), home, workstation))


def log_in(page: Page, site: str, user: OfficeUser, password: str | None = None) -> None:
    """Type name and password into the login form and send it."""
    page.goto(site)
    page.fill("#rcmloginuser", user.address.partition("@")[0])
    page.fill("#rcmloginpwd", password or user.password)
    page.click("#rcmloginsubmit")


def change_password(page: Page, present: str, new: str) -> None:
    """Choose another password, on the page of webmail for it."""
    page.fill("#access-change-password", present)
    page.fill("#access-change-new", new)
    page.fill("#access-change-again", new)
    page.click("#access-change button[type=submit]")


def open_message(page: Page, token: str) -> None:
    """Read a message in the preview beside the list."""
    page.locator("#messagelist tbody tr", has_text=token).click()
    expect(page.frame_locator("#messagecontframe").locator("#message-header")).to_contain_text(token)


def idle(page: Page) -> None:
    """Wait until the user is logged in and Roundcube is idle: while it loads, it ignores clicks."""
    page.wait_for_url(re.compile(r"_task=(?!login)"))
    page.wait_for_load_state("networkidle")
    page.wait_for_function("window.rcmail && rcmail.env.task !== 'login' && !rcmail.busy")


def log_out(page: Page) -> None:
    """By the button that everybody sees."""
    idle(page)
    page.click("#taskmenu a.logout")
    expect(page.locator("#rcmloginuser")).to_be_visible()


def on_disk(lab: Instance, text: str) -> list[str]:
    """Files on webmail's disk that hold a text, and files in the memory of its units."""
    (webmail,) = lab.office.with_role("webmail")
    search = f"""
        grep --recursive --files-with-matches --fixed-strings --text --devices=skip -- "$1" {DISK} 2>/dev/null
        for unit in php8.4-fpm nginx; do
            nsenter --mount --target "$(systemctl show --property MainPID --value $unit)" \\
                grep --recursive --files-with-matches --fixed-strings --text -- "$1" \\
                /var/lib/roundcube/temp /var/lib/roundcube/sessions /var/lib/nginx /tmp /var/tmp 2>/dev/null
        done; true"""
    container = lab.container_name(webmail.name)
    done = subprocess.run(
        ["docker", "exec", container, "sh", "-c", search, "search", text],
        capture_output=True,
        text=True,
        check=True,
    )
    return sorted(set(done.stdout.splitlines()))


def desk_addresses(lab: Instance) -> list[str]:
    """Addresses a browser of this test may come from."""
    machine = next(machine for machine in lab.machines if machine.name == "workstation")
    networks = lab.office.zones["lan"].networks
    return [*map(str, machine.addresses["lan"]), *(str(network[1]) for network in networks)]
