"""Let a failed operation stop no other of its host, and report at the end what could not be done.

pyinfra continues after a failed operation (``config.IGNORE_ERRORS``). Four things end a host's run at once: it cannot be
reached; another apply holds it; it rolls back a guarded change; or packages or the packet filter failed and had never
been applied before.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pyinfra import logger
from pyinfra.api.host import Host
from pyinfra.api.operation import OperationMeta
from pyinfra.api.state import BaseStateCallback, State
from pyinfra.context import config, ctx_host, state
from typing_extensions import override

from outpost.converge.files import ARMED
from outpost.converge.observation import run, unread
from outpost.converge.operations import HELD
from outpost.errors import OutpostError
from outpost.templates import TemplateMistakeError
from outpost.transport.answers import reason
from outpost.transport.connector import REFUSED
from outpost.transport.remote import LOST

NOT_ARMED = f'[ -z "$(ls {ARMED} 2>/dev/null)" ]'
"""Shell, as root, that waits until no change is unconfirmed; the host goes back soon otherwise."""


def watch() -> None:
    """Continue after failed operations of the hosts, except for the four cases above."""
    config.IGNORE_ERRORS = True
    if not any(isinstance(handler, _Ends) for handler in state.callback_handlers):
        state.add_callback_handler(_Ends())  # type: ignore[no-untyped-call]


@contextmanager
def contained() -> Iterator[None]:
    """While planning: an answer ends only the run of its own host. A mistake in the office's own files ends all runs.

    SYS-08: without it one compromised host prevents that others are compared and repaired.
    """
    try:
        yield
    except (OutpostError, TemplateMistakeError):
        raise
    except Exception as error:
        current: Host = ctx_host.get()  # type: ignore[no-untyped-call]
        logger.error("%sError: could not be compared: %s", current.print_prefix, unread(error))
        state.fail_hosts({current})  # type: ignore[no-untyped-call]


class _Ends(BaseStateCallback):
    @staticmethod
    @override
    def operation_end(state: State, op_hash: str) -> None:
        ended = {host for host in state.inventory.get_active_hosts() if _ends(state, host, op_hash)}
        state.fail_hosts(ended)  # type: ignore[no-untyped-call]


def _ends(state: State, host: Host, op_hash: str) -> bool:
    with ctx_host.use(host):
        known = run()
        failed = _failed(state, host, op_hash)
        vital, known.vital = known.vital, False
        if failed is None:
            return False
        if any(words in failed.stderr.lower() for words in LOST):
            return True  # asking it again would take as long as ssh waits for a connection, and all other hosts wait meanwhile
        data: Any = host.data
        reached, _ = host.run_shell_command(NOT_ARMED, _sudo=bool(data.get("_sudo")))
        return vital or HELD in failed.stderr or not reached


def _failed(state: State, host: Host, op_hash: str) -> OperationMeta | None:
    """The result of a failed operation."""
    if op_hash not in state.ops[host]:
        return None
    meta = state.get_op_data_for_host(host, op_hash).operation_meta
    return meta if meta.is_complete() and not meta.did_succeed() else None


def failures() -> Iterator[tuple[str, str, str]]:
    """Names of the current host's operations that failed in this run, each with its reason and all that the host printed."""
    host: Host = ctx_host.get()  # type: ignore[no-untyped-call]
    for op_hash in state.get_op_order():  # type: ignore[no-untyped-call]
        if failed := _failed(state, host, op_hash):
            refused = host.connector_data.get(REFUSED, {}).get(op_hash, "").splitlines()
            lines = (*failed.stdout_lines, *failed.stderr_lines, *refused)
            printed = [line.strip() for line in lines if line.strip()]
            name = ", ".join(sorted(state.get_op_meta(op_hash).names))
            yield name, reason(printed) or "it gave no reason", "\n".join(printed)
