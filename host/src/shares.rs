//! How many of something the clients of one network may have, so that none takes the room of all others.

use ahash::HashMap;

use crate::{address::ClientNetwork, memory};

/// Counts by network.
pub(crate) struct Shares {
    by_network: HashMap<ClientNetwork, usize>,
    most: usize,
}

impl Shares {
    /// Nobody has any; each network may have so many.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            by_network: HashMap::default(),
            most,
        }
    }

    /// One more for this network; false if it has as many as it may.
    pub(crate) fn take(&mut self, network: ClientNetwork) -> bool {
        let share = self.by_network.entry(network).or_default();
        if *share >= self.most {
            return false;
        }
        *share += 1;
        true
    }

    /// One less.
    pub(crate) fn give_back(&mut self, network: ClientNetwork) {
        let Some(share) = self.by_network.get_mut(&network) else {
            return;
        };
        *share -= 1;
        if *share == 0 {
            self.by_network.remove(&network);
            memory::shrink(&mut self.by_network);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::address::ClientAddress;

    fn network(text: &str) -> ClientNetwork {
        ClientAddress::from(text.parse::<IpAddr>().unwrap()).network()
    }

    #[test]
    fn a_network_has_its_share_under_all_its_addresses_and_no_other_has_less_for_it() {
        let mut shares = Shares::new(2);
        for (address, is_given) in [
            ("2001:db8::1", true),
            ("2001:db8::2", true),
            ("2001:db8:0:0:ffff::3", false),
            ("2001:db8:0:1::1", true),
            ("192.0.2.1", true),
            ("::ffff:192.0.2.1", true),
            ("192.0.2.1", false),
            ("192.0.2.2", true),
        ] {
            assert_eq!(shares.take(network(address)), is_given, "{address}");
        }
        shares.give_back(network("::ffff:192.0.2.1"));
        assert!(shares.take(network("192.0.2.1")));
        assert!(!shares.take(network("192.0.2.1")));
    }

    #[test]
    fn nothing_is_kept_of_who_has_none() {
        let mut shares = Shares::new(0);
        assert!(!shares.take(network("192.0.2.1")));
        let mut shares = Shares::new(1);
        assert!(shares.take(network("192.0.2.1")));
        shares.give_back(network("192.0.2.1"));
        assert_eq!(shares.by_network.len(), 0);
    }
}
