//! Frames as RabbitMQ delimits them, and what it says when they are wrong.
//!
//! Not the codec's own parser: RabbitMQ takes a frame of an unknown type as a frame, takes payloads of frame_max octets (eight more
//! than there should be), and quotes the payload when it complains.

use amqp_proto::wire::{Argument, FRAME_OVERHEAD, HEADER_SIZE, Method, Problem, ProtocolError, ReplyCode};

use crate::config::Release;
use crate::erlang;
use crate::refusal::Refusal;

const FRAME_END: u8 = 0xCE;

/// A whole frame.
#[derive(Debug, Clone, Copy)]
pub(super) struct Delimited<'a> {
    pub(super) kind: u8,
    pub(super) channel: u16,
    pub(super) payload: &'a [u8],
}

impl<'a> Delimited<'a> {
    pub(super) const METHOD: u8 = 1;
    pub(super) const HEADER: u8 = 2;
    pub(super) const BODY: u8 = 3;
    pub(super) const HEARTBEAT: u8 = 8;

    /// Delimits the frame that `input` begins with; `None` if it is not all there yet.
    pub(super) fn parse(input: &'a [u8], largest: u32, release: Release) -> Result<Option<Self>, Refusal> {
        let Some(&[kind, c0, c1, s0, s1, s2, s3]) = input.first_chunk::<HEADER_SIZE>() else {
            return Ok(None);
        };
        let mut frame = Self {
            kind,
            channel: u16::from_be_bytes([c0, c1]),
            payload: &[],
        };
        let size = u32::from_be_bytes([s0, s1, s2, s3]);
        if size > largest {
            let allowed = largest.saturating_sub(FRAME_OVERHEAD);
            return Err(frame.error(release, &format!("{{frame_too_large,{size},{allowed}}}")));
        }
        let rest = input.get(HEADER_SIZE..).unwrap_or_default();
        let Some((payload, [end, ..])) = rest.split_at_checked(size as usize) else {
            return Ok(None);
        };
        frame.payload = payload;
        if *end != FRAME_END {
            return Err(frame.error(release, &format!("{{invalid_frame_end_marker,{end}}}")));
        }
        Ok(Some(frame))
    }

    pub(super) const fn size(&self) -> usize {
        self.payload.len().saturating_add(FRAME_OVERHEAD as usize)
    }

    /// An unknown type, or too little in it to say what it is.
    pub(super) const fn is_malformed(&self) -> bool {
        match self.kind {
            Self::METHOD => self.payload.len() < 4,
            Self::HEADER => self.payload.len() < 12,
            Self::BODY => false,
            Self::HEARTBEAT => !self.payload.is_empty(),
            _ => true,
        }
    }

    /// A frame that is wrong in itself.
    pub(super) fn error(&self, release: Release, reason: &str) -> Refusal {
        Refusal::connection(
            ReplyCode::FRAME_ERROR,
            format_args!("{}: {reason}", self.snippet(release)),
        )
    }

    /// A frame that has no place here.
    pub(super) fn unexpected(&self, release: Release) -> Refusal {
        Refusal::connection(ReplyCode::UNEXPECTED_FRAME, self.snippet(release))
    }

    fn snippet(&self, release: Release) -> String {
        const SHOWN: usize = 16;
        let (which, shown) = match self.payload.get(..SHOWN) {
            Some(first) if self.payload.len() > SHOWN => ("first 16", first),
            _ => ("all", self.payload),
        };
        format!(
            "type {}, {which} octets = {}",
            self.kind,
            erlang::printed(shown, release)
        )
    }
}

/// What RabbitMQ says to a method on a channel that cannot be read. At one that it does not know, or at a table that it cannot
/// read, it hangs up without a word.
pub(super) fn undecodable(payload: &[u8], error: &ProtocolError) -> Option<Refusal> {
    match error.problem {
        Problem::UnknownMethod { .. } | Problem::Table(_) => None,
        _ => {
            let arguments = Method::split_id(payload).map_or(payload, |(_, arguments)| arguments);
            let text = format_args!("cannot decode {}", erlang::written(arguments));
            Some(Refusal::connection(ReplyCode::FRAME_ERROR, text))
        }
    }
}

/// RabbitMQ wants short strings to be UTF-8 in methods, but for `basic.publish`.
pub(super) fn check_names(method: &Method<'_>) -> Result<(), Refusal> {
    let mut is_utf8 = true;
    if method.spec().has_content {
        return Ok(());
    }
    method.for_each_argument(&mut |_, argument| {
        if let Argument::ShortStr(text) = argument {
            is_utf8 &= text.to_str().is_ok();
        }
    });
    if is_utf8 {
        return Ok(());
    }
    Err(Refusal::connection(
        ReplyCode::FRAME_ERROR,
        "Malformed UTF-8 in shortstr",
    ))
}
