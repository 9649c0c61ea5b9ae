"""The audit's fourteen rows, what fairlane promises for each, and what proves it: the one list of both."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Dimension(Enum):
    """The audit's five, with the score that it gave the old system."""

    SCALABILITY = 20
    STATE = 25
    COST = 60
    RESILIENCY = 40
    ENTERPRISE = 35


@dataclass(frozen=True, slots=True)
class Pytest:
    """`node`: a test with all its parameters, or a whole file of tests."""

    node: str


@dataclass(frozen=True, slots=True)
class Figure:
    """A row of `python -m tests.bench` that has a target. `begins`: how its name begins."""

    bench: str
    begins: str


@dataclass(frozen=True, slots=True)
class Peak:
    """A promise of `fairlane peak --quick --faults`, by how its name begins."""

    begins: str


@dataclass(frozen=True, slots=True)
class Terraform:
    """tfcheck on terraform/, where it is installed beside the checkout."""


Proof = Pytest | Figure | Peak | Terraform


@dataclass(frozen=True, slots=True)
class Promise:
    """One promise for one row of the audit; it counts for each of its dimensions."""

    row: int
    says: str
    dimensions: tuple[Dimension, ...]
    proofs: tuple[Proof, ...]


SCALABILITY, STATE, COST, RESILIENCY, ENTERPRISE = Dimension

_SLOTS, _SLOT_FAULTS = "tests/adapters/test_redis_slots.py", "tests/adapters/test_redis_slots_faults.py"
_PROVIDER, _MAILBOX = "tests/adapters/test_redis_slots_provider.py", "tests/adapters/test_redis_mailbox.py"
_INSTANCES, _PROVIDERS = "tests/e2e/test_faults_of_instances.py", "tests/e2e/test_faults_of_providers.py"
_ACK = "tests/usecases/webhook/test_acknowledge.py"
_ASK, _TURN = (f"tests/usecases/test_{name}.py" for name in ("ask_model", "run_turn"))
_BOOKS, _TALK, _DEMO = (
    "tests/usecases/journal/test_books.py",
    "tests/e2e/test_conversation.py",
    "tests/e2e/test_demo.py",
)

