# What must not get in is refused, with the variable's name.

mock_provider "google" {
  mock_data "google_project" {
    defaults = { number = "123456789012" }
  }
}
mock_provider "archive" {}

variables {
  project_id       = "my-project"
  region           = "asia-southeast1"
  openai_secret_id = "openai-api-key"
}

run "bad_values" {
  command = plan
  variables {
    project_id                  = "My Project"
    region                      = "Bangkok"
    openai_secret_id            = "projects/p/secrets/key"
    openai_secret_version       = "newest"
    subnet_cidr                 = "10.8.0.0/28"
    webhook_min_instances       = 0
    turn_cpu                    = "0.5"
    queue_dispatches_per_s      = 501
    notification_channels       = ["oncall@example.com"]
    chat_max_concurrent_per_org = 16
    budget_timezone             = "bangkok"
    log_level                   = "TRACE"
    secret_prefix               = "line-"
    firestore_database          = "db"
    opening_hours_utc           = { from = 5, to = 5 }
    operator                    = { group = "group:oncall@example.com" }
    llm_providers               = [{ name = "openai" }, { name = "backup" }]
    llm_adaptive                = "maybe"
  }
  expect_failures = [
    var.project_id, var.region, var.openai_secret_id, var.openai_secret_version, var.subnet_cidr,
    var.webhook_min_instances, var.turn_cpu, var.queue_dispatches_per_s, var.notification_channels,
    var.chat_max_concurrent_per_org, var.budget_timezone, var.log_level, var.secret_prefix,
    var.firestore_database, var.opening_hours_utc, var.operator,
    var.llm_providers, var.llm_adaptive,
  ]
}

run "a_clinics_secret_is_not_the_openai_key" {
  command = plan
  variables { openai_secret_id = "line-bkk-smile" }
  expect_failures = [var.openai_secret_id]
}

run "more_slots_than_dispatches" {
  command = plan
  variables {
    chat_max_concurrent = 500
    turn_max_instances  = 4
    turn_concurrency    = 80
  }
  expect_failures = [google_cloud_tasks_queue.turns]
}

run "more_dispatches_than_instances_take" {
  command = plan
  variables { queue_concurrent_dispatches = 1000 }
  expect_failures = [google_cloud_tasks_queue.turns]
}

run "a_dispatch_shorter_than_a_turn" {
  command = plan
  variables {
    turn_timeout_s = 60
  }
  expect_failures = [google_cloudfunctions2_function.turn]
}

# Its clinics' secrets would begin like those of the deployment named eu.
run "a_name_that_makes_secrets_look_like_another_deployments" {
  command = plan
  variables { name = "eu-line-two" }
  expect_failures = [var.name]
}

run "more_instances_than_addresses" {
  command = plan
  variables {
    subnet_cidr           = "10.8.0.0/26"
    webhook_max_instances = 12
  }
  expect_failures = [google_compute_subnetwork.functions]
}

run "a_trigger_that_nobody_may_approve" {
  command = plan
  variables {
    pipeline = { state_bucket = "my-project-tfstate", repository = "projects/p/locations/l/connections/c/repositories/r" }
  }
  expect_failures = [var.pipeline]
}

run "a_repository_that_is_no_connected_one" {
  command = plan
  variables {
    pipeline = { state_bucket = "my-project-tfstate", repository = "github.com/example/fairlane", approvers = ["user:nok@example.com"] }
  }
  expect_failures = [var.pipeline]
}

run "approvers_without_their_kind" {
  command = plan
  variables { pipeline = { state_bucket = "my-project-tfstate", approvers = ["nok@example.com"] } }
  expect_failures = [var.pipeline]
}

run "an_operators_subnet_too_small" {
  command = plan
  variables { operator = { group = "oncall@example.com", subnet_cidr = "10.9.0.0/30" } }
  expect_failures = [var.operator]
}
