# What wakes a person. Each alarm says what happened, what the customers notice, and what to do; README.md
# has the commands. Conditions on metrics are PromQL; what is an alarm by itself is matched in the logs,
# with the clinic's id in the notification.
locals {
  # Whichever way it shows that a channel secret was reissued.
  new_channel_secret = trimspace(<<-EOT
    1. Ask the clinic for the new channel secret (LINE Developers console, Basic settings).
    2. `fairlane clinics apply FILE` with it; instances take it within a minute.
  EOT
  )

  # Nobody may be told that nothing comes while all clinics are closed. An hour is looked back on.
  open_hours = var.opening_hours_utc == null ? "" : format(
    var.opening_hours_utc.from + 1 < var.opening_hours_utc.to ? "hour() >= %d and hour() < %d" : "hour() >= %d or hour() < %d",
    (var.opening_hours_utc.from + 1) % 24, var.opening_hours_utc.to
  )

  alert_metrics = merge(var.opening_hours_utc == null ? {} : {
    silence = {
      title    = "No webhook has come for an hour"
      severity = "CRITICAL"
      query    = <<-EOT
        (sum(increase(${local.prometheus.webhook_acked}{${local.revision}}[1d])) >= 20
        unless sum(increase(${local.prometheus.webhook_acked}{${local.revision}}[1h])) > 0)
        and on() (${local.open_hours})
      EOT
      duration = "0s"
      doc      = <<-EOT
        In opening hours no clinic's customer has written for an hour, although they did within the last day. Either LINE does not reach us, or no webhook is signed as we expect it, or everybody is on holiday (`opening_hours_utc`).

        1. Write to a clinic's LINE account. Answered: nothing is wrong.
        2. `fairlane doctor` asks LINE whether the webhooks are set and active; `fairlane clinics connect --all` sets them again.
        3. The log of service `${google_cloudfunctions2_function.webhook.name}`: are there requests at all, and what are they answered? LINE's status: https://status.line.me
      EOT
    }
    }, {
    oldest_task = {
      title    = "Backlog: tasks wait too long"
      severity = "CRITICAL"
      # Half of a customer's patience; or tasks are there and none is even tried.
      query    = <<-EOT
        histogram_quantile(0.99, sum by (le) (increase(cloudtasks_googleapis_com:queue_task_attempt_delays_bucket{${local.queue_selector}}[5m]))) > ${var.patience_s * 500}
        or (min_over_time(sum(cloudtasks_googleapis_com:queue_depth{${local.queue_selector}})[10m:1m]) > 0
        unless sum(increase(cloudtasks_googleapis_com:queue_task_attempt_count{${local.queue_selector}}[10m])) > 0)
      EOT
      duration = "300s"
      doc      = <<-EOT
        Tasks are dispatched more than ${var.patience_s / 2} s late, or not at all. Past ${var.patience_s} s customers get the busy message instead of an answer.

        1. Is the queue paused? `gcloud tasks queues describe ${google_cloud_tasks_queue.turns.name} --location ${var.region}`; resume it if nobody knows why.
        2. Look at the dashboard: attempts answered 5xx mean that Redis, Firestore or LINE is down (Cloud Tasks slows the queue by itself); circuit open or 429s mean the provider; all slots in use means more customers than `chat_max_concurrent` serves.
        3. More slots, if the provider's limits allow: "Raise limits" in terraform/README.md.
      EOT
    }
    failed_turns = {
      title    = "Turns fail"
      severity = "CRITICAL"
      # Or most of the few that there are at night.
      query    = <<-EOT
        sum(increase(${local.prometheus.turn_failed}{${local.revision}}[10m])) > ${var.alert_failed_turns}
        or (sum(increase(${local.prometheus.turn_failed}{${local.revision}}[1h])) >= 2
        and sum(increase(${local.prometheus.turn_failed}{${local.revision}}[1h])) > 0.5 * sum(increase(${local.prometheus.turn_duration_ms}_count{${local.revision}}[1h])))
      EOT
      duration = "0s"
      doc      = <<-EOT
        More than ${var.alert_failed_turns} turns failed within 10 minutes, or most of an hour's: their customers got the busy message, or nothing.

        1. `fairlane turns list --state failed --since 1h` gives the reasons, `fairlane turns show ID` the timeline of one.
        2. The reason says where: `http_401` or `http_403` is the OpenAI key, `http_400` or `http_404` a model's configuration, `insufficient_quota` the account's credit, time-outs and 5xx the provider.
        3. Once the cause is gone: `fairlane turns replay ID…` answers those that never were; it is safe to repeat.
      EOT
    }
    ack_errors = {
      title    = "Webhook answers 5xx"
      severity = "CRITICAL"
      query    = <<-EOT
        sum(increase(run_googleapis_com:request_count{${local.webhook_service},response_code_class="5xx"}[5m])) >= 5
        and sum(increase(run_googleapis_com:request_count{${local.webhook_service},response_code_class="5xx"}[5m])) > 0.01 * sum(increase(run_googleapis_com:request_count{${local.webhook_service}}[5m]))
      EOT
      duration = "60s"
      doc      = <<-EOT
        More than 1 % of LINE's webhooks were not enqueued. LINE delivers them again only for channels with redelivery on; for others those messages are lost.

        1. Events `webhook.enqueue_failed` in the log say why. Stage `enqueue`: Cloud Tasks unavailable, its quota used up, or a permission missing. Stage `clinic`: Firestore or Secret Manager unavailable, or the secret of the clinic that is named.
        2. None of these, but `webhook.refused` with reason `too_many_unknown`: somebody sends webhooks for many destinations that no clinic has, and looking those up is bounded. Clinics that an instance has seen are answered as ever.
        3. Right after a deployment: roll back ("Roll back" in terraform/README.md).
      EOT
    }
    turn_errors = {
      title    = "Turns end with 5xx"
      severity = "CRITICAL"
      # For five minutes: a failover of Redis takes one, and mends itself.
      query    = <<-EOT
        sum(increase(run_googleapis_com:request_count{${local.turn_service},response_code_class="5xx"}[3m])) >= 3
        and sum(increase(run_googleapis_com:request_count{${local.turn_service},response_code_class="5xx"}[3m])) > 0.05 * sum(increase(run_googleapis_com:request_count{${local.turn_service}}[3m]))
      EOT
      duration = "300s"
      doc      = <<-EOT
        For five minutes more than 5 % of the tasks' attempts have ended with 5xx: Redis, Firestore or LINE is down, or turn does not start. Nothing is lost: the queue tries again, more slowly. But past ${var.patience_s} s customers get the busy message, once turns run again.

        1. Read the log of service `${local.turn_name}`: `turn.unavailable` says in `reason` what is down, `turn.defect` has a stack trace; a revision that does not start names every setting that is missing or wrong.
        2. Redis is down: "After Redis was lost" in terraform/README.md. Firestore or LINE: their status pages; turns go on by themselves afterwards.
        3. Right after a deployment: roll back ("Roll back" in terraform/README.md).
      EOT
    }
    turn_refused = {
      title    = "Tasks do not reach turn"
      severity = "CRITICAL"
      # Cloud Run answers these itself, and its metrics of turn know nothing of them. The queue's metric counts
      # them too, under codes that are not documented for HTTP tasks: by number or by name.
      query    = <<-EOT
        sum by (status) (increase(${local.prometheus.turn_turned_away}{${local.revision}}[5m])) >= 3
        or sum by (response_code) (increase(cloudtasks_googleapis_com:queue_task_attempt_count{${local.queue_selector},response_code=~"(?i)401|403|404|429|unauthenticated|permission_denied|not_found|resource_exhausted"}[5m])) >= 3
      EOT
      duration = "60s"
      doc      = <<-EOT
        Cloud Run refuses the queue's tasks before turn sees them: customers get no answers. The label says why: 401 or 403, the tasks' token or who may invoke turn; 404, the URL, or turn does not take them for internal traffic; 429, all instances are full, which also slows the queue.

        1. 401, 403, 404: was something changed by hand? `terraform plan` shows it, `terraform apply` mends it: run.invoker for `${google_service_account.tasks.account_id}`, turn's ingress, `TURN_URL`.
        2. 429: raise `turn_max_instances`, or lower `queue_concurrent_dispatches`. Is Google's quota of instances or CPU used up?
        3. Nothing is lost within a day; what waits for longer than ${var.patience_s} s gets the busy message.
      EOT
    }
    webhook_turned_away = {
      title    = "Webhooks find no instance"
      severity = "CRITICAL"
      query    = "sum(increase(${local.prometheus.webhook_turned_away}{${local.revision}}[5m])) >= 3"
      duration = "0s"
      doc      = <<-EOT
        Cloud Run answered LINE's webhooks with 429, since no instance had room. LINE delivers them again only for channels with redelivery on; for others those messages are lost.

        1. Raise `webhook_max_instances` (and `subnet_cidr`, if the plan asks for it), apply. Is Google's quota of instances used up?
        2. Is somebody else sending the load? The log of the service has the addresses; `webhook.refused` counts what is not signed.
      EOT
    }
    webhook_refused = {
      title    = "A clinic's webhooks are refused"
      severity = "WARNING"
      # Not a single one: whoever knows a bot's id can send a webhook with a bad signature.
      query    = "sum by (org) (increase(${local.prometheus.webhook_refused}{${local.revision},reason=\"wrong_signature\",org!=\"\"}[1h])) >= 5"
      duration = "0s"
      doc      = <<-EOT
        Five webhooks or more of the clinic in the label `org` had a wrong signature within an hour: LINE signs with another channel secret than the one stored here, or somebody else sends them. If LINE does, the clinic's customers get no answers; other clinics are not affected.

        ${local.new_channel_secret}
        3. If the secret is the same: compare the clinic's webhook URL in LINE's console; nothing is wrong here if its customers are answered.
      EOT
    }
    ack_latency = {
      title    = "Webhook answers too late for LINE"
      severity = "WARNING"
      # Five of them: of three webhooks in a quiet window, a single slow one would be a third.
      query    = <<-EOT
        sum(increase(${local.prometheus.ack_slow}{${local.revision}}[10m])) >= 5
        and sum(increase(${local.prometheus.ack_slow}{${local.revision}}[10m])) > 0.01 * sum(increase(${local.prometheus.ack_due}{${local.revision}}[10m]))
      EOT
      duration = "300s"
      doc      = <<-EOT
        1 % of the acknowledgements, and five at least, take more than 1.5 s; LINE gives up after 2 s, and suspends a webhook that keeps failing.

        1. Redis is not the cause: its share is cut off after 30 ms. Look at Cloud Tasks' API latency and at Secret Manager's.
        2. Cold starts (the dashboard's instances go up and down): raise `webhook_min_instances`.
        3. All instances busy: raise `webhook_max_instances`.
      EOT
    }
    redis_memory = {
      title    = "Redis memory is filling up"
      severity = "WARNING"
      query    = "max(redis_googleapis_com:stats_memory_usage_ratio{${local.redis_selector}}) > 0.8"
      duration = "300s"
      doc      = <<-EOT
        Redis is more than 80 % full. Nothing is evicted (leases must not be): when it is full, writes fail, and turns answer 503 and wait on the queue.

        1. Raise `redis_memory_gb` and apply; Memorystore grows in place, with a failover of a minute.
        2. If the load did not grow with it: `session_ttl_s` was raised, or a customer's conversation grows without bound, which is a bug to report.
      EOT
    }
    redis_cpu = {
      title    = "Redis has no time left"
      severity = "WARNING"
      query    = "max(sum by (node_id) (rate(redis_googleapis_com:stats_cpu_utilization_main_thread{${local.redis_selector}}[5m]))) > 0.8"
      duration = "300s"
      doc      = <<-EOT
        Redis' main thread is more than 80 % busy: slots, mailboxes and shaping get slow, and a larger instance does not help, since it is one thread.

        1. Is it our load? The dashboard's "Attempts by response" and "Turns put back": many more attempts than turns mean that waiting costs more than answering.
        2. The load has grown for good: `fairlane capacity --clinics N` says from when on cells are needed.
      EOT
    }
    redis_failover = {
      title    = "Redis failed over"
      severity = "WARNING"
      query    = "sum(changes(redis_googleapis_com:replication_role{${local.redis_selector}}[10m])) > 0"
      duration = "0s"
      doc      = <<-EOT
        Redis' replica took over. The last second's writes may be gone: slots can be over-admitted for one lease. Turns answer 503 for some seconds, and the queue sends them again.

        1. In the maintenance window (Sunday, 19:00 to 20:00 UTC), or after a change of `redis_memory_gb`: nothing to do.
        2. Otherwise watch the backlog go down, and "After Redis was lost" in terraform/README.md if it does not.
      EOT
    }
  })

  alert_events = {
    circuit_open = {
      title    = "Provider's circuit is open"
      severity = "CRITICAL"
      filter   = "jsonPayload.message=\"circuit.opened\""
      labels   = ["reason", "provider"]
      doc      = <<-EOT
        At least half of the calls to the LLM provider in the label `provider` failed, or the account's quota is used up: no instance calls it for now. Clinics with an `outage_model` at another provider are answered by that one. Others' turns wait on the queue; past ${var.patience_s} s customers get the busy message. It closes by itself when a probe succeeds.

        1. Reason `quota`: add credit or raise the spend limit at the provider, then `fairlane slots close-circuit` (`--provider NAME` if it is not the first one).
        2. Otherwise look at the provider's status page. Nothing needs to be done here; "Provider outage" in terraform/README.md says how to spare the customers the wait.
      EOT
    }
    llm_refused = {
      title    = "The provider refuses our calls"
      severity = "CRITICAL"
      # At once: at night there may be one customer an hour, and none of them gets an answer.
      filter = "((jsonPayload.message=\"llm.attempt\" AND jsonPayload.status=(401 OR 403 OR 404)) OR jsonPayload.message=\"model.not_found\")"
      labels = ["status", "code", "model"]
      doc    = <<-EOT
        The provider answered a call with 401 or 403, the key was revoked or lacks a right, or with 404, the model in the label `model` does not exist (any more). Every turn with it ends with the busy message, unless the clinic has an `outage_model` at another provider.

        1. 401, 403: make a new key, "Rotate each secret" in terraform/README.md; the provider's address may point elsewhere.
        2. 404: another model for those clinics, `fairlane clinics apply FILE`; seen by all within 60 s.
        3. `fairlane turns list --state failed --since 1h`, then `fairlane turns replay ID…`.
      EOT
    }
    defect = {
      title    = "A defect in fairlane"
      severity = "WARNING"
      filter   = "jsonPayload.message=(\"webhook.defect\" OR \"turn.defect\" OR \"task.malformed\")"
      labels   = ["reason"]
      doc      = <<-EOT
        `turn.defect`, `webhook.defect`: a turn or a webhook ended in an error that nobody foresaw; its log entry has the stack trace. The queue tries the turn again, LINE the webhook if redelivery is on. `task.malformed`: something put a task on the queue that is not fairlane's; it was dropped.

        1. Right after a deployment: roll back ("Roll back" in terraform/README.md).
        2. Otherwise report the stack trace; the entry's trace leads to the webhook and all attempts.
      EOT
    }
    line_unauthorized = {
      title    = "LINE refuses a clinic's secret"
      severity = "WARNING"
      filter   = "jsonPayload.message=\"line.unauthorized\""
      labels   = ["org"]
      doc      = <<-EOT
        LINE answered 401 for the clinic in the label `org`: its channel secret was reissued, or the channel was deleted. Its customers get no answers; other clinics are not affected.

        ${local.new_channel_secret}
        3. `fairlane turns list --state failed --since 1d`, then `fairlane turns replay ID…` for its turns.
      EOT
    }
    push_quota = {
      title    = "A clinic's LINE messages are used up"
      severity = "WARNING"
      filter   = "jsonPayload.message=\"line.quota_exhausted\""
      labels   = ["org"]
      doc      = <<-EOT
        The clinic in the label `org` has used up its monthly push messages. Replies are free and go on; answers that come after the reply token has expired are not delivered until the month ends.

        1. Tell the clinic: it can raise its plan in LINE Official Account Manager.
        2. Many pushes mean late answers: look at the backlog first.
      EOT
    }
    delivery_unknown = {
      title    = "A reply may not have arrived"
      severity = "WARNING"
      filter   = "jsonPayload.message=\"line.delivery_unknown\""
      labels   = ["org"]
      doc      = <<-EOT
        LINE was called with a reply of the clinic in the label `org` and its answer never came; when it could be asked again, the reply token was too old to tell whether it had accepted. Nothing is sent again by itself. Many at once mean an outage of LINE, or instances that died.

        1. `fairlane turns list --reason "undeliverable: unknown" --since 1h` names the turns; LINE Official Account Manager shows the clinic what its customer has read.
        2. `fairlane turns replay ID…` pushes the stored reply, also to a customer who has it already. `--all-failed` leaves these turns out unless that reason is given.
      EOT
    }
    notice_undone = {
      title    = "A notice has not reached a clinic's desk"
      severity = "WARNING"
      filter   = "jsonPayload.message=\"notice.undone\""
      labels   = ["org"]
      doc      = <<-EOT
        A notice to the staff of the clinic in the label `org` has been waiting for more than five minutes, or LINE refuses it: a customer may be waiting for people who know nothing of it. It is tried again by itself where that can help.

        1. `fairlane desk show ORG` counts what was not sent; `fairlane doctor` says why. `quota`: the month's messages are used up, the clinic can raise its plan. `rejected`: the bot was taken out of the group.
        2. Tell the clinic: `fairlane conversations list --org ORG` names the chats that wait for people.
        3. For another chat: `fairlane desk disconnect ORG`, then `fairlane desk code ORG`.
      EOT
    }
    budget_used = {
      title    = "A clinic's budget is used up"
      severity = "WARNING"
      filter   = "jsonPayload.message=\"budget.threshold\" AND jsonPayload.percent=100"
      labels   = ["org"]
      doc      = <<-EOT
        The clinic in the label `org` has reached 100 % of its budget for today. With the hard stop on, its customers get the budget message until midnight (${var.budget_timezone}).

        1. `fairlane spend --org ORG` shows where it went.
        2. If the clinic wants to go on: `fairlane budgets set ORG …`; all instances see it within 60 s.
      EOT
    }
  }

  alert_channels = concat(
    [for channel in google_monitoring_notification_channel.email : channel.name],
    tolist(var.notification_channels),
  )
}

resource "google_monitoring_notification_channel" "email" {
  for_each = var.alert_emails

  display_name = "${var.name}: ${each.key}"
  type         = "email"
  labels       = { email_address = each.key }

  depends_on = [google_project_service.this]
}

resource "google_monitoring_alert_policy" "metric" {
  for_each = local.alert_metrics

  display_name          = "${var.name}: ${each.value.title}"
  combiner              = "OR"
  severity              = each.value.severity
  notification_channels = local.alert_channels

  conditions {
    display_name = each.value.title
    condition_prometheus_query_language {
      query               = each.value.query
      duration            = each.value.duration
      evaluation_interval = "60s"
      # In a new project a log-based metric exists only after its first event.
      disable_metric_validation = true
    }
  }

  documentation {
    subject   = "${var.name}: ${each.value.title}"
    content   = each.value.doc
    mime_type = "text/markdown"
  }

  depends_on = [google_logging_metric.count, google_logging_metric.filtered, google_logging_metric.value]
}

resource "google_monitoring_alert_policy" "event" {
  for_each = local.alert_events

  display_name          = "${var.name}: ${each.value.title}"
  combiner              = "OR"
  severity              = each.value.severity
  notification_channels = local.alert_channels

  conditions {
    display_name = each.value.title
    condition_matched_log {
      filter           = "${local.events_of_functions} AND ${each.value.filter}"
      label_extractors = { for label in each.value.labels : label => "EXTRACT(jsonPayload.${label})" }
    }
  }

  alert_strategy {
    auto_close = "3600s"
    notification_rate_limit {
      period = "900s"
    }
  }

  documentation {
    subject   = "${var.name}: ${each.value.title}"
    content   = each.value.doc
    mime_type = "text/markdown"
  }

  depends_on = [google_project_service.this]
}

# Seen from outside: a webhook that is not reachable at all gives no 5xx to count.
resource "google_monitoring_uptime_check_config" "webhook" {
  display_name = "${var.name}: webhook"
  timeout      = "10s"
  period       = "60s"

  http_check {
    path         = "/"
    port         = 443
    use_ssl      = true
    validate_ssl = true
  }
  monitored_resource {
    type = "uptime_url"
    labels = {
      project_id = var.project_id
      host       = trimprefix(google_cloudfunctions2_function.webhook.service_config[0].uri, "https://")
    }
  }

  depends_on = [google_project_service.this]
}

resource "google_monitoring_alert_policy" "unreachable" {
  display_name          = "${var.name}: Webhook is unreachable"
  combiner              = "OR"
  severity              = "CRITICAL"
  notification_channels = local.alert_channels

  conditions {
    display_name = "GET fails from two places or more"
    condition_threshold {
      filter          = "resource.type = \"uptime_url\" AND metric.type = \"monitoring.googleapis.com/uptime_check/check_passed\" AND metric.labels.check_id = \"${google_monitoring_uptime_check_config.webhook.uptime_check_id}\""
      comparison      = "COMPARISON_GT"
      threshold_value = 1
      duration        = "120s"

      aggregations {
        alignment_period     = "120s"
        per_series_aligner   = "ALIGN_NEXT_OLDER"
        cross_series_reducer = "REDUCE_COUNT_FALSE"
        group_by_fields      = ["resource.label.host"]
      }
      trigger {
        count = 1
      }
    }
  }

  documentation {
    subject   = "${var.name}: Webhook is unreachable"
    mime_type = "text/markdown"
    content   = <<-EOT
      The webhook does not answer a GET from outside. LINE's webhooks fail as well; what customers write now arrives only for channels with redelivery on.

      1. `curl -i $(terraform output -raw webhook_url)`: 403 means that public access was removed (an organisation's policy against `allUsers`), 404 that the function is gone, 5xx that it does not start: its log names every setting that is missing or wrong.
      2. Right after a deployment: roll back ("Roll back" in terraform/README.md).
    EOT
  }
}
