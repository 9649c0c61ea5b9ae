"""Tell the instances that clinics were changed: the next turn of each reads it anew."""

from __future__ import annotations

from collections.abc import Iterable

from core.bootstrap import shared
from core.domain.errors import RedisUnavailableError
from core.ops.session import Session

_SEEN_LATE = "all instances see it within 60 s, not at once: {}"


async def announced(here: Session, org_ids: Iterable[str]) -> str:
    """Also what has not changed: whoever repeats a command may do it since Redis was out of reach. Why it is
    not seen at once, "" if it is."""
    if not here.settings.redis_url:
        return _SEEN_LATE.format("REDIS_URL is not set")
    marks = shared.clinic_marks(here.redis())
    try:
        for org_id in org_ids:
            await marks.renew(org_id)
    except RedisUnavailableError as exc:
        return _SEEN_LATE.format(exc)
    return ""
