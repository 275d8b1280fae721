//! The link: what is written arrives, in order, not too early and not too late, and ends as it was told to.

use std::time::Duration;

use amqp_proto::{Instant, RecvBuf};
use amqp_testbroker::{Ending, Link, LinkConfig, Random, ReadOutcome, Side};
use proptest::prelude::*;

const MS: Duration = Duration::from_millis(1);

fn at(duration: Duration) -> Instant {
    Instant::EPOCH + duration
}

/// One direction driven to its end: what arrived and when, piece by piece, and how it ended.
#[derive(Debug, Default, PartialEq)]
struct Arrived {
    octets: Vec<u8>,
    pieces: Vec<(Instant, usize)>,
    end: Option<ReadOutcome>,
}

/// Writes all as the window allows, reads as soon as something is there, shuts down behind it.
fn carry(config: LinkConfig, from: Side, octets: &[u8]) -> Arrived {
    let mut link = Link::new(config);
    let mut arrived = Arrived::default();
    let mut now = Instant::EPOCH;
    let mut rest = octets;
    let mut is_shut = false;
    while arrived.end.is_none() {
        let count = link.write(from, now, rest);
        rest = &rest[count..];
        if rest.is_empty() && !is_shut {
            link.shutdown(from, now);
            is_shut = true;
        }
        let mut input = RecvBuf::new();
        match link.read(from.other(), now, &mut input) {
            ReadOutcome::Octets(count) => {
                assert_eq!(input.unread().len(), count);
                arrived.octets.extend_from_slice(input.unread());
                arrived.pieces.push((now, count));
            }
            ReadOutcome::Nothing => match link.next_event(now) {
                Some(next) => {
                    assert!(next > now, "an event of the past");
                    now = next;
                }
                None if count > 0 => {}
                None => break,
            },
            end => arrived.end = Some(end),
        }
    }
    arrived
}

fn octets(count: usize, seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    (0..count).map(|_| random.next_u64().to_le_bytes()[0]).collect()
}

fn sides() -> impl Strategy<Value = Side> {
    prop_oneof![Just(Side::Client), Just(Side::Server)]
}

