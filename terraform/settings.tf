# The functions' environment, by who reads it: the same table as core/domain/settings.py, which a test compares.
# Variables of Terraform carry the same names in lower case (variables_settings.tf).
locals {
  settings_both = {
    GOOGLE_CLOUD_PROJECT   = var.project_id
    DOCUMENT_STORE         = "firestore"
    FIRESTORE_DATABASE     = google_firestore_database.this.name
    REDIS_CA_CERT          = local.redis_ca_cert
    SECRET_STORE           = "secretmanager"
    SECRET_PREFIX          = local.secret_prefix == "" ? null : local.secret_prefix
    LINE_API_BASE_URL      = var.line_api_base_url
    TASKS_QUEUE            = google_cloud_tasks_queue.turns.id
    TASKS_DISPATCHES_PER_S = tostring(ceil(local.dispatches_per_s))
    TURN_URL               = local.turn_url
    TASKS_SERVICE_ACCOUNT  = google_service_account.tasks.email
    SLOT_WAIT_S            = tostring(var.slot_wait_s)
    PATIENCE_S             = tostring(var.patience_s)
    LOG_LEVEL              = var.log_level
  }

  settings_webhook = {
    ORG_MESSAGES_PER_MINUTE = var.org_messages_per_minute
    SENDER_MESSAGES_PER_10S = var.sender_messages_per_10s
  }

  settings_turn = {
    LINE_DATA_API_BASE_URL      = var.line_data_api_base_url
    OPENAI_BASE_URL             = var.openai_base_url
    TRANSCRIBE_MODEL            = var.transcribe_model
    CHAT_MAX_CONCURRENT         = var.chat_max_concurrent
    CHAT_MAX_CONCURRENT_PER_ORG = var.chat_max_concurrent_per_org
    LLM_REQUESTS_PER_MINUTE     = var.llm_requests_per_minute
    LLM_TOKENS_PER_MINUTE       = var.llm_tokens_per_minute
    LLM_PROVIDERS               = local.providers_json
    LLM_ADAPTIVE                = var.llm_adaptive
    LLM_ATTEMPT_TIMEOUTS_S      = join(",", var.llm_attempt_timeouts_s)
    LLM_DEADLINE_S              = var.llm_deadline_s
    LLM_BACKOFF_S               = var.llm_backoff_s
    LLM_JITTER_S                = var.llm_jitter_s
    SLOT_LEASE_S                = var.slot_lease_s
    ORG_ROOM                    = var.org_room
    SESSION_TTL_S               = var.session_ttl_s
    THB_PER_USD                 = var.thb_per_usd
    BUDGET_TIMEZONE             = var.budget_timezone
  }

  # As references: the function's configuration holds their names, Cloud Run reads the values.
  secrets_both = {
    REDIS_URL = {
      secret  = google_secret_manager_secret.redis_url.secret_id
      version = google_secret_manager_secret_version.redis_url.version
    }
  }
  secrets_turn = {
    OPENAI_API_KEY = {
      secret  = var.openai_secret_id
      version = var.openai_secret_version
    }
  }

  # A provider's key is in a variable of its name: backup's in LLM_KEY_BACKUP.
  provider_keys = { for each in coalesce(var.llm_providers, []) : "LLM_KEY_${upper(replace(each.name, "-", "_"))}" => each if each.secret_id != null }
  providers_json = var.llm_providers == null ? null : jsonencode([
    for each in var.llm_providers : {
      for field, value in {
        name                = each.name
        base_url            = each.base_url
        api_key_env         = each.secret_id == null ? null : "LLM_KEY_${upper(replace(each.name, "-", "_"))}"
        max_concurrent      = each.max_concurrent
        requests_per_minute = each.requests_per_minute
        tokens_per_minute   = each.tokens_per_minute
      } : field => value if value != null
    }
  ])
  secrets_providers = {
    for name, each in local.provider_keys : name => { secret = each.secret_id, version = each.secret_version }
  }

  # What is null is not set, and the function's own default holds.
  environment = {
    webhook = { for k, v in merge(local.settings_both, local.settings_webhook) : k => tostring(v) if v != null }
    turn    = { for k, v in merge(local.settings_both, local.settings_turn) : k => tostring(v) if v != null }
  }
  secret_environment = {
    webhook = local.secrets_both
    turn    = merge(local.secrets_both, local.secrets_turn, local.secrets_providers)
  }
  # The same for the operator commands, as a shell reads it. Redis' certificate goes with its URL, a secret.
  operator_environment = join("", [
    for name, value in merge(local.environment.webhook, local.environment.turn) :
    "export ${name}='${replace(value, "'", "'\\''")}'\n" if name != "REDIS_CA_CERT"
  ])
}
