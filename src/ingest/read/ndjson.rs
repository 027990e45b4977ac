//! Parses blocks of JSON objects, one a line. Only the wanted values are looked at; the rest is skipped over.

use std::fmt;
use std::io::Write;
use std::ops::Range;

use memchr::memchr;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::blocks::{BadRows, RowCount, Scratch};
use super::row::{check_id, check_weight, excerpt, float_time, integer_time, parse_time, parse_weight};
use super::{ContextKey, MAX_CONTEXT, Reason, Role, Roles, Row, RowSink, TimeUnit};

/// Where in the objects the values stand.
#[derive(Debug)]
pub(super) struct Layout {
    /// Keys; dots reach into nested objects, unless a key with the dots in it is there.
    pub(super) keys: Roles<String>,
    pub(super) time_unit: TimeUnit,
}

/// Roles with a place of their own; behind them come the columns of context.
const ROLES: [Role; 5] = [Role::User, Role::Item, Role::Time, Role::Weight, Role::Event];
const PLAIN: usize = ROLES.len();
const WITH_CONTEXT: usize = PLAIN + MAX_CONTEXT;

/// A value, as far as it matters here. Text and integers stand in [`Scratch::text`].
#[derive(Clone, Debug, Default, PartialEq)]
enum Value {
    #[default]
    Missing,
    Text(Range<usize>),
    Integer(i64, Range<usize>),
    /// Also integers beyond 64 bits.
    Float(f64),
    Other(&'static str),
}

/// The values of one object, by role.
type Values<const N: usize> = [Value; N];

/// For each role, what remains of its key at this depth; `None` if it lies elsewhere or is not read.
type Wanted<'a, const N: usize> = [Option<&'a str>; N];

/// Hands the rows of `bytes` to `sink`.
pub(super) fn parse<S: RowSink>(
    layout: &Layout,
    bytes: &[u8],
    bad_rows: BadRows<'_>,
    scratch: &mut Scratch,
    sink: &mut S,
) -> Result<RowCount, S::Error> {
    match layout.keys.context.is_empty() {
        true => parse_with::<S, PLAIN>(layout, bytes, bad_rows, scratch, sink),
        false => parse_with::<S, WITH_CONTEXT>(layout, bytes, bad_rows, scratch, sink),
    }
}

fn parse_with<S: RowSink, const N: usize>(
    layout: &Layout,
    bytes: &[u8],
    mut bad_rows: BadRows<'_>,
    scratch: &mut Scratch,
    sink: &mut S,
) -> Result<RowCount, S::Error> {
    let keys = &layout.keys;
    let plain =
        [Some(&*keys.user), Some(&*keys.item), keys.time.as_deref(), keys.weight.as_deref(), keys.event.as_deref()];
    let mut wanted: Wanted<'_, N> = [None; N];
    let context = keys.context.iter().map(|key| Some(&**key));
    wanted.iter_mut().zip(plain.into_iter().chain(context)).for_each(|(slot, key)| *slot = key);
    let mut count = RowCount::default();
    let mut next = 0;
    while next < bytes.len() {
        let start = next;
        let end = memchr(b'\n', &bytes[start..]).map_or(bytes.len(), |i| start + i);
        next = (end + 1).min(bytes.len());
        let line = bytes[start..end].trim_ascii();
        if line.is_empty() {
            continue;
        }
        scratch.text.clear();
        let mut values: Values<N> = std::array::from_fn(|_| Value::Missing);
        let row = read(line, Object { wanted, values: &mut values, text: &mut scratch.text })
            .and_then(|()| layout.row(&values, &wanted, &scratch.text, line, &mut scratch.context));
        match row {
            Ok(row) => {
                count.good += 1;
                sink.row(row)?;
            }
            Err(reason) => {
                count.bad += 1;
                sink.bad(bad_rows.report(start, next, reason))?;
            }
        }
    }
    Ok(count)
}

/// The keys of the object in `line`, those of nested objects behind a dot; `None` if it is no object.
pub(super) fn keys(line: &[u8]) -> Option<Vec<String>> {
    let mut keys = Vec::new();
    read(line.trim_ascii(), Keys { keys: &mut keys, prefix: "" }).ok()?;
    Some(keys)
}

