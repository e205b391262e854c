"""The command line, on top of everything. Nothing imports it but `outpost.__main__`.

`app` names the commands; each is declared in the module of its subject, which is imported when the command runs. Only this
package may import `outpost_lab`, and only when a command of the lab runs.
"""
