//! What is said of the requests of a plugin, and the headers that the host puts into requests, with their secrets.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue};

use super::Resolver;
use crate::config::file::{HttpFile, Table};
use crate::config::problem::{KeyPath, key};
use crate::config::{HttpRule, Secret};
use crate::http_client::is_of_host;

/// A word of a header's value that begins so is the value of an environment variable.
const ENV: &str = "env:";

impl Resolver<'_> {
    pub(super) fn http_rules(
        &mut self,
        at: &str,
        files: BTreeMap<String, Table<HttpFile>>,
    ) -> Vec<HttpRule> {
        let mut rules = Vec::new();
        for (urls, Table(written)) in files {
            // A URL has dots, which no other key has.
            let at = [key(at), vec![urls.clone()]].concat();
            let header = self.headers(&at, "header", written.header);
            match urls.parse() {
                Ok(urls) => rules.push(HttpRule {
                    urls,
                    header,
                    private: written.private,
                }),
                Err(error) => self.problems.invalid(at, format!("{error}")),
            }
        }
        rules.sort_by_key(|rule| rule.urls.narrowness());
        rules
    }

    pub(super) fn headers(
        &mut self,
        at: &KeyPath,
        table: &str,
        written: BTreeMap<String, Secret>,
    ) -> Vec<(HeaderName, HeaderValue)> {
        let mut headers = Vec::new();
        for (name, value) in written {
            let at = [at.clone(), vec![table.to_owned(), name.clone()]].concat();
            match self.header(&name, &value) {
                Ok(header) => headers.push(header),
                Err(reason) => self.problems.invalid(at, reason),
            }
        }
        headers
    }

    /// A header with the environment's words put in. The reason of a failure shows no value.
    fn header(&self, name: &str, value: &Secret) -> Result<(HeaderName, HeaderValue), String> {
        let name =
            HeaderName::try_from(name).map_err(|_| format!("{name:?} is no name of a header"))?;
        if is_of_host(&name) {
            return Err(format!(
                "{:?} says how a message is sent, which the host does",
                name.as_str()
            ));
        }
        let words: Result<Vec<_>, _> = value
            .expose()
            .split(' ')
            .map(|word| self.word(word))
            .collect();
        let mut value = HeaderValue::try_from(words?.join(" "))
            .map_err(|_| "it has characters that no header may have")?;
        value.set_sensitive(true);
        Ok((name, value))
    }

    fn word(&self, word: &str) -> Result<String, String> {
        let Some(variable) = word.strip_prefix(ENV) else {
            return Ok(word.to_owned());
        };
        let value = self.environment.get(variable);
        let value =
            value.ok_or_else(|| format!("the environment variable {variable} is not set"))?;
        match value.to_str() {
            Some("") => Err(format!(
                "the environment variable {variable} is set, but empty"
            )),
            Some(text) => Ok(text.to_owned()),
            None => Err(format!(
                "the environment variable {variable} is not UTF-8 text"
            )),
        }
    }
}
