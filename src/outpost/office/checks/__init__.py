"""The rules of an office file that concern several fields, each with a remedy, by subject.

``schema`` puts pydantic's findings into the reader's words; ``cross`` has the rules that span tables. Nothing here stops
at the first finding.
"""
