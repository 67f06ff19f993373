//! Where the command line's messages go: stderr, and the file that an engine reads the reason of a failure from.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use crate::error::{Context, Result, RuntimeError, Warning};

/// The messages of one invocation.
#[derive(Debug, Clone, Default)]
pub(super) struct Log {
    file: Option<Arc<File>>,
    format: Format,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Format {
    #[default]
    Text,
    Json,
}

impl Log {
    pub(super) fn open(&mut self, path: &Path) -> Result<()> {
        let file = OpenOptions::new().create(true).append(true).open(path);
        self.file = Some(Arc::new(file.step(|| format!("open the log {}", path.display()))?));
        Ok(())
    }

    pub(super) fn set_format(&mut self, format: &str) -> Result<()> {
        self.format = match format {
            "text" => Format::Text,
            "json" => Format::Json,
            other => return Err(RuntimeError::InvalidSpec(format!("unknown log format {other:?}"))),
        };
        Ok(())
    }

    /// Says why the command failed, on stderr and in the log.
    pub(super) fn failure(&self, error: &RuntimeError) {
        let text = error.chain();
        // There is nobody left to tell when stderr is gone.
        let _ = writeln!(std::io::stderr(), "{text}");
        self.write("error", &text);
    }

    /// Says what could not be had; only in the log, because stderr may be the container's.
    pub(super) fn warnings(&self, warnings: &[Warning]) {
        for warning in warnings {
            self.write("warning", &warning.to_string());
        }
    }

    fn write(&self, level: &str, text: &str) {
        let Some(mut file) = self.file.as_deref() else { return };
        let time = rfc3339_now();
        let line = match self.format {
            Format::Json => serde_json::json!({ "level": level, "msg": text, "time": time }).to_string(),
            Format::Text => format!("time={time:?} level={level} msg={text:?}"),
        };
        // A full disk must not turn a message into a second failure.
        let _ = writeln!(file, "{line}");
    }
}

/// Writes the present time in seconds, as engines expect it in the log.
pub(super) fn rfc3339_now() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    rfc3339(now.as_secs())
}

/// Converts seconds since 1970 to a date (days to civil, after Howard Hinnant's description of the calendar).
fn rfc3339(seconds: u64) -> String {
    let (days, second) = (seconds / 86400, seconds % 86400);
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_become_dates() {
        for (seconds, date) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_767_225_599, "2025-12-31T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(seconds), date);
        }
    }
}
