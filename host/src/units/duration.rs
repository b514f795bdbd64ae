//! Durations such as `"30s"`, `"100ms"` or `"1m 30s"`. Use it on a field of type
//! [`Duration`] with `#[serde(deserialize_with = "duration::deserialize")]`.

use std::time::Duration;

use serde::de::{Deserializer, Error, Visitor};

use super::UnitError;

/// Longer ones are refused: nothing here is meant to wait so long, and adding them to a point in
/// time could overflow.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// Parses a duration. A bare number is refused, since its unit would be a guess.
pub fn parse(text: &str) -> Result<Duration, UnitError> {
    let duration = humantime::parse_duration(text).map_err(|_| invalid(text))?;
    // humantime takes "0" for a duration although no other bare number is one.
    if text.trim().bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(invalid(text));
    }
    if duration > LONGEST {
        return Err(UnitError::new("duration", text, "longer than a year"));
    }
    Ok(duration)
}

/// Writes a duration so that [`parse`] reads it back.
pub fn display(duration: Duration) -> impl std::fmt::Display {
    humantime::format_duration(duration)
}

fn invalid(text: impl std::fmt::Debug) -> UnitError {
    UnitError::new(
        "duration",
        text,
        r#"expected a number with a unit, like "30s""#,
    )
}

/// Deserializes a duration from its text.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    deserializer.deserialize_any(DurationVisitor)
}

/// Deserializes a duration that may be left out.
pub fn deserialize_some<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    deserialize(deserializer).map(Some)
}

struct DurationVisitor;

impl Visitor<'_> for DurationVisitor {
    type Value = Duration;

    fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(r#"a duration like "30s""#)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
        parse(text).map_err(E::custom)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Duration, E> {
        Err(E::custom(invalid(number)))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Duration, E> {
        Err(E::custom(invalid(number)))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Duration, E> {
        Err(E::custom(invalid(number)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_number_with_a_unit() {
        for (text, millis) in [
            ("30s", 30_000),
            ("100ms", 100),
            ("1m 30s", 90_000),
            ("1.5s", 1_500),
            ("0s", 0),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["30", "0", "", "s", "30 parsecs", "-1s", "soon"] {
            let message =
                format!(r#"invalid duration {text:?}: expected a number with a unit, like "30s""#);
            assert_eq!(parse(text).unwrap_err().to_string(), message);
        }
        assert_eq!(
            parse("2y").unwrap_err().to_string(),
            r#"invalid duration "2y": longer than a year"#
        );
    }

    #[test]
    fn a_displayed_duration_reads_back() {
        for text in ["30s", "1m 30s", "250ms", "2days"] {
            let duration = parse(text).unwrap();
            assert_eq!(parse(&display(duration).to_string()), Ok(duration));
        }
    }

    #[test]
    fn a_bare_number_is_refused_with_a_hint() {
        let read = |json| {
            deserialize(&mut serde_json::Deserializer::from_str(json)).map_err(|e| e.to_string())
        };
        assert_eq!(read(r#""5s""#), Ok(Duration::from_secs(5)));
        for number in ["30", "-5", "1.5"] {
            let error = read(number).unwrap_err();
            assert!(
                error.starts_with(&format!(
                    "invalid duration {number}: expected a number with a unit"
                )),
                "{error}"
            );
        }
        assert!(
            read("true")
                .unwrap_err()
                .contains("expected a duration like")
        );
    }
}
