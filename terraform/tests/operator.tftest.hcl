# What a group of operators gets, and the machine inside the network.

mock_provider "google" {
  mock_data "google_project" {
    defaults = { number = "123456789012" }
  }
}
mock_provider "archive" {}

variables {
  project_id       = "my-project"
  region           = "asia-southeast1"
  openai_secret_id = "openai-api-key"
  operator         = { group = "oncall@example.com" }
}

run "plan" {
  command = plan

  assert {
    condition     = length(google_compute_instance.operator["this"].network_interface[0].access_config) == 0 && length(google_compute_instance.operator["this"].service_account) == 0
    error_message = "The operator's machine has a public address, or an identity of its own."
  }
  assert {
    condition     = google_compute_instance.operator["this"].zone == "asia-southeast1-b" && google_compute_instance.operator["this"].metadata["enable-oslogin"] == "TRUE" && google_compute_instance.operator["this"].shielded_instance_config[0].enable_secure_boot
    error_message = "Who logs in to the operator's machine is not known, or what it starts."
  }
  assert {
    condition     = toset(google_compute_firewall.operator["this"].source_ranges) == toset(["35.235.240.0/20"]) && google_compute_firewall.operator["this"].priority < google_compute_firewall.no_ingress.priority
    error_message = "The operator's machine is reached from elsewhere than Identity-Aware Proxy, or not at all."
  }
  assert {
    condition     = google_compute_router_nat.operator["this"].source_subnetwork_ip_ranges_to_nat == "LIST_OF_SUBNETWORKS" && google_compute_subnetwork.operator["this"].ip_cidr_range == "10.9.0.0/28"
    error_message = "The way out is not the operator's machine's alone."
  }
  assert {
    condition     = google_iap_tunnel_instance_iam_member.operator["this"].member == "group:oncall@example.com" && alltrue([for grant in google_compute_instance_iam_member.operator : grant.member == "group:oncall@example.com"])
    error_message = "The group does not come to its machine."
  }
  assert {
    condition     = google_project_iam_member.operator_documents["this"].condition[0].expression == "resource.name == \"projects/my-project/databases/(default)\"" && google_project_iam_member.operator_secrets["this"].condition[0].expression == "resource.name.startsWith(\"projects/123456789012/secrets/line-\")"
    error_message = "Operators reach other documents or secrets than this deployment's clinics'."
  }
  assert {
    condition     = !anytrue([for permission in google_project_iam_custom_role.operator["this"].permissions : can(regex("purge|delete|setIamPolicy|access$", permission))])
    error_message = "The operators' own role takes away what waits on a queue, or grants."
  }
  assert {
    condition     = contains(keys(google_project_service.this), "iap.googleapis.com") && contains(keys(google_project_service.this), "oslogin.googleapis.com")
    error_message = "The APIs by which one comes to the machine are off."
  }
}

run "apply" {
  variables { deletion_protection = false }

  assert {
    condition     = google_compute_instance.operator["this"].metadata["fairlane-environment"] == output.operator_environment && strcontains(google_compute_instance.operator["this"].metadata["startup-script"], "fairlane-environment")
    error_message = "The machine does not know the deployment's settings."
  }
}
