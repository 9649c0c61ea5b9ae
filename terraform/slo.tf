# What is promised: LINE is answered within 2 s, a customer within 30 s. An alarm comes not when one is late but
# when the month's allowance of late ones burns too fast, in a long and a short window at once: so it opens soon,
# and closes soon after. And never for fewer than five: at night a single one would be a large share.
locals {
  objectives = {
    acked = {
      title = "Acked within 2 s"
      goal  = 0.999
      bad   = "ack_late"
      total = "ack_due"
      doc   = <<-EOT
        LINE's webhooks are answered too late or not with 200. LINE gives up after 2 s and delivers again only for channels with redelivery on; it suspends a webhook that keeps failing.

        1. Which of the two? The dashboard's "Acks by status" and "Ack latency"; events `webhook.enqueue_failed` say why one was not enqueued.
        2. "Webhooks find no instance" open as well: raise `webhook_max_instances`. Cold starts: raise `webhook_min_instances`.
        3. Right after a deployment: roll back ("Roll back" in terraform/README.md).
      EOT
    }
    answered = {
      title = "Answered within 30 s"
      goal  = 0.98
      bad   = "answer_late"
      total = "answer_due"
      doc   = <<-EOT
        Customers wait for more than 30 s, or get the busy message instead of an answer. A campaign of one clinic alone does not do this to the others: the dashboard's "Spend" by clinic shows who is busy.

        1. The provider, or fairlane? The tile "The model's own time" against "Wait for a slot": if the model's p95 has risen, see "Provider outage" in terraform/README.md; if the wait has, see "Raise limits".
        2. "Turns fail" or "Backlog" open as well: their notifications have the steps.
      EOT
    }
  }

  # How many times faster than evenly over 28 days; windows as in Google's SRE workbook, "Alerting on SLOs".
  burns = {
    fast = { rate = 14.4, long_s = 3600, short_s = 300, severity = "CRITICAL", says = "fast: a fiftieth of the month's allowance in an hour" }
    slow = { rate = 6, long_s = 21600, short_s = 1800, severity = "WARNING", says = "slowly: a twentieth of the month's allowance in six hours" }
  }
  burn_alarms = merge([
    for objective, promised in local.objectives : {
      for pace, burn in local.burns : "${objective}_${pace}" => merge(promised, burn, { objective = objective, pace = pace })
    }
  ]...)

  user_metric = {
    for name, metric in google_logging_metric.filtered :
    name => "metric.type=\"logging.googleapis.com/user/${metric.name}\" AND resource.type=\"cloud_run_revision\""
  }
}

resource "google_monitoring_custom_service" "this" {
  service_id   = var.name
  display_name = var.name

  depends_on = [google_project_service.this]
}

resource "google_monitoring_slo" "this" {
  for_each = local.objectives

  service             = google_monitoring_custom_service.this.service_id
  slo_id              = each.key
  display_name        = "${each.value.goal * 100} % ${lower(each.value.title)}"
  goal                = each.value.goal
  rolling_period_days = 28

  request_based_sli {
    good_total_ratio {
      bad_service_filter   = local.user_metric[each.value.bad]
      total_service_filter = local.user_metric[each.value.total]
    }
  }
}

resource "google_monitoring_alert_policy" "burn" {
  for_each = local.burn_alarms

  display_name          = "${var.name}: ${each.value.title}: burns ${each.value.pace}"
  combiner              = "AND"
  severity              = each.value.severity
  notification_channels = local.alert_channels

  dynamic "conditions" {
    for_each = { long = each.value.long_s, short = each.value.short_s }
    content {
      display_name = "Burn rate over ${conditions.value / 60} minutes"
      condition_threshold {
        filter          = "select_slo_burn_rate(\"${google_monitoring_slo.this[each.value.objective].name}\", \"${conditions.value}s\")"
        comparison      = "COMPARISON_GT"
        threshold_value = each.value.rate
        duration        = "0s"
        trigger {
          count = 1
        }
      }
    }
  }
  conditions {
    display_name = "Five or more"
    condition_threshold {
      filter          = local.user_metric[each.value.bad]
      comparison      = "COMPARISON_GT"
      threshold_value = 4
      duration        = "0s"

      aggregations {
        alignment_period     = "${each.value.long_s}s"
        per_series_aligner   = "ALIGN_DELTA"
        cross_series_reducer = "REDUCE_SUM"
      }
      trigger {
        count = 1
      }
    }
  }

  documentation {
    subject   = "${var.name}: ${each.value.title}: burns ${each.value.pace}"
    mime_type = "text/markdown"
    content   = "The promise «${lower(each.value.title)}» is being broken, ${each.value.says}.\n\n${each.value.doc}"
  }
}
