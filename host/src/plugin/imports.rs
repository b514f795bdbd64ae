//! What a component asks of the host, held against what it is granted.

use wasmtime::component::{Component, types::ComponentItem};

use crate::grant::Grants;

/// The contract's package and the version this host offers.
pub(super) const PACKAGE: &str = "mixlab:plugin";
pub(super) const VERSION: &str = "0.2.0";

/// Interfaces that need no grant. WASI is linked without any rights.
const FREE: [&str; 3] = [
    "mixlab:plugin/types",
    "mixlab:plugin/connection",
    "mixlab:plugin/log",
];

/// WASI's own way to send requests. Libraries have it in their worlds whether it is used or not, so that
/// without a grant it is there, and refuses each request.
const WASI_HTTP: [&str; 2] = ["wasi:http/outgoing-handler", "wasi:http/types"];

/// The grant for it.
const HTTP_GRANT: &str = "http:URL";

/// Functions that need no grant, of interfaces where others do.
const FREE_FUNCTIONS: [(&str, &str); 2] = [
    ("mixlab:plugin/sockets", "data"),
    ("mixlab:plugin/sockets", "set-data"),
];

/// A function of the contract: its interface, its name, the grant without which it is refused, and
/// whether a plugin has it with some parameter.
type Granted = (
    &'static str,
    &'static str,
    &'static str,
    fn(&Grants) -> bool,
);

/// The functions of the contract that need grants.
const GRANTED: &[Granted] = &[
    (
        "mixlab:plugin/broadcast",
        "broadcast-payment-update",
        "payments",
        Grants::payments,
    ),
    (
        "mixlab:plugin/broadcast",
        "send-user-notification",
        "notify",
        Grants::any_notify,
    ),
    (
        "mixlab:plugin/broadcast",
        "broadcast-to-role",
        "role:ROLE",
        Grants::any_role,
    ),
    (
        "mixlab:plugin/broadcast",
        "connected-clients-count",
        "clients",
        Grants::clients,
    ),
    ("mixlab:plugin/rooms", "join", "room:ROOM", Grants::any_room),
    (
        "mixlab:plugin/rooms",
        "leave",
        "room:ROOM",
        Grants::any_room,
    ),
    (
        "mixlab:plugin/rooms",
        "joined",
        "room:ROOM",
        Grants::any_room,
    ),
    (
        "mixlab:plugin/rooms",
        "join-sockets",
        "room:ROOM",
        Grants::any_room,
    ),
    (
        "mixlab:plugin/rooms",
        "leave-sockets",
        "room:ROOM",
        Grants::any_room,
    ),
    ("mixlab:plugin/emit", "emit", "emit", Grants::any_emit),
    ("mixlab:plugin/ask", "ask", "ask", Grants::any_ask),
    ("mixlab:plugin/ask", "ask-sockets", "ask", Grants::any_ask),
    ("mixlab:plugin/http", "send", HTTP_GRANT, Grants::any_http),
    (
        "mixlab:plugin/sockets",
        "handshake",
        "handshake",
        Grants::handshake,
    ),
    ("mixlab:plugin/sockets", "find", "find", Grants::find),
    ("mixlab:plugin/sockets", "count", "find", Grants::find),
    (
        "mixlab:plugin/sockets",
        "disconnect",
        "disconnect",
        Grants::disconnect,
    ),
    (
        "mixlab:plugin/history",
        "since",
        "history:TOPIC",
        Grants::any_history,
    ),
    (
        "mixlab:plugin/presence",
        "enter",
        "presence:ROOM",
        Grants::any_presence,
    ),
    (
        "mixlab:plugin/presence",
        "leave",
        "presence:ROOM",
        Grants::any_presence,
    ),
    (
        "mixlab:plugin/presence",
        "members",
        "presence:ROOM",
        Grants::any_presence,
    ),
    (
        "mixlab:plugin/presence",
        "count",
        "presence:ROOM",
        Grants::any_presence,
    ),
    ("mixlab:plugin/store", "get", "store", Grants::any_store),
    ("mixlab:plugin/store", "exists", "store", Grants::any_store),
    ("mixlab:plugin/store", "scan", "store", Grants::any_store),
    (
        "mixlab:plugin/store",
        "set",
        "store",
        Grants::any_store_to_write,
    ),
    (
        "mixlab:plugin/store",
        "delete",
        "store",
        Grants::any_store_to_write,
    ),
    (
        "mixlab:plugin/store",
        "add",
        "store",
        Grants::any_store_to_write,
    ),
    ("mixlab:plugin/timers", "set", "timers", Grants::timers),
    ("mixlab:plugin/timers", "cancel", "timers", Grants::timers),
];

