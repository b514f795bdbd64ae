//! What comes from a client's websocket: bytes, frames, whole messages. As strict as RFC 6455 is.

#[cfg(test)]
mod tests;

use std::io::Cursor;

use super::{
    deflate::{Unreadable, inflate},
    frame::{
        CLOSE, CloseCode, Control, Data, FrameHeader, MAX_CONTROL, OpCode, PING, PONG, TEXT, unmask,
    },
};
use crate::transport::engine::session::EndReason;

/// How many bytes may be made of deflated messages in a row, beside the last of them: as much as is read in a row. A
/// kilobyte of a client's can be a megabyte of work.
const INFLATED_IN_A_ROW: usize = 64 * 1024;

/// Who takes what a reader has read.
pub(super) trait Messages {
    /// A whole text.
    fn text(&mut self, text: &str) -> Result<(), Stop>;
    /// A whole binary message.
    fn binary(&mut self, bytes: &[u8]) -> Result<(), Stop>;
    /// A ping, to be answered with the same bytes.
    fn ping(&mut self, bytes: &[u8]);
}

/// Why nothing more is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// The client has closed the websocket, with this code where it has given one.
    Closed(Option<CloseCode>),
    /// It has broken the protocol, and is told so with this code.
    Violation(CloseCode),
    /// Whoever takes the messages wants no more, for this reason.
    Over(EndReason),
}

/// What is kept between two reads: nothing, on most connections.
pub(super) struct Reader {
    /// The largest message, in bytes.
    max_message: usize,
    /// Whether messages may be deflated.
    inflates: bool,
    /// A frame whose end is missing.
    held: Vec<u8>,
    /// Whole messages may be in it: they came with the handshake, or behind as many as are dealt with in a row.
    is_unseen: bool,
    /// How many bytes the last deflated messages have become that were dealt with in a row.
    inflated: usize,
    /// The message under way, if it came in several frames.
    message: Option<Box<Fragments>>,
}

struct Fragments {
    is_text: bool,
    is_deflated: bool,
    bytes: Vec<u8>,
}

impl Reader {
    /// A reader of messages up to so many bytes, which may be deflated if it `inflates`. `held` has been read
    /// already. It is copied: as long as the websocket lives, a buffer without content would be kept, too.
    pub(super) fn new(max_message: usize, inflates: bool, held: &[u8]) -> Self {
        Self {
            max_message,
            inflates,
            is_unseen: !held.is_empty(),
            held: held.to_vec(),
            inflated: 0,
            message: None,
        }
    }

    /// Whether bytes have been read that nobody has looked at.
    pub(super) fn has_unseen(&self) -> bool {
        self.is_unseen
    }

    /// What has been read and not been dealt with.
    pub(super) fn held(&self) -> &[u8] {
        &self.held
    }

    /// Takes bytes from the client, and hands over the messages that are whole with them, unless deflated ones
    /// become too much at once: then it [`Self::has_unseen`]. The bytes lose their masks where they are.
    pub(super) fn take(
        &mut self,
        bytes: &mut [u8],
        messages: &mut impl Messages,
    ) -> Result<(), Stop> {
        self.inflated = 0;
        let result = self.take_whole(bytes, messages);
        self.is_unseen = self.has_enough() && !self.held.is_empty();
        result
    }

    fn take_whole(&mut self, bytes: &mut [u8], messages: &mut impl Messages) -> Result<(), Stop> {
        if self.held.is_empty() {
            let (done, result) = self.deal(bytes, messages);
            self.held.extend_from_slice(&bytes[done..]);
            return result;
        }
        let mut held = std::mem::take(&mut self.held);
        held.extend_from_slice(bytes);
        let (done, result) = self.deal(&mut held, messages);
        if done < held.len() {
            held.drain(..done);
            self.held = held;
        }
        // Else: an idle connection keeps no memory of a busy moment.
        result
    }

    fn has_enough(&self) -> bool {
        self.inflated >= INFLATED_IN_A_ROW
    }

    /// Deals with whole frames, as many as may be in a row; returns how many bytes those were, and why it stopped if
    /// others are to stay.
    fn deal(
        &mut self,
        bytes: &mut [u8],
        messages: &mut impl Messages,
    ) -> (usize, Result<(), Stop>) {
        let mut done = 0;
        while !self.has_enough() {
            match self.deal_with_one(&mut bytes[done..], messages) {
                Ok(0) => return (done, Ok(())),
                Ok(length) => done += length,
                Err((length, stop)) => return (done + length, Err(stop)),
            }
        }
        (done, Ok(()))
    }

