//! How many requests of a backend are under way at once.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;

use crate::{admission::RATE_LIMITED, error::WireError};

/// When it is worth another try: others end at any time.
const RETRY: Duration = Duration::from_secs(1);

/// The numbers by the names of the keys. Reloads leave them as they are.
#[derive(Clone, Default)]
pub(crate) struct InFlight(Arc<Mutex<HashMap<Box<str>, usize>>>);

/// A request is under way until this is dropped.
pub(super) struct Place {
    all: InFlight,
    name: Box<str>,
}

impl InFlight {
    /// A request with the key of this name begins, if there are not as many as there may be.
    pub(super) fn take(&self, name: &str, most: usize) -> Result<Place, WireError> {
        let mut counts = self.0.lock();
        let count = counts.entry(name.into()).or_default();
        if *count >= most {
            let message = format!("{most} requests with this API key are under way already");
            return Err(WireError::temporary(RATE_LIMITED, message).with_retry_after(RETRY));
        }
        *count += 1;
        Ok(Place {
            all: self.clone(),
            name: name.into(),
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.all.0.lock();
        if let Some(count) = counts.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_places_of_its_own_and_gets_them_back() {
        let all = InFlight::default();
        let places: Vec<_> = (0..2).map(|_| all.take("a", 2).unwrap()).collect();
        let refused = all.take("a", 2).err().unwrap();
        assert_eq!((&*refused.code, refused.temporary), ("rate_limited", true));
        let other = all.take("b", 1).unwrap();
        drop(places);
        all.take("a", 1).unwrap();
        drop(other);
        assert!(all.0.lock().is_empty(), "nothing is left of them");
    }
}
