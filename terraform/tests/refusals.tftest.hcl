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
  }
  expect_failures = [
    var.project_id, var.region, var.openai_secret_id, var.openai_secret_version, var.subnet_cidr,
    var.webhook_min_instances, var.turn_cpu, var.queue_dispatches_per_s, var.notification_channels,
    var.chat_max_concurrent_per_org, var.budget_timezone, var.log_level,
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
