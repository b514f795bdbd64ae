//! What follows a call through the plugin runtime. It knows nothing of plugins, as they know of it.

use super::Context;

/// Something that is done within a span.
pub struct Traced<T> {
    /// What it is.
    pub it: T,
    /// The span, if there is one.
    pub context: Context,
}

impl<T> Traced<T> {
    /// Of what nobody traces.
    pub(crate) fn not(it: T) -> Self {
        Self {
            it,
            context: Context::default(),
        }
    }
}
