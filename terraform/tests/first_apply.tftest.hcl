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
    condition     = alltrue([for grant in google_project_iam_member.clinic_secrets : grant.condition[0].expression == "resource.name.startsWith(\"projects/123456789012/secrets/line-\")"])
    error_message = "The functions read more secrets than the clinics'."
  }
  assert {
    condition     = toset(keys(google_project_iam_member.clinic_secrets)) == toset(["turn", "webhook"]) && alltrue([for grant in google_project_iam_member.firestore : grant.role == "roles/datastore.user"])
    error_message = "Somebody else may read secrets, or documents are open wider than roles/datastore.user."
  }
  assert {
    condition     = length(google_service_account.pipeline) == 0 && length(google_project_iam_member.pipeline) == 0
    error_message = "A pipeline's account was made that nobody asked for."
  }
  assert {
    condition     = alltrue([for policy in merge(google_monitoring_alert_policy.metric, google_monitoring_alert_policy.event) : length(policy.documentation[0].content) > 200])
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
    condition     = length(jsondecode(google_monitoring_dashboard.this.dashboard_json).mosaicLayout.tiles) == 18 && strcontains(google_monitoring_dashboard.this.dashboard_json, "[$${__interval}]") && strcontains(google_monitoring_dashboard.this.dashboard_json, "user_fairlane_turn_failed")
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
