# What is deployed, and how big. The functions' own settings are in variables_settings.tf.

# Required

variable "project_id" {
  description = "The Google Cloud project, by its id."
  type        = string
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project_id))
    error_message = "Expected a project id: 6 to 30 lower-case letters, digits and hyphens, starting with a letter."
  }
}

variable "region" {
  description = "Where everything runs, such as asia-southeast1 (Singapore), near LINE's servers and the clinics."
  type        = string
  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+$", var.region))
    error_message = "Expected a region such as asia-southeast1."
  }
}

variable "openai_secret_id" {
  description = "Name of the Secret Manager secret with the OpenAI key. It must exist, with a version, before the first apply: Terraform never sees the key."
  type        = string
  validation {
    condition     = can(regex("^[A-Za-z0-9_-]{1,255}$", var.openai_secret_id)) && !startswith(var.openai_secret_id, "line-")
    error_message = "Expected a secret's name, without a path, and not one of the clinics' (line-…)."
  }
}

# The deployment

variable "name" {
  description = "Prefix of all names. Any other than fairlane also names the database and begins the clinics' secrets, so that deployments that share a project do not read each other's."
  type        = string
  default     = "fairlane"
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{2,18}[a-z0-9]$", var.name)) && !strcontains("-${var.name}-", "-line-")
    error_message = "name: expected 4 to 20 lower-case letters, digits and hyphens, starting with a letter, without the word line, by which clinics' secrets are known."
  }
}

variable "openai_secret_version" {
  description = "Version of the OpenAI key: a number, or latest. A number makes rotation and roll-back a plain apply; latest is read when an instance starts."
  type        = string
  default     = "latest"
  validation {
    condition     = can(regex("^(latest|[1-9][0-9]*)$", var.openai_secret_version))
    error_message = "Expected latest or a version number."
  }
}

variable "deletion_protection" {
  description = "Refuse to delete Redis, the document store, its retention and the queue. Turn off, apply, then destroy, to take a deployment down."
  type        = bool
  default     = true
  nullable    = false
}

variable "subnet_cidr" {
  description = "Address range of the functions' subnet; Direct VPC egress needs a /26 or larger, and four addresses for each instance that there may be."
  type        = string
  default     = "10.8.0.0/24"
  validation {
    condition     = can(cidrhost(var.subnet_cidr, 0)) && try(tonumber(split("/", var.subnet_cidr)[1]) <= 26, false)
    error_message = "Expected a range such as 10.8.0.0/24, /26 or larger."
  }
}

variable "firestore_database" {
  description = "Name of the Firestore database: (default), or 4 to 63 lower-case letters, digits and hyphens. null: (default) for the deployment named fairlane, its name for any other."
  type        = string
  default     = null
  validation {
    condition     = var.firestore_database == null || can(regex("^(\\(default\\)|[a-z][a-z0-9-]{2,61}[a-z0-9])$", var.firestore_database))
    error_message = "firestore_database: expected (default), or 4 to 63 lower-case letters, digits and hyphens."
  }
}

variable "firestore_location" {
  description = "Firestore's location, if not the region; it cannot be changed later."
  type        = string
  default     = null
  validation {
    condition     = var.firestore_location == null || can(regex("^([a-z]+-[a-z]+[0-9]+|nam5|eur3)$", var.firestore_location))
    error_message = "Expected a region such as asia-southeast1, or nam5 or eur3."
  }
}

variable "redis_memory_gb" {
  description = "Memory of the Redis instance; 1 GB is ample for 500 clinics."
  type        = number
  default     = 1
  validation {
    condition     = var.redis_memory_gb >= 1 && var.redis_memory_gb <= 300 && floor(var.redis_memory_gb) == var.redis_memory_gb
    error_message = "Expected a whole number of GB from 1 to 300."
  }
}

# The functions' instances

variable "webhook_min_instances" {
  description = "Instances of webhook that are always warm: LINE waits 2 s, a cold start takes longer."
  type        = number
  default     = 1
  validation {
    condition     = var.webhook_min_instances >= 1 && var.webhook_min_instances <= 1000
    error_message = "Expected 1 to 1000."
  }
}

