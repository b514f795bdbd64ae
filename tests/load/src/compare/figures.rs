//! Figures of many rounds: medians, and how far they spread.

use std::{collections::BTreeMap, fmt};

use anyhow::{Context, Result};

use super::cases::{Case, Figure};
use crate::{options::Peer, report::Report};

/// The figures of one case, of all servers and rounds.
pub struct Results {
    /// What was run.
    pub case: Case,
    /// Against whom.
    pub peers: &'static [Peer],
    /// By field and server, one value for each round.
    values: BTreeMap<(&'static str, &'static str), Vec<f64>>,
    /// What went wrong, by server.
    pub faults: BTreeMap<&'static str, u64>,
}

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

impl Results {
    /// Of no round yet.
    pub fn new(case: Case, peers: &'static [Peer]) -> Self {
        Self {
            case,
            peers,
            values: BTreeMap::new(),
            faults: BTreeMap::new(),
        }
    }

    /// Adds a round of one server.
    pub fn add(&mut self, peer: Peer, report: &Report) -> Result<()> {
        for figure in self.case.figures() {
            let value = report.number(figure.field);
            let value = value.with_context(|| format!("no {} in the report", figure.field))?;
            let values = self.values.entry((figure.field, peer.name()));
            values.or_default().push(value);
        }
        *self.faults.entry(peer.name()).or_default() += report.faults();
        Ok(())
    }

    /// A server's values of a figure, round by round.
    pub fn values(&self, figure: &Figure, peer: Peer) -> &[f64] {
        self.values
            .get(&(figure.field, peer.name()))
            .map_or(&[], Vec::as_slice)
    }

    /// A server's median of a figure.
    pub fn spread(&self, figure: &Figure, peer: Peer) -> Option<Spread> {
        Spread::of(self.values(figure, peer))
    }

    /// How many times as much one server needs as another, round by round: what disturbs the
    /// machine for a while disturbs both.
    pub fn ratio(&self, figure: &Figure, of: Peer, to: Peer) -> Option<Spread> {
        let pairs = self.pairs(figure, of, to);
        let ratios: Vec<f64> = pairs
            .filter(|(_, to)| *to > 0.0)
            .map(|(of, to)| of / to)
            .collect();
        Spread::of(&ratios)
    }

    /// How much more one server needs than another, round by round.
    pub fn difference(&self, figure: &Figure, of: Peer, to: Peer) -> Option<Spread> {
        let differences: Vec<f64> = self.pairs(figure, of, to).map(|(of, to)| of - to).collect();
        Spread::of(&differences)
    }

    fn pairs(&self, figure: &Figure, of: Peer, to: Peer) -> impl Iterator<Item = (f64, f64)> {
        let pairs = self.values(figure, of).iter().zip(self.values(figure, to));
        pairs.map(|(of, to)| (*of, *to))
    }
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
