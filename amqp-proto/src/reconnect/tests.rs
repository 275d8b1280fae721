//! What policies must do, on a clock that is a number.

use super::*;
use crate::wire::{MethodId, ReplyCode};
use crate::{ConnectionState, PeerClose, TransportError};
use alloc::format;
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);

/// 1 s, 2 s, 4 s …
fn plain() -> Backoff {
    Backoff::new(1).initial(SECOND).jitter(0.0)
}

fn lost() -> CloseReason {
    CloseReason::Transport {
        state: ConnectionState::Open,
        error: TransportError::end_of_stream(),
    }
}

fn hung_up() -> CloseReason {
    CloseReason::AuthRefused { peer: None }
}

fn refused() -> CloseReason {
    let peer = PeerClose::new(ReplyCode::ACCESS_REFUSED, "ACCESS_REFUSED", None);
    CloseReason::AuthRefused { peer: Some(peer) }
}

fn at(seconds: u64) -> Instant {
    Instant::EPOCH + Duration::from_secs(seconds)
}

fn connect(host: usize, seconds: u64) -> ReconnectAction {
    let at = at(seconds);
    ReconnectAction::ConnectAt { host, at }
}

fn seconds(backoff: &mut Backoff, count: usize) -> Vec<u64> {
    (0..count)
        .map(|_| backoff.next_delay().unwrap().as_secs())
        .collect()
}

#[test]
fn delays_double_up_to_the_longest_and_start_anew() {
    let mut backoff = plain();
    assert_eq!(seconds(&mut backoff, 7), [1, 2, 4, 8, 16, 30, 30]);
    backoff.reset();
    assert_eq!(seconds(&mut backoff, 2), [1, 2]);
    let mut backoff = plain().multiplier(10.0).max(50 * SECOND);
    assert_eq!(seconds(&mut backoff, 4), [1, 10, 50, 50]);
    assert_eq!(seconds(&mut plain().max(Duration::ZERO), 2), [0, 0]);
}

#[test]
fn the_defaults_are_half_a_second_to_half_a_minute_without_end() {
    let mut backoff = Backoff::new(3).jitter(0.0);
    assert_eq!(backoff.next_delay(), Some(Duration::from_millis(500)));
    assert_eq!(
        (0..1000).filter_map(|_| backoff.next_delay()).max(),
        Some(30 * SECOND)
    );
    let first = Backoff::new(3).next_delay().unwrap();
    assert!(first < Duration::from_millis(500) && first >= Duration::from_millis(250));
}

#[test]
fn attempts_end_and_come_back_with_a_reset() {
    let mut backoff = plain().attempts(2);
    assert_eq!(seconds(&mut backoff, 2), [1, 2]);
    assert_eq!(backoff.next_delay(), None);
    assert_eq!(backoff.next_delay(), None);
    backoff.reset();
    assert_eq!(seconds(&mut backoff, 2), [1, 2]);
    assert_eq!(backoff.next_delay(), None);
    assert_eq!(plain().attempts(0).next_delay(), None);
}

#[test]
fn numbers_that_make_no_sense_are_taken_for_the_nearest_that_do() {
    for multiplier in [f64::NAN, -1.0, 0.0, f64::NEG_INFINITY] {
        assert_eq!(seconds(&mut plain().multiplier(multiplier), 3), [1, 1, 1]);
    }
    assert_eq!(seconds(&mut plain().multiplier(f64::INFINITY), 3), [1, 30, 30]);
    for jitter in [f64::NAN, -1.0] {
        assert_eq!(seconds(&mut plain().jitter(jitter), 2), [1, 2]);
    }
    assert_eq!(plain().jitter(7.0), plain().jitter(1.0));
}

#[test]
fn a_seed_settles_the_sequence_and_another_seed_is_another_one() {
    let delays = |seed| {
        let mut backoff = Backoff::new(seed);
        (0..20).map(|_| backoff.next_delay()).collect::<Vec<_>>()
    };
    assert_eq!(delays(1), delays(1));
    assert_ne!(delays(1), delays(2));
}

#[test]
fn splitmix64_is_the_published_one() {
    let mut random = SplitMix64(1_234_567);
    let numbers = [random.next(), random.next(), random.next()];
    assert_eq!(
        numbers,
        [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423
        ]
    );
}

#[test]
fn a_reset_goes_on_with_the_random_numbers() {
    let mut backoff = Backoff::new(9);
    let first = backoff.next_delay();
    backoff.reset();
    assert_ne!(backoff.next_delay(), first);
}

