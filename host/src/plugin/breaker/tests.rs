use std::{
    collections::HashSet,
    net::IpAddr,
    time::{Duration, Instant},
};

use proptest::{collection::vec, prelude::*};

use super::{circuit::MAX_CLIENTS, *};
use crate::address::ClientNetwork;

const PAUSE: Duration = Duration::from_secs(1);

fn config(failures: u32) -> config::Breaker {
    config::Breaker {
        failures,
        pause: PAUSE,
        max_pause: PAUSE * 3,
    }
}

fn circuit(on_failure: OnFailure) -> Circuit {
    circuit_of(4, on_failure)
}

fn circuit_of(failures: u32, on_failure: OnFailure) -> Circuit {
    Circuit::new(config(failures), on_failure)
}

fn client(number: u8) -> ClientNetwork {
    ClientAddress::from(IpAddr::from([10, 0, 0, number])).network()
}

/// What so many failed calls of one client begin.
fn fail(circuit: &Circuit, client: ClientNetwork, times: usize, now: Instant) -> Vec<Begun> {
    (0..times)
        .filter_map(|_| circuit.failed_at(client, now))
        .collect()
}

fn succeed(circuit: &Circuit, number: u8) {
    circuit.succeeded(client(number));
}

fn paused(circuit: &Circuit) -> Pauses {
    let mut clients = HashSet::new();
    let everybody = circuit.paused(&mut clients);
    Pauses {
        everybody,
        addresses: clients.len(),
    }
}

const FOR_PAUSE: Result<(), Paused> = Err(Paused::For(PAUSE));

#[test]
fn failures_of_one_client_pause_it_alone_and_its_good_call_ends_that() {
    let (circuit, now) = (circuit(OnFailure::Reject), Instant::now());
    let [bad, other] = [client(1), client(2)];
    assert_eq!(fail(&circuit, bad, 3, now), []);
    succeed(&circuit, 2);
    assert_eq!(
        fail(&circuit, bad, 3, now),
        [],
        "a good call of anybody ends the row"
    );
    assert_eq!(fail(&circuit, bad, 1, now), [Begun::ForClient]);
    assert_eq!(circuit.admit_at(bad, now), FOR_PAUSE);
    assert_eq!(circuit.admit_at(other, now), Ok(()));
    assert_eq!(
        paused(&circuit),
        Pauses {
            everybody: false,
            addresses: 1
        }
    );
    succeed(&circuit, 2);
    assert_eq!(
        circuit.admit_at(bad, now),
        FOR_PAUSE,
        "it is not the other's to end"
    );
    assert_eq!(circuit.admit_at(bad, now + PAUSE), Ok(()), "one is tried");
    assert_eq!(
        circuit.admit_at(bad, now + PAUSE),
        FOR_PAUSE,
        "and no other"
    );
    succeed(&circuit, 1);
    assert_eq!(circuit.admit_at(bad, now), Ok(()));
    assert_eq!(paused(&circuit), Pauses::default());
    assert!(!circuit.has_signs(), "good calls lock nothing again");
}

#[test]
fn failures_of_several_clients_pause_the_plugin_for_everybody() {
    let (circuit, now) = (circuit(OnFailure::Reject), Instant::now());
    let [one, two, three] = [client(1), client(2), client(3)];
    assert_eq!(fail(&circuit, one, 2, now), []);
    assert_eq!(fail(&circuit, two, 2, now), [Begun::ForEverybody]);
    for client in [one, two, three] {
        assert_eq!(circuit.admit_at(client, now), FOR_PAUSE);
    }
    assert_eq!(
        paused(&circuit),
        Pauses {
            everybody: true,
            addresses: 0
        }
    );
    assert_eq!(circuit.admit_at(three, now + PAUSE), Ok(()), "one is tried");
    assert_eq!(
        circuit.admit_at(one, now + PAUSE),
        FOR_PAUSE,
        "and no other"
    );
    succeed(&circuit, 3);
    assert_eq!(circuit.admit_at(one, now), Ok(()));
    assert_eq!(paused(&circuit), Pauses::default());
}

