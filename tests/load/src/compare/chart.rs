//! The comparison as a chart: for each case a bar for each server, the shorter the better.

use std::fmt::Write;

use super::figures::{Results, short};
use crate::options::Peer;

/// Everything in pixels.
const WIDTH: f64 = 760.0;
const LEFT: f64 = 70.0;
const LONGEST: f64 = 560.0;
const BAR: f64 = 16.0;
const TITLE: f64 = 26.0;
const GAP: f64 = 14.0;
const TOP: f64 = 16.0;

/// Readable on white for people who see no difference between red and green.
const COLOURS: [(Peer, &str); 3] = [
    (Peer::Mixlab, "#0072b2"),
    (Peer::Node, "#e69f00"),
    (Peer::Native, "#999999"),
];

/// The chart as SVG. The bars of a case are to scale with each other, not with those of others.
pub fn svg(results: &[Results]) -> String {
    let mut bars = String::new();
    let mut y = TOP;
    for result in results {
        let figure = &result.case.figure;
        let medians = COLOURS.map(|(peer, colour)| (peer, colour, result.spread(figure, peer)));
        let longest = medians
            .iter()
            .filter_map(|(.., spread)| spread.map(|spread| spread.median))
            .fold(f64::MIN_POSITIVE, f64::max);
        _ = writeln!(
            bars,
            r#"<text x="0" y="{:.0}" font-weight="bold">{}: {}</text>"#,
            y + BAR,
            result.case.title,
            figure.unit
        );
        y += TITLE;
        for (peer, colour, spread) in medians {
            let Some(spread) = spread else { continue };
            let length = LONGEST * spread.median / longest;
            let text = y + BAR - 4.0;
            _ = writeln!(
                bars,
                r#"<text x="0" y="{text:.0}">{peer}</text><rect x="{LEFT}" y="{y:.0}" width="{length:.1}" height="{:.0}" fill="{colour}"/><text x="{:.1}" y="{text:.0}">{}</text>"#,
                BAR - 2.0,
                LEFT + length + 6.0,
                short(spread.median)
            );
            y += BAR;
        }
        y += GAP;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"-10 0 {WIDTH} {y:.0}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect x=\"-10\" width=\"{WIDTH}\" height=\"{y:.0}\" fill=\"white\"/>\n{bars}</svg>\n"
    )
}
