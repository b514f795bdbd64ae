//! The files that cases are written in.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error},
};
use serde_json::{Map, Value};
use toml_edit::{Item, TableLike};

use super::checks;
use crate::{grant::Grants, units::duration};

/// What the names of such files end with.
pub(crate) const SUFFIX: &str = ".test.toml";

/// When cases begin that do not say so, in milliseconds since 1970: 2026-01-01.
const BEGINNING: u64 = 1_767_225_600_000;

/// A file with cases.
#[derive(Debug)]
pub(crate) struct CaseFile {
    /// Where it is.
    pub path: PathBuf,
    /// What it says.
    pub written: Written,
}

/// What a file says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Written {
    /// The plugin in `mixlab.toml`.
    pub plugin: Option<String>,
    /// The component or the script, if it is another than that of `mixlab.toml`.
    pub path: Option<PathBuf>,
    /// Other plugins that are loaded, too: their names in `mixlab.toml`, or their files.
    #[serde(default)]
    pub with: Vec<String>,
    /// What the plugin is configured with, instead of its config in `mixlab.toml`.
    pub config: Option<Map<String, Value>>,
    /// What it is granted, instead of its grants in `mixlab.toml`.
    pub grants: Option<Grants>,
    /// Another file, whose cases are run with this plugin.
    pub cases: Option<PathBuf>,
    #[serde(default)]
    pub case: Vec<Case>,
}

/// What happens, and what is expected of it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    /// What it shows.
    pub name: String,
    /// When it begins.
    #[serde(default = "beginning", deserialize_with = "time")]
    pub at: u64,
    /// What the plugin is configured with, instead of what the file says.
    pub config: Option<Map<String, Value>>,
    /// What the plugin has stored when it begins.
    #[serde(default)]
    pub stored: BTreeMap<String, Value>,
    /// The same in other buckets.
    #[serde(default)]
    pub shared: BTreeMap<String, BTreeMap<String, Value>>,
    /// Who there is, by names that the case makes up.
    #[serde(default)]
    pub clients: BTreeMap<String, ClientWritten>,
    #[serde(default)]
    pub step: Vec<Step>,
    /// The file that it is in.
    #[serde(skip)]
    pub file: PathBuf,
    /// The line on which it begins.
    #[serde(skip)]
    pub line: usize,
}

/// A client of a case.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ClientWritten {
    pub user: Option<String>,
    pub username: Option<String>,
    pub roles: Vec<String>,
    pub namespace: Option<String>,
    /// What it says of itself when it connects, beside the token.
    pub auth: Map<String, Value>,
    /// Rooms that it is in when the case begins, beside those that it was put into as it connected.
    pub rooms: Vec<String>,
    /// What the plugin keeps with it then.
    pub data: Option<Value>,
    /// What it answers to events that ask for an ack.
    pub answers: BTreeMap<String, Vec<Value>>,
}

/// One thing that happens.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Step {
    /// Who sends.
    pub from: Option<String>,
    /// An event and its arguments.
    pub send: Option<Vec<Value>>,
    /// How often it is sent.
    pub times: Option<u32>,
    /// A webhook for the plugin, whose signature is good.
    pub webhook: Option<WebhookWritten>,
    /// Who connects.
    pub connect: Option<String>,
    /// Who leaves.
    pub disconnect: Option<String>,
    /// By how much the clock is moved on.
    #[serde(deserialize_with = "duration::deserialize_some")]
    pub advance: Option<Duration>,
    /// What it is answered.
    pub ack: Option<Vec<Value>>,
    /// The status that a webhook is answered with.
    pub status: Option<u16>,
    /// Why it is refused: a code, or fields of the error.
    pub refused: Option<Value>,
    /// Who gets which events: lists of a name and arguments.
    pub gets: BTreeMap<String, Vec<Vec<Value>>>,
    /// Who is in which rooms that it was not in before.
    pub joins: BTreeMap<String, Vec<String>>,
    /// Who is not any more in which rooms.
    pub leaves: BTreeMap<String, Vec<String>>,
    /// What the plugin keeps with whose connection from then on.
    pub data: BTreeMap<String, Value>,
    /// Whom the server disconnects.
    pub disconnects: Vec<String>,
    /// What the plugin stores.
    pub stores: BTreeMap<String, Value>,
    /// The keys that it deletes.
    pub deletes: Vec<String>,
    /// What it stores in other buckets.
    pub shared: BTreeMap<String, BTreeMap<String, Value>>,
    /// The timers that it sets, and after how long they are due.
    pub timers: BTreeMap<String, String>,
    /// The timers that it cancels.
    pub cancels: Vec<String>,
    /// The requests that it sends, in order, with their answers.
    pub http: Vec<Exchange>,
    /// The line on which it begins.
    #[serde(skip)]
    pub line: usize,
}

