//! What can go wrong with an answer, and with which one.
//!
//! Start reading at [`Rule`].

use bytes::Bytes;
use http::Method;

/// How an answer is spoilt.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Another status, with headers and a body.
    Status {
        /// Such as 503.
        code: u16,
        /// Such as `("retry-after", "1")`.
        headers: Vec<(&'static str, String)>,
        /// Such as a JSON document of errors.
        body: String,
    },
    /// The connection is closed instead of an answer.
    Hangup,
    /// Headers as they should be, then so many bytes of the body, then the connection is closed.
    CutAfter(usize),
    /// Headers as they should be, then so many bytes of the body, then nothing for ever.
    StallAfter(usize),
    /// Nothing at all, not even headers.
    Silence,
    /// The body comes in pieces of this many bytes with a pause of some milliseconds after each.
    Slow(usize),
    /// One bit of the body is flipped.
    Corrupt,
    /// Another body, with its own length.
    Replace(Bytes),
    /// The body never ends.
    Endless,
    /// The whole content is sent although a range was asked for.
    IgnoreRange,
    /// Partial content from another place than was asked for.
    WrongRange,
    /// 307 to this base address, which the path of the request is added to.
    Redirect(String),
    /// A header has this value instead of its own.
    Header(&'static str, String),
    /// A header is missing.
    NoHeader(&'static str),
    /// So many bytes of the request's body are taken (and kept, if it is an upload), then the connection is closed.
    CutUploadAfter(usize),
}

impl Fault {
    /// A bare status.
    pub fn status(code: u16) -> Self {
        Self::Status { code, headers: Vec::new(), body: String::new() }
    }

    /// An error of the distribution API.
    pub fn refusal(code: u16, name: &str, message: &str) -> Self {
        Self::Status {
            code,
            headers: vec![("content-type", "application/json".to_owned())],
            body: format!(r#"{{"errors":[{{"code":"{name}","message":"{message}","detail":{{}}}}]}}"#),
        }
    }
}

/// Which answers are spoilt, how, and how often.
#[derive(Debug, Clone)]
pub struct Rule {
    pub(super) method: Option<Method>,
    pub(super) path: String,
    pub(super) remaining: usize,
    pub(super) fault: Fault,
}

impl Rule {
    /// Spoils every answer to requests whose path contains `path`.
    pub fn always(path: &str, fault: Fault) -> Self {
        Self { method: None, path: path.to_owned(), remaining: usize::MAX, fault }
    }

    /// Spoils the first answer to a request whose path contains `path`.
    pub fn once(path: &str, fault: Fault) -> Self {
        Self::always(path, fault).times(1)
    }

    /// Only so many answers.
    #[must_use]
    pub fn times(mut self, n: usize) -> Self {
        self.remaining = n;
        self
    }

    /// Only answers to this method.
    #[must_use]
    pub fn on(mut self, method: Method) -> Self {
        self.method = Some(method);
        self
    }

    pub(super) fn applies_to(&self, method: &Method, path: &str) -> bool {
        self.remaining > 0
            && self.method.as_ref().is_none_or(|wanted| wanted == method)
            && path.contains(&self.path)
    }
}
