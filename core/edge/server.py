"""How the functions' server (functions-framework: gunicorn with a uvicorn worker) lives with idleness.

An idle instance gets no CPU, for seconds or for hours. When its next request wakes it up, nothing that should
have happened meanwhile may cost that request.
"""

from __future__ import annotations

import os

_KEEP_ALIVE_S = 24 * 3600


def survive_idleness() -> None:
    """Call it before the server reads its settings, that is while the function's module is loaded.

    No worker time-out: functions-framework takes Cloud Run's CLOUD_RUN_TIMEOUT_SECONDS for it, and gunicorn
    kills a worker that gave no sign of life for so long; one without CPU gives none. Cloud Run itself ends a
    request that takes too long. And connections are Cloud Run's to close: gunicorn's 2 s for an idle one are
    over as well when the worker wakes up, and it would be reset with the request that has just come on it.
    """
    from uvicorn_worker import UvicornWorker  # noqa: PLC0415  whoever serves has it, whoever imports need not

    os.environ["CLOUD_RUN_TIMEOUT_SECONDS"] = "0"
    UvicornWorker.CONFIG_KWARGS["timeout_keep_alive"] = _KEEP_ALIVE_S
