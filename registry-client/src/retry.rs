//! Whether and when to try again. Pure.
//!
//! Start reading at [`Retries::after`]. A transfer that gets somewhere may go on for ever; one that gets nowhere has a
//! number of attempts. Waiting is done by the caller.

use std::time::Duration;

use http::StatusCode;

use crate::config::{Limits, Timeouts};
use crate::error::{RegistryError, TransportFailure};
use crate::failure::Failure;

/// An attempt that brought this much counts as success, so that a 30 GB layer over a line that breaks every ten
/// minutes arrives one day. It bounds the number of attempts by the size of the blob.
const WORTHWHILE: u64 = 1 << 20;

/// What a request is for, as far as patience goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Somebody waits for the answer and nothing is lost by giving up: no attempt if nobody listens at the address.
    Question,
    /// Work has been done already: wait even for a registry that restarts.
    Transfer,
}

/// Counts the failed attempts of one operation.
#[derive(Debug, Clone)]
pub(crate) struct Retries {
    patience: Patience,
    allowed: u32,
    failed: u32,
    first: Duration,
    longest: Duration,
}

impl Retries {
    pub(crate) fn new(patience: Patience, limits: &Limits, timeouts: &Timeouts) -> Self {
        let allowed = match patience {
            Patience::Question => limits.attempts.min(3),
            Patience::Transfer => limits.attempts,
        };
        Self { patience, allowed, failed: 0, first: timeouts.first_retry, longest: timeouts.longest_retry }
    }

    /// How many attempts in a row have failed.
    pub(crate) fn failed(&self) -> u32 {
        self.failed
    }

    /// The pause before the next attempt, `None` if there shall be none. `gained` is what the failed one brought;
    /// `jitter` is a random number from 0 to 1.
    pub(crate) fn after(&mut self, failure: &Failure, gained: u64, jitter: f64) -> Option<Duration> {
        if !self.is_worth_another(failure) {
            return None;
        }
        if gained >= WORTHWHILE {
            self.failed = 0;
        }
        self.failed += 1;
        if self.failed >= self.allowed {
            return None;
        }
        let doubled = self.first.saturating_mul(1u32.checked_shl(self.failed - 1).unwrap_or(u32::MAX));
        let backoff = doubled.min(self.longest);
        // Between half and all of it, so that many clients of one registry do not come back together.
        let backoff = backoff.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0);
        Some(failure.retry_after.map_or(backoff, |wanted| wanted.max(backoff)))
    }

    fn is_worth_another(&self, failure: &Failure) -> bool {
        if failure.retry_after.is_some_and(|wanted| wanted > self.longest) {
            return false;
        }
        match &failure.error {
            RegistryError::Transport { failure, .. } => self.is_passing(failure),
            RegistryError::UnexpectedStatus(status) => is_passing_status(*status),
            RegistryError::Refused(_) => failure.status.is_some_and(is_passing_status),
            _ => false,
        }
    }

    fn is_passing(&self, failure: &TransportFailure) -> bool {
        match failure {
            TransportFailure::Cut(_) | TransportFailure::Timeout(_) => true,
            TransportFailure::Connect { .. }
            | TransportFailure::Lookup { .. }
            | TransportFailure::NoSuchHost { .. } => self.patience == Patience::Transfer,
            TransportFailure::Proxy(_) => self.patience == Patience::Transfer,
            TransportFailure::TokenServer { failure, .. } => self.is_passing(failure),
            TransportFailure::NotTls
            | TransportFailure::Certificate(_)
            | TransportFailure::Tls(_)
            | TransportFailure::Malformed(_) => false,
        }
    }
}

fn is_passing_status(status: StatusCode) -> bool {
    status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED
        || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT)
}

/// A random number from 0 to 1 for [`Retries::after`].
pub(crate) fn jitter() -> f64 {
    rand::random()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retries(patience: Patience) -> Retries {
        let timeouts = Timeouts {
            first_retry: Duration::from_millis(100),
            longest_retry: Duration::from_secs(1),
            ..Timeouts::default()
        };
        Retries::new(patience, &Limits { attempts: 6, ..Limits::default() }, &timeouts)
    }

    fn transport(failure: TransportFailure) -> Failure {
        RegistryError::Transport { method: "Get", url: String::new(), failure }.into()
    }

    fn status(code: u16, retry_after: Option<u64>) -> Failure {
        let status = StatusCode::from_u16(code).unwrap();
        let retry_after = retry_after.map(Duration::from_secs);
        Failure { error: RegistryError::UnexpectedStatus(status), status: Some(status), retry_after }
    }

    #[test]
    fn pauses_double_up_to_the_longest_and_attempts_run_out() {
        let mut retries = retries(Patience::Transfer);
        let cut = || transport(TransportFailure::Cut("EOF".to_owned()));
        let pauses: Vec<_> =
            (0..6).map(|_| retries.after(&cut(), 0, 1.0).map(|pause| pause.as_millis())).collect();
        assert_eq!(pauses, [Some(100), Some(200), Some(400), Some(800), Some(1000), None]);
    }

    #[test]
    fn an_attempt_that_got_somewhere_starts_the_count_anew() {
        let mut retries = retries(Patience::Transfer);
        for _ in 0..100 {
            let pause = retries.after(&transport(TransportFailure::Timeout("")), WORTHWHILE, 0.0);
            assert_eq!(pause, Some(Duration::from_millis(50)));
        }
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        let refused = || TransportFailure::Connect { address: String::new(), problem: String::new() };
        let cases = [
            (transport(TransportFailure::Cut(String::new())), true, true),
            (transport(refused()), false, true),
            (transport(TransportFailure::NotTls), false, false),
            (transport(TransportFailure::Certificate(String::new())), false, false),
            (status(500, None), true, true),
            (status(503, Some(1)), true, true),
            (status(501, None), false, false),
            (status(429, None), true, true),
            (status(429, Some(3600)), false, false),
            (status(404, None), false, false),
            (RegistryError::InvalidRequest(String::new()).into(), false, false),
        ];
        for (failure, question, transfer) in cases {
            assert_eq!(
                retries(Patience::Question).after(&failure, 0, 0.0).is_some(),
                question,
                "{failure:?}"
            );
            assert_eq!(
                retries(Patience::Transfer).after(&failure, 0, 0.0).is_some(),
                transfer,
                "{failure:?}"
            );
        }
    }

    #[test]
    fn a_wish_to_be_left_alone_is_obeyed() {
        assert_eq!(
            retries(Patience::Question).after(&status(429, Some(1)), 0, 0.0),
            Some(Duration::from_secs(1))
        );
    }
}
