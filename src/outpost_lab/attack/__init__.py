"""Attacks on command: the case study's weaknesses, tried against a running office and measured.

``catalogue`` has one small function or one dialogue per attack, named by its id in ``controls/attacks.toml``; ``wire`` speaks
SMTP and other protocols, also with the mistakes that an attack needs; ``ground`` knows the office and the machines around
it; ``probe`` measures what users notice during an attack; ``weakness`` turns a defence (``switches.toml``) off and on again in the
lab; ``runner`` puts them together.
"""
