//! The output of `--version`.

use std::sync::LazyLock;

use oci2bk::release::Version;

/// The version, the commit if it is known, and the releases of BuildKit for which states are written.
pub(crate) static LONG: LazyLock<String> = LazyLock::new(|| {
    let commit = option_env!("OCI2BK_BUILT_FROM").map(|commit| format!("commit {commit}\n"));
    format!(
        "{}\n{}BuildKit {} to {}",
        env!("CARGO_PKG_VERSION"),
        commit.unwrap_or_default(),
        Version::OLDEST,
        Version::NEWEST
    )
});
