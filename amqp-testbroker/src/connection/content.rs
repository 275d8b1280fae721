//! Putting methods and their content together from frames (RabbitMQ's "command assembler").

use amqp_proto::wire::*;
use bytes::BytesMut;

use super::channel::Failure;
use super::context::Context;
use super::frame::{self, Delimited};
use crate::config::Release;
use crate::refusal::Refusal;
use crate::vhost::Name;

/// What is awaited.
#[derive(Debug, Default)]
pub(super) enum Assembly {
    #[default]
    Method,
    Header(ContentMethod),
    Body {
        content: Content,
        left: u64,
    },
    /// More body came than the header said: RabbitMQ 3.10 only notices at the next frame that is no body.
    TooMuchBody(MethodId),
}

/// A method that content follows.
#[derive(Debug)]
pub(super) struct ContentMethod {
    pub(super) id: MethodId,
    /// It is a `basic.publish`, the only one a client may send.
    pub(super) publish: Option<Publish>,
}

/// The arguments of `basic.publish`.
#[derive(Debug)]
pub(super) struct Publish {
    pub(super) exchange: Name,
    pub(super) routing_key: Name,
    pub(super) mandatory: bool,
    pub(super) immediate: bool,
}

/// A method with its content.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) method: ContentMethod,
    /// The payload of the header frame.
    pub(super) header: Vec<u8>,
    pub(super) body_size: u64,
    /// Empty if it is larger than a message may be.
    pub(super) body: BytesMut,
    is_kept: bool,
}

/// What a frame made whole.
#[derive(Debug)]
pub(super) enum Assembled<'a> {
    Nothing,
    Method(Method<'a>),
    Content(Content),
}

const BASIC: u16 = 60;

