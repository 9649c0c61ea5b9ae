"""Log lines as Cloud Logging reads them: one JSON object a line.

https://cloud.google.com/logging/docs/structured-logging#special-payload-fields
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

_SEVERITIES = {
    logging.DEBUG: "DEBUG",
    logging.INFO: "INFO",
    logging.WARNING: "WARNING",
    logging.ERROR: "ERROR",
    logging.CRITICAL: "CRITICAL",
}
_encode = json.JSONEncoder(
    ensure_ascii=False, separators=(",", ":"), default=str, check_circular=False
).encode


class JsonFormatter(logging.Formatter):
    """The event's fields stand flat beside `severity`, `message` and `time`, which win over a field of the
    same name. A field `trace` becomes Cloud Logging's trace, `org` also a label."""

    def __init__(self, project: str) -> None:
        super().__init__()
        self._project = project

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = getattr(record, "fields", {})
        line: dict[str, Any] = {
            **fields,
            "severity": _SEVERITIES.get(record.levelno, "DEFAULT"),
            "message": record.getMessage(),
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
        }
        if trace := line.pop("trace", None):
            line["logging.googleapis.com/trace"] = f"projects/{self._project}/traces/{trace}"
        if org := fields.get("org"):
            line["logging.googleapis.com/labels"] = {"org": str(org)}
        if record.name != "fairlane":
            line["logger"] = record.name
        if record.exc_info and record.exc_info[0]:
            line["stack_trace"] = self.formatException(record.exc_info)
        return _encode(line)


def install(level: str, project: str) -> None:
    """Send fairlane's events from `level` up, and other libraries' warnings, to standard output."""
    # What no line shows: each costs a system call a record.
    logging.logProcesses = logging.logThreads = logging.logMultiprocessing = False
    logging._srcfile = None  # noqa: SLF001  likewise the caller's line (logging HOWTO, "Optimization")
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter(project))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("fairlane").setLevel(level)
