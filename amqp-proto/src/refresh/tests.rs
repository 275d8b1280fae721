//! When to renew, on a clock that is a number.

use super::*;
use alloc::string::ToString;
use alloc::vec::Vec;
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);
const NANO: Duration = Duration::from_nanos(1);

fn at(seconds: u64) -> Instant {
    Instant::EPOCH + Duration::from_secs(seconds)
}

/// Without jitter; 1 s, 2 s, 4 s … after failures.
fn policy() -> RefreshPolicy {
    RefreshPolicy::new(Backoff::new(1).initial(SECOND).jitter(0.0)).jitter(0.0)
}

fn renewed(policy: RefreshPolicy, life: Duration) -> Refresh {
    let mut refresh = Refresh::new(policy);
    refresh.handle_renewed(Instant::EPOCH, Some(life));
    refresh
}

/// How long after its secret it asks.
fn pause(policy: RefreshPolicy, life: Duration) -> Duration {
    let ask_at = renewed(policy, life).ask_at.unwrap();
    ask_at.duration_since(Instant::EPOCH)
}

#[test]
fn the_next_secret_is_asked_for_at_four_fifths_of_the_life() {
    let mut refresh = Refresh::new(policy());
    assert_eq!((refresh.poll_timeout(), refresh.poll_step(at(9))), (None, None));
    refresh.handle_renewed(at(1000), Some(100 * SECOND));
    assert_eq!(refresh.poll_timeout(), Some(at(1080)));
    assert_eq!(refresh.poll_step(at(1079)), None);
    assert_eq!(refresh.poll_step(at(1080)), Some(RefreshStep::Ask));
    assert_eq!(refresh.poll_step(at(1080)), None, "it is being asked for");
    refresh.handle_renewed(at(1081), Some(200 * SECOND));
    assert_eq!(refresh.poll_timeout(), Some(at(1241)));
}

#[test]
fn what_lives_for_ever_is_not_renewed() {
    let mut refresh = renewed(policy(), SECOND);
    refresh.handle_renewed(at(1), None);
    assert_eq!(refresh.poll_timeout(), None);
    assert_eq!(refresh.poll_step(Instant::MAX), None);
    let refresh = renewed(policy(), Duration::MAX);
    assert_eq!(refresh.poll_timeout(), Some(Instant::MAX));
}

#[test]
fn failures_are_followed_by_growing_pauses_until_one_succeeds() {
    let mut refresh = renewed(policy(), 1000 * SECOND);
    let mut now = at(800);
    for delay in [SECOND, 2 * SECOND, 4 * SECOND] {
        assert_eq!(refresh.poll_timeout(), Some(now));
        assert_eq!(refresh.poll_step(now), Some(RefreshStep::Ask));
        // Asking took a second.
        assert_eq!(refresh.handle_failed(now + SECOND), Some(delay));
        now = now + SECOND + delay;
        assert_eq!(refresh.poll_timeout(), Some(now));
    }
    refresh.handle_renewed(now, Some(10 * SECOND));
    assert_eq!(refresh.poll_timeout(), Some(now + 8 * SECOND));
    assert_eq!(refresh.handle_failed(now), Some(SECOND), "it starts anew");
}

#[test]
fn a_life_that_ends_is_told_once_and_asking_goes_on() {
    let mut refresh = renewed(policy(), 100 * SECOND);
    assert_eq!(refresh.poll_step(at(80)), Some(RefreshStep::Ask));
    assert_eq!(refresh.poll_timeout(), Some(at(100)));
    assert_eq!(refresh.poll_step(at(99)), None);
    assert_eq!(refresh.handle_failed(at(99)), Some(SECOND));
    assert_eq!(refresh.poll_step(at(100)), Some(RefreshStep::Expired));
    assert_eq!(refresh.poll_step(at(100)), Some(RefreshStep::Ask));
    assert_eq!(refresh.poll_step(at(1000)), None);
    assert_eq!(refresh.poll_timeout(), None);
    refresh.handle_renewed(at(1000), Some(10 * SECOND));
    assert_eq!(refresh.poll_timeout(), Some(at(1008)));
}

#[test]
fn when_the_attempts_are_used_up_only_the_end_is_told() {
    let policy = RefreshPolicy::new(Backoff::new(1).initial(SECOND).jitter(0.0).attempts(1));
    let mut refresh = renewed(policy.jitter(0.0), 100 * SECOND);
    assert_eq!(refresh.poll_step(at(80)), Some(RefreshStep::Ask));
    assert_eq!(refresh.handle_failed(at(80)), Some(SECOND));
    assert_eq!(refresh.poll_step(at(81)), Some(RefreshStep::Ask));
    assert_eq!(refresh.handle_failed(at(82)), None);
    assert_eq!(refresh.poll_timeout(), Some(at(100)));
    assert_eq!(refresh.poll_step(at(100)), Some(RefreshStep::Expired));
    assert_eq!(refresh.poll_timeout(), None);
}

