//! Messages of websockets in fewer bytes: permessage-deflate (RFC 7692), where that is switched on. Nothing is kept of a
//! message for the next one, on either side, so a connection takes no memory for it, and one form is good for all
//! who are sent the same packet.

use std::cell::RefCell;

use bytes::Bytes;
use flate2::{Compress, Compression, FlushCompress};
use miniz_oxide::inflate::{TINFLStatus, decompress_to_vec_with_limit};

use super::frame;

/// What every message ends with before it is cut off (RFC 7692, section 7.2.1).
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// What a message needs beside what is in it, where nothing gets smaller: a header every 64 KiB, and the tail.
const OVERHEAD: usize = 64;

/// An empty block that is the last one. Without one the decoder waits for more.
const LAST_BLOCK: [u8; 5] = [0x01, 0x00, 0x00, 0xff, 0xff];

thread_local! {
    /// What a thread compresses with, some 300 KiB; none before the first time.
    static COMPRESS: RefCell<Option<Compress>> = const { RefCell::new(None) };
}

/// Why a message cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// It is no deflated data.
    Corrupt,
    /// It has more bytes than it may have. No more than that were made of it.
    TooLarge,
}

/// The same frames, those of `threshold` bytes and more deflated where that makes them smaller.
pub(in crate::transport::engine) fn deflate_frames(frames: &Bytes, threshold: usize) -> Bytes {
    let mut out = Vec::with_capacity(frames.len());
    for (opcode, payload) in frame::split(frames) {
        let deflated = (payload.len() >= threshold).then(|| deflate(&payload));
        match deflated.filter(|deflated| deflated.len() < payload.len()) {
            Some(deflated) => frame::push_deflated(&mut out, opcode, &deflated),
            None => frame::push(&mut out, opcode, &payload),
        }
    }
    out.shrink_to_fit();
    out.into()
}

/// Deflates a message.
pub(super) fn deflate(message: &[u8]) -> Vec<u8> {
    COMPRESS.with_borrow_mut(|compress| {
        let compress = compress.get_or_insert_with(|| Compress::new(Compression::fast(), false));
        compress.reset();
        let mut out = Vec::with_capacity(message.len() / 2 + OVERHEAD);
        let mut left = message;
        loop {
            let before = compress.total_in();
            compress
                .compress_vec(left, &mut out, FlushCompress::Sync)
                .expect("whatever there is can be compressed");
            left = &left[(compress.total_in() - before) as usize..];
            // It is flushed when there was room for more.
            if left.is_empty() && out.len() < out.capacity() {
                break;
            }
            out.reserve(left.len() / 2 + OVERHEAD);
        }
        debug_assert!(out.ends_with(&TAIL));
        out.truncate(out.len() - TAIL.len());
        out
    })
}

/// The message of up to `max` bytes that was deflated. What follows behind a block that says it is the last one is passed
/// over, as by Node's `ws`.
pub(super) fn inflate(deflated: &[u8], max: usize) -> Result<Vec<u8>, Unreadable> {
    let whole = [deflated, &TAIL, &LAST_BLOCK].concat();
    // One byte more tells a message that is too large.
    match decompress_to_vec_with_limit(&whole, max.saturating_add(1)) {
        Ok(message) if message.len() <= max => Ok(message),
        Ok(_) => Err(Unreadable::TooLarge),
        Err(error) if error.status == TINFLStatus::HasMoreOutput => Err(Unreadable::TooLarge),
        Err(_) => Err(Unreadable::Corrupt),
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    #[test]
    fn the_examples_of_the_rfc_are_read() {
        // RFC 7692, section 7.2.3: one block, stored, with BFINAL, in two blocks; and an empty message.
        for (deflated, message) in [
            (&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00][..], "Hello"),
            (
                &[
                    0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00,
                ],
                "Hello",
            ),
            (&[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00], "Hello"),
            (
                &[
                    0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00,
                ],
                "Hello",
            ),
            (&[0x00], ""),
            // That with BFINAL again, and something behind it.
            (
                &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x07, 0xff],
                "Hello",
            ),
        ] {
            assert_eq!(
                inflate(deflated, 5).as_deref(),
                Ok(message.as_bytes()),
                "{deflated:x?}"
            );
        }
        assert_eq!(
            inflate(&[], 5),
            Err(Unreadable::Corrupt),
            "not even an empty block"
        );
        // The second example of two messages shares the first one's window, which nobody keeps here.
        assert_eq!(
            inflate(&[0xf2, 0x00, 0x11, 0x00, 0x00], 5),
            Err(Unreadable::Corrupt)
        );
    }

    #[test]
    fn no_more_is_made_of_a_message_than_it_may_have() {
        let bomb = deflate(&vec![0; 1 << 20]);
        assert!(bomb.len() < 1 << 13, "{}", bomb.len());
        for max in [0, 1, 100, 1 << 16, (1 << 20) - 1] {
            assert_eq!(inflate(&bomb, max), Err(Unreadable::TooLarge), "{max}");
        }
        assert_eq!(inflate(&bomb, 1 << 20).map(|it| it.len()), Ok(1 << 20));
    }

    #[test]
    fn only_what_gets_smaller_and_is_large_enough_goes_deflated() {
        let long = "x".repeat(2000);
        let random: Vec<u8> = std::iter::successors(Some(1_u64), |seed| {
            Some(seed.wrapping_mul(0x5851_f42d_4c95_7f2d))
        })
        .map(|seed| (seed >> 56) as u8)
        .take(2000)
        .collect();
        let mut frames = Vec::new();
        frame::push(&mut frames, frame::TEXT, long.as_bytes());
        frame::push(&mut frames, frame::BINARY, &random);
        frame::push(&mut frames, frame::BINARY, b"short");
        let frames = Bytes::from(frames);
        let deflated = &deflate_frames(&frames, 1024);
        let [first, second, third] = frame::split(deflated)
            .collect::<Vec<_>>()
            .try_into()
            .unwrap();
        assert_eq!(deflated[0], 0xc1, "a final text, marked");
        assert_eq!(inflate(&first.1, 2000).as_deref(), Ok(long.as_bytes()));
        assert_eq!((&*second.1, &*third.1), (&*random, &b"short"[..]));
    }

    proptest! {
        #[test]
        fn what_is_deflated_is_read_again(message in vec(0..4_u8, 0..10_000)) {
            let deflated = deflate(&message);
            prop_assert_eq!(inflate(&deflated, message.len()), Ok(message));
        }

        #[test]
        fn whatever_comes_is_read_up_to_its_bound(deflated in vec(any::<u8>(), 0..200), max in 0..300_usize) {
            if let Ok(message) = inflate(&deflated, max) {
                prop_assert!(message.len() <= max);
            }
        }
    }
}
