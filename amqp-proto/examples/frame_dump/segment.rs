//! Packets become TCP segments.

use std::net::SocketAddr;

use etherparse::{LaxNetSlice, LaxSlicedPacket, TransportSlice};
use pcap_parser::Linktype;

/// What a packet says about a TCP connection.
#[derive(Debug)]
pub(crate) struct Segment<'a> {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) sequence: u32,
    pub(crate) syn: bool,
    pub(crate) ack: bool,
    pub(crate) fin: bool,
    pub(crate) rst: bool,
    pub(crate) payload: &'a [u8],
}

/// A link type whose packets cannot be read.
#[derive(Debug)]
pub(crate) struct UnknownLink;

/// The segment in a packet; `None` if there is none, or not enough of it.
pub(crate) fn parse(link: Linktype, packet: &[u8]) -> Result<Option<Segment<'_>>, UnknownLink> {
    let sliced = match link {
        Linktype::ETHERNET => LaxSlicedPacket::from_ethernet(packet).ok(),
        // Sixteen octets, the last two of which are an ether type; twenty, of which the first two are.
        Linktype::LINUX_SLL => cooked(packet, 14, 16),
        Linktype::LINUX_SLL2 => cooked(packet, 0, 20),
        // A family of four octets in somebody's byte order, which IP's version makes superfluous.
        Linktype::NULL | Linktype::LOOP => packet.get(4..).and_then(ip),
        // Besides its own number, what systems call it that write their own into files.
        Linktype::RAW | Linktype::IPV4 | Linktype::IPV6 | Linktype(12 | 14) => ip(packet),
        _ => return Err(UnknownLink),
    };
    Ok(sliced.and_then(|sliced| segment(&sliced)))
}

fn cooked(packet: &[u8], ether_type: usize, payload: usize) -> Option<LaxSlicedPacket<'_>> {
    let ether_type = u16::from_be_bytes(*packet.get(ether_type..)?.first_chunk()?);
    Some(LaxSlicedPacket::from_ether_type(
        ether_type.into(),
        packet.get(payload..)?,
    ))
}

fn ip(packet: &[u8]) -> Option<LaxSlicedPacket<'_>> {
    LaxSlicedPacket::from_ip(packet).ok()
}

fn segment<'a>(packet: &LaxSlicedPacket<'a>) -> Option<Segment<'a>> {
    let Some(TransportSlice::Tcp(tcp)) = &packet.transport else {
        return None;
    };
    let (source, destination) = match packet.net.as_ref()? {
        LaxNetSlice::Ipv4(ip) => {
            let header = ip.header();
            (header.source_addr().into(), header.destination_addr().into())
        }
        LaxNetSlice::Ipv6(ip) => {
            let header = ip.header();
            (header.source_addr().into(), header.destination_addr().into())
        }
        LaxNetSlice::Arp(_) => return None,
    };
    Some(Segment {
        from: SocketAddr::new(source, tcp.source_port()),
        to: SocketAddr::new(destination, tcp.destination_port()),
        sequence: tcp.sequence_number(),
        syn: tcp.syn(),
        ack: tcp.ack(),
        fin: tcp.fin(),
        rst: tcp.rst(),
        payload: tcp.payload(),
    })
}
