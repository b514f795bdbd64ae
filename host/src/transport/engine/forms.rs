//! The forms in which clients take a packet.

use std::cell::OnceCell;

use bytes::Bytes;

use super::{msgpack, websocket::deflate::deflate_frames};
use crate::config::Parser;

/// A packet that goes to several clients: each of its forms is made once for all that take it so, and only if one
/// does.
pub(crate) struct Forms<'a> {
    frames: &'a Bytes,
    packed: OnceCell<Bytes>,
    deflated: OnceCell<Bytes>,
}

impl<'a> Forms<'a> {
    /// The packet of these frames.
    pub(crate) fn new(frames: &'a Bytes) -> Self {
        Self {
            frames,
            packed: OnceCell::new(),
            deflated: OnceCell::new(),
        }
    }

    /// The form for a client of this parser that takes messages of so many bytes and more deflated, or none. All of
    /// one server's clients have one parser and one threshold.
    pub(super) fn for_client(&self, parser: Parser, threshold: Option<usize>) -> &Bytes {
        let frames = match parser {
            Parser::Json => self.frames,
            Parser::Msgpack => self.packed.get_or_init(|| msgpack::frames(self.frames)),
        };
        match threshold {
            Some(threshold) if frames.len() >= threshold => {
                let deflated = || deflate_frames(frames, threshold);
                self.deflated.get_or_init(deflated)
            }
            _ => frames,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::engine::websocket::frame;

    #[test]
    fn a_form_is_made_once_for_all_that_take_it() {
        let text = format!("42[\"a\",\"{}\"]", "x".repeat(2000));
        let frames = frame::frame(frame::TEXT, text.as_bytes());
        let forms = Forms::new(&frames);
        assert!(std::ptr::eq(forms.for_client(Parser::Json, None), &frames));
        assert!(std::ptr::eq(
            forms.for_client(Parser::Json, Some(1 << 20)),
            &frames
        ));
        let deflated = forms.for_client(Parser::Json, Some(1024));
        assert!(deflated.len() < 100);
        assert!(std::ptr::eq(
            deflated,
            forms.for_client(Parser::Json, Some(1024))
        ));
        let packed = forms.for_client(Parser::Msgpack, None);
        assert_eq!(
            frame::split(packed).next().map(|(opcode, _)| opcode),
            Some(frame::BINARY)
        );
        assert!(std::ptr::eq(
            packed,
            forms.for_client(Parser::Msgpack, None)
        ));
    }
}
