"""`outpost restore OFFICE HOST`, and `outpost restore mailbox OFFICE ADDRESS`."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from outpost.cli.options import NameOption, OfficeArgument, ViaOption, YesOption

AtOption = Annotated[
    str,
    typer.Option(
        "--at",
        metavar="ARCHIVE",
        help="From this archive (`outpost backup OFFICE --json`) and not the latest.",
    ),
]


class HostByDefault(TyperGroup):
    """What is not `mailbox` is an office, whose host comes back."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put in the word that was left out."""
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            args = ["host", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=HostByDefault,
    help="Restore a lost host, or mail, from the backup.",
    no_args_is_help=True,
)


@app.command(
    epilog="Example: `./outpost restore po store`. Exit code 0: the host does its work again, 1: not so."
)
def host(
    office: OfficeArgument,
    host: Annotated[str, typer.Argument(metavar="HOST", help="The host that was lost.")],
    at: AtOption = "latest",
    name: NameOption = None,
    via: ViaOption = None,
    yes: YesOption = False,
) -> None:
    """Rebuild a lost host on an empty Debian machine.

    First its data from the backup, then its role.
    """
    from outpost.cli.backup import restore_host

    raise typer.Exit(restore_host(office, name, host, at, via, yes=yes))


@app.command(
    epilog="Example: `./outpost restore mailbox po erin --folder Archive/2026`. Exit code 0: it is there, 1: not so."
)
def mailbox(
    office: OfficeArgument,
    address: Annotated[
        str, typer.Argument(metavar="ADDRESS", help="A user; without a domain it is the office's.")
    ],
    folder: Annotated[
        str, typer.Option("--folder", metavar="FOLDER", help="Only this one, as users see it.")
    ] = "",
    at: AtOption = "latest",
    name: NameOption = None,
    via: ViaOption = None,
) -> None:
    """Bring a mailbox or a folder back, below `Restored/`.

    What is in the mailbox now is not changed.
    """
    from outpost.cli.backup import restore_mailbox

    raise typer.Exit(restore_mailbox(office, name, address, folder, at, via))
