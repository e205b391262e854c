"""The office: data in, derivations out. No I/O here but ``load``."""

from outpost.office.load import check, load
from outpost.office.model import Host, Office, Peer, User, Zone
from outpost.office.problems import OfficeError, Problem

__all__ = ["Host", "Office", "OfficeError", "Peer", "Problem", "User", "Zone", "check", "load"]
