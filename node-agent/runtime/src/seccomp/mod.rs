//! System call filters.
/// A compiled filter: classic BPF for seccomp(2), ready to load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {}

impl Program {
    /// Reads a program that [`Program::to_bytes`] wrote; `None` when the bytes are not one.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let _ = bytes;
        None
    }
    /// Writes the program down, eight bytes an instruction, in the byte order of this machine.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        Vec::new()
    }
}

/// Compiles `linux.seccomp` of a spec.
pub fn compile(seccomp: &oci_spec::runtime::LinuxSeccomp) -> crate::Result<Program> {
    let _ = seccomp;
    Err(crate::RuntimeError::Unsupported("not built yet".into()))
}
