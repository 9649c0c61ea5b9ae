# Every option set to something else than its default.

mock_provider "google" {
  mock_data "google_project" {
    defaults = { number = "123456789012" }
  }
}
mock_provider "archive" {}

variables {
  project_id            = "my-project"
  region                = "europe-west4"
  openai_secret_id      = "openai-key"
  openai_secret_version = "7"
  name                  = "fairlane-eu"
  deletion_protection   = false
  subnet_cidr           = "10.20.0.0/24"
  firestore_database    = "clinics"
  firestore_location    = "eur3"
  redis_memory_gb       = 5

  webhook_min_instances = 2
  webhook_max_instances = 20
  webhook_concurrency   = 100
  webhook_memory        = "1Gi"
  turn_min_instances    = 3
  turn_max_instances    = 30
  turn_concurrency      = 200
  turn_cpu              = "2"
  turn_memory           = "2Gi"
  turn_timeout_s        = 110

  queue_dispatches_per_s      = 250
  queue_concurrent_dispatches = 3000
  queue_log_sampling          = 1

  alert_emails          = ["oncall@example.com"]
  notification_channels = ["projects/my-project/notificationChannels/123"]
  alert_failed_turns    = 20
  opening_hours_utc     = { from = 6, to = 17 }
  pipeline = {
    state_bucket      = "my-project-tfstate"
    smoke_org         = "our-clinic"
    smoke_destination = "U8e742f61d673b39c7fff3cecb7536ef0"
    repository        = "projects/my-project/locations/europe-west4/connections/github/repositories/fairlane"
    branch            = "^release$"
    approvers         = ["group:leads@example.com"]
  }
  operator = {
    group        = "oncall@example.com"
    zone         = "c"
    machine_type = "e2-medium"
    subnet_cidr  = "10.21.0.0/29"
  }

  secret_prefix     = "eu-"
  line_api_base_url = "https://line.example.com"
  openai_base_url   = "https://llm.example.com/v1"
  llm_providers = [
    { name = "openai" },
    { name = "backup", base_url = "https://backup.example.com/v1", secret_id = "backup-key", secret_version = "3", max_concurrent = 10 },
  ]
  llm_adaptive                = "off"
  line_data_api_base_url      = "https://line-data.example.com"
  transcribe_model            = "another-transcribe"
  chat_max_concurrent         = 300
  chat_max_concurrent_per_org = 20
  llm_requests_per_minute     = 10000
  llm_tokens_per_minute       = 4000000
  llm_attempt_timeouts_s      = [5, 12.5]
  llm_deadline_s              = 25
  llm_backoff_s               = 0.5
  llm_jitter_s                = 0.25
  slot_wait_s                 = 15
  slot_lease_s                = 6
  org_room                    = 40
  patience_s                  = 90
  org_messages_per_minute     = 60
  sender_messages_per_10s     = 8
  session_ttl_s               = 3600
  thb_per_usd                 = 33.5
  budget_timezone             = "Asia/Tokyo"
  log_level                   = "WARNING"
}

