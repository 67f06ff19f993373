//! Operating system, architecture and variant of an image or a machine.
//!
//! Start reading at [`Platform`]. Names are the OCI image spec's (Go's GOOS and GOARCH). Reading an image index
//! and choosing from it belongs to registry-client and node-agent; the rule of what suits what is here.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What an image is built for, normalised: `x86_64` is `amd64`, `aarch64` is `arm64` with variant `v8` dropped.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Platform {
    /// Operating system, `linux` for everything that Shoal can run.
    pub os: String,
    /// Architecture in Go's names: `amd64`, `arm64`, `arm`, `386`, …
    pub architecture: String,
    /// Variant of the architecture, such as `v7` of `arm`. Empty when there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

/// Why a text is not a platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?}: unknown operating system or architecture: invalid argument")]
pub struct ParsePlatformError(String);

impl Platform {
    /// A platform from its parts, normalised.
    pub fn new(os: &str, architecture: &str, variant: &str) -> Self {
        let os = if os.eq_ignore_ascii_case("macos") { "darwin".to_owned() } else { os.to_ascii_lowercase() };
        let architecture = architecture.to_ascii_lowercase();
        let variant = variant.to_ascii_lowercase();
        let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
            ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64".to_owned(), String::new()),
            ("x86_64" | "x86-64" | "amd64", _) => ("amd64".to_owned(), variant),
            ("i386" | "i486" | "i586" | "i686" | "386", _) => ("386".to_owned(), String::new()),
            ("aarch64" | "arm64", "8" | "v8") => ("arm64".to_owned(), String::new()),
            ("aarch64" | "arm64", _) => ("arm64".to_owned(), variant),
            ("armhf", _) => ("arm".to_owned(), "v7".to_owned()),
            ("armel", _) => ("arm".to_owned(), "v6".to_owned()),
            ("arm", "" | "7") => ("arm".to_owned(), "v7".to_owned()),
            ("arm", "5" | "6" | "8") => ("arm".to_owned(), format!("v{variant}")),
            _ => (architecture, variant),
        };
        Self { os, architecture, variant }
    }

    /// The platform this program was built for, which is the machine's.
    pub fn host() -> Self {
        Self::new(std::env::consts::OS, std::env::consts::ARCH, "")
    }

    /// How well an image for `self` runs on `machine`: `None` not at all, else lower is better.
    ///
    /// A 64-bit ARM runs `arm` images, newest variant first; an `amd64` runs `386`. The order is containerd's
    /// (platforms/compare.go): the exact architecture always wins over a compatible one.
    pub fn rank_on(&self, machine: &Self) -> Option<u8> {
        if self.os != machine.os {
            return None;
        }
        let arm_rank = |variant: &str| match variant {
            "v8" => Some(1),
            "v7" => Some(2),
            "v6" => Some(3),
            "v5" => Some(4),
            _ => None,
        };
        match (machine.architecture.as_str(), self.architecture.as_str()) {
            (host, image) if host == image && self.variant == machine.variant => Some(0),
            ("amd64", "amd64") if self.variant.is_empty() => Some(1),
            ("amd64", "386") => Some(9),
            ("arm64", "arm64") if self.variant.is_empty() => Some(1),
            ("arm64", "arm") => arm_rank(&self.variant).map(|rank| rank + 4),
            ("arm", "arm") => {
                let (image, host) = (arm_rank(&self.variant)?, arm_rank(&machine.variant)?);
                (image >= host).then_some(image)
            }
            _ => None,
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if self.variant.is_empty() { Ok(()) } else { write!(f, "/{}", self.variant) }
    }
}

impl FromStr for Platform {
    type Err = ParsePlatformError;

    /// Reads `os/arch[/variant]`, or one of them alone (the machine's own fills the rest).
    fn from_str(text: &str) -> Result<Self, ParsePlatformError> {
        let wrong = || ParsePlatformError(text.to_owned());
        let parts: Vec<&str> = text.split('/').collect();
        let is_part = |part: &&str| {
            !part.is_empty()
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
        };
        if !parts.iter().all(is_part) {
            return Err(wrong());
        }
        let host = Self::host();
        match parts.as_slice() {
            [os] if is_known_os(os) => Ok(Self::new(os, &host.architecture, &host.variant)),
            [architecture] if is_known_architecture(architecture) => {
                Ok(Self::new(&host.os, architecture, ""))
            }
            [os, architecture] => Ok(Self::new(os, architecture, "")),
            [os, architecture, variant] => Ok(Self::new(os, architecture, variant)),
            _ => Err(wrong()),
        }
    }
}

fn is_known_os(name: &str) -> bool {
    matches!(
        name.to_ascii_lowercase().as_str(),
        "linux" | "windows" | "darwin" | "macos" | "freebsd" | "netbsd" | "openbsd"
    )
}

fn is_known_architecture(name: &str) -> bool {
    matches!(
        name.to_ascii_lowercase().as_str(),
        "amd64"
            | "x86_64"
            | "386"
            | "i386"
            | "arm"
            | "armhf"
            | "armel"
            | "arm64"
            | "aarch64"
            | "ppc64le"
            | "s390x"
            | "riscv64"
            | "mips64le"
            | "loong64"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_are_normalised_when_read() {
        let cases = [
            ("linux/x86_64", "linux/amd64"),
            ("Linux/AARCH64/v8", "linux/arm64"),
            ("linux/armhf", "linux/arm/v7"),
            ("linux/arm/6", "linux/arm/v6"),
            ("linux/i686", "linux/386"),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), expected);
        }
    }

    #[test]
    fn texts_that_are_no_platform_are_refused() {
        for text in ["", "/", "linux/", "banana", "a/b/c/d", "linux/amd64/../x"] {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_machines_own_architecture_is_preferred() {
        let machine = Platform::new("linux", "arm64", "");
        let rank = |arch: &str, variant: &str| Platform::new("linux", arch, variant).rank_on(&machine);
        assert!(rank("arm64", "") < rank("arm", "v8"));
        assert!(rank("arm", "v7") < rank("arm", "v6"));
        assert_eq!(rank("amd64", ""), None);
        assert_eq!(Platform::new("windows", "arm64", "").rank_on(&machine), None);
    }
}
