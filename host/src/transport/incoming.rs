//! The frames of a client's websocket: events go straight to their receivers, everything else goes
//! on to socketioxide, and the order in which they came is kept.
//!
//! A frame that goes on stops what is behind it until socketioxide has dealt with it, which it has
//! when it reads again: it handles one message after the other. What must not go on is dropped; see
//! [`Passage`].

use bytes::{Buf, BytesMut};
use tokio::io::ReadBuf;

use super::{
    event_name::{self, Name},
    frame::{self, Header},
    passage::Passage,
    session::Session,
};

/// What came from a client and has not been dealt with.
pub struct Incoming {
    /// Larger messages are socketioxide's to refuse; they are not held.
    max_message: u64,
    /// How much of the frame under way is still to be passed on.
    passing: u64,
    /// How much of the frame under way is still to be dropped.
    skipping: u64,
    /// The message under way has more frames, which socketioxide puts together.
    is_fragmented: bool,
    /// The message under way is an attachment of a packet that was dropped.
    is_dropping: bool,
    /// The text under way, as far as its frames have come.
    text: Option<Vec<u8>>,
    passage: Passage,
    /// A frame whose end is missing, or frames that must wait.
    held: BytesMut,
    /// What socketioxide reads next.
    ready: Vec<u8>,
}

impl Incoming {
    /// `passage` knows what the client has sent by polling, `held` is what it has sent since.
    pub fn new(max_message: u64, passage: Passage, held: BytesMut) -> Self {
        Self {
            max_message,
            passing: 0,
            skipping: 0,
            is_fragmented: false,
            is_dropping: false,
            text: None,
            passage,
            held,
            ready: Vec::new(),
        }
    }

    /// Has socketioxide read a packet as if the client had sent it. True if it could be done now:
    /// between two frames.
    pub fn insert(&mut self, packet: &[u8]) -> bool {
        let is_between_frames = self.passing == 0;
        if is_between_frames {
            frame::push_masked(&mut self.ready, frame::TEXT, packet);
        }
        is_between_frames
    }

    /// Hands over what socketioxide is to read; false if there is nothing.
    pub fn read(&mut self, buffer: &mut ReadBuf<'_>) -> bool {
        if self.ready.is_empty() {
            return false;
        }
        let length = self.ready.len().min(buffer.remaining());
        buffer.put_slice(&self.ready[..length]);
        self.ready.drain(..length);
        if self.ready.is_empty() {
            // An idle connection keeps no memory of a busy moment.
            self.ready = Vec::new();
        }
        true
    }

    /// socketioxide reads again: it has dealt with what it has read before.
    pub fn settle(&mut self, session: &Session) {
        if self.passing == 0 && !self.is_fragmented {
            self.passage.settle(session);
        }
    }

    /// Takes bytes from the client. The events among them go to their receivers.
    pub fn take(&mut self, bytes: &mut [u8], session: &Session) {
        if self.held.is_empty() {
            let done = self.deal(bytes, session);
            self.held.extend_from_slice(&bytes[done..]);
        } else {
            self.held.extend_from_slice(bytes);
            self.go_on(session);
        }
    }

    /// Deals with what had to wait; true if that was anything.
    pub fn go_on(&mut self, session: &Session) -> bool {
        if self.held.is_empty() {
            return false;
        }
        let mut held = std::mem::take(&mut self.held);
        let done = self.deal(&mut held, session);
        if done < held.len() {
            held.advance(done);
            self.held = held;
        }
        done > 0
    }

    /// Nothing more will come: whatever is left, socketioxide may judge it. False if there is
    /// nothing.
    pub fn end(&mut self) -> bool {
        self.give_back_text();
        self.ready
            .extend_from_slice(&std::mem::take(&mut self.held));
        !self.ready.is_empty()
    }