variable "webhook_max_instances" {
  description = "Most instances of webhook."
  type        = number
  default     = 10
  validation {
    condition     = var.webhook_max_instances >= var.webhook_min_instances && var.webhook_max_instances <= 1000
    error_message = "Expected webhook_min_instances to 1000."
  }
}

variable "webhook_concurrency" {
  description = "Requests that one instance of webhook handles at once."
  type        = number
  default     = 80
  validation {
    condition     = var.webhook_concurrency >= 1 && var.webhook_concurrency <= 1000
    error_message = "Expected 1 to 1000."
  }
}

variable "webhook_memory" {
  description = "Memory of an instance of webhook."
  type        = string
  default     = "512Mi"
  validation {
    condition     = can(regex("^[0-9]+(Mi|Gi)$", var.webhook_memory))
    error_message = "Expected a size such as 512Mi or 1Gi."
  }
}

variable "turn_min_instances" {
  description = "Instances of turn that are always warm."
  type        = number
  default     = 1
  validation {
    condition     = var.turn_min_instances >= 1 && var.turn_min_instances <= 1000
    error_message = "Expected 1 to 1000."
  }
}

variable "turn_max_instances" {
  description = "Most instances of turn. With turn_concurrency it bounds the dispatches in flight, not the provider's load: the slots do that."
  type        = number
  default     = 4
  validation {
    condition     = var.turn_max_instances >= var.turn_min_instances && var.turn_max_instances <= 1000
    error_message = "Expected turn_min_instances to 1000."
  }
}

variable "turn_concurrency" {
  description = "Turns that one instance handles at once; most of them wait for the model or for a slot."
  type        = number
  default     = 80
  validation {
    condition     = var.turn_concurrency >= 1 && var.turn_concurrency <= 1000
    error_message = "Expected 1 to 1000."
  }
}

variable "turn_cpu" {
  description = "CPUs of an instance of turn; concurrency needs at least one."
  type        = string
  default     = "1"
  validation {
    condition     = contains(["1", "2", "4", "8"], var.turn_cpu)
    error_message = "Expected 1, 2, 4 or 8."
  }
}

variable "turn_memory" {
  description = "Memory of an instance of turn."
  type        = string
  default     = "1Gi"
  validation {
    condition     = can(regex("^[0-9]+(Mi|Gi)$", var.turn_memory))
    error_message = "Expected a size such as 512Mi or 1Gi."
  }
}

variable "turn_timeout_s" {
  description = "Time limit of one dispatch: a leader goes on with what its customer wrote meanwhile, so it is longer than a turn. Not beyond 120, after which Cloud Tasks sends the task again."
  type        = number
  default     = 120
  validation {
    condition     = var.turn_timeout_s >= 60 && var.turn_timeout_s <= 120
    error_message = "Expected 60 to 120 seconds."
  }
}

# The queue

variable "queue_dispatches_per_s" {
  description = "Dispatch rate, if not the one derived from the provider's limit (queue.tf)."
  type        = number
  default     = null
  validation {
    condition     = var.queue_dispatches_per_s == null || try(var.queue_dispatches_per_s > 0 && var.queue_dispatches_per_s <= 500, false)
    error_message = "Expected more than 0, up to 500 a second."
  }
}

variable "queue_concurrent_dispatches" {
  description = "Dispatches at once, if not the number derived from slots and instances (queue.tf)."
  type        = number
  default     = null
  validation {
    condition     = var.queue_concurrent_dispatches == null || try(var.queue_concurrent_dispatches >= 1 && var.queue_concurrent_dispatches <= 5000, false)
    error_message = "Expected 1 to 5000."
  }
}

variable "queue_log_sampling" {
  description = "Share of the queue's operations that Cloud Logging gets."
  type        = number
  default     = 0.1
  validation {
    condition     = var.queue_log_sampling >= 0 && var.queue_log_sampling <= 1
    error_message = "Expected 0 to 1."
  }
}

# Alarms

variable "alert_emails" {
  description = "E-mail addresses that get the alarms; a notification channel is made for each."
  type        = set(string)
  default     = []
  validation {
    condition     = alltrue([for address in var.alert_emails : can(regex("^[^@ ]+@[^@ ]+$", address))])
    error_message = "Expected e-mail addresses."
  }
}