proptest! {
    #[test]
    fn delays_stay_within_their_bounds(
        seed: u64, initial: u64, max: u64, multiplier in -1.0e3..1.0e12, jitter in -0.5..1.5,
    ) {
        let (initial, max) = (Duration::from_nanos(initial), Duration::from_nanos(max));
        let settings = || Backoff::new(seed).initial(initial).max(max).multiplier(multiplier);
        let (mut whole, mut cut) = (settings().jitter(0.0), settings().jitter(jitter));
        let mut before = Duration::ZERO;
        for _ in 0..40 {
            let (whole, cut) = (whole.next_delay().unwrap(), cut.next_delay().unwrap());
            prop_assert!(whole >= before.saturating_sub(Duration::from_micros(10)) && whole <= max);
            let least = whole.as_secs_f64() * (1.0 - jitter.clamp(0.0, 1.0));
            prop_assert!(cut <= max && cut <= whole + Duration::from_micros(10));
            prop_assert!(cut.as_secs_f64() >= least - 1e-5);
            before = whole;
        }
    }

    #[test]
    fn no_value_overflows(seed: u64, multiplier: f64, jitter: f64, attempts: Option<u32>) {
        for duration in [Duration::ZERO, Duration::from_nanos(1), SECOND, Duration::MAX] {
            let backoff = Backoff::new(seed).initial(duration).max(Duration::MAX).multiplier(multiplier).jitter(jitter);
            let backoff = match attempts {
                Some(attempts) => backoff.attempts(attempts),
                None => backoff,
            };
            let mut reconnect = Reconnect::new(ReconnectPolicy::new(backoff), 2);
            for _ in 0..20 {
                let _ = reconnect.failed(&lost(), Instant::MAX);
            }
        }
    }

    #[test]
    fn a_shuffled_order_has_every_host_once(seed: u64, hosts in 0_usize..40) {
        let policy = ReconnectPolicy::new(Backoff::new(seed)).host_order(HostOrder::Shuffled);
        let mut order = Reconnect::new(policy, hosts).order;
        order.sort_unstable();
        prop_assert_eq!(order, (0..hosts).collect::<Vec<_>>());
    }
}

#[test]
fn seeds_spread_clients_over_all_orders_of_hosts() {
    let mut counts = [0; 9];
    for seed in 0..600 {
        let policy = ReconnectPolicy::new(Backoff::new(seed)).host_order(HostOrder::Shuffled);
        let reconnect = Reconnect::new(policy.clone(), 3);
        assert_eq!(reconnect.order, Reconnect::new(policy, 3).order);
        counts[reconnect.order[0] * 3 + reconnect.order[1]] += 1;
    }
    for (place, count) in counts.into_iter().enumerate() {
        // A host does not come twice; each of the six orders is that of about a hundred seeds.
        let expected = if place % 4 == 0 { 0..=0 } else { 60..=140 };
        assert!(expected.contains(&count), "{counts:?}");
    }
}

#[test]
fn the_delay_comes_after_a_round_of_all_hosts() {
    let mut reconnect = Reconnect::new(ReconnectPolicy::new(plain()), 3);
    assert_eq!(reconnect.start(at(0)), connect(0, 0));
    let actions: Vec<_> = (0..7).map(|_| reconnect.failed(&lost(), at(10))).collect();
    let expected = [(1, 10), (2, 10), (0, 11), (1, 10), (2, 10), (0, 12), (1, 10)];
    assert_eq!(actions, expected.map(|(host, seconds)| connect(host, seconds)));
}

#[test]
fn a_lost_connection_waits_first_and_its_round_begins_at_the_next_host() {
    let mut reconnect = Reconnect::new(ReconnectPolicy::new(plain()), 3);
    assert_eq!(reconnect.failed(&lost(), at(0)), connect(1, 0));
    reconnect.connected(at(0));
    let actions: Vec<_> = (0..4).map(|_| reconnect.failed(&lost(), at(100))).collect();
    let expected = [(2, 101), (0, 100), (1, 100), (2, 102)];
    assert_eq!(actions, expected.map(|(host, seconds)| connect(host, seconds)));
}

#[test]
fn only_a_connection_that_lived_starts_the_backoff_anew() {
    let policy = ReconnectPolicy::new(plain()).stable_after(5 * SECOND);
    let mut reconnect = Reconnect::new(policy, 1);
    assert_eq!(reconnect.failed(&lost(), at(0)), connect(0, 1));
    reconnect.connected(at(1));
    assert_eq!(reconnect.failed(&lost(), at(5)), connect(0, 7));
    reconnect.connected(at(10));
    assert_eq!(reconnect.failed(&lost(), at(15)), connect(0, 16));
    assert_eq!(ReconnectPolicy::new(plain()).stable_after, 30 * SECOND);
}

