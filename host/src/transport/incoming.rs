//! The frames of a client's websocket: events go straight to their receivers, everything else goes
//! on to socketioxide, and the order in which they came is kept.
//!
//! A frame that goes on stops what is behind it until socketioxide has dealt with it, which it has
//! when it reads again: it handles one message after the other.

use tokio::io::ReadBuf;

use super::{
    event_name::{self, Name},
    frame::{self, Header},
    session::Session,
};

/// The bit of a frame's first byte that says that it ends its message.
const LAST: u8 = 0x80;

/// The opcodes of control frames, which may stand between the parts of a message, begin here.
const CONTROL: u8 = 0x08;

/// What came from a client and has not been dealt with.
pub struct Incoming {
    /// Larger frames are socketioxide's to refuse; they are not held.
    max_frame: u64,
    /// How much of the frame under way is still to be passed on.
    passing: u64,
    /// The message under way has more parts.
    is_fragmented: bool,
    /// How many attachments of the packet under way are still to come.
    attachments: usize,
    /// A frame whose end is missing, or frames that must wait.
    held: Vec<u8>,
    /// What socketioxide reads next.
    ready: Vec<u8>,
}

impl Incoming {
    /// `held` is what the client has sent already.
    pub fn new(max_frame: u64, held: Vec<u8>) -> Self {
        Self {
            max_frame,
            passing: 0,
            is_fragmented: false,
            attachments: 0,
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
            held.drain(..done);
            self.held = held;
        }
        done > 0
    }

    /// Nothing more will come: whatever is left, socketioxide may judge it. False if there is
    /// nothing.
    pub fn end(&mut self) -> bool {
        self.ready.append(&mut self.held);
        !self.ready.is_empty()
    }

    /// Deals with frames up to one that goes on to socketioxide or whose end is missing; returns
    /// how many bytes those were.
    fn deal(&mut self, bytes: &mut [u8], session: &Session) -> usize {
        let mut done = self.pass_on(bytes);
        while self.ready.is_empty() {
            let Some(header) = Header::parse(&bytes[done..]) else {
                break;
            };
            if !self.may_be_changed(&header) {
                self.note(&header);
                self.passing = header.frame_length();
                done += self.pass_on(&bytes[done..]);
                break;
            }
            // It fits: frames over the limit are not held.
            let frame = done..done + header.frame_length() as usize;
            let Some(frame) = bytes.get_mut(frame) else {
                break;
            };
            done += frame.len();
            let payload = &mut frame[header.size..];
            header.unmask_in_place(payload);
            if header.first != frame::TEXT || !session.deliver(payload) {
                self.note(&header);
                self.note_attachments(payload);
                self.forward(header.first, payload, session);
            }
        }
        done
    }

    /// Passes on what belongs to the frame under way.
    fn pass_on(&mut self, bytes: &[u8]) -> usize {
        let length = bytes
            .len()
            .min(usize::try_from(self.passing).unwrap_or(usize::MAX));
        self.passing -= length as u64;
        self.ready.extend_from_slice(&bytes[..length]);
        length
    }

    /// Whether a frame may hold an event, or at least the beginning of one.
    fn may_be_changed(&self, header: &Header) -> bool {
        matches!(header.first, frame::TEXT | frame::FIRST_TEXT)
            && header.mask.is_some()
            && header.length <= self.max_frame
            && !self.is_fragmented
            && self.attachments == 0
    }

    /// Keeps track of messages in parts and of attachments.
    fn note(&mut self, header: &Header) {
        let opcode = header.first & 0x0f;
        if opcode >= CONTROL {
            return;
        }
        if !self.is_fragmented {
            self.attachments = self.attachments.saturating_sub(1);
        }
        self.is_fragmented = header.first & LAST == 0;
    }

    /// A packet with attachments: `45` or `46`, and their number.
    fn note_attachments(&mut self, packet: &[u8]) {
        if let [b'4', b'5' | b'6', rest @ ..] = packet {
            let digits = rest.iter().take_while(|byte| byte.is_ascii_digit());
            self.attachments = digits.fold(0, |number: usize, digit| {
                number
                    .saturating_mul(10)
                    .saturating_add((digit - b'0').into())
            });
        }
    }

    /// Passes a text on, with a name that socketioxide can read, and has the namespace opened that
    /// it asks for.
    fn forward(&mut self, first: u8, packet: &[u8], session: &Session) {
        if let Some(rest) = event_name::connect(packet) {
            session.asks_for(rest);
        }
        match Name::of(packet.iter().copied()) {
            Name::Escaped(place) => {
                let mut escaped = Vec::with_capacity(packet.len());
                event_name::insert_stand_in(&mut escaped, &packet[..place], &packet[place..]);
                frame::push_masked(&mut self.ready, first, &escaped);
            }
            // Clients that cut messages into fragments do so far behind the name.
            Name::Plain | Name::Connect | Name::Cut => {
                frame::push_masked(&mut self.ready, first, packet)
            }
        }
    }
}
