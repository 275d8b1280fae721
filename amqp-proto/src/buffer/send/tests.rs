use super::*;
use crate::wire::{BasicPublish, ChannelOpen, Frame, FrameLimits, RawFrame};
use alloc::vec;

const LIMITS: FrameLimits = FrameLimits {
    body: 1 << 20,
    other: 1 << 20,
};

fn publish(output: &mut SendBuf, body: impl Into<Payload<'static>>, frame_max: u32) {
    output
        .content(
            1,
            &BasicPublish::default(),
            &Properties::default(),
            body,
            frame_max,
        )
        .unwrap();
}

/// All octets, read `step` at a time.
fn drain(output: &mut SendBuf, step: usize) -> Vec<u8> {
    let mut all = Vec::new();
    while output.has_remaining() {
        let chunk = output.chunk();
        assert!(!chunk.is_empty());
        let count = step.min(chunk.len());
        all.extend_from_slice(&chunk[..count]);
        output.advance(count);
    }
    all
}

/// The bodies and how many frames each came in.
fn bodies(mut octets: &[u8]) -> Vec<(Vec<u8>, usize)> {
    let mut bodies: Vec<(Vec<u8>, usize)> = Vec::new();
    while let Some(raw) = RawFrame::parse(octets, &LIMITS).unwrap() {
        match raw.decode().unwrap() {
            Frame::Header { header, .. } => {
                assert!(
                    bodies
                        .last()
                        .is_none_or(|(body, _)| body.capacity() == body.len())
                );
                bodies.push((Vec::with_capacity(usize::try_from(header.body_size).unwrap()), 0));
            }
            Frame::Body { payload, .. } => {
                let (body, frames) = bodies.last_mut().unwrap();
                body.extend_from_slice(payload);
                *frames += 1;
            }
            Frame::Method { .. } | Frame::Heartbeat => {}
        }
        octets = &octets[raw.size()..];
    }
    assert!(octets.is_empty());
    bodies
}

fn sample(size: usize) -> Vec<u8> {
    (0..size).map(|i| (i * 7).to_le_bytes()[0]).collect()
}

#[test]
fn bodies_are_split_at_frame_max_and_no_body_has_no_frame() {
    for shared in [false, true] {
        let mut output = SendBuf::new();
        let sizes = [0, 1, 4088, 4089, 8176, 8177, 20_000];
        for size in sizes {
            if shared {
                publish(&mut output, sample(size), 4096);
            } else {
                publish(&mut output, &*sample(size).leak(), 4096);
            }
        }
        let all = drain(&mut output, 1000);
        let expected: Vec<_> = sizes
            .iter()
            .map(|&size| (sample(size), size.div_ceil(4088)))
            .collect();
        assert_eq!(bodies(&all), expected);
    }
}

#[test]
fn a_shared_body_is_a_chunk_of_its_own_from_4096_octets_on() {
    let body = Bytes::from(sample(4096));
    let mut output = SendBuf::new();
    publish(&mut output, body.clone(), 1 << 20);
    let before = output.chunk().len();
    output.advance(before);
    assert_eq!(output.chunk().as_ptr(), body.as_ptr());
    output.advance(4095);
    assert_eq!(output.chunk(), &body[4095..]);
    output.advance(1);
    assert_eq!(output.chunk(), [0xCE]);

    let mut output = SendBuf::new();
    publish(&mut output, body.slice(1..), 1 << 20);
    assert_eq!(output.chunk().len(), output.remaining());
}

#[test]
fn a_shared_body_of_several_frames_is_one_chunk_a_frame() {
    let mut output = SendBuf::new();
    publish(&mut output, sample(10_000), 4096);
    heartbeat_and_count(&mut output, 3);
}

fn heartbeat_and_count(output: &mut SendBuf, pieces: usize) {
    output.heartbeat();
    assert_eq!(output.shared.len(), pieces);
    let all = drain(output, usize::MAX);
    assert_eq!(all[all.len() - 8..], HEARTBEAT);
}

