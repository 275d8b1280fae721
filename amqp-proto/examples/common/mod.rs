//! What the examples with a socket that never blocks share: reaching the broker, reading, writing, hanging up.

use std::error::Error as StdError;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::process::ExitCode;
use std::time::{Duration, Instant as Clock};

use amqp_proto::{
    ChannelCloseReason, Config, ConfirmOutcome, ConnectionParameters, Event, Instant, RecvBuf, SendBuf,
    TransportError,
};
use bytes::Buf;

/// Whatever ends an example early, in words.
pub(crate) type Error = Box<dyn StdError + Send + Sync>;

/// How an example ends: with what went wrong, if something did.
pub(crate) fn exit(outcome: Result<(), Error>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// How long an example may take.
pub(crate) const DEADLINE: Instant = Instant::from_nanos(60_000_000_000);

/// The clock that the core does not have.
#[derive(Clone, Copy)]
pub(crate) struct Epoch(Clock);

impl Epoch {
    pub(crate) fn new() -> Self {
        Self(Clock::now())
    }

    pub(crate) fn now(self) -> Instant {
        Instant::since_epoch(self.0.elapsed())
    }

    /// How long to wait for the socket until `at`, if that is earlier than the end of the example.
    pub(crate) fn until(self, at: Option<Instant>) -> Duration {
        at.unwrap_or(DEADLINE).min(DEADLINE).duration_since(self.now())
    }
}

/// A socket that never blocks, and what lies between it and the core.
pub(crate) struct Wire {
    pub(crate) socket: TcpStream,
    pub(crate) input: RecvBuf,
    pub(crate) output: SendBuf,
    write_error: Option<TransportError>,
}

impl Wire {
    /// Reaches the broker that `AMQP_URL` names, and says what its [`Connection`](amqp_proto::Connection) is to be made of.
    pub(crate) fn connect() -> Result<(Self, Config), Error> {
        let url = std::env::var("AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@localhost".into());
        let parameters = ConnectionParameters::from_uri(&url)?;
        parameters.validate()?;
        if parameters.tls.is_some() {
            return Err("this example speaks plain TCP only: use amqp://".into());
        }
        let mut last_error = Error::from("the name of the broker has no address");
        for (host, port) in parameters.addresses() {
            let resolved = (host, port)
                .to_socket_addrs()
                .map_err(|error| format!("{host}: {error}"))?;
            for address in resolved {
                match TcpStream::connect_timeout(&address, parameters.connection_timeout) {
                    Ok(socket) => return Ok((Self::new(socket)?, parameters.config.clone())),
                    Err(error) => last_error = format!("{address}: {error}").into(),
                }
            }
        }
        Err(last_error)
    }

    fn new(socket: TcpStream) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        let (input, output) = (RecvBuf::new(), SendBuf::new());
        Ok(Self {
            socket,
            input,
            output,
            write_error: None,
        })
    }

    /// Reads once, and says whether something was there. The error is the end of the stream, for `handle_disconnect`.
    pub(crate) fn read(&mut self) -> Result<bool, TransportError> {
        if self.input.is_full() {
            return Ok(false); // Reading into no room gives 0 too, and is not the end.
        }
        match self.socket.read(self.input.spare_mut()) {
            Ok(0) => Err(self
                .write_error
                .take()
                .unwrap_or_else(TransportError::end_of_stream)),
            Ok(count) => {
                self.input.advance(count);
                Ok(true)
            }
            Err(error) if is_transient(&error) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes once, as much as the socket takes, and says whether it may take more.
    pub(crate) fn write(&mut self) -> bool {
        let mut slices = [IoSlice::new(&[]); 64];
        let count = self.output.chunks_vectored(&mut slices);
        match self.socket.write_vectored(&slices[..count]) {
            Ok(written) => {
                self.output.advance(written);
                true
            }
            Err(error) if is_transient(&error) => false,
            Err(error) => {
                // What the broker said before it hung up is still to be read, and says more.
                self.write_error.get_or_insert_with(|| error.into());
                self.output.advance(usize::MAX);
                false
            }
        }
    }

    /// Writes what is left and waits for the broker to hang up: a socket that is closed over unread octets is reset, and
    /// the reset may overtake our answer to the broker's close. `poll_transmit` is the connection's.
    pub(crate) fn hang_up(self, poll_transmit: impl FnMut(&mut SendBuf) -> bool) {
        // Whatever goes wrong here, why the connection ended is known already.
        let _ = self.try_to_hang_up(poll_transmit);
    }

    fn try_to_hang_up(mut self, mut poll_transmit: impl FnMut(&mut SendBuf) -> bool) -> io::Result<()> {
        self.socket.set_nonblocking(false)?;
        self.socket.set_write_timeout(Some(Duration::from_secs(2)))?;
        self.socket.set_read_timeout(Some(Duration::from_secs(2)))?;
        while poll_transmit(&mut self.output) {
            let written = self.socket.write(self.output.chunk())?;
            self.output.advance(written);
        }
        self.socket.shutdown(Shutdown::Write)?;
        io::copy(&mut self.socket.take(1 << 20), &mut io::sink()).map(drop)
    }
}

/// Whether an event is a failure, in the broker's words if it had some. The end of the connection is not looked at.
pub(crate) fn check(event: &Event) -> Result<(), Error> {
    match event {
        Event::RequestFailed { cause, .. } => Err(cause.clone().into()),
        Event::Confirmed {
            outcome: ConfirmOutcome::Lost(reason),
            ..
        } => Err(reason.clone().into()),
        Event::Confirmed { tags, outcome } if *outcome != ConfirmOutcome::Acked => {
            Err(format!("{tags:?}: {outcome}").into())
        }
        Event::ChannelClosed { reason, .. } if *reason != ChannelCloseReason::Requested => {
            Err(reason.clone().into())
        }
        _ => Ok(()),
    }
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
