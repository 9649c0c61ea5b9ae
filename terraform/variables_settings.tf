# The functions' settings: each variable is the environment variable of the same name in upper case (settings.tf).
# Defaults and limits are those of core/domain/settings.py.

variable "secret_prefix" {
  description = "Begins the names of the clinics' secrets ({prefix}line-{org_id}). null: none for the deployment named fairlane, NAME- for any other, so that several in a project do not read each other's."
  type        = string
  default     = null
  validation {
    condition     = var.secret_prefix == null || try(var.secret_prefix == "" || can(regex("^[a-z][a-z0-9-]*-$", var.secret_prefix)) && !strcontains("-${var.secret_prefix}", "-line-"), false)
    error_message = "secret_prefix: expected lower-case letters, digits and hyphens that end with a hyphen, without -line-."
  }
}

variable "line_api_base_url" {
  description = "LINE's API."
  type        = string
  default     = "https://api.line.me"
  nullable    = false
  validation {
    condition     = can(regex("^https://[^ ]+$", var.line_api_base_url))
    error_message = "Expected an https URL."
  }
}

variable "line_data_api_base_url" {
  description = "LINE's data API, if not https://api-data.line.me: what customers send besides words is fetched from it."
  type        = string
  default     = null
  validation {
    condition     = var.line_data_api_base_url == null || can(regex("^https://[^ ]+$", var.line_data_api_base_url))
    error_message = "Expected an https URL."
  }
}

variable "openai_base_url" {
  description = "Another OpenAI-compatible endpoint, if not OpenAI's own."
  type        = string
  default     = null
  validation {
    condition     = var.openai_base_url == null || can(regex("^https://[^ ]+$", var.openai_base_url))
    error_message = "Expected an https URL."
  }
}

variable "transcribe_model" {
  description = "Writes voice messages down; needs a price (core/domain/prices.toml, or ai_model_prices/{model})."
  type        = string
  default     = "gpt-transcribe"
  nullable    = false
  validation {
    condition     = can(regex("^[A-Za-z0-9._:/-]+$", var.transcribe_model))
    error_message = "Expected a model's name such as gpt-transcribe."
  }
}

variable "chat_max_concurrent" {
  description = "Slots: calls at the LLM provider at once, over all instances. `fairlane slots set` overrides it at run time."
  type        = number
  default     = 15
  nullable    = false
  validation {
    condition     = var.chat_max_concurrent >= 1 && var.chat_max_concurrent <= 100000 && floor(var.chat_max_concurrent) == var.chat_max_concurrent
    error_message = "Expected a whole number from 1 to 100000."
  }
}

variable "chat_max_concurrent_per_org" {
  description = "Slots that one clinic may hold."
  type        = number
  default     = 5
  nullable    = false
  validation {
    condition     = var.chat_max_concurrent_per_org >= 1 && var.chat_max_concurrent_per_org <= var.chat_max_concurrent && floor(var.chat_max_concurrent_per_org) == var.chat_max_concurrent_per_org
    error_message = "Expected a whole number from 1 to chat_max_concurrent."
  }
}

variable "llm_requests_per_minute" {
  description = "The provider's limit of requests, enforced with the slots; the queue's dispatch rate is derived from it. The default is OpenAI's lowest paid tier; null: none."
  type        = number
  default     = 500
  validation {
    condition     = var.llm_requests_per_minute == null || try(var.llm_requests_per_minute >= 1 && var.llm_requests_per_minute <= 10000000 && floor(var.llm_requests_per_minute) == var.llm_requests_per_minute, false)
    error_message = "Expected null or a whole number from 1 to 10000000."
  }
}

variable "llm_tokens_per_minute" {
  description = "The provider's limit of tokens, enforced with the slots; null: none."
  type        = number
  default     = null
  validation {
    condition     = var.llm_tokens_per_minute == null || try(var.llm_tokens_per_minute >= 1 && var.llm_tokens_per_minute <= 10000000 && floor(var.llm_tokens_per_minute) == var.llm_tokens_per_minute, false)
    error_message = "Expected null or a whole number from 1 to 10000000."
  }
}

variable "llm_providers" {
  description = "The LLM providers, if there is more than OpenAI; the first takes what it lacks from the variables above. Each but the first needs secret_id, the Secret Manager secret with its key, which must exist with a version: Terraform never sees the key. A clinic's models name it: backup/MODEL."
  type = list(object({
    name                = string
    base_url            = optional(string)
    secret_id           = optional(string)
    secret_version      = optional(string, "latest")
    max_concurrent      = optional(number)
    requests_per_minute = optional(number)
    tokens_per_minute   = optional(number)
  }))
  default = null
  validation {
    condition     = var.llm_providers == null || try(length(var.llm_providers) >= 1 && length(distinct(var.llm_providers[*].name)) == length(var.llm_providers) && alltrue([for i, each in var.llm_providers : can(regex("^[a-z0-9][a-z0-9-]{0,39}$", each.name)) && (each.base_url == null || can(regex("^https://[^ ]+$", each.base_url))) && (i == 0 || each.secret_id != null) && (each.secret_id == null || can(regex("^[A-Za-z0-9_-]{1,255}$", each.secret_id)) && !startswith(coalesce(each.secret_id, "none"), "line-"))]), false)
    error_message = "llm_providers: expected names of small letters, digits and hyphens, each once, https URLs, and for each but the first a secret_id that is not one of the clinics' (line-…)."
  }
}

