"""Shell that acts on systemd's units on a host."""


def restarted(*units: str, only_running: bool = False) -> str:
    """Shell that restarts units, however often somebody did so a moment ago.

    systemd refuses the sixth start within ten seconds (systemd.unit(5), StartLimitBurst), and takes a unit's sockets down with it.

    Args:
        units: Names, quoted for the shell where they are not our own.
        only_running: Whether one that does not run is left as it is.
    """
    names = " ".join(units)
    verb = "try-restart" if only_running else "restart"
    return f"systemctl reset-failed {names} 2>/dev/null || true; systemctl {verb} {names}"