/// The grants that a function may need besides, as whom or what it is called for.
fn depending(interface: &str, function: &str) -> &'static [&'static str] {
    match (interface, function) {
        ("mixlab:plugin/emit", "emit") => &[
            "room:ROOM",
            "user:ID",
            "role:ROLE",
            "socket",
            "everyone",
            "history:TOPIC",
        ],
        ("mixlab:plugin/ask", "ask-sockets")
        | ("mixlab:plugin/rooms", "join-sockets" | "leave-sockets")
        | ("mixlab:plugin/sockets", "find" | "count" | "disconnect") => {
            &["room:ROOM", "user:ID", "role:ROLE", "socket", "everyone"]
        }
        ("mixlab:plugin/sockets", "handshake") => &["header:NAME", "claim:NAME"],
        _ => &[],
    }
}

/// Why a component does not fit this host, or is not let in.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum ImportError {
    /// It was built for another version of the contract.
    #[error("it is built for {PACKAGE}@{found}; this host offers {PACKAGE}@{VERSION}")]
    Version {
        /// The version it was built for.
        found: String,
    },
    /// It exports no plugin.
    #[error(
        "it does not export {PACKAGE}/{interface}@{VERSION}: it is a component, but not a plugin"
    )]
    NotAPlugin {
        /// The interface that is missing.
        interface: &'static str,
    },
    /// It imports something that no host of this version offers.
    #[error("it imports {import}, which this host does not offer")]
    Unknown {
        /// The interface or function.
        import: String,
    },
    /// It imports a function that it is not granted.
    #[error(
        "it imports {import}, which needs a grant: add \"{grant}\" to its grants in mixlab.toml"
    )]
    NotGranted {
        /// The function.
        import: String,
        /// The grant.
        grant: &'static str,
    },
}

/// Which interfaces of the contract to link.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    /// `broadcast`.
    pub broadcast: bool,
    /// `rooms`.
    pub rooms: bool,
    /// `emit`.
    pub emit: bool,
    /// `ask`.
    pub ask: bool,
    /// `http`.
    pub http: bool,
    /// `wasi:http`, beside it.
    pub wasi_http: bool,
    /// `sockets`.
    pub sockets: bool,
    /// `history`.
    pub history: bool,
    /// `presence`.
    pub presence: bool,
    /// `store`.
    pub store: bool,
    /// `timers`.
    pub timers: bool,
    /// Whether it exports `connections`.
    pub connections: bool,
    /// Whether it exports `timer-handler`.
    pub timer_handler: bool,
    /// Whether it exports `filters`.
    pub filters: bool,
    /// Whether it exports `webhooks`.
    pub webhooks: bool,
    /// Whether it exports `migrations`.
    pub migrations: bool,
    /// Whether it exports `offers`: then everything is linked, and what is said here of imports is what it
    /// may use.
    pub offers: bool,
    /// The grants that its functions need, each once.
    pub requests: Vec<&'static str>,
    /// Those that they may need besides, each once.
    pub may_request: Vec<&'static str>,
}

impl Wanted {
    /// What the component for scripts has, which is the host's own. What a script may ask for, its code shows.
    pub(super) fn of_script(grants: &Grants, may_request: Vec<&'static str>) -> Self {
        Self {
            connections: true,
            timer_handler: true,
            filters: true,
            webhooks: true,
            migrations: true,
            ..Self::of_everything(grants, may_request)
        }
    }

    /// The same for a component that has everything.
    fn of_all(mut self, grants: &Grants) -> Self {
        self.requests.append(&mut self.may_request);
        Self {
            connections: self.connections,
            timer_handler: self.timer_handler,
            filters: self.filters,
            webhooks: self.webhooks,
            migrations: self.migrations,
            wasi_http: self.wasi_http,
            ..Self::of_everything(grants, self.requests)
        }
    }

    /// What a component has that imports everything: it is refused what it is not granted when it asks, and says
    /// after `describe` what it has of the rest.
    fn of_everything(grants: &Grants, may_request: Vec<&'static str>) -> Self {
        Self {
            broadcast: true,
            rooms: true,
            emit: true,
            ask: grants.any_ask(),
            http: grants.any_http(),
            sockets: true,
            history: true,
            presence: true,
            store: grants.any_store(),
            timers: grants.timers(),
            requests: Vec::new(),
            may_request,
            offers: true,
            ..Self::default()
        }
    }
}

