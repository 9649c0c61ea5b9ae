# The project and the APIs it needs. The first two must be on before Terraform can read anything: README.md.
locals {
  services = toset(concat([
    "cloudresourcemanager.googleapis.com",
    "serviceusage.googleapis.com",
    "artifactregistry.googleapis.com",
    "cloudbuild.googleapis.com",
    "cloudfunctions.googleapis.com",
    "cloudtasks.googleapis.com",
    "compute.googleapis.com",
    "firestore.googleapis.com",
    "iam.googleapis.com",
    "logging.googleapis.com",
    "monitoring.googleapis.com",
    "redis.googleapis.com",
    "run.googleapis.com",
    "secretmanager.googleapis.com",
    "storage.googleapis.com",
  ], var.operator == null ? [] : ["iap.googleapis.com", "oslogin.googleapis.com"]))
  project_number = data.google_project.this.number

  # What must outlive a `destroy` by mistake: Terraform refuses to delete it until deletion_protection is off
  # and applied.
  deletion_policy = var.deletion_protection ? "PREVENT" : "DELETE"
}

data "google_project" "this" {
  project_id = var.project_id
}

resource "google_project_service" "this" {
  for_each = local.services

  service            = each.key
  disable_on_destroy = false # other things in the project may use it
}
