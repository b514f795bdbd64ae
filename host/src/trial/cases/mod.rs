//! Cases of `mixlab test`: what clients send to plugins, and what is expected of them.

mod differences;
mod file;
mod run;

pub(crate) use self::{
    file::{Case, CaseFile, SUFFIX},
    run::{Failure, run},
};
