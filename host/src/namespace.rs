//! The names of namespaces, and patterns of them.

/// The namespace that is always served, where the host's own rooms and events live.
pub(crate) const MAIN_NAMESPACE: &str = "/";

/// What a pattern's star stands for is not longer, in bytes.
const MAX_STAR: usize = 128;

/// Whether it may be a namespace's name, or a pattern of such.
pub(crate) fn is_namespace(name: &str) -> bool {
    name.starts_with('/')
        && !name.contains([',', '?', '#'])
        && !name.chars().any(char::is_control)
        && name.matches('*').count() <= 1
}

/// A name with one star, which stands for 1 to 128 bytes without `/` and control characters.
#[derive(Debug)]
pub(crate) struct NamespacePattern {
    before: Box<str>,
    behind: Box<str>,
}

impl NamespacePattern {
    /// The pattern, unless it is the name of one namespace.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let (before, behind) = name.split_once('*')?;
        Some(Self {
            before: before.into(),
            behind: behind.into(),
        })
    }

    /// Whether a namespace is one of those that are meant.
    pub(crate) fn matches(&self, path: &str) -> bool {
        let rest = path.strip_prefix(&*self.before);
        let star = rest.and_then(|rest| rest.strip_suffix(&*self.behind));
        star.is_some_and(|star| {
            (1..=MAX_STAR).contains(&star.len())
                && !star.contains(|c: char| c == '/' || c.is_control())
        })
    }

    /// How much of a name it fixes, in characters. Of two that match, the one that fixes more is
    /// meant.
    pub(crate) fn literals(&self) -> usize {
        self.before.chars().count() + self.behind.chars().count()
    }
}

/// Some namespaces, as names and patterns.
#[derive(Debug, Default)]
pub(crate) struct NamespaceSet(Vec<Path>);

/// The name of a namespace, or the pattern of some.
#[derive(Debug)]
enum Path {
    Name(Box<str>),
    Pattern(NamespacePattern),
}

impl NamespaceSet {
    /// Those that are named so, or match.
    pub(crate) fn new(paths: &[String]) -> Self {
        let path = |path: &String| match NamespacePattern::parse(path) {
            Some(pattern) => Path::Pattern(pattern),
            None => Path::Name(path.as_str().into()),
        };
        Self(paths.iter().map(path).collect())
    }

    /// Whether a namespace is one of them.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.0.iter().any(|its| match its {
            Path::Name(name) => **name == *path,
            Path::Pattern(pattern) => pattern.matches(path),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_something_within_one_part_of_a_path() {
        let (longest, too_long) = ("x".repeat(MAX_STAR), "x".repeat(MAX_STAR + 1));
        for (pattern, star, expected) in [
            ("/room-*", "7", true),
            ("/room-*", "*", true),
            ("/room-*", "é😀", true),
            ("/room-*", "", false),
            ("/room-*", "a/b", false),
            ("/room-*", "a\u{7}", false),
            ("/room-*", &longest, true),
            ("/room-*", &too_long, false),
            ("/*/chat", "a", true),
            ("/*/chat", "", false),
            ("/*a", "a", true),
        ] {
            let path = pattern.replace('*', star);
            let pattern = NamespacePattern::parse(pattern).unwrap();
            assert_eq!(pattern.matches(&path), expected, "{pattern:?} {path}");
        }
        let pattern = NamespacePattern::parse("/aa*aa").unwrap();
        assert!(!pattern.matches("/aaa") && !pattern.matches("/b") && !pattern.matches("/aabaab"));
        assert!(NamespacePattern::parse("/room").is_none());
    }

    #[test]
    fn a_name_is_a_path_with_at_most_one_star() {
        for good in ["/", "/a", "/a/b", "/a*", "/*/b"] {
            assert!(is_namespace(good), "{good}");
        }
        for bad in ["", "a", "/a,b", "/a?b", "/a#", "/a\n", "/*/*", "/**"] {
            assert!(!is_namespace(bad), "{bad}");
        }
    }
}
