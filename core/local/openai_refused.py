"""How the OpenAI stand-in says no."""

from __future__ import annotations

from core.domain.errors import FairlaneError


class RefusedError(FairlaneError):
    """An error answer: status, and the fields of OpenAI's `error` object."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.param = param
        self.code = code