#[test]
fn no_client_counts_for_more_than_half_of_a_pause_for_everybody() {
    let (circuit, now) = (circuit(OnFailure::Disable), Instant::now());
    let [bad, other] = [client(1), client(2)];
    assert_eq!(fail(&circuit, bad, 100, now), [Begun::ForClient]);
    assert_eq!(fail(&circuit, other, 1, now), []);
    assert_eq!(circuit.admit_at(other, now), Ok(()));
    assert_eq!(fail(&circuit, other, 1, now), [Begun::Disabled]);
}

#[test]
fn a_single_failure_is_enough_for_a_client_and_two_are_for_everybody() {
    let (circuit, now) = (circuit_of(1, OnFailure::Reject), Instant::now());
    assert_eq!(fail(&circuit, client(1), 1, now), [Begun::ForClient]);
    assert_eq!(fail(&circuit, client(2), 1, now), [Begun::ForEverybody]);
}

#[test]
fn each_failed_trial_doubles_the_pause_up_to_the_longest() {
    for clients in [[client(1), client(1)], [client(1), client(2)]] {
        let (circuit, mut now) = (circuit(OnFailure::Reject), Instant::now());
        for client in clients {
            fail(&circuit, client, 2, now);
        }
        for expected in [PAUSE * 2, PAUSE * 3, PAUSE * 3] {
            now += PAUSE * 4;
            assert_eq!(circuit.admit_at(clients[0], now), Ok(()));
            assert_eq!(fail(&circuit, clients[0], 1, now).len(), 1);
            assert_eq!(
                circuit.admit_at(clients[0], now),
                Err(Paused::For(expected))
            );
        }
    }
}

#[test]
fn a_trial_that_never_ends_is_followed_by_another() {
    let (circuit, now) = (circuit(OnFailure::Reject), Instant::now());
    fail(&circuit, client(1), 4, now);
    for round in 1..4 {
        assert_eq!(circuit.admit_at(client(1), now + PAUSE * round), Ok(()));
    }
}

#[test]
fn calls_under_way_do_not_lengthen_a_pause() {
    let (circuit, now) = (circuit(OnFailure::Reject), Instant::now());
    assert_eq!(fail(&circuit, client(1), 9, now), [Begun::ForClient]);
    assert_eq!(circuit.admit_at(client(1), now), FOR_PAUSE);
    assert_eq!(fail(&circuit, client(2), 9, now), [Begun::ForEverybody]);
    assert_eq!(circuit.admit_at(client(2), now), FOR_PAUSE);
}

#[test]
fn a_plugin_may_be_switched_off_instead_and_stays_so() {
    let (circuit, now) = (circuit(OnFailure::Disable), Instant::now());
    fail(&circuit, client(1), 2, now);
    fail(&circuit, client(2), 2, now);
    // Those were under way.
    succeed(&circuit, 1);
    succeed(&circuit, 3);
    for client in [client(1), client(3)] {
        assert_eq!(
            circuit.admit_at(client, now + PAUSE * 9),
            Err(Paused::Disabled)
        );
    }
    assert!(paused(&circuit).everybody);
}

