//! Who is believed of what comes over Redis.

pub(crate) mod seal;
pub(crate) mod signing;
