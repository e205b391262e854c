"""Shell commands for systemd's units on a host."""


def restarted(*units: str, only_running: bool = False) -> str:
    """Shell that restarts units, even if somebody has just done it several times.

    systemd refuses the sixth start within ten seconds (systemd.unit(5), StartLimitBurst), and stops a unit's sockets with it.

    Args:
        units: Names, quoted for the shell where they are not our own.
        only_running: Whether a unit that does not run is left so.
    """
    names = " ".join(units)
    verb = "try-restart" if only_running else "restart"
    return f"systemctl reset-failed {names} 2>/dev/null || true; systemctl {verb} {names}"
