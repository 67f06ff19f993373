//! Reads model types from parsed JSON by Go's rules.
//!
//! Start reading at [`decode_value`]. Beside serde's own way: an object's key matches a field whatever its case (an
//! exact match wins), `null` leaves the default wherever it stands, unknown keys are ignored, and an error names the
//! field in Go's words. Model types must have `#[serde(default)]` and no `flatten` on the way in.

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    Deserialize, DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer as _, MapAccess,
    SeqAccess, Visitor,
};
use serde_json::{Map, Number, Value};

/// Reads `T` from parsed JSON.
pub(crate) fn decode_value<T: DeserializeOwned>(value: &Value) -> Result<T, DecodeError> {
    T::deserialize(GoValue { value, place: &Place::Root })
}

/// Why JSON does not have the shape that was expected; the text is Go's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct DecodeError(String);

impl serde::de::Error for DecodeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

/// Where in the document a value stands.
#[derive(Debug)]
enum Place<'a> {
    Root,
    Field { of: &'static str, name: &'static str, parent: &'a Place<'a> },
    Inside(&'a Place<'a>),
}

impl Place<'_> {
    /// The innermost struct and the path of fields down to it, joined by dots.
    fn field(&self) -> Option<(&'static str, String)> {
        match self {
            Self::Root => None,
            Self::Inside(parent) => parent.field(),
            Self::Field { of, name, parent } => {
                let path = match parent.field() {
                    Some((_, path)) => format!("{path}.{name}"),
                    None => (*name).to_owned(),
                };
                Some((of, path))
            }
        }
    }
}

#[derive(Clone, Copy)]
struct GoValue<'a> {
    value: &'a Value,
    place: &'a Place<'a>,
}

impl GoValue<'_> {
    fn mismatch(&self, wanted: &str) -> DecodeError {
        let found = match self.value {
            Value::Null => "null".to_owned(),
            Value::Bool(_) => "bool".to_owned(),
            Value::Number(number) if wanted.contains("int") => format!("number {number}"),
            Value::Number(_) => "number".to_owned(),
            Value::String(_) => "string".to_owned(),
            Value::Array(_) => "array".to_owned(),
            Value::Object(_) => "object".to_owned(),
        };
        DecodeError(match self.place.field() {
            Some((of, path)) => {
                format!("json: cannot unmarshal {found} into Go struct field {of}.{path} of type {wanted}")
            }
            None => format!("json: cannot unmarshal {found} into Go value of type {wanted}"),
        })
    }

    /// The number, or 0 for `null`.
    fn number(&self, wanted: &str) -> Result<Number, DecodeError> {
        match self.value {
            Value::Number(number) => Ok(number.clone()),
            Value::Null => Ok(Number::from(0)),
            _ => Err(self.mismatch(wanted)),
        }
    }
}

