"""What the command line reports in one line, with what to do about it."""


class OutpostError(Exception):
    """A failure that a user can understand and act on.

    Attributes:
        message: What is wrong, without a full stop.
        remedy: What to do next; empty where nothing can be done.
    """

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(f"{message}. Remedy: {remedy}." if remedy else message)
        self.message = message
        self.remedy = remedy
