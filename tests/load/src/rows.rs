//! Named values of several rounds, as a table and as JSON.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::{figure::Spread, machine::Machine};

/// The rows of a table.
#[derive(Default)]
pub struct Rows {
    rows: Vec<(String, &'static str, Vec<f64>)>,
}

impl Rows {
    /// Adds a value of one round to the row of this name and unit.
    pub fn add(&mut self, name: &str, unit: &'static str, value: f64) {
        let is_it = |(known, of, _): &&mut (String, &str, _)| known == name && *of == unit;
        match self.rows.iter_mut().find(is_it) {
            Some((.., values)) => values.push(value),
            None => self.rows.push((name.to_owned(), unit, vec![value])),
        }
    }

    /// The values of a row.
    pub fn values(&self, name: &str) -> &[f64] {
        let row = self.rows.iter().find(|(known, ..)| known == name);
        row.map_or(&[], |(.., values)| values)
    }

    /// As a Markdown file.
    pub fn markdown(&self, title: &str, command: &str, machine: &Machine) -> String {
        let mut text = format!(
            "# {title}\n\nMade by `mixlab-load {command}`; what it means is in ../README.md. \
             Values are medians, with the least and the greatest in brackets.\n\n{machine}\n\n\
             | | | |\n|---|---|---|\n"
        );
        for (name, unit, values) in &self.rows {
            if let Some(spread) = Spread::of(values) {
                _ = writeln!(text, "| {name} | {unit} | {spread} |");
            }
        }
        text
    }

    /// As one JSON object.
    pub fn json(&self, scenario: &str, machine: &Machine) -> Value {
        let rows = self
            .rows
            .iter()
            .map(|(name, unit, values)| json!({ "what": name, "unit": unit, "values": values }));
        json!({
            "scenario": scenario,
            "machine": machine.to_string(),
            "rows": rows.collect::<Vec<_>>(),
        })
    }
}
