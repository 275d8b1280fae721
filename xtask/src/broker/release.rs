//! What a broker says it is.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// Longer than a broker takes that is there.
const PATIENCE: Duration = Duration::from_secs(10);

/// A Connection.Start is a few hundred octets long.
const LIMIT: usize = 64 * 1024;

/// The release of the RabbitMQ at that `amqp://` URI, by the broker's own words: none if it is something else.
pub(crate) fn release(url: &str) -> Result<Option<String>> {
    let start = start(url).with_context(|| "what broker this is".to_owned())?;
    let is_rabbitmq = field(&start, "product").as_deref() == Some("RabbitMQ");
    Ok(field(&start, "version").filter(|_| is_rabbitmq))
}

/// The broker's first frame.
fn start(url: &str) -> Result<Vec<u8>> {
    let address = address(url).to_socket_addrs()?.next().context("no address")?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"AMQP\x00\x00\x09\x01")?;
    let mut header = [0; 7];
    stream.read_exact(&mut header)?;
    let [_, _, _, size @ ..] = header;
    let size = usize::try_from(u32::from_be_bytes(size))?;
    if size > LIMIT {
        bail!("the first frame is {size} octets long");
    }
    let mut frame = vec![0; size];
    stream.read_exact(&mut frame)?;
    Ok(frame)
}

/// Host and port.
fn address(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let address = authority.rsplit('@').next().unwrap_or_default();
    let has_port = address
        .rsplit_once(':')
        .is_some_and(|(_, port)| !port.ends_with(']'));
    if has_port {
        address.to_owned()
    } else {
        format!("{address}:5672")
    }
}

/// A text in the server's properties.
fn field(frame: &[u8], name: &str) -> Option<String> {
    let mut key = vec![u8::try_from(name.len()).ok()?];
    key.extend(name.bytes().chain(*b"S"));
    let at = frame.windows(key.len()).position(|window| window == key)?;
    let (size, rest) = frame.get(at + key.len()..)?.split_first_chunk()?;
    let text = rest.get(..usize::try_from(u32::from_be_bytes(*size)).ok()?)?;
    String::from_utf8(text.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_found_in_a_uri() {
        assert_eq!(address("amqp://guest:p@localhost:1234/%2f?a=b"), "localhost:1234");
        assert_eq!(address("amqp://[::1]"), "[::1]:5672");
        assert_eq!(address("amqp://rabbit?heartbeat=5"), "rabbit:5672");
    }

    #[test]
    fn a_field_is_found_in_a_frame_that_may_lie() {
        let frame = b"..\x07productS\0\0\0\x08RabbitMQ\x07versionS\0\0\0\x063.10.8";
        assert_eq!(field(frame, "product").as_deref(), Some("RabbitMQ"));
        assert_eq!(field(frame, "version").as_deref(), Some("3.10.8"));
        assert_eq!(field(&frame[..frame.len() - 1], "version"), None);
        assert_eq!(field(frame, "platform"), None);
    }
}
