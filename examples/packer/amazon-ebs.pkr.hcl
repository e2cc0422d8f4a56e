# Where the image is made. Another source takes the place of this file without a change to builder.pkr.hcl
# but for its name there.
packer {
  required_plugins {
    amazon = {
      source  = "github.com/hashicorp/amazon"
      version = ">= 1.2.6"
    }
  }
}

variable "region" {
  type    = string
  default = "eu-central-1"
}

source "amazon-ebs" "builder" {
  region        = var.region
  ami_name      = "builder-{{timestamp}}"
  instance_type = "m7i.large"
  ssh_username  = "admin"

  source_ami_filter {
    owners      = ["136693071363"] # Debian
    most_recent = true
    filters = {
      name                = "debian-12-amd64-*"
      root-device-type    = "ebs"
      virtualization-type = "hvm"
    }
  }

  # The disk that builders of this image start with; the README says how large.
  launch_block_device_mappings {
    device_name           = "/dev/xvda"
    volume_type           = "gp3"
    volume_size           = 100
    throughput            = 500
    delete_on_termination = true
  }
}
