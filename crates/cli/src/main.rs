//! The `oci2bk` command.

fn main() {}
