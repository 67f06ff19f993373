//! PURE. Log drivers and their options.
//!
//! Start reading at [`check`]. What the options mean is decided where the shim's log is described,
//! `crate::logs::settings`.

use shoal_types::container::spec::LoggingSpec;

use crate::containers::config::EngineConfig;
use crate::error::NodeError;
use crate::logs::settings;

/// Checks that the driver exists and that it knows its options.
pub(super) fn check(logging: &LoggingSpec, config: &EngineConfig) -> Result<(), NodeError> {
    let driver = if logging.driver.is_empty() { &config.log_driver } else { &logging.driver };
    settings::check(driver, &logging.options)
}
