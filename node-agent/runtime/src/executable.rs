//! Finding the program of a process in the container, with runc's rules and texts.
//!
//! Start reading at [`find`]. It runs inside the container's root as the user of the process, so what it says is what
//! execve(2) would say, but early enough to be an error of create, and with the texts that docker clients match.

use std::ffi::{CStr, CString};

use rustix::fs::{Access, AtFlags, CWD, FileType};

use crate::error::{ExecutableError, ExecutableReason};

/// The text that docker clients match for a missing program.
pub const NOT_FOUND_IN_PATH: &str = "executable file not found in $PATH";

/// Finds the file to execute for `name`.
pub(crate) fn find(name: &CStr, search_path: &[u8]) -> Result<CString, ExecutableError> {
    if name.to_bytes().contains(&b'/') {
        return match check(name) {
            Ok(()) => Ok(name.to_owned()),
            Err(problem) => Err(problem.describe(name)),
        };
    }
    for directory in search_path.split(|byte| *byte == b':') {
        let Some(candidate) = join(directory, name) else { continue };
        if !name.is_empty() && check(&candidate).is_ok() {
            if candidate.to_bytes().starts_with(b"/") {
                return Ok(candidate);
            }
            let text = "cannot run executable found relative to current directory".to_owned();
            return Err(Problem { reason: ExecutableReason::Other, text }.describe(name));
        }
    }
    let text = NOT_FOUND_IN_PATH.to_owned();
    Err(Problem { reason: ExecutableReason::NotFoundInPath, text }.describe(name))
}

/// Describes a failure of execve(2) itself.
pub(crate) fn execution_failure(path: &CStr, errno: i32) -> ExecutableError {
    ExecutableError {
        reason: ExecutableReason::from_errno(errno),
        text: format!("exec {}: {}", path.to_string_lossy(), errno_text(errno)),
    }
}

struct Problem {
    reason: ExecutableReason,
    text: String,
}

impl Problem {
    fn of(errno: rustix::io::Errno) -> Self {
        let errno = errno.raw_os_error();
        Self { reason: ExecutableReason::from_errno(errno), text: errno_text(errno) }
    }

    fn describe(self, name: &CStr) -> ExecutableError {
        ExecutableError { reason: self.reason, text: format!("exec: {}: {}", quote(name), self.text) }
    }
}

fn check(path: &CStr) -> Result<(), Problem> {
    let status = rustix::fs::statat(CWD, path, AtFlags::empty()).map_err(|errno| {
        let problem = Problem::of(errno);
        Problem { text: format!("stat {}: {}", path.to_string_lossy(), problem.text), ..problem }
    })?;
    if FileType::from_raw_mode(status.st_mode) == FileType::Directory {
        return Err(Problem::of(rustix::io::Errno::ISDIR));
    }
    // Root may read and write everything, but execute only what somebody may execute.
    if status.st_mode & 0o111 == 0 {
        return Err(Problem::of(rustix::io::Errno::ACCESS));
    }
    match rustix::fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS) {
        // Before 5.8 the kernel cannot be asked; execve(2) will tell.
        Ok(()) | Err(rustix::io::Errno::NOSYS) => Ok(()),
        Err(errno) => Err(Problem::of(errno)),
    }
}

/// Joins as Go's `filepath.Join` does for these cases: an empty directory means the current one.
fn join(directory: &[u8], name: &CStr) -> Option<CString> {
    let mut path = directory.to_vec();
    while path.len() > 1 && path.last() == Some(&b'/') {
        path.pop();
    }
    if !path.is_empty() && path != b"/" {
        path.push(b'/');
    }
    path.extend_from_slice(name.to_bytes());
    CString::new(path).ok()
}

/// Gives the kernel's text without the number that the standard library adds.
pub fn errno_text(errno: i32) -> String {
    let text = std::io::Error::from_raw_os_error(errno).to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

fn quote(name: &CStr) -> String {
    let mut quoted = String::from("\"");
    for letter in name.to_string_lossy().chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_of(name: &str, path: &str) -> (ExecutableReason, String) {
        let error = find(&CString::new(name).unwrap(), path.as_bytes()).unwrap_err();
        (error.reason, error.text)
    }

    #[test]
    fn texts_and_classes_are_those_of_runc() {
        let cases = [
            (
                "nope",
                "/bin:/usr/bin",
                ExecutableReason::NotFoundInPath,
                r#"exec: "nope": executable file not found in $PATH"#,
            ),
            ("", "/bin", ExecutableReason::NotFoundInPath, r#"exec: "": executable file not found in $PATH"#),
            (
                "/nope",
                "",
                ExecutableReason::NoSuchFile,
                r#"exec: "/nope": stat /nope: no such file or directory"#,
            ),
            (
                "/etc/passwd/x",
                "",
                ExecutableReason::NotADirectory,
                r#"exec: "/etc/passwd/x": stat /etc/passwd/x: not a directory"#,
            ),
            ("/", "", ExecutableReason::IsADirectory, r#"exec: "/": is a directory"#),
            (
                "/etc/passwd",
                "",
                ExecutableReason::PermissionDenied,
                r#"exec: "/etc/passwd": permission denied"#,
            ),
        ];
        for (name, path, reason, text) in cases {
            assert_eq!(text_of(name, path), (reason, text.to_owned()), "{name}");
        }
    }

    #[test]
    fn the_first_directory_of_the_path_wins() {
        let name = CString::new("sh").unwrap();
        assert_eq!(find(&name, b"/nonexistent:/bin/:/usr/bin").unwrap().as_bytes(), b"/bin/sh");
    }

    #[test]
    fn failures_of_execve_have_runcs_text() {
        let error = execution_failure(c"/x", libc::ENOEXEC);
        assert_eq!(
            (error.reason, error.text.as_str()),
            (ExecutableReason::Other, "exec /x: exec format error")
        );
        let error = execution_failure(c"/x", libc::ENOENT);
        assert_eq!(error.reason, ExecutableReason::NoSuchFile);
    }
}
