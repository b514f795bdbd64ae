//! Cases of `mixlab test`: what clients send to plugins, and what is expected of them.

mod checks;
mod differences;
mod file;
mod run;

pub(crate) use self::{
    differences::{Difference, Expected, compare},
    file::{Case, CaseFile, SUFFIX},
    run::{Failure, run},
};

#[cfg(test)]
pub(crate) use self::file::of_item as of_toml;
