# The document store: clinics, budgets, spend, the journal of turns, memory.
resource "google_firestore_database" "this" {
  name                              = var.firestore_database
  location_id                       = coalesce(var.firestore_location, var.region)
  type                              = "FIRESTORE_NATIVE"
  point_in_time_recovery_enablement = "POINT_IN_TIME_RECOVERY_ENABLED"
  delete_protection_state           = var.deletion_protection ? "DELETE_PROTECTION_ENABLED" : "DELETE_PROTECTION_DISABLED"

  depends_on = [google_project_service.this]
}

resource "google_project_iam_member" "firestore" {
  for_each = local.runtime_accounts

  project = var.project_id
  role    = "roles/datastore.user"
  member  = each.value
}

# `expire_at` carries the retention. It grows steadily, and an index on it would be the hottest spot of
# the database, so it has none.
resource "google_firestore_field" "expire_at" {
  for_each = toset(["turns", "turn_events", "customer_memory"])

  database   = google_firestore_database.this.name
  collection = each.key
  field      = "expire_at"

  ttl_config {}
  index_config {}
}

# What no query filters or orders by has no index: each indexed field makes every write dearer and slower, a
# counter's index is a hot spot, and a text can be too long for one (1,500 bytes). "*": all fields, for
# documents that are only ever read by their key. The composite indexes below need no single ones.
locals {
  unindexed_fields = {
    org_ai_spend    = ["*"]
    turn_events     = ["*"]
    customer_memory = ["*"]
    orgs            = ["persona", "messages"]
    turns = [
      "ambiguous_micro_baht", "cost_micro_baht", "events", "facts_used", "held_micro_baht", "price",
      "quick_replies", "reply", "reply_token", "updates", "usage", "worst_micro_baht",
    ]
  }
}

resource "google_firestore_field" "unindexed" {
  for_each = merge([
    for collection, fields in local.unindexed_fields :
    { for field in fields : "${collection}.${field}" => { collection = collection, field = field } }
  ]...)

  database   = google_firestore_database.this.name
  collection = each.value.collection
  field      = each.value.field

  index_config {}
}

# `fairlane turns list`: newest first, by state, by clinic, by both.
resource "google_firestore_index" "turns" {
  for_each = {
    state     = ["state"]
    org       = ["org_id"]
    org_state = ["org_id", "state"]
  }

  database   = google_firestore_database.this.name
  collection = "turns"

  dynamic "fields" {
    for_each = each.value
    content {
      field_path = fields.value
      order      = "ASCENDING"
    }
  }
  fields {
    field_path = "created_at"
    order      = "DESCENDING"
  }
}
