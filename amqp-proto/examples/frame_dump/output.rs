//! Lines: frames on standard output, troubles on standard error.

use std::fmt::Arguments;
use std::io::{self, BufWriter, Stdout, Write};
use std::net::SocketAddr;

use amqp_proto::trace::TraceRecord;

use crate::frames::Piece;
use crate::json;

/// Where a frame comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Source<'a> {
    /// Octets of one direction.
    Octets,
    /// A capture.
    Capture(&'a Origin),
    /// A trace; the record with the frame.
    Trace(&'a TraceRecord<'a>),
}

/// Who sent a frame of a capture.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origin {
    /// The connection's number.
    pub(crate) stream: u32,
    /// Which end of it.
    pub(crate) side: Side,
    /// The client's address.
    pub(crate) client: SocketAddr,
    /// The server's address.
    pub(crate) server: SocketAddr,
}

/// One end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// The one that sends the protocol header.
    Client,
    /// The other one.
    Server,
}

impl Side {
    /// As JSON has it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }
}

/// Where everything is printed.
pub(crate) struct Output {
    stdout: BufWriter<Stdout>,
    json: bool,
    failed: bool,
}

impl Output {
    /// Prints JSON, or text.
    pub(crate) fn new(json: bool) -> Self {
        Self {
            stdout: BufWriter::with_capacity(64 * 1024, io::stdout()),
            json,
            failed: false,
        }
    }

    /// Prints one frame.
    pub(crate) fn piece(&mut self, source: Source<'_>, piece: Piece<'_>) -> io::Result<()> {
        if self.json {
            serde_json::to_writer(&mut self.stdout, &json::Line { source, piece })?;
        } else {
            self.text(source, piece)?;
        }
        self.stdout.write_all(b"\n")
    }

    fn text(&mut self, source: Source<'_>, piece: Piece<'_>) -> io::Result<()> {
        if let Source::Trace(record) = source {
            return write!(self.stdout, "{record}");
        }
        if let Source::Capture(origin) = source {
            let arrow = match origin.side {
                Side::Client => "->",
                Side::Server => "<-",
            };
            write!(self.stdout, "{} {arrow} ", origin.stream)?;
        }
        match (piece, source) {
            (Piece::Frame(frame), _) => write!(self.stdout, "{frame}"),
            (Piece::ProtocolHeader, Source::Capture(Origin { client, server, .. })) => {
                write!(self.stdout, "protocol header from {client} to {server}")
            }
            (Piece::ProtocolHeader, _) => write!(self.stdout, "protocol header"),
        }
    }

    /// Shows everything that was printed.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.stdout.flush()
    }

    /// Tells of something that is no failure, after the frames before it.
    pub(crate) fn note(&mut self, line: Arguments<'_>) -> io::Result<()> {
        self.flush()?;
        complain(line);
        Ok(())
    }

    /// Tells of a failure, after the frames before it.
    pub(crate) fn fail(&mut self, line: Arguments<'_>) -> io::Result<()> {
        self.failed = true;
        self.note(line)
    }

    /// Whether there was a failure.
    pub(crate) const fn has_failed(&self) -> bool {
        self.failed
    }
}

/// Writes a line to standard error. If nobody reads that, nobody can be told.
pub(crate) fn complain(line: Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{line}");
}
