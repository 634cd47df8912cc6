"""The one error this package raises for what a user can put right."""


class ModelError(Exception):
    """Training or export cannot go on; the message names the cause and the next step.

    `code` is one of: bad-data, bad-schema, bad-model, unsupported, no-compiler, no-source, no-runtime, build-failed,
    parity, budget.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
