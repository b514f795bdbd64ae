//! The package `mixlab` for Node.js: what scripts import, and a host for tests. The modules are those of the component that
//! runs scripts; only what they ask of the host is the test's. Of the module `mixlab` itself, editors know by the
//! declarations beside it.

/// Its folder, beside the plugins. It is hidden, so that nobody takes it for one of them.
pub(super) const FOLDER: &str = ".mixlab";

/// The manifest beside it, by which npm finds it.
pub(super) const MANIFEST: &str = include_str!("../../../templates/package.json");

macro_rules! module {
    ($name:literal) => {
        (
            concat!($name, ".js"),
            include_str!(concat!("../../../scripts/runtime/js/", $name, ".js")),
        )
    };
}

macro_rules! file {
    ($name:literal) => {
        (
            $name,
            include_str!(concat!("../../../scripts/node/", $name)),
        )
    };
}

const FILES: [(&str, &str); 13] = [
    module!("arguments"),
    module!("call"),
    module!("context"),
    module!("entry"),
    module!("http"),
    module!("missing"),
    module!("mixlab"),
    module!("plugin"),
    module!("schema"),
    file!("natives.js"),
    file!("package.json"),
    file!("host.d.ts"),
    file!("host.js"),
];

/// Its files, by their names.
pub(super) fn files() -> impl Iterator<Item = (&'static str, String)> {
    FILES.into_iter().map(|(name, text)| {
        let text = text.replace("{{version}}", env!("CARGO_PKG_VERSION"));
        (name, beside(&text))
    })
}

/// A module that imports others as files beside it: `"mixlab:call"` is `"./call.js"`.
fn beside(text: &str) -> String {
    const BEGIN: &str = "from \"mixlab:";
    let mut parts = text.split(BEGIN);
    let mut made = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = part.split_once('"').unwrap_or((part, ""));
        made += &format!("from \"./{name}.js\"{rest}");
    }
    made
}
