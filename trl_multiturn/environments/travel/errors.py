"""The error that every tool of a sandbox answers a bad call with."""


class ToolError(ValueError):
    """
    A tool call that could not be answered. TRL passes its text on to the model.

    Args:
        code (`str`):
            What kind of error it is, in one word, such as `"unknown_city"` or `"cache_miss"`.
        message (`str`):
            What was wrong and what to do instead.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message

    def __reduce__(self):
        return type(self), (self.code, self.message)
