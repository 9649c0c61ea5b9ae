# A first apply: only what is required.

mock_provider "google" {
  mock_data "google_project" {
    defaults = { number = "123456789012" }
  }
}
mock_provider "archive" {
  mock_data "archive_file" {
    defaults = { output_sha256 = "0123abcd" }
  }
}

variables {
  project_id       = "my-project"
  region           = "asia-southeast1"
  openai_secret_id = "openai-api-key"
}

run "plan" {
  command = plan

  assert {
    condition     = google_cloudfunctions2_function.webhook.service_config[0].ingress_settings == "ALLOW_ALL" && google_cloud_run_v2_service_iam_member.webhook_public.member == "allUsers"
    error_message = "LINE cannot reach the webhook."
  }
  assert {
    condition     = google_cloudfunctions2_function.turn.service_config[0].ingress_settings == "ALLOW_INTERNAL_ONLY"
    error_message = "turn is reachable from the internet."
  }
  assert {
    condition     = alltrue([for f in [google_cloudfunctions2_function.webhook, google_cloudfunctions2_function.turn] : f.build_config[0].runtime == "python313" && f.service_config[0].min_instance_count == 1 && tonumber(f.service_config[0].available_cpu) >= 1 && f.service_config[0].direct_vpc_egress == "VPC_EGRESS_PRIVATE_RANGES_ONLY"])
    error_message = "A function is not as warm, as strong or as connected as it must be."
  }
  assert {
    condition     = local.turn_url == "https://fairlane-turn-123456789012.asia-southeast1.run.app" && google_cloudfunctions2_function.turn.name == "fairlane-turn"
    error_message = "TURN_URL is not the turn service's deterministic URL."
  }
  assert {
    condition     = google_storage_bucket_object.archive["turn"].name == "turn-0123abcd.zip"
    error_message = "The archive's name does not carry its hash."
  }
  assert {
    condition     = google_cloud_tasks_queue.turns.rate_limits[0].max_dispatches_per_second == 17 && google_cloud_tasks_queue.turns.rate_limits[0].max_concurrent_dispatches == 165
    error_message = "The queue's limits do not follow from 500 requests a minute and 15 slots."
  }
  assert {
    condition     = tonumber(trimsuffix(google_cloud_tasks_queue.turns.retry_config[0].max_retry_duration, "s")) > 86400
    error_message = "A task could be dropped within a day."
  }
  assert {
    condition     = google_redis_instance.this.redis_configs["maxmemory-policy"] == "noeviction" && google_redis_instance.this.tier == "STANDARD_HA" && google_redis_instance.this.auth_enabled && google_redis_instance.this.transit_encryption_mode == "SERVER_AUTHENTICATION"
    error_message = "Redis would lose leases, or is not protected."
  }
  assert {
    condition     = google_firestore_database.this.delete_protection_state == "DELETE_PROTECTION_ENABLED" && google_firestore_database.this.point_in_time_recovery_enablement == "POINT_IN_TIME_RECOVERY_ENABLED"
    error_message = "The document store is not protected."
  }
  assert {
    condition     = toset(concat([for field in google_firestore_field.expire_at : field.deletion_policy], [google_firestore_database.this.deletion_policy, google_cloud_tasks_queue.turns.deletion_policy])) == toset(["PREVENT"])
    error_message = "A destroy by mistake would take the retention, the queue or the documents away."
  }
  assert {
    condition     = google_firestore_backup_schedule.daily.retention == "604800s" && google_firestore_backup_schedule.weekly.retention == "2419200s" && length(google_firestore_backup_schedule.weekly.weekly_recurrence) == 1
    error_message = "The documents are not backed up every day for a week and every week for a month."
  }
  assert {
    condition     = google_storage_bucket.archives.force_destroy && one(google_storage_bucket.archives.lifecycle_rule[0].condition).days_since_noncurrent_time == 30
    error_message = "The archives' bucket keeps old archives for ever, or cannot be taken down."
  }
  assert {
    condition     = alltrue([for grant in google_project_iam_member.clinic_secrets : grant.condition[0].expression == "resource.name.startsWith(\"projects/123456789012/secrets/line-\")"])
    error_message = "The functions read more secrets than the clinics'."
  }
  assert {
    condition     = toset(keys(google_project_iam_member.clinic_secrets)) == toset(["turn", "webhook"]) && { for name, grant in google_project_iam_member.firestore : name => grant.role } == { turn = "roles/datastore.user", webhook = "roles/datastore.viewer" }
    error_message = "Somebody else may read secrets, or webhook may write documents."
  }
  assert {
    condition     = google_firestore_database.this.name == "(default)" && alltrue([for grant in google_project_iam_member.firestore : grant.condition[0].expression == "resource.name == \"projects/my-project/databases/(default)\""])
    error_message = "The functions reach the documents of other deployments."
  }
  assert {
    condition     = length(google_service_account.pipeline) == 0 && length(google_project_iam_member.pipeline) == 0
    error_message = "A pipeline's account was made that nobody asked for."
  }
  assert {
    condition     = length(google_compute_instance.operator) + length(google_project_iam_member.operator) + length(google_compute_router.operator) == 0 && !contains(keys(google_project_service.this), "iap.googleapis.com")
    error_message = "Something was made for operators that nobody asked for."
  }
  assert {
    condition     = alltrue([for slo in google_monitoring_slo.this : slo.rolling_period_days == 28]) && { for name, slo in google_monitoring_slo.this : name => slo.goal } == { acked = 0.999, answered = 0.98 } && length(google_monitoring_alert_policy.burn) == 4
    error_message = "A promise has no objective, or its allowance can burn unseen."
  }
  assert {
    condition     = alltrue([for policy in google_monitoring_alert_policy.burn : policy.combiner == "AND" && length(policy.conditions) == 3 && policy.conditions[2].condition_threshold[0].threshold_value == 4])
    error_message = "A burn alarm opens for a single slow one."
  }
  assert {
    condition     = strcontains(google_logging_metric.filtered["ack_late"].filter, "httpRequest.latency>\"2s\"") && strcontains(google_logging_metric.filtered["ack_late"].filter, "httpRequest.requestMethod=\"POST\"") && strcontains(google_logging_metric.filtered["answer_late"].filter, "jsonPayload.duration_ms>30000")
    error_message = "What is late is not what was promised."
  }
  assert {
    condition     = strcontains(google_logging_metric.filtered["turn_turned_away"].filter, "(401 OR 403 OR 404 OR 429)") && google_logging_metric.filtered["turn_turned_away"].label_extractors["status"] == "EXTRACT(httpRequest.status)"
    error_message = "Tasks that Cloud Run refuses are counted nowhere."
  }
  assert {
    condition     = strcontains(google_monitoring_alert_policy.metric["silence"].conditions[0].condition_prometheus_query_language[0].query, "(hour() >= 4 and hour() < 13)")
    error_message = "Silence is not looked for in opening hours alone, an hour after they begin."
  }
  assert {
    condition     = alltrue([for policy in merge(google_monitoring_alert_policy.metric, google_monitoring_alert_policy.event, google_monitoring_alert_policy.burn) : length(policy.documentation[0].content) > 200])
    error_message = "An alarm does not say what to do."
  }
}

