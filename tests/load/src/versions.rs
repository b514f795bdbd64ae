//! Versions of one plugin, each a file of its own: the same component with another number in the
//! stamp that it reads at run time.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};

use crate::options::PluginOptions;

/// What stands before the number in the component's data.
const MARK: &[u8] = b"STAMP:";

/// How many digits the number has.
const DIGITS: usize = 8;

/// Makes the files of the plugin's versions, and puts them in place.
pub struct Versions {
    component: Vec<u8>,
    /// Where the number is.
    digits: usize,
    broken: Vec<(&'static str, Vec<u8>)>,
    /// The file that the server watches, and one beside its folder that it does not.
    place: PathBuf,
    staging: PathBuf,
}

impl Versions {
    /// From the guests' files; for the file `place`, staged in another folder of the same disk.
    pub fn new(files: &PluginOptions, place: PathBuf, staging: &Path) -> Result<Self> {
        let component = fs::read(files.stamped()?)?;
        let digits = stamp(&component)?;
        let half = component[..component.len() / 2].to_vec();
        let garbage = (0..component.len()).map(|_| fastrand::u8(..)).collect();
        let mut broken = vec![
            ("truncated", half),
            ("garbage", garbage),
            ("empty", Vec::new()),
        ];
        for name in ["describe_fails", "describe_traps", "describe_loops"] {
            broken.push((name, fs::read(files.named(name)?)?));
        }
        Ok(Self {
            component,
            digits,
            broken,
            place,
            staging: staging.join("staged.wasm"),
        })
    }

    /// Gets a version ready.
    pub fn stage(&mut self, version: u32) -> Result<()> {
        let number = format!("{version:0DIGITS$}");
        self.component[self.digits..self.digits + DIGITS].copy_from_slice(number.as_bytes());
        Ok(fs::write(&self.staging, &self.component)?)
    }

    /// Gets a file ready that must be refused; returns what is wrong with it. `turn` goes round
    /// the kinds.
    pub fn stage_broken(&self, turn: usize) -> Result<&'static str> {
        let (kind, bytes) = &self.broken[turn % self.broken.len()];
        fs::write(&self.staging, bytes)?;
        Ok(kind)
    }

    /// Puts what is ready in place, in one step.
    pub fn put(&self) -> Result<()> {
        Ok(fs::rename(&self.staging, &self.place)?)
    }
}

/// Where the number is in a component, which must hold exactly one.
fn stamp(component: &[u8]) -> Result<usize> {
    let stamps: Vec<usize> = component
        .windows(MARK.len() + DIGITS)
        .enumerate()
        .filter(|(_, bytes)| {
            bytes.starts_with(MARK) && bytes[MARK.len()..].iter().all(u8::is_ascii_digit)
        })
        .map(|(start, _)| start + MARK.len())
        .collect();
    ensure!(
        stamps.len() < 2,
        "the plugin holds {} stamps: which one counts?",
        stamps.len()
    );
    let first = stamps.first().copied();
    first.context("the plugin holds no stamp like STAMP:00000001 to make versions with")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_holds_exactly_one_stamp() {
        assert_eq!(stamp(b"..STAMP:00000001..").unwrap(), 8);
        for bytes in [b"STAMP:".as_slice(), b"", b"STAMP:00000001STAMP:00000002"] {
            assert!(stamp(bytes).is_err());
        }
    }
}
