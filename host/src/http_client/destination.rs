//! The URL of a request. What is held against grants is what is sent: there is one form of it.

use std::{borrow::Cow, fmt, net::IpAddr};

use http::Uri;
use percent_encoding::percent_decode;

/// A longer one is no URL that a server takes.
const MAX_BYTES: usize = 8 * 1024;

/// So often may a path be encoded over again. No server decodes more often.
const MAX_ENCODINGS: usize = 4;

/// An absolute URL of HTTP in its normal form: what is written in another way and means the same is
/// the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    pub(super) scheme: Scheme,
    pub(super) host: Host,
    pub(super) port: u16,
    /// Begins with a slash; without dot segments, also where it is decoded.
    pub(super) path: String,
    query: Option<String>,
}

/// How a server is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    /// In the clear.
    Http,
    /// Over TLS.
    Https,
}

/// A server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// By its name: lower case, ASCII, without a dot at the end.
    Name(String),
    /// By its address, an IPv4 address as such however it was written.
    Address(IpAddr),
}

/// A text that is no URL which a request may be sent to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUrl {
    /// It does not follow the syntax.
    #[error("{0}")]
    Syntax(url::ParseError),
    /// It is longer than servers take.
    #[error("it has more than {MAX_BYTES} bytes")]
    TooLong,
    /// A browser would leave them out, and others would not.
    #[error("it has spaces or control characters")]
    Spaces,
    /// Another scheme.
    #[error("the scheme {0:?} is neither http nor https")]
    Scheme(String),
    /// A name or a password before the host.
    #[error("it names a user: send the header \"authorization\" instead")]
    User,
    /// A host that is none.
    #[error("{0:?} is no host")]
    Host(String),
    /// A path that may lead out of the folder that it begins with.
    #[error("its path has dot segments once it is decoded")]
    Path,
}

impl Destination {
    /// Reads an absolute URL.
    pub fn parse(text: &str) -> Result<Self, InvalidUrl> {
        if text.len() > MAX_BYTES {
            return Err(InvalidUrl::TooLong);
        }
        if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(InvalidUrl::Spaces);
        }
        let url = url::Url::parse(text).map_err(InvalidUrl::Syntax)?;
        let scheme = match url.scheme() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            other => return Err(InvalidUrl::Scheme(other.to_owned())),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(InvalidUrl::User);
        }
        let path = normal_path(url.path());
        if has_hidden_dots(&path) {
            return Err(InvalidUrl::Path);
        }
        let destination = Self {
            scheme,
            host: Host::of(&url)?,
            port: url.port().unwrap_or(scheme.port()),
            path,
            query: url.query().map(str::to_owned),
        };
        match destination.try_uri() {
            Ok(_) => Ok(destination),
            Err(_) => Err(InvalidUrl::Host(destination.authority())),
        }
    }

    /// The server.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Whether it asks for something, behind its path.
    pub(crate) fn has_query(&self) -> bool {
        self.query.is_some()
    }

    /// A path below it, which begins with a slash.
    pub(crate) fn below(&self, path: &str) -> Uri {
        let base = self.path.trim_end_matches('/');
        let below = Self {
            path: format!("{base}{path}"),
            ..self.clone()
        };
        below.uri()
    }

    /// Whether nobody between here and there can read or change what is sent: it goes over TLS, or never
    /// leaves this machine.
    pub(crate) fn is_safe_from_others(&self) -> bool {
        let is_here = match &self.host {
            Host::Address(address) => address.is_loopback(),
            Host::Name(name) => name == "localhost",
        };
        self.scheme == Scheme::Https || is_here
    }

    /// As a request names it.
    pub fn uri(&self) -> Uri {
        self.try_uri().expect("it was one when it was parsed")
    }

    fn try_uri(&self) -> Result<Uri, http::Error> {
        let path: Cow<str> = match &self.query {
            Some(query) => format!("{}?{query}", self.path).into(),
            None => self.path.as_str().into(),
        };
        Uri::builder()
            .scheme(self.scheme.as_str())
            .authority(self.authority())
            .path_and_query(&*path)
            .build()
    }

    /// Host and port, without the port that the scheme implies.
    pub(super) fn authority(&self) -> String {
        authority(&self.host, self.port, self.scheme)
    }
}

/// Host and port, without the port that the scheme implies.
pub(super) fn authority(host: &impl fmt::Display, port: u16, scheme: Scheme) -> String {
    if port == scheme.port() {
        host.to_string()
    } else {
        format!("{host}:{port}")
    }
}

impl Scheme {
    /// As it is written.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

impl Host {
    fn of(url: &url::Url) -> Result<Self, InvalidUrl> {
        let name = match url.host() {
            Some(url::Host::Ipv4(address)) => return Ok(Self::Address(address.into())),
            // An IPv4 address may be written as one of IPv6.
            Some(url::Host::Ipv6(address)) => {
                return Ok(Self::Address(IpAddr::V6(address).to_canonical()));
            }
            Some(url::Host::Domain(name)) => name,
            None => "",
        };
        // The name with a dot at its end is the same name.
        let short = name.strip_suffix('.').unwrap_or(name);
        if short.split('.').any(str::is_empty) {
            return Err(InvalidUrl::Host(name.to_owned()));
        }
        Ok(Self::Name(short.to_owned()))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V4(address)) => address.fmt(f),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

/// Without the query, which may hold what is not for a log.
impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let (scheme, path) = (self.scheme.as_str(), &self.path);
        write!(f, "{scheme}://{}{path}", self.authority())
    }
}