variable "notification_channels" {
  description = "Existing notification channels that get the alarms (chat, pager): projects/P/notificationChannels/N."
  type        = set(string)
  default     = []
  validation {
    condition     = alltrue([for channel in var.notification_channels : can(regex("^projects/[^/]+/notificationChannels/[0-9]+$", channel))])
    error_message = "Expected projects/P/notificationChannels/N."
  }
}

variable "alert_failed_turns" {
  description = "Failed turns in 10 minutes that raise an alarm; a few are the customers of one bad minute at the provider."
  type        = number
  default     = 5
  validation {
    condition     = var.alert_failed_turns >= 1
    error_message = "Expected 1 or more."
  }
}

variable "opening_hours_utc" {
  description = "Hours of the day, UTC, in which some clinic is always open: an hour of them without any webhook is an alarm. Default: 10:00 to 20:00 in Bangkok. null: no such alarm."
  type        = object({ from = number, to = number })
  default     = { from = 3, to = 13 }
  validation {
    condition     = var.opening_hours_utc == null || try(alltrue([for hour in [var.opening_hours_utc.from, var.opening_hours_utc.to] : hour >= 0 && hour <= 24 && floor(hour) == hour]) && var.opening_hours_utc.from != var.opening_hours_utc.to, false)
    error_message = "opening_hours_utc: expected two different whole hours from 0 to 24."
  }
}

# The pipeline

variable "pipeline" {
  description = "Makes the account that cloudbuild.yaml runs as. state_bucket: where Terraform's state is. smoke_org, smoke_destination: the clinic whose LINE secret signs the smoke check's empty webhook, and its bot_user_id. repository: makes a trigger on pushes to branch (a regular expression) of that connected repository; each waits for one of the approvers (group:… or user:…)."
  type = object({
    state_bucket      = string
    smoke_org         = optional(string)
    smoke_destination = optional(string)
    repository        = optional(string)
    branch            = optional(string, "^main$")
    approvers         = optional(set(string), [])
  })
  default = null
  validation {
    condition     = var.pipeline == null || can(regex("^[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]$", var.pipeline.state_bucket))
    error_message = "Expected state_bucket to be a bucket's name, without gs://."
  }
  validation {
    condition     = try(var.pipeline.smoke_org, null) == null || can(regex("^[a-z0-9-]{1,40}$", var.pipeline.smoke_org))
    error_message = "Expected smoke_org to be a clinic's org_id."
  }
  validation {
    condition     = try(var.pipeline.repository, null) == null || can(regex("^projects/[^/]+/locations/[^/]+/connections/[^/]+/repositories/[^/]+$", var.pipeline.repository))
    error_message = "Expected pipeline.repository to be one that is connected to Cloud Build: projects/P/locations/L/connections/C/repositories/R."
  }
  validation {
    condition     = try(var.pipeline.repository, null) == null || length(try(var.pipeline.approvers, [])) > 0
    error_message = "pipeline.repository needs pipeline.approvers: nobody could let a deployment begin."
  }
  validation {
    condition     = alltrue([for member in try(var.pipeline.approvers, []) : can(regex("^(group|user):[^@ ]+@[^@ ]+$", member))])
    error_message = "Expected pipeline.approvers such as group:oncall@example.com or user:nok@example.com."
  }
}

# The operators

variable "operator" {
  description = "Gives a Google group what the fairlane command and the runbook need, and makes a machine inside the network for the commands that reach Redis. zone: a letter of the region's. subnet_cidr: the machine's own addresses."
  type = object({
    group        = string
    zone         = optional(string, "b")
    machine_type = optional(string, "e2-small")
    subnet_cidr  = optional(string, "10.9.0.0/28")
  })
  default = null
  validation {
    condition     = var.operator == null || can(regex("^[^@: ]+@[^@: ]+$", var.operator.group))
    error_message = "Expected operator.group to be a Google group's address, such as oncall@example.com."
  }
  validation {
    condition     = var.operator == null || can(regex("^[a-f]$", var.operator.zone))
    error_message = "Expected operator.zone to be the letter of a zone, such as b."
  }
  validation {
    condition     = var.operator == null || try(can(cidrhost(var.operator.subnet_cidr, 0)) && tonumber(split("/", var.operator.subnet_cidr)[1]) <= 29, false)
    error_message = "Expected operator.subnet_cidr to be a range such as 10.9.0.0/28, /29 or larger, outside of subnet_cidr."
  }
}
