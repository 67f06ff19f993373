//! Times as Go writes them.
//!
//! Start reading at [`Time`].

use std::fmt;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

/// What Go's zero time looks like; clients compare with it.
const ZERO: &str = "0001-01-01T00:00:00Z";

/// A time in RFC 3339 with up to nine digits of a second; none at all is year 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Time(pub Option<Timestamp>);

impl From<Timestamp> for Time {
    fn from(time: Timestamp) -> Self {
        Self(Some(time))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str(ZERO),
            Some(time) => write!(f, "{time}"),
        }
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Time {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Time".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "format": "date-time"})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_go_does() {
        let cases = [
            ("2026-11-21T08:44:02.371720248Z", "2026-11-21T08:44:02.371720248Z"),
            ("2026-11-21T08:44:02.8360994Z", "2026-11-21T08:44:02.8360994Z"),
            ("2026-11-21T08:44:02Z", "2026-11-21T08:44:02Z"),
            ("2026-11-21T08:44:02.100Z", "2026-11-21T08:44:02.1Z"),
        ];
        for (text, written) in cases {
            assert_eq!(Time::from(text.parse::<Timestamp>().unwrap()).to_string(), written);
        }
        assert_eq!(Time::default().to_string(), "0001-01-01T00:00:00Z");
    }
}
