//! What several targets check, and how they come by operations.

use core::fmt::{Debug, Display};
use core::iter;

use arbitrary::{Arbitrary, Unstructured};

use crate::wire::{Frame, ProtocolError};

/// More operations than these teach nothing new and only take time.
const MOST_OPERATIONS: usize = 200;

/// One operation after the other until the octets are used up.
pub(super) fn operations<'a, T: Arbitrary<'a>>(u: &mut Unstructured<'a>) -> impl Iterator<Item = T> {
    iter::from_fn(|| if u.is_empty() { None } else { T::arbitrary(u).ok() }).take(MOST_OPERATIONS)
}

/// Octets that differ from seed to seed, from one piece of 256 to the next, and inside of it.
pub(super) fn pattern(size: usize, seed: u8) -> Vec<u8> {
    let mut block: Vec<u8> = (0..=255).collect();
    let mut octets = Vec::with_capacity(size);
    while octets.len() < size {
        let [_, number, more, ..] = octets.len().to_le_bytes();
        block[..3].copy_from_slice(&[seed, number, more]);
        octets.extend_from_slice(&block[..block.len().min(size - octets.len())]);
    }
    octets
}

/// Fit for a log: not nothing, one line, nothing that steers a terminal.
pub(super) fn one_line(shown: &dyn Display) {
    let text = shown.to_string();
    assert!(!text.is_empty());
    assert!(
        !text.chars().any(char::is_control),
        "control character in {text:?}"
    );
}

/// The same of a `Debug`.
pub(super) fn one_line_debug(shown: &dyn Debug) {
    one_line(&format_args!("{shown:?}"));
}

/// An error that can be told to the peer, and points into the `size` octets that it is about.
pub(super) fn protocol_error(error: &ProtocolError, size: usize) {
    assert!((501..=505).contains(&error.reply_code().0), "{error:?}");
    assert!(error.offset <= size, "{error:?} points beyond {size} octets");
    one_line(error);
}

/// The octets of a frame; checks that it fits a limit of just its size, and under a smaller one leaves nothing behind.
pub(super) fn encoded(frame: &Frame<'_>) -> Vec<u8> {
    let mut octets = Vec::new();
    frame.encode(&mut octets, u32::MAX).expect("no frame is larger");
    let size = u32::try_from(octets.len()).expect("no frame is larger");
    let mut again = b"before".to_vec();
    frame.encode(&mut again, size).expect("it is no larger than that");
    assert_eq!(again.strip_prefix(b"before"), Some(&octets[..]));
    if *frame != Frame::Heartbeat {
        again.truncate(6);
        frame
            .encode(&mut again, size - 1)
            .expect_err("it is larger than that");
        assert_eq!(again, b"before");
    }
    octets
}
