//! Strict JSON: texts that two parsers could read differently are refused.

use std::fmt;

use serde::Deserializer as _;
use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Maximum depth of nested objects and arrays, the outermost object included.
const DEPTH_MAX: usize = 32;

/// Parses one JSON object in UTF-8, with only white space around it.
///
/// `None` for duplicate members at any depth (compared with escapes decoded), for more than 32 nested objects and arrays,
/// for a number that is not finite, and for anything that RFC 8259 does not allow, such as a byte order mark and lone
/// surrogates. Takes time in proportion to the length, and stack for at most 32 levels.
///
/// Sources: RFC 7515 section 4, RFC 7519 section 4 (no duplicate members), RFC 8725 section 3.
#[must_use]
pub fn object(text: &[u8]) -> Option<Map<String, Value>> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    let depth_left = DEPTH_MAX;
    let read = reader.deserialize_map(StrictValue { depth_left }).ok()?;
    reader.end().ok()?;
    match read {
        Value::Object(members) => Some(members),
        _ => None,
    }
}

/// Builds a value of at most this many further levels.
#[derive(Clone, Copy)]
struct StrictValue {
    depth_left: usize,
}

impl StrictValue {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        let depth_left = self.depth_left.checked_sub(1);
        depth_left
            .map(|depth_left| Self { depth_left })
            .ok_or_else(|| E::custom("too deep"))
    }
}

impl<'de> DeserializeSeed<'de> for StrictValue {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for StrictValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without duplicate members")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        let number = Number::from_f64(value);
        number
            .map(Value::Number)
            .ok_or_else(|| E::custom("not finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut elements = Vec::new();
        while let Some(element) = seq.next_element_seed(inner)? {
            elements.push(element);
        }
        Ok(Value::Array(elements))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut members = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            let value = map.next_value_seed(inner)?;
            if members.insert(name, value).is_some() {
                return Err(A::Error::custom("duplicate member"));
            }
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_one_plain_object_is_read() {
        for good in ["{}", " {\"a\" : 1}\r\n\t", r#"{"a":{"b":1},"b":[{"b":2}]}"#] {
            assert!(object(good.as_bytes()).is_some(), "{good}");
        }
        for bad in [
            "",
            "1",
            "null",
            "[]",
            "[{}]",
            "\"a\"",
            "{}{}",
            "{} x",
            "{",
            "{,}",
            "{\"a\":1,}",
            "{'a':1}",
            "{a:1}",
            "{/*x*/\"a\":1}",
            "\u{feff}{}",
            "{\"a\":NaN}",
            "{\"a\":Infinity}",
            "{\"a\":01}",
            "{\"a\":+1}",
            "{\"a\":\"\n\"}",
            r#"{"a":"\ud800"}"#,
            "{\"a\":1e400}",
            "{\"a\":-1e999}",
        ] {
            assert_eq!(object(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(object(b"{\"a\":\"\xe9\"}"), None, "Latin-1");
        assert_eq!(object(b"\xff\xfe{\0}\0"), None, "UTF-16");
    }

    #[test]
    fn no_member_comes_twice_at_any_depth() {
        for bad in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":1}"#,
            r#"{"a":{"b":1,"c":2,"b":3}}"#,
            r#"{"a":[1,[{"b":1,"b":1}]]}"#,
            r#"{"":1,"":2}"#,
        ] {
            assert_eq!(object(bad.as_bytes()), None, "{bad}");
        }
        assert!(object(br#"{"a":1,"A":2}"#).is_some());
    }

    #[test]
    fn thirty_two_levels_and_no_more() {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let nested = |levels: usize| {
                let inner = levels - 1;
                format!("{{\"a\":{}1{}}}", open.repeat(inner), close.repeat(inner))
            };
            assert!(object(nested(32).as_bytes()).is_some());
            assert_eq!(object(nested(33).as_bytes()), None);
            assert_eq!(object(nested(20_000).as_bytes()), None);
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".*".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 64, 8, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
                proptest::collection::btree_map(".*", inner, 0..8)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_strict_json_reads_as_serde_json_reads_it(value in any_json()) {
            let text = serde_json::to_vec(&serde_json::json!({ "value": value })).unwrap();
            let plain: Map<String, Value> = serde_json::from_slice(&text).unwrap();
            prop_assert_eq!(object(&text), Some(plain));
        }

        #[test]
        fn any_bytes_are_taken(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(members) = object(&bytes) {
                prop_assert_eq!(Some(members), serde_json::from_slice(&bytes).ok());
            }
        }
    }
}