#[test]
#[cfg(feature = "std")]
fn vectored_chunks_are_the_same_octets() {
    let mut output = SendBuf::new();
    output.protocol_header();
    publish(&mut output, "small", 4096);
    publish(&mut output, sample(9_000), 4096);
    output.heartbeat();
    publish(&mut output, sample(5_000), 8192);
    output.advance(3);
    let mut slices = [std::io::IoSlice::new(&[]); 16];
    let count = output.chunks_vectored(&mut slices);
    let vectored: Vec<u8> = slices[..count]
        .iter()
        .flat_map(|slice| slice.iter().copied())
        .collect();
    assert_eq!(vectored.len(), output.remaining());
    assert!(slices[..count].iter().all(|slice| !slice.is_empty()));
    assert_eq!(output.chunks_vectored(&mut slices[..2]), 2);
    let step = vectored.len();
    assert_eq!(drain(&mut output, step), vectored);
}

#[test]
fn advancing_over_everything_at_once_or_too_far_empties_it() {
    for excess in [0, 1] {
        let mut output = SendBuf::new();
        publish(&mut output, sample(9_000), 4096);
        output.advance(output.remaining() + excess);
        assert_eq!((output.remaining(), output.chunk().len()), (0, 0));
        publish(&mut output, sample(5_000), 8192);
        assert_eq!(bodies(&drain(&mut output, 10)), [(sample(5_000), 1)]);
    }
}

#[test]
fn what_does_not_fit_leaves_nothing_behind() {
    let key = "k".repeat(255);
    let large = BasicPublish {
        routing_key: key.as_str().try_into().unwrap(),
        ..BasicPublish::default()
    };
    let properties = Properties {
        message_id: Some(key.as_str().try_into().unwrap()),
        ..Properties::default()
    };
    let mut output = SendBuf::new();
    output.method(7, &ChannelOpen::default(), 4096).unwrap();
    let before = output.remaining();
    let error = output
        .content(1, &large, &Properties::default(), "x", 200)
        .unwrap_err();
    assert_eq!(
        error,
        EncodeError::FrameTooLarge {
            name: "basic.publish",
            size: 272,
            limit: 200
        }
    );
    let error = output
        .content(1, &BasicPublish::default(), &properties, "x", 200)
        .unwrap_err();
    assert_eq!(
        error,
        EncodeError::FrameTooLarge {
            name: "content header",
            size: 278,
            limit: 200
        }
    );
    assert_eq!(output.remaining(), before);
}

#[test]
fn a_frame_may_be_as_large_as_the_limit_and_no_larger() {
    let mut output = SendBuf::new();
    assert_eq!(output.method(7, &ChannelOpen::default(), 13), Ok(()));
    assert_eq!(output.remaining(), 13);
    assert!(output.method(7, &ChannelOpen::default(), 12).is_err());
    assert_eq!(output.remaining(), 13);
}

#[test]
fn a_table_that_is_refused_takes_no_memory_for_itself() {
    let mut headers = crate::wire::FieldTable::new();
    headers.insert("long", "x".repeat(1_000_000).as_str()).unwrap();
    let properties = Properties {
        headers: Some(headers.as_ref()),
        ..Properties::default()
    };
    let declare = crate::wire::QueueDeclare {
        arguments: headers.as_ref(),
        ..Default::default()
    };
    let mut output = SendBuf::new();
    let refused = |result| {
        matches!(
            result,
            Err(EncodeError::FrameTooLarge {
                size: 4097..,
                limit: 4096,
                ..
            })
        )
    };
    assert!(refused(output.method(1, &declare, 4096)));
    assert!(refused(output.content(
        1,
        &BasicPublish::default(),
        &properties,
        "x",
        4096
    )));
    assert!(refused(output.content(
        1,
        &BasicPublish::default(),
        &properties,
        sample(5000),
        4096
    )));
    assert_eq!(output.remaining(), 0);
    assert!(output.flat.capacity() < 20_000);
}

