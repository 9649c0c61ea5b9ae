# The account that cloudbuild.yaml runs as, if `pipeline` is set. It deploys what changes from day to day:
# functions, queue, Redis' size, indexes, metrics, dashboard, alarms. It can grant nobody anything: new
# services, accounts, network and grants are applied by a person, and a plan of the pipeline shows them.
locals {
  # The account by a fixed key, if there is one, for the grants below.
  pipeline = { for name in var.pipeline == null ? [] : ["this"] : name => google_service_account.pipeline[0].member }

  pipeline_roles = [
    "roles/artifactregistry.reader",
    "roles/browser",
    "roles/cloudfunctions.developer",
    "roles/cloudtasks.queueAdmin",
    "roles/compute.viewer",
    "roles/datastore.indexAdmin",
    "roles/iam.securityReviewer", # reads the policies that a plan compares
    "roles/iam.serviceAccountViewer",
    "roles/logging.configWriter",
    "roles/logging.logWriter",
    "roles/monitoring.editor",
    "roles/redis.admin", # reads the AUTH string, without which there is no plan
    "roles/run.viewer",
    "roles/secretmanager.viewer", # names, not values
    "roles/serviceusage.serviceUsageViewer",
  ]
}

resource "google_service_account" "pipeline" {
  count = var.pipeline == null ? 0 : 1

  account_id   = "${var.name}-pipeline"
  display_name = "fairlane: Cloud Build deploys as this"

  depends_on = [google_project_service.this]
}

resource "google_project_iam_member" "pipeline" {
  #checkov:skip=CKV_GCP_42:roles/redis.admin and cloudtasks.queueAdmin are the least that can change Redis' size and the queue's limits; neither reaches rights or secrets of clinics.
  for_each = var.pipeline == null ? [] : toset(local.pipeline_roles)

  project = var.project_id
  role    = each.key
  member  = local.pipeline.this
}

resource "google_storage_bucket_iam_member" "pipeline_archives" {
  for_each = local.pipeline

  bucket = google_storage_bucket.archives.name
  role   = "roles/storage.admin"
  member = each.value
}

resource "google_storage_bucket_iam_member" "pipeline_state" {
  for_each = local.pipeline

  bucket = var.pipeline.state_bucket
  role   = "roles/storage.objectUser"
  member = each.value
}

resource "google_secret_manager_secret_iam_member" "pipeline_redis_url" {
  for_each = var.pipeline == null ? [] : toset(["roles/secretmanager.secretVersionManager", "roles/secretmanager.secretAccessor"])

  secret_id = google_secret_manager_secret.redis_url.id
  role      = each.key
  member    = local.pipeline.this
}

# Whoever deploys a function must be allowed to run something as its accounts; of these, it is.
resource "google_service_account_iam_member" "pipeline_deploys_as" {
  for_each = var.pipeline == null ? {} : {
    build   = google_service_account.build.name
    turn    = google_service_account.turn.name
    webhook = google_service_account.webhook.name
  }

  service_account_id = each.value
  role               = "roles/iam.serviceAccountUser"
  member             = local.pipeline.this
}

# The smoke check signs an empty webhook as one clinic.
resource "google_project_iam_member" "pipeline_smoke" {
  count = try(var.pipeline.smoke_org, null) == null ? 0 : 1

  project = var.project_id
  role    = "roles/secretmanager.secretAccessor"
  member  = local.pipeline.this

  condition {
    title       = "${var.name}-smoke"
    description = "Only the smoke check's clinic"
    expression  = "resource.name.startsWith(\"${local.clinic_secrets}${var.pipeline.smoke_org}/\")"
  }
}
