//! How what was found differs from what was expected.

use std::fmt;

use serde::Serialize;
use serde_json::{Number, Value};

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

/// How what is expected is read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    /// Words that begin with `$` stand for values of a kind, or say that there may be more.
    Written,
    /// They are what has been there.
    Recorded,
}

/// Adds the places where something differs.
pub(crate) fn compare(
    how: Expected,
    place: &str,
    expected: &Value,
    found: &Value,
    differences: &mut Vec<Difference>,
) {
    let is_written = how == Expected::Written;
    match (expected, found) {
        (Value::String(word), found) if is_written && is_of_kind(word, found) == Some(true) => {}
        (Value::Number(expected), Value::Number(found)) if is_same(expected, found) => {}
        (Value::Array(expected), Value::Array(found)) => {
            for index in 0..expected.len().max(found.len()) {
                let place = format!("{place}[{index}]");
                one(
                    how,
                    &place,
                    expected.get(index),
                    found.get(index),
                    differences,
                );
            }
        }
        (Value::Object(expected), Value::Object(found)) => {
            let may_have_more = is_written && expected.get(MORE).is_some_and(|more| more == true);
            let names = expected.keys().filter(|name| !is_written || *name != MORE);
            for name in names {
                let place = within(place, name);
                one(
                    how,
                    &place,
                    expected.get(name),
                    found.get(name),
                    differences,
                );
            }
            let more = found.keys().filter(|name| !expected.contains_key(*name));
            for name in more.filter(|_| !may_have_more) {
                one(
                    how,
                    &within(place, name),
                    None,
                    found.get(name),
                    differences,
                );
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

/// Whether numbers are the same: 1 is 1.0, and whole ones are compared digit by digit.
fn is_same(expected: &Number, found: &Number) -> bool {
    let is_whole = !expected.is_f64() && !found.is_f64();
    expected == found || (!is_whole && expected.as_f64() == found.as_f64())
}

fn one(
    how: Expected,
    place: &str,
    expected: Option<&Value>,
    found: Option<&Value>,
    differences: &mut Vec<Difference>,
) {
    match (expected, found) {
        (Some(expected), Some(found)) => compare(how, place, expected, found, differences),
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
            (
                json!([9_007_199_254_740_993_u64, -9_007_199_254_740_993_i64]),
                json!([9_007_199_254_740_992_u64, -9_007_199_254_740_993_i64]),
                vec!["[0]"],
            ),
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
            compare(Expected::Written, "", &expected, &found, &mut differences);
            let found_at: Vec<_> = differences.iter().map(|it| it.place.as_str()).collect();
            assert_eq!(found_at, places, "{expected} {found}");
        }
    }
    #[test]
    fn what_was_recorded_stands_for_itself() {
        for (expected, found) in [
            (json!("$any"), json!("x")),
            (json!({ "$more": true }), json!({ "$more": true, "a": 1 })),
            (json!({ "$more": true }), json!({})),
        ] {
            let mut differences = Vec::new();
            compare(Expected::Recorded, "", &expected, &found, &mut differences);
            assert_eq!(differences.len(), 1, "{expected} {found}");
        }
    }
}
