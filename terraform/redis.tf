# Redis: slots, mailboxes, sessions, rates. Losing it loses speed, never an answer (the journal is in Firestore).
resource "google_redis_instance" "this" {
  name           = var.name
  display_name   = "fairlane: slots, mailboxes, sessions"
  region         = var.region
  tier           = "STANDARD_HA" # replication is asynchronous: a failover may lose the last writes, which is provided for
  memory_size_gb = var.redis_memory_gb
  redis_version  = "REDIS_7_2"

  authorized_network      = google_compute_network.this.id
  connect_mode            = "DIRECT_PEERING"
  auth_enabled            = true
  transit_encryption_mode = "SERVER_AUTHENTICATION"

  # The default policy evicts keys with a time to live, and leases are such keys.
  redis_configs = { maxmemory-policy = "noeviction" }

  maintenance_policy {
    weekly_maintenance_window {
      day = "SUNDAY" # 19:00 UTC is Monday 02:00 in Bangkok
      start_time {
        hours   = 19
        minutes = 0
        seconds = 0
        nanos   = 0
      }
    }
  }

  deletion_protection = var.deletion_protection

  depends_on = [google_project_service.this]
}

locals {
  # Memorystore's certificate names the instance's address as its common name alone, which Python does not
  # accept as a host name. The authority is the instance's own, so checking the chain checks the server.
  redis_url = "rediss://:${google_redis_instance.this.auth_string}@${google_redis_instance.this.host}:${google_redis_instance.this.port}/0?ssl_check_hostname=false"

  # Not secret. During a rotation there are two authorities, and the functions trust both.
  redis_ca_cert = join("\n", nonsensitive(google_redis_instance.this.server_ca_certs[*].cert))
}
