//! What plugins begin with.

use clap::ValueEnum;

/// What a plugin begins with.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Template {
    /// A room, and what is said in it.
    Chat,
    /// What is remembered.
    Counter,
    /// What other services tell.
    Webhook,
    /// What is done later.
    Timer,
    /// A look at the events of other plugins.
    Filter,
}

/// A text of a template.
#[derive(Clone, Copy)]
pub(super) enum Text {
    Rust,
    /// It is good in TypeScript as in JavaScript.
    Script,
    C,
    Python,
    Makefile,
    Pyproject,
    Cases,
    /// Of handlers by themselves, for Node.js.
    ScriptTest,
    /// The same for pytest.
    PythonTest,
    Readme,
}

/// The texts of a template, and its grants.
struct Texts {
    rust: &'static str,
    script: &'static str,
    c: &'static str,
    python: &'static str,
    script_test: &'static str,
    python_test: &'static str,
    cases: &'static str,
    grants: &'static str,
}

macro_rules! texts {
    ($folder:literal) => {
        Texts {
            rust: include_str!(concat!("../../../templates/", $folder, "/lib.rs")),
            script: include_str!(concat!("../../../templates/", $folder, "/plugin.js")),
            c: include_str!(concat!("../../../templates/", $folder, "/plugin.c")),
            python: include_str!(concat!("../../../templates/", $folder, "/plugin.py")),
            script_test: include_str!(concat!("../../../templates/", $folder, "/test.mjs")),
            python_test: include_str!(concat!("../../../templates/", $folder, "/test.py")),
            cases: include_str!(concat!("../../../templates/", $folder, "/test.toml")),
            grants: include_str!(concat!("../../../templates/", $folder, "/grants")),
        }
    };
}

const MAKEFILE: &str = include_str!("../../../templates/Makefile");
const PYPROJECT: &str = include_str!("../../../templates/pyproject.toml");
const README: &str = include_str!("../../../templates/README.md");

/// What the cases of a filter send events to.
const ECHO: &str = include_str!("../../../templates/filter/echo.js");

impl Template {
    fn texts(self) -> Texts {
        match self {
            Self::Chat => texts!("chat"),
            Self::Counter => texts!("counter"),
            Self::Webhook => texts!("webhook"),
            Self::Timer => texts!("timer"),
            Self::Filter => texts!("filter"),
        }
    }

    /// A text for the plugin of this name.
    pub(super) fn text(self, text: Text, name: &str) -> String {
        let texts = self.texts();
        let text = match text {
            Text::Rust => texts.rust,
            Text::Script => texts.script,
            Text::C => texts.c,
            Text::Python => texts.python,
            Text::Makefile => MAKEFILE,
            Text::Pyproject => PYPROJECT,
            Text::Cases => texts.cases,
            Text::ScriptTest => texts.script_test,
            Text::PythonTest => texts.python_test,
            Text::Readme => README,
        };
        text.replace("{{name}}", name)
    }

    /// The grants that it needs, as a list in TOML without its brackets.
    pub(super) fn grants(self, name: &str) -> String {
        let grants = self.texts().grants.trim();
        grants.replace("{{name}}", name)
    }

    /// Files that its cases need.
    pub(super) fn more(self) -> Option<(&'static str, &'static str)> {
        (self == Self::Filter).then_some(("echo.js", ECHO))
    }
}
