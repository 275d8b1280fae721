//! A TCP connection that does not block: started, given its options, finished.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use amqp_proto::TcpOptions;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

/// The longest idle time that Linux takes (`MAX_TCP_KEEPIDLE`).
const MAX_IDLE_SECS: u64 = 32_767;

/// Starts to connect to that address: a new socket, non-blocking, not inherited by other programs, with these options.
///
/// It is done when the socket is writable; [`finish`] tells how it went. Waiting, for at most
/// [`connection_timeout`](amqp_proto::ConnectionParameters#structfield.connection_timeout), is the caller's.
///
/// # Errors
/// What the system says if there cannot be such a socket, or if the address is known to be unreachable at once.
pub fn connect_start(address: SocketAddr, options: &TcpOptions) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    apply(options, &socket)?;
    match socket.connect(&address.into()) {
        Err(error) if !is_in_progress(&error) => Err(error),
        _ => Ok(socket),
    }
}

#[cfg(unix)]
fn is_in_progress(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EINPROGRESS)
}

#[cfg(not(unix))]
fn is_in_progress(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

/// Sets these options on a TCP socket of any library: whatever lends its file descriptor (`AsFd`; `AsSocket` on Windows).
///
/// An idle time of [`keepalive`](TcpOptions#structfield.keepalive) is rounded up to whole seconds, at most 32 767.
///
/// # Errors
/// What the system says, for example when this is no TCP socket.
pub fn apply<'s, S>(options: &TcpOptions, socket: &'s S) -> io::Result<()>
where
    SockRef<'s>: From<&'s S>,
{
    let socket = SockRef::from(socket);
    socket.set_tcp_nodelay(options.nodelay)?;
    match options.keepalive {
        Some(idle) => socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(idle_time(idle))),
        None => socket.set_keepalive(false),
    }
}

fn idle_time(idle: Duration) -> Duration {
    let seconds = idle.as_secs().saturating_add(u64::from(idle.subsec_nanos() > 0));
    Duration::from_secs(seconds.clamp(1, MAX_IDLE_SECS))
}

/// How a connection that was started has gone.
///
/// # Errors
/// Why it failed, in the system's words. [`io::ErrorKind::NotConnected`] means that it is not decided yet: wait on until the
/// socket is writable.
pub fn finish<'s, S>(socket: &'s S) -> io::Result<()>
where
    SockRef<'s>: From<&'s S>,
{
    let socket = SockRef::from(socket);
    match socket.take_error()? {
        Some(error) => Err(error),
        None => socket.peer_addr().map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
    use std::time::Instant;

    fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    /// Asks until it is decided, as there is no poll in std.
    fn wait(socket: &Socket) -> io::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            match finish(socket) {
                Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                    assert!(Instant::now() < deadline, "undecided");
                    std::thread::yield_now();
                }
                decided => return decided,
            }
        }
    }

    #[test]
    fn connects_with_its_options() {
        let (listener, address) = listener();
        let options = TcpOptions::default().keepalive(Some(Duration::from_secs(45)));
        let socket = connect_start(address, &options).unwrap();
        wait(&socket).unwrap();
        let (_, peer) = listener.accept().unwrap();
        assert_eq!(socket.local_addr().unwrap().as_socket(), Some(peer));
        assert!(socket.tcp_nodelay().unwrap());
        assert!(socket.keepalive().unwrap());
        #[cfg(unix)]
        assert!(socket.nonblocking().unwrap());
        #[cfg(target_os = "linux")]
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(45));
        #[cfg(unix)]
        assert!(is_close_on_exec(&socket));
    }

    #[cfg(unix)]
    fn is_close_on_exec(socket: &Socket) -> bool {
        use std::os::fd::AsRawFd;
        let path = format!("/proc/self/fdinfo/{}", socket.as_raw_fd());
        let Ok(info) = std::fs::read_to_string(path) else {
            return true; // No such file but on Linux.
        };
        let flags = info
            .lines()
            .find_map(|line| line.strip_prefix("flags:"))
            .unwrap()
            .trim();
        u64::from_str_radix(flags, 8).unwrap() & 0o2_000_000 != 0
    }

    #[test]
    fn a_closed_port_is_refused_in_the_systems_words() {
        // Bound and not listening, so that nobody else gets the port.
        let closed = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        closed
            .bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())
            .unwrap();
        let address = closed.local_addr().unwrap().as_socket().unwrap();
        let error = connect_start(address, &TcpOptions::default())
            .and_then(|socket| wait(&socket))
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn what_is_known_to_be_unreachable_fails_at_once() {
        let everybody = SocketAddr::from((Ipv4Addr::BROADCAST, 5672));
        assert!(connect_start(everybody, &TcpOptions::default()).is_err());
    }

    #[test]
    fn both_families_get_a_socket_of_their_own() {
        let Ok(listener) = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) else {
            return; // A machine without IPv6.
        };
        let socket = connect_start(listener.local_addr().unwrap(), &TcpOptions::default()).unwrap();
        wait(&socket).unwrap();
        assert!(socket.peer_addr().unwrap().is_ipv6());
    }

    #[test]
    fn undecided_is_told_from_failed() {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        assert_eq!(finish(&socket).unwrap_err().kind(), io::ErrorKind::NotConnected);
    }

    #[test]
    fn options_are_set_both_ways_on_anybodys_socket() {
        let (_listener, address) = listener();
        let stream = TcpStream::connect(address).unwrap();
        let on = TcpOptions::default().keepalive(Some(Duration::from_millis(1_001)));
        apply(&on, &stream).unwrap();
        let socket = SockRef::from(&stream);
        assert!(stream.nodelay().unwrap() && socket.keepalive().unwrap());
        #[cfg(target_os = "linux")]
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(2));
        apply(&TcpOptions::default().nodelay(false), &stream).unwrap();
        assert!(!stream.nodelay().unwrap() && !socket.keepalive().unwrap());
    }

    #[test]
    fn any_idle_time_is_one_that_the_system_takes() {
        let (_listener, address) = listener();
        let stream = TcpStream::connect(address).unwrap();
        for (idle, seconds) in [
            (Duration::ZERO, 1),
            (Duration::from_nanos(1), 1),
            (Duration::from_secs(2), 2),
            (Duration::MAX, MAX_IDLE_SECS),
        ] {
            assert_eq!(idle_time(idle), Duration::from_secs(seconds));
            apply(&TcpOptions::default().keepalive(Some(idle)), &stream).unwrap();
        }
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_tcp_socket_is_refused() {
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(apply(&TcpOptions::default(), &one).is_err());
    }
}
