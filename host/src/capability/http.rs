//! `mixlab:plugin/http`: requests to other servers. They are sent at once, and the call waits.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, header};
use http_body_util::Full;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::timeout_at;

use super::{
    RESERVE, State,
    byte_budget::ByteBudget,
    denied,
    permits::{Place, Places},
    taped::Taped,
};
use crate::{
    config::HttpRule,
    guest::{Error, http as guest_http},
    http_client::{Answer, Destination, Host, HttpClient, NoAnswer, Reach, is_of_host},
    metrics::CallMetrics,
    record,
    telemetry::{Context, Span},
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

impl HttpAccess {
    /// Counts what came of a request: its status, or why there is none.
    pub(super) fn count(&self, sent: Result<u16, &Error>) {
        self.metrics.requested(outcome(sent));
    }

    /// A place among the calls of the plugin that wait for servers, by the `deadline`.
    pub(super) async fn place(&self, deadline: Instant) -> Result<Place, Error> {
        let place = self.places.take(deadline).await;
        place.ok_or_else(|| {
            Error::Busy("requests: too many calls of the plugin wait for servers".into())
        })
    }
}

impl guest_http::Host for State {
    async fn send(
        &mut self,
        request: guest_http::Request,
    ) -> wasmtime::Result<Result<guest_http::Response, Error>> {
        self.meter.host_call(request_bytes(&request))?;
        let with = || {
            json!([
                request.method,
                request.url,
                record::Bytes(request.body.clone())
            ])
        };
        let note = match self.answer::<Responded>("http.send", with) {
            Taped::Told(told) => return Ok(told.map(guest_http::Response::from)),
            Taped::Ask(note) => note,
        };
        let sent = self.send_request(request).await;
        note.keep(&sent.as_ref().map(Responded::from));
        let http = &self.http;
        http.count(sent.as_ref().map(|response| response.status));
        Ok(sent)
    }
}

/// A response as it is recorded.
#[derive(Serialize, Deserialize)]
pub(super) struct Responded {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: record::Bytes,
}

impl From<&guest_http::Response> for Responded {
    fn from(response: &guest_http::Response) -> Self {
        Self {
            status: response.status,
            headers: response.headers.clone(),
            body: record::Bytes(response.body.clone()),
        }
    }
}

impl From<Responded> for guest_http::Response {
    fn from(responded: Responded) -> Self {
        Self {
            status: responded.status,
            headers: responded.headers,
            body: responded.body.0,
        }
    }
}

/// A request that may be sent, but for its body.
pub(super) struct Permitted {
    request: Request<()>,
    reach: Reach,
    /// The server, for what is said of it.
    server: String,
    /// What traces the call.
    context: Context,
}

impl Permitted {
    /// Sends it and waits for the answer, which counts to the `boundary` and may have so many bytes.
    pub(super) async fn send(
        self,
        body: Bytes,
        http: &HttpAccess,
        boundary: &ByteBudget,
        max_bytes: usize,
        deadline: Instant,
    ) -> Result<Answer, Error> {
        let Self {
            mut request,
            reach,
            server,
            context,
        } = self;
        let span = Span::requests(&context, &mut request);
        let sending = http
            .client
            .send(request.map(|()| Full::from(body)), reach, max_bytes);
        let sent = timeout_at(deadline.into(), sending).await;
        span.is_answered(&sent);
        match sent.map_err(|_| Error::TimedOut)? {
            Ok(answer) => boundary.take(answer.bytes()).map(|()| answer),
            Err(NoAnswer::TooLarge) => Err(boundary.full()),
            Err(NoAnswer::OutOfReach) => Err(out_of_reach(&server, reach)),
            Err(NoAnswer::Broken(reason)) => Err(Error::Unreachable(format!("{server}: {reason}"))),
        }
    }
}

impl State {
    async fn send_request(
        &mut self,
        request: guest_http::Request,
    ) -> Result<guest_http::Response, Error> {
        let timeout = request.timeout_ms;
        let timeout = timeout.map(|ms| Duration::from_millis(ms.into()));
        let deadline = self.request_deadline(timeout)?;
        let url = self.granted_url(&request.url)?;
        let method = checked_method(&request.method)?;
        let headers = checked_headers(request.headers)?;
        let permitted = self.permitted(&url, method, headers)?;
        self.meter.effect()?;
        let http = self.http.clone();
        let _place = http.place(deadline).await?;
        self.acted = true;
        let boundary = self.meter.shared_boundary();
        let body = request.body.into();
        let sending = permitted.send(body, &http, boundary, boundary.left(), deadline);
        sending.await.map(response)
    }

    /// When a request of the call that is under way must have its answer.
    pub(super) fn request_deadline(&self, timeout: Option<Duration>) -> Result<Instant, Error> {
        let Some(until) = self.until else {
            let reason = "requests cannot be sent before the plugin has described itself";
            return Err(Error::Invalid(reason.into()));
        };
        let deadline = until.checked_sub(RESERVE).unwrap_or(until);
        let asked = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        Ok(asked.map_or(deadline, |asked| deadline.min(asked)))
    }

    /// Reads a URL, if the plugin may send requests there.
    pub(super) fn granted_url(&self, url: &str) -> Result<Destination, Error> {
        let url =
            Destination::parse(url).map_err(|error| Error::Invalid(format!("url: {error}")))?;
        if !self.grants().http(&url) {
            return Err(denied(format_args!("http:{url}")));
        }
        Ok(url)
    }

    /// Puts in what `mixlab.toml` says of a URL that is granted, and looks at its address.
    pub(super) fn permitted(
        &self,
        url: &Destination,
        method: Method,
        mut headers: HeaderMap,
    ) -> Result<Permitted, Error> {
        let mut reach = Reach::Public;
        for rule in self.http.rules.iter().filter(|rule| rule.urls.covers(url)) {
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
            && !self.grants().http_by_name(url)
        {
            return Err(out_of_reach(&server, reach));
        }
        let mut request = Request::new(());
        *request.method_mut() = method;
        *request.uri_mut() = url.uri();
        *request.headers_mut() = headers;
        Ok(Permitted {
            request,
            reach,
            server,
            context: self.context.clone(),
        })
    }
}

pub(super) fn checked_method(method: &str) -> Result<Method, Error> {
    let invalid = || Error::Invalid(format!("method: {method:?} is none that a plugin may send"));
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| invalid())?;
    match method {
        // A tunnel is no request, and an echo would show what the host has put in.
        Method::CONNECT | Method::TRACE => Err(invalid()),
        method => Ok(method),
    }
}

fn checked_headers(given: Vec<(String, String)>) -> Result<HeaderMap, Error> {
    check_number(given.len())?;
    let mut headers = HeaderMap::with_capacity(given.len() + 1);
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
    Ok(with_own_name(headers))
}

/// Whether a request may have so many headers.
pub(super) fn check_number(headers: usize) -> Result<(), Error> {
    if headers > MAX_HEADERS {
        let reason = format!("headers: there are more than {MAX_HEADERS}");
        return Err(Error::Invalid(reason));
    }
    Ok(())
}

/// Adds who sends them, where the plugin does not say it.
pub(super) fn with_own_name(mut headers: HeaderMap) -> HeaderMap {
    let own = HeaderValue::from_static(concat!("mixlab/", env!("CARGO_PKG_VERSION")));
    headers.entry(header::USER_AGENT).or_insert(own);
    headers
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
fn outcome(sent: Result<u16, &Error>) -> &'static str {
    match sent {
        Ok(..200) => "1xx",
        Ok(200..300) => "2xx",
        Ok(300..400) => "3xx",
        Ok(400..500) => "4xx",
        Ok(500..) => "5xx",
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
