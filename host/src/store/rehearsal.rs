//! A store's file as it would be: what is written to it is kept in memory, and the file stays as it is.

use std::{
    collections::HashMap,
    fs::{File, TryLockError},
    io,
    os::unix::fs::FileExt,
    path::Path,
};

use parking_lot::Mutex;
use redb::StorageBackend;

/// How much of the file is taken into memory for each write in it, in bytes.
const BLOCK_BYTES: u64 = 4096;

type Block = [u8; BLOCK_BYTES as usize];

/// A file under what was written since.
#[derive(Debug)]
pub(super) struct Rehearsal {
    /// Locked against those who would write to it.
    file: File,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    len: u64,
    /// How much of the file counts still.
    file_len: u64,
    /// What was written, by the numbers of the blocks.
    blocks: HashMap<u64, Box<Block>>,
}

impl Rehearsal {
    /// Of a file that is there; none if there is none. Who has it open writes to it: [`io::ErrorKind::WouldBlock`].
    pub(super) fn of(path: &Path) -> io::Result<Option<Self>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        match file.try_lock_shared() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let len = file.metadata()?.len();
        let state = State {
            len,
            file_len: len,
            blocks: HashMap::new(),
        };
        Ok((len > 0).then(|| Self {
            file,
            state: Mutex::new(state),
        }))
    }

    /// A block as it is in the file, with zeros where that has ended.
    fn of_file(&self, number: u64, file_len: u64) -> io::Result<Box<Block>> {
        let mut block = Box::new([0; BLOCK_BYTES as usize]);
        let start = number * BLOCK_BYTES;
        let there = file_len.saturating_sub(start).min(BLOCK_BYTES) as usize;
        self.file.read_exact_at(&mut block[..there], start)?;
        Ok(block)
    }
}

/// The part of a range of the file that is in one block.
struct Part {
    block: u64,
    /// Where it begins in the block.
    at: usize,
    /// Where it is in the range.
    range: std::ops::Range<usize>,
}

fn parts(offset: u64, len: usize) -> impl Iterator<Item = Part> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let position = offset + done as u64;
        let at = (position % BLOCK_BYTES) as usize;
        let end = len.min(done + BLOCK_BYTES as usize - at);
        let range = done..end;
        done = end;
        let block = position / BLOCK_BYTES;
        (!range.is_empty()).then_some(Part { block, at, range })
    })
}

impl StorageBackend for Rehearsal {
    fn len(&self) -> Result<u64, io::Error> {
        Ok(self.state.lock().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        let state = self.state.lock();
        if offset.saturating_add(out.len() as u64) > state.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for Part { block, at, range } in parts(offset, out.len()) {
            let out = &mut out[range];
            let until = at + out.len();
            match state.blocks.get(&block) {
                Some(written) => out.copy_from_slice(&written[at..until]),
                None => out.copy_from_slice(&self.of_file(block, state.file_len)?[at..until]),
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        let mut state = self.state.lock();
        if len < state.len {
            // What is behind it is gone, and zeros if it grows again.
            state.file_len = state.file_len.min(len);
            let last = len / BLOCK_BYTES;
            state.blocks.retain(|number, _| *number <= last);
            if let Some(block) = state.blocks.get_mut(&last) {
                block[(len % BLOCK_BYTES) as usize..].fill(0);
            }
        }
        state.len = len;
        Ok(())
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        let mut state = self.state.lock();
        state.len = state.len.max(offset.saturating_add(data.len() as u64));
        for Part { block, at, range } in parts(offset, data.len()) {
            let data = &data[range];
            if !state.blocks.contains_key(&block) {
                let former = self.of_file(block, state.file_len)?;
                state.blocks.insert(block, former);
            }
            if let Some(written) = state.blocks.get_mut(&block) {
                written[at..at + data.len()].copy_from_slice(data);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Write(u64, Vec<u8>),
        SetLen(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let bytes = prop::collection::vec(1..=255_u8, 1..9000);
        let step = prop_oneof![
            (0..20_000_u64, bytes).prop_map(|(at, bytes)| Step::Write(at, bytes)),
            (0..30_000_u64).prop_map(Step::SetLen),
        ];
        prop::collection::vec(step, 0..8)
    }

    proptest! {
        #[test]
        fn it_is_as_if_the_file_were_written_to(
            content in prop::collection::vec(1..=255_u8, 1..20_000),
            steps in steps(),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("file");
            std::fs::write(&path, &content).unwrap();
            let rehearsal = Rehearsal::of(&path).unwrap().unwrap();
            let mut model = content.clone();
            for step in steps {
                match step {
                    Step::Write(at, bytes) => {
                        rehearsal.write(at, &bytes).unwrap();
                        let (at, end) = (at as usize, at as usize + bytes.len());
                        model.resize(model.len().max(end), 0);
                        model[at..end].copy_from_slice(&bytes);
                    }
                    Step::SetLen(len) => {
                        rehearsal.set_len(len).unwrap();
                        model.resize(len as usize, 0);
                    }
                }
            }
            prop_assert_eq!(rehearsal.len().unwrap(), model.len() as u64);
            let mut read = vec![0; model.len()];
            rehearsal.read(0, &mut read).unwrap();
            prop_assert!(read == model);
            prop_assert!(rehearsal.read(1, &mut read).is_err());
            prop_assert!(std::fs::read(&path).unwrap() == content);
        }
    }
}
