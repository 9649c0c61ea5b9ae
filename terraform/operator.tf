# Who operates, if `operator` is set: what a group may do, and a machine inside the network from which its people
# reach Redis. They use their own identities; the machine has none, and no address that the internet reaches.
locals {
  # By a fixed key, if there are operators, for the resources below.
  operator       = { for group in var.operator == null ? [] : [var.operator.group] : "this" => "group:${group}" }
  operator_names = "${var.name}-operator"

  operator_roles = [
    "roles/compute.viewer",
    "roles/logging.viewer",
    "roles/monitoring.viewer",
    "roles/run.viewer",
    "roles/serviceusage.serviceUsageConsumer", # the client libraries name the project as the one that pays
  ]
}

resource "google_project_iam_member" "operator" {
  for_each = var.operator == null ? [] : toset(local.operator_roles)

  project = var.project_id
  role    = each.key
  member  = local.operator.this
}

resource "google_project_iam_member" "operator_documents" {
  for_each = local.operator

  project = var.project_id
  role    = "roles/datastore.user"
  member  = each.value

  condition {
    title       = local.this_database.title
    description = local.this_database.description
    expression  = local.this_database.expression
  }
}

# `fairlane clinics apply` writes the clinics' secrets; whoever may only create one can't read any.
resource "google_project_iam_member" "operator_secrets" {
  for_each = local.operator

  project = var.project_id
  role    = "roles/secretmanager.admin"
  member  = each.value

  condition {
    title       = "${var.name}-clinics"
    description = "Only the clinics' LINE secrets"
    expression  = "resource.name.startsWith(\"${local.clinic_secrets}\")"
  }
}

resource "google_project_iam_custom_role" "operator" {
  for_each = local.operator

  role_id     = "${replace(var.name, "-", "_")}_operator"
  title       = "${var.name}: operator"
  description = "Create a clinic's secret, stop and go on with a queue, read Redis' certificate"
  permissions = [
    "cloudtasks.queues.pause",
    "cloudtasks.queues.resume",
    "redis.instances.get",
    "secretmanager.secrets.create",
  ]
}

resource "google_project_iam_member" "operator_custom" {
  for_each = local.operator

  project = var.project_id
  role    = google_project_iam_custom_role.operator[each.key].id
  member  = each.value
}

# `fairlane turns replay` puts tasks on the queue that carry the tasks' identity, `slots close-circuit` runs those
# that wait.
resource "google_cloud_tasks_queue_iam_member" "operator" {
  for_each = var.operator == null ? [] : toset(["roles/cloudtasks.enqueuer", "roles/cloudtasks.taskRunner", "roles/cloudtasks.viewer"])

  name     = google_cloud_tasks_queue.turns.name
  location = var.region
  role     = each.key
  member   = local.operator.this
}

resource "google_service_account_iam_member" "operator_tasks" {
  for_each = local.operator

  service_account_id = google_service_account.tasks.name
  role               = "roles/iam.serviceAccountUser"
  member             = each.value
}

resource "google_secret_manager_secret_iam_member" "operator_redis_url" {
  for_each = local.operator

  secret_id = google_secret_manager_secret.redis_url.id
  role      = "roles/secretmanager.secretAccessor"
  member    = each.value
}

# The machine, in a subnet of its own: the functions' addresses are theirs alone.
resource "google_compute_subnetwork" "operator" {
  #checkov:skip=CKV_GCP_76:The subnet is IPv4 only, so there is no IPv6 access to make private.
  for_each = local.operator

  name                     = local.operator_names
  description              = "The operator's machine"
  network                  = google_compute_network.this.id
  region                   = var.region
  ip_cidr_range            = var.operator.subnet_cidr
  private_ip_google_access = true
  stack_type               = "IPV4_ONLY"

  log_config {
    aggregation_interval = "INTERVAL_10_MIN"
    flow_sampling        = 0.1
    metadata             = "EXCLUDE_ALL_METADATA"
  }
}

# The way out, for packages, the repository and LINE.
resource "google_compute_router" "operator" {
  for_each = local.operator

  name    = local.operator_names
  network = google_compute_network.this.id
  region  = var.region
}

resource "google_compute_router_nat" "operator" {
  for_each = local.operator

  name                               = local.operator_names
  router                             = google_compute_router.operator[each.key].name
  region                             = var.region
  nat_ip_allocate_option             = "AUTO_ONLY"
  source_subnetwork_ip_ranges_to_nat = "LIST_OF_SUBNETWORKS"

  subnetwork {
    name                    = google_compute_subnetwork.operator[each.key].id
    source_ip_ranges_to_nat = ["ALL_IP_RANGES"]
  }
}

# The way in: through Identity-Aware Proxy, which asks who it is.
resource "google_compute_firewall" "operator" {
  for_each = local.operator

  name        = local.operator_names
  description = "SSH to the operator's machine, from Identity-Aware Proxy's addresses alone"
  network     = google_compute_network.this.id
  direction   = "INGRESS"
  priority    = 1000

  source_ranges = ["35.235.240.0/20"]
  target_tags   = [local.operator_names]
  allow {
    protocol = "tcp"
    ports    = ["22"]
  }
}

resource "google_compute_instance" "operator" {
  #checkov:skip=CKV_GCP_38:Google-managed keys encrypt its disk, which holds a checkout and no data.
  for_each = local.operator

  name         = local.operator_names
  description  = "For the fairlane commands that reach Redis; stop it when it is not used"
  zone         = "${var.region}-${var.operator.zone}"
  machine_type = var.operator.machine_type
  tags         = [local.operator_names]

  boot_disk {
    initialize_params {
      image = "debian-cloud/debian-12"
    }
  }
  network_interface { # without access_config: no public address
    subnetwork = google_compute_subnetwork.operator[each.key].id
  }
  shielded_instance_config {
    enable_secure_boot = true
  }

  # The deployment's settings are not secret. What Debian's image lacks is installed, and the settings are taken
  # anew, whenever it starts.
  metadata = {
    enable-oslogin         = "TRUE"
    block-project-ssh-keys = "TRUE"
    fairlane-environment   = local.operator_environment
    startup-script         = <<-EOT
      #!/bin/sh
      apt-get -qq update && apt-get -qq install --yes git make python3-venv
      curl -sf -H 'Metadata-Flavor: Google' http://metadata.google.internal/computeMetadata/v1/instance/attributes/fairlane-environment >/etc/profile.d/fairlane.sh
    EOT
  }

  allow_stopping_for_update = true

  lifecycle {
    ignore_changes = [boot_disk] # a newer image is no reason to make it anew
  }

  depends_on = [google_compute_router_nat.operator]
}

resource "google_compute_instance_iam_member" "operator" {
  for_each = var.operator == null ? [] : toset(["roles/compute.instanceAdmin.v1", "roles/compute.osLogin"])

  instance_name = google_compute_instance.operator["this"].name
  zone          = google_compute_instance.operator["this"].zone
  role          = each.key
  member        = local.operator.this
}

resource "google_iap_tunnel_instance_iam_member" "operator" {
  for_each = local.operator

  instance = google_compute_instance.operator[each.key].name
  zone     = google_compute_instance.operator[each.key].zone
  role     = "roles/iap.tunnelResourceAccessor"
  member   = each.value
}
