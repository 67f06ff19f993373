//! Who may do what in the test registry, and its token server.
//!
//! Start reading at [`Gate`].

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

/// What the registry wants to see.
#[derive(Debug, Clone, Default)]
pub enum Gate {
    /// Nothing.
    #[default]
    Open,
    /// A name and password with every request.
    Basic {
        /// The only user's name.
        username: String,
        /// And password.
        password: String,
    },
    /// A token from the registry's own token server at `/token`.
    Token(TokenPolicy),
}

/// How the token server decides.
#[derive(Debug, Clone, Default)]
pub struct TokenPolicy {
    /// Users by name, with their passwords.
    pub users: BTreeMap<String, String>,
    /// Refresh tokens that are accepted.
    pub refresh_tokens: BTreeSet<String>,
    /// Whether nobody in particular may pull.
    pub allows_anonymous_pull: bool,
    /// What is said in `expires_in`; left out if `None`.
    pub announced_life: Option<u64>,
    /// Where the challenge sends clients instead of this registry's own `/token`.
    pub realm: Option<String>,
}

/// Tokens that were handed out.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    issued: Vec<Issued>,
}

#[derive(Debug)]
struct Issued {
    token: String,
    scopes: Vec<String>,
    is_revoked: bool,
}

impl Tokens {
    /// Hands out a token for those of the scopes that are granted.
    pub(super) fn issue(&mut self, scopes: Vec<String>) -> String {
        let token = format!("token-{}", self.issued.len() + 1);
        self.issued.push(Issued { token: token.clone(), scopes, is_revoked: false });
        token
    }

    pub(super) fn revoke_all(&mut self) {
        self.issued.iter_mut().for_each(|issued| issued.is_revoked = true);
    }

    /// Whether the header holds a living token that covers all of `needed` (repository and action).
    pub(super) fn allow(&self, header: Option<&str>, needed: &[(String, &str)]) -> Verdict {
        let token = header.and_then(|header| header.strip_prefix("Bearer "));
        let Some(issued) = token.and_then(|token| self.issued.iter().find(|issued| issued.token == token))
        else {
            return Verdict::Unknown;
        };
        if issued.is_revoked {
            return Verdict::Unknown;
        }
        let covers = |(name, action): &(String, &str)| {
            issued.scopes.iter().any(|scope| {
                let mut parts = scope.splitn(3, ':');
                parts.next() == Some("repository")
                    && parts.next() == Some(name)
                    && parts
                        .next()
                        .is_some_and(|actions| actions.split(',').any(|granted| granted == *action))
            })
        };
        if needed.iter().all(covers) { Verdict::Allowed } else { Verdict::Insufficient }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Allowed,
    Unknown,
    Insufficient,
}

/// Name and password of an `Authorization: Basic` header.
pub(super) fn read_basic(header: Option<&str>) -> Option<(String, String)> {
    let decoded = BASE64.decode(header?.strip_prefix("Basic ")?).ok()?;
    let text = String::from_utf8(decoded).ok()?;
    let (username, password) = text.split_once(':')?;
    Some((username.to_owned(), password.to_owned()))
}
