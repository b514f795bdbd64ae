//! `mixlab:plugin/http`: requests to other servers. They are sent at once, and the call waits.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, header};
use http_body_util::Full;
use tokio::time::timeout_at;

use super::{RESERVE, State, denied, permits::Places};
use crate::{
    config::HttpRule,
    guest::{Error, http as guest_http},
    http_client::{Answer, Destination, Host, HttpClient, NoAnswer, Reach, is_of_host},
    metrics::CallMetrics,
};

/// More than any server takes.
const MAX_HEADERS: usize = 128;

/// What one generation of a plugin sends requests with.
pub struct HttpAccess {
    /// The host's client.
    pub client: HttpClient,
    /// What `mixlab.toml` says of some URLs, the narrower behind the wider.
    pub rules: Vec<HttpRule>,
    /// Where the plugin's calls wait for servers.
    pub places: Places,
    /// Counts requests.
    pub metrics: CallMetrics,
}

impl guest_http::Host for State {
    async fn send(
        &mut self,
        request: guest_http::Request,
    ) -> wasmtime::Result<Result<guest_http::Response, Error>> {
        self.meter.host_call(request_bytes(&request))?;
        let sent = self.send_request(request).await;
        self.http.metrics.requested(outcome(&sent));
        Ok(sent)
    }
}

/// A request that may be sent.
struct Checked {
    request: Request<Full<Bytes>>,
    reach: Reach,
    /// The server, for what is said of it.
    server: String,
}

impl State {
    async fn send_request(
        &mut self,
        request: guest_http::Request,
    ) -> Result<guest_http::Response, Error> {
        let Some(until) = self.until else {
            let reason = "requests cannot be sent before the plugin has described itself";
            return Err(Error::Invalid(reason.into()));
        };
        let timeout = request.timeout_ms;
        let Checked {
            request,
            reach,
            server,
        } = self.checked_request(request)?;
        let deadline = until.checked_sub(RESERVE).unwrap_or(until);
        let deadline = timeout.map_or(deadline, |ms| {
            deadline.min(Instant::now() + Duration::from_millis(ms.into()))
        });
        self.meter.effect()?;
        let http = self.http.clone();
        let place = http.places.take(deadline).await;
        let Some(_place) = place else {
            let reason = "requests: too many calls of the plugin wait for servers";
            return Err(Error::Busy(reason.into()));
        };
        self.acted = true;
        let max_bytes = self.meter.boundary_left();
        let sending = http.client.send(request, reach, max_bytes);
        let sent = timeout_at(deadline.into(), sending).await;
        match sent.map_err(|_| Error::TimedOut)? {
            Ok(answer) => {
                self.meter.answer(answer.bytes())?;
                Ok(response(answer))
            }
            Err(NoAnswer::TooLarge) => Err(self.meter.boundary_full()),
            Err(NoAnswer::OutOfReach) => Err(out_of_reach(&server, reach)),
            Err(NoAnswer::Broken(reason)) => Err(Error::Unreachable(format!("{server}: {reason}"))),
        }
    }

    /// Checks what the guest wants to be sent, and puts in what `mixlab.toml` says.
    fn checked_request(&self, request: guest_http::Request) -> Result<Checked, Error> {
        let url = Destination::parse(&request.url)
            .map_err(|error| Error::Invalid(format!("url: {error}")))?;
        let grants = self.grants();
        if !grants.http(&url) {
            return Err(denied(format_args!("http:{url}")));
        }
        let method = checked_method(&request.method)?;
        let mut headers = checked_headers(request.headers)?;
        let mut reach = Reach::Public;
        for rule in self.http.rules.iter().filter(|rule| rule.urls.covers(&url)) {
            for (name, value) in &rule.header {
                headers.insert(name, value.clone());
            }
            if rule.private {
                reach = Reach::Private;
            }
        }
        let server = url.host().to_string();
        if let Host::Address(address) = url.host()
            && !reach.permits(*address)
            && !grants.http_by_name(&url)
        {
            return Err(out_of_reach(&server, reach));
        }
        let mut checked = Request::new(Full::from(request.body));
        *checked.method_mut() = method;
        *checked.uri_mut() = url.uri();
        *checked.headers_mut() = headers;
        Ok(Checked {
            request: checked,
            reach,
            server,
        })
    }
}

fn checked_method(method: &str) -> Result<Method, Error> {
    let invalid = || Error::Invalid(format!("method: {method:?} is none that a plugin may send"));
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| invalid())?;
    match method {
        // A tunnel is no request, and an echo would show what the host has put in.
        Method::CONNECT | Method::TRACE => Err(invalid()),
        method => Ok(method),
    }
}

