//! A part of a trace, from when it begins until it is dropped.

use std::{
    borrow::Cow,
    fmt, mem,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use parking_lot::Mutex;

use super::{
    Tracer,
    context::{SpanContext, SpanId},
};
use crate::error::TraceId;

/// What part a span has in an exchange, by the numbers of OTLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Within this program.
    Internal = 1,
    /// It answers a request.
    Server = 2,
    /// It waits for another server's answer.
    Client = 3,
    /// It sends a message.
    Producer = 4,
    /// It handles a message.
    Consumer = 5,
}

/// What an attribute says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    /// A text.
    Text(Cow<'static, str>),
    /// A whole number.
    Int(i64),
    /// A number.
    Double(f64),
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Self {
        Self::Int(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Int(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<Duration> for Value {
    /// In seconds, as the conventions have all times.
    fn from(time: Duration) -> Self {
        Self::Double(time.as_secs_f64())
    }
}

/// A part of a trace that is under way; none where nobody traces, which costs a look at a pointer. It ends
/// when it is dropped.
#[derive(Default)]
pub struct Span(Option<Box<Open>>);

/// A span, and what is known of it by now.
pub(super) struct Open {
    tracer: Arc<Tracer>,
    began: Instant,
    pub context: SpanContext,
    pub parent: Option<SpanId>,
    pub kind: Kind,
    /// What it is called if nothing better is said.
    name: Cow<'static, str>,
    pub start: SystemTime,
    /// Zero until it has ended.
    pub took: Duration,
    pub said: Mutex<Said>,
}

/// What is said of a span while it is under way.
#[derive(Default)]
pub(super) struct Said {
    name: Option<Cow<'static, str>>,
    pub attributes: Vec<(&'static str, Value)>,
    /// A span of another trace that has to do with it.
    pub link: Option<SpanContext>,
    pub has_failed: bool,
    /// What it is at right now, in a span of its own.
    phase: Span,
}

/// Where spans may have their parent: a span that is under way, or nothing.
#[derive(Clone, Default)]
pub struct Context(Option<Arc<Within>>);

struct Within {
    tracer: Arc<Tracer>,
    span: SpanContext,
}

impl Tracer {
    /// Begins a span that has no parent, or one in another program, whose decision it follows to record the
    /// trace or not.
    pub(crate) fn begin(
        self: &Arc<Self>,
        kind: Kind,
        name: impl Into<Cow<'static, str>>,
        parent: Option<SpanContext>,
    ) -> Span {
        let (trace, is_sampled) = match parent {
            Some(parent) => (parent.trace, parent.is_sampled),
            None => {
                let trace = TraceId::random();
                (trace, self.samples(trace))
            }
        };
        let context = SpanContext {
            trace,
            span: SpanId::random(),
            is_sampled,
        };
        let parent = parent.map(|parent| parent.span);
        Span::open(self.clone(), context, parent, kind, name.into())
    }
}

impl Span {
    /// None.
    pub(crate) const NONE: Self = Self(None);

    fn open(
        tracer: Arc<Tracer>,
        context: SpanContext,
        parent: Option<SpanId>,
        kind: Kind,
        name: Cow<'static, str>,
    ) -> Self {
        Self(Some(Box::new(Open {
            tracer,
            began: Instant::now(),
            context,
            parent,
            kind,
            name,
            start: SystemTime::now(),
            took: Duration::ZERO,
            said: Mutex::default(),
        })))
    }

    /// Begins a part of it.
    pub(crate) fn child<N: Into<Cow<'static, str>>>(
        &self,
        kind: Kind,
        name: impl FnOnce() -> N,
    ) -> Self {
        match &self.0 {
            Some(open) => open.context.child(&open.tracer, kind, name().into()),
            None => Self::NONE,
        }
    }

    /// Says more of it, if it is recorded.
    pub(crate) fn say(&self, say: impl FnOnce(&mut Say<'_>)) {
        if let Some(open) = &self.0
            && open.context.is_sampled
        {
            say(&mut Say(&mut open.said.lock()));
        }
    }

    /// Begins another phase of it, which ends the former one.
    pub(crate) fn enter(&self, phase: &'static str) {
        self.put_phase(|| self.child(Kind::Internal, || phase));
    }

    /// Ends its phase.
    pub(crate) fn leave(&self) {
        self.put_phase(|| Self::NONE);
    }

    fn put_phase(&self, phase: impl FnOnce() -> Self) {
        if let Some(open) = &self.0
            && open.context.is_sampled
        {
            let former = mem::replace(&mut open.said.lock().phase, phase());
            drop(former);
        }
    }

    /// Where its parts have their parent.
    pub(crate) fn context(&self) -> Context {
        let within = |open: &Open| {
            Arc::new(Within {
                tracer: open.tracer.clone(),
                span: open.context,
            })
        };
        Context(self.0.as_deref().map(within))
    }

    /// It as other programs know it.
    pub(crate) fn id(&self) -> Option<SpanContext> {
        self.0.as_ref().map(|open| open.context)
    }

    /// Its trace's id.
    pub(crate) fn trace_id(&self) -> Option<TraceId> {
        self.id().map(|id| id.trace)
    }

    /// Whether nobody traces.
    pub(crate) fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// Nobody hears of it.
    pub(crate) fn forget(&mut self) {
        if let Some(open) = &mut self.0 {
            open.context.is_sampled = false;
        }
    }
}

impl Open {
    /// What it is called.
    pub(super) fn take_name(&mut self) -> Cow<'static, str> {
        let said = self.said.get_mut().name.take();
        said.unwrap_or_else(|| mem::take(&mut self.name))
    }
}

impl SpanContext {
    fn child(&self, tracer: &Arc<Tracer>, kind: Kind, name: Cow<'static, str>) -> Span {
        let context = Self {
            span: SpanId::random(),
            ..*self
        };
        Span::open(tracer.clone(), context, Some(self.span), kind, name)
    }
}

impl Context {
    /// Begins a part of the span.
    pub(crate) fn child<N: Into<Cow<'static, str>>>(
        &self,
        kind: Kind,
        name: impl FnOnce() -> N,
    ) -> Span {
        match &self.0 {
            Some(within) => within.span.child(&within.tracer, kind, name().into()),
            None => Span::NONE,
        }
    }

    /// The span as other programs know it.
    pub(crate) fn span(&self) -> Option<SpanContext> {
        self.0.as_ref().map(|within| within.span)
    }

    /// The id of the span's trace, for the log.
    pub(crate) fn trace_id(&self) -> Option<TraceId> {
        self.span().map(|span| span.trace)
    }
}

/// Says more of a span.
pub(crate) struct Say<'a>(&'a mut Said);

impl Say<'_> {
    /// What it is called.
    pub(crate) fn name(&mut self, name: impl Into<Cow<'static, str>>) -> &mut Self {
        self.0.name = Some(name.into());
        self
    }

    /// An attribute.
    pub(crate) fn set(&mut self, name: &'static str, value: impl Into<Value>) -> &mut Self {
        let value = value.into();
        let attributes = &mut self.0.attributes;
        match attributes.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = value,
            None => attributes.push((name, value)),
        }
        self
    }

    /// It has failed, by a fixed word for the reason.
    pub(crate) fn fail(&mut self, reason: impl Into<Value>) -> &mut Self {
        self.0.has_failed = true;
        self.set("error.type", reason)
    }

    /// Another span has to do with it, and is not its parent.
    pub(crate) fn link(&mut self, link: Option<SpanContext>) -> &mut Self {
        self.0.link = link;
        self
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        let Some(mut open) = self.0.take() else {
            return;
        };
        open.said.get_mut().phase = Self::NONE;
        if open.context.is_sampled {
            open.took = open.began.elapsed();
            let tracer = open.tracer.clone();
            tracer.take(open);
        }
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Span")
            .field(&self.0.as_ref().map(|open| open.context))
            .finish()
    }
}
