//! Which grants a script may need, by the words in its code. Only a call says what it asks for; this is for
//! whoever writes `mixlab.toml`, and decides nothing.

/// What code says where it may need a grant.
const WORDS: [(&str, &str); 29] = [
    (".emit(", "emit:EVENT"),
    (".volatileEmit(", "emit:EVENT"),
    (".ask(", "ask:EVENT"),
    (".to(", "room:ROOM"),
    (".join(", "room:ROOM"),
    (".leave(", "room:ROOM"),
    (".rooms", "room:ROOM"),
    (".toUser(", "user:ID"),
    (".toRole(", "role:ROLE"),
    (".toSocket(", "socket"),
    (".broadcast.", "everyone"),
    (".find()", "find"),
    (".count()", "find"),
    (".presence(", "presence:ROOM"),
    (".keep(", "history:TOPIC"),
    (".history(", "history:TOPIC"),
    (".store", "store"),
    (".bucket(", "store:BUCKET"),
    (".timers", "timers"),
    (".every(", "timers"),
    (".cron(", "timers"),
    ("fetch(", "http:URL"),
    (".handshake", "handshake"),
    (".disconnect()", "disconnect"),
    (".close()", "disconnect"),
    (".broadcastPaymentUpdate(", "payments"),
    (".sendUserNotification(", "notify"),
    (".broadcastToRole(", "role:ROLE"),
    (".connectedClientsCount(", "clients"),
];

/// The grants that these texts may need, each once.
pub(super) fn named<'a>(texts: impl Iterator<Item = &'a String> + Clone) -> Vec<&'static str> {
    let mut named = Vec::new();
    for (word, grant) in WORDS {
        let is_there = texts.clone().any(|text| text.contains(word));
        if is_there && !named.contains(&grant) {
            named.push(grant);
        }
    }
    named
}
