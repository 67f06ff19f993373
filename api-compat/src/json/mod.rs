//! JSON as Docker's clients expect it: keys in any case on the way in, no HTML escapes and a newline on the way out.
//!
//! Start reading at [`decode`] and [`encode`]. The model types of `model` are plain serde types; what differs from
//! serde's habits is here: Go matches keys without regard to case, takes `null` for "leave the default", and names
//! the field in its error (`value.rs`); its syntax errors have texts that clients see (`syntax.rs`). Reading HTTP
//! bodies is `extract`'s.

mod syntax;
mod value;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub(crate) use value::{DecodeError, decode_value, text_or_list};

/// Why a text is not what was expected. The texts are Go's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum JsonError {
    /// There is nothing but blanks.
    #[error("EOF")]
    Empty,
    /// Not JSON.
    #[error("{0}")]
    Syntax(String),
    /// JSON, and then something else.
    #[error("unexpected content after JSON")]
    Trailing,
    /// JSON of another shape.
    #[error(transparent)]
    Shape(#[from] DecodeError),
}

/// Reads one JSON value and nothing else.
pub(crate) fn parse(text: &[u8]) -> Result<Value, JsonError> {
    if text.iter().all(u8::is_ascii_whitespace) {
        return Err(JsonError::Empty);
    }
    let mut values = serde_json::Deserializer::from_slice(text).into_iter::<Value>();
    let value = match values.next() {
        Some(Ok(value)) => value,
        Some(Err(_)) | None => return Err(JsonError::Syntax(syntax::explain(text))),
    };
    let rest = text.get(values.byte_offset()..).unwrap_or_default();
    if rest.iter().all(u8::is_ascii_whitespace) { Ok(value) } else { Err(JsonError::Trailing) }
}

/// Reads a JSON text as `T`.
pub(crate) fn decode<T: DeserializeOwned>(text: &[u8]) -> Result<T, JsonError> {
    Ok(decode_value(&parse(text)?)?)
}

/// Writes a value as Docker does: compact, without HTML escapes, with a newline at the end.
pub(crate) fn encode<T: Serialize + ?Sized>(value: &T) -> serde_json::Result<Vec<u8>> {
    let mut text = serde_json::to_vec(value)?;
    text.push(b'\n');
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_json_is_explained_in_gos_words() {
        let cases: [(&str, &str); 6] = [
            ("", "EOF"),
            (" \n", "EOF"),
            ("{invalid json", "invalid character 'i' looking for beginning of object key string"),
            ("{\"Image\":", "unexpected EOF"),
            ("{} trailing", "unexpected content after JSON"),
            ("x", "invalid character 'x' looking for beginning of value"),
        ];
        for (text, message) in cases {
            assert_eq!(parse(text.as_bytes()).unwrap_err().to_string(), message, "{text}");
        }
    }

    #[test]
    fn html_is_not_escaped_and_a_newline_ends_the_text() {
        assert_eq!(encode("<a&b>").unwrap(), b"\"<a&b>\"\n");
    }
}
