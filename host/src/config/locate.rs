//! The file as it was written, with the lines on which its keys stand.

use std::path::{Path, PathBuf};

use figment::value::{Dict, Value};
use toml_edit::{ArrayOfTables, Item, TableLike};

use super::ConfigError;

/// A parsed file. Keys are found by their path from the root, an index for each list on the way:
/// `["plugins", "0", "grants", "1"]`.
pub(super) struct Document {
    pub path: PathBuf,
    root: toml_edit::Document<String>,
}

impl Document {
    /// Parses TOML; an error names its line.
    pub(super) fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        match toml_edit::Document::parse(text.to_owned()) {
            Ok(root) => Ok(Self {
                path: path.into(),
                root,
            }),
            Err(error) => {
                let span = error.span().unwrap_or_default();
                let mut message = format!("invalid TOML: {}", error.message().replace('\n', ", "));
                if error.message() == "duplicate key" {
                    message += &format!(" {:?}", &text[span.clone()]);
                }
                let line = Some(line_of(text, span.start));
                Err(ConfigError::File {
                    path: path.into(),
                    line,
                    message,
                })
            }
        }
    }

    /// The values alone, for figment. Dates become their text: no key takes one, and in a
    /// plugin's `config` JSON has nothing closer.
    pub(super) fn values(&self) -> Dict {
        dict(self.root.as_table())
    }

    /// Whether the key is written in the file.
    pub(super) fn has(&self, path: &[String]) -> bool {
        self.walk(path).1.is_some()
    }

    /// The line of the key, of the element if the path ends in an index, or of the nearest table
    /// around it that is written in the file.
    pub(super) fn line(&self, path: &[String]) -> Option<usize> {
        self.walk(path)
            .0
            .map(|offset| line_of(self.root.raw(), offset))
    }

    /// The string at this path, if there is one.
    pub(super) fn text(&self, path: &[String]) -> Option<&str> {
        match self.walk(path) {
            (_, Some(Node::Value(value))) => value.as_str(),
            _ => None,
        }
    }

    /// Walks down the path. Returns where the last step that could be taken is written, and the
    /// node at the end if all could be taken.
    fn walk(&self, path: &[String]) -> (Option<usize>, Option<Node<'_>>) {
        let mut node = Node::Table(self.root.as_table());
        let mut offset = None;
        for step in path {
            let Some((next, start)) = node.step(step) else {
                return (offset, None);
            };
            offset = start.or(offset);
            node = next;
        }
        (offset, Some(node))
    }
}

/// Where a walk stands: TOML writes tables and lists in two ways each.
enum Node<'a> {
    Table(&'a dyn TableLike),
    Tables(&'a ArrayOfTables),
    Value(&'a toml_edit::Value),
}

impl<'a> Node<'a> {
    fn of(item: &'a Item) -> Option<Self> {
        match item {
            Item::None => None,
            Item::Table(table) => Some(Node::Table(table)),
            Item::ArrayOfTables(tables) => Some(Node::Tables(tables)),
            Item::Value(value) => Some(Node::of_value(value)),
        }
    }

    fn of_value(value: &'a toml_edit::Value) -> Self {
        match value {
            toml_edit::Value::InlineTable(table) => Node::Table(table),
            value => Node::Value(value),
        }
    }

    /// The node one step down, and where it is written.
    fn step(&self, step: &str) -> Option<(Node<'a>, Option<usize>)> {
        match self {
            Node::Table(table) => {
                let (key, item) = table.get_key_value(step)?;
                Some((Node::of(item)?, key.span().map(|span| span.start)))
            }
            Node::Tables(tables) => {
                let table = tables.get(step.parse().ok()?)?;
                Some((Node::Table(table), table.span().map(|span| span.start)))
            }
            Node::Value(value) => {
                let element = value.as_array()?.get(step.parse().ok()?)?;
                Some((
                    Node::of_value(element),
                    element.span().map(|span| span.start),
                ))
            }
        }
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text
        .bytes()
        .take(offset)
        .filter(|byte| *byte == b'\n')
        .count()
}

fn dict(table: &dyn TableLike) -> Dict {
    table
        .iter()
        .filter_map(|(key, item)| Some((key.to_owned(), value_of_item(item)?)))
        .collect()
}

fn value_of_item(item: &Item) -> Option<Value> {
    Some(match item {
        Item::None => return None,
        Item::Table(table) => dict(table).into(),
        Item::ArrayOfTables(tables) => tables
            .iter()
            .map(|table| dict(table))
            .collect::<Vec<_>>()
            .into(),
        Item::Value(value) => value_of(value),
    })
}

fn value_of(value: &toml_edit::Value) -> Value {
    match value {
        toml_edit::Value::String(text) => text.value().as_str().into(),
        toml_edit::Value::Integer(number) => (*number.value()).into(),
        toml_edit::Value::Float(number) => (*number.value()).into(),
        toml_edit::Value::Boolean(flag) => (*flag.value()).into(),
        toml_edit::Value::Datetime(time) => time.value().to_string().into(),
        toml_edit::Value::Array(array) => array.iter().map(value_of).collect::<Vec<_>>().into(),
        toml_edit::Value::InlineTable(table) => dict(table).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"listen = "x"
log.level = "info"

[socket]
path = "/"

[[plugins]]
name = "a"
grants = [
    "one",
    "two",
]
[plugins.config]
deep = { er = 1 }

[[plugins]]
name = "b"
"#;

    fn path(text: &str) -> Vec<String> {
        text.split('.').map(Into::into).collect()
    }

    #[test]
    fn every_key_has_its_line() {
        let document = Document::parse(Path::new("mixlab.toml"), TEXT).unwrap();
        for (key, line) in [
            ("listen", 1),
            ("log.level", 2),
            ("socket", 4),
            ("socket.path", 5),
            ("plugins", 7),
            ("plugins.0", 7),
            ("plugins.0.name", 8),
            ("plugins.0.grants", 9),
            ("plugins.0.grants.1", 11),
            ("plugins.0.config", 13),
            ("plugins.0.config.deep.er", 14),
            ("plugins.1", 16),
            ("plugins.1.name", 17),
        ] {
            assert_eq!(
                (document.line(&path(key)), document.has(&path(key))),
                (Some(line), true),
                "{key}"
            );
        }
    }

    #[test]
    fn a_key_that_is_not_written_has_the_line_of_the_table_around_it() {
        let document = Document::parse(Path::new("mixlab.toml"), TEXT).unwrap();
        for (key, line) in [
            ("web.root", None),
            ("socket.queue", Some(4)),
            ("plugins.1.path", Some(16)),
            ("plugins.2.path", Some(7)),
        ] {
            assert_eq!(
                (document.line(&path(key)), document.has(&path(key))),
                (line, false),
                "{key}"
            );
        }
    }
}
