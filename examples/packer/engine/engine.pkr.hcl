variable "cache" {
  type        = string
  description = "The cache with its keys, in a registry."
  default     = "registry.example.com/team/app-cache:latest"
}

variable "last_used" {
  type        = string
  description = "When the state counts as last used: now, or when the image goes out of service."
  default     = "now"
}

build {
  name    = "engine"
  sources = ["source.amazon-ebs.builder"]

  # oci2bk and regctl.
  provisioner "file" {
    source      = "${path.root}/bin"
    destination = "/var/tmp"
  }

  # The machine has Docker Engine already. It runs again afterwards, for later steps such as docker pull.
  provisioner "shell" {
    inline_shebang = "/bin/bash -e"
    inline = [
      "cd /var/tmp",
      "sudo install -m 0755 bin/oci2bk bin/regctl /usr/local/bin/",
      "regctl image copy --referrers ${var.cache} ocidir://cache:latest",
      "buildkit=$(sudo docker buildx inspect default | sed -n 's/^BuildKit version: *//p')",
      "sudo systemctl stop docker.socket docker.service containerd.service",
      "sudo oci2bk convert --progress=plain --last-used=${var.last_used} --buildkit=$buildkit cache --engine",
      "sudo oci2bk verify --progress=plain --engine",
      "sudo systemctl start containerd.service docker.socket docker.service",
      "rm -r bin cache",
    ]
  }
}