/// A webhook.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WebhookWritten {
    /// By which it is known when it comes again.
    pub id: String,
    /// Behind `/hooks/PLUGIN`.
    #[serde(default = "slash")]
    pub path: String,
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// JSON, or a text.
    pub body: Option<Value>,
}

/// A request to another server, and the answer.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Exchange {
    /// Method and URL: `"POST https://api.example.com/v1"`.
    pub request: String,
    /// Its body: JSON, or a text.
    pub body: Option<Value>,
    /// Headers that it has, by their names in lower case.
    #[serde(default)]
    pub headers: BTreeMap<String, Value>,
    /// None: the server cannot be reached.
    pub answer: Option<AnswerWritten>,
}

/// What a server answers.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AnswerWritten {
    #[serde(default = "ok")]
    pub status: u16,
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// JSON, or a text.
    pub body: Option<Value>,
}

/// JSON or a text as the body of a message.
pub(super) fn body(written: Option<&Value>) -> Vec<u8> {
    match written {
        None => Vec::new(),
        Some(Value::String(text)) => text.clone().into_bytes(),
        Some(json) => json.to_string().into_bytes(),
    }
}

/// Why a file has no cases.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    /// It cannot be read.
    #[error("{0}: {1}")]
    Unreadable(String, std::io::Error),
    /// It is not what it should be.
    #[error("{path}{line}: {reason}")]
    Invalid {
        path: String,
        /// `:LINE`, or nothing.
        line: String,
        reason: String,
    },
}

fn beginning() -> u64 {
    BEGINNING
}

fn slash() -> String {
    "/".to_owned()
}

fn ok() -> u16 {
    200
}

fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let text = String::deserialize(deserializer)?;
    let at = humantime::parse_rfc3339_weak(&text).ok();
    let since = at.and_then(|at: SystemTime| at.duration_since(UNIX_EPOCH).ok());
    let milliseconds = since.and_then(|since| u64::try_from(since.as_millis()).ok());
    let expected = "a time like \"2026-01-01T00:00:00Z\"";
    milliseconds.ok_or_else(|| D::Error::custom(format!("{text:?}: expected {expected}")))
}

