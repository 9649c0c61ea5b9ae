"""The webhook function's parts."""

from __future__ import annotations

from core.adapters.redis_shaper import RedisShaper
from core.adapters.system_clock import SystemClock
from core.bootstrap import shared
from core.domain.settings import Settings
from core.usecases.clinics.directory import ClinicDirectory
from core.usecases.webhook.acknowledge import AckPolicy, AckWebhook


def build(settings: Settings) -> AckWebhook:
    clock = SystemClock()
    directory = ClinicDirectory(shared.documents(settings), shared.secrets(settings), clock)
    # The shaper answers in 30 ms or not at all: nothing is tried twice.
    shaper = RedisShaper(
        shared.redis(settings, timeout_s=1.0, tries=1),
        sender_per_10s=settings.sender_messages_per_10s,
        # Who is let through at the last moment can still wait for a slot, and then be answered.
        longest_s=max(0.0, settings.patience_s - settings.slot_wait_s),
        patience_s=settings.patience_s,
        dispatches_per_s=settings.tasks_dispatches_per_s,
    )
    policy = AckPolicy(org_per_minute=settings.org_messages_per_minute)
    return AckWebhook(directory, shaper, shared.tasks(settings), clock, policy)