#[test]
fn a_secret_that_has_run_out_already_is_not_renewed_without_pause() {
    assert_eq!(pause(policy(), Duration::ZERO), SECOND);
    assert_eq!(pause(policy(), 2 * SECOND), Duration::from_millis(1600));
    assert_eq!(pause(policy().min_interval(5 * SECOND), 2 * SECOND), 5 * SECOND);
    assert_eq!(pause(policy().min_interval(Duration::ZERO), NANO), NANO);
    let mut refresh = renewed(policy(), Duration::ZERO);
    assert_eq!(refresh.poll_step(at(0)), Some(RefreshStep::Expired));
    assert_eq!(refresh.poll_step(at(0)), None);
}

#[test]
fn the_part_of_the_life_is_between_nothing_and_all() {
    let life = 100 * SECOND;
    for (part, expected) in [
        (0.5, 50),
        (1.0, 100),
        (7.0, 100),
        (0.0, 1),
        (-1.0, 1),
        (f64::NAN, 80),
    ] {
        assert_eq!(pause(policy().at(part), life), expected * SECOND, "{part}");
    }
    for jitter in [-1.0, f64::NAN] {
        assert_eq!(pause(policy().jitter(jitter), life), 80 * SECOND, "{jitter}");
    }
    let soon = pause(policy().jitter(5.0), life);
    assert!((SECOND..80 * SECOND).contains(&soon), "{soon:?}");
}

#[test]
fn the_defaults() {
    let defaults = RefreshPolicy::new(Backoff::new(1));
    assert_eq!((defaults.at, defaults.jitter), (0.8, 0.1));
    assert_eq!((defaults.min_interval, defaults.timeout), (SECOND, 30 * SECOND));
    assert_eq!(defaults.timeout(NANO).timeout, NANO);
}

#[test]
fn clients_with_different_seeds_do_not_ask_in_step() {
    let life = 1000 * SECOND;
    let of = |seed| pause(RefreshPolicy::new(Backoff::new(seed)), life);
    let pauses: Vec<_> = (0..100).map(of).collect();
    let (first, last) = (pauses.iter().min().unwrap(), pauses.iter().max().unwrap());
    assert!(
        *first >= 720 * SECOND && *last <= 800 * SECOND,
        "{first:?} {last:?}"
    );
    assert!(*last - *first > 70 * SECOND, "{first:?} {last:?}");
    assert_eq!(of(7), of(7));
    // And each asks at another part of the life each time.
    let mut refresh = renewed(RefreshPolicy::new(Backoff::new(7)), life);
    let next = refresh.ask_at;
    refresh.handle_renewed(Instant::EPOCH, Some(life));
    assert_ne!(refresh.ask_at, next);
}

#[test]
fn errors_say_what_it_was() {
    let failed = ProviderError::Failed("no route".into());
    assert_eq!(failed.to_string(), "the provider of credentials failed: no route");
    let late = ProviderError::TimedOut { limit: SECOND };
    assert_eq!(
        late.to_string(),
        "the provider of credentials took longer than 1s"
    );
}

proptest! {
    /// Whatever the numbers are, it is asked no later than the life ends, unless that is sooner than may be, and not before the
    /// shortest pause.
    #[test]
    fn it_is_asked_for_in_time(
        seed: u64,
        life in 0..=u64::MAX / 2,
        part: f64,
        jitter: f64,
        shortest in 0..=u64::MAX / 2,
    ) {
        let (life, shortest) = (Duration::from_nanos(life), Duration::from_nanos(shortest));
        let policy = RefreshPolicy::new(Backoff::new(seed)).at(part).jitter(jitter).min_interval(shortest);
        let pause = pause(policy, life);
        prop_assert!(pause >= shortest && pause <= life.max(shortest), "{pause:?}");
    }
}

#[test]
fn a_secret_is_the_one_of_the_mechanism_that_is_in_use() {
    let both = Credentials::external().or(Credentials::plain("ann", "pw"));
    assert!(both.secret_to_renew("PLAIN").is_ok());
    let mechanism = "EXTERNAL".into();
    let nothing = ProviderError::NothingToRenew { mechanism };
    assert_eq!(both.secret_to_renew("EXTERNAL").err(), Some(nothing));
    let other = both.secret_to_renew("ANONYMOUS").err();
    assert!(
        matches!(
            other,
            Some(ProviderError::Unfit(SaslError::AuthMechanismNotOffered { .. }))
        ),
        "{other:?}"
    );
    both.erase();
    let erased = ProviderError::Unfit(SaslError::CredentialsErased);
    assert_eq!(both.secret_to_renew("PLAIN").err(), Some(erased));
}
