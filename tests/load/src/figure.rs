//! Values of reports, and how they spread over many rounds.

use std::fmt;

/// A value of a report.
#[derive(Debug, Clone, Copy)]
pub struct Figure {
    /// Its name there.
    pub field: &'static str,
    /// Its unit, for people.
    pub unit: &'static str,
}

/// Of questions.
pub const CPU_PER_MESSAGE: Figure = Figure {
    field: "cpu_us_per_message",
    unit: "CPU µs per message",
};

/// Of what is pushed.
pub const CPU_PER_COPY: Figure = Figure {
    unit: "CPU µs per copy",
    ..CPU_PER_MESSAGE
};

/// Of memory.
pub const KIB_PER_CONNECTION: Figure = Figure {
    field: "kib_per_connection",
    unit: "KiB per connection",
};
/// A median, between the least and the greatest value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// Half of the values are not above it.
    pub median: f64,
    /// The least value.
    pub least: f64,
    /// The greatest.
    pub greatest: f64,
}

impl Spread {
    /// Of values; none without any.
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let (least, greatest) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len().is_multiple_of(2) {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        } else {
            sorted[middle]
        };
        Some(Self {
            median,
            least,
            greatest,
        })
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            median,
            least,
            greatest,
        } = self;
        write!(
            f,
            "{} ({}–{})",
            short(*median),
            short(*least),
            short(*greatest)
        )
    }
}

/// Three digits that count, or all before the point.
pub fn short(value: f64) -> String {
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_lies_in_the_middle() {
        let spread = Spread::of(&[30.0, 1.0, 200.0]).unwrap();
        assert_eq!(spread.to_string(), "30.0 (1.00–200)");
        assert_eq!(Spread::of(&[1.0, 2.0]).unwrap().median, 1.5);
        assert_eq!(Spread::of(&[]), None);
    }
}
