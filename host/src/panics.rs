//! Panics of the host: each ends what it happened in and no more, and is told for what it is.

use std::{any::Any, panic::AssertUnwindSafe};

use futures_util::FutureExt;

/// What a future ends with, or what its panic said. Whatever the future shares with others must be of
/// use to them after a panic.
pub(crate) async fn caught<F: Future>(future: F) -> Result<F::Output, String> {
    let ended = AssertUnwindSafe(future).catch_unwind().await;
    ended.map_err(|panic| message(&*panic))
}

/// What a panic said.
pub(crate) fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("without a message").to_owned()
}