/// Checks exports and imports; deny by default.
pub(super) fn check(
    engine: &wasmtime::Engine,
    component: &Component,
    grants: &Grants,
) -> Result<Wanted, ImportError> {
    let ty = component.component_type();
    for name in ty
        .imports(engine)
        .map(|(name, _)| name)
        .chain(ty.exports(engine).map(|(name, _)| name))
    {
        check_version(name)?;
    }
    let exported = |interface: &str| {
        ty.get_export(engine, &format!("{PACKAGE}/{interface}@{VERSION}"))
            .is_some()
    };
    for interface in ["lifecycle", "events"] {
        if !exported(interface) {
            return Err(ImportError::NotAPlugin { interface });
        }
    }
    let mut wanted = Wanted {
        connections: exported("connections"),
        timer_handler: exported("timer-handler"),
        filters: exported("filters"),
        webhooks: exported("webhooks"),
        migrations: exported("migrations"),
        offers: exported("offers"),
        ..Wanted::default()
    };
    for (name, item) in ty.imports(engine) {
        let interface = name
            .split_once('@')
            .map_or(name, |(interface, _)| interface);
        if WASI_HTTP.contains(&interface) {
            wanted.wasi_http = true;
            continue;
        }
        if interface.starts_with("wasi:") || FREE.contains(&interface) {
            continue;
        }
        let ComponentItem::ComponentInstance(instance) = item.ty else {
            return Err(ImportError::Unknown {
                import: name.to_owned(),
            });
        };
        match interface {
            "mixlab:plugin/broadcast" => wanted.broadcast = true,
            "mixlab:plugin/rooms" => wanted.rooms = true,
            "mixlab:plugin/emit" => wanted.emit = true,
            "mixlab:plugin/ask" => wanted.ask = true,
            "mixlab:plugin/http" => wanted.http = true,
            "mixlab:plugin/sockets" => wanted.sockets = true,
            "mixlab:plugin/history" => wanted.history = true,
            "mixlab:plugin/presence" => wanted.presence = true,
            "mixlab:plugin/store" => wanted.store = true,
            "mixlab:plugin/timers" => wanted.timers = true,
            _ => {
                return Err(ImportError::Unknown {
                    import: name.to_owned(),
                });
            }
        }
        for (function, item) in instance.exports(engine) {
            if matches!(item.ty, ComponentItem::ComponentFunc(_)) {
                let grant = match check_function(interface, function, grants) {
                    Err(ImportError::NotGranted { grant, .. }) if wanted.offers => Some(grant),
                    checked => checked?,
                };
                let is_new = |grant: &&str| !wanted.requests.contains(grant);
                wanted.requests.extend(grant.filter(is_new));
                for grant in depending(interface, function) {
                    if !wanted.may_request.contains(grant) {
                        wanted.may_request.push(grant);
                    }
                }
            }
        }
    }
    let Wanted {
        requests,
        may_request,
        wasi_http,
        ..
    } = &mut wanted;
    if *wasi_http {
        may_request.push(HTTP_GRANT);
    }
    may_request.retain(|grant| !requests.contains(grant));
    if wanted.offers {
        return Ok(wanted.of_all(grants));
    }
    Ok(wanted)
}

fn check_version(name: &str) -> Result<(), ImportError> {
    let version = name
        .strip_prefix(PACKAGE)
        .and_then(|rest| rest.strip_prefix('/'))
        .and_then(|rest| rest.split_once('@'))
        .map(|(_, version)| version);
    match version {
        Some(found) if found != VERSION => Err(ImportError::Version {
            found: found.to_owned(),
        }),
        _ => Ok(()),
    }
}

/// The grant that a function needs, if it needs one, and the plugin has it.
fn check_function(
    interface: &str,
    function: &str,
    grants: &Grants,
) -> Result<Option<&'static str>, ImportError> {
    if FREE_FUNCTIONS.contains(&(interface, function)) {
        return Ok(None);
    }
    let import = format!("{interface}.{function}");
    let granted = GRANTED
        .iter()
        .find(|(i, f, ..)| (*i, *f) == (interface, function));
    match granted {
        None => Err(ImportError::Unknown { import }),
        Some((_, _, grant, allows)) if allows(grants) => Ok(Some(grant)),
        Some((_, _, grant, _)) => Err(ImportError::NotGranted { import, grant }),
    }
}