/// Integers: a fraction, or a number out of range, is an error that names the type.
macro_rules! integers {
    ($($method:ident $visit:ident $type:ty, $go:literal;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
            let number = self.number($go)?;
            let wide = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
            match wide.and_then(|wide| <$type>::try_from(wide).ok()) {
                Some(number) => visitor.$visit(number),
                None => Err(self.mismatch($go)),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for GoValue<'_> {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
                (Some(number), _, _) => visitor.visit_u64(number),
                (None, Some(number), _) => visitor.visit_i64(number),
                (None, None, number) => visitor.visit_f64(number.unwrap_or_default()),
            },
            Value::String(text) => visitor.visit_str(text),
            Value::Array(_) => self.deserialize_seq(visitor),
            Value::Object(_) => self.deserialize_map(visitor),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.value {
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Null => visitor.visit_bool(false),
            _ => Err(self.mismatch("bool")),
        }
    }

    integers! {
        deserialize_i8 visit_i8 i8, "int8";
        deserialize_i16 visit_i16 i16, "int16";
        deserialize_i32 visit_i32 i32, "int";
        deserialize_i64 visit_i64 i64, "int64";
        deserialize_u8 visit_u8 u8, "uint8";
        deserialize_u16 visit_u16 u16, "uint16";
        deserialize_u32 visit_u32 u32, "uint32";
        deserialize_u64 visit_u64 u64, "uint64";
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_f64(self.number("float64")?.as_f64().unwrap_or_default())
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.value {
            Value::String(text) => visitor.visit_str(text),
            Value::Null => visitor.visit_str(""),
            _ => Err(self.mismatch("string")),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        if self.value.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let items = match self.value {
            Value::Array(items) => items.as_slice(),
            Value::Null => &[],
            _ => return Err(self.mismatch("[]string")),
        };
        visitor.visit_seq(Items { items: items.iter(), place: &Place::Inside(self.place) })
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let place = Place::Inside(self.place);
        match self.value {
            Value::Object(map) => {
                visitor.visit_map(Entries { entries: map.iter(), value: None, place: &place })
            }
            Value::Null => {
                visitor.visit_map(Entries { entries: Map::new().iter(), value: None, place: &place })
            }
            _ => Err(self.mismatch("map[string]string")),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        match self.value {
            Value::Object(map) => visitor.visit_map(Fields {
                name,
                fields: fields.iter(),
                map,
                current: None,
                place: self.place,
            }),
            Value::Null => visitor.visit_map(Fields {
                name,
                fields: [].iter(),
                map: &Map::new(),
                current: None,
                place: self.place,
            }),
            _ => Err(self.mismatch(name)),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        match self.value {
            Value::String(text) => {
                let text: StrDeserializer<'_, DecodeError> = text.as_str().into_deserializer();
                visitor.visit_enum(text)
            }
            _ => Err(self.mismatch("string")),
        }
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_unit()
    }
}

struct Items<'a> {
    items: std::slice::Iter<'a, Value>,
    place: &'a Place<'a>,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = DecodeError;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, DecodeError> {
        let Some(value) = self.items.next() else { return Ok(None) };
        seed.deserialize(GoValue { value, place: self.place }).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

struct Entries<'a> {
    entries: serde_json::map::Iter<'a>,
    value: Option<&'a Value>,
    place: &'a Place<'a>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = DecodeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, DecodeError> {
        let Some((key, value)) = self.entries.next() else { return Ok(None) };
        self.value = Some(value);
        let key: StrDeserializer<'_, DecodeError> = key.as_str().into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, DecodeError> {
        let value = self.value.take().unwrap_or(&Value::Null);
        seed.deserialize(GoValue { value, place: self.place })
    }
}

/// The fields of a struct that the object has, each with its value.
struct Fields<'a> {
    name: &'static str,
    fields: std::slice::Iter<'static, &'static str>,
    map: &'a Map<String, Value>,
    current: Option<(&'static str, &'a Value)>,
    place: &'a Place<'a>,
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = DecodeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, DecodeError> {
        for &field in self.fields.by_ref() {
            match find(self.map, field) {
                // `null` leaves a field as it is, whatever its type.
                None | Some(Value::Null) => {}
                Some(value) => {
                    self.current = Some((field, value));
                    let field: StrDeserializer<'_, DecodeError> = field.into_deserializer();
                    return seed.deserialize(field).map(Some);
                }
            }
        }
        Ok(None)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, DecodeError> {
        let (name, value) = self.current.take().unwrap_or(("", &Value::Null));
        let place = Place::Field { of: self.name, name, parent: self.place };
        seed.deserialize(GoValue { value, place: &place })
    }
}

/// The value of a key, whatever its case; an exact match wins.
fn find<'a>(map: &'a Map<String, Value>, field: &str) -> Option<&'a Value> {
    map.get(field)
        .or_else(|| map.iter().find(|(key, _)| key.eq_ignore_ascii_case(field)).map(|(_, value)| value))
}

/// Reads a list of texts, or one text in place of a list of one, as `Cmd` and `Entrypoint` may be written.
pub(crate) fn text_or_list<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<String>>, D::Error> {
    struct TextOrList;
    impl<'de> Visitor<'de> for TextOrList {
        type Value = Option<Vec<String>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string or a list of strings")
        }

        fn visit_unit<E: serde::de::Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
            Ok(Some(vec![text.to_owned()]))
        }

        fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Self::Value, A::Error> {
            Vec::<String>::deserialize(serde::de::value::SeqAccessDeserializer::new(items)).map(Some)
        }
    }
    deserializer.deserialize_any(TextOrList)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default, rename_all = "PascalCase")]
    struct Sample {
        name: String,
        memory: i64,
        port: u16,
        list: Option<Vec<String>>,
        map: Option<BTreeMap<String, Vec<String>>>,
        nested: Option<Box<Sample>>,
        #[serde(deserialize_with = "text_or_list")]
        cmd: Option<Vec<String>>,
        flag: bool,
    }

    fn sample(value: &Value) -> Result<Sample, DecodeError> {
        decode_value(value)
    }

    #[test]
    fn keys_match_in_any_case_and_unknown_ones_are_ignored() {
        let found =
            sample(&json!({"NAME": "a", "memory": 1, "Port": 2, "port": "unused", "Else": {}})).unwrap();
        assert_eq!(found, Sample { name: "a".into(), memory: 1, port: 2, ..Sample::default() });
    }

    #[test]
    fn null_leaves_the_default_everywhere() {
        let all = json!({"Name": null, "Memory": null, "List": null, "Map": {"a": null}, "Nested": null, "Cmd": null, "Flag": null});
        let found = sample(&all).unwrap();
        assert_eq!(found, Sample { map: Some(BTreeMap::from([("a".into(), vec![])])), ..Sample::default() });
        assert_eq!(sample(&Value::Null).unwrap(), Sample::default());
        assert_eq!(
            sample(&json!({"List": [null, "b"]})).unwrap().list,
            Some(vec![String::new(), "b".into()])
        );
    }

    #[test]
    fn commands_may_be_one_text_or_a_list() {
        assert_eq!(sample(&json!({"Cmd": "sleep 5"})).unwrap().cmd, Some(vec!["sleep 5".into()]));
        assert_eq!(sample(&json!({"Cmd": []})).unwrap().cmd, Some(vec![]));
        assert_eq!(sample(&json!({"Cmd": ["a", "b"]})).unwrap().cmd, Some(vec!["a".into(), "b".into()]));
        assert!(sample(&json!({"Cmd": 5})).is_err());
    }

    #[test]
    fn errors_name_the_field_in_gos_words() {
        let cases = [
            (
                json!({"Memory": "x"}),
                "json: cannot unmarshal string into Go struct field Sample.Memory of type int64",
            ),
            (
                json!({"Memory": 1.5}),
                "json: cannot unmarshal number 1.5 into Go struct field Sample.Memory of type int64",
            ),
            (
                json!({"Port": 70000}),
                "json: cannot unmarshal number 70000 into Go struct field Sample.Port of type uint16",
            ),
            (
                json!({"Nested": {"Name": 3}}),
                "json: cannot unmarshal number into Go struct field Sample.Nested.Name of type string",
            ),
            (
                json!({"List": "a"}),
                "json: cannot unmarshal string into Go struct field Sample.List of type []string",
            ),
            (json!([]), "json: cannot unmarshal array into Go value of type Sample"),
        ];
        for (value, message) in cases {
            assert_eq!(sample(&value).unwrap_err().to_string(), message);
        }
    }
}
