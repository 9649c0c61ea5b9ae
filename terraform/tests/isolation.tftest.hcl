# A second deployment in a project reaches nothing of the first.

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

run "staging" {
  command = plan
  variables { name = "staging" }

  assert {
    condition     = google_firestore_database.this.name == "staging" && local.settings_both.FIRESTORE_DATABASE == "staging"
    error_message = "A second deployment shares the first one's database."
  }
  assert {
    condition     = alltrue([for grant in google_project_iam_member.firestore : grant.condition[0].expression == "resource.name == \"projects/my-project/databases/staging\""])
    error_message = "A second deployment reads the first one's documents."
  }
  assert {
    condition     = local.settings_both.SECRET_PREFIX == "staging-" && output.secret_prefix == "staging-"
    error_message = "A second deployment's clinics have the first one's secrets."
  }
  assert {
    condition     = alltrue([for grant in google_project_iam_member.clinic_secrets : grant.condition[0].expression == "resource.name.startsWith(\"projects/123456789012/secrets/staging-line-\")"])
    error_message = "A second deployment reads the first one's secrets."
  }
  assert {
    condition     = google_cloud_tasks_queue.turns.name == "staging-turns" && google_redis_instance.this.name == "staging" && google_storage_bucket.archives.name == "my-project-staging-archives"
    error_message = "A second deployment's parts have the first one's names."
  }
}

run "the_first" {
  command = plan

  assert {
    condition     = local.settings_both.SECRET_PREFIX == null && output.secret_prefix == "" && google_firestore_database.this.name == "(default)"
    error_message = "The deployment named fairlane does not use the plain names."
  }
}

# Alone in its project, whatever it is called.
run "plain_names_by_choice" {
  command = plan
  variables {
    name               = "clinics"
    firestore_database = "(default)"
    secret_prefix      = ""
  }

  assert {
    condition     = google_firestore_database.this.name == "(default)" && local.settings_both.SECRET_PREFIX == null && local.clinic_secrets == "projects/123456789012/secrets/line-"
    error_message = "The names cannot be chosen."
  }
}