fn configs() -> impl Strategy<Value = LinkConfig> {
    let segment = prop_oneof![
        Just(None),
        Just(Some(1)),
        (2usize..100).prop_map(Some),
        Just(Some(usize::MAX))
    ];
    let bandwidth = prop_oneof![Just(None), (1u64..100_000).prop_map(Some)];
    (any::<u64>(), segment, 0u32..50, 0u32..50, bandwidth, 1usize..3000).prop_map(
        |(seed, segment, latency, jitter, bandwidth, window)| {
            let mut config = LinkConfig::perfect()
                .seed(seed)
                .latency(MS * latency)
                .jitter(MS * jitter)
                .window(window);
            config.segment = segment;
            config.bandwidth = bandwidth;
            config
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn nothing_is_lost_doubled_or_reordered(config in configs(), from in sides(), count in 0usize..3000) {
        let octets = octets(count, config.seed);
        let arrived = carry(config.clone(), from, &octets);
        prop_assert_eq!(&arrived.octets, &octets);
        prop_assert_eq!(arrived.end, Some(ReadOutcome::Ended));
        let largest = config.segment.unwrap_or(usize::MAX);
        prop_assert!(arrived.pieces.iter().all(|(_, size)| (1..=largest).contains(size)));
    }

    #[test]
    fn the_same_seed_gives_the_same_arrivals(config in configs(), count in 0usize..1000) {
        let octets = octets(count, 0);
        let first = carry(config.clone(), Side::Client, &octets);
        prop_assert_eq!(first, carry(config, Side::Client, &octets));
    }

    /// Written at once at the epoch: octet number n cannot be there before the line has carried n, nor later than that and
    /// the longest way.
    #[test]
    fn latency_and_bandwidth_bound_every_arrival(config in configs(), count in 1usize..2000) {
        let config = config.window(usize::MAX);
        let arrived = carry(config.clone(), Side::Client, &octets(count, 0));
        let mut carried = 0;
        for (number, (time, size)) in arrived.pieces.iter().enumerate() {
            carried += size;
            let busy = config.bandwidth.map_or(0.0, |bandwidth| carried as f64 / bandwidth as f64);
            let earliest = config.latency.as_secs_f64() + busy;
            // Every piece takes whole nanoseconds.
            let latest = earliest + config.jitter.as_secs_f64() + (number + 2) as f64 * 1e-9;
            let time = time.duration_since(Instant::EPOCH).as_secs_f64();
            prop_assert!(earliest - 1e-9 <= time && time <= latest, "{earliest} {time} {latest}");
        }
    }

    #[test]
    fn a_stream_that_is_cut_gives_what_was_before_and_its_end(
        config in configs(),
        from in sides(),
        count in 1usize..2000,
        after in 0u64..2500,
        is_reset in any::<bool>(),
    ) {
        let octets = octets(count, 1);
        let ending = if is_reset { Ending::Reset } else { Ending::Ended };
        let arrived = carry(config.cut(from, after, ending), from, &octets);
        let passed = usize::try_from(after).unwrap().min(count);
        prop_assert_eq!(&arrived.octets, &octets[..passed]);
        let is_cut = passed < count || after == count as u64;
        let expected = if is_cut && is_reset { ReadOutcome::Reset } else { ReadOutcome::Ended };
        prop_assert_eq!(arrived.end, Some(expected));
    }

    #[test]
    fn no_more_than_the_window_is_taken(window in 0usize..500, writes in prop::collection::vec(0usize..200, 1..20)) {
        let mut link = Link::new(LinkConfig::perfect().window(window));
        let mut unread = 0;
        for size in writes {
            let taken = link.write(Side::Client, Instant::EPOCH, &octets(size, 0));
            prop_assert_eq!(taken, size.min(window - unread));
            unread += taken;
            prop_assert_eq!(link.unread(Side::Client), unread);
        }
    }
}

#[test]
fn pieces_of_any_size_occur() {
    let config = LinkConfig::perfect().segment(usize::MAX);
    let sizes: std::collections::BTreeSet<usize> = (0..2000)
        .map(|seed| carry(config.clone().seed(seed), Side::Client, b"0123456789").pieces[0].1)
        .collect();
    assert_eq!(sizes, (1..=10).collect());
}

#[test]
fn jitter_is_used_and_overtakes_nothing() {
    let config = LinkConfig::perfect().segment(1).jitter(MS * 10).latency(MS);
    let arrived = carry(config, Side::Client, &octets(100, 0));
    let times: Vec<Instant> = arrived.pieces.iter().map(|(time, _)| *time).collect();
    assert!(times.is_sorted());
    assert!(times[0] < *times.last().unwrap(), "all at once");
    assert!(times.iter().all(|time| (at(MS)..=at(MS * 11)).contains(time)));
}

#[test]
fn both_directions_go_on_by_themselves() {
    let mut link = Link::new(LinkConfig::perfect());
    let now = Instant::EPOCH;
    let mut input = RecvBuf::new();
    link.write(Side::Client, now, b"request");
    link.write(Side::Server, now, b"answer");
    link.shutdown(Side::Client, now);
    assert_eq!(link.read(Side::Client, now, &mut input), ReadOutcome::Octets(6));
    assert_eq!(link.read(Side::Server, now, &mut input), ReadOutcome::Octets(7));
    assert_eq!(input.unread(), b"answerrequest");
    assert_eq!(link.read(Side::Server, now, &mut input), ReadOutcome::Ended);
    assert_eq!(link.write(Side::Client, now, b"too late"), 8);
    assert_eq!(link.read(Side::Server, now, &mut input), ReadOutcome::Ended);

    assert_eq!(link.read(Side::Client, now, &mut input), ReadOutcome::Nothing);
    link.write(Side::Server, now, b"more");
    assert_eq!(link.read(Side::Client, now, &mut input), ReadOutcome::Octets(4));
    assert_eq!((link.written(Side::Client), link.written(Side::Server)), (7, 10));
}

#[test]
fn a_full_buffer_takes_what_it_can_and_the_rest_stays() {
    let mut link = Link::new(LinkConfig::perfect());
    let now = Instant::EPOCH;
    let mut input = RecvBuf::with_limit(4096);
    link.write(Side::Client, now, &octets(5000, 0));
    assert_eq!(
        link.read(Side::Server, now, &mut input),
        ReadOutcome::Octets(4096)
    );
    assert_eq!(link.read(Side::Server, now, &mut input), ReadOutcome::Nothing);
    assert_eq!(
        link.next_event(now),
        None,
        "it can be read now, which is no event"
    );
    input.consume(usize::MAX);
    assert_eq!(link.read(Side::Server, now, &mut input), ReadOutcome::Octets(904));
    assert_eq!(input.unread(), &octets(5000, 0)[4096..]);
}

#[test]
fn a_stall_delays_one_direction_and_loses_nothing() {
    let mut link = Link::new(LinkConfig::perfect().latency(MS));
    let mut input = RecvBuf::new();
    link.stall(Side::Client, at(MS * 2), MS * 10);
    link.write(Side::Client, Instant::EPOCH, b"before");
    link.write(Side::Client, at(MS), b"during");
    link.write(Side::Server, at(MS * 3), b"other way");
    assert_eq!(
        link.read(Side::Server, at(MS), &mut input),
        ReadOutcome::Octets(6)
    );
    assert_eq!(
        link.read(Side::Server, at(MS * 2), &mut input),
        ReadOutcome::Nothing
    );
    assert_eq!(link.next_event(at(MS * 2)), Some(at(MS * 4)));
    assert_eq!(
        link.read(Side::Client, at(MS * 4), &mut input),
        ReadOutcome::Octets(9)
    );
    assert_eq!(link.next_event(at(MS * 4)), Some(at(MS * 12)));
    assert_eq!(
        link.read(Side::Server, at(MS * 11), &mut input),
        ReadOutcome::Nothing
    );
    assert_eq!(
        link.read(Side::Server, at(MS * 12), &mut input),
        ReadOutcome::Octets(6)
    );
    assert_eq!(input.unread(), b"beforeother wayduring");
}

#[test]
fn a_stall_without_end_lasts_until_it_is_released() {
    let mut link = Link::new(LinkConfig::perfect());
    let mut input = RecvBuf::new();
    link.stall(Side::Server, Instant::EPOCH, Duration::MAX);
    link.write(Side::Server, Instant::EPOCH, b"x");
    link.shutdown(Side::Server, Instant::EPOCH);
    assert_eq!(link.next_event(Instant::EPOCH), None);
    let later = at(Duration::from_secs(1 << 30));
    assert_eq!(link.read(Side::Client, later, &mut input), ReadOutcome::Nothing);
    link.release(Side::Server);
    assert_eq!(link.read(Side::Client, later, &mut input), ReadOutcome::Octets(1));
    assert_eq!(link.read(Side::Client, later, &mut input), ReadOutcome::Ended);
}

#[test]
fn what_was_read_too_late_for_a_stall_waits_for_its_end() {
    let mut link = Link::new(LinkConfig::perfect());
    link.write(Side::Client, Instant::EPOCH, b"x");
    link.stall(Side::Client, at(MS), MS);
    assert_eq!(link.next_event(Instant::EPOCH), None, "it can be read now");
    assert_eq!(link.next_event(at(MS)), Some(at(MS * 2)));
}

#[test]
fn a_reset_by_one_end_comes_behind_what_that_end_wrote() {
    let mut link = Link::new(LinkConfig::perfect().latency(MS * 5));
    let mut input = RecvBuf::new();
    link.write(Side::Server, Instant::EPOCH, b"last words");
    link.write(Side::Client, Instant::EPOCH, b"never arrives");
    link.reset(Side::Server, at(MS));
    assert_eq!(link.read(Side::Server, at(MS), &mut input), ReadOutcome::Reset);
    assert_eq!(link.read(Side::Client, at(MS), &mut input), ReadOutcome::Nothing);
    assert_eq!(link.unread(Side::Client), 0);
    assert_eq!(
        link.read(Side::Client, at(MS * 5), &mut input),
        ReadOutcome::Octets(10)
    );
    assert_eq!(
        link.read(Side::Client, at(MS * 5), &mut input),
        ReadOutcome::Nothing
    );
    assert_eq!(link.next_event(at(MS * 5)), Some(at(MS * 6)));
    assert_eq!(
        link.read(Side::Client, at(MS * 6), &mut input),
        ReadOutcome::Reset
    );
    link.reset(Side::Client, at(MS * 7));
    assert_eq!(
        link.read(Side::Client, at(MS * 7), &mut input),
        ReadOutcome::Reset
    );
    assert_eq!(link.write(Side::Client, at(MS * 7), b"lost"), 4);
    assert_eq!(link.next_event(at(MS * 7)), None);
}

#[test]
fn a_cut_stream_fails_for_both_ends() {
    let config = LinkConfig::perfect()
        .latency(MS * 2)
        .cut(Side::Client, 3, Ending::Reset);
    let mut link = Link::new(config);
    let mut input = RecvBuf::new();
    link.write(Side::Server, Instant::EPOCH, b"in time");
    link.write(Side::Client, at(MS), b"ab");
    link.write(Side::Server, at(MS * 2), b"just");
    assert_eq!(link.write(Side::Client, at(MS * 2), b"cd and more"), 11);
    assert_eq!(
        link.read(Side::Client, at(MS * 2), &mut input),
        ReadOutcome::Octets(7)
    );
    assert_eq!(
        link.read(Side::Server, at(MS * 4), &mut input),
        ReadOutcome::Octets(2)
    );
    assert_eq!(
        link.read(Side::Server, at(MS * 4), &mut input),
        ReadOutcome::Octets(1)
    );
    assert_eq!(input.unread(), b"in timeabc");
    assert_eq!(
        link.read(Side::Server, at(MS * 4), &mut input),
        ReadOutcome::Reset
    );
    assert_eq!(
        link.read(Side::Client, at(MS * 4), &mut input),
        ReadOutcome::Octets(4)
    );
    assert_eq!(
        link.read(Side::Client, at(MS * 4), &mut input),
        ReadOutcome::Reset
    );
}

#[test]
fn a_line_without_bandwidth_never_delivers() {
    let mut link = Link::new(LinkConfig::perfect().bandwidth(0));
    link.write(Side::Client, Instant::EPOCH, b"x");
    assert_eq!(link.next_event(Instant::EPOCH), None);
}
