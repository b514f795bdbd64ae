//! What plugins may ask of the host: one file for each interface of `wit/`, and the state that
//! their functions act on.

mod ask;
mod broadcast;
mod byte_budget;
mod clock;
mod connection;
mod emit;
mod history;
mod http;
mod log;
mod meter;
mod output;
mod permits;
mod poll;
mod presence;
mod random;
mod rooms;
mod sockets;
mod source;
mod store;
mod taped;
mod timers;
mod wasi_http;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

pub(crate) use http::HttpAccess;
pub(crate) use meter::{Allowance, MAX_CORE_INSTANCES, Meter, OverBudget, Used};
pub(crate) use output::{Output, Written};
pub(crate) use permits::{Hold, Permits, Places};
pub(crate) use rooms::check_room_name;
pub(crate) use wasi_http::add_to_linker as add_wasi_http_to_linker;

use taped::{TapedMonotonicClock, TapedWallClock};
use wasi_http::WasiHttp;

use crate::{
    broadcast::Broadcast,
    connection::{Connection, Identity},
    effect::Effect,
    grant::Grants,
    guest::{self, Error, Message as GuestMessage},
    message::{Arguments, InvalidMessage, Message, is_socket_ios},
    plugin::{Journal, Program},
    record::Tape,
    store::{Open, Reads, Transaction},
    telemetry::Context,
};

/// How many things of the host an instance may hold at once: streams, timers. A call that waits holds
/// a few.
pub(crate) const MAX_HANDLES: usize = 1000;

/// What a call recorded: all of it happens, or nothing.
#[derive(Default)]
pub struct Recorded {
    /// In order.
    pub effects: Vec<Effect>,
    /// What it read from the store and wrote to it, if it did.
    pub transaction: Option<Box<Transaction>>,
    /// Whether it did at once what cannot be taken back, as an ask and a request do: to run it again would
    /// do it twice.
    pub acted: bool,
}

/// What a wait leaves of the wall-clock budget, for the call to end: who does not answer must not make
/// the call fail.
const RESERVE: Duration = Duration::from_millis(100);

/// The state of one plugin instance: WASI without any rights, and the call that is under way.
pub struct State {
    wasi: WasiCtx,
    table: ResourceTable,
    plugin: Arc<str>,
    grants: Arc<ArcSwap<Grants>>,
    broadcast: Broadcast,
    /// Counts what the current call has used.
    pub meter: Meter,
    /// What the guest wrote during the current call.
    pub output: Output,
    /// Whether a call is under way; none is while the instance is being prepared.
    is_called: bool,
    /// Whose event it is, in a call for one.
    connection: Option<Arc<Connection>>,
    /// Who sent it.
    identity: Option<Arc<Identity>>,
    /// The event's message; none outside of events.
    given: Option<Arc<GuestMessage>>,
    effects: Vec<Effect>,
    /// None if the plugin does not use it.
    store: Option<Open>,
    /// What the call read and wrote, if it did.
    transaction: Option<Box<Transaction>>,
    /// Whether the call did what cannot be taken back.
    acted: bool,
    /// When the call must have ended; none while the instance is being prepared.
    until: Option<Instant>,
    /// Whether its client can be asked.
    may_ask: bool,
    /// Where the plugin's calls wait for acks.
    asks: Arc<Places>,
    /// What the plugin sends requests with.
    http: Arc<HttpAccess>,
    /// What it has of `wasi:http`.
    wasi_http: WasiHttp,
    /// The script that it is, if it is one.
    program: Option<Arc<Program>>,
    /// What notes or tells the answers of the host, if its calls are recorded or run again.
    tape: Option<Arc<Tape>>,
    /// Where is noted what the call reads from the store.
    reads: Option<Arc<Reads>>,
    /// What traces the call.
    context: Context,
}

