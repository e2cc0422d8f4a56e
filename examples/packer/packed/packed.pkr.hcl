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

  # The unit that mounts the image, and the drop-in that lets buildkitd wait for it.
  provisioner "file" {
    source      = "${path.root}/var-lib-buildkit-packed-1.mount"
    destination = "/var/tmp/var-lib-buildkit-packed-1.mount"
  }

  provisioner "file" {
    source      = "${path.root}/packed-trees.conf"
    destination = "/var/tmp/packed-trees.conf"
  }

  # Before anything starts buildkitd in the image.
  provisioner "shell" {
    inline_shebang = "/bin/bash -e"
    inline = [
      "cd /var/tmp",
      "sudo install -m 0755 bin/oci2bk bin/regctl /usr/local/bin/",
      "sudo apt-get update -q && sudo apt-get install -y -q erofs-utils",
      "regctl image copy --referrers ${var.cache} ocidir://cache:latest",
      "sudo oci2bk convert --progress=plain --last-used=${var.last_used} ${var.mounts} cache /var/lib/buildkit",
      "sudo oci2bk pack --progress=plain /var/lib/buildkit",
      "sudo mount -t erofs -o ro,loop /var/lib/buildkit/packed/1.erofs /var/lib/buildkit/packed/1",
      "sudo oci2bk verify --trees --progress=plain /var/lib/buildkit",
      "sudo umount /var/lib/buildkit/packed/1",
      "sudo install -D -m 0644 var-lib-buildkit-packed-1.mount -t /etc/systemd/system",
      "sudo install -D -m 0644 packed-trees.conf -t /etc/systemd/system/buildkit.service.d",
      "sudo systemctl daemon-reload",
      "sudo systemctl enable var-lib-buildkit-packed-1.mount",
      "rm -r bin cache var-lib-buildkit-packed-1.mount packed-trees.conf",
    ]
  }
}