PROMISES = (
    Promise(
        1,
        "One limit for all instances, never exceeded, whatever is killed",
        (SCALABILITY, RESILIENCY),
        (
            Pytest("tests/adapters/test_redis_slots_model.py::test_random_histories_agree_with_the_model"),
            Pytest(_SLOT_FAULTS),
            Figure("slots", "limits exceeded at the provider"),
            Peak("calls above the global limit"),
            Peak("calls above a clinic's limit"),
        ),
    ),
    Promise(
        2,
        "Every wait is bounded; past the patience the customer hears so",
        (SCALABILITY, RESILIENCY),
        (
            Pytest(f"{_TURN}::test_past_its_patience_a_customer_hears_so_once_and_no_call_is_made"),
            Pytest(f"{_TURN}::test_turn_without_a_slot_is_put_back_with_its_place_and_then_answered"),
            Pytest(f"{_SLOT_FAULTS}::test_redis_gone_for_longer_than_a_lease_ends_waits_and_blocks"),
            Figure("slots", "slot of a killed holder usable again"),
        ),
    ),
    Promise(
        3,
        "The slot goes to the clinic that holds the fewest; none idles while somebody waits",
        (SCALABILITY,),
        (
            Figure("slots", "Jain's index of slot-seconds"),
            Figure("slots", "clinic without a slot overtaken"),
            Figure("slots", "busy ÷ possible slot-seconds"),
            Peak("slots busy"),
            Peak("fairness"),
            Peak("small clinics' p95"),
        ),
    ),
    Promise(
        4,
        "Every event is on a durable queue until it is answered",
        (STATE, RESILIENCY),
        (
            Pytest(f"{_ACK}::test_every_event_of_the_batch_is_enqueued_before_200"),
            Pytest(f"{_ACK}::test_in_doubt_it_is_5xx_and_the_other_events_are_enqueued"),
            Pytest(f"{_INSTANCES}::test_killed_turn_is_finished_by_another_instance"),
            Pytest("tests/e2e/test_sigterm.py"),
            Peak("messages lost"),
        ),
    ),
    Promise(
        5,
        "No 429 storm: one cooldown and one rate for all instances",
        (SCALABILITY, COST),
        (
            Pytest(f"{_PROVIDER}::test_a_429_cools_all_processes_down_and_waiters_run_when_it_is_over"),
            Pytest(f"{_PROVIDER}::test_requests_a_minute_are_never_exceeded"),
            Pytest(f"{_PROVIDER}::test_tokens_a_minute_count_estimates_and_then_what_was_used"),
            Pytest(f"{_TURN}::test_cooldown_of_the_provider_puts_other_turns_back"),
            Pytest("tests/local/test_cloud_tasks.py::test_dispatch_rate_is_a_token_bucket"),
        ),
    ),
    Promise(
        6,
        "One state of a conversation for all instances, 30 minutes, through restarts",
        (STATE, SCALABILITY),
        (
            Pytest(f"{_TALK}::test_five_turns_over_four_instances_and_a_restart_know_all_that_was_said"),
            Pytest(f"{_TALK}::test_after_its_time_to_live_a_conversation_begins_anew_and_the_memory_stays"),
            Pytest(f"{_TALK}::test_two_clinics_with_the_same_user_id_never_see_each_others"),
            Pytest(f"{_MAILBOX}::test_an_overtaken_leader_writes_nothing"),
        ),
    ),
    Promise(
        7,
        "An event is answered once, in order, however often and wherever it is delivered",
        (STATE, RESILIENCY),
        (
            Pytest(f"{_INSTANCES}::test_task_delivered_to_two_instances_at_once"),
            Pytest(f"{_INSTANCES}::test_webhook_redelivered_thrice_and_its_finished_task_again"),
            Pytest(f"{_INSTANCES}::test_events_of_one_customer_in_every_order_of_delivery"),
            Pytest(f"{_INSTANCES}::test_redis_restarts_empty_while_a_turn_runs"),
            Pytest(f"{_PROVIDERS}::test_line_fails_once_and_the_answer_arrives_once"),
            Peak("messages answered twice"),
            Peak("messages answered out of order"),
        ),
    ),
    Promise(
        8,
        "Primary model, cheaper model or stop: decided before every call",
        (COST,),
        (
            Pytest("tests/domain/test_budget.py"),
            Pytest(
                f"{_BOOKS}::test_the_cheaper_model_takes_over_at_the_exact_turn_and_the_primary_is_back_next_day"
            ),
            Pytest(f"{_TURN}::test_spent_budget_is_told_once_an_hour_and_costs_nothing"),
        ),
    ),
    Promise(
        9,
        "A budget is never exceeded, however many turns run at once",
        (COST,),
        (
            Pytest("tests/usecases/journal/test_books_processes.py"),
            Pytest(f"{_BOOKS}::test_a_crash_around_any_commit_leaves_books_that_close"),
            Pytest(
                "tests/domain/test_money.py::test_no_usage_within_the_bounds_costs_more_than_the_worst_case"
            ),
            Figure("budget", "reservations of a clinic at once"),
            Peak("clinics over budget"),
        ),
    ),
    Promise(
        9,
        "Every charge is what the provider served, to the micro-baht, and cached where it can be",
        (COST,),
        (
            Pytest(f"{_DEMO}::test_the_spend_is_what_openai_served_to_the_micro_baht"),
            Pytest(f"{_BOOKS}::test_settling_twice_is_settling_once"),
            Pytest("tests/ops/test_spend.py"),
            Figure("prompt_cache", "cached share of input tokens"),
        ),
    ),
    Promise(
        10,
        "Three attempts within 30 s, only for what can succeed; a paid answer is not paid twice",
        (RESILIENCY, COST),
        (
            Pytest(_ASK),
            Pytest(f"{_PROVIDERS}::test_model_fails_once_and_is_asked_again"),
            Pytest(f"{_PROVIDERS}::test_model_fails_for_good_and_the_customer_hears_so_once"),
            Pytest("tests/usecases/journal/test_journal.py"),
        ),
    ),
    Promise(
        11,
        "A failing provider opens one circuit for all instances, and one probe closes it",
        (RESILIENCY,),
        (
            Pytest(f"{_PROVIDER}::test_the_circuit_opens_when_half_of_enough_calls_failed"),
            Pytest(f"{_PROVIDER}::test_half_open_lets_exactly_one_call_try_and_its_success_closes"),
            Pytest(f"{_PROVIDER}::test_a_quota_code_opens_at_once_until_an_operator_closes"),
            Pytest(f"{_PROVIDERS}::test_quota_opens_the_circuit_for_all"),
        ),
    ),
    Promise(
        12,
        "What exceeds a rate is delayed and coalesced, not lost; no Redis, no delay",
        (RESILIENCY, SCALABILITY),
        (
            Pytest("tests/adapters/test_redis_shaper.py"),
            Pytest(f"{_INSTANCES}::test_six_bubbles_within_300_ms"),
            Pytest(f"{_ACK}::test_without_redis_events_go_on_undelayed_by_the_local_clock"),
        ),
    ),
    Promise(
        13,
        "Short-term state and long-term memory, on the one path there is",
        (STATE,),
        (
            Pytest("tests/domain/test_memory.py"),
            Pytest("tests/domain/test_session.py"),
            Pytest("tests/domain/test_role_manager.py"),
            Pytest(f"{_TALK}::test_unsent_message_is_forgotten_by_prompt_and_journal"),
        ),
    ),
    Promise(
        14,
        "500 clinics' peak hour: answered by free replies, at a cost that does not grow with them",
        (SCALABILITY,),
        (
            Peak("free replies"),
            Peak("CPU a turn"),
            Peak("memory of a turn process"),
            Figure("webhook", "webhook requests/s"),
            Figure("slots", "acquire + release at 10,000 waiting clinics"),
        ),
    ),
    Promise(
        14,
        "Little is added to a model's call, and little to a cold start",
        (SCALABILITY,),
        (
            Figure("turn", "time added to a turn"),
            Figure("imports", "import of"),
        ),
    ),
    Promise(
        14,
        "Deployed by one apply, least privilege, alarms with a runbook",
        (ENTERPRISE,),
        (
            Terraform(),
            Pytest("tests/terraform/test_variables.py"),
            Pytest("tests/terraform/test_monitoring.py"),
            Pytest("tests/terraform/test_settings.py"),
            Pytest("tests/terraform/test_cloudbuild.py"),
            Pytest("tests/e2e/test_settings_at_start.py"),
        ),
    ),
    Promise(
        14,
        "No secret, token or customer's word is logged; LINE's signature is checked",
        (ENTERPRISE,),
        (
            Pytest(f"{_DEMO}::test_no_log_line_holds_a_secret_a_token_or_a_customers_words"),
            Pytest("tests/domain/test_signature.py"),
            Pytest(f"{_ACK}::test_ten_thousand_mutated_bodies_cost_no_good_event_and_forge_none"),
            Pytest("tests/ops/test_clinics.py::test_no_secret_is_ever_shown"),
        ),
    ),
    Promise(
        14,
        "A customer can be shown, exported and forgotten, in every store",
        (ENTERPRISE,),
        (
            Pytest("tests/usecases/operate/test_customer_rights.py"),
            Pytest("tests/ops/test_customers.py"),
        ),
    ),
    Promise(
        14,
        "An operator sees what happened, mends it and brings in 500 clinics",
        (ENTERPRISE,),
        (
            Pytest("tests/ops/test_turns.py"),
            Pytest("tests/ops/test_doctor.py"),
            Pytest("tests/ops/test_clinics.py"),
            Pytest("tests/usecases/operate/test_replay_turn.py"),
            Pytest("tests/usecases/operate/test_connect_clinics.py"),
            Pytest(f"{_DEMO}::test_every_promise_holds"),
        ),
    ),
)
