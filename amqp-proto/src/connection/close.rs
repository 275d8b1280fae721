//! The end of a connection: by us, by the peer, by the stream. Whatever the way, everything that waits is resolved, once, and
//! then [`Event::Closed`] is told, once.

use alloc::string::ToString;
use core::mem;

use super::{Connection, State};
use crate::channel::Phase;
use crate::error::{ChannelCloseReason, CloseReason, PeerClose, RequestError, TransportError};
use crate::event::Event;
use crate::wire::*;

impl Connection {
    pub(super) fn begin_close(&mut self, code: ReplyCode, text: &str) {
        match self.state {
            State::Closing { .. } | State::Closed => {}
            State::Open => {
                for state in self.channels.values_mut().filter(|state| state.is_usable()) {
                    let text = crate::channel::cut(text);
                    state.close(&mut self.link, code, text, ChannelCloseReason::Requested);
                }
                self.state = State::Closing {
                    code,
                    text: text.to_string(),
                    is_said: false,
                };
                self.advance_close();
            }
            _ => {
                self.link.drop_queued();
                self.end(CloseReason::Requested { acknowledged: false });
            }
        }
    }

    /// Says `connection.close` once no channel is left that is worth waiting for.
    pub(super) fn advance_close(&mut self) {
        let State::Closing {
            code,
            text,
            is_said: is_said @ false,
        } = &mut self.state
        else {
            return;
        };
        let is_left = |phase: &Phase| !matches!(phase, Phase::Abandoned { .. });
        if self.channels.values().any(|state| is_left(&state.phase)) {
            return;
        }
        *is_said = true;
        self.deadlines.extend_close(self.link.config.close_timeout);
        let close = ConnectionClose {
            reply_code: *code,
            reply_text: crate::channel::cut(text),
            class_id: 0,
            method_id: 0,
        };
        self.link.answer(0, &close);
    }

    /// The channels had their part of the time. The peer learns all the same that we go.
    pub(super) fn give_up_channels(&mut self) {
        for state in self.channels.values_mut().filter(|state| !state.is_abandoned()) {
            state.abandon_channel(&mut self.link, ChannelClose::SPEC.id);
        }
        self.advance_close();
    }

    /// The peer closes the connection.
    pub(super) fn on_close(&mut self, close: &ConnectionClose<'_>) {
        // It reads nothing but our answer.
        self.link.drop_queued();
        self.link.answer(0, &ConnectionCloseOk {});
        let text = close.reply_text.as_bytes();
        let peer = PeerClose::read(close.reply_code, text, close.class_id, close.method_id);
        let is_authenticating = matches!(self.state, State::Secure { .. });
        self.end(if is_authenticating && peer.code == ReplyCode::ACCESS_REFUSED {
            CloseReason::AuthRefused { peer: Some(peer) }
        } else {
            CloseReason::Peer(peer)
        });
    }

    /// The stream has ended, and nothing whole is left of it.
    pub(super) fn on_disconnect(&mut self, error: TransportError) {
        self.link.drop_queued();
        self.end(match self.state {
            State::Secure { .. } => CloseReason::AuthRefused { peer: None },
            State::Closing { .. } => CloseReason::Requested { acknowledged: false },
            _ => CloseReason::Transport {
                state: self.state(),
                error,
            },
        });
    }

    /// Resolves all that waits, and tells the end.
    pub(super) fn end(&mut self, reason: CloseReason) {
        if self.is_closed() {
            return;
        }
        self.state = State::Closed;
        self.blocked = None;
        for (_, mut state) in mem::take(&mut self.channels) {
            if !matches!(state.phase, Phase::Abandoned { .. }) {
                let reason = state.why_closing(ChannelCloseReason::Connection(reason.clone()));
                state.end(&mut self.link, reason);
            }
        }
        let events = &mut self.link.events;
        self.requests.fail(|request, _| {
            let reason = ChannelCloseReason::Connection(reason.clone());
            let cause = RequestError::ChannelClosed(reason);
            events.push_back(Event::RequestFailed { request, cause });
        });
        self.close_reason = Some(reason.clone());
        events.push_back(Event::Closed(reason));
    }
}
