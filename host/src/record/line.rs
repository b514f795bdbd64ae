//! The lines of a record: JSON, one for each, the first of which says the version.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    path::Path,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::{Value, value::RawValue};

use super::redacted::RedactionPath;

/// The version of the format. Another one is not read.
pub(crate) const VERSION: u32 = 1;

/// A line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Line {
    /// The first one.
    Record(Head),
    /// An instance is there.
    Instance(Instance),
    /// A call has ended.
    Call(Box<Call>),
    /// A call counts as failed.
    Failed(Failed),
    /// So many calls are missing here.
    Lost(u64),
    /// The file has the size that it may have: nothing follows.
    Full,
}

/// What the record is.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Head {
    /// Of the format.
    pub version: u32,
    /// Of the host.
    pub mixlab: String,
    /// When it was begun.
    pub at: String,
    /// What was left out besides what is left out always, as paths.
    pub redact: Vec<RedactionPath>,
}

/// A new instance.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Instance {
    /// Its number, unique in the record.
    pub instance: u64,
    /// The plugin's name in `mixlab.toml`.
    pub plugin: String,
    /// What it is configured with.
    pub config: Value,
    /// What it is granted.
    pub grants: Vec<String>,
    /// Of what is random and need not be secret, in hexadecimal digits.
    pub seed: String,
    /// What it was answered while it described itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub answers: Vec<Answered>,
}

/// A call.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Call {
    /// Its number, unique in the record. Calls are in the order in which they ended.
    pub call: u64,
    /// On which instance it ran.
    pub instance: u64,
    /// Which call of that instance it was, from 1.
    pub nth: u64,
    /// The plugin's name in `mixlab.toml`.
    pub plugin: String,
    /// When it began, in milliseconds since 1970.
    pub at: u64,
    /// What it was called for.
    pub given: Given,
    /// The connection that it was for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<Client>,
    /// What filters before it have written to the store for the same event.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub before: Vec<Row>,
    /// What stood in the store under the keys that it read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reads: Vec<Row>,
    /// Which ranges of keys it read; what stood there is among the `reads`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ranges: Vec<Range>,
    /// What else the host answered, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub answers: Vec<Answered>,
    /// What came of it.
    pub came: Came,
    /// Why it failed, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whether something was left out.
    #[serde(default, skip_serializing_if = "is_false")]
    pub redacted: bool,
}

/// What a call was for.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Given {
    /// An event.
    Event(Sent),
    /// An event of another plugin.
    Filter(Sent),
    /// A client that asks to be let in, with its auth object.
    Connect(Box<RawValue>),
    /// The end of a connection, with its reason.
    Disconnect(String),
    /// A timer that is due.
    Timer {
        name: String,
        payload: Box<RawValue>,
        due: u64,
        attempt: u32,
    },
    /// A webhook.
    Webhook {
        method: String,
        path: String,
        query: Vec<(String, String)>,
        headers: Vec<(String, String)>,
        body: Bytes,
        delivery: Option<String>,
    },
    /// A batch of a migration, which goes on with what the batches before it have read and written.
    Migrate { from: u32, cursor: Option<String> },
}

/// An event as it came.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Sent {
    pub event: String,
    pub arguments: Box<RawValue>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<Bytes>,
}

/// What a call may know of its connection.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Client {
    pub id: String,
    pub namespace: String,
    pub address: String,
    pub user: Option<User>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub recovered: bool,
    /// The rooms that it is in, those of the host among them.
    pub rooms: Vec<String>,
    /// What the plugin keeps with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Box<RawValue>>,
}

/// Who a connection belongs to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct User {
    pub id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    pub roles: Vec<String>,
}

/// A key of the store, and what stands there or is written.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Row {
    /// The bucket, as it is stored.
    pub bucket: String,
    pub key: String,
    /// None: nothing.
    pub value: Option<Bytes>,
    /// When it is gone, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<u64>,
    /// What is added to the number that stands there, instead of the value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub add: Option<i64>,
}

/// Keys that were read together.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Range {
    pub bucket: String,
    pub prefix: String,
    /// None: from the first on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// None: to the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
}

/// An answer of the host that is no function of the plugin.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Answered {
    /// The function, e.g. `sockets.count`.
    pub ask: String,
    /// Its arguments.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub with: Value,
    /// What it returned.
    pub answer: Value,
}

/// What came of a call.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Came {
    /// What the plugin said, or a word for why it did not.
    pub outcome: Value,
    /// What was to happen, in order; nothing if the outcome undoes it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub effects: Vec<Value>,
    /// What was to be written to the store, timers as well; of a batch of a migration, by this batch.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub writes: Vec<Value>,
}

/// A call that counts as failed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Failed {
    /// Its number.
    pub call: u64,
    /// What the client was told, and the log has.
    pub trace_id: String,
    /// Why.
    pub reason: String,
}

