"""pyinfra's connectors to the hosts: by OpenSSH with the configuration of `outpost.transport.ssh`, and into a lab's containers.

pyinfra's own connector is paramiko: a new handshake for each run, no connection that outlives it, small packets
held back by the kernel. This one starts ``ssh``, which has all that, and today's algorithms. pyinfra's connectors do not limit the size
of a host's answer.
"""

import threading
from abc import abstractmethod
from collections.abc import Iterator
from io import IOBase
from typing import Any, NoReturn

from pyinfra import logger
from pyinfra.api.command import QuoteString, StringCommand
from pyinfra.api.exceptions import ConnectError
from pyinfra.api.output import echo, format_text
from pyinfra.api.util import get_file_io
from pyinfra.connectors.base import BaseConnector
from pyinfra.connectors.util import (
    CommandOutput,
    OutputLine,
    extract_control_arguments,
    make_unix_command_for_host,
)
from typing_extensions import override

from outpost.transport import answers
from outpost.transport.answers import MOST
from outpost.transport.remote import failure
from outpost.transport.ssh import LANGUAGE

LINES = 1_000_000
"""Most lines of an answer: pyinfra makes an object of a hundred times its size of an empty one."""
REFUSED = "refused uploads"
"""In a host's data of the connector: operation → why its last upload failed."""
NOT_BEGUN = "OCI runtime exec failed"
"""Docker's message, on either stream, when it could not start a command: nothing has happened in the container."""
ATTEMPTS = 3


