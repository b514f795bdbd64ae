//! The URLs that a grant or a setting is about.

use std::{fmt, str::FromStr};

use super::destination::{Destination, Host, InvalidUrl, Scheme, authority};

/// URLs of one server, or of those below a name: `https://api.example.com`,
/// `https://*.example.com:8443/v1/*`. Displays as it may be written again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UrlPattern {
    scheme: Scheme,
    hosts: Hosts,
    port: u16,
    paths: Paths,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Hosts {
    One(Host),
    /// Names with one label or more before a dot and this.
    Below(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Paths {
    All,
    One(String),
    /// Those that begin with this, which ends with a slash.
    Below(String),
}

/// A text that is no pattern of URLs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPattern {
    /// Without its pattern characters it is no URL.
    #[error("{0}")]
    Url(InvalidUrl),
    /// It does not begin with a scheme and a host.
    #[error("expected a URL like \"https://api.example.com\"")]
    NoUrl,
    /// A star where none may stand.
    #[error(
        "a \"*\" stands for labels before the host (\"*.example.com\") or for the end of the path (\"/v1/*\")"
    )]
    Star,
    /// An address has nothing below it.
    #[error("an address has no names below it")]
    BelowAddress,
    /// Something behind the path.
    #[error("it ends with the path: a query or a fragment is not looked at")]
    Query,
}

impl UrlPattern {
    /// Whether it is about this URL.
    pub fn covers(&self, url: &Destination) -> bool {
        self.scheme == url.scheme
            && self.port == url.port
            && self.hosts.cover(&url.host)
            && self.paths.cover(&url.path)
    }

    /// What orders patterns that are about the same URL: the narrower is the greater.
    pub fn narrowness(&self) -> impl Ord + use<> {
        let host = match &self.hosts {
            Hosts::One(_) => usize::MAX,
            Hosts::Below(name) => name.len(),
        };
        let path = match &self.paths {
            Paths::One(_) => usize::MAX,
            Paths::Below(folder) => folder.len(),
            Paths::All => 0,
        };
        (host, path)
    }
}

impl Hosts {
    fn cover(&self, host: &Host) -> bool {
        match (self, host) {
            (Self::One(one), host) => one == host,
            (Self::Below(parent), Host::Name(name)) => name
                .strip_suffix(parent.as_str())
                .is_some_and(|labels| labels.len() > 1 && labels.ends_with('.')),
            (Self::Below(_), Host::Address(_)) => false,
        }
    }
}

impl Paths {
    fn cover(&self, path: &str) -> bool {
        match self {
            Self::All => true,
            Self::One(one) => one == path,
            Self::Below(folder) => path.starts_with(folder.as_str()),
        }
    }
}

impl FromStr for UrlPattern {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, InvalidPattern> {
        let (scheme, rest) = text.split_once("://").ok_or(InvalidPattern::NoUrl)?;
        let (is_parent, rest) = match rest.strip_prefix("*.") {
            Some(parent) => (true, parent),
            None => (false, rest),
        };
        let (is_folder, rest) = match rest.strip_suffix("/*") {
            Some(folder) => (true, format!("{folder}/")),
            None => (false, rest.to_owned()),
        };
        if rest.contains('*') {
            return Err(InvalidPattern::Star);
        }
        if rest.contains(['?', '#']) {
            return Err(InvalidPattern::Query);
        }
        let url = Destination::parse(&format!("{scheme}://{rest}")).map_err(InvalidPattern::Url)?;
        let hosts = match (is_parent, url.host) {
            (false, host) => Hosts::One(host),
            (true, Host::Name(name)) => Hosts::Below(name),
            (true, Host::Address(_)) => return Err(InvalidPattern::BelowAddress),
        };
        let paths = if is_folder {
            Paths::Below(url.path)
        } else if rest.contains(['/', '\\']) {
            Paths::One(url.path)
        } else {
            Paths::All
        };
        Ok(Self {
            scheme: url.scheme,
            hosts,
            port: url.port,
            paths,
        })
    }
}