/// Bytes: a text where they are one, else `{"base64": "…"}`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Bytes(pub Vec<u8>);

#[derive(Serialize, Deserialize)]
struct Base64 {
    base64: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Text(String),
    Base64(Base64),
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match str::from_utf8(&self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => {
                let base64 = BASE64_STANDARD.encode(&self.0);
                Base64 { base64 }.serialize(serializer)
            }
        }
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(match Written::deserialize(deserializer)? {
            Written::Text(text) => text.into_bytes(),
            Written::Base64(Base64 { base64 }) => {
                BASE64_STANDARD.decode(base64).map_err(de::Error::custom)?
            }
        }))
    }
}

fn is_false(flag: &bool) -> bool {
    !flag
}

/// Why a record cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// The file.
    #[error("{0}: {1}")]
    File(String, #[source] io::Error),
    /// A line.
    #[error("{path}:{line}: {reason}")]
    Line {
        path: String,
        line: usize,
        reason: String,
    },
    /// It begins with something else.
    #[error("{0} is no record: its first line is not {{\"record\":{{\"version\":…}}}}")]
    NoRecord(String),
    /// It is of another version.
    #[error("{path} is a record of version {found}; this mixlab reads version {VERSION}")]
    Version { path: String, found: u32 },
}

/// Reads the lines of a record, and says what it is. A last line that was not written to its end is left out: so
/// ends the record of a server that was killed.
pub(crate) fn read(path: &Path) -> Result<(Head, Vec<Line>), ReadError> {
    let shown = path.display().to_string();
    let file = File::open(path).map_err(|error| ReadError::File(shown.clone(), error))?;
    let mut reader = BufReader::new(file);
    let mut head = None;
    let mut lines = Vec::new();
    let mut text = String::new();
    for number in 1.. {
        text.clear();
        let read = reader.read_line(&mut text);
        let read = read.map_err(|error| ReadError::File(shown.clone(), error))?;
        if read == 0 {
            break;
        }
        let line = serde_json::from_str::<Line>(&text);
        match (line, &head) {
            (Ok(Line::Record(found)), None) if found.version == VERSION => head = Some(found),
            (Ok(Line::Record(found)), None) => {
                return Err(ReadError::Version {
                    path: shown,
                    found: found.version,
                });
            }
            (_, None) => return Err(ReadError::NoRecord(shown)),
            (Ok(line), Some(_)) => lines.push(line),
            (Err(_), Some(_)) if !text.ends_with('\n') => break,
            (Err(error), Some(_)) => {
                return Err(ReadError::Line {
                    path: shown,
                    line: number,
                    reason: error.to_string(),
                });
            }
        }
    }
    let head = head.ok_or(ReadError::NoRecord(shown))?;
    Ok((head, lines))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn read_text(text: &str) -> Result<(Head, Vec<Line>), String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("record");
        fs::write(&path, text).unwrap();
        read(&path).map_err(|error| {
            let error = error.to_string();
            error.replace(path.to_str().unwrap(), "record")
        })
    }

    const HEAD: &str = r#"{"record":{"version":1,"mixlab":"0","at":"","redact":[]}}"#;

    #[test]
    fn bytes_are_texts_where_they_can_be() {
        for bytes in [&b"{\"a\":1}"[..], b"", &[0xff, 0, 1], "ö\n".as_bytes()] {
            let json = serde_json::to_string(&Bytes(bytes.to_vec())).unwrap();
            assert!(!json.contains('\n'));
            let read: Bytes = serde_json::from_str(&json).unwrap();
            assert_eq!(read.0, bytes);
        }
    }

    #[test]
    fn arguments_stay_as_they_were_sent() {
        let call = r#"{"call":{"call":1,"instance":1,"nth":1,"plugin":"a","at":5,"given":{"event":{"event":"e","arguments":[1.50,{"b":1,"a":2}]}},"came":{"outcome":"done"}}}"#;
        let (_, lines) = read_text(&format!("{HEAD}\n{call}\n")).unwrap();
        assert_eq!(serde_json::to_string(&lines[0]).unwrap(), call);
    }

    #[test]
    fn a_line_that_was_not_written_to_its_end_is_left_out() {
        let (_, lines) = read_text(&format!("{HEAD}\n{{\"lost\":1}}\n{{\"cal")).unwrap();
        assert_eq!(lines.len(), 1);
    }

    #[test]
    fn what_is_no_record_is_said() {
        for (text, reason) in [
            ("", "record is no record: "),
            ("{}\n", "record is no record: "),
            (
                &HEAD.replace("\"version\":1", "\"version\":2"),
                "record is a record of version 2; this mixlab reads version 1",
            ),
            (
                &format!("{HEAD}\n{{\"x\":1}}\n"),
                "record:2: unknown variant `x`",
            ),
        ] {
            let error = read_text(text).unwrap_err();
            assert!(error.starts_with(reason), "{error}");
        }
    }
}
