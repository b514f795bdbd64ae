//! What `mixlab check` doubts of a script that has loaded: that its grants are all that it needs. A component is refused without
//! those of the interfaces that it imports; a script is only when it asks.

use super::Plugin;
use crate::grant::Grants;

/// With one of these a plugin emits to somebody without "emit".
const RECIPIENTS: [&str; 5] = ["room", "user", "role", "socket", "everyone"];

impl Plugin {
    /// That it may need kinds of grants of which it has none.
    pub(crate) fn doubt_of_grants(&self) -> Option<String> {
        if !self.is_script() {
            return None;
        }
        let lacking = lacking(self.may_request(), &self.grants());
        let listed: Vec<_> = lacking.iter().map(|it| format!("{it:?}")).collect();
        (!listed.is_empty()).then(|| {
            format!(
                "the script of {:?} looks as if it needs {}, and has no grant of that kind",
                self.name(),
                listed.join(", ")
            )
        })
    }
}

/// Those of whose kinds none is granted.
fn lacking<'a>(may_request: &[&'a str], grants: &Grants) -> Vec<&'a str> {
    let granted: Vec<String> = grants.iter().map(ToString::to_string).collect();
    let has = |wanted: &str| granted.iter().any(|grant| kind(grant) == wanted);
    let is_lacking = |wanted: &&&str| match kind(wanted) {
        "emit" => !has("emit") && !RECIPIENTS.iter().any(|kind| has(kind)),
        kind => !has(kind),
    };
    let lacking = may_request.iter().filter(is_lacking);
    lacking.copied().collect()
}

/// What stands before the name of whom or what a grant is about.
fn kind(grant: &str) -> &str {
    grant.split_once(':').map_or(grant, |(kind, _)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_of_which_something_is_granted_is_not_lacking() {
        let may = ["emit:EVENT", "room:ROOM", "store", "store:BUCKET", "timers"];
        for (granted, expected) in [
            (&[][..], &may[..]),
            (&["room:a"], &["store", "store:BUCKET", "timers"]),
            (&["emit:x", "store"], &["room:ROOM", "timers"]),
            (&["everyone", "timers", "store:a:read"], &["room:ROOM"]),
        ] {
            let granted = granted.iter().map(|grant| grant.parse().unwrap());
            assert_eq!(lacking(&may, &Grants::from_iter(granted)), expected);
        }
    }
}
