output "webhook_url" {
  description = "The webhook URL of every clinic's LINE channel."
  value       = google_cloudfunctions2_function.webhook.service_config[0].uri
}

output "turn_url" {
  description = "Where tasks are sent, and the audience of their OIDC tokens. It answers nothing but tasks."
  value       = local.turn_url
}

output "queue_console_url" {
  description = "The backlog in the Cloud Tasks console."
  value       = "https://console.cloud.google.com/cloudtasks/queue/${var.region}/${google_cloud_tasks_queue.turns.name}/tasks?project=${var.project_id}"
}

output "dashboard_url" {
  description = "The dashboard."
  value       = "https://console.cloud.google.com/monitoring/dashboards/builder/${reverse(split("/", google_monitoring_dashboard.this.id))[0]}?project=${var.project_id}"
}

output "queue_limits" {
  description = "The dispatch rate and room that were derived (queue.tf)."
  value = {
    dispatches_per_s      = local.dispatches_per_s
    concurrent_dispatches = local.room
  }
}

output "operator_environment" {
  description = "Environment of the operator commands, the functions' own settings: `eval \"$(terraform output -raw operator_environment)\"`. No secrets in it; commands that need Redis say so (README.md)."
  value       = local.operator_environment
}

output "operator_ssh" {
  description = "How an operator comes to the machine inside the network, if `operator` is set."
  value       = var.operator == null ? null : "gcloud compute ssh ${google_compute_instance.operator["this"].name} --zone ${google_compute_instance.operator["this"].zone} --tunnel-through-iap"
}

output "secret_prefix" {
  description = "Begins the names of the clinics' secrets, before line-."
  value       = local.secret_prefix
}

output "next_commands" {
  description = "What to do after the first apply."
  value       = <<-EOT
    # 1. The first clinic (README.md says what the file holds):
    eval "$(terraform -chdir=terraform output -raw operator_environment)"
    .venv/bin/fairlane clinics apply ~/clinics.yaml
    # 2. Its webhook URL, which LINE tests at once:
    .venv/bin/fairlane clinics connect ORG_ID
    # 3. Does everything answer?
    .venv/bin/fairlane doctor
  EOT
}