#[test]
fn calls_of_one_kind_pause_no_others() {
    use CallKind::{Connect, Disconnect, Event};
    let kinds = [Event, Connect, Disconnect];
    let addresses = [1, 2].map(|number| ClientAddress::from(IpAddr::from([10, 0, 0, number])));
    for bad in kinds {
        for (failing, expected) in [
            (
                &addresses[..1],
                Pauses {
                    everybody: false,
                    addresses: 1,
                },
            ),
            (
                &addresses,
                Pauses {
                    everybody: true,
                    addresses: 0,
                },
            ),
        ] {
            let breaker = Breaker::new(&config(4), OnFailure::Reject);
            for (count, address) in (0..4).zip(failing.iter().cycle()) {
                // In between, others go well.
                for good in kinds.into_iter().filter(|good| *good != bad) {
                    assert_eq!(breaker.admit(good, *address), Ok(()), "{count}");
                    breaker.succeeded(good, *address);
                }
                breaker.failed(bad, *address);
            }
            for kind in kinds {
                assert_eq!(breaker.admit(kind, addresses[0]).is_err(), kind == bad);
            }
            assert_eq!(breaker.paused(), expected);
        }
    }
}

#[test]
fn an_address_that_is_paused_for_two_kinds_is_one() {
    let breaker = Breaker::new(&config(1), OnFailure::Reject);
    let address = ClientAddress::from(IpAddr::from([10, 0, 0, 1]));
    for kind in [CallKind::Event, CallKind::Connect] {
        assert_eq!(breaker.failed(kind, address), Some(Begun::ForClient));
    }
    assert_eq!(breaker.paused().addresses, 1);
}

#[test]
fn a_plugin_that_is_switched_off_is_so_for_all_calls() {
    let breaker = Breaker::new(&config(2), OnFailure::Disable);
    for number in [1, 2] {
        let address = IpAddr::from([10, 0, 0, number]).into();
        breaker.failed(CallKind::Event, address);
    }
    let address = IpAddr::from([10, 0, 0, 3]).into();
    for kind in [CallKind::Event, CallKind::Connect, CallKind::Disconnect] {
        assert_eq!(breaker.admit(kind, address), Err(Paused::Disabled));
        assert_eq!(breaker.failed(kind, address), None);
    }
}

#[test]
fn zero_failures_never_pause() {
    let circuit = circuit_of(0, OnFailure::Reject);
    for number in 1..9 {
        assert_eq!(fail(&circuit, client(number), 100, Instant::now()), []);
    }
    assert_eq!(circuit.admit(client(1)), Ok(()));
}

#[test]
fn the_memory_of_clients_is_bounded_and_the_last_is_remembered() {
    let (circuit, now) = (circuit_of(1, OnFailure::Reject), Instant::now());
    let client = |number: u32| {
        let address = IpAddr::from((0x0a00_0000 + number).to_be_bytes());
        ClientAddress::from(address).network()
    };
    let begin = |number, now| {
        fail(&circuit, client(number), 1, now);
        // Ends the row, so that nobody else is paused.
        succeed(&circuit, 99);
    };
    let most = u32::try_from(MAX_CLIENTS).unwrap();
    for number in 0..most + 9 {
        begin(number, now + Duration::from_micros(number.into()));
    }
    assert_eq!(paused(&circuit).addresses, MAX_CLIENTS);
    assert!(circuit.admit_at(client(most + 8), now).is_err());
    assert_eq!(
        circuit.admit_at(client(0), now),
        Ok(()),
        "the first is forgotten"
    );
    begin(most + 9, now + PAUSE * 9);
    assert_eq!(paused(&circuit).addresses, 1, "and those that stayed away");
}

proptest! {
    #[test]
    fn who_needs_not_ask_the_state_is_paused_by_nothing_in_it(
        failures in 0..4_u32,
        calls in vec((0..4_u8, 0..3_u8, 0..3_u32), 0..40),
    ) {
        let circuit = circuit_of(failures, OnFailure::Reject);
        let mut now = Instant::now();
        for (number, what, later) in calls {
            let one = client(number);
            now += PAUSE * later / 2;
            match what {
                0 => _ = circuit.failed_at(one, now),
                1 => circuit.succeeded(one),
                _ => _ = circuit.admit_at(one, now),
            }
            for client in (0..4).map(client) {
                let asks = circuit.may_be_paused(client);
                prop_assert!(asks || circuit.admit_at(client, now) == Ok(()));
            }
        }
    }
}
