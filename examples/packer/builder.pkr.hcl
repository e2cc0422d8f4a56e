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

variable "mounts" {
  type        = string
  description = "--mounts imports the cache mounts that are attached to the cache."
  default     = ""
}

build {
  name    = "builder"
  sources = ["source.amazon-ebs.builder"]

  # oci2bk and regctl.
  provisioner "file" {
    source      = "${path.root}/bin"
    destination = "/var/tmp"
  }

  # Before anything starts buildkitd in the image.
  provisioner "shell" {
    inline_shebang = "/bin/bash -e"
    inline = [
      "cd /var/tmp",
      "sudo install -m 0755 bin/oci2bk bin/regctl /usr/local/bin/",
      "regctl image copy --referrers ${var.cache} ocidir://cache:latest",
      "sudo oci2bk convert --progress=plain --last-used=${var.last_used} ${var.mounts} cache /var/lib/buildkit",
      "sudo oci2bk verify --progress=plain /var/lib/buildkit",
      "rm -r bin cache",
    ]
  }
}
