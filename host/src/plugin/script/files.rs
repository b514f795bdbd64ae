//! A script and the files beside it that it may import, as they were at one moment.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    io::Read,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use super::super::content::ContentHash;
use crate::units::Size;

/// What scripts are written in.
const LANGUAGES: [&str; 4] = ["ts", "mts", "js", "mjs"];

/// So many files may belong to a script.
const MAX_FILES: usize = 500;

/// The files of a script, by their names below its folder.
#[derive(Debug)]
pub(crate) struct Files {
    main: String,
    texts: BTreeMap<String, String>,
    hash: ContentHash,
}

/// What reading a script brought.
pub(crate) struct Found {
    /// The files; or why they are none that could be run.
    pub files: Result<Files, String>,
    /// Where its imports would be, whether something is there or not: what to watch.
    pub imports: Vec<PathBuf>,
}

/// Whether a plugin's file is a script, by its name.
pub(crate) fn is_script(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| LANGUAGES.contains(&extension))
}

impl Files {
    /// Reads a script, and whatever it may import: every file below its folder that is named in it, or in
    /// one of those, by a text that begins with `./` or `../`. What is no import does no harm. All of them
    /// together may have `limit` bytes. An error says that the script itself cannot be read. It blocks.
    pub(crate) fn read(path: &Path, limit: Size) -> io::Result<Found> {
        let folder = path.parent().unwrap_or(Path::new(""));
        let main = path.file_name().unwrap_or_default();
        let main = main.to_string_lossy().into_owned();
        let mut reading = Reading {
            folder: folder.to_owned(),
            limit,
            left: limit.bytes(),
            imports: BTreeSet::new(),
            texts: BTreeMap::new(),
            waiting: Vec::new(),
        };
        let files = match reading.take(&main, path) {
            Err(Unread::Io(error)) => return Err(error),
            Err(Unread::Unfit(reason)) => Err(reason),
            Ok(()) => reading.take_imports(),
        };
        let Reading { imports, texts, .. } = reading;
        let files = files.map(|()| Self::new(main, texts));
        let imports = imports.into_iter().collect();
        Ok(Found { files, imports })
    }

    fn new(main: String, texts: BTreeMap<String, String>) -> Self {
        let mut hash = Sha256::new();
        hash.update(main.as_bytes());
        for (name, text) in &texts {
            // With their lengths, so that no two scripts read alike.
            hash.update((name.len() as u64).to_le_bytes());
            hash.update(name.as_bytes());
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text.as_bytes());
        }
        let hash = ContentHash::from(<[u8; 32]>::from(hash.finalize()));
        Self { main, texts, hash }
    }

    /// Whether the script itself has no bytes.
    pub(crate) fn is_empty(&self) -> bool {
        self.texts.get(&self.main).is_some_and(String::is_empty)
    }

    /// The name of the script itself.
    pub(super) fn main(&self) -> &str {
        &self.main
    }

    /// All files, by their names.
    pub(super) fn texts(&self) -> &BTreeMap<String, String> {
        &self.texts
    }

    /// How many bytes all of them have.
    pub(crate) fn bytes(&self) -> usize {
        self.texts.values().map(String::len).sum()
    }

    /// What all of it is known by.
    pub(crate) fn hash(&self) -> ContentHash {
        self.hash
    }

    /// The name of the file that `specifier` stands for where `importer` names it. The error says why
    /// there is none, and where it is named.
    pub(super) fn resolve(&self, importer: &str, specifier: &str) -> Result<&str, String> {
        self.find(importer, specifier).map_err(|reason| {
            let text = self.texts.get(importer);
            match text.and_then(|text| place_of(text, specifier)) {
                Some((line, column)) => format!("{importer}:{line}:{column}: {reason}"),
                None => format!("{importer}: {reason}"),
            }
        })
    }

    fn find(&self, importer: &str, specifier: &str) -> Result<&str, String> {
        if !is_relative(specifier) {
            return Err(foreign(specifier));
        }
        let Some(name) = joined(importer, specifier) else {
            return Err(format!(
                "{specifier:?} is not below the script's folder, and scripts import nothing else"
            ));
        };
        let candidates = candidates(&name);
        let found = candidates
            .iter()
            .find_map(|candidate| self.texts.get_key_value(candidate));
        match found {
            Some((name, _)) => Ok(name),
            None => Err(format!(
                "{specifier:?} is not there: {} cannot be read below the script's folder",
                candidates.join(" or ")
            )),
        }
    }
}

/// Why a file is not taken.
enum Unread {
    Io(io::Error),
    Unfit(String),
}

/// Files as they are found.
struct Reading {
    folder: PathBuf,
    limit: Size,
    /// How many bytes more there may be.
    left: u64,
    imports: BTreeSet<PathBuf>,
    texts: BTreeMap<String, String>,
    /// Files whose own imports have not been looked for.
    waiting: Vec<String>,
}

