# The queue: every event waits here until it is answered.
locals {
  # Dispatch rate. A dispatch makes at most one LLM call at once, but not each one makes one: what finds its
  # conversation busy, its clinic's room full or its event answered is put back or done without a call.
  # Twice the provider's rate keeps the slots busy all the same; the provider's rate itself is enforced
  # exactly, with the slots. Without a limit per minute, what the slots can do with calls of 2 s stands in.
  #
  #   rate = 2 × (requests per minute ÷ 60, or slots ÷ 2 s), from 1 to Cloud Tasks' 500 a second
  calls_per_s      = coalesce(try(var.llm_requests_per_minute / 60, null), var.chat_max_concurrent / 2)
  dispatches_per_s = coalesce(var.queue_dispatches_per_s, max(1, min(500, ceil(2 * local.calls_per_s))))

  # Room: dispatches at once. Each either holds a slot or waits for one, and who cannot get one within
  # SLOT_WAIT_S is put back: more than what calls of 2 s let through in that time would only go round. And
  # never more than the instances take, since Cloud Run would refuse them with 429, which slows the queue.
  #
  #   room = min(slots × (1 + slot wait ÷ 2 s), instances × concurrency, Cloud Tasks' 5,000)
  room = coalesce(var.queue_concurrent_dispatches, min(
    ceil(var.chat_max_concurrent * (1 + var.slot_wait_s / 2)),
    var.turn_max_instances * var.turn_concurrency,
    5000,
  ))
}

resource "google_cloud_tasks_queue" "turns" {
  name     = "${var.name}-turns"
  location = var.region

  # What waits in it is lost with it, and its name cannot be used again for days.
  deletion_policy = local.deletion_policy

  rate_limits {
    max_dispatches_per_second = local.dispatches_per_s
    max_concurrent_dispatches = local.room
  }

  # A task is dropped once BOTH limits are passed, so never within a day and an hour. The function itself
  # ends a turn long before: past PATIENCE_S the customer gets the busy message.
  retry_config {
    max_attempts       = 100
    max_retry_duration = "90000s"
    min_backoff        = "1s"
    max_backoff        = "60s"
    max_doublings      = 6
  }

  stackdriver_logging_config {
    sampling_ratio = var.queue_log_sampling
  }

  lifecycle {
    precondition {
      condition     = local.room >= var.chat_max_concurrent
      error_message = "The queue would dispatch fewer turns at once (${local.room}) than there are slots (${var.chat_max_concurrent}): raise turn_max_instances, turn_concurrency or queue_concurrent_dispatches."
    }
    precondition {
      condition     = local.room <= var.turn_max_instances * var.turn_concurrency
      error_message = "The queue would dispatch more turns at once (${local.room}) than the instances take (${var.turn_max_instances * var.turn_concurrency}): Cloud Run would refuse the rest with 429, which slows the queue."
    }
  }

  depends_on = [google_project_service.this]
}

# Both functions create tasks: the webhook one an event, turn the successors of those it puts back.
resource "google_cloud_tasks_queue_iam_member" "enqueuer" {
  for_each = local.runtime_accounts

  name     = google_cloud_tasks_queue.turns.name
  location = var.region
  role     = "roles/cloudtasks.enqueuer"
  member   = each.value
}

# Turn brings waiting tasks forward when slots would be idle.
resource "google_cloud_tasks_queue_iam_member" "runner" {
  name     = google_cloud_tasks_queue.turns.name
  location = var.region
  role     = "roles/cloudtasks.taskRunner"
  member   = local.runtime_accounts.turn
}

# After a loss of Redis' data turn writes the clinics' lines anew by what waits on the queue.
resource "google_cloud_tasks_queue_iam_member" "viewer" {
  name     = google_cloud_tasks_queue.turns.name
  location = var.region
  role     = "roles/cloudtasks.viewer"
  member   = local.runtime_accounts.turn
}

# The identity that the tasks carry to turn, and who may give it to a task.
resource "google_service_account" "tasks" {
  account_id   = "${var.name}-tasks"
  display_name = "fairlane: the tasks' identity at turn"

  depends_on = [google_project_service.this]
}

resource "google_service_account_iam_member" "tasks_user" {
  for_each = local.runtime_accounts

  service_account_id = google_service_account.tasks.name
  role               = "roles/iam.serviceAccountUser"
  member             = each.value
}
