# The account that cloudbuild.yaml runs as, if `pipeline` is set. It deploys what changes from day to day:
# functions, queue, Redis' size, indexes, metrics, dashboard, alarms. It can grant nobody anything: new
# services, accounts, network and grants are applied by a person, and a plan of the pipeline shows them.
#
# What it can reach all the same: whoever deploys code that runs as turn and webhook reaches what these two do,
# every clinic's LINE secret, the OpenAI key and all documents; and the state holds Redis' AUTH string. So it
# must run nothing that nobody looked at: the trigger waits for an approval, builds by hand are a person's own.
locals {
  # The account by a fixed key, if there is one, for the grants below.
  pipeline = { for name in var.pipeline == null ? [] : ["this"] : name => google_service_account.pipeline[0].member }

  pipeline_roles = [
    "roles/artifactregistry.reader",
    "roles/browser",
    "roles/cloudbuild.builds.viewer",
    "roles/cloudfunctions.developer",
    "roles/cloudtasks.queueAdmin",
    "roles/compute.viewer",
    "roles/datastore.backupSchedulesViewer",
    "roles/datastore.indexAdmin",
    "roles/iam.roleViewer",
    "roles/iam.securityReviewer", # reads the policies that a plan compares
    "roles/iam.serviceAccountViewer",
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

# Metrics alone: the predefined role that may change them may also send logs elsewhere, or drop them.
resource "google_project_iam_custom_role" "pipeline" {
  for_each = local.pipeline

  role_id     = "${replace(var.name, "-", "_")}_pipeline"
  title       = "${var.name}: log-based metrics"
  description = "What the pipeline changes in Cloud Logging"
  permissions = [for verb in ["create", "delete", "get", "list", "update"] : "logging.logMetrics.${verb}"]
}

resource "google_project_iam_member" "pipeline_metrics" {
  for_each = local.pipeline

  project = var.project_id
  role    = google_project_iam_custom_role.pipeline[each.key].id
  member  = each.value
}

# Of the archives' bucket: what is in it, and what a plan compares; not who may read it.
resource "google_storage_bucket_iam_member" "pipeline_archives" {
  for_each = var.pipeline == null ? [] : toset(["roles/storage.objectUser", "roles/storage.legacyBucketReader"])

  bucket = google_storage_bucket.archives.name
  role   = each.key
  member = local.pipeline.this
}

# What `gcloud builds submit` uploads. Apart from the state: whoever may upload a source need not read that.
resource "google_storage_bucket" "source" {
  #checkov:skip=CKV_GCP_62:Sources come from the repository, whose history tells more than access logs would.
  #checkov:skip=CKV_GCP_63:It keeps no access logs at all, so none of itself; the check misreads a plan without any.
  #checkov:skip=CKV_GCP_78:Each source has a name of its own and is read once.
  for_each = local.pipeline

  name     = "${var.project_id}-${var.name}-source"
  location = var.region

  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = true

  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      age = 30
    }
  }

  depends_on = [google_project_service.this]
}

resource "google_storage_bucket_iam_member" "pipeline_source" {
  for_each = local.pipeline

  bucket = google_storage_bucket.source[each.key].name
  role   = "roles/storage.objectViewer"
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

# A push to the branch asks for a deployment; it begins once somebody has approved it.
resource "google_cloudbuild_trigger" "deploy" {
  count = try(var.pipeline.repository, null) == null ? 0 : 1

  name            = "${var.name}-deploy"
  description     = "Deploys a push to the branch, once approved"
  location        = var.region
  service_account = google_service_account.pipeline[0].id
  filename        = "cloudbuild.yaml"

  repository_event_config {
    repository = var.pipeline.repository
    push {
      branch = var.pipeline.branch
    }
  }
  approval_config {
    approval_required = true
  }

  substitutions = {
    _APPLY             = "true"
    _NAME              = var.name
    _STATE_BUCKET      = var.pipeline.state_bucket
    _SMOKE_ORG         = var.pipeline.smoke_org == null ? "" : var.pipeline.smoke_org
    _SMOKE_DESTINATION = var.pipeline.smoke_destination == null ? "" : var.pipeline.smoke_destination
  }
}

resource "google_project_iam_member" "pipeline_approver" {
  for_each = try(var.pipeline.approvers, toset([]))

  project = var.project_id
  role    = "roles/cloudbuild.builds.approver"
  member  = each.key
}