variable "llm_adaptive" {
  description = "on: below its slots, a provider gets as many calls at once as it takes, found by what it refuses and how long calls take. off: always as many as there are slots."
  type        = string
  default     = "on"
  nullable    = false
  validation {
    condition     = contains(["on", "off"], var.llm_adaptive)
    error_message = "Expected on or off."
  }
}

variable "llm_attempt_timeouts_s" {
  description = "Time limit of each attempt, in seconds: one number an attempt."
  type        = list(number)
  default     = [8, 10, 10]
  nullable    = false
  validation {
    condition     = length(var.llm_attempt_timeouts_s) >= 1 && alltrue([for limit in var.llm_attempt_timeouts_s : limit >= 0.05 && limit <= 600])
    error_message = "Expected one number of seconds for each attempt."
  }
}

variable "llm_deadline_s" {
  description = "All attempts and backoffs of a turn, in seconds."
  type        = number
  default     = 29
  nullable    = false
  validation {
    condition     = var.llm_deadline_s >= 0.1 && var.llm_deadline_s <= 600
    error_message = "Expected 0.1 to 600 seconds."
  }
}

variable "llm_backoff_s" {
  description = "First backoff, in seconds; it doubles."
  type        = number
  default     = 1
  nullable    = false
  validation {
    condition     = var.llm_backoff_s >= 0 && var.llm_backoff_s <= 60
    error_message = "Expected 0 to 60 seconds."
  }
}

variable "llm_jitter_s" {
  description = "Random time added to a backoff, in seconds."
  type        = number
  default     = 0.5
  nullable    = false
  validation {
    condition     = var.llm_jitter_s >= 0 && var.llm_jitter_s <= 60
    error_message = "Expected 0 to 60 seconds."
  }
}

variable "slot_wait_s" {
  description = "Longest wait for a slot in one go, in seconds; then the turn is put back on the queue."
  type        = number
  default     = 20
  nullable    = false
  validation {
    condition     = var.slot_wait_s >= 0.1 && var.slot_wait_s <= 600
    error_message = "Expected 0.1 to 600 seconds."
  }
}

variable "slot_lease_s" {
  description = "Lease of slots and conversations, in seconds: what a crashed instance costs them."
  type        = number
  default     = 10
  nullable    = false
  validation {
    condition     = var.slot_lease_s >= 0.5 && var.slot_lease_s <= 600
    error_message = "Expected 0.5 to 600 seconds."
  }
}

variable "org_room" {
  description = "Turns of one clinic that may wait for a slot; the next is put back."
  type        = number
  default     = 20
  nullable    = false
  validation {
    condition     = var.org_room >= 1 && var.org_room <= 100000 && floor(var.org_room) == var.org_room
    error_message = "Expected a whole number from 1 to 100000."
  }
}

variable "patience_s" {
  description = "Age of a message, in seconds, past which its customer gets the busy message instead."
  type        = number
  default     = 120
  nullable    = false
  validation {
    condition     = var.patience_s >= 1 && var.patience_s <= 86400
    error_message = "Expected 1 to 86400 seconds."
  }
}

variable "org_messages_per_minute" {
  description = "A clinic's rate; what exceeds it waits."
  type        = number
  default     = 30
  nullable    = false
  validation {
    condition     = var.org_messages_per_minute >= 1 && var.org_messages_per_minute <= 60000 && floor(var.org_messages_per_minute) == var.org_messages_per_minute
    error_message = "Expected a whole number from 1 to 60000."
  }
}

variable "sender_messages_per_10s" {
  description = "A customer's rate; what exceeds it waits."
  type        = number
  default     = 5
  nullable    = false
  validation {
    condition     = var.sender_messages_per_10s >= 1 && var.sender_messages_per_10s <= 60000 && floor(var.sender_messages_per_10s) == var.sender_messages_per_10s
    error_message = "Expected a whole number from 1 to 60000."
  }
}

variable "session_ttl_s" {
  description = "How long a conversation is remembered, in seconds."
  type        = number
  default     = 1800
  nullable    = false
  validation {
    condition     = var.session_ttl_s >= 1 && var.session_ttl_s <= 2592000 && floor(var.session_ttl_s) == var.session_ttl_s
    error_message = "Expected a whole number from 1 to 2592000."
  }
}

variable "thb_per_usd" {
  description = "Exchange rate of the price list, recorded with every charge."
  type        = number
  default     = 36
  nullable    = false
  validation {
    condition     = var.thb_per_usd > 0
    error_message = "Expected a positive number."
  }
}

variable "budget_timezone" {
  description = "Where a budget's day begins and ends."
  type        = string
  default     = "Asia/Bangkok"
  nullable    = false
  validation {
    condition     = can(regex("^[A-Z][A-Za-z_]+(/[A-Za-z_+-]+)*$", var.budget_timezone))
    error_message = "Expected a time zone such as Asia/Bangkok."
  }
}

variable "log_level" {
  description = "INFO in production: DEBUG may log customers' words, and above INFO the metrics and most alarms see nothing."
  type        = string
  default     = "INFO"
  nullable    = false
  validation {
    condition     = contains(["DEBUG", "INFO", "WARNING", "ERROR"], var.log_level)
    error_message = "Expected DEBUG, INFO, WARNING or ERROR."
  }
}