fn read<'de>(line: &'de [u8], seed: impl DeserializeSeed<'de, Value = ()>) -> Result<(), Reason> {
    let mut json = serde_json::Deserializer::from_slice(line);
    seed.deserialize(&mut json).and_then(|()| json.end()).map_err(|e| {
        // The line within the line says nothing.
        let text = e.to_string();
        let message = text.split(" at line ").next().unwrap_or_default();
        Reason::InvalidJson(format!("{message} (column {})", e.column()))
    })
}

impl Layout {
    fn row<'a, const N: usize>(
        &self,
        values: &Values<N>,
        wanted: &Wanted<'_, N>,
        text: &'a [u8],
        line: &[u8],
        buffer: &'a mut Vec<u8>,
    ) -> Result<Row<'a>, Reason> {
        let [user, item, time, weight, event] = [0, 1, 2, 3, 4].map(|role| &values[role]);
        if let Some(at) = (0..N).find(|&at| wanted[at].is_some() && values[at] == Value::Missing) {
            let mut there = keys(line).unwrap_or_default();
            if there.len() > 20 {
                there.truncate(20);
                there.push("…".into());
            }
            return Err(Reason::MissingKey {
                role: ROLES.get(at).copied().unwrap_or(Role::Context),
                key: wanted[at].unwrap_or_default().into(),
                keys: there.join(", "),
            });
        }
        let time = match (wanted[2], time) {
            (None, _) => None,
            (_, Value::Integer(number, _)) => Some(integer_time(*number, self.time_unit)?),
            (_, Value::Float(number)) => Some(float_time(*number, self.time_unit)?),
            (_, Value::Text(range)) => Some(parse_time(&text[range.clone()], self.time_unit)?),
            (_, other) => return Err(wrong_type(Role::Time, other, "a number or a date in a string")),
        };
        let weight = match (wanted[3], weight) {
            (None, _) => None,
            (_, Value::Integer(number, _)) => Some(check_weight(*number as f32, || number.to_string())?),
            (_, Value::Float(number)) => Some(check_weight(*number as f32, || number.to_string())?),
            (_, Value::Text(range)) => Some(parse_weight(&text[range.clone()])?),
            (_, other) => return Err(wrong_type(Role::Weight, other, "a number")),
        };
        let mut context = None;
        if !self.keys.context.is_empty() {
            buffer.clear();
            for value in &values[PLAIN..PLAIN + self.keys.context.len()] {
                ContextKey::put(word(Role::Context, value, text)?, buffer);
            }
            context = Some(ContextKey(buffer));
        }
        Ok(Row {
            context,
            user: id(Role::User, user, text)?,
            item: id(Role::Item, item, text)?,
            time,
            weight,
            event: if wanted[4].is_some() { Some(word(Role::Event, event, text)?) } else { None },
        })
    }
}

fn id<'a>(role: Role, value: &Value, text: &'a [u8]) -> Result<&'a [u8], Reason> {
    let id = word(role, value, text)?;
    // The JSON reader has checked the encoding.
    check_id(role, id, true)?;
    Ok(id)
}

fn word<'a>(role: Role, value: &Value, text: &'a [u8]) -> Result<&'a [u8], Reason> {
    match value {
        Value::Text(range) | Value::Integer(_, range) => Ok(&text[range.clone()]),
        other => Err(wrong_type(role, other, "a string or an integer")),
    }
}

#[cold]
fn wrong_type(role: Role, value: &Value, needed: &'static str) -> Reason {
    let found = match value {
        Value::Missing => "missing",
        Value::Text(_) => "a string",
        Value::Integer(..) => "an integer",
        Value::Float(_) => "a number with a fraction or beyond 64 bits",
        Value::Other(found) => found,
    };
    Reason::WrongType { role, found, needed }
}

/// Reads an object, keeping the wanted values.
struct Object<'a, const N: usize> {
    wanted: Wanted<'a, N>,
    values: &'a mut Values<N>,
    text: &'a mut Vec<u8>,
}

