//! Says what a command waits for whose log nobody sees.

use std::fmt;

use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, layer::Context};

use super::output::say;
use crate::plugin::WAITS;

/// Says it on standard error.
pub(super) struct Waits;

impl<S: Subscriber> Layer<S> for Waits {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() == WAITS {
            event.record(&mut Said);
        }
    }
}

struct Said;

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            say(format_args!("{value:?}"));
        }
    }
}