fn checked_headers(given: Vec<(String, String)>) -> Result<HeaderMap, Error> {
    if given.len() > MAX_HEADERS {
        let reason = format!("headers: there are more than {MAX_HEADERS}");
        return Err(Error::Invalid(reason));
    }
    let mut headers = HeaderMap::with_capacity(given.len() + 1);
    let own = HeaderValue::from_static(concat!("mixlab/", env!("CARGO_PKG_VERSION")));
    for (name, value) in given {
        let invalid = |what| Error::Invalid(format!("headers: {name:?} {what}"));
        let name = HeaderName::try_from(&name).map_err(|_| invalid("is no name of a header"))?;
        if is_of_host(&name) {
            return Err(invalid("is set by the host alone"));
        }
        let value = HeaderValue::try_from(value)
            .map_err(|_| invalid("has a value that no header may have"))?;
        headers.append(name, value);
    }
    headers.entry(header::USER_AGENT).or_insert(own);
    Ok(headers)
}

fn out_of_reach(server: &str, reach: Reach) -> Error {
    Error::Denied(match reach {
        Reach::Public => format!(
            "{server} is not on the internet: mixlab.toml does not say private = true of its URL"
        ),
        Reach::Private => format!("{server} has no address that requests may go to"),
    })
}

fn response(answer: Answer) -> guest_http::Response {
    let headers = answer.headers.iter();
    // Bytes beyond ASCII have no encoding that all agree on; so none is lost.
    let text = |value: &HeaderValue| value.as_bytes().iter().copied().map(char::from).collect();
    guest_http::Response {
        status: answer.status.as_u16(),
        headers: headers
            .map(|(name, value)| (name.as_str().to_owned(), text(value)))
            .collect(),
        body: answer.body,
    }
}

fn request_bytes(request: &guest_http::Request) -> usize {
    let headers = request.headers.iter();
    let headers: usize = headers.map(|(name, value)| name.len() + value.len()).sum();
    request.method.len() + request.url.len() + headers + request.body.len()
}

/// A fixed word for metrics.
fn outcome(sent: &Result<guest_http::Response, Error>) -> &'static str {
    match sent {
        Ok(response) => match response.status {
            ..200 => "1xx",
            200..300 => "2xx",
            300..400 => "3xx",
            400..500 => "4xx",
            500.. => "5xx",
        },
        Err(Error::Denied(_)) => "denied",
        Err(Error::OverBudget(_)) => "over_budget",
        Err(Error::Busy(_)) => "busy",
        Err(Error::TimedOut) => "timed_out",
        Err(Error::Unreachable(_)) => "unreachable",
        Err(_) => "invalid",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(given: &[(&str, &str)]) -> Result<HeaderMap, Error> {
        let own = |(name, value): &(&str, &str)| (name.to_string(), value.to_string());
        checked_headers(given.iter().map(own).collect())
    }

    #[test]
    fn headers_that_say_how_a_message_is_sent_are_the_hosts() {
        for name in [
            "Host",
            "content-length",
            "Transfer-Encoding",
            "connection",
            "UPGRADE",
            "te",
            "expect",
            "proxy-authorization",
        ] {
            let refused = headers(&[(name, "x")]);
            assert!(
                matches!(&refused, Err(Error::Invalid(text)) if text.contains("by the host alone"))
            );
        }
    }

    #[test]
    fn nothing_ends_a_header_before_its_end() {
        for (name, value) in [
            ("x-a", "1\r\nhost: other.example"),
            ("x-a", "1\n"),
            ("x-a", "1\0"),
            ("x-a\r\nhost", "other.example"),
            ("x a", "1"),
            ("", "1"),
            (":authority", "other.example"),
        ] {
            assert!(
                matches!(headers(&[(name, value)]), Err(Error::Invalid(_))),
                "{name:?} {value:?}"
            );
        }
        let many = vec![("x-a", "1"); MAX_HEADERS + 1];
        assert!(headers(&many).is_err());
    }

    #[test]
    fn a_plugin_may_say_who_it_is() {
        let own = headers(&[("User-Agent", "shop/1")]).unwrap();
        assert_eq!(own.get_all(header::USER_AGENT).iter().count(), 1);
        assert_eq!(own[header::USER_AGENT], "shop/1");
        let value = &headers(&[]).unwrap()[header::USER_AGENT];
        assert!(value.to_str().unwrap().starts_with("mixlab/"));
    }

    #[test]
    fn a_tunnel_and_an_echo_are_no_methods_for_plugins() {
        for method in ["CONNECT", "TRACE", "", "GET /", "GET\r\n"] {
            assert!(checked_method(method).is_err(), "{method:?}");
        }
        for method in ["GET", "POST", "PROPFIND"] {
            assert_eq!(checked_method(method).unwrap().as_str(), method);
        }
    }
}