    /// Deals with frames up to one that goes on to socketioxide or whose end is missing; returns
    /// how many bytes those were.
    fn deal(&mut self, bytes: &mut [u8], session: &Session) -> usize {
        let mut done = self.pass_on(bytes);
        done += self.skip(&bytes[done..]);
        while self.ready.is_empty() {
            let Some(header) = Header::parse(&bytes[done..]) else {
                break;
            };
            if !self.is_text(&header) {
                if self.passes(&header) {
                    self.passing = header.frame_length();
                    done += self.pass_on(&bytes[done..]);
                    break;
                }
                self.skipping = header.frame_length();
                done += self.skip(&bytes[done..]);
                continue;
            }
            // It fits: what is over the limit is not held.
            let frame = done..done + header.frame_length() as usize;
            let Some(frame) = bytes.get_mut(frame) else {
                break;
            };
            done += frame.len();
            let payload = &mut frame[header.size..];
            header.unmask_in_place(payload);
            match (self.text.take(), header.is_last()) {
                (None, true) => self.deal_with(payload, session),
                (None, false) => self.text = Some(payload.to_vec()),
                (Some(mut text), is_last) => {
                    text.extend_from_slice(payload);
                    match is_last {
                        true => self.deal_with(&text, session),
                        false => self.text = Some(text),
                    }
                }
            }
        }
        done
    }

    /// Hands a whole text to who takes it.
    fn deal_with(&mut self, text: &[u8], session: &Session) {
        if !session.receivers.deliver(text) && self.passage.passes(text, session) {
            self.forward(text, session);
        }
    }

    /// Passes on what belongs to the frame under way.
    fn pass_on(&mut self, bytes: &[u8]) -> usize {
        let length = take_part(&mut self.passing, bytes);
        self.ready.extend_from_slice(&bytes[..length]);
        length
    }

    /// Drops what belongs to the frame under way.
    fn skip(&mut self, bytes: &[u8]) -> usize {
        take_part(&mut self.skipping, bytes)
    }

    /// Whether a frame is a text, or a part of one, that may hold an event.
    fn is_text(&self, header: &Header) -> bool {
        let is_part = match &self.text {
            None => {
                matches!(header.first, frame::TEXT | frame::FIRST_TEXT)
                    && !self.passage.awaits_attachments()
            }
            Some(_) => header.is_continuation(),
        };
        let before = self.text.as_ref().map_or(0, Vec::len) as u64;
        is_part
            && !self.is_fragmented
            && header.mask.is_some()
            && header.length <= self.max_message.saturating_sub(before)
    }

    /// Whether a frame is passed on. Keeps track of messages in parts and of attachments.
    fn passes(&mut self, header: &Header) -> bool {
        if header.is_control() {
            return true;
        }
        self.give_back_text();
        if !self.is_fragmented {
            self.is_dropping = !self.passage.attachment_passes();
        }
        self.is_fragmented = !header.is_last();
        !self.is_dropping
    }

    /// Has socketioxide judge a text whose next frame is none that could follow, or is too much.
    fn give_back_text(&mut self) {
        if let Some(text) = self.text.take() {
            frame::push_masked(&mut self.ready, frame::FIRST_TEXT, &text);
            self.is_fragmented = true;
            self.is_dropping = false;
        }
    }

    /// Passes a text on, with a name that socketioxide can read, and has the namespace opened that
    /// it asks for.
    fn forward(&mut self, packet: &[u8], session: &Session) {
        if let Some(rest) = event_name::connect(packet) {
            session.asks_for(rest);
        }
        match Name::of(packet.iter().copied()) {
            Name::Escaped(place) => {
                let mut escaped = Vec::with_capacity(packet.len());
                event_name::insert_stand_in(&mut escaped, &packet[..place], &packet[place..]);
                frame::push_masked(&mut self.ready, frame::TEXT, &escaped);
            }
            Name::Plain | Name::Connect | Name::Cut => {
                frame::push_masked(&mut self.ready, frame::TEXT, packet)
            }
        }
    }
}

/// Takes the bytes that belong to a part of which so much is still to come; returns how many those are.
fn take_part(left: &mut u64, bytes: &[u8]) -> usize {
    let length = bytes
        .len()
        .min(usize::try_from(*left).unwrap_or(usize::MAX));
    *left -= length as u64;
    length
}
