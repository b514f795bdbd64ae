//! The comparison as a chart: a panel for each case, a bar for each server, the shorter the better.

use super::{aims, figures::Results};
use crate::{
    figure::short,
    svg::{Anchor, Drawing, colour},
};

const COLUMNS: usize = 2;
const COLUMN: f64 = 390.0;
const LONGEST: f64 = 270.0;
const BAR: f64 = 15.0;
const STEP: f64 = 20.0;
const HEAD: f64 = 40.0;
const LEGEND: f64 = 34.0;
const GAP: f64 = 22.0;

/// The chart. The bars of a panel are to scale with each other, not with those of other panels.
pub fn svg(results: &[Results]) -> String {
    let Some(first) = results.first() else {
        return Drawing::new(COLUMN).finish(0.0);
    };
    let mut drawing = Drawing::new(COLUMN * COLUMNS as f64);
    let x = drawing.legend((4.0, 16.0), first.peers);
    drawing.line((x, 5.0), (x, 19.0), true);
    let rest = "aim: no longer than this; thin lines: least to greatest";
    drawing.text((x + 6.0, 16.0), Anchor::Start, rest);
    let height = HEAD + STEP * first.peers.len() as f64 + GAP;
    for (number, result) in results.iter().enumerate() {
        let x = 4.0 + COLUMN * (number % COLUMNS) as f64;
        let y = LEGEND + height * (number / COLUMNS) as f64;
        panel(&mut drawing, (x, y), result);
    }
    drawing.finish(LEGEND + height * results.len().div_ceil(COLUMNS) as f64)
}

fn panel(drawing: &mut Drawing, (x, y): (f64, f64), result: &Results) {
    let figure = &result.case.figure;
    drawing.title((x, y + 14.0), result.case.title);
    drawing.text((x, y + 30.0), Anchor::Start, figure.unit);
    let spreads = result
        .peers
        .iter()
        .map(|peer| (*peer, result.spread(figure, *peer)));
    let spreads: Vec<_> = spreads
        .filter_map(|(peer, spread)| Some((peer, spread?)))
        .collect();
    let greatest = spreads
        .iter()
        .map(|(_, spread)| spread.greatest)
        .fold(f64::MIN_POSITIVE, f64::max);
    let length = |value: f64| LONGEST * value / greatest;
    let top = y + HEAD;
    for (row, (peer, spread)) in spreads.iter().enumerate() {
        let y = top + STEP * row as f64;
        let middle = y + BAR / 2.0;
        drawing.bar((x, y), length(spread.median), BAR, colour(*peer));
        let (least, greatest) = (x + length(spread.least), x + length(spread.greatest));
        drawing.line((least, middle), (greatest, middle), false);
        drawing.text(
            (greatest + 6.0, y + 12.0),
            Anchor::Start,
            short(spread.median),
        );
    }
    let limits = aims::of(result.case.name).filter_map(|aim| aim.limit(result));
    if let Some(limit) = limits.reduce(f64::min) {
        let x = x + length(limit.min(greatest));
        let bottom = top + STEP * result.peers.len() as f64 - STEP + BAR;
        drawing.line((x, top - 4.0), (x, bottom + 4.0), true);
    }
}
