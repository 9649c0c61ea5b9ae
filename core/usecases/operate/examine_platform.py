"""Is the platform as fairlane needs it: Redis, clocks, queue, slots, the document store, turns."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol

from core.domain.errors import DocumentsUnavailableError
from core.domain.settings import Settings
from core.domain.turn import COLLECTION as TURNS
from core.domain.turn import TurnState
from core.ports.clock import Clock
from core.ports.documents import Create, Delete, DocumentStore, Key, Where
from core.ports.inspection import QueueFacts, RedisFacts
from core.usecases.operate.examine import Finding, attention, broken, ok

PROBES = "doctor_probes"
STUCK_AFTER = timedelta(minutes=10)
_DAY_S = 86_400
_STUCK_LISTED = 200


class SlotsState(Protocol):
    """Of core.adapters.redis_slots_operator.SlotsView."""

    @property
    def limit(self) -> int: ...
    @property
    def configured_limit(self) -> int: ...
    @property
    def used(self) -> int: ...
    @property
    def waiting(self) -> int: ...
    @property
    def circuit(self) -> str: ...
    @property
    def circuit_reason(self) -> str: ...
    @property
    def circuit_open_ms(self) -> int: ...
    @property
    def overrides(self) -> Mapping[str, int]: ...
    @property
    def ceiling(self) -> int: ...
    @property
    def limit_reason(self) -> str: ...


def judge_redis(facts: RedisFacts, *, on_this_machine: bool) -> list[Finding]:
    found = [ok("redis", f"{facts.version}, {facts.round_trip_ms:.1f} ms away")]
    if facts.tls:
        found.append(ok("redis tls", "on"))
    elif on_this_machine:
        found.append(ok("redis tls", "off, on this machine"))
    else:
        remedy = "transit_encryption_mode in terraform/redis.tf, and a rediss:// REDIS_URL"
        found.append(broken("redis tls", "customers' words cross the network in the clear", remedy))
    remedy = "maxmemory-policy = noeviction (terraform/redis.tf), then `terraform apply`"
    if facts.policy is None:
        found.append(attention("redis policy", "the server does not say its maxmemory-policy", remedy))
    elif facts.policy == "noeviction":
        found.append(ok("redis policy", "noeviction"))
    else:
        found.append(broken("redis policy", f"{facts.policy} evicts leases when memory runs out", remedy))
    found += [_memory(facts), _clock(facts)]
    return found


def _memory(facts: RedisFacts) -> Finding:
    used = f"{facts.used_bytes / 1e6:,.0f} MB"
    if not facts.max_bytes:
        return ok("redis memory", f"{used} used, no limit set")
    share = facts.used_bytes / facts.max_bytes
    detail = f"{used} of {facts.max_bytes / 1e6:,.0f} MB used ({share:.0%})"
    remedy = "raise redis_memory_gb and apply; full means that turns wait"
    if share < 0.8:
        return ok("redis memory", detail)
    return (
        attention("redis memory", detail, remedy) if share < 0.95 else broken("redis memory", detail, remedy)
    )


def _clock(facts: RedisFacts) -> Finding:
    off_s = facts.clock_ahead_ms / 1000
    detail = f"this machine is {abs(off_s):.1f} s {'ahead of' if off_s > 0 else 'behind'} Redis"
    if abs(off_s) < 2:
        return ok("clocks", detail)
    return attention(
        "clocks", detail, "set this machine's clock; instances go by Redis' clock and are not off"
    )


def judge_queue(facts: QueueFacts, settings: Settings) -> list[Finding]:
    """As terraform/queue.tf has it: a rate that keeps the slots busy, room for each slot, a day of tries."""
    found = [_queue_state(facts)]
    slots, per_minute = settings.chat_max_concurrent, settings.llm_requests_per_minute
    least_per_s = per_minute / 60 if per_minute else slots / 2
    limits = f"{facts.dispatches_per_s:g} dispatches/s, {facts.concurrent} at once, for {slots} slots"
    remedy = "apply terraform/queue.tf, which derives both from the provider's limits"
    if facts.concurrent < slots:
        found.append(broken("queue limits", f"{limits}: fewer at once than slots, which stay empty", remedy))
    elif facts.dispatches_per_s < least_per_s:
        detail = f"{limits}: {least_per_s:g}/s would keep the slots busy"
        found.append(attention("queue limits", detail, remedy))
    else:
        found.append(ok("queue limits", limits))
    attempts = "endless" if facts.max_attempts < 0 else f"{facts.max_attempts:,}"
    time = f"{facts.max_retry_s / 3600:.1f} h" if facts.max_retry_s else "no"
    detail = f"{attempts} attempts and {time} time limit, at most {facts.max_backoff_s:g} s apart"
    endless = facts.max_attempts < 0 and not facts.max_retry_s
    if endless or facts.max_retry_s >= _DAY_S:
        found.append(ok("queue retries", f"{detail}: nothing is dropped within a day"))
    else:
        remedy = "max_attempts = 100 with max_retry_duration = 90000s: a task is dropped once both are passed"
        found.append(broken("queue retries", f"{detail}: customers' messages can be dropped", remedy))
    return found


def _queue_state(facts: QueueFacts) -> Finding:
    count = "unknown" if facts.tasks is None else f"{facts.tasks}{'+' if facts.more else ''}"
    detail = f"{facts.state}, backlog {count}"
    if facts.state != "running":
        return broken("queue", f"{detail}: nothing is answered", "`gcloud tasks queues resume QUEUE`")
    if facts.oldest_late_s is not None and facts.oldest_late_s > 60:
        late = f"{detail}, the oldest {facts.oldest_late_s:.0f} s behind its time"
        return attention(
            "queue", late, "`fairlane slots`: all in use, or the circuit open? does turn answer?"
        )
    if facts.tasks is None:
        return attention("queue", f"{detail}: not allowed to list tasks", "grant yourself cloudtasks.viewer")
    return ok("queue", detail)


def judge_slots(view: SlotsState) -> list[Finding]:
    found = [ok("slots", f"{view.used} of {view.limit} in use, {view.waiting} waiting")]
    if view.circuit == "closed":
        found.append(ok("circuit", "closed"))
    else:
        left_s = view.circuit_open_ms / 1000
        detail = f"{view.circuit}, opened by {view.circuit_reason}, for another {left_s:.0f} s"
        if view.circuit_reason == "quota":
            remedy = "add credit at the provider, then `fairlane slots close-circuit`"
            found.append(broken("circuit", detail, remedy))
        else:
            remedy = "the provider's status page; it closes by itself after a call that succeeds"
            found.append(attention("circuit", detail, remedy))
    overrides = [f"{org_id} {cap}" for org_id, cap in sorted(view.overrides.items())]
    if view.ceiling != view.configured_limit:
        overrides.insert(0, f"all {view.ceiling} instead of {view.configured_limit}")
    if view.limit < view.ceiling:
        why = "it refused more" if view.limit_reason == "refused" else "with more, calls took longer"
        detail = f"the provider gets {view.limit} calls at once, not {view.ceiling}: {why}"
        remedy = "raise the limit at the provider, or lower CHAT_MAX_CONCURRENT to what it takes"
        found.append(attention("slot limit", detail, remedy))
    if overrides:
        remedy = "set it for good in Terraform or the clinics file, then `fairlane slots set --reset`"
        found.append(attention("slot limits", f"overridden by an operator: {', '.join(overrides)}", remedy))
    return found


async def examine_documents(documents: DocumentStore) -> list[Finding]:
    """Writes, reads and deletes one document. Raises DocumentsUnavailableError."""
    key = Key(PROBES, uuid.uuid4().hex)
    await documents.commit([Create(key, {"probe": True})])
    [written] = await documents.get_many([key])
    await documents.commit([Delete(key)])
    [left] = await documents.get_many([key])
    if written is None or left is not None:
        raise DocumentsUnavailableError("what was written is not read, or what was deleted is")
    return [
        ok(
            "documents",
            "written, read and deleted; indexes can't be seen from here: `terraform plan` shows them",
        )
    ]


async def examine_turns(documents: DocumentStore, clock: Clock) -> list[Finding]:
    """Turns that are not final although all their tries must be over."""
    before = datetime.fromtimestamp(clock.now_ms() / 1000, UTC) - STUCK_AFTER
    stuck: list[str] = []
    for state in (TurnState.RESERVED, TurnState.ANSWERED):
        where = [Where("state", "==", state.value), Where("created_at", "<", before)]
        turns = await documents.query(
            TURNS, where, order_by="created_at", descending=True, limit=_STUCK_LISTED
        )
        stuck += [turn.key.id for turn in turns]
    if not stuck:
        return [ok("turns", "none is stuck")]
    return [attention("turns", _stuck(stuck), "`fairlane turns show ID`: is its task on the queue?")]


def _stuck(turn_ids: Sequence[str]) -> str:
    return f"{len(turn_ids)} not final after {STUCK_AFTER.seconds // 60} minutes, such as {turn_ids[0]}"
