"""The error tree. Adapters translate vendors' exceptions into these; only the edge maps them to HTTP."""

from __future__ import annotations


class FairlaneError(Exception):
    """Everything fairlane raises on purpose."""


class InvalidInputError(FairlaneError):
    """Input that can never work: the message names the field and the remedy."""


class MalformedTaskError(InvalidInputError):
    """A task body that fairlane did not write: recorded and acknowledged, never retried."""


class TooManyUnknownError(FairlaneError):
    """More destinations that nobody knows than are looked up in a second: it may be one of a clinic."""


class DefectAfterCallError(FairlaneError):
    """A defect of ours after the model was called: the turn must end, since trying again would call again."""


class UnavailableError(FairlaneError):
    """A dependency is down; the same call may work later. The edge answers 503."""


class RedisUnavailableError(UnavailableError):
    """Redis does not answer: no slot, no mailbox, hence no turn (fail closed)."""


class DocumentsUnavailableError(UnavailableError):
    """The document store does not answer."""


class LineUnavailableError(UnavailableError):
    """LINE's API does not answer."""


class ChannelUnavailableError(LineUnavailableError):
    """LINE answers, but has no room or no access token for this one channel now; the others are not affected.
    `retry_after_ms`: LINE's wish."""

    def __init__(self, detail: str, *, retry_after_ms: int | None = None) -> None:
        super().__init__(detail)
        self.retry_after_ms = retry_after_ms


class TasksUnavailableError(UnavailableError):
    """The queue did not confirm a task: it may or may not exist."""


class SecretsUnavailableError(UnavailableError):
    """The secret store does not answer, or a clinic's secret is not in it."""
