//! A time as it is written: `2030-01-31T12:00:00Z`.

use std::time::SystemTime;

use serde::{Deserialize, Deserializer, de::Error};

pub(super) fn deserialize_some<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<SystemTime>, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse(&text).map(Some).map_err(D::Error::custom)
}

/// A time like `2030-01-31T12:00:00Z`.
pub(crate) fn parse(text: &str) -> Result<SystemTime, String> {
    let invalid = |_| format!("{text:?} is no time like 2030-01-31T12:00:00Z");
    humantime::parse_rfc3339(text).map_err(invalid)
}
