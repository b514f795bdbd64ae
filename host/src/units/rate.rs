//! Rates such as `"100/10s"`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;

use super::{UnitError, duration};

/// At most so many in an interval: `"100/10s"`, `"5/1m"`. Both are more than nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct Rate {
    count: u32,
    interval: Duration,
}

/// Nothing here measures finer.
const SHORTEST: Duration = Duration::from_millis(1);

/// Nor tells apart what comes faster: limits count in whole nanoseconds, a thousand of them for each.
const FASTEST: Duration = Duration::from_micros(1);

impl Rate {
    /// A rate of `count` (1 or more) in `interval` (1 ms or more), a million a second at most.
    pub fn new(count: u32, interval: Duration) -> Result<Self, UnitError> {
        if count == 0 {
            return Err(invalid(count, interval, "the count must be 1 or more"));
        }
        if interval < SHORTEST {
            return Err(invalid(count, interval, "the interval must be 1ms or more"));
        }
        if interval / count < FASTEST {
            let reason = "more than a million a second";
            return Err(invalid(count, interval, reason));
        }
        Ok(Self { count, interval })
    }

    /// How many are allowed in the interval, 1 or more.
    pub fn count(self) -> u32 {
        self.count
    }

    /// The interval, 1 ms or more, and 1 µs or more for each.
    pub fn interval(self) -> Duration {
        self.interval
    }
}

fn invalid(count: u32, interval: Duration, reason: &str) -> UnitError {
    UnitError::new(
        "rate",
        format!("{count}/{}", duration::display(interval)),
        reason,
    )
}

impl FromStr for Rate {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let (count, interval) = text.split_once('/').ok_or_else(|| {
            UnitError::new(
                "rate",
                text,
                r#"expected a count per interval, like "100/10s""#,
            )
        })?;
        let count = count.trim().parse().map_err(|_| {
            UnitError::new(
                "rate",
                text,
                format!("{count:?} is not a whole number up to {}", u32::MAX),
            )
        })?;
        let interval = duration::parse(interval.trim())
            .map_err(|error| UnitError::new("rate", text, error.to_string()))?;
        Rate::new(count, interval).map_err(|error| UnitError::new("rate", text, error.reason))
    }
}

impl TryFrom<String> for Rate {
    type Error = UnitError;

    fn try_from(text: String) -> Result<Self, UnitError> {
        text.parse()
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}/{}", self.count, duration::display(self.interval))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_count_per_interval() {
        for (text, count, millis) in [
            ("100/10s", 100, 10_000),
            ("5/1m", 5, 60_000),
            ("1 / 1ms", 1, 1),
            ("1000/1ms", 1000, 1),
        ] {
            assert_eq!(
                text.parse(),
                Rate::new(count, Duration::from_millis(millis)),
                "{text}"
            );
        }
        let read: Rate = serde_json::from_str(r#""5/1m""#).unwrap();
        assert_eq!(read.to_string(), "5/1m");
        assert_eq!(read.to_string().parse(), Ok(read));
    }

    #[test]
    fn what_is_no_rate_is_refused_with_the_reason() {
        for (text, message) in [
            (
                "100",
                r#"invalid rate "100": expected a count per interval, like "100/10s""#,
            ),
            (
                "x/10s",
                r#"invalid rate "x/10s": "x" is not a whole number up to 4294967295"#,
            ),
            (
                "0/1s",
                r#"invalid rate "0/1s": the count must be 1 or more"#,
            ),
            (
                "-1/1s",
                r#"invalid rate "-1/1s": "-1" is not a whole number up to 4294967295"#,
            ),
            (
                "5/0s",
                r#"invalid rate "5/0s": the interval must be 1ms or more"#,
            ),
            (
                "5/10us",
                r#"invalid rate "5/10us": the interval must be 1ms or more"#,
            ),
            (
                "2000000/1ms",
                r#"invalid rate "2000000/1ms": more than a million a second"#,
            ),
            (
                "1001/1ms",
                r#"invalid rate "1001/1ms": more than a million a second"#,
            ),
            (
                "5/10",
                r#"invalid rate "5/10": invalid duration "10": expected a number with a unit, like "30s""#,
            ),
        ] {
            assert_eq!(text.parse::<Rate>().unwrap_err().to_string(), message);
        }
        assert!(Rate::new(0, Duration::from_secs(1)).is_err());
    }
}
