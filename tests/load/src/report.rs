//! The result of a scenario: names and values, for people or as one JSON object.

use std::time::Duration;

use clap::ValueEnum;
use serde_json::Value;

/// How a result is printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table.
    #[default]
    Text,
    /// One JSON object in one line.
    Json,
}

/// A scenario's result. Units are in the names.
#[derive(Debug, Clone)]
pub struct Report {
    scenario: &'static str,
    fields: Vec<(&'static str, Value)>,
    faults: u64,
}

impl Report {
    /// Of a scenario against a server.
    pub fn new(scenario: &'static str, server: &str) -> Self {
        Self {
            scenario,
            fields: vec![("scenario", scenario.into()), ("server", server.into())],
            faults: 0,
        }
    }

    /// Adds a value.
    pub fn set(&mut self, name: &'static str, value: impl Into<Value>) {
        self.fields.push((name, value.into()));
    }

    /// Adds a number of which three digits after the point are enough.
    pub fn set_number(&mut self, name: &'static str, value: f64) {
        self.set(name, (value * 1000.0).round() / 1000.0);
    }

    /// Adds a time in microseconds.
    pub fn set_us(&mut self, name: &'static str, value: Duration) {
        self.set_number(name, value.as_secs_f64() * 1e6);
    }

    /// Adds a time in milliseconds.
    pub fn set_ms(&mut self, name: &'static str, value: Duration) {
        self.set_number(name, value.as_secs_f64() * 1e3);
    }

    /// Counts what must not happen.
    pub fn add_faults(&mut self, faults: u64) {
        self.faults += faults;
    }

    /// How much happened that must not.
    pub fn faults(&self) -> u64 {
        self.faults
    }

    /// The scenario's name.
    pub fn scenario(&self) -> &'static str {
        self.scenario
    }

    /// All values with their names, as text.
    pub fn values(&self) -> impl Iterator<Item = (&'static str, String)> {
        let fields = self.fields.iter();
        fields.map(|(name, value)| {
            (
                *name,
                value.as_str().map_or(value.to_string(), str::to_owned),
            )
        })
    }

    /// The same as a JSON object.
    pub fn to_value(&self) -> Value {
        let fields = self.fields.iter();
        Value::Object(
            fields
                .map(|(name, value)| ((*name).to_owned(), value.clone()))
                .collect(),
        )
    }

    /// A value that is a number.
    pub fn number(&self, name: &str) -> Option<f64> {
        let (_, value) = self.fields.iter().find(|(field, _)| *field == name)?;
        value.as_f64()
    }

    /// As it is printed.
    pub fn text(&self, format: Format) -> String {
        match format {
            Format::Json => self.json(),
            Format::Text => {
                let lines = self
                    .values()
                    .map(|(name, value)| format!("{name:<28} {value}"));
                lines.collect::<Vec<_>>().join("\n")
            }
        }
    }

    /// One JSON object, the values in the order they were added.
    fn json(&self) -> String {
        let fields = self.fields.iter();
        let fields: Vec<String> = fields
            .map(|(name, value)| format!("{}:{value}", Value::from(*name)))
            .collect();
        format!("{{{}}}", fields.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_one_json_object() {
        let mut report = Report::new("echo", "mix\"lab");
        report.set_us("p50_us", Duration::from_nanos(1_234_567));
        report.set("lost", 0);
        let json: Value = serde_json::from_str(&report.json()).unwrap();
        assert_eq!(json["server"], "mix\"lab");
        assert_eq!(json["p50_us"], 1234.567);
        assert_eq!(report.number("lost"), Some(0.0));
    }
}