# With invented values for what only an apply knows.
run "apply" {
  assert {
    condition     = google_cloudfunctions2_function.turn.service_config[0].environment_variables["TASKS_SERVICE_ACCOUNT"] == google_service_account.tasks.email && google_cloud_run_v2_service_iam_member.turn_tasks.member == google_service_account.tasks.member
    error_message = "The tasks' identity is not the one that may invoke turn."
  }
  assert {
    condition     = !contains(keys(google_cloudfunctions2_function.turn.service_config[0].environment_variables), "LLM_TOKENS_PER_MINUTE") && google_cloudfunctions2_function.turn.service_config[0].environment_variables["LLM_ATTEMPT_TIMEOUTS_S"] == "8,10,10"
    error_message = "Settings are not passed on as the function reads them."
  }
  assert {
    condition     = toset([for secret in google_cloudfunctions2_function.turn.service_config[0].secret_environment_variables : secret.key]) == toset(["OPENAI_API_KEY", "REDIS_URL"]) && toset([for secret in google_cloudfunctions2_function.webhook.service_config[0].secret_environment_variables : secret.key]) == toset(["REDIS_URL"])
    error_message = "A function gets a secret that it does not use, or lacks one."
  }
  assert {
    condition     = length(setintersection(keys(google_cloudfunctions2_function.webhook.service_config[0].environment_variables), ["REDIS_URL", "OPENAI_API_KEY"])) == 0
    error_message = "A secret stands in the plain environment."
  }
  assert {
    condition     = length(jsondecode(google_monitoring_dashboard.this.dashboard_json).mosaicLayout.tiles) == 23 && strcontains(google_monitoring_dashboard.this.dashboard_json, "[$${__interval}]") && strcontains(google_monitoring_dashboard.this.dashboard_json, "user_fairlane_turn_failed")
    error_message = "The dashboard is not what Cloud Monitoring reads."
  }
  assert {
    condition = alltrue([
      for query in concat([for policy in google_monitoring_alert_policy.metric : policy.conditions[0].condition_prometheus_query_language[0].query], [google_monitoring_dashboard.this.dashboard_json]) :
      length(regexall("(?:logging|run)_googleapis_com:", query)) == length(regexall("(?:logging|run)_googleapis_com:\\w+\\{monitored_resource=[\\\\]?\"cloud_run_revision[\\\\]?\"", query))
    ])
    error_message = "A query does not say of which type of resource it wants a metric that several have."
  }
}

# As `fairlane capacity` writes it when the provider's limits are not known.
run "no_limit_per_minute" {
  command = plan
  variables { llm_requests_per_minute = null }

  assert {
    condition     = google_cloud_tasks_queue.turns.rate_limits[0].max_dispatches_per_second == 15 && !contains(keys(local.environment.turn), "LLM_REQUESTS_PER_MINUTE")
    error_message = "Without a limit per minute the rate does not follow from the slots."
  }
}

# A clinic that is open at night, and somebody who wants no such alarm.
run "hours_over_midnight" {
  command = plan
  variables { opening_hours_utc = { from = 22, to = 6 } }

  assert {
    condition     = strcontains(google_monitoring_alert_policy.metric["silence"].conditions[0].condition_prometheus_query_language[0].query, "(hour() >= 23 or hour() < 6)")
    error_message = "Hours over midnight are not the ones that were given."
  }
}

run "no_hours" {
  command = plan
  variables { opening_hours_utc = null }

  assert {
    condition     = !contains(keys(google_monitoring_alert_policy.metric), "silence") && contains(keys(google_monitoring_alert_policy.metric), "turn_refused")
    error_message = "Without hours there is an alarm for silence, or others are missing."
  }
}

# What "Take it down" in README.md does first.
run "unprotected" {
  command = plan
  variables { deletion_protection = false }

  assert {
    condition     = toset(concat([for field in google_firestore_field.expire_at : field.deletion_policy], [google_firestore_database.this.deletion_policy, google_cloud_tasks_queue.turns.deletion_policy])) == toset(["DELETE"]) && google_firestore_database.this.delete_protection_state == "DELETE_PROTECTION_DISABLED" && !google_redis_instance.this.deletion_protection
    error_message = "The database would be left behind, without what makes it expire."
  }
}
