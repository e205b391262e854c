"""The lab: an office and its test environment in Docker. Several can run side by side.

Of the product only the command line imports this package, when a command of the lab runs.

- `up` starts and removes a lab; `instance` is what remains of it between two commands.
- `engine` finds or installs Docker, `images` builds images, `networks` makes the zones.
- `world` lists the machines of the test environment, `render` writes their configuration.
- `office` deploys the office and sends the first messages. `box` makes virtual machines.

Parts that work on a lab, or in containers of their own:

- `attack`: the attacks of ``controls/attacks.toml``, with their positive controls.
- `benchmarks`: the rows of `outpost bench`, and the peers that they are measured against.
- `drill`: the restore drill, in throw-away containers (`drill_machines`). `judges`: other people's scanners, run on an office.
- `pace`: how busy this machine is, for everything that waits.
"""
