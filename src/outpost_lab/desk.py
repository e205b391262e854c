"""A workstation on the office's LAN: Debian's Chromium in the network of the lab's workstation; it resolves only the name of webmail."""

import os
import shutil
from pathlib import Path
from typing import Any

from outpost.tools import run
from outpost_lab.engine import connect

CHROMIUM = "/usr/bin/chromium"
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
)  # fmt: skip
MISSING = "needs Debian's chromium and libnss3-tools: apt-get install chromium libnss3-tools"


def present() -> bool:
    """Whether a browser can be used here."""
    return Path(CHROMIUM).exists() and shutil.which("certutil") is not None


def trusting(authority: Path, home: Path) -> None:
    """Make a home directory whose Chromium trusts an additional authority (PEM)."""
    store = home / ".pki" / "nssdb"
    store.mkdir(parents=True)
    run("certutil", "-N", "-d", f"sql:{store}", "--empty-password")
    run("certutil", "-A", "-d", f"sql:{store}", "-n", "office", "-t", "C,,", "-i", str(authority))


def options(name: str, address: str, home: Path, workstation: str) -> dict[str, Any]:
    """Options for Playwright: it resolves only webmail's name.

    As root it is in the workstation's network: otherwise each start or end of another lab counts as a change of network, and
    Chromium drops what it loads.
    """
    wrapper = home / "chromium"
    if os.geteuid() == 0:
        process = connect().containers.get(workstation).attrs["State"]["Pid"]
        wrapper.write_text(f'#!/bin/sh\nexec nsenter --net=/proc/{process}/ns/net {CHROMIUM} "$@"\n')
        wrapper.chmod(0o755)
    return {
        "executable_path": str(wrapper) if os.geteuid() == 0 else CHROMIUM,
        "args": [*FLAGS, f"--host-resolver-rules=MAP {name} {address}, MAP * ~NOTFOUND"],
        "env": {**os.environ, "HOME": str(home)},
    }
