//! Which attempts are repeated, and after how long. Pure.
//!
//! Start reading at [`is_final`].

use std::time::Duration;

use manager::ClusterError;
use shoal_types::ErrorKind;

/// How long to wait before an attempt to join or to start a manager is repeated: at first, and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

/// Whether the same attempt can never succeed.
pub(super) fn is_final(error: &ClusterError) -> bool {
    matches!(
        error.kind(),
        ErrorKind::InvalidArgument
            | ErrorKind::Forbidden
            | ErrorKind::Unauthorized
            | ErrorKind::NotImplemented
    )
}

pub(super) fn pause_after(failures: u32) -> Duration {
    match failures {
        0 => Duration::ZERO,
        failures => PAUSES.0.saturating_mul(1 << failures.min(10)).min(PAUSES.1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_half_a_minute() {
        assert_eq!(pause_after(0), Duration::ZERO);
        assert_eq!(pause_after(1), Duration::from_millis(200));
        assert_eq!(pause_after(40), PAUSES.1);
    }

    #[test]
    fn refusals_end_an_attempt_and_silence_does_not() {
        assert!(is_final(&ClusterError::WrongJoinToken));
        assert!(is_final(&ClusterError::InvalidJoinToken));
        assert!(!is_final(&ClusterError::NoLeader));
        assert!(!is_final(&ClusterError::Unreachable("x".to_owned())));
    }
}
