# Secrets. Terraform knows the names of the providers' keys and of the clinics' secrets, never their values:
# a key is added with gcloud (README.md), a clinic's secret by `fairlane clinics apply`.

# Memorystore's AUTH string is an attribute of the instance and so in the state anyway. Here it goes through
# a write-only argument, so at least neither a plan nor this resource holds it, and the functions see it
# only as a secret reference.
resource "google_secret_manager_secret" "redis_url" {
  secret_id = "${var.name}-redis-url"

  replication {
    user_managed {
      replicas {
        location = var.region
      }
    }
  }

  depends_on = [google_project_service.this]
}

resource "google_secret_manager_secret_version" "redis_url" {
  secret         = google_secret_manager_secret.redis_url.id
  secret_data_wo = local.redis_url

  # A write-only value has no difference of its own: 28 bits of its hash stand for it, so that a new AUTH
  # string or address makes a new version, and that a new revision of the functions.
  secret_data_wo_version = nonsensitive(parseint(substr(sha256(local.redis_url), 0, 7), 16))

  lifecycle {
    create_before_destroy = true
  }
}

locals {
  # A clinic's secret is `line-{org_id}`, in another deployment of the same project `NAME-line-{org_id}`.
  secret_prefix = var.secret_prefix != null ? var.secret_prefix : var.name == "fairlane" ? "" : "${var.name}-"

  # One condition covers the clinics of today and of tomorrow.
  clinic_secrets = "projects/${local.project_number}/secrets/${local.secret_prefix}line-"
}

resource "google_secret_manager_secret_iam_member" "redis_url" {
  for_each = local.runtime_accounts

  secret_id = google_secret_manager_secret.redis_url.id
  role      = "roles/secretmanager.secretAccessor"
  member    = each.value
}

resource "google_secret_manager_secret_iam_member" "openai_key" {
  secret_id = "projects/${var.project_id}/secrets/${var.openai_secret_id}"
  role      = "roles/secretmanager.secretAccessor"
  member    = local.runtime_accounts.turn

  depends_on = [google_project_service.this]
}

resource "google_secret_manager_secret_iam_member" "provider_keys" {
  for_each = local.provider_keys

  secret_id = "projects/${var.project_id}/secrets/${each.value.secret_id}"
  role      = "roles/secretmanager.secretAccessor"
  member    = local.runtime_accounts.turn

  depends_on = [google_project_service.this]
}

resource "google_project_iam_member" "clinic_secrets" {
  for_each = local.runtime_accounts

  project = var.project_id
  role    = "roles/secretmanager.secretAccessor"
  member  = each.value

  condition {
    title       = "${var.name}-clinics"
    description = "Only the clinics' LINE secrets"
    expression  = "resource.name.startsWith(\"${local.clinic_secrets}\")"
  }
}
