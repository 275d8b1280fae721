//! Captures: pcap and pcapng records become packets. Read piece by piece, so that a capture may never end.

use std::collections::HashSet;
use std::io::{self, Read};

use amqp_proto::RecvBuf;
use pcap_parser::traits::PcapNGPacketBlock;
use pcap_parser::{
    Block, LegacyPcapBlock, Linktype, PcapError, parse_block_be, parse_block_le, parse_pcap_frame,
    parse_pcap_frame_be, parse_pcap_header,
};

use crate::output::Output;
use crate::streams::Streams;
use crate::{LARGEST, fill, segment};

/// How many octets tell a capture from anything else.
const MAGIC_SIZE: usize = 4;

/// A file format of captures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// libpcap's own, in either byte order, with microseconds or nanoseconds.
    Pcap,
    /// Its successor.
    PcapNg,
}

impl Format {
    /// What `start` is the beginning of.
    pub(crate) fn recognise(start: &[u8]) -> Option<Self> {
        match u32::from_be_bytes(*start.first_chunk::<MAGIC_SIZE>()?) {
            0xa1b2_c3d4 | 0xd4c3_b2a1 | 0xa1b2_3c4d | 0x4d3c_b2a1 => Some(Self::Pcap),
            0x0a0d_0d0a => Some(Self::PcapNg),
            _ => None,
        }
    }
}

/// Prints the frames of every AMQP connection in a capture; `buffer` has what was read already.
pub(crate) fn dump(
    mut reader: impl Read,
    mut buffer: RecvBuf,
    format: Format,
    output: &mut Output,
) -> io::Result<()> {
    let mut records = Records::new(format);
    let mut streams = Streams::default();
    let mut unknown_links = HashSet::new();
    let mut position = 0;
    loop {
        let size = match records.next(buffer.unread()) {
            Ok((Record::Packet { link, octets }, size)) => {
                match segment::parse(link, octets) {
                    Ok(Some(segment)) => streams.segment(&segment, output)?,
                    Ok(None) => {}
                    Err(segment::UnknownLink) if unknown_links.insert(link.0) => {
                        output.fail(format_args!(
                            "octet {position}: packets of link type {} cannot be read; skipped",
                            link.0
                        ))?;
                    }
                    Err(segment::UnknownLink) => {}
                }
                size
            }
            Ok((Record::Other, size)) => size,
            Ok((Record::Homeless, size)) => {
                output.fail(format_args!(
                    "octet {position}: a packet of an interface that the capture does not describe; skipped"
                ))?;
                size
            }
            Err(Trouble::Incomplete) if buffer.is_full() => {
                output.fail(format_args!(
                    "octet {position}: a record of more than {LARGEST} octets"
                ))?;
                break;
            }
            Err(Trouble::Incomplete) => {
                if fill(&mut reader, &mut buffer, output)? {
                    continue;
                }
                let left = buffer.unread().len();
                if left > 0 {
                    output.fail(format_args!(
                        "octet {position}: the capture ends within a record, of which {left} octets are there"
                    ))?;
                }
                break;
            }
            Err(Trouble::Damaged) => {
                output.fail(format_args!(
                    "octet {position}: the capture cannot be read from here on"
                ))?;
                break;
            }
        };
        buffer.consume(size);
        position += size as u64;
    }
    streams.end(output)
}

/// The format, and what its headers said so far.
enum Records {
    PcapStart,
    Pcap { parse: ParseRecord, link: Linktype },
    PcapNg { parse: ParseBlock, links: Vec<Linktype> },
}

type ParseRecord = fn(&[u8]) -> nom::IResult<&[u8], LegacyPcapBlock<'_>, PcapError<&[u8]>>;
type ParseBlock = fn(&[u8]) -> nom::IResult<&[u8], Block<'_>, PcapError<&[u8]>>;

enum Record<'a> {
    Packet {
        link: Linktype,
        octets: &'a [u8],
    },
    /// A packet whose interface is not known.
    Homeless,
    /// Nothing with a packet in it.
    Other,
}

/// Why there is no record.
enum Trouble {
    /// It is not all there yet.
    Incomplete,
    /// It is none.
    Damaged,
}

impl From<nom::Err<PcapError<&[u8]>>> for Trouble {
    fn from(error: nom::Err<PcapError<&[u8]>>) -> Self {
        match error {
            nom::Err::Incomplete(_) => Self::Incomplete,
            nom::Err::Error(_) | nom::Err::Failure(_) => Self::Damaged,
        }
    }
}

impl Records {
    fn new(format: Format) -> Self {
        match format {
            Format::Pcap => Self::PcapStart,
            Format::PcapNg => Self::PcapNg {
                parse: parse_block_le,
                links: Vec::new(),
            },
        }
    }

    /// The record that `octets` begin with, and its size.
    fn next<'a>(&mut self, octets: &'a [u8]) -> Result<(Record<'a>, usize), Trouble> {
        if octets.is_empty() {
            return Err(Trouble::Incomplete);
        }
        let (rest, record) = match self {
            Self::PcapStart => {
                let (rest, header) = parse_pcap_header(octets)?;
                *self = Self::Pcap {
                    parse: if header.is_bigendian() {
                        parse_pcap_frame_be
                    } else {
                        parse_pcap_frame
                    },
                    // What is above tells of a checksum after each packet, which IP's own lengths leave out.
                    link: Linktype(header.network.0 & 0xffff),
                };
                (rest, Record::Other)
            }
            Self::Pcap { parse, link } => {
                let (rest, packet) = parse(octets)?;
                (
                    rest,
                    Record::Packet {
                        link: *link,
                        octets: packet.data,
                    },
                )
            }
            Self::PcapNg { parse, links } => {
                let (rest, block) = parse(octets)?;
                (rest, next_block(block, parse, links))
            }
        };
        Ok((record, octets.len() - rest.len()))
    }
}

fn next_block<'a>(block: Block<'a>, parse: &mut ParseBlock, links: &mut Vec<Linktype>) -> Record<'a> {
    let (interface, octets) = match block {
        Block::SectionHeader(section) => {
            *parse = if section.big_endian() {
                parse_block_be
            } else {
                parse_block_le
            };
            links.clear();
            return Record::Other;
        }
        Block::InterfaceDescription(interface) => {
            links.push(interface.linktype);
            return Record::Other;
        }
        // (The blocks' own `packet_data` borrows from the block.)
        Block::EnhancedPacket(packet) => (packet.if_id as usize, first(packet.data, packet.caplen)),
        Block::SimplePacket(packet) => (0, first(packet.data, packet.orig_len())),
        _ => return Record::Other,
    };
    match links.get(interface) {
        Some(&link) => Record::Packet { link, octets },
        None => Record::Homeless,
    }
}

/// Leaves out what pads a packet.
fn first(octets: &[u8], count: u32) -> &[u8] {
    octets.get(..count as usize).unwrap_or(octets)
}
