//! Where the files of a build come from, and where in them its instructions are. Pure.
//!
//! Start reading at [`ContextSource::parse`]. Nothing is fetched and nothing is looked up on disk here: links inside a context
//! are resolved by the kernel, inside the context's root, when it is opened.

use crate::error::BuildError;

/// The context is the client's session (BuildKit).
const IN_SESSION: &str = "client-session";
/// The context is sent by another request (BuildKit).
const UPLOADED: &str = "upload-request";
/// The name of instructions when none is given.
const DEFAULT_DOCKERFILE: &str = "Dockerfile";
/// Beginnings of what is a git repository without being a URL that ends in `.git`. The list is Docker's.
const GIT_PREFIXES: [&str; 3] = ["git://", "github.com/", "git@"];

/// Where the files of a build come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContextSource {
    /// The body of the request: an archive, plain or compressed.
    Body,
    /// A document: a Dockerfile if it is plain text, else an archive.
    Url(String),
    /// A git repository.
    Git {
        /// What to clone from; never begins with `-`.
        repository: String,
        /// Branch, tag or commit; `None` is the repository's default branch. Never begins with `-`.
        revision: Option<String>,
        /// Directory inside, as written; `None` is the root.
        directory: Option<String>,
    },
    /// The client's session.
    Session,
    /// The body of another request of the same client, which names this build.
    OtherRequest,
}

impl ContextSource {
    /// Reads what clients call `remote`. Empty is the body.
    pub fn parse(remote: &str) -> Result<Self, BuildError> {
        match remote {
            "" => Ok(Self::Body),
            IN_SESSION => Ok(Self::Session),
            UPLOADED => Ok(Self::OtherRequest),
            _ if is_git(remote) => parse_git(remote),
            _ if is_url(remote) => Ok(Self::Url(remote.to_owned())),
            _ => Err(BuildError::Context(remote.to_owned())),
        }
    }
}

fn is_url(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://")
}

fn is_git(text: &str) -> bool {
    let before_fragment = text.split_once('#').map_or(text, |(address, _)| address);
    (is_url(text) && before_fragment.ends_with(".git"))
        || GIT_PREFIXES.iter().any(|prefix| text.starts_with(prefix))
}

/// Splits `repository#revision:directory`.
fn parse_git(text: &str) -> Result<ContextSource, BuildError> {
    let (address, fragment) = text.split_once('#').unwrap_or((text, ""));
    let (revision, directory) = fragment.split_once(':').unwrap_or((fragment, ""));
    // git would read it as an option, some of which run programs.
    if revision.starts_with('-') {
        return Err(BuildError::Revision(revision.to_owned()));
    }
    let has_scheme = is_url(address) || address.starts_with("git://") || address.starts_with("git@");
    let repository = if has_scheme { address.to_owned() } else { format!("https://{address}") };
    let present = |part: &str| (!part.is_empty()).then(|| part.to_owned());
    Ok(ContextSource::Git { repository, revision: present(revision), directory: present(directory) })
}

/// A path inside a context: relative, of plain names, so that it leads out of the context by no means but a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextPath(String);

impl ContextPath {
    /// Reads a path as Docker does: the context is its root, above which nothing is. Empty is `Dockerfile`.
    pub fn parse(text: &str) -> Result<Self, BuildError> {
        if text.contains('\0') {
            return Err(BuildError::Path(text.to_owned()));
        }
        let mut names: Vec<&str> = Vec::new();
        for name in text.split('/') {
            match name {
                "" | "." => {}
                ".." => {
                    names.pop();
                }
                _ => names.push(name),
            }
        }
        Ok(Self(if names.is_empty() { DEFAULT_DOCKERFILE.to_owned() } else { names.join("/") }))
    }

