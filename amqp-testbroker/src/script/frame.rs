//! Frames to be sent by a script, broken ones too.

use amqp_proto::wire::{CarriesContent, ContentHeader};
use amqp_proto::wire::{Frame, FrameType, HEADER_SIZE, Method, PROTOCOL_HEADER, Properties};

/// One frame, or other octets, that can be put together wrongly. What is not said is right.
///
/// ```
/// use amqp_proto::wire::ChannelFlow;
/// use amqp_testbroker::CraftedFrame;
///
/// let flow = CraftedFrame::method(7, ChannelFlow { active: true });
/// assert_eq!(flow.octets(), b"\x01\0\x07\0\0\0\x05\0\x14\0\x14\x01\xce");
/// assert_eq!(flow.end(0x00).size(4).octets(), b"\x01\0\x07\0\0\0\x04\0\x14\0\x14\x01\x00");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CraftedFrame {
    /// `None`: only the payload.
    envelope: Option<Envelope>,
    payload: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Envelope {
    frame_type: u8,
    channel: u16,
    /// What the frame says of its size; `None` for the truth.
    size: Option<u32>,
    end: u8,
}

impl CraftedFrame {
    /// A method.
    #[must_use]
    pub fn method<'m>(channel: u16, method: impl Into<Method<'m>>) -> Self {
        let method = method.into();
        Self::from_frame(FrameType::Method, channel, &Frame::Method { channel, method })
    }

    /// A content header.
    #[must_use]
    pub fn header(channel: u16, body_size: u64, properties: Properties<'_>) -> Self {
        let header = ContentHeader {
            body_size,
            properties,
        };
        Self::from_frame(FrameType::Header, channel, &Frame::Header { channel, header })
    }

    /// A piece of a body.
    #[must_use]
    pub fn body(channel: u16, payload: &[u8]) -> Self {
        Self::frame(FrameType::Body as u8, channel, payload)
    }

    /// A heartbeat.
    #[must_use]
    pub fn heartbeat() -> Self {
        Self::frame(FrameType::Heartbeat as u8, 0, &[])
    }

    /// A frame of any type, with any payload.
    #[must_use]
    pub fn frame(frame_type: u8, channel: u16, payload: &[u8]) -> Self {
        Self {
            envelope: Some(Envelope {
                frame_type,
                channel,
                size: None,
                end: 0xCE,
            }),
            payload: payload.to_vec(),
        }
    }

    /// Octets as they are.
    #[must_use]
    pub fn raw(octets: &[u8]) -> Self {
        Self {
            envelope: None,
            payload: octets.to_vec(),
        }
    }

    /// A message in three frames, or two if it is empty.
    #[must_use]
    pub fn content<'m, M>(channel: u16, method: M, properties: Properties<'_>, body: &[u8]) -> Vec<Self>
    where
        M: CarriesContent + Into<Method<'m>>,
    {
        let size = u64::try_from(body.len()).unwrap_or(u64::MAX);
        let mut frames = vec![
            Self::method(channel, method),
            Self::header(channel, size, properties),
        ];
        if !body.is_empty() {
            frames.push(Self::body(channel, body));
        }
        frames
    }

    /// The protocol header, by which a server refuses.
    #[must_use]
    pub fn protocol_header() -> Self {
        Self::raw(&PROTOCOL_HEADER)
    }

    /// Another type.
    #[must_use]
    pub fn frame_type(self, frame_type: u8) -> Self {
        self.change(|envelope| Envelope {
            frame_type,
            ..envelope
        })
    }

    /// Another channel.
    #[must_use]
    pub fn channel(self, channel: u16) -> Self {
        self.change(|envelope| Envelope { channel, ..envelope })
    }

    /// It says that its payload has so many octets, whatever it has.
    #[must_use]
    pub fn size(self, size: u32) -> Self {
        self.change(|envelope| Envelope {
            size: Some(size),
            ..envelope
        })
    }

    /// Another end octet.
    #[must_use]
    pub fn end(self, end: u8) -> Self {
        self.change(|envelope| Envelope { end, ..envelope })
    }

    /// Only the first octets of it, as they are.
    #[must_use]
    pub fn cut(self, count: usize) -> Self {
        let mut octets = self.octets();
        octets.truncate(count);
        Self::raw(&octets)
    }

    /// What is sent.
    #[must_use]
    pub fn octets(&self) -> Vec<u8> {
        let Some(envelope) = self.envelope else {
            return self.payload.clone();
        };
        let size = u32::try_from(self.payload.len()).unwrap_or(u32::MAX);
        let mut octets = vec![envelope.frame_type];
        octets.extend(envelope.channel.to_be_bytes());
        octets.extend(envelope.size.unwrap_or(size).to_be_bytes());
        octets.extend(&self.payload);
        octets.push(envelope.end);
        octets
    }

    /// Octets that are no frame stay as they are.
    fn change(mut self, change: impl FnOnce(Envelope) -> Envelope) -> Self {
        self.envelope = self.envelope.map(change);
        self
    }

    /// One that fits no frame at all, with a table of 4 GiB, is sent without its payload.
    fn from_frame(frame_type: FrameType, channel: u16, frame: &Frame<'_>) -> Self {
        let mut octets = Vec::new();
        let payload = match frame.encode(&mut octets, u32::MAX) {
            Ok(()) => octets.get(HEADER_SIZE..octets.len().saturating_sub(1)),
            Err(_) => None,
        };
        Self::frame(frame_type as u8, channel, payload.unwrap_or_default())
    }
}
