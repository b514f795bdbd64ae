//! What a build writes into its own source. It is no reason to build again, and nothing but time and again
//! tells it from what an author writes meanwhile.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    time::SystemTime,
};

/// What cargo writes beside the manifest of a workspace.
pub(super) const LOCK_FILE: &str = "Cargo.lock";

/// Files, each as it was at one time.
pub(super) type Files = BTreeMap<PathBuf, FileState>;

/// What tells one state of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileState {
    pub written: SystemTime,
    /// In bytes.
    pub length: u64,
    /// SHA-256.
    pub content: [u8; 32],
}

/// So many builds in a row have to change what is in a file before it is taken for theirs. Most of what
/// builds write is the same each time and ends this at once; an author who saves again and again while
/// it is built does not come to this number.
const IN_A_ROW: u32 = 4;

/// The files of a source, and which of them its builds write.
#[derive(Default)]
pub(super) struct Products {
    /// As they were seen last.
    seen: Files,
    /// How many builds in a row have changed a file, at most [`IN_A_ROW`].
    builds: HashMap<PathBuf, u32>,
}

impl Products {
    /// The files as they were seen last.
    pub(super) fn seen(&self) -> &Files {
        &self.seen
    }

    /// Looks at the files as they are between builds. Whether an author has changed something since it was last
    /// looked; what is changed by hand is no product.
    pub(super) fn look(&mut self, now: Files) -> bool {
        let changed = differences(&self.seen, &now, |former, now| former == now);
        for path in &changed {
            self.builds.remove(path);
        }
        self.seen = now;
        !changed.is_empty()
    }

    /// A build has made the second of the first. Whether it is to be built once more, because something was
    /// written meanwhile that is not known to be a product.
    pub(super) fn built(&mut self, before: &Files, after: Files) -> bool {
        let changed = differences(before, &after, |former, now| former.content == now.content);
        self.seen = after;
        self.builds
            .retain(|path, builds| *builds == IN_A_ROW || changed.contains(path));
        self.count(changed)
    }

    /// Looks at the files for the first time since a build began at `time`, whose sources were not all known.
    /// Whether something was written meanwhile that is not known to be a product. Cargo's own lock file does not
    /// count, which a build writes.
    pub(super) fn look_first(&mut self, now: Files, time: SystemTime) -> bool {
        let mut changed = differences(&self.seen, &now, |former, now| former == now);
        let is_new = |path: &PathBuf| now.get(path).is_some_and(|file| file.written >= time);
        changed.retain(|path| is_new(path) && !path.ends_with(LOCK_FILE));
        self.seen = now;
        self.count(changed)
    }

    /// A build may have written these. Whether one of them is not known to be a product.
    fn count(&mut self, paths: Vec<PathBuf>) -> bool {
        let mut has_more = false;
        for path in paths {
            let builds = self.builds.entry(path).or_default();
            *builds = IN_A_ROW.min(*builds + 1);
            has_more |= *builds < IN_A_ROW;
        }
        has_more
    }
}

/// The files that are not the same, or not in both.
fn differences(
    former: &Files,
    now: &Files,
    are_same: impl Fn(&FileState, &FileState) -> bool,
) -> Vec<PathBuf> {
    let gone = former.keys().filter(|path| !now.contains_key(*path));
    let others = now.iter().filter(|(path, state)| {
        former
            .get(*path)
            .is_none_or(|former| !are_same(former, state))
    });
    gone.chain(others.map(|(path, _)| path)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Files, each with a number that stands for its content.
    fn files(files: &[(&str, u8)]) -> Files {
        let file = |(name, content): &(&str, u8)| {
            let state = FileState {
                written: SystemTime::UNIX_EPOCH,
                length: 1,
                content: [*content; 32],
            };
            ((*name).into(), state)
        };
        files.iter().map(file).collect()
    }

    #[test]
    fn what_each_build_writes_anew_makes_a_few_more_builds_only() {
        let mut products = Products::default();
        let mut source = files(&[("a.c", 1)]);
        let mut more = 0;
        for build in 1..20 {
            let made = files(&[("a.c", 1), ("a.o", build)]);
            more += u32::from(products.built(&source, made.clone()));
            source = made;
        }
        assert_eq!(more, IN_A_ROW - 1);
        assert!(!products.look(source));
    }

    #[test]
    fn what_each_build_writes_as_it_was_makes_one_more_build() {
        let mut products = Products::default();
        let source = files(&[("a.c", 1)]);
        let made = files(&[("a.c", 1), ("a.o", 1)]);
        assert!(products.built(&source, made.clone()));
        let mut again = made.clone();
        for state in again.values_mut() {
            state.written += Duration::from_secs(1);
        }
        assert!(!products.built(&made, again.clone()));
        assert!(!products.look(again));
    }

    #[test]
    fn what_an_author_saves_during_one_build_and_the_next_is_built() {
        let mut products = Products::default();
        let mut source = files(&[("a.c", 0)]);
        for save in 1..3 {
            let saved = files(&[("a.c", save)]);
            assert!(products.built(&source, saved.clone()));
            source = saved;
        }
        assert!(!products.built(&source, source.clone()));
        for save in 3..5 {
            let saved = files(&[("a.c", save)]);
            assert!(products.built(&source, saved.clone()), "not in a row");
            source = saved;
        }
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
