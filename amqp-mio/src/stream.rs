//! The socket, with or without TLS on it. Nothing here waits.

use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;

use amqp_net::rustls::ClientConnection;
use mio::net::TcpStream;
#[cfg(unix)]
use mio::net::UnixStream;
use mio::{Interest, Registry, Token, event::Source};

/// A connected stream without waiting: TCP or a Unix socket, with or without TLS on it. It is what a [`MioConnection`](crate::MioConnection)
/// speaks over; on its own it serves who drives the core in another way.
///
/// Its events come by edges: after one it is asked until it says [`WouldBlock`](io::ErrorKind::WouldBlock).
#[derive(Debug)]
pub struct Stream {
    socket: Socket,
    tls: Option<Box<ClientConnection>>,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
}

impl Stream {
    const fn plain(socket: Socket) -> Self {
        Self { socket, tls: None }
    }

    /// Whether it is TLS.
    #[must_use]
    pub const fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Whether what fails now fails in the TLS handshake.
    pub(crate) fn is_handshaking(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_handshaking())
    }

    /// The same stream with TLS on it. The handshake may be done, or goes on as the stream is read and written.
    #[must_use]
    pub fn with_tls(mut self, tls: ClientConnection) -> Self {
        self.tls = Some(Box::new(tls));
        self
    }

    /// Whether TLS has something to [flush](Self::flush).
    #[must_use]
    pub fn wants_write(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.wants_write())
    }

    /// Reads what there is; 0 is the end.
    ///
    /// # Errors
    /// The system's, and rustls's within one of [`InvalidData`](io::ErrorKind::InvalidData).
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else {
            return self.socket.read(buffer);
        };
        loop {
            // What was decrypted before comes first: no event of the socket tells of it.
            match tls.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
            let received = tls.read_tls(&mut self.socket)?;
            if let Err(error) = tls.process_new_packets() {
                // The peer is told why, if the socket takes it.
                let _ = tls.write_tls(&mut self.socket);
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
            if received == 0 {
                // Without the peer's word that this is the end, rustls says so.
                return tls.reader().read(buffer);
            }
        }
    }

    /// Writes what the socket takes. With TLS, what is taken may still be to be [flushed](Self::flush).
    ///
    /// # Errors
    /// The system's.
    pub fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else {
            return self.socket.write_vectored(buffers);
        };
        loop {
            match tls.writer().write_vectored(buffers)? {
                // Its buffer is full.
                0 if tls.wants_write() => {
                    tls.write_tls(&mut self.socket)?;
                }
                0 => return Err(io::ErrorKind::WouldBlock.into()),
                count => return Ok(count),
            }
        }
    }

    /// Gives the socket all that was taken.
    ///
    /// # Errors
    /// The system's; [`WouldBlock`](io::ErrorKind::WouldBlock) if it does not take all now.
    pub fn flush(&mut self) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            while tls.wants_write() {
                tls.write_tls(&mut self.socket)?;
            }
        }
        Ok(())
    }

    /// No more is written. Reading goes on.
    pub fn shut(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            let _ = self.flush();
        }
        // Whatever it says, the stream is over.
        let _ = self.socket.shutdown();
    }
}

impl From<TcpStream> for Stream {
    fn from(socket: TcpStream) -> Self {
        Self::plain(Socket::Tcp(socket))
    }
}

#[cfg(unix)]
impl From<UnixStream> for Stream {
    fn from(socket: UnixStream) -> Self {
        Self::plain(Socket::Unix(socket))
    }
}

impl Socket {
    fn shutdown(&self) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => socket.shutdown(Shutdown::Write),
            #[cfg(unix)]
            Self::Unix(socket) => socket.shutdown(Shutdown::Write),
        }
    }

    fn source(&mut self) -> &mut dyn Source {
        match self {
            Self::Tcp(socket) => socket,
            #[cfg(unix)]
            Self::Unix(socket) => socket,
        }
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.read(buffer),
            #[cfg(unix)]
            Self::Unix(socket) => socket.read(buffer),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(buffer)])
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.write_vectored(buffers),
            #[cfg(unix)]
            Self::Unix(socket) => socket.write_vectored(buffers),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Source for Stream {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.socket.source().register(registry, token, interests)
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.socket.source().reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.socket.source().deregister(registry)
    }
}
