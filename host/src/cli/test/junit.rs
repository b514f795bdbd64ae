//! What came of cases, as JUnit has it, which CI servers show.

use std::fmt::Write;

use super::{Outcome, Ran, told};
use crate::harmless::in_lines;

/// The report.
pub(super) fn report(ran: &[Ran]) -> String {
    let count = |is: fn(&Outcome) -> bool| ran.iter().filter(|ran| is(&ran.result)).count();
    let failures = count(|outcome| matches!(outcome, Outcome::Failed(_)));
    let errors = count(|outcome| matches!(outcome, Outcome::Not(_)));
    let seconds: f64 = ran.iter().map(|ran| ran.took.as_secs_f64()).sum();
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    // Writing to a text does not fail.
    let _ = writeln!(
        xml,
        "<testsuites><testsuite name=\"mixlab\" tests=\"{}\" failures=\"{failures}\" errors=\"{errors}\" time=\"{seconds:.3}\">",
        ran.len()
    );
    for ran in ran {
        let (file, name) = (escaped(&ran.file.to_string_lossy()), escaped(&ran.name));
        let seconds = ran.took.as_secs_f64();
        let _ = write!(
            xml,
            "<testcase classname=\"{file}\" name=\"{name}\" time=\"{seconds:.3}\">"
        );
        let _ = match &ran.result {
            Outcome::Passed => Ok(()),
            Outcome::Failed(failure) => write!(
                xml,
                "<failure message=\"{file}:{}\">{}</failure>",
                failure.line,
                escaped(&told(failure))
            ),
            Outcome::Not(reason) => write!(xml, "<error>{}</error>", escaped(reason)),
        };
        xml += "</testcase>\n";
    }
    xml + "</testsuite></testsuites>\n"
}

/// A text in XML, which has no control characters and no noncharacters.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in in_lines(text).chars() {
        match character {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\u{fffe}' | '\u{ffff}' => escaped.push(char::REPLACEMENT_CHARACTER),
            _ => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_case_is_called_ends_an_attribute() {
        assert_eq!(
            escaped("a \"<&>\"\u{1}\u{ffff}\n"),
            "a &quot;&lt;&amp;&gt;&quot;\\u0001\u{fffd}\n"
        );
    }
}
