//! Any octets, as a method frame's payload.

use super::check::{encoded, one_line, one_line_debug, protocol_error};
use super::naive;
use crate::wire::{Frame, HEADER_SIZE, METHODS, Method};

/// Any octets as the payload of a method frame: as they are, and behind the numbers of a method that the first of them picks.
///
/// [`Method::decode`] takes what a reader of the method table takes, and nothing else; what was decoded is written as it
/// came, reserved arguments and unused bits cleared; secrets are never shown.
pub fn method(data: &[u8]) {
    payload(data);
    if let Some((&first, arguments)) = data.split_first() {
        let id = METHODS[usize::from(first) % METHODS.len()].id;
        payload(&[&id.class.to_be_bytes(), &id.method.to_be_bytes(), arguments].concat());
    }
}

fn payload(payload: &[u8]) {
    let expected = naive::method(payload);
    let method = match Method::decode(payload) {
        Ok(method) => method,
        Err(error) => {
            assert!(expected.is_none(), "{error}");
            return protocol_error(&error, HEADER_SIZE + payload.len());
        }
    };
    let expected = expected.expect("the naive reader cannot read it");
    let octets = encoded(&Frame::Method { channel: 1, method });
    assert_eq!(octets, naive::encoded_frame(1, 1, &expected.canonical));
    assert_eq!(Method::decode(&expected.canonical), Ok(method));
    let mut arguments = 0;
    method.for_each_argument(&mut |_, _| arguments += 1);
    assert_eq!(arguments, expected.arguments);
    shown(&method, &expected.masked);
}

/// Shown on one line, and in the same way whatever the octets of its secrets are.
fn shown(method: &Method<'_>, masked: &[u8]) {
    one_line(method);
    one_line_debug(method);
    let masked = Method::decode(masked).expect("only secrets differ");
    assert_eq!(masked.to_string(), method.to_string());
    assert_eq!(format!("{masked:?}"), format!("{method:?}"));
}
