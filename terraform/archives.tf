# The functions' archives: built from the tree, stored under the hash of their contents.
data "archive_file" "this" {
  for_each = local.archive_files

  type        = "zip"
  output_path = "${path.module}/build/${each.key}.zip"

  dynamic "source" {
    for_each = each.value
    content {
      filename = source.key
      content  = file("${local.tree}/${source.value}")
    }
  }
}

resource "google_storage_bucket" "archives" {
  #checkov:skip=CKV_GCP_62:It holds public source code that only Terraform and the build read; access logs would tell nothing.
  #checkov:skip=CKV_GCP_63:It keeps no access logs at all, so none of itself; the check misreads a plan without any.
  name     = "${var.project_id}-${var.name}-archives"
  location = var.region

  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = true # whatever is in it, a checkout makes anew
  versioning {
    enabled = true
  }

  # An archive is named by its hash, so that an old one has no newer version: Terraform deletes it when the
  # next one is deployed. What is left of it is kept for a month.
  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      days_since_noncurrent_time = 30
      with_state                 = "ARCHIVED"
    }
  }

  depends_on = [google_project_service.this]
}

resource "google_storage_bucket_object" "archive" {
  for_each = data.archive_file.this

  bucket = google_storage_bucket.archives.name
  name   = "${each.key}-${each.value.output_sha256}.zip"
  source = each.value.output_path
}