#[test]
fn room_is_made_for_tables_of_methods_and_of_messages() {
    let mut headers = crate::wire::FieldTable::new();
    headers.insert("long", "x".repeat(100_000).as_str()).unwrap();
    let properties = Properties {
        headers: Some(headers.as_ref()),
        ..Properties::default()
    };
    let declare = crate::wire::QueueDeclare {
        arguments: headers.as_ref(),
        ..Default::default()
    };
    let mut octets = Vec::new();
    assert_eq!(
        Frame::Method {
            channel: 1,
            method: declare.into()
        }
        .encode(&mut octets, 1 << 20),
        Ok(())
    );
    let mut output = SendBuf::new();
    assert_eq!(output.method(1, &declare, 1 << 20), Ok(()));
    assert_eq!(drain(&mut output, usize::MAX), octets);
    for body in [vec![7; 10], vec![7; 5000]] {
        let mut output = SendBuf::new();
        let publish = BasicPublish::default();
        assert_eq!(
            output.content(1, &publish, &properties, body.clone(), 1 << 20),
            Ok(())
        );
        assert_eq!(bodies(&drain(&mut output, usize::MAX)), [(body, 1)]);
    }
}

#[test]
fn an_absurd_frame_max_still_ends() {
    let mut output = SendBuf::new();
    assert!(
        output
            .content(
                1,
                &BasicPublish::default(),
                &Properties::default(),
                vec![0; 10],
                0
            )
            .is_err()
    );
}

/// Fills it with so many messages of some 3000 octets, and empties it.
fn fill_and_drain(output: &mut SendBuf, messages: usize) {
    for _ in 0..messages {
        publish(output, [7; 3000].to_vec(), 1 << 20);
    }
    output.advance(usize::MAX);
    assert_eq!(output.remaining(), 0);
}

#[test]
fn memory_is_kept_for_the_usual_and_given_back_when_little_is_sent() {
    let mut output = SendBuf::new();
    fill_and_drain(&mut output, 100);
    let usual = output.flat.capacity();
    assert!((300_000..=BUSY).contains(&usual));
    for _ in 1..QUIET {
        fill_and_drain(&mut output, 1);
    }
    assert_eq!(output.flat.capacity(), usual);
    fill_and_drain(&mut output, 100);
    for _ in 1..QUIET {
        fill_and_drain(&mut output, 1);
    }
    assert_eq!(output.flat.capacity(), usual);
    fill_and_drain(&mut output, 1);
    assert_eq!(output.flat.capacity(), IDLE);
}

#[test]
fn memory_for_the_largest_is_given_back_at_once() {
    let mut output = SendBuf::new();
    fill_and_drain(&mut output, 1000);
    assert_eq!(output.flat.capacity(), BUSY);
    output.shrink();
    assert_eq!(output.flat.capacity(), 0);
}

#[test]
fn a_buffer_that_never_runs_empty_does_not_grow_for_ever() {
    let mut output = SendBuf::new();
    let (mut written, mut read) = (Vec::new(), Vec::new());
    for round in 0..2000 {
        let body = sample(if round % 50 == 0 { 5000 } else { 100 + round % 7 });
        publish(&mut output, body.clone(), 4096);
        written.push((body.clone(), body.len().div_ceil(4088)));
        while output.remaining() > 50 {
            let count = output.chunk().len().min(output.remaining() - 50).min(333);
            read.extend_from_slice(&output.chunk()[..count]);
            output.advance(count);
        }
    }
    assert!(output.flat.capacity() < 64 * 1024, "{}", output.flat.capacity());
    output.shrink();
    assert!(output.flat.capacity() <= 50);
    read.extend(drain(&mut output, usize::MAX));
    assert!(bodies(&read) == written);
}

#[test]
fn shrinking_keeps_what_is_to_be_written() {
    let mut output = SendBuf::new();
    publish(&mut output, sample(5000), 4096);
    publish(&mut output, sample(100), 4096);
    let mut first = output.chunk()[..10].to_vec();
    output.advance(10);
    output.shrink();
    first.extend(drain(&mut output, usize::MAX));
    assert_eq!(bodies(&first), [(sample(5000), 2), (sample(100), 1)]);
}

#[test]
fn payloads_are_equal_if_their_octets_are() {
    assert_eq!(Payload::from("abc"), Payload::from(b"abc".to_vec()));
    assert_ne!(Payload::from("abc"), Payload::from(b"abd".to_vec()));
}

#[test]
fn a_large_borrowed_body_does_not_grow_the_memory_for_small_things() {
    let mut output = SendBuf::new();
    publish(&mut output, &*sample(200_000).leak(), 1 << 20);
    assert!(output.flat.capacity() < 10_000);
    assert_eq!(bodies(&drain(&mut output, usize::MAX)), [(sample(200_000), 1)]);
}
