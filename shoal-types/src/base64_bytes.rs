//! Bytes in the JSON of the cluster's store and messages: as base64, which takes 1.33 times their size.
//!
//! Start reading at [`serialize`]. For fields of type `Vec<u8>`, by `#[serde(with = "...::base64_bytes")]`. Versions before this form
//! wrote a list of numbers, some 3.6 times the size; that is still read, so that a store, a log of raft and messages of
//! such a version are understood. Only for formats that say of what type a value is.

use std::fmt;

use base64::Engine as _;
use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserializer, Serializer};

/// Longest list of numbers for which memory is set aside before its elements are there.
const MAX_PREPARED: usize = 4096;

/// Writes bytes as base64 (RFC 4648, section 4, padded).
pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&Base64Display::new(bytes, &STANDARD))
}

/// Reads base64, or a list of numbers.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    deserializer.deserialize_any(Form)
}

struct Form;

impl<'de> Visitor<'de> for Form {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("base64 or a list of bytes")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Vec<u8>, E> {
        STANDARD.decode(text).map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut numbers: A) -> Result<Vec<u8>, A::Error> {
        let mut bytes = Vec::with_capacity(numbers.size_hint().unwrap_or(0).min(MAX_PREPARED));
        while let Some(byte) = numbers.next_element()? {
            bytes.push(byte);
        }
        Ok(bytes)
    }
}

/// The same for bytes that have a name and may be absent.
pub mod named {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize)]
    struct Written<'a>(&'a str, #[serde(with = "super")] &'a [u8]);

    #[derive(Deserialize)]
    struct Read(String, #[serde(deserialize_with = "super::deserialize")] Vec<u8>);

    /// Writes name and bytes as a list of two.
    pub fn serialize<S: Serializer>(
        named: &Option<(String, Vec<u8>)>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        named.as_ref().map(|(name, bytes)| Written(name, bytes)).serialize(serializer)
    }

    /// Reads a list of two, the second in either form.
    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<(String, Vec<u8>)>, D::Error> {
        let read = Option::<Read>::deserialize(deserializer)?;
        Ok(read.map(|Read(name, bytes)| (name, bytes)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::{Deserialize, Serialize};

    #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
    #[serde(default)]
    struct File {
        #[serde(with = "super")]
        data: Vec<u8>,
        #[serde(with = "super::named")]
        profile: Option<(String, Vec<u8>)>,
    }

    fn file(data: &[u8], profile: Option<&[u8]>) -> File {
        File { data: data.to_vec(), profile: profile.map(|bytes| ("custom".to_owned(), bytes.to_vec())) }
    }

    #[test]
    fn bytes_are_written_as_base64() {
        for (file, text) in [
            (file(&[0, 255], Some(b"{}")), r#"{"data":"AP8=","profile":["custom","e30="]}"#),
            (file(&[], None), r#"{"data":"","profile":null}"#),
        ] {
            assert_eq!(serde_json::to_string(&file).unwrap(), text);
        }
    }

    #[test]
    fn both_forms_are_read() {
        for (text, expected) in [
            (r#"{"data":[0,255],"profile":["custom",[123,125]]}"#, file(&[0, 255], Some(b"{}"))),
            (r#"{"data":"AP8=","profile":["custom","e30="]}"#, file(&[0, 255], Some(b"{}"))),
            (r#"{"data":[],"profile":null}"#, file(&[], None)),
            ("{}", file(&[], None)),
        ] {
            assert_eq!(serde_json::from_str::<File>(text).unwrap(), expected, "{text}");
            let value: serde_json::Value = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::from_value::<File>(value).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_neither_form_is_refused() {
        for text in
            [r#"{"data":"AP8"}"#, r#"{"data":"!"}"#, r#"{"data":[256]}"#, r#"{"data":[-1]}"#, r#"{"data":7}"#]
        {
            serde_json::from_str::<File>(text).unwrap_err();
        }
    }

    proptest! {
        #[test]
        fn bytes_come_back_as_they_were(data: Vec<u8>) {
            let file = File { data, profile: None };
            let text = serde_json::to_vec(&file).unwrap();
            prop_assert_eq!(serde_json::from_slice::<File>(&text).unwrap(), file);
        }
    }
}
