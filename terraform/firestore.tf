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

# Firestore indexes every field by itself. In the collections that each turn writes only what a query filters
# or orders by is: each index makes every write dearer, a counter's is a hot spot, and a text can be too long
# for one (1,500 bytes). A test compares this list with the code's queries. Other collections are small.
locals {
  list_fields = ["message_ids", "user_ids"]
  indexed_fields = {
    turns           = ["chat_id", "created_at", "message_ids", "org_id", "state", "user_ids"]
    turn_events     = []
    org_ai_spend    = ["day"]
    customer_memory = ["handoff_until_ms"]
  }
}

resource "google_firestore_field" "unindexed" {
  for_each = local.indexed_fields

  database   = google_firestore_database.this.name
  collection = each.key
  field      = "*"

  index_config {}
}

resource "google_firestore_field" "indexed" {
  for_each = merge([
    for collection, fields in local.indexed_fields :
    { for field in fields : "${collection}.${field}" => { collection = collection, field = field } }
  ]...)

  database   = google_firestore_database.this.name
  collection = each.value.collection
  field      = each.value.field

  # A list is searched for what it contains; it has no order.
  index_config {
    dynamic "indexes" {
      for_each = contains(local.list_fields, each.value.field) ? [] : ["ASCENDING", "DESCENDING"]
      content {
        order = indexes.value
      }
    }
    dynamic "indexes" {
      for_each = contains(local.list_fields, each.value.field) ? ["CONTAINS"] : []
      content {
        array_config = indexes.value
      }
    }
  }
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
