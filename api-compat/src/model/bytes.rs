//! Bytes as Go writes them: base64.
//!
//! Start reading at [`Base64`].

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Bytes, in base64 on the wire.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Base64(pub Vec<u8>);

impl Base64 {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Base64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        // Line breaks are no digits, and Go skips them.
        let digits: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
        STANDARD.decode(&digits).map(Self).map_err(|error| {
            let at = match error {
                base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => at,
                base64::DecodeError::InvalidLength(at) => at,
                base64::DecodeError::InvalidPadding => digits.len(),
            };
            de::Error::custom(format!("illegal base64 data at input byte {at}"))
        })
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Base64 {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Base64".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "format": "base64"})
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(value: &Value) -> Result<Vec<u8>, String> {
        crate::json::decode_value::<Base64>(value).map(|bytes| bytes.0).map_err(|error| error.to_string())
    }

    #[test]
    fn bytes_go_both_ways() {
        assert_eq!(read(&json!("AP8=")), Ok(vec![0, 255]));
        assert_eq!(serde_json::to_value(Base64(vec![0, 255])).unwrap(), json!("AP8="));
        assert_eq!(read(&json!("AP\r\n8=\n")), Ok(vec![0, 255]));
        assert_eq!(read(&Value::Null), Ok(Vec::new()));
    }

    #[test]
    fn what_is_not_base64_is_refused_in_gos_words() {
        assert_eq!(read(&json!("A!==")), Err("illegal base64 data at input byte 1".to_owned()));
        assert!(read(&json!("AP8")).is_err());
    }
}
