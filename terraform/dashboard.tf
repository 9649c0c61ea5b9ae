# One dashboard, read from the top: does it answer, does it keep up, what holds it back, what does it cost.
locals {
  webhook_service = "${local.revision},service_name=\"${google_cloudfunctions2_function.webhook.name}\""
  turn_service    = "${local.revision},service_name=\"${google_cloudfunctions2_function.turn.name}\""
  queue_selector  = "queue_id=\"${google_cloud_tasks_queue.turns.name}\""
  redis_selector  = "instance_id=\"${google_redis_instance.this.id}\""

  # Percentile `q` of a distribution, over the chart's interval.
  quantile = "histogram_quantile(%s, sum by (le) (increase(%s_bucket{%s}[$${__interval}])))"
  by_model = "label_replace(histogram_quantile(%s, sum by (le, model) (increase(%s_bucket{%s}[$${__interval}]))), \"quantile\", \"%s\", \"\", \"\")"
  total    = "sum(increase(%s{${local.revision}}[$${__interval}]))"

  # The same by provider.
  by_provider = "histogram_quantile(%s, sum by (le, provider) (increase(%s_bucket{%s}[$${__interval}])))"

  # Title, unit of the axis (UCUM), and PromQL by legend; "by …" has many lines, named by their labels.
  tiles = [
    { title = "Backlog: tasks in the queue", unit = "1", queries = {
      tasks = "sum(cloudtasks_googleapis_com:queue_depth{${local.queue_selector}})"
    } },
    { title = "Oldest task: delay of attempts", unit = "ms", queries = {
      p99 = format(local.quantile, "0.99", "cloudtasks_googleapis_com:queue_task_attempt_delays", local.queue_selector)
      p50 = format(local.quantile, "0.5", "cloudtasks_googleapis_com:queue_task_attempt_delays", local.queue_selector)
    } },
    { title = "Attempts by response", unit = "1", queries = {
      "by response_code" = "sum by (response_code) (increase(cloudtasks_googleapis_com:queue_task_attempt_count{${local.queue_selector}}[$${__interval}]))"
    } },
    { title = "Ack latency (LINE waits 2 s)", unit = "ms", queries = {
      p99 = format(local.quantile, "0.99", "run_googleapis_com:request_latencies", local.webhook_service)
      p50 = format(local.quantile, "0.5", "run_googleapis_com:request_latencies", local.webhook_service)
    } },
    { title = "Acks by status", unit = "1", queries = {
      "by response_code_class" = "sum by (response_code_class) (increase(run_googleapis_com:request_count{${local.webhook_service}}[$${__interval}]))"
      "not enqueued"           = format(local.total, local.prometheus.webhook_enqueue_failed)
      "shaper failed open"     = format(local.total, local.prometheus.shaper_failed_open)
    } },
    { title = "Turn latency: webhook to LINE", unit = "ms", queries = {
      p95 = format(local.quantile, "0.95", local.prometheus.turn_duration_ms, local.revision)
      p50 = format(local.quantile, "0.5", local.prometheus.turn_duration_ms, local.revision)
    } },
    { title = "Slots in use and waiting, at each grant", unit = "1", queries = {
      "in use (p95)"  = format(local.quantile, "0.95", local.prometheus.slots_used, local.revision)
      "waiting (p95)" = format(local.quantile, "0.95", local.prometheus.slots_waiting, local.revision)
    } },
    { title = "The model's own time, a call, by model", unit = "ms", queries = {
      "by model, p95" = format(local.by_model, "0.95", local.prometheus.llm_attempt_ms, local.revision, "p95")
      "by model, p50" = format(local.by_model, "0.5", local.prometheus.llm_attempt_ms, local.revision, "p50")
    } },
    { title = "Late: acks beyond 2 s, answers beyond 30 s", unit = "1", queries = {
      acks    = format(local.total, local.prometheus.ack_late)
      answers = format(local.total, local.prometheus.answer_late)
    } },
    { title = "Wait for a slot", unit = "ms", queries = {
      p95 = format(local.quantile, "0.95", local.prometheus.slot_waited_ms, local.revision)
      p50 = format(local.quantile, "0.5", local.prometheus.slot_waited_ms, local.revision)
    } },
    { title = "Providers: circuits, 429s, calls that went elsewhere", unit = "1", queries = {
      "circuit opened" = format(local.total, local.prometheus.circuit_opened)
      "circuit closed" = format(local.total, local.prometheus.circuit_closed)
      "429s"           = format(local.total, local.prometheus.llm_rate_limited)
      "went elsewhere" = format(local.total, local.prometheus.llm_elsewhere)
    } },
    { title = "Calls at once that a provider is given", unit = "1", queries = {
      "by provider" = format(local.by_provider, "0.5", local.prometheus.slots_limit, local.revision)
    } },
    { title = "Turns put back, by reason", unit = "1", queries = {
      "by reason" = "sum by (reason) (increase(${local.prometheus.turn_putback}{${local.revision}}[$${__interval}]))"
    } },
    { title = "Failed turns, by reason", unit = "1", queries = {
      "by reason"  = "sum by (reason) (increase(${local.prometheus.turn_failed}{${local.revision}}[$${__interval}]))"
      "taken over" = format(local.total, local.prometheus.turn_taken_over)
    } },
    { title = "Delivered, by way (push costs money)", unit = "1", queries = {
      "by how" = "sum by (how) (increase(${local.prometheus.line_delivered}{${local.revision}}[$${__interval}]))"
    } },
    { title = "Spend, baht an hour, by model", unit = "1", queries = {
      "by model" = "sum by (model) (increase(${local.prometheus.spend_micro_baht}_sum{${local.revision}}[1h])) / 1e6"
    } },
    { title = "Spend, baht a day: the ten highest clinics", unit = "1", queries = {
      "by org" = "topk(10, sum by (org) (increase(${local.prometheus.spend_micro_baht}_sum{${local.revision}}[1d]))) / 1e6"
    } },
    { title = "Budgets: downgrades and hard stops", unit = "1", queries = {
      downgraded = format(local.total, local.prometheus.budget_downgraded)
      stopped    = format(local.total, local.prometheus.budget_stopped)
    } },
    { title = "Hand-offs to people, begun by model or customer", unit = "1", queries = {
      "by org" = "topk(10, sum by (org) (increase(${local.prometheus.handoff_started}{${local.revision}}[$${__interval}])))"
    } },
    { title = "Notices to clinics' desks", unit = "1", queries = {
      sent   = format(local.total, local.prometheus.notice_sent)
      kept   = format(local.total, local.prometheus.notice_kept)
      undone = format(local.total, local.prometheus.notice_undone)
    } },
    { title = "Redis memory", unit = "10^2.%", queries = {
      used = "max(redis_googleapis_com:stats_memory_usage_ratio{${local.redis_selector}})"
    } },
    { title = "Redis: share of its thread's time, by node", unit = "10^2.%", queries = {
      "by node" = "sum by (node_id) (rate(redis_googleapis_com:stats_cpu_utilization_main_thread{${local.redis_selector}}[$${__interval}]))"
    } },
    { title = "Instances", unit = "1", queries = {
      webhook = "sum(run_googleapis_com:container_instance_count{${local.webhook_service}})"
      turn    = "sum(run_googleapis_com:container_instance_count{${local.turn_service}})"
    } },
  ]
  columns = 3
}

resource "google_monitoring_dashboard" "this" {
  dashboard_json = jsonencode({
    displayName = var.name
    labels      = { app = var.name }
    mosaicLayout = {
      columns = 48
      tiles = [for i, tile in local.tiles : {
        xPos   = (i % local.columns) * 16
        yPos   = floor(i / local.columns) * 14
        width  = 16
        height = 14
        widget = {
          title = tile.title
          xyChart = {
            dataSets = [for legend, query in tile.queries : merge({
              plotType   = "LINE"
              targetAxis = "Y1"
              timeSeriesQuery = {
                prometheusQuery = query
                unitOverride    = tile.unit
              }
            }, startswith(legend, "by ") ? {} : { legendTemplate = legend })]
            yAxis = { scale = "LINEAR" }
          }
        }
      }]
    }
  })

  depends_on = [google_project_service.this]
}
