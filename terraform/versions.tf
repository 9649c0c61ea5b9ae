terraform {
  # 1.11 brought write-only arguments, which keep the Redis URL out of the secret version's state.
  required_version = ">= 1.11"

  required_providers {
    google = {
      source = "hashicorp/google"
      # 7.21 brought Direct VPC egress to functions; what keeps a queue and a TTL policy from being deleted is
      # in 7.46, against whose schema this folder is checked.
      version = ">= 7.46, < 8"
    }
    archive = {
      source  = "hashicorp/archive"
      version = ">= 2.7, < 3"
    }
  }

  # The bucket is given to `terraform init -backend-config=bucket=…`; each deployment
  # has one of its own. The state holds Memorystore's AUTH
  # string (an attribute of the instance), so the bucket must be private; README.md makes it so.
  backend "gcs" {
    prefix = "fairlane"
  }
}

provider "google" {
  project        = var.project_id
  region         = var.region
  default_labels = { app = var.name }
}
