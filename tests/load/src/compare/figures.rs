//! The figures of one case in many rounds.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use super::cases::Case;
use crate::{
    figure::{Figure, Spread},
    options::Peer,
    report::Report,
};

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
