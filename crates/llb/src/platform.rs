//! Platforms, in the normal form that BuildKit hashes.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

/// A platform as an op states it (`pb.Platform`, as in the OCI image specification).
///
/// ```
/// use llb::{ParsePlatformError, Platform};
///
/// let platform: Platform = "linux/arm64/v8".parse()?;
/// assert_eq!(platform.variant, "v8");
/// assert_eq!(platform.normalized().variant, "");
/// let ParsePlatformError { text, .. } = "linux".parse::<Platform>().unwrap_err();
/// assert_eq!(text, "linux");
/// # Ok::<(), ParsePlatformError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
pub struct Platform {
    /// Operating system, such as `linux`.
    #[serde(rename = "OS")]
    pub os: String,
    /// CPU architecture, such as `amd64`.
    #[serde(rename = "Architecture")]
    pub architecture: String,
    /// Variant of the architecture, such as `v7`.
    #[serde(rename = "Variant")]
    pub variant: String,
    /// Version of the operating system.
    #[serde(rename = "OSVersion")]
    pub os_version: String,
    /// Required features of the operating system.
    #[serde(rename = "OSFeatures")]
    pub os_features: Vec<String>,
}

/// Why a text is not a platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a platform of the form os/architecture[/variant]")]
#[non_exhaustive]
pub struct ParsePlatformError {
    /// The rejected text, shortened to 100 characters.
    pub text: String,
}

/// The architectures and variants of BuildKit's Linux releases (`docker-bake.hcl` of v0.32.2).
const RELEASED_FOR: [(&str, &str); 6] =
    [("amd64", ""), ("arm64", ""), ("arm", "v7"), ("ppc64le", ""), ("riscv64", ""), ("s390x", "")];

impl Platform {
    /// Returns the Linux platforms of BuildKit's releases.
    ///
    /// ```
    /// use llb::Platform;
    ///
    /// assert!(Platform::released_for().contains(&"linux/arm64".parse()?));
    /// # Ok::<(), llb::ParsePlatformError>(())
    /// ```
    pub fn released_for() -> Vec<Self> {
        let platform = |(architecture, variant): (&str, &str)| Self {
            os: "linux".into(),
            architecture: architecture.into(),
            variant: variant.into(),
            ..Self::default()
        };
        RELEASED_FOR.into_iter().map(platform).collect()
    }

    /// Returns the platform of this machine, at compile time: for an architecture with variants, the one
    /// without a variant.
    ///
    /// ```
    /// use llb::Platform;
    ///
    /// assert_eq!(Platform::of_machine().normalized(), Platform::of_machine());
    /// ```
    pub fn of_machine() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86" => "386",
            "powerpc64" => "ppc64le",
            "loongarch64" => "loong64",
            other => other,
        };
        let machine =
            Self { os: "linux".into(), architecture: architecture.into(), ..Self::default() };
        machine.normalized()
    }

    /// Returns how well an image for this platform serves `wanted`; lower is better, and `None` means not at
    /// all.
    ///
    /// As in containerd, a processor also runs images for older variants (containerd/platforms v1.0.0-rc.5
    /// `compare.go` `platformVector`).
    ///
    /// ```
    /// use llb::Platform;
    ///
    /// let (v6, v7): (Platform, Platform) = ("linux/arm/v6".parse()?, "linux/arm/v7".parse()?);
    /// assert_eq!((v7.distance(&v7), v6.distance(&v7), v7.distance(&v6)), (Some(0), Some(1), None));
    /// # Ok::<(), llb::ParsePlatformError>(())
    /// ```
    pub fn distance(&self, wanted: &Self) -> Option<u32> {
        let (own, wanted) = (self.normalized(), wanted.normalized());
        if (&own.os, &own.architecture) != (&wanted.os, &wanted.architecture) {
            return None;
        }
        let level = |platform: &Self| match (&*platform.architecture, &*platform.variant) {
            ("amd64", "") => Some(1),
            ("arm64", "") => Some(8),
            (_, "") => Some(0),
            (_, variant) => variant.strip_prefix('v')?.parse::<u32>().ok(),
        };
        match (level(&own), level(&wanted)) {
            _ if own.variant == wanted.variant => Some(0),
            (Some(own), Some(wanted)) => wanted.checked_sub(own),
            _ => None,
        }
    }

    /// Returns the platform with canonical names, as containerd's `platforms.Normalize` (containerd/platforms
    /// v1.0.0-rc.5, `database.go`): lower case, `x86_64` is `amd64`, `aarch64` is `arm64` without `v8`, `arm`
    /// without a variant is `v7`. A platform without an OS becomes Linux, where the daemon would use its own.
    #[must_use]
    pub fn normalized(&self) -> Self {
        let (architecture, variant) =
            normal_architecture(self.architecture.to_lowercase(), self.variant.to_lowercase());
        let mut os_features = self.os_features.clone();
        os_features.sort();
        os_features.dedup();
        Self {
            os: normal_os(self.os.to_lowercase()),
            architecture,
            variant,
            os_version: self.os_version.clone(),
            os_features,
        }
    }
}