impl CaseFile {
    /// Reads a file.
    pub(crate) fn read(path: &Path) -> Result<Self, FileError> {
        let shown = path.display().to_string();
        let text = fs::read_to_string(path)
            .map_err(|error| FileError::Unreadable(shown.clone(), error))?;
        let invalid = |line: Option<usize>, reason: String| FileError::Invalid {
            path: shown.clone(),
            line: line.map(|line| format!(":{line}")).unwrap_or_default(),
            reason,
        };
        let document = toml_edit::Document::parse(text.as_str()).map_err(|error| {
            let line = error.span().map(|span| line_of(&text, span.start));
            invalid(line, error.message().replace('\n', ", "))
        })?;
        let root = document.as_table();
        let lines = lines(root, &text);
        let mut rest = object(root);
        let cases = match rest.remove("case") {
            None => Vec::new(),
            Some(Value::Array(cases)) => cases,
            Some(_) => return Err(invalid(None, "cases begin with [[case]]".to_owned())),
        };
        let written = parsed(Value::Object(rest));
        let mut written: Written = written.map_err(|reason| invalid(None, reason))?;
        for (index, mut case) in cases.into_iter().enumerate() {
            let (line, step_lines) = lines.get(index).cloned().unwrap_or_default();
            let steps = case
                .as_object_mut()
                .and_then(|case| case.remove("step"))
                .unwrap_or_else(|| Value::Array(Vec::new()));
            let mut case: Case = parsed(case).map_err(|reason| invalid(Some(line), reason))?;
            case.line = line;
            case.file = path.to_owned();
            let Value::Array(steps) = steps else {
                let reason = "steps begin with [[case.step]]".to_owned();
                return Err(invalid(Some(line), reason));
            };
            checks::case(&case, steps.len()).map_err(|reason| invalid(Some(line), reason))?;
            for (index, step) in steps.into_iter().enumerate() {
                let line = step_lines.get(index).copied().unwrap_or(line);
                let step = parsed(step).and_then(|step: Step| {
                    checks::step(&step, &case)?;
                    Ok(step)
                });
                let step = step.map_err(|reason| invalid(Some(line), reason))?;
                case.step.push(Step { line, ..step });
            }
            written.case.push(case);
        }
        if written.case.is_empty() && written.cases.is_none() {
            // It would pass whatever the plugin does.
            return Err(invalid(None, "there is no [[case]] in it".to_owned()));
        }
        Ok(Self {
            path: path.to_owned(),
            written,
        })
    }
}

/// What a table says; or what is wrong, behind the key that it is wrong at.
fn parsed<T: DeserializeOwned>(table: Value) -> Result<T, String> {
    serde_path_to_error::deserialize(table).map_err(|error| {
        let (key, reason) = (error.path().to_string(), error.inner());
        match key.as_str() {
            // The table itself, of which the reason names the key.
            "." => reason.to_string(),
            key => format!("{key}: {reason}"),
        }
    })
}

/// The lines on which cases begin, each with those of its steps.
fn lines(root: &dyn TableLike, text: &str) -> Vec<(usize, Vec<usize>)> {
    let starts = |item: Option<&Item>| -> Vec<usize> {
        let spans: Vec<_> = match item {
            Some(Item::ArrayOfTables(tables)) => tables.iter().map(|table| table.span()).collect(),
            Some(Item::Value(toml_edit::Value::Array(values))) => {
                values.iter().map(toml_edit::Value::span).collect()
            }
            _ => Vec::new(),
        };
        let start = |span: Option<std::ops::Range<usize>>| span.map_or(0, |span| span.start);
        spans
            .into_iter()
            .map(|span| line_of(text, start(span)))
            .collect()
    };
    let cases = root.get("case");
    let mut lines: Vec<_> = starts(cases)
        .into_iter()
        .map(|line| (line, Vec::new()))
        .collect();
    if let Some(Item::ArrayOfTables(tables)) = cases {
        for ((_, steps), table) in lines.iter_mut().zip(tables.iter()) {
            *steps = starts(table.get("step"));
        }
    }
    lines
}

fn line_of(text: &str, offset: usize) -> usize {
    let before = text.bytes().take(offset);
    1 + before.filter(|byte| *byte == b'\n').count()
}

fn object(table: &dyn TableLike) -> Map<String, Value> {
    let fields = table.iter();
    let fields = fields.filter_map(|(key, item)| Some((key.to_owned(), of_item(item)?)));
    fields.collect()
}

pub(crate) fn of_item(item: &Item) -> Option<Value> {
    Some(match item {
        Item::None => return None,
        Item::Table(table) => Value::Object(object(table)),
        Item::ArrayOfTables(tables) => tables
            .iter()
            .map(|table| Value::Object(object(table)))
            .collect(),
        Item::Value(value) => of_value(value),
    })
}

