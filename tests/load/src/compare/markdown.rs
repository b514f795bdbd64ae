//! The comparison as a Markdown table.

use std::fmt::Write;

use super::{
    cases::Figure,
    figures::{Results, Spread},
    machine::Machine,
};
use crate::{options::Peer, report::Report};

/// The whole text.
pub fn text(machine: &Machine, rounds: usize, results: &[Results], own: &[Report]) -> String {
    let mut text = format!(
        "# Comparison\n\n\
         Made by `mixlab-load compare --rounds {rounds}`; what it means is in ../README.md.\n\n\
         {machine}\n\n\
         Server and load have a core each. Values are medians of {rounds} rounds, in which the \
         servers took turns, with the least and the greatest in brackets. Ratios are medians of \
         the ratios of each round.\n\n"
    );
    table(&mut text, results, |results| vec![&results.case.figure]);
    text += "\n## Beside it\n\n";
    table(&mut text, results, |results| {
        results.case.more.iter().collect()
    });
    text += "\n## Of MixLab alone\n";
    for report in own {
        _ = write!(text, "\n| {} | |\n|---|---|\n", report.scenario());
        for (name, value) in report.values() {
            _ = writeln!(text, "| {name} | {value} |");
        }
    }
    text
}

fn table(text: &mut String, results: &[Results], figures: impl Fn(&Results) -> Vec<&Figure>) {
    *text += "| | | MixLab | Node | native | Node ÷ MixLab | MixLab ÷ native |\n\
              |---|---|---|---|---|---|---|\n";
    for result in results {
        for figure in figures(result) {
            let spread = |peer| cell(result.spread(figure, peer));
            let ratio = |of, to| cell(result.ratio(figure, of, to));
            _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} | {} | {} |",
                result.case.title,
                figure.unit,
                spread(Peer::Mixlab),
                spread(Peer::Node),
                spread(Peer::Native),
                ratio(Peer::Node, Peer::Mixlab),
                ratio(Peer::Mixlab, Peer::Native),
            );
        }
    }
}

fn cell(spread: Option<Spread>) -> String {
    spread.map_or_else(|| "–".to_owned(), |spread| spread.to_string())
}
