"""Who looked at what, and who changed it: a line of JSON each."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from core.adapters.json_log import JsonFormatter
from core.domain.settings import Settings
from core.ports import log


@contextmanager
def audited(settings: Settings, stream: TextIO | None = None) -> Iterator[None]:
    """Events of the block are written, also where standard error is a terminal."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter(settings.google_cloud_project))
    level = log.LOGGER.level
    log.LOGGER.addHandler(handler)
    log.LOGGER.setLevel(settings.log_level)
    try:
        yield
    finally:
        log.LOGGER.removeHandler(handler)
        log.LOGGER.setLevel(level)