    /// The path, without a slash at its beginning.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is the name that stands when the client gave none; then `dockerfile` is looked for as well.
    pub fn is_default(&self) -> bool {
        self.0 == DEFAULT_DOCKERFILE
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use shoal_types::ErrorKind;

    use super::*;

    fn git(repository: &str, revision: Option<&str>, directory: Option<&str>) -> ContextSource {
        ContextSource::Git {
            repository: repository.to_owned(),
            revision: revision.map(str::to_owned),
            directory: directory.map(str::to_owned),
        }
    }

    #[test]
    fn contexts_are_told_apart_as_docker_does() {
        let url = |text: &str| ContextSource::Url(text.to_owned());
        let cases = [
            ("", ContextSource::Body),
            ("client-session", ContextSource::Session),
            ("upload-request", ContextSource::OtherRequest),
            ("http://a.example/x.tar", url("http://a.example/x.tar")),
            ("https://a.example/x.git/y", url("https://a.example/x.git/y")),
            ("https://a.example/x.git", git("https://a.example/x.git", None, None)),
            ("https://a.example/x.git#v1", git("https://a.example/x.git", Some("v1"), None)),
            ("https://a.example/x.git#:sub/d", git("https://a.example/x.git", None, Some("sub/d"))),
            ("github.com/a/b#v1:sub", git("https://github.com/a/b", Some("v1"), Some("sub"))),
            ("git://a.example/x", git("git://a.example/x", None, None)),
            ("git@a.example:x/y.git#main", git("git@a.example:x/y.git", Some("main"), None)),
        ];
        for (text, source) in cases {
            assert_eq!(ContextSource::parse(text).unwrap(), source, "{text}");
        }
    }

    #[test]
    fn what_is_no_context_is_refused_with_dockers_texts() {
        let cases = [
            ("ftp://a.example/x", "remoteURL (ftp://a.example/x) could not be recognized as URL"),
            ("/etc", "remoteURL (/etc) could not be recognized as URL"),
            ("--upload-pack=x", "remoteURL (--upload-pack=x) could not be recognized as URL"),
            ("https://a.example/x.git#--upload-pack=x", "invalid refspec: --upload-pack=x"),
        ];
        for (text, message) in cases {
            let error = ContextSource::parse(text).unwrap_err();
            assert_eq!(error.to_string(), message);
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        }
    }

    #[test]
    fn paths_of_dockerfiles_end_at_the_root_of_the_context() {
        let cases = [
            ("", "Dockerfile"),
            ("/", "Dockerfile"),
            ("Dockerfile", "Dockerfile"),
            ("./build//Dockerfile.dev", "build/Dockerfile.dev"),
            ("a/../b", "b"),
            ("../../etc/passwd", "etc/passwd"),
            ("/etc/passwd", "etc/passwd"),
        ];
        for (text, path) in cases {
            assert_eq!(ContextPath::parse(text).unwrap().as_str(), path, "{text:?}");
        }
        assert!(ContextPath::parse("./Dockerfile").unwrap().is_default());
        assert!(!ContextPath::parse("dockerfile").unwrap().is_default());
        assert_eq!(ContextPath::parse("a\0b").unwrap_err().kind(), ErrorKind::InvalidArgument);
    }

    proptest! {
        #[test]
        fn no_path_leads_up_and_cleaning_twice_changes_nothing(text in "[a./]{0,12}") {
            let path = ContextPath::parse(&text).unwrap();
            prop_assert!(path.as_str().split('/').all(|name| !matches!(name, "" | "." | "..")));
            prop_assert_eq!(ContextPath::parse(path.as_str()).unwrap(), path);
        }

        #[test]
        fn nothing_that_git_is_given_begins_like_an_option(text in "(git@|git://|github.com/|https://)[-a-z.:#/]{0,16}(.git)?[-#:a-z]{0,8}") {
            if let Ok(ContextSource::Git { repository, revision, .. }) = ContextSource::parse(&text) {
                prop_assert!(!repository.starts_with('-'));
                prop_assert!(!revision.unwrap_or_default().starts_with('-'));
            }
        }
    }
}
