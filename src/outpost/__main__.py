"""`python -m outpost`: what the launcher ./outpost starts."""

from outpost.cli.app import main

main()