impl State {
    /// For a new instance of `plugin`.
    #[expect(
        clippy::too_many_arguments,
        reason = "each is something else that an instance has, and there is one caller"
    )]
    pub fn new(
        plugin: Arc<str>,
        grants: Arc<ArcSwap<Grants>>,
        broadcast: Broadcast,
        store: Option<Open>,
        asks: Arc<Places>,
        http: Arc<HttpAccess>,
        journal: Arc<Journal>,
        tape: Option<Arc<Tape>>,
        allowance: Allowance,
    ) -> Self {
        let output = Output::new(allowance.log_bytes, journal, tape.clone());
        let mut wasi = WasiCtx::builder();
        wasi.stdout(output.clone())
            .stderr(output.clone())
            .wall_clock(clock::GuestClock)
            .max_random_size(allowance.boundary_bytes as u64);
        if let Some(tape) = &tape {
            wasi.wall_clock(TapedWallClock(tape.clone()))
                .monotonic_clock(TapedMonotonicClock::new(tape.clone()))
                .insecure_random_seed(tape.seed());
        }
        let wasi = wasi.build();
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_HANDLES);
        let wasi_http = WasiHttp::new(allowance.boundary_bytes);
        Self {
            wasi,
            table,
            plugin,
            grants,
            broadcast,
            meter: Meter::new(allowance),
            output,
            is_called: false,
            connection: None,
            identity: None,
            given: None,
            effects: Vec::new(),
            store,
            transaction: None,
            acted: false,
            until: None,
            may_ask: false,
            asks,
            http,
            wasi_http,
            program: None,
            tape,
            reads: None,
            context: Context::default(),
        }
    }

    /// Prepares for a call that has to end at `until`: nothing used, nothing recorded.
    pub fn begin(&mut self, until: Instant) {
        self.is_called = true;
        self.connection = None;
        self.identity = None;
        self.given = None;
        self.until = Some(until);
        self.may_ask = false;
        self.effects.clear();
        self.transaction = None;
        self.acted = false;
        self.reads = None;
        self.meter.reset();
    }

    /// The call is traced so.
    pub(crate) fn trace(&mut self, context: Context) {
        self.context = context;
    }

    /// The call is for a connection, of which this is the identity.
    pub fn concern(&mut self, connection: Arc<Connection>, identity: Arc<Identity>) {
        self.connection = Some(connection);
        self.identity = Some(identity);
    }

    /// The call may wait for acks of clients.
    pub fn let_ask(&mut self) {
        self.may_ask = true;
    }

    /// The call is for an event with this message, for which other calls have read and written so much
    /// already.
    pub fn give(&mut self, message: Arc<GuestMessage>, transaction: Option<Box<Transaction>>) {
        self.given = Some(message);
        self.go_on(transaction);
    }

    /// Others have read and written so much for the call already.
    pub fn go_on(&mut self, transaction: Option<Box<Transaction>>) {
        self.transaction = transaction;
        if let Some(transaction) = &mut self.transaction {
            transaction.note(self.reads.clone());
        }
    }

    /// The plugin's name.
    pub(crate) fn plugin(&self) -> &Arc<str> {
        &self.plugin
    }

    /// Ends a call and hands over what it recorded.
    pub fn end(&mut self) -> Recorded {
        self.is_called = false;
        self.connection = None;
        self.identity = None;
        self.given = None;
        self.context = Context::default();
        self.wasi_http.end_call();
        Recorded {
            effects: std::mem::take(&mut self.effects),
            transaction: self.transaction.take(),
            acted: self.acted,
        }
    }

    /// Effects and the store are for calls only.
    fn called(&self) -> Result<(), Error> {
        self.is_called.then_some(()).ok_or(Error::NoConnection)
    }

    /// The connection that an import needs.
    fn connection(&self) -> Result<&Arc<Connection>, Error> {
        self.connection.as_ref().ok_or(Error::NoConnection)
    }

    /// Records an effect, within the budget.
    fn record(&mut self, effect: Effect) -> Result<(), Error> {
        self.called()?;
        if effect.is_for_connection() {
            self.connection()?;
        }
        if effect.goes_to_others() {
            let room = self.broadcast.check_room();
            room.map_err(|full| Error::Unavailable(full.to_string()))?;
        }
        self.meter.effect()?;
        self.effects.push(effect);
        Ok(())
    }

    /// Checks a message that the guest wants to be sent.
    fn checked(&self, message: GuestMessage) -> Result<Message, Error> {
        let most = self.broadcast.max_attachments();
        checked(message, self.given.as_deref(), most)
            .map_err(|error| Error::Invalid(format!("message: {error}")))
    }

    /// What it may do right now.
    fn grants(&self) -> arc_swap::Guard<Arc<Grants>> {
        self.grants.load()
    }
}

impl guest::types::Host for State {}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

/// Checks a message from a guest. Arguments that it passes on as they were `given` to it are known
/// to be good, and to compare them costs less than to read them. There may be so many attachments.
pub(crate) fn checked(
    message: GuestMessage,
    given: Option<&GuestMessage>,
    max_attachments: usize,
) -> Result<Message, InvalidMessage> {
    let found = message.attachments.len();
    if found > max_attachments {
        let most = max_attachments;
        return Err(InvalidMessage::TooManyAttachments { found, most });
    }
    let arguments = match given {
        Some(given) if given.arguments == message.arguments => Arguments::known(message.arguments),
        _ => Arguments::parse(message.arguments)?,
    };
    let attachments = message.attachments.into_iter().map(Into::into).collect();
    Message::new(arguments, attachments)
}

/// Names that carry meaning in the protocol or belong to the host; no plugin may emit or handle
/// them.
pub(crate) fn is_reserved_event(event: &str) -> bool {
    is_socket_ios(event) || event.starts_with("mixlab:")
}

fn checked_event(event: &str) -> Result<(), Error> {
    if is_reserved_event(event) {
        return Err(Error::Invalid(format!(
            "event: the name {event:?} is reserved"
        )));
    }
    Ok(())
}

fn denied(grant: impl std::fmt::Display) -> Error {
    Error::Denied(format!("mixlab.toml does not grant \"{grant}\""))
}
