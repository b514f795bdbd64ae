use super::*;

const PAUSE: Duration = Duration::from_secs(1);

fn breaker(on_failure: OnFailure) -> Breaker {
    breaker_of(4, on_failure)
}

fn breaker_of(failures: u32, on_failure: OnFailure) -> Breaker {
    let config = config::Breaker {
        failures,
        pause: PAUSE,
        max_pause: PAUSE * 3,
    };
    Breaker::new(config, on_failure)
}

fn address(text: &str) -> ClientAddress {
    text.parse::<IpAddr>().unwrap().into()
}

fn client(number: u8) -> ClientNetwork {
    ClientAddress::from(IpAddr::from([10, 0, 0, number])).network()
}

/// What so many failed calls of one client begin.
fn fail(breaker: &Breaker, client: ClientNetwork, times: usize, now: Instant) -> Vec<Begun> {
    (0..times)
        .filter_map(|_| breaker.failed_at(client, now))
        .collect()
}

fn succeed(breaker: &Breaker, number: u8) {
    breaker.succeeded(IpAddr::from([10, 0, 0, number]).into());
}

const FOR_PAUSE: Result<(), Paused> = Err(Paused::For(PAUSE));

#[test]
fn failures_of_one_client_pause_it_alone_and_its_good_call_ends_that() {
    let (breaker, now) = (breaker(OnFailure::Reject), Instant::now());
    let [bad, other] = [client(1), client(2)];
    assert_eq!(fail(&breaker, bad, 3, now), []);
    succeed(&breaker, 2);
    assert_eq!(
        fail(&breaker, bad, 3, now),
        [],
        "a good call of anybody ends the row"
    );
    assert_eq!(fail(&breaker, bad, 1, now), [Begun::ForClient]);
    assert_eq!(breaker.admit_at(bad, now), FOR_PAUSE);
    assert_eq!(breaker.admit_at(other, now), Ok(()));
    assert_eq!(
        breaker.paused(),
        Pauses {
            everybody: false,
            addresses: 1
        }
    );
    succeed(&breaker, 2);
    assert_eq!(
        breaker.admit_at(bad, now),
        FOR_PAUSE,
        "it is not the other's to end"
    );
    assert_eq!(breaker.admit_at(bad, now + PAUSE), Ok(()), "one is tried");
    assert_eq!(
        breaker.admit_at(bad, now + PAUSE),
        FOR_PAUSE,
        "and no other"
    );
    succeed(&breaker, 1);
    assert_eq!(breaker.admit_at(bad, now), Ok(()));
    assert_eq!(breaker.paused(), Pauses::default());
    assert_eq!(
        breaker.signs.load(Ordering::Relaxed),
        0,
        "good calls lock nothing again"
    );
}

#[test]
fn failures_of_several_clients_pause_the_plugin_for_everybody() {
    let (breaker, now) = (breaker(OnFailure::Reject), Instant::now());
    let [one, two, three] = [client(1), client(2), client(3)];
    assert_eq!(fail(&breaker, one, 2, now), []);
    assert_eq!(fail(&breaker, two, 2, now), [Begun::ForEverybody]);
    for client in [one, two, three] {
        assert_eq!(breaker.admit_at(client, now), FOR_PAUSE);
    }
    assert_eq!(
        breaker.paused(),
        Pauses {
            everybody: true,
            addresses: 0
        }
    );
    assert_eq!(breaker.admit_at(three, now + PAUSE), Ok(()), "one is tried");
    assert_eq!(
        breaker.admit_at(one, now + PAUSE),
        FOR_PAUSE,
        "and no other"
    );
    succeed(&breaker, 3);
    assert_eq!(breaker.admit_at(one, now), Ok(()));
    assert_eq!(breaker.paused(), Pauses::default());
}

#[test]
fn no_client_counts_for_more_than_half_of_a_pause_for_everybody() {
    let (breaker, now) = (breaker(OnFailure::Disable), Instant::now());
    let [bad, other] = [client(1), client(2)];
    assert_eq!(fail(&breaker, bad, 100, now), [Begun::ForClient]);
    assert_eq!(fail(&breaker, other, 1, now), []);
    assert_eq!(breaker.admit_at(other, now), Ok(()));
    assert_eq!(fail(&breaker, other, 1, now), [Begun::Disabled]);
}

