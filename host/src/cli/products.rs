//! What a build writes into its own source. It is no reason to build again, and nothing but time and again
//! tells it from what an author writes meanwhile.

use std::{
    collections::{BTreeMap, HashSet},
    path::PathBuf,
    time::SystemTime,
};

/// Files, each with when it was written and how long it is.
pub(super) type Files = BTreeMap<PathBuf, (SystemTime, u64)>;

/// The files of a source, and which of them its builds write.
#[derive(Default)]
pub(super) struct Products {
    /// As it was seen last.
    seen: Files,
    written: HashSet<PathBuf>,
}

impl Products {
    /// Looks at the files as they are between builds. Whether an author has changed something since it was last
    /// looked; what is changed by hand is no product.
    pub(super) fn look(&mut self, now: Files) -> bool {
        let changed = differences(&self.seen, &now);
        for path in &changed {
            self.written.remove(path);
        }
        self.seen = now;
        !changed.is_empty()
    }

    /// A build has made the second of the first. Whether it is to be built once more, because something was
    /// written meanwhile that no former build has written.
    pub(super) fn built(&mut self, before: &Files, after: Files) -> bool {
        let changed = differences(before, &after);
        self.seen = after;
        self.note(changed)
    }

    /// These were written while it was built. Whether one of them is new here.
    pub(super) fn note(&mut self, paths: Vec<PathBuf>) -> bool {
        let count = self.written.len();
        self.written.extend(paths);
        self.written.len() > count
    }
}

/// The files that are not the same, or not in both.
fn differences(former: &Files, now: &Files) -> Vec<PathBuf> {
    let gone = former.keys().filter(|path| !now.contains_key(*path));
    let others = now
        .iter()
        .filter(|(path, at)| former.get(*path) != Some(at));
    gone.chain(others.map(|(path, _)| path)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files, each with a number that stands for its content.
    fn files(files: &[(&str, u64)]) -> Files {
        let file =
            |(name, content): &(&str, u64)| ((*name).into(), (SystemTime::UNIX_EPOCH, *content));
        files.iter().map(file).collect()
    }

    #[test]
    fn what_each_build_writes_makes_one_more_build_only() {
        let mut products = Products::default();
        let source = files(&[("a.c", 1)]);
        let first = files(&[("a.c", 1), ("a.o", 1)]);
        assert!(products.built(&source, first.clone()));
        let second = files(&[("a.c", 1), ("a.o", 2)]);
        assert!(!products.built(&first, second.clone()));
        assert!(!products.look(second));
    }

    #[test]
    fn what_an_author_writes_between_builds_is_a_change_whatever_it_was_before() {
        let mut products = Products::default();
        let source = files(&[("a.c", 1)]);
        let meanwhile = files(&[("a.c", 2)]);
        assert!(
            products.built(&source, meanwhile.clone()),
            "it was saved while it was built"
        );
        assert!(!products.built(&meanwhile, meanwhile.clone()));
        let saved = files(&[("a.c", 3)]);
        assert!(products.look(saved.clone()));
        let again = files(&[("a.c", 4)]);
        assert!(
            products.built(&saved, again),
            "and again while that was built"
        );
        assert!(products.look(Files::default()), "it is gone");
    }
}
