//! TCP connections: which of them are AMQP, and which end is the client.
//!
//! ```text
//!                           protocol header of AMQP 0-9-1
//! first segment ──▶ Undecided ───────────────────────▶ Amqp
//!                       │                               │ FIN of both, RST, a gap,
//!                       │ anything else, or the end     │ malformed octets, or the end
//!                       ▼                               ▼
//!                     Done ◀────────────────────────────┘
//! ```

use std::collections::HashMap;
use std::fmt::Arguments;
use std::io;
use std::net::SocketAddr;

use amqp_proto::RecvBuf;
use amqp_proto::wire::parse_protocol_header;

use crate::LARGEST;
use crate::frames::{Frames, Stop};
use crate::output::{Origin, Output, Side, Source};
use crate::reorder::{LARGEST_STEP, Overflow, Reorder};
use crate::segment::Segment;

/// How many connections are followed at once.
const MOST_CONNECTIONS: usize = 10_000;

/// How many octets may come before it is known which side is the client.
const UNDECIDED_LIMIT: usize = 64 * 1024;

/// Every connection of a capture.
#[derive(Default)]
pub(crate) struct Streams {
    connections: HashMap<[SocketAddr; 2], Connection>,
    count: u32,
}

impl Streams {
    /// Takes the next segment, and prints the frames that it completes.
    pub(crate) fn segment(&mut self, segment: &Segment<'_>, output: &mut Output) -> io::Result<()> {
        let mut key = [segment.from, segment.to];
        key.sort_unstable();
        if let Some(connection) = self.connections.get_mut(&key) {
            if !connection.is_followed_by(segment) {
                return connection.segment(segment, output);
            }
            connection.finish(output)?;
        } else if segment.rst || (segment.payload.is_empty() && !segment.syn) {
            // The last words of a connection that nobody knows.
            return Ok(());
        } else if self.connections.len() >= MOST_CONNECTIONS {
            self.make_room(output)?;
        }
        self.count += 1;
        let mut connection = Connection::new(self.count, segment);
        connection.segment(segment, output)?;
        self.connections.insert(key, connection);
        Ok(())
    }

    /// The capture is over: tells what is not whole.
    pub(crate) fn end(self, output: &mut Output) -> io::Result<()> {
        let mut connections: Vec<_> = self.connections.into_values().collect();
        connections.sort_unstable_by_key(|connection| connection.number);
        connections
            .iter_mut()
            .try_for_each(|connection| connection.finish(output))
    }

    /// Forgets connections that are done, or else the oldest one.
    fn make_room(&mut self, output: &mut Output) -> io::Result<()> {
        self.connections
            .retain(|_, connection| !matches!(connection.state, State::Done));
        if self.connections.len() < MOST_CONNECTIONS {
            return Ok(());
        }
        let oldest = self
            .connections
            .iter()
            .min_by_key(|(_, connection)| connection.number);
        let Some(oldest) = oldest
            .map(|(key, _)| *key)
            .and_then(|key| self.connections.remove(&key))
        else {
            return Ok(());
        };
        if matches!(oldest.state, State::Amqp { .. }) {
            oldest.fail(
                output,
                format_args!("more than {MOST_CONNECTIONS} connections at once"),
            )?;
        }
        Ok(())
    }
}

struct Connection {
    number: u32,
    /// Who opened it, and who was called.
    ends: [SocketAddr; 2],
    /// Whether that is known, and not just who was seen first.
    saw_opening: bool,
    /// What `ends` sent.
    halves: [Half; 2],
    state: State,
}

enum State {
    /// It is not known yet what it is.
    Undecided,
    /// Frames are printed.
    Amqp {
        /// Which of `ends` the client is.
        client: usize,
    },
    /// Nothing is printed any more.
    Done,
}

struct Half {
    reorder: Reorder,
    frames: Frames,
}

impl Default for Half {
    fn default() -> Self {
        Self {
            reorder: Reorder::default(),
            frames: Frames::new(RecvBuf::with_limit(LARGEST as usize + LARGEST_STEP)),
        }
    }
}

impl Connection {
    fn new(number: u32, first: &Segment<'_>) -> Self {
        let (opener, called) = if first.syn && first.ack {
            (first.to, first.from)
        } else {
            (first.from, first.to)
        };
        Self {
            number,
            ends: [opener, called],
            saw_opening: first.syn,
            halves: Default::default(),
            state: State::Undecided,
        }
    }

    /// Whether a segment opens another connection between the same ends.
    fn is_followed_by(&self, segment: &Segment<'_>) -> bool {
        let start = self.halves[self.index(segment.from)].reorder.start();
        let is_other = match start {
            Some(start) => start != segment.sequence.wrapping_add(1),
            None => matches!(self.state, State::Done),
        };
        segment.syn && !segment.ack && is_other
    }

    fn index(&self, end: SocketAddr) -> usize {
        usize::from(end != self.ends[0])
    }

