"""Which deliveries a stop of Postfix waits for, and for how long."""

from __future__ import annotations

from pathlib import Path

import pytest

from outpost.onhost.settle import CALLING, TALKING, settle, under_way

HEADER = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"


class Machine:
    """A /proc with clients of Postfix."""

    def __init__(self, proc: Path) -> None:
        self.proc, self.now = proc, 0.0
        (proc / "net").mkdir()
        self.sockets: dict[str, tuple[str, str]] = {}
        self.write()

    def client(self, pid: int, name: str, socket: str, state: str = "", table: str = "tcp") -> None:
        (self.proc / f"{pid}/fd").mkdir(parents=True)
        (self.proc / f"{pid}/stat").write_text(f"{pid} ({name}) S 1 1 1 0 -1\n")
        (self.proc / f"{pid}/fd/9").symlink_to(f"socket:[{socket}]")
        if state:
            self.sockets[socket] = (table, state)
        self.write()

    def write(self) -> None:
        for table in ("tcp", "tcp6", "udp"):  # no udp6: a machine may lack a table
            lines = [
                f"   0: 0100007F:0019 0100007F:8000 {state} 00000000:00000000 00:00000000 00000000   103        0 {inode} 1\n"
                for inode, (where, state) in self.sockets.items()
                if where == table
            ]
            (self.proc / "net" / table).write_text(HEADER + "".join(lines))

    def clock(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_only_clients_with_a_socket_on_the_internet_are_under_way(machine: Machine) -> None:
    machine.client(1, "smtp", "11", "01", "tcp6")
    machine.client(2, "lmtp", "12", "02")
    machine.client(3, "smtp", "13")  # to the queue manager
    machine.client(4, "smtpd", "14", "01")  # the other end tries again
    assert sorted(under_way(machine.proc)) == [False, True]


def test_no_name_of_a_process_keeps_deliveries_from_being_waited_for(machine: Machine) -> None:
    """A program of any account chooses its own name (prctl(2))."""
    machine.client(1, "smtp", "11", "01")
    machine.client(2, "other", "12")
    for name in (b"\xff", b"a) (smtp", b""):
        (machine.proc / "2/stat").write_bytes(b"2 (%s) S 1 1 1 0 -1\n" % name)
        assert [*under_way(machine.proc)] == [True]


def test_what_ends_is_waited_for(machine: Machine) -> None:
    machine.client(1, "smtp", "11", "01")

    def pause(seconds: float) -> None:
        machine.pause(seconds)
        if machine.now > 3:
            machine.sockets.clear()
            machine.write()

    assert settle(machine.proc, machine.clock, pause) == 0
    assert 3 < machine.now < 4


@pytest.mark.parametrize(("state", "patience"), [("01", TALKING), ("02", CALLING)])
def test_what_does_not_end_is_left_after_its_time(machine: Machine, state: str, patience: float) -> None:
    machine.client(1, "smtp", "11", state)
    assert settle(machine.proc, machine.clock, machine.pause) == 1
    assert patience <= machine.now < patience + 1