run "plan" {
  command = plan

  assert {
    condition     = google_cloud_tasks_queue.turns.rate_limits[0].max_dispatches_per_second == 250 && google_cloud_tasks_queue.turns.rate_limits[0].max_concurrent_dispatches == 3000
    error_message = "The queue's limits cannot be overridden."
  }
  assert {
    condition     = length(google_monitoring_notification_channel.email) == 1
    error_message = "No channel for the e-mail address."
  }
  assert {
    condition     = alltrue([for grant in google_project_iam_member.pipeline : !can(regex("owner|editor$|serviceAccountTokenCreator|serviceAccountUser|IamAdmin|secretAccessor|storage|configWriter", grant.role)) || grant.role == "roles/monitoring.editor"])
    error_message = "The pipeline may grant itself something, act as any account, read any secret or bucket, or send logs elsewhere."
  }
  assert {
    condition     = toset([for grant in google_storage_bucket_iam_member.pipeline_archives : grant.role]) == toset(["roles/storage.objectUser", "roles/storage.legacyBucketReader"]) && google_storage_bucket_iam_member.pipeline_source["this"].role == "roles/storage.objectViewer" && google_storage_bucket.source["this"].name == "my-project-fairlane-eu-source"
    error_message = "The pipeline may say who reads a bucket, or its source lies elsewhere than in its own."
  }
  assert {
    condition     = alltrue([for permission in google_project_iam_custom_role.pipeline["this"].permissions : startswith(permission, "logging.logMetrics.")])
    error_message = "The pipeline may change more of Cloud Logging than metrics."
  }
  assert {
    condition     = google_cloudbuild_trigger.deploy[0].approval_config[0].approval_required && google_cloudbuild_trigger.deploy[0].repository_event_config[0].push[0].branch == "^release$" && toset(keys(google_project_iam_member.pipeline_approver)) == toset(["group:leads@example.com"])
    error_message = "A push deploys without an approval, or nobody can give one."
  }
  assert {
    condition     = google_cloudbuild_trigger.deploy[0].substitutions == tomap({ _APPLY = "true", _NAME = "fairlane-eu", _STATE_BUCKET = "my-project-tfstate", _SMOKE_ORG = "our-clinic", _SMOKE_DESTINATION = "U8e742f61d673b39c7fff3cecb7536ef0" })
    error_message = "The trigger builds with other values than by hand."
  }
  assert {
    condition     = google_project_iam_member.pipeline_smoke[0].condition[0].expression == "resource.name.startsWith(\"projects/123456789012/secrets/eu-line-our-clinic/\")"
    error_message = "The smoke check reads more than one clinic's secret."
  }
}

run "apply" {
  assert {
    condition = {
      for name in ["CHAT_MAX_CONCURRENT", "LLM_ATTEMPT_TIMEOUTS_S", "LLM_TOKENS_PER_MINUTE", "OPENAI_BASE_URL", "THB_PER_USD", "BUDGET_TIMEZONE"] :
      name => google_cloudfunctions2_function.turn.service_config[0].environment_variables[name]
      } == {
      CHAT_MAX_CONCURRENT    = "300"
      LLM_ATTEMPT_TIMEOUTS_S = "5,12.5"
      LLM_TOKENS_PER_MINUTE  = "4000000"
      OPENAI_BASE_URL        = "https://llm.example.com/v1"
      THB_PER_USD            = "33.5"
      BUDGET_TIMEZONE        = "Asia/Tokyo"
    }
    error_message = "A setting does not arrive in turn's environment."
  }
  assert {
    condition     = google_cloudfunctions2_function.webhook.service_config[0].environment_variables["SENDER_MESSAGES_PER_10S"] == "8"
    error_message = "A setting does not arrive in webhook's environment."
  }
  assert {
    condition     = contains([for secret in google_cloudfunctions2_function.turn.service_config[0].secret_environment_variables : "${secret.key} ${secret.secret} ${secret.version}"], "OPENAI_API_KEY openai-key 7")
    error_message = "The OpenAI key's version is not the one that was asked for."
  }
  assert {
    condition     = contains([for secret in google_cloudfunctions2_function.turn.service_config[0].secret_environment_variables : "${secret.key} ${secret.secret} ${secret.version}"], "LLM_KEY_BACKUP backup-key 3")
    error_message = "The second provider's key does not arrive."
  }
  assert {
    condition     = google_cloudfunctions2_function.turn.service_config[0].environment_variables["LLM_PROVIDERS"] == jsonencode([{ name = "openai" }, { api_key_env = "LLM_KEY_BACKUP", base_url = "https://backup.example.com/v1", max_concurrent = 10, name = "backup" }])
    error_message = "The functions do not read the providers as they were written."
  }
  assert {
    condition = alltrue([
      for line in ["CHAT_MAX_CONCURRENT='300'", "SENDER_MESSAGES_PER_10S='8'", "BUDGET_TIMEZONE='Asia/Tokyo'", "LINE_API_BASE_URL='https://line.example.com'", "FIRESTORE_DATABASE='clinics'", "SECRET_PREFIX='eu-'"] :
      strcontains(output.operator_environment, "export ${line}\n")
    ])
    error_message = "Operator commands would judge by other settings than the functions'."
  }
  assert {
    condition     = length(regexall("(?m)^(?:export [A-Z0-9_]+='.*')?$", output.operator_environment)) == length(split("\n", output.operator_environment)) && !can(regex("REDIS|OPENAI_API_KEY", output.operator_environment))
    error_message = "The operator's environment is not a list of exports, or has a secret in it."
  }
}
