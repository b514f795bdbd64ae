//! How what was found differs from what was expected.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

use crate::harmless::in_one_line;

/// The key that says of an expected object that there may be more in it.
const MORE: &str = "$more";

/// One place where something else was found than was expected.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Difference {
    /// Where, like `gets.bob[0][1].text`.
    pub place: String,
    /// None: nothing.
    pub expected: Option<Value>,
    /// None: nothing.
    pub found: Option<Value>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |value: &Option<Value>| match value {
            Some(value) => in_one_line(&value.to_string()).into_owned(),
            None => "nothing".to_owned(),
        };
        write!(
            f,
            "{}\n    expected  {}\n    found     {}",
            in_one_line(&self.place),
            shown(&self.expected),
            shown(&self.found)
        )
    }
}

/// Whether a value is of the kind that a word stands for; none if it is no such word.
fn is_of_kind(word: &str, found: &Value) -> Option<bool> {
    Some(match word {
        "$any" => true,
        "$null" => found.is_null(),
        "$string" => found.is_string(),
        "$number" => found.is_number(),
        "$boolean" => found.is_boolean(),
        _ => return None,
    })
}

/// Adds the places where something differs.
pub(crate) fn compare(
    place: &str,
    expected: &Value,
    found: &Value,
    differences: &mut Vec<Difference>,
) {
    match (expected, found) {
        (Value::String(word), found) if is_of_kind(word, found) == Some(true) => {}
        (Value::Number(expected), Value::Number(found)) if expected.as_f64() == found.as_f64() => {}
        (Value::Array(expected), Value::Array(found)) => {
            for index in 0..expected.len().max(found.len()) {
                let place = format!("{place}[{index}]");
                one(&place, expected.get(index), found.get(index), differences);
            }
        }
        (Value::Object(expected), Value::Object(found)) => {
            let may_have_more = expected.get(MORE).is_some_and(|more| more == true);
            let names = expected.keys().filter(|name| *name != MORE);
            for name in names {
                let place = within(place, name);
                one(&place, expected.get(name), found.get(name), differences);
            }
            let more = found.keys().filter(|name| !expected.contains_key(*name));
            for name in more.filter(|_| !may_have_more) {
                one(&within(place, name), None, found.get(name), differences);
            }
        }
        (expected, found) if expected == found => {}
        (expected, found) => differences.push(Difference {
            place: place.to_owned(),
            expected: Some(expected.clone()),
            found: Some(found.clone()),
        }),
    }
}

fn one(
    place: &str,
    expected: Option<&Value>,
    found: Option<&Value>,
    differences: &mut Vec<Difference>,
) {
    match (expected, found) {
        (Some(expected), Some(found)) => compare(place, expected, found, differences),
        (None, None) => {}
        (expected, found) => differences.push(Difference {
            place: place.to_owned(),
            expected: expected.cloned(),
            found: found.cloned(),
        }),
    }
}

fn within(place: &str, name: &str) -> String {
    match place {
        "" => name.to_owned(),
        place => format!("{place}.{name}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_place_that_differs_is_named() {
        for (expected, found, places) in [
            (json!({ "a": [1, "x"] }), json!({ "a": [1.0, "x"] }), vec![]),
            (json!(["$any", "$null"]), json!([{}, null]), vec![]),
            (json!(["$string"]), json!([1]), vec!["[0]"]),
            (json!("$number"), json!(1), vec![]),
            (json!([1]), json!([1, 2]), vec!["[1]"]),
            (
                json!({ "a": { "b": 1 } }),
                json!({ "a": { "c": 1 } }),
                vec!["a.b", "a.c"],
            ),
            (
                json!({ "a": 1, "$more": true }),
                json!({ "a": 1, "b": 2 }),
                vec![],
            ),
            (
                json!({ "a": 1, "$more": true }),
                json!({ "b": 2 }),
                vec!["a"],
            ),
            (json!(1), json!("1"), vec![""]),
        ] {
            let mut differences = Vec::new();
            compare("", &expected, &found, &mut differences);
            let found_at: Vec<_> = differences.iter().map(|it| it.place.as_str()).collect();
            assert_eq!(found_at, places, "{expected} {found}");
        }
    }
}
