# The private function: one task, one turn. Only the queue's tasks reach it.
resource "google_service_account" "turn" {
  account_id   = "${var.name}-turn"
  display_name = "fairlane: the turn function"

  depends_on = [google_project_service.this]
}

locals {
  turn_name = "${var.name}-turn"

  # turn enqueues successors for itself, and a resource cannot refer to its own URL. This form is
  # deterministic and always served beside the one with a hash. It is also the audience of the tasks' OIDC
  # tokens: Cloud Run takes each of a service's run.app URLs as one.
  turn_url = "https://${local.turn_name}-${local.project_number}.${var.region}.run.app"
}

resource "google_cloudfunctions2_function" "turn" {
  name        = local.turn_name
  description = "Answers a customer: mailbox, slot, budget, model, delivery"
  location    = var.region

  build_config {
    runtime           = "python313"
    entry_point       = "turn"
    service_account   = google_service_account.build.name
    docker_repository = google_artifact_registry_repository.images.id
    source {
      storage_source {
        bucket = google_storage_bucket.archives.name
        object = google_storage_bucket_object.archive["turn"].name
      }
    }
  }

  service_config {
    service_account_email            = google_service_account.turn.email
    ingress_settings                 = "ALLOW_INTERNAL_ONLY" # Cloud Tasks counts as internal
    available_cpu                    = var.turn_cpu
    available_memory                 = var.turn_memory
    min_instance_count               = var.turn_min_instances
    max_instance_count               = var.turn_max_instances
    max_instance_request_concurrency = var.turn_concurrency
    timeout_seconds                  = var.turn_timeout_s
    environment_variables            = local.environment.turn
    direct_vpc_egress                = local.vpc_egress
    direct_vpc_network_interface {
      network    = google_compute_network.this.name
      subnetwork = google_compute_subnetwork.functions.name
    }

    dynamic "secret_environment_variables" {
      for_each = local.secret_environment.turn
      content {
        key        = secret_environment_variables.key
        project_id = var.project_id
        secret     = secret_environment_variables.value.secret
        version    = secret_environment_variables.value.version
      }
    }
  }

  lifecycle {
    precondition {
      condition     = var.turn_timeout_s >= var.slot_wait_s + var.llm_deadline_s + 30
      error_message = "turn_timeout_s must leave room for slot_wait_s, llm_deadline_s and 30 s of delivery."
    }
  }

  depends_on = [
    google_artifact_registry_repository_iam_member.build,
    google_project_iam_member.build_logs,
    google_project_iam_member.build_sources,
    google_project_iam_member.clinic_secrets,
    google_project_iam_member.firestore,
    google_secret_manager_secret_iam_member.openai_key,
    google_secret_manager_secret_iam_member.provider_keys,
    google_secret_manager_secret_iam_member.redis_url,
  ]
}

resource "google_cloud_run_v2_service_iam_member" "turn_tasks" {
  name     = google_cloudfunctions2_function.turn.name
  location = var.region
  role     = "roles/run.invoker"
  member   = google_service_account.tasks.member
}
