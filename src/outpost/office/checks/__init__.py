"""The rules of an office file that concern several fields, each with a remedy, by subject.

``schema`` puts pydantic's findings into the reader's words; `outpost.office.load` applies all rules.
Nothing here stops at the first finding.
"""