#[test]
fn a_single_failure_is_enough_for_a_client_and_two_are_for_everybody() {
    let (breaker, now) = (breaker_of(1, OnFailure::Reject), Instant::now());
    assert_eq!(fail(&breaker, client(1), 1, now), [Begun::ForClient]);
    assert_eq!(fail(&breaker, client(2), 1, now), [Begun::ForEverybody]);
}

#[test]
fn each_failed_trial_doubles_the_pause_up_to_the_longest() {
    for clients in [[client(1), client(1)], [client(1), client(2)]] {
        let (breaker, mut now) = (breaker(OnFailure::Reject), Instant::now());
        for client in clients {
            fail(&breaker, client, 2, now);
        }
        for expected in [PAUSE * 2, PAUSE * 3, PAUSE * 3] {
            now += PAUSE * 4;
            assert_eq!(breaker.admit_at(clients[0], now), Ok(()));
            assert_eq!(fail(&breaker, clients[0], 1, now).len(), 1);
            assert_eq!(
                breaker.admit_at(clients[0], now),
                Err(Paused::For(expected))
            );
        }
    }
}

#[test]
fn a_trial_that_never_ends_is_followed_by_another() {
    let (breaker, now) = (breaker(OnFailure::Reject), Instant::now());
    fail(&breaker, client(1), 4, now);
    for round in 1..4 {
        assert_eq!(breaker.admit_at(client(1), now + PAUSE * round), Ok(()));
    }
}

#[test]
fn calls_under_way_do_not_lengthen_a_pause() {
    let (breaker, now) = (breaker(OnFailure::Reject), Instant::now());
    assert_eq!(fail(&breaker, client(1), 9, now), [Begun::ForClient]);
    assert_eq!(breaker.admit_at(client(1), now), FOR_PAUSE);
    assert_eq!(fail(&breaker, client(2), 9, now), [Begun::ForEverybody]);
    assert_eq!(breaker.admit_at(client(2), now), FOR_PAUSE);
}

#[test]
fn a_plugin_may_be_switched_off_instead_and_stays_so() {
    let (breaker, now) = (breaker(OnFailure::Disable), Instant::now());
    fail(&breaker, client(1), 2, now);
    fail(&breaker, client(2), 2, now);
    // Those were under way.
    succeed(&breaker, 1);
    succeed(&breaker, 3);
    for client in [client(1), client(3)] {
        assert_eq!(
            breaker.admit_at(client, now + PAUSE * 9),
            Err(Paused::Disabled)
        );
    }
    assert!(breaker.paused().everybody);
}

#[test]
fn zero_failures_never_pause() {
    let breaker = breaker_of(0, OnFailure::Reject);
    for number in 1..9 {
        assert_eq!(fail(&breaker, client(number), 100, Instant::now()), []);
    }
    assert_eq!(breaker.admit(address("10.0.0.1")), Ok(()));
}

#[test]
fn the_memory_of_clients_is_bounded_and_the_last_is_remembered() {
    let (breaker, now) = (breaker_of(1, OnFailure::Reject), Instant::now());
    let client = |number: u32| {
        let address = IpAddr::from((0x0a00_0000 + number).to_be_bytes());
        ClientAddress::from(address).network()
    };
    let begin = |number, now| {
        fail(&breaker, client(number), 1, now);
        // Ends the row, so that nobody else is paused.
        breaker.succeeded(address("::1"));
    };
    let most = u32::try_from(MAX_CLIENTS).unwrap();
    for number in 0..most + 9 {
        begin(number, now + Duration::from_micros(number.into()));
    }
    assert_eq!(breaker.state().clients.len(), MAX_CLIENTS);
    assert!(breaker.admit_at(client(most + 8), now).is_err());
    assert_eq!(
        breaker.admit_at(client(0), now),
        Ok(()),
        "the first is forgotten"
    );
    begin(most + 9, now + PAUSE * 9);
    assert_eq!(
        breaker.state().clients.len(),
        1,
        "and those that stayed away"
    );
}