#[test]
fn attempts_that_are_used_up_end_it_with_the_last_reason() {
    let mut reconnect = Reconnect::new(ReconnectPolicy::new(plain().attempts(1)), 1);
    assert_eq!(reconnect.failed(&lost(), at(0)), connect(0, 1));
    let reason = GiveUpReason::Exhausted(lost());
    assert_eq!(
        reconnect.failed(&lost(), at(1)),
        ReconnectAction::GiveUp { reason }
    );
}

#[test]
fn without_hosts_there_is_nothing_to_do() {
    let mut reconnect = Reconnect::new(ReconnectPolicy::new(plain()), 0);
    let action = give_up(GiveUpReason::NoHosts);
    assert_eq!(reconnect.start(at(0)), action);
    assert_eq!(reconnect.failed(&lost(), at(0)), action);
}

#[test]
fn what_must_end_the_same_way_is_not_tried_again() {
    let open = MethodId {
        class: 10,
        method: 40,
    };
    let no_such_host = PeerClose::new(ReplyCode::NOT_ALLOWED, "vhost x not found", Some(open));
    for reason in [refused(), CloseReason::Peer(no_such_host)] {
        let mut reconnect = Reconnect::new(ReconnectPolicy::new(plain()), 2);
        let expected = give_up(GiveUpReason::Permanent(reason.clone()));
        assert_eq!(reconnect.failed(&reason, at(0)), expected);
    }
    let mut reconnect = Reconnect::new(ReconnectPolicy::new(plain()), 2);
    let requested = CloseReason::Requested { acknowledged: true };
    assert_eq!(
        reconnect.failed(&requested, at(0)),
        give_up(GiveUpReason::Requested)
    );
}

#[test]
fn three_hang_ups_running_are_a_refusal() {
    let end = give_up(GiveUpReason::Permanent(hung_up()));
    let mut reconnect = Reconnect::new(ReconnectPolicy::new(plain()), 2);
    assert_ne!(reconnect.failed(&hung_up(), at(0)), end);
    assert_ne!(reconnect.failed(&hung_up(), at(0)), end);
    // A TCP connection that fails in between: the broker restarts.
    assert_ne!(reconnect.failed(&lost(), at(0)), end);
    assert_ne!(reconnect.failed(&hung_up(), at(0)), end);
    assert_ne!(reconnect.failed(&hung_up(), at(0)), end);
    // So does a connection that opens.
    reconnect.connected(at(0));
    assert_ne!(reconnect.failed(&hung_up(), at(0)), end);
    assert_ne!(reconnect.failed(&hung_up(), at(0)), end);
    assert_eq!(reconnect.failed(&hung_up(), at(0)), end);
}

#[test]
fn a_classifier_overrides_either_way_or_abstains() {
    let policy = ReconnectPolicy::new(plain()).classifier(|reason| match reason {
        CloseReason::AuthRefused { .. } => Some(Verdict::Transient),
        CloseReason::Transport { .. } => Some(Verdict::Permanent),
        _ => None,
    });
    assert_eq!(format!("{:?}", policy.classifier), "Some(Classifier(..))");
    let mut reconnect = Reconnect::new(policy, 1);
    for (times, seconds) in [1, 2, 4, 8].into_iter().enumerate() {
        let reason = if times == 0 { refused() } else { hung_up() };
        assert_eq!(reconnect.failed(&reason, at(0)), connect(0, seconds));
    }
    assert_eq!(
        reconnect.failed(&lost(), at(0)),
        give_up(GiveUpReason::Permanent(lost()))
    );
    let other = CloseReason::HandshakeTimeout {
        state: ConnectionState::WaitingForStart,
    };
    assert_eq!(reconnect.failed(&other, at(0)), connect(0, 16));
}

#[test]
fn it_is_given_up_so_long_after_the_loss_whatever_attempts_are_left() {
    let mut reconnect = Reconnect::new(ReconnectPolicy::new(plain()).give_up_after(10 * SECOND), 1);
    assert_eq!(reconnect.give_up_at(), None);
    reconnect.connected(at(0));
    assert_eq!(reconnect.failed(&lost(), at(100)), connect(0, 101));
    assert_eq!(reconnect.give_up_at(), Some(at(110)));
    assert_eq!(reconnect.failed(&hung_up(), at(101)), connect(0, 103));
    assert_eq!(reconnect.failed(&lost(), at(104)), connect(0, 108));
    // Eight seconds more would be too late.
    let reason = GiveUpReason::TimedOut(hung_up());
    assert_eq!(
        reconnect.clone().failed(&hung_up(), at(109)),
        ReconnectAction::GiveUp { reason }
    );
    // The time counts from each loss anew.
    reconnect.connected(at(109));
    assert_eq!(reconnect.give_up_at(), None);
    assert_eq!(reconnect.failed(&lost(), at(150)), connect(0, 151));
    assert_eq!(reconnect.give_up_at(), Some(at(160)));
}
