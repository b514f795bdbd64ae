//! Which sites' pages may connect and call.

use axum::http::{
    HeaderMap, HeaderValue,
    header::{HOST, ORIGIN},
};

use crate::config::{self, Origin};

/// The sites whose pages may connect.
#[derive(Debug, Default)]
pub(crate) struct Origins {
    listed: Vec<Origin>,
    /// Whether others are refused, and not only told nothing.
    check: bool,
}

impl Origins {
    /// As configured. Others are refused in any case where tokens are read that browsers send by themselves.
    pub(crate) fn new(cors: &config::Cors, reads_requests: bool) -> Self {
        Self {
            listed: cors.allowed_origins.clone(),
            check: cors.check_origins || reads_requests,
        }
    }

    /// Whether this site is listed.
    pub(crate) fn lists(&self, origin: &HeaderValue) -> bool {
        self.listed.iter().any(|listed| origin == listed.as_str())
    }

    /// Whether a client may connect that sends these headers. Browsers do not apply the rules for
    /// requests of other sites to websockets, and send their cookies along.
    pub(crate) fn admit(&self, headers: &HeaderMap) -> bool {
        let mut origins = headers.get_all(ORIGIN).iter();
        match (origins.next(), origins.next()) {
            _ if !self.check => true,
            // It is no browser, or a page of this server asks.
            (None, _) => true,
            (Some(origin), None) => self.lists(origin) || is_own(origin, headers),
            (Some(_), Some(_)) => false,
        }
    }
}

/// Whether no page sends the request, or one of this server.
pub(crate) fn is_of_this_server(headers: &HeaderMap) -> bool {
    let mut origins = headers.get_all(ORIGIN).iter();
    match (origins.next(), origins.next()) {
        (None, _) => true,
        (Some(origin), None) => is_own(origin, headers),
        (Some(_), Some(_)) => false,
    }
}

/// Whether a page of this server sends the request: its origin is the host that the request is for.
/// The scheme is not compared, since a proxy in front may speak another one.
fn is_own(origin: &HeaderValue, headers: &HeaderMap) -> bool {
    let text = |value: &HeaderValue| value.to_str().ok().map(str::to_ascii_lowercase);
    let (Some(origin), Some(host)) = (text(origin), headers.get(HOST).and_then(text)) else {
        return false;
    };
    let Some((scheme, own)) = origin.split_once("://") else {
        return false;
    };
    // Browsers leave the scheme's own port out, and some proxies write it.
    let port = match scheme {
        "https" => ":443",
        _ => ":80",
    };
    host == own || host.strip_suffix(port) == Some(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_this_server_and_of_listed_sites_are_admitted() {
        let cors = |check_origins| config::Cors {
            allowed_origins: vec!["https://app.example.com".parse().unwrap()],
            check_origins,
        };
        let (checked, unchecked) = (
            Origins::new(&cors(true), false),
            Origins::new(&cors(false), false),
        );
        let implied = Origins::new(&cors(false), true);
        for (host, origins, admitted) in [
            (Some("x:3000"), &[][..], true),
            (Some("x:3000"), &["https://app.example.com"], true),
            (Some("x:3000"), &["http://x:3000"], true),
            (Some("x:3000"), &["https://X:3000"], true),
            (Some("X.example.com"), &["https://x.example.com"], true),
            (Some("[::1]:3000"), &["http://[::1]:3000"], true),
            (Some("x:443"), &["https://x"], true),
            (Some("x:80"), &["http://x"], true),
            (Some("[::1]:80"), &["http://[::1]"], true),
            (Some("x:80"), &["https://x"], false),
            (Some("x:443"), &["http://x"], false),
            (Some("x:3000"), &["http://x"], false),
            (Some("x:3000"), &["http://x:3001"], false),
            (Some("x:3000"), &["http://y.x:3000"], false),
            (Some("x:3000"), &["http://app.example.com"], false),
            (Some("x:3000"), &["https://app.example.com.evil.com"], false),
            (
                Some("x:3000"),
                &["https://app.example.com", "http://x:3000"],
                false,
            ),
            (Some("x:3000"), &["null"], false),
            (Some("null"), &["null"], false),
            (Some("x:3000"), &[""], false),
            (Some("x:3000"), &["x:3000"], false),
            (Some(""), &[""], false),
            (Some("x:3000"), &["\u{ff}"], false),
            (None, &["http://x"], false),
            (None, &[], true),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(host) = host {
                headers.insert(HOST, host.parse().unwrap());
            }
            for origin in origins {
                let origin = HeaderValue::from_bytes(origin.as_bytes()).unwrap();
                headers.append(ORIGIN, origin);
            }
            assert_eq!(checked.admit(&headers), admitted, "{host:?} {origins:?}");
            assert_eq!(implied.admit(&headers), admitted, "{host:?} {origins:?}");
            assert!(unchecked.admit(&headers));
        }
    }
}