fn of_value(value: &toml_edit::Value) -> Value {
    match value {
        toml_edit::Value::String(text) => text.value().as_str().into(),
        toml_edit::Value::Integer(number) => (*number.value()).into(),
        toml_edit::Value::Float(number) => (*number.value()).into(),
        toml_edit::Value::Boolean(flag) => (*flag.value()).into(),
        toml_edit::Value::Datetime(time) => time.value().to_string().into(),
        toml_edit::Value::Array(array) => array.iter().map(of_value).collect(),
        toml_edit::Value::InlineTable(table) => Value::Object(object(table)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<CaseFile, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.test.toml");
        fs::write(&path, text).unwrap();
        CaseFile::read(&path).map_err(|error| {
            let error = error.to_string();
            let (_, error) = error.split_once("a.test.toml").unwrap();
            error.to_owned()
        })
    }

    #[test]
    fn cases_know_their_lines() {
        let file = read(
            "plugin = 'a'\n\n[[case]]\nname = 'one'\nclients.ann = {}\n\n[[case.step]]\nfrom = 'ann'\n\
             send = ['x', 1]\n\n[[case.step]]\nadvance = '1m'\n\n[[case]]\nname = 'two'\n\
             at = '2026-01-01T00:00:01Z'\n[[case.step]]\nadvance = '1s'\n",
        );
        let cases = file.unwrap().written.case;
        assert_eq!(
            cases.iter().map(|case| case.line).collect::<Vec<_>>(),
            [3, 14]
        );
        let steps: Vec<_> = cases[0].step.iter().map(|step| step.line).collect();
        assert_eq!(steps, [7, 11]);
        assert_eq!(cases[1].at, BEGINNING + 1_000);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        let step = |step: &str| {
            format!("[[case]]\nname = 'one'\nclients.ann = {{}}\n[[case.step]]\n{step}\n")
        };
        for (text, expected) in [
            ("", ": there is no [[case]] in it"),
            ("plugin = 'a'", ": there is no [[case]] in it"),
            ("x", ":1: "),
            ("plugins = ['a']", ": plugins: unknown field `plugins`"),
            ("case = 1", ": cases begin with [[case]]"),
            ("[[case]]\nclients.a = {}", ":1: missing field `name`"),
            (
                "[[case]]\nname = 'a'",
                ":1: there is no [[case.step]] in it",
            ),
            (
                "[[case]]\nname = 'a'\nstored.'' = 1\n[[case.step]]\nadvance = '1s'",
                ":1: stored \"\": a key has 1 to",
            ),
            (
                "[[case]]\nname = 'a'\nat = 'noon'",
                ":1: at: \"noon\": expected a time",
            ),
            (
                &step("advance = '1m'\ndisconnect = 'ann'"),
                ":4: a step has one of",
            ),
            (&step("send = ['x']"), ":4: send and from belong together"),
            (&step("from = 'ann'\nsend = [1]"), ":4: send is a list"),
            (
                &step("from = 'bob'\nsend = ['x']"),
                ":4: there is no client \"bob\"",
            ),
            (
                &step("advance = '1m'\ngets.bob = []"),
                ":4: there is no client \"bob\"",
            ),
            (&step("advance = 1"), ":4: "),
            (&step("advance = '1s'\ntimes = 2"), ":4: times is how often"),
            (
                &step("from = 'ann'\nsend = ['x']\ntimes = 0"),
                ":4: times is how often",
            ),
            (
                &step("from = 'ann'\nsend = ['$null']"),
                ":4: send is a list",
            ),
            (
                &step("from = 'ann'\nsend = ['x', [{ a = '$id:bob' }]]"),
                ":4: \"$id:bob\": there is no client \"bob\"",
            ),
            (
                &step("from = 'ann'\nsend = ['x', { '$bytes' = '?' }]"),
                ":4: {\"$bytes\":\"?\"}: expected base64",
            ),
            (
                &step("advance = '1s'\nhttp = [{ request = 'GET x', answer = { status = 9999 } }]"),
                ":4: http: 9999 is no status",
            ),
            (
                &step(
                    "advance = '1s'\nhttp = [{ request = 'GET x', answer = { headers = { 'a b' = 'c' } } }]",
                ),
                ":4: http: \"a b\": \"c\" is no header",
            ),
            (
                &step("advance = '1m'\ndata.bob = 1"),
                ":4: there is no client \"bob\"",
            ),
            (
                &step("advance = '1m'\nget.ann = []"),
                ":4: get: unknown field `get`",
            ),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
    }
}
