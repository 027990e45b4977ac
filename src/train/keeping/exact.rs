//! JSON that gives back every bit of its numbers: decisions go by comparing them, and the parser may be an ulp off.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

const FLOAT: &str = "f64:";
const TEXT: &str = "text:";

/// `content` as JSON in which numbers that are not whole are texts of their bits.
pub(super) fn to_exact(content: &impl Serialize) -> serde_json::Result<Value> {
    Ok(encode(serde_json::to_value(content)?))
}

/// What [`to_exact`] was given.
pub(super) fn from_exact<T: DeserializeOwned>(value: Value) -> serde_json::Result<T> {
    serde_json::from_value(decode(value))
}

fn encode(value: Value) -> Value {
    match value {
        Value::Number(n) if n.is_f64() => {
            Value::String(format!("{FLOAT}{:016x}", n.as_f64().unwrap_or_default().to_bits()))
        }
        Value::String(text) if text.starts_with(FLOAT) || text.starts_with(TEXT) => {
            Value::String(TEXT.to_string() + &text)
        }
        other => inside(other, encode),
    }
}

fn decode(value: Value) -> Value {
    match value {
        Value::String(text) => match (text.strip_prefix(FLOAT), text.strip_prefix(TEXT)) {
            (Some(bits), _) => u64::from_str_radix(bits, 16).map_or(Value::Null, |bits| f64::from_bits(bits).into()),
            (_, Some(text)) => Value::String(text.to_string()),
            _ => Value::String(text),
        },
        other => inside(other, decode),
    }
}

fn inside(value: Value, change: fn(Value) -> Value) -> Value {
    match value {
        Value::Array(values) => values.into_iter().map(change).collect(),
        Value::Object(fields) => fields.into_iter().map(|(name, value)| (name, change(value))).collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_bit_comes_back(
            bits in proptest::collection::vec(any::<u64>(), 0..20), single in any::<u32>(), text in "(f64:|text:)?.{0,9}",
        ) {
            let floats: Vec<f64> = bits.iter().map(|b| f64::from_bits(*b)).filter(|x| x.is_finite()).collect();
            let single = Some(f32::from_bits(single)).filter(|x| x.is_finite());
            let content = (floats, text, single, bits);
            let written = serde_json::to_string_pretty(&to_exact(&content).unwrap()).unwrap();
            let read: (Vec<f64>, String, Option<f32>, Vec<u64>) =
                from_exact(serde_json::from_str(&written).unwrap()).unwrap();
            prop_assert_eq!(read.0.iter().map(|x| x.to_bits()).collect::<Vec<_>>(),
                content.0.iter().map(|x| x.to_bits()).collect::<Vec<_>>());
            prop_assert_eq!((read.1, read.2.map(f32::to_bits), read.3),
                (content.1, content.2.map(f32::to_bits), content.3));
        }
    }
}
