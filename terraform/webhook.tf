# The public function: verifies LINE's signature, enqueues, answers.
resource "google_service_account" "webhook" {
  account_id   = "${var.name}-webhook"
  display_name = "fairlane: the webhook function"

  depends_on = [google_project_service.this]
}

locals {
  runtime_accounts = {
    webhook = google_service_account.webhook.member
    turn    = google_service_account.turn.member
  }
}

resource "google_cloudfunctions2_function" "webhook" {
  #checkov:skip=CKV_GCP_124:LINE calls it from the internet; every request is refused unless it carries the clinic's HMAC signature.
  name        = "${var.name}-webhook"
  description = "LINE's webhook: verifies, shapes, enqueues"
  location    = var.region

  build_config {
    runtime           = "python313"
    entry_point       = "webhook"
    service_account   = google_service_account.build.name
    docker_repository = google_artifact_registry_repository.images.id
    source {
      storage_source {
        bucket = google_storage_bucket.archives.name
        object = google_storage_bucket_object.archive["webhook"].name
      }
    }
  }

  service_config {
    service_account_email            = google_service_account.webhook.email
    ingress_settings                 = "ALLOW_ALL"
    available_cpu                    = "1" # concurrency needs at least one
    available_memory                 = var.webhook_memory
    min_instance_count               = var.webhook_min_instances
    max_instance_count               = var.webhook_max_instances
    max_instance_request_concurrency = var.webhook_concurrency
    timeout_seconds                  = 10 # LINE gives up after 2 s, the function after 1.8 s
    environment_variables            = local.environment.webhook
    direct_vpc_egress                = local.vpc_egress
    direct_vpc_network_interface {
      network    = google_compute_network.this.name
      subnetwork = google_compute_subnetwork.functions.name
    }

    dynamic "secret_environment_variables" {
      for_each = local.secret_environment.webhook
      content {
        key        = secret_environment_variables.key
        project_id = var.project_id
        secret     = secret_environment_variables.value.secret
        version    = secret_environment_variables.value.version
      }
    }
  }

  # Without these a revision does not start, or starts and fails.
  depends_on = [
    google_artifact_registry_repository_iam_member.build,
    google_project_iam_member.build_logs,
    google_project_iam_member.build_sources,
    google_project_iam_member.clinic_secrets,
    google_project_iam_member.firestore,
    google_secret_manager_secret_iam_member.redis_url,
  ]
}

resource "google_cloud_run_v2_service_iam_member" "webhook_public" {
  name     = google_cloudfunctions2_function.webhook.name # a function's service has its name
  location = var.region
  role     = "roles/run.invoker"
  member   = "allUsers"
}
