//! Connects to a local TCP port and answers with whom it reached, or with why it could not.
use mixlab_guests::prelude::*;

mixlab_plugin::export!(plugin);

fn plugin(_: &Config) -> Result<Plugin, String> {
    Ok(guest("opens_socket", |event| {
        event.handle_message(opens_socket)
    }))
}

fn opens_socket(_: &Context, _: Message) -> Result<Attempt, Rejection> {
    let stream = std::net::TcpStream::connect(("127.0.0.1", 80));
    Ok(attempt(stream.map(|stream| format!("{stream:?}"))))
}
