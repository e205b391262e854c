"""What an auditor reads: faults, controls, attacks, and their results.

The commands `report`, `reference` and `judge` call it; `verify` and `attack` look up controls in it.

- `controls` is the catalogue (``controls/*.toml``) as data.
- `effect` finds the lines that are in effect on the hosts; `report` makes the page of evidence.
- `reference` makes the pages in ``docs/``, those of the catalogue from the templates in ``pages/``; `opinions` keeps results of other scanners.
"""
