//! Octets of one direction, as they are.

use std::io::{self, Read};

use amqp_proto::RecvBuf;

use crate::fill;
use crate::frames::{Frames, Stop};
use crate::output::{Output, Source};

/// Prints frame after frame until the end or the first error; `buffer` has what was read already.
pub(crate) fn dump(mut reader: impl Read, buffer: RecvBuf, output: &mut Output) -> io::Result<()> {
    let mut frames = Frames::new(buffer);
    loop {
        match frames.drain(|piece| output.piece(Source::Octets, piece)) {
            Ok(()) => {}
            Err(Stop::Output(error)) => return Err(error),
            Err(Stop::Broken { octet, error }) => return output.fail(format_args!("octet {octet}: {error}")),
        }
        if !fill(&mut reader, frames.buffer(), output)? {
            break;
        }
    }
    match frames.unread().len() {
        0 => Ok(()),
        left => output.fail(format_args!(
            "octet {}: the input ends within a frame, of which {left} octets are there",
            frames.position()
        )),
    }
}
