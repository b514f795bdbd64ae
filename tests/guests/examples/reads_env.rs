//! Answers with the environment variables and the command line that it sees.
use mixlab_guests::prelude::*;

mixlab_plugin::export!(plugin);

fn plugin(_: &Config) -> Result<Plugin, String> {
    Ok(guest("reads_env", |event| event.handle_message(reads_env)))
}

#[derive(Serialize, JsonSchema)]
struct Seen {
    variables: Vec<(String, String)>,
    command_line: Vec<String>,
}

fn reads_env(_: &Context, _: Message) -> Result<Seen, Rejection> {
    Ok(Seen {
        variables: std::env::vars().collect(),
        command_line: std::env::args().collect(),
    })
}