impl fmt::Display for UrlPattern {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let (below, server) = match &self.hosts {
            Hosts::One(host) => ("", authority(host, self.port, self.scheme)),
            Hosts::Below(name) => ("*.", authority(name, self.port, self.scheme)),
        };
        write!(f, "{}://{below}{server}", self.scheme.as_str())?;
        match &self.paths {
            Paths::All => Ok(()),
            Paths::One(path) => f.write_str(path),
            Paths::Below(folder) => write!(f, "{folder}*"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> UrlPattern {
        text.parse()
            .unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn a_pattern_covers_what_it_says_and_no_more() {
        for (text, covered, others) in [
            (
                "https://api.example.com",
                vec![
                    "https://api.example.com",
                    "https://API.example.com.:443/v1?q#f",
                    "https://api.example.com/a/../b",
                ],
                vec![
                    "http://api.example.com/",
                    "https://api.example.com:8443/",
                    "https://example.com/",
                    "https://a.api.example.com/",
                    "https://api.example.com.evil.example/",
                    "https://xapi.example.com/",
                ],
            ),
            (
                "https://*.example.com:8443/v1/*",
                vec![
                    "https://a.example.com:8443/v1/",
                    "https://a.b.example.com:8443/v1/x/y",
                    "https://a.example.com:8443/v1/x%2fy",
                    "https://a.example.com:8443/v2/../v1/x",
                ],
                vec![
                    "https://example.com:8443/v1/x",
                    "https://evilexample.com:8443/v1/x",
                    "https://a.example.com/v1/x",
                    "https://a.example.com:8443/v1",
                    "https://a.example.com:8443/v10",
                    "https://a.example.com:8443/v1/../v2",
                    "https://a.example.com:8443/v1/%2e%2e/v2",
                    "https://a.example.com:8443/V1/x",
                    "https://a.example.com.evil.example:8443/v1/x",
                ],
            ),
            (
                "https://example.com/hooks/7",
                vec![
                    "https://example.com/hooks/7?a=b",
                    "https://example.com/hooks/%37",
                ],
                vec![
                    "https://example.com/hooks/7/",
                    "https://example.com/hooks/77",
                    "https://example.com/",
                ],
            ),
            (
                "https://example.com/",
                vec!["https://example.com"],
                vec!["https://example.com/a"],
            ),
            (
                "https://example.com/*",
                vec!["https://example.com", "https://example.com/a"],
                vec![],
            ),
            (
                "http://10.0.0.1:8080",
                vec![
                    "http://10.0.0.1:8080/",
                    "http://[::ffff:10.0.0.1]:8080/",
                    "http://167772161:8080/",
                ],
                vec![
                    "http://10.0.0.1/",
                    "http://10.0.0.2:8080/",
                    "http://10.0.0.1.example.com:8080/",
                ],
            ),
            (
                "http://[::1]",
                vec!["http://[0::1]/"],
                vec!["http://localhost/", "http://127.0.0.1/"],
            ),
        ] {
            let one = pattern(text);
            for url in covered {
                assert!(
                    one.covers(&Destination::parse(url).unwrap()),
                    "{text} {url}"
                );
            }
            for url in others {
                assert!(
                    !one.covers(&Destination::parse(url).unwrap()),
                    "{text} {url}"
                );
            }
        }
    }

    #[test]
    fn a_pattern_displays_as_it_may_be_written_again() {
        for (text, expected) in [
            ("https://api.example.com", "https://api.example.com"),
            ("https://API.example.com:443/", "https://api.example.com/"),
            (
                "https://*.EXAMPLE.com:8443/v1/*",
                "https://*.example.com:8443/v1/*",
            ),
            ("http://[::ffff:10.0.0.1]:80/%61", "http://10.0.0.1/a"),
        ] {
            let shown = pattern(text).to_string();
            assert_eq!(shown, expected);
            assert_eq!(pattern(&shown), pattern(text));
        }
    }

    #[test]
    fn the_narrower_of_two_patterns_is_the_greater() {
        let ascending = [
            "https://*.com",
            "https://*.example.com",
            "https://*.example.com/v1/*",
            "https://api.example.com",
            "https://api.example.com/v1/*",
            "https://api.example.com/v1/x/*",
            "https://api.example.com/v1/x",
        ];
        let ranks: Vec<_> = ascending
            .iter()
            .map(|text| pattern(text).narrowness())
            .collect();
        assert!(ranks.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in [
            "",
            "*",
            "api.example.com",
            "https:api.example.com",
            "https://",
            "https://*",
            "https://*.",
            "https://*/v1/*",
            "https://*example.com",
            "https://api.*.com",
            "https://*.*.com",
            "https://*.10.0.0.1",
            "https://*.[::1]",
            "https://example.com/v*",
            "https://example.com/*/x",
            "https://example.com:*",
            "https://example.com/?q",
            "https://example.com/#f",
            "https://user@example.com",
            "ftp://example.com",
            "*://example.com",
        ] {
            assert!(text.parse::<UrlPattern>().is_err(), "{text}");
        }
    }
}
