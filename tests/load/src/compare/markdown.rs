//! The comparison as Markdown tables.

use std::fmt::Write;

use super::{Comparison, aims, figures::Results};
use crate::{
    figure::{Figure, Spread},
    machine::Machine,
    options::Peer,
};

/// The whole text.
pub fn text(machine: &Machine, comparison: &Comparison) -> String {
    let Comparison {
        rounds,
        pinned,
        unpinned,
        own,
    } = comparison;
    let mut text = format!(
        "# Comparison\n\n\
         Made by `mixlab-load compare --rounds {rounds}`; what it means is in ../README.md.\n\n\
         {machine}\n\n\
         Connection state recovery is on in mixlab and node, and off in mixlab-plain; node-cluster and \
         native have none.\n\n\
         Values are medians of {rounds} rounds, in which the servers took turns, with the least \
         and the greatest in brackets. Ratios are medians of the ratios of each round. Lower is \
         better, except in what is per second.\n"
    );
    if !pinned.is_empty() {
        text += "\n## A core each for server and load\n\n![](compare.svg)\n\n";
        table(&mut text, pinned, |results| vec![&results.case.figure]);
        text += "\n### Aims\n\n";
        aims(&mut text, pinned);
        text += "\n### Beside it\n\n";
        table(&mut text, pinned, |results| {
            results.case.more.iter().collect()
        });
    }
    if !unpinned.is_empty() {
        text += "\n## All cores for both\n\n![](compare-unpinned.svg)\n\n";
        table(&mut text, unpinned, |results| {
            results.case.figures().collect()
        });
    }
    if !own.is_empty() {
        text += "\n## Of MixLab alone\n";
    }
    for report in own {
        _ = write!(text, "\n| {} | |\n|---|---|\n", report.scenario());
        for (name, value) in report.values() {
            _ = writeln!(text, "| {name} | {value} |");
        }
    }
    text
}

fn table(text: &mut String, results: &[Results], figures: impl Fn(&Results) -> Vec<&Figure>) {
    let Some(Results { peers, .. }) = results.first() else {
        return;
    };
    *text += "| | |";
    for peer in *peers {
        _ = write!(text, " {peer} |");
    }
    let others = [Peer::Before, Peer::Node, Peer::Native].into_iter();
    let others: Vec<Peer> = others.filter(|other| peers.contains(other)).collect();
    for other in &others {
        _ = write!(text, " mixlab ÷ {other} |");
    }
    *text += "\n|---|---|";
    *text += &"---|".repeat(peers.len() + others.len());
    *text += "\n";
    for result in results {
        for figure in figures(result) {
            _ = write!(text, "| {} | {} |", result.case.title, figure.unit);
            for peer in *peers {
                _ = write!(text, " {} |", cell(result.spread(figure, *peer)));
            }
            for other in &others {
                let ratio = result.ratio(figure, Peer::Mixlab, *other);
                _ = write!(text, " {} |", cell(ratio));
            }
            *text += "\n";
        }
    }
}

fn aims(text: &mut String, results: &[Results]) {
    *text += "| | aim | measured | |\n|---|---|---|---|\n";
    for result in results {
        let verdicts = aims::of(result.case.name).filter_map(|aim| aim.judge(result));
        for verdict in verdicts {
            _ = writeln!(
                text,
                "| {}, {} | {} | {} | {} |",
                result.case.title,
                result.case.figure.unit,
                verdict.aim,
                verdict.measured,
                verdict.text()
            );
        }
    }
}

fn cell(spread: Option<Spread>) -> String {
    spread.map_or_else(|| "–".to_owned(), |spread| spread.to_string())
}
