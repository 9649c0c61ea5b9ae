# Log-based metrics: the functions' structured events, counted and measured.
locals {
  events_of_functions = "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=(\"${google_cloudfunctions2_function.webhook.name}\" OR \"${google_cloudfunctions2_function.turn.name}\")"

  # Events that are counted; labels are fields of the event. Only the functions' own: a hand-off that staff begin
  # with `fairlane conversations` is logged where they run it.
  event_counts = {
    webhook_acked          = { event = "webhook.acked", labels = [] }
    webhook_enqueue_failed = { event = "webhook.enqueue_failed", labels = [] }
    webhook_refused        = { event = "webhook.refused", labels = ["org", "reason"] }
    shaper_failed_open     = { event = "shaper.failed_open", labels = [] }
    turn_failed            = { event = "turn.failed", labels = ["reason"] }
    turn_putback           = { event = "turn.putback", labels = ["reason"] }
    turn_taken_over        = { event = "turn.taken_over", labels = [] }
    llm_rate_limited       = { event = "llm.rate_limited", labels = ["provider"] }
    llm_elsewhere          = { event = "llm.elsewhere", labels = ["reason"] }
    circuit_opened         = { event = "circuit.opened", labels = ["provider"] }
    circuit_closed         = { event = "circuit.closed", labels = ["provider"] }
    budget_downgraded      = { event = "budget.downgraded", labels = ["org"] }
    budget_stopped         = { event = "budget.stopped", labels = ["org"] }
    line_delivered         = { event = "line.delivered", labels = ["how"] }
    price_held_back        = { event = "price.held_back", labels = ["outcome"] }
    handoff_started        = { event = "handoff.started", labels = ["org"] }
    notice_sent            = { event = "notice.sent", labels = ["kind"] }
    notice_kept            = { event = "notice.kept", labels = ["reason"] }
    notice_undone          = { event = "notice.undone", labels = ["org"] }
  }

  # Events of which a number is measured. Buckets grow by 1.2, so a percentile is right to about 10 %.
  event_values = {
    turn_duration_ms = { event = "turn.done", field = "duration_ms", unit = "ms", labels = [] }
    llm_attempt_ms   = { event = "llm.attempt", field = "duration_ms", unit = "ms", labels = ["model", "outcome"] }
    slot_waited_ms   = { event = "slot.granted", field = "waited_ms", unit = "ms", labels = [] }
    slots_used       = { event = "slot.granted", field = "used", unit = "1", labels = [] }
    slots_waiting    = { event = "slot.granted", field = "waiting", unit = "1", labels = [] }
    slots_limit      = { event = "slot.granted", field = "limit", unit = "1", labels = ["provider"] }
    spend_micro_baht = { event = "turn.done", field = "cost_micro_baht", unit = "1", labels = ["org", "model"] }
  }

  # What only Cloud Run's own log of requests knows: an answer that no instance gave (its metrics leave those
  # out), and how long it took from outside, an instance's start included. LINE's requests are POSTs; what
  # strangers send is answered 400, 401 or 404 and counts nowhere.
  requests = {
    for name, function in { webhook = google_cloudfunctions2_function.webhook.name, turn = google_cloudfunctions2_function.turn.name } :
    name => "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=\"${function}\" AND logName=\"projects/${var.project_id}/logs/run.googleapis.com%2Frequests\""
  }
  acks = "${local.requests.webhook} AND httpRequest.requestMethod=\"POST\" AND (httpRequest.status=200 OR httpRequest.status>=429)"
  done = "${local.events_of_functions} AND jsonPayload.message=\"turn.done\""
  filtered_counts = {
    ack_due             = { what = "Webhooks of LINE", filter = local.acks, labels = {} }
    ack_slow            = { what = "Webhooks of LINE answered after 1.5 s", filter = "${local.acks} AND httpRequest.latency>\"1.5s\"", labels = {} }
    ack_late            = { what = "Webhooks of LINE not answered with 200 within 2 s", filter = "${local.acks} AND (httpRequest.status>=429 OR httpRequest.latency>\"2s\")", labels = {} }
    answer_due          = { what = "Turns that ended", filter = local.done, labels = {} }
    answer_late         = { what = "Turns that ended without the answer they were for, or after 30 s", filter = "${local.done} AND (jsonPayload.duration_ms>30000 OR (jsonPayload.outcome=\"failed\" AND NOT jsonPayload.reason=\"budget\"))", labels = {} }
    webhook_turned_away = { what = "Webhooks for which there was no instance", filter = "${local.requests.webhook} AND httpRequest.requestMethod=\"POST\" AND httpRequest.status=429", labels = {} }
    turn_turned_away    = { what = "Tasks that did not get as far as turn", filter = "${local.requests.turn} AND httpRequest.userAgent=\"Google-Cloud-Tasks\" AND httpRequest.status=(401 OR 403 OR 404 OR 429)", labels = { status = "httpRequest.status" } }
  }

  # What runs a function. Metrics that could come from several types of resource, as log-based ones can, are
  # read by PromQL only with the type they are wanted of (Google, "Mapping Cloud Monitoring metrics to PromQL").
  revision = "monitored_resource=\"cloud_run_revision\""

  # A metric's name as PromQL writes it.
  prometheus = {
    for name in concat(keys(local.event_counts), keys(local.event_values), keys(local.filtered_counts)) :
    name => "logging_googleapis_com:user_${replace(var.name, "-", "_")}_${name}"
  }
}

resource "google_logging_metric" "count" {
  for_each = local.event_counts

  name             = "${var.name}/${each.key}"
  description      = "Events ${each.value.event}"
  filter           = "${local.events_of_functions} AND jsonPayload.message=\"${each.value.event}\""
  label_extractors = { for label in each.value.labels : label => "EXTRACT(jsonPayload.${label})" }

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "INT64"
    unit        = "1"

    dynamic "labels" {
      for_each = each.value.labels
      content {
        key         = labels.value
        value_type  = "STRING"
        description = "The event's field ${labels.value}"
      }
    }
  }

  depends_on = [google_project_service.this]
}

resource "google_logging_metric" "filtered" {
  for_each = local.filtered_counts

  name             = "${var.name}/${each.key}"
  description      = each.value.what
  filter           = each.value.filter
  label_extractors = { for label, field in each.value.labels : label => "EXTRACT(${field})" }

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "INT64"
    unit        = "1"

    dynamic "labels" {
      for_each = each.value.labels
      content {
        key         = labels.key
        value_type  = "STRING"
        description = "The entry's field ${labels.value}"
      }
    }
  }

  depends_on = [google_project_service.this]
}

resource "google_logging_metric" "value" {
  for_each = local.event_values

  name             = "${var.name}/${each.key}"
  description      = "Field ${each.value.field} of events ${each.value.event}"
  filter           = "${local.events_of_functions} AND jsonPayload.message=\"${each.value.event}\""
  value_extractor  = "EXTRACT(jsonPayload.${each.value.field})"
  label_extractors = { for label in each.value.labels : label => "EXTRACT(jsonPayload.${label})" }

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "DISTRIBUTION"
    unit        = each.value.unit

    dynamic "labels" {
      for_each = each.value.labels
      content {
        key         = labels.value
        value_type  = "STRING"
        description = "The event's field ${labels.value}"
      }
    }
  }

  bucket_options {
    exponential_buckets {
      num_finite_buckets = 100
      growth_factor      = 1.2
      scale              = 1
    }
  }

  depends_on = [google_project_service.this]
}
