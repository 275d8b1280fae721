//! Prints AMQP 0-9-1 frame by readable frame: from the octets of one direction, from a capture of whole connections, or from
//! the trace that a connection's tap wrote.
//!
//! ```sh
//! tcpdump -i lo -U -w - port 5672 | cargo run -p amqp-proto --example frame_dump
//! cargo run -p amqp-proto --example frame_dump -- --json capture.pcapng
//! ```
//!
//! ```text
//!             ┌─▶ raw, trace ──────────────────────────────────┐
//! octets ─────┤                                                ├─▶ frames ──▶ output (text or json)
//!             └─▶ capture ──▶ segment ──▶ streams ──▶ reorder ─┘
//!                 packets     TCP         connections  in order
//! ```
#![expect(clippy::disallowed_types, reason = "an example reads a file")]

mod capture;
mod frames;
mod json;
mod output;
mod raw;
mod reorder;
mod segment;
mod streams;
mod trace;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use amqp_proto::RecvBuf;
use amqp_proto::trace::MAGIC;
use clap::Parser;
use output::Output;

/// The largest frame, and the largest record of a capture, in octets. Memory is taken for what arrives, not for what a size
/// declares.
const LARGEST: u32 = 128 * 1024 * 1024;

/// Print AMQP 0-9-1 frames, one readable line each
#[derive(Debug, Parser)]
#[command(name = "frame_dump", after_long_help = FORMAT)]
struct Options {
    /// One JSON object a line (--help tells how it looks)
    #[arg(long)]
    json: bool,
    /// What to read: octets of one direction, a capture, or a trace; standard input if it is missing or "-"
    file: Option<PathBuf>,
}

const FORMAT: &str = "\
Input:
  A capture (pcap or pcapng) is known by its first octets. Its TCP connections are numbered from 1 as they appear; those in
  which neither side begins with the protocol header of AMQP 0-9-1 are named on standard error and skipped. Link types:
  Ethernet, Linux cooked (v1, v2), raw IP, BSD loopback. IP fragments are not put together.
  So is a trace, as amqp_proto::trace writes it.
  Anything else is octets of one direction: frames, with or without a protocol header before them.
  No frame and no record of a capture or trace may be larger than 128 MiB.

Text:
  In captures each line begins with the connection's number and an arrow: -> from the client, <- from the server.
  In traces with the time in seconds and an arrow: -> sent, <- received.
  Of a body no more than its beginning is shown.

JSON:
  type         one of method, header, body, heartbeat, protocol-header; every frame has its channel as well
  stream, from in captures: the connection's number; client or server (a protocol-header has both their addresses)
  nanoseconds, direction in traces: when; sent or received
  method       its name; arguments has all but the reserved ones, bits that are not set and empty strings included
  header       body_size; properties has those that are there
  body         size, and the whole piece as text or, if it is not UTF-8, as hex

  Tables are objects and arrays are arrays, in the order of the wire; a key that is there twice is printed twice, and what
  is not UTF-8 in a key becomes U+FFFD. What JSON does not have becomes an object with one key that begins with @, which no
  key of a table should:
    {\"@hex\": \"00ff\"}                        a byte array, or a string that is not UTF-8
    {\"@decimal\": {\"scale\": 2, \"raw\": 314}}  raw / 10^scale, raw as unsigned 32 bits
    {\"@timestamp\": 1700000000}              seconds since 1970-01-01 UTC (the property timestamp is a mere number)
    {\"@float\": \"NaN\"}                       also inf and -inf
    {\"@secret\": 12}                         a SASL response or token: only how many octets it has
    {\"@error\": \"...\"}                       headers that cannot be read from here on
  Integers have all their digits: readers that make doubles of them round above 2^53. Void is null.

Exit code:
  0, also if connections were skipped that are not AMQP; 1 if octets could not be read as frames, frames, captures or traces
  were not whole, or reading failed. Positions are octets from 0, in captures those of one direction of the connection, in traces those of the
  file.";

fn main() -> ExitCode {
    let options = Options::parse();
    let mut output = Output::new(options.json);
    let result = match options.file.as_deref() {
        None => run(io::stdin().lock(), &mut output),
        Some(path) if path == Path::new("-") => run(io::stdin().lock(), &mut output),
        Some(path) => match File::open(path) {
            Ok(file) => run(file, &mut output),
            Err(error) => output.fail(format_args!("frame_dump: {}: {error}", path.display())),
        },
    };
    match result.and_then(|()| output.flush()) {
        // Whoever read has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            output::complain(format_args!("frame_dump: standard output: {error}"));
            ExitCode::FAILURE
        }
        Ok(()) if output.has_failed() => ExitCode::FAILURE,
        Ok(()) => ExitCode::SUCCESS,
    }
}

/// Dumps all that `reader` gives. An error is one of the output.
fn run(mut reader: impl Read, output: &mut Output) -> io::Result<()> {
    let mut buffer = RecvBuf::with_limit(LARGEST as usize);
    // (Nothing is shorter that could be shown.)
    while buffer.unread().len() < trace::START && fill(&mut reader, &mut buffer, output)? {}
    if buffer.unread().starts_with(&MAGIC) {
        return trace::dump(reader, buffer, output);
    }
    match capture::Format::recognise(buffer.unread()) {
        Some(format) => capture::dump(reader, buffer, format, output),
        None => raw::dump(reader, buffer, output),
    }
}

/// Shows what is there, then waits for more; false when there is none.
fn fill(reader: &mut impl Read, buffer: &mut RecvBuf, output: &mut Output) -> io::Result<bool> {
    output.flush()?;
    loop {
        match reader.read(buffer.spare_mut()) {
            Ok(count) => {
                buffer.advance(count);
                return Ok(count > 0);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                output.fail(format_args!("frame_dump: reading: {error}"))?;
                return Ok(false);
            }
        }
    }
}
