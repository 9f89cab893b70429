//! Reading what JavaScript writes: one kind of number, and optional members as a program in that
//! language tests them, where null, false, 0 and the empty string are as good as absent.
//!
//! mediasoup's validator takes these, and applications rely on it: `maxBitrate: 1e6 / 3`,
//! `clockRate: 90000.0` after arithmetic, `rtcpFeedback: null`, `mid: ""`, `dtx: "enabled"`.
#![forbid(unsafe_code)]

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer, StrDeserializer};
use serde::de::{DeserializeOwned, Error, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// A whole number in any notation, as a machine type.
pub(crate) fn whole<'de, D: Deserializer<'de>, T: TryFrom<u64>>(json: D) -> Result<T, D::Error> {
    let number = f64::deserialize(json)?;
    narrow(number).ok_or_else(|| out_of_range(number))
}

/// The same, where it is optional.
pub(crate) fn optional_whole<'de, D: Deserializer<'de>, T: TryFrom<u64>>(
    json: D,
) -> Result<Option<T>, D::Error> {
    let Some(number) = optional::<_, f64>(json)? else { return Ok(None) };
    narrow(number).map(Some).ok_or_else(|| out_of_range(number))
}

/// A number that the reader has no use for unless it is whole and fits: 0 then.
pub(crate) fn whole_or_zero<'de, D: Deserializer<'de>, T: TryFrom<u64> + Default>(
    json: D,
) -> Result<T, D::Error> {
    Ok(narrow(f64::deserialize(json)?).unwrap_or_default())
}

/// A number that the reader has no use for unless it is whole and fits: absent then, as what is no
/// number is.
pub(crate) fn whole_or_none<'de, D: Deserializer<'de>, T: TryFrom<u64>>(
    json: D,
) -> Result<Option<T>, D::Error> {
    Ok(or_default_type::<_, Option<f64>>(json)?.and_then(narrow))
}

/// A rate that may have a fraction, and be larger than any that we could serve. What is no rate is
/// no bound.
pub(crate) fn optional_rate<'de, D: Deserializer<'de>>(json: D) -> Result<Option<u32>, D::Error> {
    let number = or_default_type::<_, Option<f64>>(json)?;
    // The conversion saturates.
    Ok(number.filter(|number| *number > 0.0).map(|number| number as u32))
}

/// What is falsy in JavaScript is absent.
pub(crate) fn optional<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    json: D,
) -> Result<Option<T>, D::Error> {
    json.deserialize_any(Truthy(PhantomData))
}

/// What is falsy in JavaScript is the default.
pub(crate) fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    json: D,
) -> Result<T, D::Error> {
    Ok(optional(json)?.unwrap_or_default())
}

/// Whatever is not of the type is the default.
pub(crate) fn or_default_type<'de, D: Deserializer<'de>, T: DeserializeOwned + Default>(
    json: D,
) -> Result<T, D::Error> {
    let value = Value::deserialize(json)?;
    Ok(serde_json::from_value(value).unwrap_or_default())
}

/// An array; whatever is none is an empty one, but its items must be right.
pub(crate) fn array_or_empty<'de, D: Deserializer<'de>, T: DeserializeOwned>(
    json: D,
) -> Result<Vec<T>, D::Error> {
    let value = Value::deserialize(json)?;
    if !value.is_array() {
        return Ok(Vec::new());
    }
    serde_json::from_value(value).map_err(D::Error::custom)
}

/// Reads a `T` from what is truthy; the rest is `None`. Without a detour through [`Value`], so that
/// errors name their place.
struct Truthy<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Truthy<T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of the right type, or null")
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
        if value { T::deserialize(value.into_deserializer()).map(Some) } else { Ok(None) }
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
        if value == 0 { Ok(None) } else { T::deserialize(value.into_deserializer()).map(Some) }
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
        if value == 0 { Ok(None) } else { T::deserialize(value.into_deserializer()).map(Some) }
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Self::Value, E> {
        if value == 0.0 { Ok(None) } else { T::deserialize(value.into_deserializer()).map(Some) }
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Self::Value, E> {
        if value.is_empty() {
            return Ok(None);
        }
        T::deserialize(StrDeserializer::new(value)).map(Some)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Self::Value, A::Error> {
        T::deserialize(SeqAccessDeserializer::new(items)).map(Some)
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(members)).map(Some)
    }
}

/// Whether JavaScript takes it for false.
pub(crate) fn is_falsy(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(_) | Value::Object(_) => false,
    }
}

/// A whole number as a machine type, if it is one and fits.
pub(crate) fn narrow<T: TryFrom<u64>>(number: f64) -> Option<T> {
    /// Above this, JavaScript's numbers leave whole ones out.
    const MAX_SAFE_INTEGER: f64 = 9_007_199_254_740_991.0;
    let is_whole = number.fract() == 0.0 && (0.0..=MAX_SAFE_INTEGER).contains(&number);
    if is_whole { T::try_from(number as u64).ok() } else { None }
}

fn out_of_range<E: Error>(number: f64) -> E {
    E::custom(format!("{number} is no whole number in its range"))
}