    fn segment(&mut self, segment: &Segment<'_>, output: &mut Output) -> io::Result<()> {
        let from = self.index(segment.from);
        let Half { reorder, frames } = &mut self.halves[from];
        // The octet after a SYN is the first one.
        let sequence = segment.sequence.wrapping_add(u32::from(segment.syn));
        if segment.syn || !segment.payload.is_empty() {
            reorder.begin(sequence);
        }
        if matches!(self.state, State::Done) {
            return Ok(());
        }
        if segment.rst {
            return self.finish(output);
        }
        let accepted = reorder.accept(sequence, segment.payload, segment.fin, frames.buffer());
        self.advance(from, output)?;
        let is_complete = self.halves.iter().all(|half| half.reorder.is_complete());
        match accepted {
            Ok(()) if !is_complete => Ok(()),
            Ok(()) | Err(Overflow) => self.finish(output),
        }
    }

    /// Prints what has become whole of what came from one end.
    fn advance(&mut self, from: usize, output: &mut Output) -> io::Result<()> {
        match self.state {
            State::Undecided => self.decide(output),
            State::Amqp { .. } => self.print(from, output),
            State::Done => Ok(()),
        }
    }

    /// Finds out what the connection is, if enough of it has come.
    fn decide(&mut self, output: &mut Output) -> io::Result<()> {
        // A server that wants another version answers with a protocol header too.
        let candidates = if self.saw_opening { 1 } else { 2 };
        let mut starts = self
            .halves
            .iter()
            .take(candidates)
            .map(|half| parse_protocol_header(half.frames.unread()));
        if let Some(client) = starts.clone().position(|start| start == Ok(Some(()))) {
            self.state = State::Amqp { client };
            self.print(client, output)?;
            return self.print(1 - client, output);
        }
        let size: usize = self.halves.iter().map(|half| half.frames.unread().len()).sum();
        if size > UNDECIDED_LIMIT || starts.all(|start| start.is_err()) {
            return self.skip(output);
        }
        Ok(())
    }

    fn print(&mut self, from: usize, output: &mut Output) -> io::Result<()> {
        let State::Amqp { client } = self.state else {
            return Ok(());
        };
        let origin = Origin {
            stream: self.number,
            side: self.side(from),
            client: self.ends[client],
            server: self.ends[1 - client],
        };
        match self.halves[from]
            .frames
            .drain(|piece| output.piece(Source::Capture(&origin), piece))
        {
            Ok(()) => Ok(()),
            Err(Stop::Output(error)) => Err(error),
            Err(Stop::Broken { octet, error }) => {
                self.fail_at(from, octet, output, format_args!("{error}"))?;
                self.retire();
                Ok(())
            }
        }
    }

    /// Says what is missing, and forgets everything but that the connection was there.
    fn finish(&mut self, output: &mut Output) -> io::Result<()> {
        match self.state {
            State::Undecided => self.skip(output)?,
            State::Amqp { .. } => {
                self.tell_rest(0, output)?;
                self.tell_rest(1, output)?;
            }
            State::Done => {}
        }
        self.retire();
        Ok(())
    }

    fn tell_rest(&self, from: usize, output: &mut Output) -> io::Result<()> {
        let Half { reorder, frames } = &self.halves[from];
        if let Some((start, end)) = reorder.gap() {
            return self.fail_at(
                from,
                start,
                output,
                format_args!("{} octets are not in the capture", end - start),
            );
        }
        match frames.unread().len() {
            0 => Ok(()),
            left => self.fail_at(
                from,
                frames.position(),
                output,
                format_args!("ends within a frame, of which {left} octets are there"),
            ),
        }
    }

    /// Says that this is not AMQP, unless it is nothing at all.
    fn skip(&mut self, output: &mut Output) -> io::Result<()> {
        let said = self
            .halves
            .iter()
            .map(|half| half.frames.unread())
            .find(|unread| !unread.is_empty());
        let gap = self.halves.iter().any(|half| half.reorder.gap().is_some());
        let [opener, called] = self.ends;
        let number = self.number;
        match said {
            Some(said) => output.note(format_args!(
                "stream {number}, {opener} to {called}: does not begin with the protocol header of AMQP 0-9-1 \
                 but with \"{}\"; skipped",
                said.get(..8).unwrap_or(said).escape_ascii()
            ))?,
            None if gap => output.note(format_args!(
                "stream {number}, {opener} to {called}: its beginning is not in the capture; skipped"
            ))?,
            None => {}
        }
        self.retire();
        Ok(())
    }

    fn retire(&mut self) {
        self.state = State::Done;
        // Sequence numbers tell the next connection between the same ends from this one.
        for half in &mut self.halves {
            let start = half.reorder.start();
            *half = Half::default();
            start.into_iter().for_each(|start| half.reorder.begin(start));
        }
    }

    fn side(&self, from: usize) -> Side {
        match self.state {
            State::Amqp { client } if client == from => Side::Client,
            _ => Side::Server,
        }
    }

    fn fail_at(
        &self,
        from: usize,
        octet: u64,
        output: &mut Output,
        problem: Arguments<'_>,
    ) -> io::Result<()> {
        let side = self.side(from).name();
        self.fail(output, format_args!("from the {side}, octet {octet}: {problem}"))
    }

    fn fail(&self, output: &mut Output, problem: Arguments<'_>) -> io::Result<()> {
        output.fail(format_args!("stream {}, {problem}", self.number))
    }
}
