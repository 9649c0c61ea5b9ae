# A network of our own: Redis on one side, the functions' Direct VPC egress on the other, nothing comes in.
resource "google_compute_network" "this" {
  name                    = var.name
  description             = "fairlane's functions and their Redis"
  auto_create_subnetworks = false

  depends_on = [google_project_service.this]
}

resource "google_compute_subnetwork" "functions" {
  #checkov:skip=CKV_GCP_76:The subnet is IPv4 only, so there is no IPv6 access to make private.
  name                     = "${var.name}-functions"
  description              = "Addresses of the functions' instances (Direct VPC egress)"
  network                  = google_compute_network.this.id
  region                   = var.region
  ip_cidr_range            = var.subnet_cidr
  private_ip_google_access = true
  stack_type               = "IPV4_ONLY"

  log_config {
    aggregation_interval = "INTERVAL_10_MIN"
    flow_sampling        = 0.1
    metadata             = "EXCLUDE_ALL_METADATA"
  }

  lifecycle {
    precondition {
      condition     = local.subnet_addresses >= local.addresses_needed
      error_message = "subnet_cidr has ${local.subnet_addresses} addresses, and the functions may need ${local.addresses_needed} (four an instance): give subnet_cidr a larger range, or lower webhook_max_instances or turn_max_instances."
    }
  }
}

locals {
  # Cloud Run takes up to two addresses an instance, and as many again while a new revision takes over. Who
  # gets none cannot start. Google keeps four addresses of a subnet.
  addresses_needed = 4 * (var.webhook_max_instances + var.turn_max_instances)
  subnet_addresses = pow(2, 32 - tonumber(split("/", var.subnet_cidr)[1])) - 4
}

resource "google_compute_firewall" "no_ingress" {
  name        = "${var.name}-no-ingress"
  description = "Nothing connects to the functions through the network: requests come through Cloud Run"
  network     = google_compute_network.this.id
  direction   = "INGRESS"
  priority    = 65000

  source_ranges = ["0.0.0.0/0"]
  deny {
    protocol = "all"
  }
}

locals {
  # Only private addresses (Redis) go through the network; LINE, OpenAI and Google's APIs are reached
  # directly, so no NAT is needed.
  vpc_egress = "VPC_EGRESS_PRIVATE_RANGES_ONLY"
}
