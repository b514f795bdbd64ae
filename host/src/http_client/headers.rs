//! Headers of requests that nobody but the host sets.

use http::{HeaderName, header};

/// What says how a message is sent, and not what is in it.
const OF_HOST: [HeaderName; 12] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::EXPECT,
    header::HOST,
    HeaderName::from_static("http2-settings"),
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Whether the host alone sets this header of requests.
pub(crate) fn is_of_host(name: &HeaderName) -> bool {
    OF_HOST.contains(name)
}