class BoundedConnector(BaseConnector):
    """Runs commands and uploads files by a program that passes them on; the answer is bounded while it is read."""

    handles_execution = True

    @abstractmethod
    def passed_on(self, command: str, *, terminal: bool = False) -> list[str]:
        """The program, with a command for the host's shell."""

    @override
    def run_shell_command(
        self, command: StringCommand, print_output: bool = False, print_input: bool = False, **arguments: Any
    ) -> tuple[bool, CommandOutput]:
        control = extract_control_arguments(arguments)  # type: ignore[arg-type]  # pyinfra's TypedDict of arguments
        # a session's own umask (SYS-09) would hide files of an apply from the daemons that need them
        unix = self._unix(StringCommand("umask 022;", command), arguments, shown=print_input)
        # SYS-08: not by execute_command_with_sudo_retry. It asks the administrator for a password if the host prints one line, and sends it there.
        status, output = self._run(
            self.passed_on(unix, terminal=bool(control.get("_get_pty"))),
            stdin=_lines(control.get("_stdin")),
            timeout=control.get("_timeout"),
        )
        if print_output:
            self._show(output)
        return status in (control.get("_success_exit_codes") or (0,)), output

    @override
    def put_file(
        self,
        filename_or_io: str | IOBase,
        remote_filename: str,
        remote_temp_filename: str | None = None,
        print_output: bool = False,
        print_input: bool = False,
        **arguments: Any,
    ) -> bool:
        with get_file_io(filename_or_io) as stream:  # type: ignore[arg-type]  # pyinfra passes what open() gives
            content = stream.read()
        extract_control_arguments(arguments)  # type: ignore[arg-type]
        # the file may hold a secret, and gets its mode later
        write = StringCommand("umask", "077;", "cat", ">", QuoteString(remote_filename))
        unix = self._unix(write, arguments, shown=print_input)
        stdin = content.encode() if isinstance(content, str) else content
        status, output = self._run(self.passed_on(unix), stdin=stdin)
        if status:
            why = output.stderr or f"it ended with {status}"
            # pyinfra prints the error and keeps nothing of it
            self.host.connector_data.setdefault(REFUSED, {})[self.host.executing_op_hash] = why
            raise OSError(why)
        if print_output:
            echo(f"{self.host.print_prefix}file uploaded: {remote_filename}", err=True)
        return True

    @override
    def get_file(
        self,
        remote_filename: str,
        filename_or_io: str | IOBase,
        remote_temp_filename: str | None = None,
        print_output: bool = False,
        print_input: bool = False,
        **arguments: Any,
    ) -> bool:
        extract_control_arguments(arguments)  # type: ignore[arg-type]
        unix = self._unix(StringCommand("cat", QuoteString(remote_filename)), arguments, shown=print_input)
        status, out, errors = self._exchange(self.passed_on(unix))
        if status:
            raise OSError(errors.decode(errors="replace") or f"it ended with {status}")
        with get_file_io(filename_or_io, "wb") as stream:  # type: ignore[arg-type]
            stream.write(out)
        return True

    def _unix(self, command: StringCommand, arguments: dict[str, Any], *, shown: bool) -> str:
        """The command with pyinfra's arguments (sudo, a directory, …), as the host's shell gets it."""
        unix = make_unix_command_for_host(self.state, self.host, command, **arguments)
        if shown:
            echo(f"{self.host.print_prefix}>>> {unix}", err=True)
        logger.debug("%s: %s", self.host.name, unix)
        return unix.get_raw_value()

    def _run(
        self, command: list[str], *, stdin: bytes = b"", timeout: float | None = None
    ) -> tuple[int, CommandOutput]:
        status, *streams = self._exchange(command, stdin=stdin, timeout=timeout)
        if any(stream.count(b"\n") > LINES for stream in streams):
            status, streams = 1, [b"", b"the host answered more than %d lines" % LINES]
        return status, CommandOutput(
            [
                OutputLine(name, line)
                for name, stream in zip(("stdout", "stderr"), streams, strict=True)
                for line in stream.decode(errors="replace").removesuffix("\n").split("\n")
                if stream
            ]
        )

    def _exchange(
        self, command: list[str], *, stdin: bytes = b"", timeout: float | None = None
    ) -> tuple[int, bytes, bytes]:
        try:
            return answers.exchange(command, stdin, patience=timeout or threading.TIMEOUT_MAX, most=MOST)
        except answers.TooMuchError:
            return 1, b"", b"the host answered more than %d MiB" % (MOST // 1024**2)

    def _show(self, output: CommandOutput) -> None:
        for line in output:
            text = format_text(line.line, "red") if line.buffer_name == "stderr" else line.line
            echo(f"{self.host.print_prefix}{text}", err=True)


class OpenSSHConnector(BoundedConnector):
    """By ``ssh``, ``@openssh/NAME``; the first connection to a host stays open for later commands, until ControlPersist ends it."""

    @override
    @staticmethod
    def make_names_data(name: str) -> Iterator[tuple[str, dict[str, Any], list[str]]]:
        yield name, {}, []

    def ssh(self, *arguments: str) -> list[str]:
        """With the file that knows the host by its name, from the inventory."""
        return ["ssh", "-F", self.host.data.openssh_config, *arguments]

    @override
    def passed_on(self, command: str, *, terminal: bool = False) -> list[str]:
        return self.ssh(*(("-tt",) if terminal else ()), self.host.name, f"{LANGUAGE} {command}")

    @override
    def connect(self) -> None:
        """Open the shared connection, unless it is open."""
        known, _ = self._run(self.ssh("-O", "check", self.host.name))
        if known:
            status, output = self._run(self.ssh("-N", "-f", self.host.name))
            if status:
                _refused("ssh", output.stderr_lines)


class ContainerConnector(BoundedConnector):
    """By ``docker exec``, ``@container/NAME``; it repeats a command that has not started.

    Of eight thousand ``docker exec`` one ends before it has started anything: runc's first process dies early.
    """

    @override
    @staticmethod
    def make_names_data(name: str | None = None) -> Iterator[tuple[str, dict[str, Any], list[str]]]:
        yield f"@container/{name}", {"docker_identifier": name}, []

    @override
    def passed_on(self, command: str, *, terminal: bool = False) -> list[str]:
        name = self.host.data.docker_identifier
        return ["docker", "exec", "-it" if terminal else "-i", name, "sh", "-c", command]

    @override
    def connect(self) -> None:
        """Check that the container runs."""
        status, output = self._run(self.passed_on("true"))
        if status:
            _refused("docker", output.stderr_lines)

    @override
    def _exchange(
        self, command: list[str], *, stdin: bytes = b"", timeout: float | None = None
    ) -> tuple[int, bytes, bytes]:
        for _ in range(ATTEMPTS):
            status, out, errors = super()._exchange(command, stdin=stdin, timeout=timeout)
            if not status or not (NOT_BEGUN.encode() in errors or out.startswith(NOT_BEGUN.encode())):
                break
            logger.debug("%s: %r", self.host.name, errors)
        return status, out, errors


def _lines(stdin: Any) -> bytes:
    """pyinfra's stdin as bytes: it may be a stream, a line or a list of lines."""
    if not stdin:
        return b""
    lines = stdin.readlines() if hasattr(stdin, "readlines") else stdin
    listed = lines if isinstance(lines, (list, tuple)) else [lines]
    return "".join(line if line.endswith("\n") else f"{line}\n" for line in listed).encode()


def _refused(by: str, printed: list[str]) -> NoReturn:
    reason = answers.line((printed or ["no message"])[-1])
    if known := failure("", "\n".join(printed)):
        reason = f"{known.message.removeprefix(': ')}. Remedy: {known.remedy}"
    raise ConnectError(f"{by}: {reason}")
