//! Where MixLab should stand. Nowhere else are these numbers.

use super::figures::Results;
use crate::{
    figure::{Spread, short},
    options::Peer,
};

/// What is asked of MixLab in one case, by the case's first figure.
pub struct Aim {
    /// The case.
    pub case: &'static str,
    /// No more than this.
    pub bound: Bound,
}

/// What MixLab's figure is held against.
#[derive(Debug, Clone, Copy)]
pub enum Bound {
    /// So many times what another server needs.
    Times(f64, Peer),
    /// What the native server needs and so much more.
    NativePlus(f64),
    /// This value.
    Value(f64),
}

/// How far MixLab is from an aim.
pub struct Verdict {
    /// The aim, in words.
    pub aim: String,
    /// What was measured, in the aim's terms.
    pub measured: Spread,
    /// The most that it may be, in the same terms.
    limit: f64,
}

/// All of them.
pub const AIMS: [Aim; 13] = [
    aim("echo", Bound::Times(0.45, Peer::Node)),
    aim("echo", Bound::Times(0.9, Peer::Native)),
    aim("echo-deep", Bound::Times(0.30, Peer::Node)),
    aim("echo-deep", Bound::NativePlus(0.7)),
    aim("ack", Bound::Times(0.42, Peer::Node)),
    aim("ack", Bound::Times(0.9, Peer::Native)),
    aim("fanout", Bound::Times(0.60, Peer::Node)),
    aim("fanout", Bound::Times(0.5, Peer::Native)),
    aim("connect", Bound::Times(0.06, Peer::Node)),
    aim("connect", Bound::Times(0.7, Peer::Native)),
    aim("idle", Bound::Value(7.0)),
    aim("idle-polling", Bound::Value(8.0)),
    aim("open-loop", Bound::Times(1.0, Peer::Native)),
];

const fn aim(case: &'static str, bound: Bound) -> Aim {
    Aim { case, bound }
}

/// The aims of a case.
pub fn of(case: &str) -> impl Iterator<Item = &'static Aim> {
    AIMS.iter().filter(move |aim| aim.case == case)
}

impl Aim {
    /// Holds results against it; none if a server is missing in them.
    pub fn judge(&self, results: &Results) -> Option<Verdict> {
        let figure = &results.case.figure;
        let (aim, measured, limit) = match self.bound {
            Bound::Times(times, peer) => (
                format!("≤ {times} × {peer}"),
                results.ratio(figure, Peer::Mixlab, peer)?,
                times,
            ),
            Bound::NativePlus(more) => (
                format!("≤ native + {more}"),
                results.difference(figure, Peer::Mixlab, Peer::Native)?,
                more,
            ),
            Bound::Value(value) => (
                format!("≤ {value}"),
                results.spread(figure, Peer::Mixlab)?,
                value,
            ),
        };
        Some(Verdict {
            aim,
            measured,
            limit,
        })
    }

    /// The most that MixLab's figure may be, by the medians of the others.
    pub fn limit(&self, results: &Results) -> Option<f64> {
        let median = |peer| {
            let spread = results.spread(&results.case.figure, peer);
            spread.map(|spread| spread.median)
        };
        Some(match self.bound {
            Bound::Times(times, peer) => times * median(peer)?,
            Bound::NativePlus(more) => median(Peer::Native)? + more,
            Bound::Value(value) => value,
        })
    }
}

impl Verdict {
    /// Whether MixLab stands where it should.
    pub fn is_met(&self) -> bool {
        self.measured.median <= self.limit
    }

    /// In words: met or missed, and by how much.
    pub fn text(&self) -> String {
        let share = (self.measured.median / self.limit - 1.0) * 100.0;
        if self.is_met() {
            format!("met ({} % below)", short(-share))
        } else {
            format!("**missed by {} %**", short(share))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::cases;

    #[test]
    fn every_aim_is_of_a_case() {
        let cases = cases::pinned();
        for aim in &AIMS {
            assert!(
                cases.iter().any(|case| case.name == aim.case),
                "{}",
                aim.case
            );
        }
    }

    #[test]
    fn an_aim_is_met_or_missed_by_how_much() {
        let verdict = |measured: f64| Verdict {
            aim: String::new(),
            measured: Spread::of(&[measured]).unwrap(),
            limit: 0.5,
        };
        assert_eq!(verdict(0.4).text(), "met (20.0 % below)");
        assert_eq!(verdict(0.6).text(), "**missed by 20.0 %**");
    }
}
