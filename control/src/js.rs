//! Reading what JavaScript writes: one kind of number, and members that are null, absent or of
//! another type where an optional one is meant.
//!
//! mediasoup's validator takes these, and applications rely on it: `maxBitrate: 1e6 / 3`,
//! `clockRate: 90000.0` after arithmetic, `rtcpFeedback: null`, `dtx: "enabled"`.
#![forbid(unsafe_code)]

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// A whole number in any notation, as a machine type.
pub(crate) fn whole<'de, D: Deserializer<'de>, T: TryFrom<u64>>(json: D) -> Result<T, D::Error> {
    let number = f64::deserialize(json)?;
    narrow(number).ok_or_else(|| out_of_range(number))
}

/// The same, where absent and null are allowed.
pub(crate) fn optional_whole<'de, D: Deserializer<'de>, T: TryFrom<u64>>(
    json: D,
) -> Result<Option<T>, D::Error> {
    let Some(number) = Option::<f64>::deserialize(json)? else { return Ok(None) };
    narrow(number).map(Some).ok_or_else(|| out_of_range(number))
}

/// A rate that may have a fraction, and be larger than any that we could serve.
pub(crate) fn optional_rate<'de, D: Deserializer<'de>>(json: D) -> Result<Option<u32>, D::Error> {
    let Some(number) = Option::<f64>::deserialize(json)? else { return Ok(None) };
    if !number.is_finite() || number < 0.0 {
        return Err(out_of_range(number));
    }
    // The conversion saturates.
    Ok(Some(number as u32))
}

/// Null is the default.
pub(crate) fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    json: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(json)?.unwrap_or_default())
}

/// Whatever is not of the type is the default.
pub(crate) fn or_default_type<'de, D: Deserializer<'de>, T: DeserializeOwned + Default>(
    json: D,
) -> Result<T, D::Error> {
    let value = Value::deserialize(json)?;
    Ok(serde_json::from_value(value).unwrap_or_default())
}

/// An array; null and what is no array are an empty one, but its items must be right.
pub(crate) fn array_or_empty<'de, D: Deserializer<'de>, T: DeserializeOwned>(
    json: D,
) -> Result<Vec<T>, D::Error> {
    let value = Value::deserialize(json)?;
    if !value.is_array() {
        return Ok(Vec::new());
    }
    serde_json::from_value(value).map_err(D::Error::custom)
}

/// A string with something in it; an empty one is as good as none.
pub(crate) fn optional_text<'de, D: Deserializer<'de>>(
    json: D,
) -> Result<Option<String>, D::Error> {
    Ok(Option::<String>::deserialize(json)?.filter(|text| !text.is_empty()))
}

/// A whole number as a machine type, if it is one and fits.
pub(crate) fn narrow<T: TryFrom<u64>>(number: f64) -> Option<T> {
    /// Above this, JavaScript's numbers leave whole ones out.
    const MAX_SAFE_INTEGER: f64 = 9_007_199_254_740_991.0;
    let is_whole = number.fract() == 0.0 && (0.0..=MAX_SAFE_INTEGER).contains(&number);
    if is_whole { T::try_from(number as u64).ok() } else { None }
}

fn out_of_range<E: serde::de::Error>(number: f64) -> E {
    E::custom(format!("{number} is no whole number in its range"))
}