    /// Deals with the frame that the bytes begin with. Returns its length; 0 if its end is missing.
    fn deal_with_one(
        &mut self,
        bytes: &mut [u8],
        messages: &mut impl Messages,
    ) -> Result<usize, (usize, Stop)> {
        let mut cursor = Cursor::new(&*bytes);
        let parsed = FrameHeader::parse(&mut cursor);
        let start = cursor.position() as usize;
        let Some((header, length)) = parsed.map_err(|_| (0, protocol_error()))? else {
            return Ok(0);
        };
        let mask = self.check(&header, length).map_err(|stop| (0, stop))?;
        if let OpCode::Control(_) = header.opcode
            && start > header.len(length)
        {
            // Its length is written longer than it may be at all.
            return Err((0, protocol_error()));
        }
        // It fits: what is over the limit has been refused.
        let end = start + length as usize;
        let Some(payload) = bytes.get_mut(start..end) else {
            return Ok(0);
        };
        unmask(payload, mask);
        let taken = self.take_frame(&header, payload, messages);
        taken.map(|()| end).map_err(|stop| (end, stop))
    }

    /// Checks what can be known of a frame before its payload is there; returns its mask.
    fn check(&self, header: &FrameHeader, length: u64) -> Result<[u8; 4], Stop> {
        let mask = header.mask.ok_or_else(protocol_error)?;
        // Only the first frame of a message says whether that is deflated.
        let begins = matches!(header.opcode, OpCode::Data(Data::Text | Data::Binary));
        let is_marked = header.rsv1 && !(self.inflates && begins);
        if is_marked || header.rsv2 || header.rsv3 {
            return Err(protocol_error());
        }
        match header.opcode {
            OpCode::Control(_) if !header.is_final || length > MAX_CONTROL => {
                return Err(protocol_error());
            }
            OpCode::Control(_) => return Ok(mask),
            OpCode::Data(Data::Continue) if self.message.is_none() => return Err(protocol_error()),
            OpCode::Data(Data::Continue) => {}
            OpCode::Data(_) if self.message.is_some() => return Err(protocol_error()),
            OpCode::Data(_) => {}
        }
        let before = self
            .message
            .as_ref()
            .map_or(0, |message| message.bytes.len());
        if length > (self.max_message - before) as u64 {
            return Err(Stop::Violation(CloseCode::Size));
        }
        Ok(mask)
    }

    fn take_frame(
        &mut self,
        header: &FrameHeader,
        payload: &[u8],
        messages: &mut impl Messages,
    ) -> Result<(), Stop> {
        let is_text = match header.opcode {
            PING => {
                messages.ping(payload);
                return Ok(());
            }
            PONG => return Ok(()),
            CLOSE => return Err(closed(payload)),
            OpCode::Control(Control::Reserved(_)) | OpCode::Data(Data::Reserved(_)) => {
                return Err(protocol_error());
            }
            OpCode::Data(Data::Continue) => {
                let Some(message) = &mut self.message else {
                    return Err(protocol_error());
                };
                message.bytes.extend_from_slice(payload);
                if !header.is_final {
                    return Ok(());
                }
                let Some(message) = self.message.take() else {
                    return Err(protocol_error());
                };
                let Fragments {
                    is_text,
                    is_deflated,
                    bytes,
                } = &*message;
                return self.hand_over(*is_text, *is_deflated, bytes, messages);
            }
            opcode => opcode == TEXT,
        };
        if header.is_final {
            return self.hand_over(is_text, header.rsv1, payload, messages);
        }
        self.message = Some(Box::new(Fragments {
            is_text,
            is_deflated: header.rsv1,
            bytes: payload.to_vec(),
        }));
        Ok(())
    }

    fn hand_over(
        &mut self,
        is_text: bool,
        is_deflated: bool,
        bytes: &[u8],
        messages: &mut impl Messages,
    ) -> Result<(), Stop> {
        if !is_deflated {
            return hand_over(is_text, bytes, messages);
        }
        let inflated = inflate(bytes, self.max_message);
        let inflated = inflated.map_err(|unreadable| {
            Stop::Violation(match unreadable {
                Unreadable::Corrupt => CloseCode::Invalid,
                Unreadable::TooLarge => CloseCode::Size,
            })
        })?;
        self.inflated += inflated.len();
        hand_over(is_text, &inflated, messages)
    }
}

fn hand_over(is_text: bool, bytes: &[u8], messages: &mut impl Messages) -> Result<(), Stop> {
    match is_text {
        true => {
            messages.text(str::from_utf8(bytes).map_err(|_| Stop::Violation(CloseCode::Invalid))?)
        }
        false => messages.binary(bytes),
    }
}

/// What a Close frame says.
fn closed(payload: &[u8]) -> Stop {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return match payload {
            [] => Stop::Closed(None),
            _ => protocol_error(),
        };
    };
    let code = CloseCode::from(u16::from_be_bytes(*code));
    match (code.is_allowed(), str::from_utf8(reason)) {
        (true, Ok(_)) => Stop::Closed(Some(code)),
        (true, Err(_)) => Stop::Violation(CloseCode::Invalid),
        (false, _) => protocol_error(),
    }
}

fn protocol_error() -> Stop {
    Stop::Violation(CloseCode::Protocol)
}
