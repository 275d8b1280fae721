//! A socket, or TLS on one. Nothing here blocks: what would, is [`ErrorKind::WouldBlock`](std::io::ErrorKind::WouldBlock).

use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;

use mio::net::TcpStream;

#[derive(Debug)]
pub(super) enum Stream {
    Plain(TcpStream),
    #[cfg(feature = "tls")]
    Tls(Box<tls::TlsStream>),
}

impl Stream {
    #[cfg(feature = "tls")]
    pub(super) fn tls(
        socket: TcpStream,
        config: std::sync::Arc<rustls::ServerConfig>,
    ) -> Result<Self, rustls::Error> {
        Ok(Self::Tls(Box::new(tls::TlsStream::new(socket, config)?)))
    }

    /// Reads some octets; none is the end.
    pub(super) fn read(&mut self, spare: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(spare),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.read(spare),
        }
    }

    pub(super) fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write_vectored(slices),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.write(slices),
        }
    }

    /// Gives the system what was written and is still held back.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.flush(),
        }
    }

    /// Whether the system has all that was written.
    pub(super) fn is_flushed(&self) -> bool {
        match self {
            Self::Plain(_) => true,
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.is_flushed(),
        }
    }

    /// Says that nothing more comes. If the peer does not hear it, it is gone already.
    pub(super) fn hang_up(&mut self) {
        let socket = match self {
            Self::Plain(socket) => socket,
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.say_goodbye(),
        };
        let _ = socket.shutdown(Shutdown::Write);
    }
}

#[cfg(feature = "tls")]
mod tls {
    use std::io::{self, ErrorKind, IoSlice, Read, Write};
    use std::sync::Arc;

    use mio::net::TcpStream;
    use rustls::{ServerConfig, ServerConnection};

    #[derive(Debug)]
    pub(in crate::listener) struct TlsStream {
        socket: TcpStream,
        session: ServerConnection,
    }

    impl TlsStream {
        pub(super) fn new(socket: TcpStream, config: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
            let session = ServerConnection::new(config)?;
            Ok(Self { socket, session })
        }

        pub(super) fn read(&mut self, spare: &mut [u8]) -> io::Result<usize> {
            loop {
                match self.session.reader().read(spare) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    outcome => return outcome,
                }
                self.session.read_tls(&mut self.socket)?;
                // What the handshake or an alert has to say is for the next flush.
                self.session.process_new_packets().map_err(io::Error::other)?;
            }
        }

        pub(super) fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
            // It holds back a limited amount, and takes nothing beyond that.
            let mut count = self.session.writer().write_vectored(slices)?;
            if count == 0 {
                self.flush()?;
                count = self.session.writer().write_vectored(slices)?;
            }
            match count {
                // There is an event when the handshake goes on.
                0 => Err(ErrorKind::WouldBlock.into()),
                count => Ok(count),
            }
        }

        pub(super) fn flush(&mut self) -> io::Result<()> {
            while self.session.wants_write() {
                self.session.write_tls(&mut self.socket)?;
            }
            Ok(())
        }

        pub(super) fn is_flushed(&self) -> bool {
            !self.session.wants_write()
        }

        pub(super) fn say_goodbye(&mut self) -> &TcpStream {
            self.session.send_close_notify();
            let _ = self.flush();
            &self.socket
        }
    }
}
