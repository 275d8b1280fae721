//! Everything that can be sent, through both buffers to the other end.

use std::collections::VecDeque;

use arbitrary::{Arbitrary, Unstructured};
use bytes::{Buf, Bytes};

use super::check::{operations, pattern};
use crate::wire::{
    BasicDeliver, BasicGetOk, BasicPublish, BasicReturn, CarriesContent, ContentHeader, EncodeError, Frame,
    FrameLimits, HEARTBEAT, Method, Properties, RawFrame,
};
use crate::{Payload, RecvBuf, SendBuf};

/// Of these, the first that is chosen holds for all of a run.
const FRAME_MAX: [u32; 11] = [4096, 131_072, u32::MAX, 4097, 8192, 300, 64, 30, 13, 8, 0];

#[derive(Debug, Arbitrary)]
enum Op<'a> {
    Method(u16, Method<'a>),
    Content(u16, Carrier<'a>, Properties<'a>, Body),
    Heartbeat,
    /// The socket takes that many octets, and the peer reads what it can of them.
    Transfer(u16),
}

#[derive(Debug, Arbitrary)]
enum Carrier<'a> {
    Publish(BasicPublish<'a>),
    Return(BasicReturn<'a>),
    Deliver(BasicDeliver<'a>),
    GetOk(BasicGetOk<'a>),
}

#[derive(Debug, Arbitrary)]
struct Body {
    size: u16,
    seed: u8,
    is_shared: bool,
}

/// Methods, messages and heartbeats through a [`SendBuf`], in any chunks into a [`RecvBuf`], and read there.
///
/// The same values arrive in the same order, bodies octet by octet; every frame is within frame_max and as few are made as it
/// allows; what is refused is too large and leaves nothing behind; what was taken out of the buffer stays as it was.
pub fn encode_decode(data: &[u8]) {
    let mut u = Unstructured::new(data);
    let Ok(&frame_max) = u.choose(&FRAME_MAX) else {
        return;
    };
    let mut pair = Pair::new(frame_max, data.len());
    for op in operations(&mut u) {
        match op {
            Op::Method(channel, method) => pair.method(channel, method),
            Op::Content(channel, carrier, properties, body) => {
                let body = &body;
                match carrier {
                    Carrier::Publish(method) => pair.content(channel, method, properties, body),
                    Carrier::Return(method) => pair.content(channel, method, properties, body),
                    Carrier::Deliver(method) => pair.content(channel, method, properties, body),
                    Carrier::GetOk(method) => pair.content(channel, method, properties, body),
                }
            }
            Op::Heartbeat => pair.heartbeat(),
            Op::Transfer(count) => pair.transfer(count.into()),
        }
    }
    pair.finish();
}

/// Both ends, and what is under way between them.
struct Pair<'a> {
    frame_max: u32,
    output: SendBuf,
    under_way: VecDeque<Expected<'a>>,
    input: RecvBuf,
    /// Frames that were taken out, and what they were then.
    taken: Vec<(Bytes, Vec<u8>)>,
}

/// A frame that was sent.
enum Expected<'a> {
    Frame(Frame<'a>),
    Body(u16, Vec<u8>),
}

impl<'a> Pair<'a> {
    /// No frame is larger than a body can be, or what can be made of `data` octets.
    fn new(frame_max: u32, data: usize) -> Self {
        let mut input = RecvBuf::with_limit(0);
        input.raise_limit((data + 70_000).min(frame_max as usize));
        Self {
            frame_max,
            output: SendBuf::new(),
            under_way: VecDeque::new(),
            input,
            taken: Vec::new(),
        }
    }

    fn method(&mut self, channel: u16, method: Method<'a>) {
        let before = self.output.remaining();
        let result = write(&mut self.output, channel, &method, self.frame_max);
        if self.was_accepted(before, &result) {
            self.under_way
                .push_back(Expected::Frame(Frame::Method { channel, method }));
        }
    }

    fn content<A>(&mut self, channel: u16, method: A, properties: Properties<'a>, body: &Body)
    where
        A: CarriesContent + Into<Method<'a>>,
    {
        // Frames that hold next to nothing get bodies of next to nothing.
        let piece_max = self.frame_max.saturating_sub(8) as usize;
        let octets = pattern(
            usize::from(body.size).min(piece_max.saturating_mul(20)),
            body.seed,
        );
        let payload = match body.is_shared {
            true => Payload::from(octets.clone()),
            false => Payload::from(&octets[..]),
        };
        let before = self.output.remaining();
        let result = self
            .output
            .content(channel, &method, &properties, payload, self.frame_max);
        if !self.was_accepted(before, &result) {
            return;
        }
        let method = method.into();
        let header = ContentHeader {
            body_size: octets.len() as u64,
            properties,
        };
        self.under_way
            .push_back(Expected::Frame(Frame::Method { channel, method }));
        self.under_way
            .push_back(Expected::Frame(Frame::Header { channel, header }));
        let pieces = octets.chunks(piece_max.max(1));
        self.under_way
            .extend(pieces.map(|piece| Expected::Body(channel, piece.to_vec())));
    }

    fn heartbeat(&mut self) {
        // A heartbeat takes 8 octets, whatever the limit.
        self.output.heartbeat();
        self.under_way.push_back(Expected::Frame(Frame::Heartbeat));
    }

    fn was_accepted(&self, before: usize, result: &Result<(), EncodeError>) -> bool {
        match result {
            Ok(()) => assert!(self.output.remaining() > before),
            Err(EncodeError::FrameTooLarge { size, limit, .. }) => {
                assert_eq!((*limit, self.output.remaining()), (self.frame_max, before));
                assert!(*size > *limit as usize);
            }
        }
        result.is_ok()
    }

    fn transfer(&mut self, mut count: usize) {
        while count > 0 && self.output.has_remaining() {
            let chunk = self.output.chunk();
            let moved = self.input.extend(&chunk[..count.min(chunk.len())]);
            assert!(moved > 0, "the buffer is full, and no frame in it whole");
            self.output.advance(moved);
            count -= moved;
            while self.receive() {}
        }
    }

    /// Reads a frame, if it is all there.
    fn receive(&mut self) -> bool {
        let limit = self.frame_max;
        let limits = FrameLimits {
            body: limit,
            other: limit,
        };
        let Some(raw) = RawFrame::parse(self.input.unread(), &limits).expect("written by us") else {
            return false;
        };
        let size = raw.size();
        assert!(size <= limit as usize || self.input.unread().starts_with(&HEARTBEAT));
        let frame = raw.decode().expect("written by us");
        match self.under_way.pop_front().expect("more arrives than was sent") {
            Expected::Frame(sent) => assert_eq!(frame, sent),
            Expected::Body(channel, piece) => {
                let payload = &piece[..];
                assert_eq!(frame, Frame::Body { channel, payload });
            }
        }
        let octets = self.input.unread()[..size].to_vec();
        match size % 2 {
            0 => self.taken.push((self.input.take(size), octets)),
            _ => self.input.consume(size),
        }
        true
    }

    fn finish(mut self) {
        self.transfer(usize::MAX);
        assert!(self.under_way.is_empty() && self.input.unread().is_empty());
        assert!(!self.output.has_remaining() && self.output.chunk().is_empty());
        for (taken, octets) in &self.taken {
            assert_eq!(taken, octets);
        }
    }
}

/// [`SendBuf::method`] wants to know which method it is.
fn write(output: &mut SendBuf, channel: u16, method: &Method<'_>, frame_max: u32) -> Result<(), EncodeError> {
    macro_rules! each {
        ($($name:ident)+) => {
            match method {
                $(Method::$name(method) => output.method(channel, method, frame_max),)+
            }
        };
    }
    each! {
        ConnectionStart ConnectionStartOk ConnectionSecure ConnectionSecureOk ConnectionTune ConnectionTuneOk
        ConnectionOpen ConnectionOpenOk ConnectionClose ConnectionCloseOk ConnectionBlocked
        ConnectionUnblocked ConnectionUpdateSecret ConnectionUpdateSecretOk ChannelOpen ChannelOpenOk
        ChannelFlow ChannelFlowOk ChannelClose ChannelCloseOk AccessRequest AccessRequestOk ExchangeDeclare
        ExchangeDeclareOk ExchangeDelete ExchangeDeleteOk ExchangeBind ExchangeBindOk ExchangeUnbind
        ExchangeUnbindOk QueueDeclare QueueDeclareOk QueueBind QueueBindOk QueuePurge QueuePurgeOk QueueDelete
        QueueDeleteOk QueueUnbind QueueUnbindOk BasicQos BasicQosOk BasicConsume BasicConsumeOk BasicCancel
        BasicCancelOk BasicPublish BasicReturn BasicDeliver BasicGet BasicGetOk BasicGetEmpty BasicAck
        BasicReject BasicRecoverAsync BasicRecover BasicRecoverOk BasicNack ConfirmSelect ConfirmSelectOk
        TxSelect TxSelectOk TxCommit TxCommitOk TxRollback TxRollbackOk
    }
}