impl Reading {
    fn take(&mut self, name: &str, path: &Path) -> Result<(), Unread> {
        let file = fs::File::open(path).map_err(Unread::Io)?;
        let mut bytes = Vec::new();
        // One byte more tells a file that grows meanwhile.
        let mut file = file.take(self.left.saturating_add(1));
        file.read_to_end(&mut bytes).map_err(Unread::Io)?;
        let limit = self.limit;
        let too_large = || {
            let reason = "it and what it imports have more bytes than the budget file";
            Unread::Unfit(format!("{reason} = {limit} allows"))
        };
        let left = self.left.checked_sub(bytes.len() as u64);
        self.left = left.ok_or_else(too_large)?;
        let not_text = |_| Unread::Unfit(format!("{name}: it is not text in UTF-8"));
        let text = String::from_utf8(bytes).map_err(not_text)?;
        // Editors of some systems begin files with it; it is no part of the text.
        let text = match text.strip_prefix('\u{feff}') {
            Some(text) => text.to_owned(),
            None => text,
        };
        self.texts.insert(name.to_owned(), text);
        self.waiting.push(name.to_owned());
        Ok(())
    }

    /// Takes what the files that were taken name, and what those name.
    fn take_imports(&mut self) -> Result<(), String> {
        while let Some(importer) = self.waiting.pop() {
            let text = self.texts.get(&importer).map_or("", String::as_str);
            let named: BTreeSet<String> = relative_texts(text).map(str::to_owned).collect();
            for name in named.iter().filter_map(|text| joined(&importer, text)) {
                self.take_first(&name)?;
            }
        }
        Ok(())
    }

    /// Takes the first file that is there of those that a name may stand for.
    fn take_first(&mut self, name: &str) -> Result<(), String> {
        for candidate in candidates(name) {
            let path = self.folder.join(&candidate);
            if self.texts.contains_key(&candidate) {
                break;
            }
            if self.imports.len() == MAX_FILES {
                return Err(format!("it names more than {MAX_FILES} files"));
            }
            self.imports.insert(path.clone());
            if !self.is_inside(&path) {
                continue;
            }
            match self.take(&candidate, &path) {
                Ok(()) => break,
                Err(Unread::Unfit(reason)) => return Err(reason),
                // Whoever imports it is told that it is not there.
                Err(Unread::Io(_)) => {}
            }
        }
        Ok(())
    }

    /// Whether there is a file, and links do not lead to somewhere outside of the script's folder.
    fn is_inside(&self, path: &Path) -> bool {
        let folder = match self.folder.as_os_str().is_empty() {
            true => Path::new("."),
            false => &self.folder,
        };
        match (fs::canonicalize(folder), fs::canonicalize(path)) {
            (Ok(folder), Ok(path)) => path.starts_with(folder) && path.is_file(),
            _ => false,
        }
    }
}

fn is_relative(specifier: &str) -> bool {
    specifier.starts_with("./") || specifier.starts_with("../")
}

