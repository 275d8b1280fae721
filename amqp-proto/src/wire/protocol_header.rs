//! The eight octets that open a connection (specification 4.2.2).

use super::Problem;

/// `AMQP 0-9-1`: what a client sends first, and what a server answers that wants it.
pub const PROTOCOL_HEADER: [u8; 8] = *b"AMQP\x00\x00\x09\x01";

/// The same in the manner of 0-8 and 0-9, which RabbitMQ takes too.
const OLD_STYLE: [u8; 8] = *b"AMQP\x01\x01\x00\x09";

/// For a server: checks what a client sent first. `None` if it is not all there yet.
///
/// # Errors
/// Another version, or another protocol; the server answers with [`PROTOCOL_HEADER`] and closes.
pub fn parse_protocol_header(input: &[u8]) -> Result<Option<()>, Problem> {
    if !input
        .iter()
        .zip(b"AMQP")
        .all(|(octet, expected)| octet == expected)
    {
        return Err(Problem::not_amqp(input));
    }
    match input.first_chunk::<8>() {
        None => Ok(None),
        Some(&PROTOCOL_HEADER | &OLD_STYLE) => Ok(Some(())),
        Some(&[_, _, _, _, a, b, c, d]) => Err(Problem::ProtocolHeader([a, b, c, d])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_protocol_and_version_pass() {
        assert_eq!(parse_protocol_header(b""), Ok(None));
        assert_eq!(parse_protocol_header(b"AMQP\x00\x00\x09"), Ok(None));
        assert_eq!(parse_protocol_header(b"AMQP\x00\x00\x09\x01\x01"), Ok(Some(())));
        assert_eq!(parse_protocol_header(b"AMQP\x01\x01\x00\x09"), Ok(Some(())));
        assert_eq!(
            parse_protocol_header(b"AMQP\x03\x01\x00\x00"),
            Err(Problem::ProtocolHeader([3, 1, 0, 0]))
        );
        assert_eq!(
            parse_protocol_header(b"AMX"),
            Err(Problem::NotAmqp(*b"AMX\0\0\0\0\0"))
        );
        assert_eq!(
            parse_protocol_header(b"GET / HTTP/1.1"),
            Err(Problem::NotAmqp(*b"GET / HT"))
        );
    }
}
