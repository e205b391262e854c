"""The office: data in, derivations out. Only ``load`` does I/O."""

from outpost.office.load import check, load
from outpost.office.model import Office
from outpost.office.problems import OfficeError, Problem
from outpost.office.tables.recipients import User
from outpost.office.tables.routes import Peer
from outpost.office.tables.topology import Host, Zone

__all__ = ["Host", "Office", "OfficeError", "Peer", "Problem", "User", "Zone", "check", "load"]
