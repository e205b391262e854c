"""`outpost secrets`: keys and passwords of an office, made, kept and asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from outpost.cli.options import NameOption, OfficeArgument

app = typer.Typer(help="The secrets of an office, encrypted with age beside its file.", no_args_is_help=True)


@app.callback()
def _secrets() -> None:
    pass


@app.command(
    "init",
    epilog="Example: `./outpost secrets init inventory/po`. Nothing secret is printed; what exists is never overwritten.",
)
def secrets_init(
    office: OfficeArgument,
    passwords: Annotated[
        Path | None,
        typer.Option(
            "--passwords", metavar="FILE", help="Where new users' first passwords go, for handing over."
        ),
    ] = None,
) -> None:
    """Create missing keys, first passwords and your age identity."""
    from outpost.cli.office import init_secrets

    raise typer.Exit(init_secrets(office, passwords))


@app.command(
    "csr",
    epilog="Example: `./outpost secrets csr po mta > mta.csr`; what the authority makes of it is kept as mta.pem.",
)
def secrets_csr(
    office: OfficeArgument,
    host: Annotated[str, typer.Argument(metavar="HOST", help="The host the certificate is for.")],
    name: NameOption = None,
    following: Annotated[
        bool, typer.Option("--next", help="For the key that `outpost rotate tls` switches to.")
    ] = False,
) -> None:
    """Print a certificate request (PKCS #10) of a host."""
    from outpost.cli.office import print_request

    raise typer.Exit(print_request(office, name, host, following=following))


@app.command(
    "smarthost",
    epilog="Example: `./outpost secrets smarthost po <password.txt`. The password is not shown, and on no host but the MTA.",
)
def secrets_smarthost(office: OfficeArgument, name: NameOption = None) -> None:
    """Store the password of the office's login at its smarthost."""
    from outpost.cli.office import keep_smarthost_password

    raise typer.Exit(keep_smarthost_password(office, name))


@app.command(
    "ca",
    epilog="Example: `./outpost secrets ca po > office-ca.pem`; two certificates while the authority rolls.",
)
def secrets_ca(office: OfficeArgument, name: NameOption = None) -> None:
    """Print the certificate of the office's own authority."""
    from outpost.cli.office import print_authority

    raise typer.Exit(print_authority(office, name))