impl Assembly {
    /// Takes a frame. Bodies are kept only if somebody wants them and they are not too large.
    pub(super) fn on_frame<'a>(
        &mut self,
        cx: &mut Context<'_>,
        frame: &Delimited<'a>,
        is_wanted: bool,
    ) -> Result<Assembled<'a>, Failure> {
        match std::mem::take(self) {
            Self::Method => self.on_method(frame),
            Self::Header(method) => self.on_header(cx, frame, method, is_wanted),
            Self::Body { content, left } => self.on_body(cx, frame, content, left),
            Self::TooMuchBody(id) if frame.kind == Delimited::BODY => {
                *self = Self::TooMuchBody(id);
                Ok(Assembled::Nothing)
            }
            Self::TooMuchBody(id) => Err(no_body(id)),
        }
    }

    /// How many octets of a body it keeps.
    pub(super) fn held(&self) -> u64 {
        match self {
            Self::Body { content, .. } => content.body.len() as u64,
            _ => 0,
        }
    }

    fn on_method<'a>(&mut self, frame: &Delimited<'a>) -> Result<Assembled<'a>, Failure> {
        if frame.kind != Delimited::METHOD {
            let text = "expected method frame, got non method frame instead";
            return Err(Failure::Refused(unexpected(text), MethodId::default()));
        }
        let method = Method::decode(frame.payload).map_err(|error| {
            let id = Method::split_id(frame.payload).map_or_else(|_| MethodId::default(), |(id, _)| id);
            frame::undecodable(frame.payload, &error)
                .map_or(Failure::HangUp, |refusal| Failure::Refused(refusal, id))
        })?;
        frame::check_names(&method).map_err(|refusal| Failure::Refused(refusal, MethodId::default()))?;
        if !method.spec().has_content {
            return Ok(Assembled::Method(method));
        }
        let publish = match method {
            Method::BasicPublish(publish) => Some(Publish {
                exchange: Name::copy_from_slice(publish.exchange.as_bytes()),
                routing_key: Name::copy_from_slice(publish.routing_key.as_bytes()),
                mandatory: publish.mandatory,
                immediate: publish.immediate,
            }),
            _ => None,
        };
        *self = Self::Header(ContentMethod {
            id: method.spec().id,
            publish,
        });
        Ok(Assembled::Nothing)
    }

    fn on_header<'a>(
        &mut self,
        cx: &Context<'_>,
        frame: &Delimited<'a>,
        method: ContentMethod,
        is_wanted: bool,
    ) -> Result<Assembled<'a>, Failure> {
        let id = method.id;
        let Some((class, 0, body_size)) = header_start(frame) else {
            let text =
                format!("expected content header for class {BASIC}, got non content header frame instead");
            return Err(Failure::Refused(unexpected(&text), id));
        };
        if class != BASIC {
            let text =
                format!("expected content header for class {BASIC}, got one for class {class} instead");
            return Err(Failure::Refused(unexpected(&text), id));
        }
        let mut header = frame.payload.to_vec();
        // RabbitMQ does not look at the two flags that mean nothing.
        if let Some(flags) = header.get_mut(13) {
            *flags &= 0b1111_1100;
        }
        let content = Content {
            is_kept: is_wanted && method.publish.is_some() && body_size <= cx.common.config.max_message_size,
            method,
            header,
            body_size,
            body: BytesMut::new(),
        };
        if body_size == 0 {
            return Ok(Assembled::Content(content));
        }
        *self = Self::Body {
            content,
            left: body_size,
        };
        Ok(Assembled::Nothing)
    }

    fn on_body<'a>(
        &mut self,
        cx: &mut Context<'_>,
        frame: &Delimited<'a>,
        mut content: Content,
        left: u64,
    ) -> Result<Assembled<'a>, Failure> {
        let id = content.method.id;
        if frame.kind != Delimited::BODY {
            release(cx, &content);
            return Err(no_body(id));
        }
        let size = frame.payload.len() as u64;
        let Some(left) = left.checked_sub(size) else {
            release(cx, &content);
            return self.on_too_much(cx.release(), id);
        };
        if content.is_kept {
            if !cx.common.has_memory_for(size) {
                release(cx, &content);
                return Err(Failure::Refused(cx.common.out_of_memory(), id));
            }
            content.body.extend_from_slice(frame.payload);
            cx.common.held = cx.common.held.saturating_add(size);
        }
        if left == 0 {
            release(cx, &content);
            return Ok(Assembled::Content(content));
        }
        *self = Self::Body { content, left };
        Ok(Assembled::Nothing)
    }

    fn on_too_much<'a>(&mut self, release: Release, id: MethodId) -> Result<Assembled<'a>, Failure> {
        match release {
            Release::V3_10 => {
                *self = Self::TooMuchBody(id);
                Ok(Assembled::Nothing)
            }
            Release::V4 => {
                let text = "content body frame exceeds remaining content size";
                let refusal = Refusal::connection(ReplyCode::FRAME_ERROR, text);
                Err(Failure::Refused(refusal, id))
            }
        }
    }
}

/// It is in nobody's hands any more, or in those of a queue.
fn release(cx: &mut Context<'_>, content: &Content) {
    cx.common.held = cx.common.held.saturating_sub(content.body.len() as u64);
}

/// Class, weight and body size of a content header.
fn header_start(frame: &Delimited<'_>) -> Option<(u16, u16, u64)> {
    let &[c0, c1, w0, w1, ref size @ ..] = frame.payload.first_chunk::<12>()?;
    let is_header = frame.kind == Delimited::HEADER;
    is_header.then(|| {
        (
            u16::from_be_bytes([c0, c1]),
            u16::from_be_bytes([w0, w1]),
            u64::from_be_bytes(*size),
        )
    })
}

fn unexpected(text: &str) -> Refusal {
    Refusal::connection(ReplyCode::UNEXPECTED_FRAME, text)
}

fn no_body(id: MethodId) -> Failure {
    let text = "expected content body, got non content body frame instead";
    Failure::Refused(unexpected(text), id)
}
