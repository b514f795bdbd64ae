//! Answers with the text of /etc/passwd, or with why it could not read it.
use mixlab_guests::prelude::*;

mixlab_plugin::export!(plugin);

fn plugin(_: &Config) -> Result<Plugin, String> {
    Ok(guest("reads_file", |event| {
        event.handle_message(reads_file)
    }))
}

fn reads_file(_: &Context, _: Message) -> Result<Attempt, Rejection> {
    Ok(attempt(std::fs::read_to_string("/etc/passwd")))
}