/// The name below the script's folder; none if it would leave that.
fn joined(importer: &str, specifier: &str) -> Option<String> {
    let mut parts: Vec<&str> = importer.split('/').collect();
    parts.pop();
    for part in specifier.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// The files that a name may stand for, the first that is there. TypeScript names what a file is when its
/// types are off, and bundlers leave the extension out.
fn candidates(name: &str) -> Vec<String> {
    let stem = |extension: &str| name.strip_suffix(extension);
    if let Some(stem) = stem(".js") {
        return vec![name.to_owned(), format!("{stem}.ts")];
    }
    if let Some(stem) = stem(".mjs") {
        return vec![name.to_owned(), format!("{stem}.mts")];
    }
    if [".ts", ".mts", ".json"].iter().any(|it| name.ends_with(it)) {
        return vec![name.to_owned()];
    }
    let with = LANGUAGES.iter();
    with.map(|language| format!("{name}.{language}")).collect()
}

/// Why something that is no file beside the script cannot be imported.
fn foreign(specifier: &str) -> String {
    const OF_NODE: [&str; 20] = [
        "assert",
        "async_hooks",
        "buffer",
        "child_process",
        "cluster",
        "crypto",
        "events",
        "fs",
        "http",
        "https",
        "net",
        "os",
        "path",
        "process",
        "stream",
        "timers",
        "url",
        "util",
        "worker_threads",
        "zlib",
    ];
    if specifier.starts_with("node:") || OF_NODE.contains(&specifier) {
        return format!(
            "{specifier:?} is a part of Node, and scripts do not run in Node: host/docs/plugins/scripts.md lists \
             what is there instead"
        );
    }
    if specifier.contains(':') || specifier.starts_with('/') {
        return format!(
            "{specifier:?} cannot be imported: scripts import \"mixlab\" and files beside them, by \
             names that begin with ./"
        );
    }
    format!(
        "{specifier:?} is no file beside the script. If it is a package of npm, make one file of it: npx \
         esbuild {specifier} --bundle --format=esm --outfile=plugins/vendor/{specifier}.js, and import \
         \"./vendor/{specifier}.js\""
    )
}

/// Every text between quotes of one kind that begins like a relative path.
fn relative_texts(text: &str) -> impl Iterator<Item = &str> {
    let quotes = text.match_indices(['"', '\'', '`']);
    quotes.filter_map(move |(start, quote)| {
        let rest = &text[start + 1..];
        if !is_relative(rest) {
            return None;
        }
        let end = rest.find([quote.chars().next()?, '\n'])?;
        Some(&rest[..end])
    })
}

/// Line and column of a text between quotes, each from 1.
fn place_of(text: &str, specifier: &str) -> Option<(usize, usize)> {
    let at = ['"', '\''].iter().find_map(|quote| {
        let quoted = format!("{quote}{specifier}{quote}");
        text.find(&quoted)
    })?;
    let before = &text[..at];
    let line = before.matches('\n').count() + 1;
    let column = before
        .rsplit('\n')
        .next()
        .unwrap_or_default()
        .chars()
        .count()
        + 1;
    Some((line, column))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    fn read(folder: &tempfile::TempDir) -> Found {
        Files::read(&folder.path().join("chat.ts"), Size::new(1000)).unwrap()
    }

    fn names(files: &Files) -> Vec<&str> {
        files.texts().keys().map(String::as_str).collect()
    }

    #[test]
    fn what_a_script_imports_belongs_to_it_and_what_those_import() {
        let folder = folder(&[
            (
                "chat.ts",
                "import a from './lib/a.js';\nimport './lib/b';\n// \"./gone.ts\"",
            ),
            ("lib/a.ts", "import '../c.mjs'"),
            ("lib/b.mts", ""),
            ("c.mjs", "import './chat.ts'"),
            ("other.ts", ""),
        ]);
        let found = read(&folder);
        let files = found.files.unwrap();
        assert_eq!(names(&files), ["c.mjs", "chat.ts", "lib/a.ts", "lib/b.mts"]);
        assert_eq!(files.resolve("chat.ts", "./lib/a.js"), Ok("lib/a.ts"));
        assert_eq!(files.resolve("lib/a.ts", "../c.mjs"), Ok("c.mjs"));
        assert_eq!(files.resolve("c.mjs", "./chat.ts"), Ok("chat.ts"));
        let watched = |name: &str| found.imports.contains(&folder.path().join(name));
        assert!(watched("lib/a.ts") && watched("lib/a.js") && watched("gone.ts"));
        assert!(!watched("other.ts"));
    }

    #[test]
    fn nothing_outside_of_the_folder_belongs_to_it() {
        let outside = folder(&[("secret.js", "secret")]);
        let secret = outside.path().join("secret.js");
        let name = outside.path().file_name().unwrap().to_str().unwrap();
        let up = format!("../{name}/secret.js");
        let inside = folder(&[("chat.ts", &format!("import '{up}'; import './link.js'"))]);
        std::os::unix::fs::symlink(&secret, inside.path().join("link.js")).unwrap();
        let files = read(&inside).files.unwrap();
        assert_eq!(names(&files), ["chat.ts"]);
        let refused = files.resolve("chat.ts", &up).unwrap_err();
        assert!(refused.starts_with("chat.ts:1:8: "), "{refused}");
        assert!(
            refused.contains("not below the script's folder"),
            "{refused}"
        );
        assert!(files.resolve("chat.ts", "./link.js").is_err());
    }

    #[test]
    fn what_is_no_file_says_what_to_do() {
        let folder = folder(&[("chat.ts", "\nimport fs from \"node:fs\"")]);
        let files = read(&folder).files.unwrap();
        for (specifier, said) in [
            ("node:fs", "chat.ts:2:16: \"node:fs\" is a part of Node"),
            ("lodash", "npx esbuild lodash"),
            ("https://example.com/a.js", "files beside them"),
            ("./a", "a.ts or a.mts or a.js or a.mjs cannot be read"),
        ] {
            let refused = files.resolve("chat.ts", specifier).unwrap_err();
            assert!(refused.contains(said), "{refused}");
        }
    }

    #[test]
    fn a_change_of_any_file_is_another_script() {
        let folder = folder(&[("chat.ts", "import './a.js'"), ("a.js", "1")]);
        let hash = || read(&folder).files.unwrap().hash();
        let former = hash();
        assert_eq!(hash(), former);
        fs::write(folder.path().join("a.js"), "2").unwrap();
        assert_ne!(hash(), former);
    }

    #[test]
    fn all_files_together_keep_the_budget() {
        let folder = folder(&[("chat.ts", "import './a.js'"), ("a.js", &"x".repeat(990))]);
        let reason = read(&folder).files.unwrap_err();
        assert!(reason.contains("the budget file = 1kB"), "{reason}");
    }
}
