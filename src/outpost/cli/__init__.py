"""The command line, on top of everything. Nothing imports it but `outpost.__main__`.

`app` puts the commands together; most are declared beside what they do, in the module of their subject.
`quick` answers `plan` and `apply` where nothing has changed, before the rest is loaded. Only this package may import
`outpost_lab`, and only when a command of the lab runs.
"""
