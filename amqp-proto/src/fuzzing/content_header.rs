//! Any octets, as a content header frame's payload.

use super::check::{encoded, one_line, one_line_debug, protocol_error};
use super::{field_table, naive};
use crate::wire::{ContentHeader, Frame, HEADER_SIZE, Problem};

/// Any octets as the payload of a content header frame: as they are, and behind the numbers that every such payload begins
/// with.
///
/// [`ContentHeader::decode`] takes what a naive reader takes, and nothing else, whatever the header table holds; what was
/// decoded is written as it came; all of the properties are there, and of the header table all that holds for any table.
pub fn content_header(data: &[u8]) {
    payload(data);
    payload(&[&[0, 60, 0, 0], data].concat());
}

fn payload(payload: &[u8]) {
    let is_expected = naive::is_content_header(payload);
    let body_size = ContentHeader::decode(payload).map(|header| header.body_size);
    assert_eq!(ContentHeader::body_size(payload), body_size);
    let header = match ContentHeader::decode(payload) {
        Ok(header) => header,
        Err(error) => {
            assert!(!is_expected, "{error}");
            if let Problem::PropertyFlags(unknown) = error.problem {
                assert_eq!(unknown, u16::from(payload[13] & 0b11));
            }
            return protocol_error(&error, HEADER_SIZE + payload.len());
        }
    };
    assert!(is_expected, "the naive reader cannot read it");
    let octets = encoded(&Frame::Header { channel: 1, header });
    assert_eq!(octets, naive::encoded_frame(2, 1, payload));
    one_line(&header);
    one_line_debug(&header);
    let mut properties = 0;
    header.properties.for_each(&mut |_, _| properties += 1);
    assert_eq!(properties, payload[12].count_ones() + payload[13].count_ones());
    if let Some(headers) = header.properties.headers {
        field_table(headers.as_encoded());
    }
}
