//! Rates as people write them.

/// At most `count` events per `interval_ms`.
#[derive(Debug, PartialEq)]
pub(crate) struct Rate {
    pub count: u32,
    pub interval_ms: u32,
}

impl Rate {
    /// Reads `100/10s`: a count, a slash and a duration in `ms`, `s`, `m` or `h`, whose number may
    /// be left out if it is 1 (`5/s`).
    pub fn parse(text: &str) -> Result<Self, String> {
        let explain = |what| format!("rate \"{text}\": {what}; write it like \"100/10s\"");
        let (count, interval) = text.split_once('/').ok_or_else(|| explain("no `/`"))?;
        let count = count
            .trim()
            .parse()
            .map_err(|_| explain("no count before the `/`"))?;
        let interval_ms = milliseconds(interval.trim())
            .ok_or_else(|| explain("no duration in ms, s, m or h after the `/`"))?;
        if count == 0 || interval_ms == 0 {
            return Err(explain("neither side may be 0"));
        }
        Ok(Self { count, interval_ms })
    }
}

fn milliseconds(text: &str) -> Option<u32> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let number: u32 = if number.is_empty() {
        1
    } else {
        number.parse().ok()?
    };
    let unit = match unit.trim() {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_count_and_a_duration() {
        for (text, count, interval_ms) in [
            ("100/10s", 100, 10_000),
            ("5/s", 5, 1_000),
            ("1 / 250ms", 1, 250),
            ("60/1m", 60, 60_000),
            ("7/2h", 7, 7_200_000),
        ] {
            assert_eq!(Rate::parse(text), Ok(Rate { count, interval_ms }), "{text}");
        }
    }

    #[test]
    fn a_rate_that_means_nothing_is_refused_with_its_text() {
        for text in [
            "",
            "100",
            "100/",
            "/10s",
            "100/10",
            "100/10d",
            "0/1s",
            "1/0s",
            "-1/1s",
            "1/99999999h",
        ] {
            let error = Rate::parse(text).unwrap_err();
            assert!(error.contains(&format!("\"{text}\"")), "{error}");
        }
    }
}