impl<'de, const N: usize> DeserializeSeed<'de> for Object<'_, N> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, const N: usize> Visitor<'de> for Object<'_, N> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Object { wanted, values, text } = self;
        while let Some(key) = map.next_key_seed(Key(&wanted))? {
            match key {
                Found::Nothing => drop(map.next_value::<IgnoredAny>()?),
                Found::Leaf(roles) => {
                    let value = map.next_value_seed(Leaf { text })?;
                    for (slot, _) in values.iter_mut().zip(roles).filter(|(_, here)| *here) {
                        *slot = value.clone();
                    }
                }
                Found::Below(wanted) => map.next_value_seed(Below(Object { wanted, values, text }))?,
            }
        }
        Ok(())
    }
}

/// What a key leads to.
enum Found<'a, const N: usize> {
    Nothing,
    Leaf([bool; N]),
    Below(Wanted<'a, N>),
}

struct Key<'k, 'a, const N: usize>(&'k Wanted<'a, N>);

impl<'de, 'a, const N: usize> DeserializeSeed<'de> for Key<'_, 'a, N> {
    type Value = Found<'a, N>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Found<'a, N>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'a, const N: usize> Visitor<'_> for Key<'_, 'a, N> {
    type Value = Found<'a, N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    #[inline]
    fn visit_str<E: Error>(self, key: &str) -> Result<Found<'a, N>, E> {
        let leaf = self.0.map(|wanted| wanted == Some(key));
        if leaf.contains(&true) {
            return Ok(Found::Leaf(leaf));
        }
        let below = self.0.map(|wanted| wanted?.strip_prefix(key)?.strip_prefix('.'));
        Ok(if below.iter().any(Option::is_some) { Found::Below(below) } else { Found::Nothing })
    }
}

/// A nested object; any other value holds nothing that is wanted.
struct Below<'a, const N: usize>(Object<'a, N>);

impl<'de, const N: usize> DeserializeSeed<'de> for Below<'_, N> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// Accepts and forgets every kind of value but objects.
macro_rules! forget_scalars {
    () => {
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a value")
        }

        fn visit_unit<E: Error>(self) -> Result<(), E> {
            Ok(())
        }

        fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
            Ok(())
        }

        fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
            Ok(())
        }

        fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
            Ok(())
        }

        fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
            Ok(())
        }

        fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
            Ok(())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            Ok(())
        }
    };
}

impl<'de, const N: usize> Visitor<'de> for Below<'_, N> {
    type Value = ();

    forget_scalars!();

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        self.0.visit_map(map)
    }
}

/// A wanted value.
struct Leaf<'a> {
    text: &'a mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for Leaf<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Leaf<'_> {
    fn integer(self, number: impl fmt::Display, value: i64) -> Value {
        let start = self.text.len();
        // Writing to memory does not fail.
        let _ = write!(self.text, "{number}");
        Value::Integer(value, start..self.text.len())
    }
}

impl<'de> Visitor<'de> for Leaf<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        let start = self.text.len();
        self.text.extend_from_slice(text.as_bytes());
        Ok(Value::Text(start..self.text.len()))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Value, E> {
        Ok(self.integer(number, number))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Value, E> {
        // Beyond i64 it can be an id, and is out of range as a time whatever its unit.
        Ok(self.integer(number, i64::try_from(number).unwrap_or(i64::MAX)))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Value, E> {
        Ok(Value::Float(number))
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Value, E> {
        Ok(Value::Other("a boolean"))
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Other("null"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::Other("an array"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Value::Other("an object"))
    }
}

/// Collects an object's keys, two levels deep.
struct Keys<'a> {
    keys: &'a mut Vec<String>,
    prefix: &'a str,
}

impl<'de> DeserializeSeed<'de> for Keys<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.prefix.is_empty() { deserializer.deserialize_map(self) } else { deserializer.deserialize_any(self) }
    }
}

impl<'de> Visitor<'de> for Keys<'_> {
    type Value = ();

    forget_scalars!();

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            let key = excerpt(key.as_bytes());
            if self.prefix.is_empty() {
                let before = self.keys.len();
                map.next_value_seed(Keys { keys: self.keys, prefix: &key })?;
                if self.keys.len() == before {
                    self.keys.push(key);
                }
            } else {
                map.next_value::<IgnoredAny>()?;
                self.keys.push(format!("{}.{key}", self.prefix));
            }
        }
        Ok(())
    }
}