fn normal_os(os: String) -> String {
    match os.as_str() {
        "" => "linux".into(),
        "macos" => "darwin".into(),
        _ => os,
    }
}

fn normal_architecture(architecture: String, variant: String) -> (String, String) {
    let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
        ("i386", _) => ("386", ""),
        ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
        ("x86_64" | "x86-64" | "amd64", variant) => ("amd64", variant),
        ("aarch64" | "arm64", "8" | "v8" | "v8.0") => ("arm64", ""),
        ("aarch64" | "arm64", "9" | "9.0" | "v9.0") => ("arm64", "v9"),
        ("aarch64" | "arm64", variant) => ("arm64", variant),
        ("armhf", _) => ("arm", "v7"),
        ("armel", _) => ("arm", "v6"),
        ("arm", "" | "7") => ("arm", "v7"),
        ("arm", "5") => ("arm", "v5"),
        ("arm", "6") => ("arm", "v6"),
        ("arm", "8") => ("arm", "v8"),
        other => other,
    };
    (architecture.into(), variant.into())
}

impl FromStr for Platform {
    type Err = ParsePlatformError;

    /// Reads `os/architecture[/variant]`, the form in provenance (containerd `platforms.Format`).
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.split('/');
        let (os, architecture) = (parts.next(), parts.next());
        let variant = parts.next().unwrap_or_default();
        match (os, architecture, parts.next()) {
            (Some(os), Some(architecture), None) if !os.is_empty() && !architecture.is_empty() => {
                Ok(Self {
                    os: os.into(),
                    architecture: architecture.into(),
                    variant: variant.into(),
                    ..Self::default()
                })
            }
            _ => Err(ParsePlatformError { text: text.chars().take(100).collect() }),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if self.variant.is_empty() { Ok(()) } else { write!(f, "/{}", self.variant) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalizes_as_containerd_does() {
        // The output of containerd/platforms v1.0.0-rc.5 for Format(Normalize(Platform)).
        let table = [
            ("linux/amd64", "linux/amd64"),
            ("Linux/x86_64", "linux/amd64"),
            ("linux/x86-64/v1", "linux/amd64"),
            ("linux/amd64/v3", "linux/amd64/v3"),
            ("linux/i386/whatever", "linux/386"),
            ("linux/386", "linux/386"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm64/8", "linux/arm64"),
            ("linux/arm64/V8.0", "linux/arm64"),
            ("linux/arm64/9.0", "linux/arm64/v9"),
            ("linux/arm64/v9.2", "linux/arm64/v9.2"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/arm/7", "linux/arm/v7"),
            ("linux/arm/v6", "linux/arm/v6"),
            ("linux/arm/5", "linux/arm/v5"),
            ("linux/arm/8", "linux/arm/v8"),
            ("linux/armhf", "linux/arm/v7"),
            ("linux/armel", "linux/arm/v6"),
            ("linux/ARM/V6", "linux/arm/v6"),
            ("macos/arm64", "darwin/arm64"),
            ("linux/riscv64", "linux/riscv64"),
        ];
        for (given, expected) in table {
            let platform: Platform = given.parse().unwrap();
            assert_eq!(platform.normalized().to_string(), expected, "{given}");
        }
    }

    #[test]
    fn features_are_sorted_and_an_absent_os_is_linux() {
        let platform = Platform {
            architecture: "amd64".into(),
            os_features: vec!["win32k".into(), "a".into(), "win32k".into()],
            ..Platform::default()
        };
        assert_eq!(platform.normalized().os, "linux");
        assert_eq!(platform.normalized().os_features, ["a", "win32k"]);
    }

    #[test]
    fn an_image_for_an_older_variant_serves_and_the_nearest_one_is_best() {
        let distance = |image: &str, wanted: &str| {
            image.parse::<Platform>().unwrap().distance(&wanted.parse().unwrap())
        };
        assert_eq!(distance("linux/amd64", "linux/amd64"), Some(0));
        assert_eq!(distance("linux/amd64", "linux/amd64/v3"), Some(2));
        assert_eq!(distance("linux/amd64/v3", "linux/amd64"), None);
        assert_eq!(distance("linux/arm/v6", "linux/arm/v7"), Some(1));
        assert_eq!(distance("linux/arm64/v8", "linux/arm64"), Some(0));
        assert_eq!(distance("linux/arm64", "linux/amd64"), None);
        assert_eq!(distance("windows/amd64", "linux/amd64"), None);
        assert_eq!(distance("unknown/unknown", "linux/amd64"), None);
    }

    #[test]
    fn refuses_what_is_no_platform() {
        for text in ["", "linux", "linux/", "/amd64", "linux/arm/v7/x"] {
            let error = text.parse::<Platform>().unwrap_err();
            assert_eq!(error, ParsePlatformError { text: text.to_owned() });
            let form = "is not a platform of the form os/architecture[/variant]";
            assert_eq!(error.to_string(), format!("{text:?} {form}"));
        }
    }
}
