use std::{fs, path::PathBuf};

use super::*;

/// A file that was last changed so long ago that every change shows.
fn settled_file(folder: &tempfile::TempDir, content: &str) -> (PathBuf, Stamp) {
    let path = folder.path().join("file");
    fs::write(&path, content).unwrap();
    let stamp = Stamp::of(&path, &[]).unwrap();
    while !stamp.is_settled(SystemTime::now()) {
        std::thread::yield_now();
    }
    (path, stamp)
}

#[test]
fn a_file_is_due_until_it_was_dealt_with_and_again_when_it_looks_different() {
    let folder = tempfile::tempdir().unwrap();
    let (path, stamp) = settled_file(&folder, "one");
    let mut followed = Followed::default();
    assert!(followed.is_due(Some(&stamp)));
    followed.dealt_with(Some(stamp.clone()));
    assert!(!followed.is_due(Some(&stamp)));
    assert!(followed.is_due(None), "it is gone");
    fs::write(&path, "two").unwrap();
    assert!(followed.is_due(Stamp::of(&path, &[]).as_ref()));
    followed.forget();
    assert!(followed.is_due(Some(&stamp)));
}

#[test]
fn a_file_that_changed_just_now_may_change_unseen() {
    let stamp = FileStamp {
        modified: None,
        changed: (1000, 0),
        len: 1,
        inode: 1,
    };
    let changed = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
    assert!(!stamp.is_settled(changed));
    assert!(stamp.is_settled(changed + 2 * CLOCK_TICK));
    let clock_is_behind = changed - Duration::from_secs(1);
    assert!(stamp.is_settled(clock_is_behind));
}

#[test]
fn what_is_postponed_waits_from_when_the_file_first_looked_so() {
    let folder = tempfile::tempdir().unwrap();
    let (path, stamp) = settled_file(&folder, "");
    let long = Duration::from_secs(3600);
    let mut followed = Followed::default();
    assert!(!followed.postpone(Some(stamp.clone()), long));
    assert!(!followed.is_due(Some(&stamp)));
    assert!(!followed.postpone(Some(stamp.clone()), long), "still");
    assert!(followed.postpone(Some(stamp.clone()), Duration::ZERO));
    fs::write(&path, "content").unwrap();
    assert!(followed.is_due(Stamp::of(&path, &[]).as_ref()));
}

#[test]
fn a_look_says_what_a_file_is() {
    let folder = tempfile::tempdir().unwrap();
    let (path, stamp) = settled_file(&folder, "12345");
    let limit = Size::new(5);
    assert!(matches!(look(&path, limit, Some(&stamp), &[]), Look::Same));
    match look(&path, limit, None, &[]) {
        Look::Content(_, Code::Component(content)) => assert_eq!(content.bytes(), b"12345"),
        _ => panic!("it has five bytes"),
    }
    match look(&path, Size::new(4), None, &[]) {
        Look::Unfit(_, reason) => assert!(reason.starts_with("it has 5 bytes"), "{reason}"),
        _ => panic!("it is too large"),
    }
    fs::write(&path, "").unwrap();
    assert!(matches!(look(&path, limit, None, &[]), Look::Empty(_)));
    assert!(matches!(
        look(folder.path(), limit, None, &[]),
        Look::Unfit(..)
    ));
    let missing = folder.path().join("missing");
    assert!(matches!(look(&missing, limit, None, &[]), Look::Missing(_)));
    let below_a_file = path.join("file");
    let below_a_file = look(&below_a_file, limit, None, &[]);
    assert!(matches!(below_a_file, Look::Unreadable(_)));
}
