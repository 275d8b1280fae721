//! Traces: what a connection's tap wrote. Read piece by piece, as it may still be written.

use std::io::{self, Read};

use amqp_proto::RecvBuf;
use amqp_proto::trace::{MAGIC, TraceError, TraceProblem, TraceReader, TraceRecord};

use crate::frames::{Piece, Stop, show_first};
use crate::output::{Output, Source};
use crate::{LARGEST, fill};

/// How many octets a trace begins with.
pub(crate) const START: usize = MAGIC.len() + 1;

/// Prints the frames of a trace; `buffer` has what was read already.
pub(crate) fn dump(mut reader: impl Read, mut buffer: RecvBuf, output: &mut Output) -> io::Result<()> {
    let mut offset = match TraceReader::new(buffer.unread()) {
        Ok(trace) => trace.offset(),
        Err(error) => return output.fail(format_args!("{error}")),
    };
    buffer.consume(START);
    loop {
        let mut trace = TraceReader::resume(buffer.unread(), offset);
        let end = show(&mut trace, output)?;
        let read = trace.offset() - offset;
        offset += read;
        buffer.consume(usize::try_from(read).unwrap_or(usize::MAX));
        match end {
            Some(error) if !matches!(error.problem, TraceProblem::Truncated { .. }) => {
                return output.fail(format_args!("{error}"));
            }
            _ if buffer.is_full() => {
                return output.fail(format_args!(
                    "octet {offset} of the trace: a record of more than {LARGEST} octets"
                ));
            }
            _ if fill(&mut reader, &mut buffer, output)? => {}
            Some(error) => return output.fail(format_args!("{error}")),
            None => return Ok(()),
        }
    }
}

/// Prints the whole records, and tells what ended them if not the octets did.
fn show(trace: &mut TraceReader<'_>, output: &mut Output) -> io::Result<Option<TraceError>> {
    loop {
        let offset = trace.offset();
        match trace.next() {
            Some(Ok(record)) => show_record(&record, offset, output)?,
            Some(Err(error)) if matches!(error.problem, TraceProblem::Gap { .. }) => {
                output.fail(format_args!("{error}"))?;
            }
            Some(Err(error)) => return Ok(Some(error)),
            None => return Ok(None),
        }
    }
}

fn show_record(record: &TraceRecord<'_>, offset: u64, output: &mut Output) -> io::Result<()> {
    let mut show = |piece: Piece<'_>| output.piece(Source::Trace(record), piece);
    match show_first(record.octets, 0, &mut show) {
        Ok(Some(size)) if size == record.octets.len() => Ok(()),
        Err(Stop::Output(error)) => Err(error),
        // The record says what is wrong with it.
        _ => output.fail(format_args!("octet {offset} of the trace: {record}")),
    }
}