/// The path with its percent-encodings in their one normal form (RFC 3986, 6.2.2).
fn normal_path(path: &str) -> String {
    let mut normal = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        normal.push_str(&rest[..at]);
        rest = &rest[at..];
        let code = rest
            .get(1..3)
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match code {
            Some(code) if is_unreserved(code) => normal.push(code.into()),
            Some(_) => normal.push_str(&rest[..3].to_ascii_uppercase()),
            None => {
                normal.push('%');
                rest = &rest[1..];
                continue;
            }
        }
        rest = &rest[3..];
    }
    normal + rest
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// Whether a server may find dot segments in it that are not to be seen: behind an encoded slash, or
/// before a parameter (`..;x`). What it makes of them is not what was granted.
fn has_hidden_dots(path: &str) -> bool {
    let mut decoded = path.as_bytes().to_vec();
    for _ in 0..MAX_ENCODINGS {
        let mut segments = decoded.split(|byte| b"/\\".contains(byte));
        let is_dots = |segment: &[u8]| {
            let name = segment.split(|byte| *byte == b';').next();
            matches!(name, Some(b"." | b".."))
        };
        if segments.any(is_dots) {
            return true;
        }
        let next: Vec<u8> = percent_decode(&decoded).collect();
        if next == decoded {
            return false;
        }
        decoded = next;
    }
    // Nobody encodes as often who has nothing to hide.
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_one_form() {
        for (written, expected) in [
            ("https://api.example.com", "https://api.example.com/"),
            ("HTTPS://API.Example.COM:443/", "https://api.example.com/"),
            ("http://api.example.com:80/a", "http://api.example.com/a"),
            (
                "https://api.example.com.:8443/a",
                "https://api.example.com:8443/a",
            ),
            ("https:\\\\api.example.com\\a", "https://api.example.com/a"),
            ("https:api.example.com/a", "https://api.example.com/a"),
            ("https://BÜCHER.example/", "https://xn--bcher-kva.example/"),
            ("https://ｅxample.com/", "https://example.com/"),
            ("https://ex%61mple.com/", "https://example.com/"),
            ("https://example.com/a/../b/./c", "https://example.com/b/c"),
            (
                "https://example.com/a/%2E%2e/%62/%2e/c",
                "https://example.com/b/c",
            ),
            ("https://example.com/../../a", "https://example.com/a"),
            (
                "https://example.com/%7Eme/%c3%bc/ü",
                "https://example.com/~me/%C3%BC/%C3%BC",
            ),
            (
                "https://example.com/group%2fproject",
                "https://example.com/group%2Fproject",
            ),
            ("https://example.com/100%", "https://example.com/100%"),
            ("https://example.com/a?secret#part", "https://example.com/a"),
            ("http://127.0.0.1/", "http://127.0.0.1/"),
            ("http://2130706433/", "http://127.0.0.1/"),
            ("http://0x7f000001/", "http://127.0.0.1/"),
            ("http://0177.0.0.1/", "http://127.0.0.1/"),
            ("http://127.1/", "http://127.0.0.1/"),
            ("http://127.0.0.1./", "http://127.0.0.1/"),
            ("http://①②⑦.0.0.1/", "http://127.0.0.1/"),
            ("http://0/", "http://0.0.0.0/"),
            ("http://[::ffff:127.0.0.1]/", "http://127.0.0.1/"),
            ("http://[::FFFF:7f00:1]:8080/", "http://127.0.0.1:8080/"),
            ("http://[0:0:0:0:0:0:0:1]/", "http://[::1]/"),
        ] {
            let url = Destination::parse(written).map(|url| url.to_string());
            assert_eq!(url.as_deref(), Ok(expected), "{written}");
        }
    }

    #[test]
    fn what_is_sent_is_what_was_read() {
        let url = Destination::parse("HTTP://Example.com:8080/%61/../b?q=%61 ".trim()).unwrap();
        assert_eq!(url.uri().to_string(), "http://example.com:8080/b?q=%61");
        let url = Destination::parse("http://[::ffff:10.0.0.1]?q").unwrap();
        assert_eq!(url.uri().to_string(), "http://10.0.0.1/?q");
    }

    #[test]
    fn a_url_that_may_mean_another_is_none() {
        let long = format!("https://example.com/{}", "a".repeat(MAX_BYTES));
        let encoded = format!("https://example.com/%{}2e", "25".repeat(200));
        for written in [
            "",
            "/a",
            "example.com",
            "ftp://example.com/",
            "file:///etc/passwd",
            "unix:/run/docker.sock",
            "https://",
            "https://.example.com/",
            "https://a..example.com/",
            "https://example.com../",
            "https://1.2.3.4.5/",
            "https://user@example.com/",
            "https://user:word@example.com/",
            "https://example.com:443@other.example/",
            "https://:word@example.com/",
            "https://exam ple.com/",
            " https://example.com/",
            "https://example.com/\r\nhost: other.example",
            "https://example.com/\ta",
            "https://example.com:99999/",
            "https://[::1/",
            "https://[::1%25lo]/",
            "https://example.com/v1/..%2fadmin",
            "https://example.com/v1/%2e%2e%5cadmin",
            "https://example.com/v1/%252e%252e%252fadmin",
            "https://example.com/v1/%25252e%25252e/admin",
            "https://example.com/v1/..;/admin",
            "https://example.com/v1/..;a=b/admin",
            "https://example.com/v1/.%2e;/admin",
            &long,
            &encoded,
        ] {
            assert!(Destination::parse(written).is_err(), "{written}");
        }
    }
}
