"""An operator's checks of a deployment: run together, each bounded in time, none able to end the others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from core.domain.errors import FairlaneError

# What vendors call it when the caller's identity lacks a permission.
_FORBIDDEN = frozenset({"PermissionDenied", "Forbidden", "NoPermissionError"})


class Verdict(StrEnum):
    OK = "ok"
    ATTENTION = "attention"  # works, or could not be looked at
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line. `remedy` says what to do unless all is well."""

    check: str
    verdict: Verdict
    detail: str
    remedy: str = ""


def ok(check: str, detail: str) -> Finding:
    return Finding(check, Verdict.OK, detail)


def attention(check: str, detail: str, remedy: str) -> Finding:
    return Finding(check, Verdict.ATTENTION, detail, remedy)


def broken(check: str, detail: str, remedy: str) -> Finding:
    return Finding(check, Verdict.BROKEN, detail, remedy)


@dataclass(frozen=True, slots=True)
class Check:
    """`remedy` when it does not get an answer; `role` is what an identity needs to look."""

    name: str
    run: Callable[[], Awaitable[Sequence[Finding]]]
    remedy: str
    role: str = ""
    timeout_s: float = 15.0


async def examine(checks: Iterable[Check]) -> list[Finding]:
    """All checks at once; findings in the checks' order."""
    found = await asyncio.gather(*map(_bounded, checks))
    return [finding for findings in found for finding in findings]


async def _bounded(check: Check) -> Sequence[Finding]:
    try:
        async with asyncio.timeout(check.timeout_s):
            return await check.run()
    except TimeoutError:
        return [broken(check.name, f"no answer within {check.timeout_s:g} s", check.remedy)]
    except FairlaneError as exc:
        if _forbidden(exc):
            return [attention(check.name, f"not allowed to look: {exc}", f"grant yourself {check.role}")]
        return [broken(check.name, str(exc), check.remedy)]
    except Exception as exc:  # a check that has a defect must not hide what the others found
        return [broken(check.name, f"the check itself failed: {type(exc).__name__}: {exc}", check.remedy)]


def _forbidden(exc: BaseException) -> bool:
    cause: BaseException | None = exc
    while cause is not None:
        if type(cause).__name__ in _FORBIDDEN:
            return True
        cause = cause.__cause__
    return False


def names(org_ids: Sequence[str], most: int = 5) -> str:
    """`3 clinics (a, b, c)`, shortened."""
    shown = ", ".join(sorted(org_ids)[:most]) + (" …" if len(org_ids) > most else "")
    return f"{len(org_ids)} clinic{'' if len(org_ids) == 1 else 's'} ({shown})"
