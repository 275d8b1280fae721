//! Octets of one direction become frames.

use std::io;

use amqp_proto::RecvBuf;
use amqp_proto::wire::{Frame, FrameLimits, PROTOCOL_HEADER, ProtocolError, RawFrame, parse_protocol_header};

use crate::LARGEST;

const LIMITS: FrameLimits = FrameLimits {
    body: LARGEST,
    other: LARGEST,
};

/// What a direction consists of.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Piece<'a> {
    /// The protocol header of AMQP 0-9-1.
    ProtocolHeader,
    /// A frame.
    Frame(&'a Frame<'a>),
}

/// Why no more pieces come.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Whoever was shown a piece could not take it.
    Output(io::Error),
    /// The octets make no frame.
    Broken {
        /// Where, in octets from the first one of the direction.
        octet: u64,
        /// Why.
        error: ProtocolError,
    },
}

/// The octets of one direction that are not yet whole frames.
pub(crate) struct Frames {
    buffer: RecvBuf,
    /// How many octets came before what is in `buffer`.
    position: u64,
}

impl Frames {
    /// Begins with what is in `buffer`, which has room for the largest frame.
    pub(crate) const fn new(buffer: RecvBuf) -> Self {
        Self { buffer, position: 0 }
    }

    /// Where to read more into.
    pub(crate) const fn buffer(&mut self) -> &mut RecvBuf {
        &mut self.buffer
    }

    /// What is not yet a whole frame.
    pub(crate) fn unread(&self) -> &[u8] {
        self.buffer.unread()
    }

    /// How many octets were taken out as frames.
    pub(crate) const fn position(&self) -> u64 {
        self.position
    }

    /// Shows every whole frame, and a protocol header if one is the first thing of all.
    pub(crate) fn drain(&mut self, mut show: impl FnMut(Piece<'_>) -> io::Result<()>) -> Result<(), Stop> {
        while let Some(size) = show_first(self.buffer.unread(), self.position, &mut show)? {
            self.buffer.consume(size);
            self.position += size as u64;
        }
        Ok(())
    }
}

/// Shows the piece that `octets` begin with if it is whole, and says how long it is.
pub(crate) fn show_first(
    octets: &[u8],
    position: u64,
    show: &mut impl FnMut(Piece<'_>) -> io::Result<()>,
) -> Result<Option<usize>, Stop> {
    // (A wrong protocol header is no frame either, and that is said better below.)
    if position == 0
        && octets.starts_with(b"A")
        && let Ok(found) = parse_protocol_header(octets)
    {
        return match found {
            Some(()) => show(Piece::ProtocolHeader)
                .map(|()| Some(PROTOCOL_HEADER.len()))
                .map_err(Stop::Output),
            None => Ok(None),
        };
    }
    let broken = |error: ProtocolError| Stop::Broken {
        octet: position + error.offset as u64,
        error,
    };
    let Some(raw) = RawFrame::parse(octets, &LIMITS).map_err(broken)? else {
        return Ok(None);
    };
    show(Piece::Frame(&raw.decode().map_err(broken)?)).map_err(Stop::Output)?;
    Ok(Some(raw.size()))
}
