# The document store: clinics, budgets, spend, the journal of turns, memory.
locals {
  # Another deployment in the same project has a database of its own, named after it.
  firestore_database = coalesce(var.firestore_database, var.name == "fairlane" ? "(default)" : var.name)

  # A role on documents holds for every database of a project unless a condition names one.
  this_database = {
    title       = "${var.name}-documents"
    description = "Only the documents of this deployment"
    expression  = "resource.name == \"projects/${var.project_id}/databases/${local.firestore_database}\""
  }
}

resource "google_firestore_database" "this" {
  name                              = local.firestore_database
  location_id                       = coalesce(var.firestore_location, var.region)
  type                              = "FIRESTORE_NATIVE"
  point_in_time_recovery_enablement = "POINT_IN_TIME_RECOVERY_ENABLED"
  delete_protection_state           = var.deletion_protection ? "DELETE_PROTECTION_ENABLED" : "DELETE_PROTECTION_DISABLED"

  # The provider's default leaves the database behind when a deployment is taken down, without the policies
  # below by which customers' words expire.
  deletion_policy = local.deletion_policy

  depends_on = [google_project_service.this]
}

# webhook looks clinics up; what turn does is written.
resource "google_project_iam_member" "firestore" {
  for_each = { webhook = "roles/datastore.viewer", turn = "roles/datastore.user" }

  project = var.project_id
  role    = each.value
  member  = local.runtime_accounts[each.key]

  condition {
    title       = local.this_database.title
    description = local.this_database.description
    expression  = local.this_database.expression
  }
}

# Whole copies of the database, beside the seven days of point-in-time recovery, which go when it is deleted.
# They hold what customers said until they expire, also of those who were forgotten since.
resource "google_firestore_backup_schedule" "daily" {
  database  = google_firestore_database.this.name
  retention = "604800s" # 7 days

  daily_recurrence {}
}

resource "google_firestore_backup_schedule" "weekly" {
  database  = google_firestore_database.this.name
  retention = "2419200s" # 4 weeks

  weekly_recurrence {
    day = "SUNDAY"
  }
}

# `expire_at` carries the retention. It grows steadily, and an index on it would be the hottest spot of
# the database, so it has none.
resource "google_firestore_field" "expire_at" {
  for_each = toset(["turns", "turn_events", "customer_memory", "bookings", "booked_chats", "questions", "notices", "charges"])

  database        = google_firestore_database.this.name
  collection      = each.key
  field           = "expire_at"
  deletion_policy = local.deletion_policy # nothing would expire any more

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
    org_stats       = ["day"]
    customer_memory = ["handoff_until_ms"]
    bookings        = ["chat_id", "org_id", "user_id"]
    questions       = ["org_id"]
    org_versions    = ["org_id"]
    notices         = ["chat_id", "is_open", "org_id", "state", "user_id"]
    charges         = ["month"]
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
