"""Commands declared apart from what they do: they answer, or ask something, before what they work with is imported.

The others stand beside what they do, in the modules beside this package (`outpost.cli.app.TASKS`).
"""
