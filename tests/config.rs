//! The files of `tests/config`: those in `valid` load, those in `invalid` are refused with the
//! message in their `expected.txt`, to the letter.

use std::fs;
use std::path::{Path, PathBuf};

use mixlab::config::{Config, Overrides};

/// The folders of one kind of cases. None at all would let every test pass.
fn cases(kind: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/config")
        .join(kind);
    let mut cases: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("the folder can be listed").path())
        .collect();
    assert!(!cases.is_empty(), "no cases in {}", folder.display());
    cases.sort();
    cases
}

/// Loads the file of a case, with the message as if it were loaded from the case's own folder.
fn load(case: &Path) -> Result<Config, String> {
    let path = case.join("mixlab.toml");
    assert!(path.is_file(), "{} is missing", path.display());
    let variables = [("BILLING_KEY".into(), "0123456789abcdef".into())];
    Config::load_with(&path, Overrides::default(), variables).map_err(|error| {
        error
            .to_string()
            .replace(&format!("{}/", case.display()), "")
    })
}

#[test]
fn valid_files_load() {
    for case in cases("valid") {
        if let Err(message) = load(&case) {
            panic!("{} was refused: {message}", case.display());
        }
    }
}

#[test]
fn invalid_files_are_refused_with_the_line_and_a_hint() {
    let mut failures = Vec::new();
    for case in cases("invalid") {
        let expected = fs::read_to_string(case.join("expected.txt"))
            .unwrap_or_else(|error| panic!("{}/expected.txt: {error}", case.display()));
        let message = load(&case)
            .err()
            .unwrap_or_else(|| "it was accepted".into());
        if message != expected.trim_end() {
            failures.push(format!(
                "{}\n  expected: {}\n  got:      {message}",
                case.display(),
                expected.trim_end()
            ));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// The documents in a folder and below it, but for those of packages.
fn documents(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("the folder can be read");
    let paths = entries.map(|entry| entry.expect("the folder can be read").path());
    let mut found = Vec::new();
    for path in paths.filter(|path| !path.ends_with("node_modules")) {
        if path.is_dir() {
            found.extend(documents(&path));
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
    found
}

/// The blocks of a document that are marked as TOML, but for manifests of crates and cases of plugins.
fn toml_blocks(document: &Path) -> Vec<String> {
    let text = fs::read_to_string(document)
        .unwrap_or_else(|error| panic!("{}: {error}", document.display()));
    let blocks = text.split("```toml\n").skip(1);
    blocks
        .map(|rest| rest.split("```").next().unwrap_or(rest).to_owned())
        .filter(|block| {
            let is_manifest = block.starts_with("[package]") || block.starts_with("[profile.");
            !is_manifest && !block.contains("[[case")
        })
        .collect()
}

#[test]
fn examples_in_the_documents_load() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let folder = tempfile::tempdir().expect("a folder can be made");
    let mut all = documents(&root.join("host/docs"));
    for document in [
        "README.md",
        "examples/migration/README.md",
        "tests/fixtures/README.md",
    ] {
        all.push(root.join(document));
    }
    let mut count = 0;
    for document in all {
        for block in toml_blocks(&document) {
            count += 1;
            let path = folder.path().join("mixlab.toml");
            fs::write(&path, &block).expect("the folder can be written to");
            let variables = [
                ("HOME", "/home/me"),
                ("PAYMENTS_SECRET", "whsec_AAAA"),
                ("GHCR_CREDENTIALS", "me:secret"),
            ];
            let variables = variables.map(|(name, value)| (name.into(), value.into()));
            if let Err(error) = Config::load_with(&path, Overrides::default(), variables) {
                panic!("{}: {error}\n{block}", document.display());
            }
        }
    }
    assert!(count > 10, "the documents are found");
}
