//! What arrives: read in large pieces, but for large bodies, which the kernel throws away unseen.

use std::io::Read;
use std::net::TcpStream;

use amqp_proto::wire::{FRAME_OVERHEAD, FrameType};
use anyhow::{Context, Result, bail};
use rustix::net::{RecvFlags, recv};

/// Twice the largest frame.
const BUFFER: usize = 256 * 1024;

/// From how many octets on the rest of a body is thrown away, and how much is read where one is expected.
const LARGE: usize = 4096;

const BODY: u8 = FrameType::Body as u8;

/// A socket's reading side.
pub(crate) struct Input {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// Where the unread octets are.
    start: usize,
    end: usize,
    /// How much to read at a time.
    piece: usize,
}

/// A body frame whose payload was thrown away.
pub(crate) struct Discarded {
    pub(crate) channel: u16,
    pub(crate) octets: u64,
}

impl Input {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            buffer: vec![0; BUFFER],
            start: 0,
            end: 0,
            piece: BUFFER,
        }
    }

    /// Reads what is there, and waits for it if need be; false when the client has gone.
    pub(crate) fn read(&mut self) -> Result<bool> {
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        let until = self.buffer.len().min(self.end + self.piece);
        let count = self
            .stream
            .read(&mut self.buffer[self.end..until])
            .context("reading")?;
        self.end += count;
        self.piece = BUFFER;
        Ok(count > 0)
    }

    pub(crate) fn unread(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    pub(crate) fn consume(&mut self, count: usize) {
        self.start += count;
    }

    /// If the beginning of a large body frame is unread, throws it and the rest of it away, as that arrives.
    pub(crate) fn discard_body(&mut self) -> Result<Option<Discarded>> {
        let Some(&[BODY, c0, c1, s0, s1, s2, s3]) = self.unread().first_chunk() else {
            return Ok(None);
        };
        let octets = u32::from_be_bytes([s0, s1, s2, s3]);
        let size = octets as usize + FRAME_OVERHEAD as usize;
        let mut missing = size.saturating_sub(self.unread().len());
        if missing < LARGE {
            return Ok(None);
        }
        (self.start, self.end) = (0, 0);
        while missing > 0 {
            // Linux discards so many octets of a stream, and leaves the place for them as it is.
            let place = BUFFER.min(missing);
            let (_, count) =
                recv(&self.stream, &mut self.buffer[..place], RecvFlags::TRUNC).context("reading a body")?;
            if count == 0 {
                bail!("the client has gone amid a body");
            }
            missing = missing.saturating_sub(count);
        }
        // More such, most likely: the less is read the more can be thrown away.
        self.piece = LARGE;
        Ok(Some(Discarded {
            channel: u16::from_be_bytes([c0, c1]),
            octets: octets.into(),
        }))
    }
}
