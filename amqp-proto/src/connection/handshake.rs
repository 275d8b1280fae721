//! The handshake: `connection.start`, rounds of `connection.secure`, `connection.tune`, `connection.open`.

use alloc::format;
use core::time::Duration;

use super::{Connection, State};
use crate::Config;
use crate::config::{negotiate_channel_max, negotiate_frame_max};
use crate::error::CloseReason;
use crate::event::Event;
use crate::wire::*;

/// What RabbitMQ takes before the limits are settled, from 4.1 on; before, and elsewhere, it is [`FRAME_MIN_SIZE`].
const INITIAL_FRAME_MAX_4_1: u32 = 8192;

/// What we can do, by RabbitMQ's names: exactly what is implemented.
const CAPABILITIES: [&str; 6] = [
    "authentication_failure_close",
    "basic.nack",
    "connection.blocked",
    "consumer_cancel_notify",
    "exchange_exchange_bindings",
    "publisher_confirms",
];

/// The limits that both sides agreed on during the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Negotiated {
    /// The highest channel number; 0 is no limit, which means 65535.
    pub channel_max: u16,
    /// The largest frame in octets, framing included; 0 is no limit.
    pub frame_max: u32,
    /// The heartbeat interval in seconds; 0 is none.
    pub heartbeat: u16,
}

impl Connection {
    /// A method of the handshake, or the answer to our close.
    pub(super) fn on_handshake(&mut self, method: &Method<'_>) -> Result<(), ProtocolError> {
        match (&self.state, method) {
            (State::Start, Method::ConnectionStart(start)) => self.on_start(start),
            (State::Secure { .. }, Method::ConnectionSecure(secure)) => {
                self.on_secure(secure.challenge.as_bytes());
                Ok(())
            }
            (State::Secure { .. }, Method::ConnectionTune(tune)) => self.on_tune(tune),
            (State::WaitOpenOk, Method::ConnectionOpenOk(_)) => {
                self.state = State::Open;
                self.deadlines.end_handshake();
                self.link.events.push_back(Event::Connected);
                Ok(())
            }
            (State::Closing { is_said: true, .. }, Method::ConnectionCloseOk(_)) => {
                self.end(CloseReason::Requested { acknowledged: true });
                Ok(())
            }
            _ => {
                let problem = Problem::UnexpectedMethod(method.spec().id);
                Err(ProtocolError::new(problem, "method id", HEADER_SIZE))
            }
        }
    }

    fn on_start(&mut self, start: &ConnectionStart<'_>) -> Result<(), ProtocolError> {
        let (major, minor) = (start.version_major, start.version_minor);
        if (major, minor) != (0, 9) {
            let problem = Problem::ProtocolHeader([0, major, minor, 0]);
            return Err(ProtocolError::new(problem, "connection.start version_major", 11));
        }
        // It was walked when it was decoded.
        self.server_properties = start.server_properties.to_owned().unwrap_or_default();
        self.link.frame_max = initial_frame_max(&self.server_properties);
        if let Err(reason) = self.send_start_ok(start) {
            self.link.drop_queued();
            self.end(reason);
        }
        Ok(())
    }

    fn send_start_ok(&mut self, start: &ConnectionStart<'_>) -> Result<(), CloseReason> {
        let config = alloc::sync::Arc::clone(&self.link.config);
        config.validate()?;
        let mechanism = config.credentials.select(start.mechanisms.as_bytes())?;
        let response = mechanism.respond(0, b"")?;
        let properties = client_properties(&config);
        let start_ok = ConnectionStartOk {
            client_properties: properties.as_ref(),
            mechanism: crate::channel::cut(mechanism.name()),
            response: SecretStr::new(response.expose()),
            locale: crate::channel::cut(&config.locale),
        };
        self.link.method(0, &start_ok)?;
        self.mechanism = Some(mechanism.name().into());
        self.state = State::Secure { mechanism, round: 0 };
        Ok(())
    }

    fn on_secure(&mut self, challenge: &[u8]) {
        if let Err(reason) = self.send_secure_ok(challenge) {
            self.link.drop_queued();
            self.end(reason);
        }
    }

    fn send_secure_ok(&mut self, challenge: &[u8]) -> Result<(), CloseReason> {
        let State::Secure { mechanism, round } = &mut self.state else {
            return Ok(());
        };
        *round = round.saturating_add(1);
        let response = mechanism.respond(*round, challenge)?;
        let response = SecretStr::new(response.expose());
        Ok(self.link.method(0, &ConnectionSecureOk { response })?)
    }

    /// Settles the limits and enters the virtual host, both in one go.
    fn on_tune(&mut self, tune: &ConnectionTune) -> Result<(), ProtocolError> {
        let config = alloc::sync::Arc::clone(&self.link.config);
        let frame_max = negotiate_frame_max(config.frame_max, tune.frame_max).map_err(|_| {
            let problem = Problem::FrameMaxTooSmall(tune.frame_max);
            ProtocolError::new(problem, "connection.tune frame_max", 13)
        })?;
        let negotiated = Negotiated {
            channel_max: negotiate_channel_max(config.channel_max, tune.channel_max),
            frame_max,
            heartbeat: config.heartbeat.negotiate(tune.heartbeat),
        };
        self.negotiated = negotiated;
        let tune_ok = ConnectionTuneOk {
            channel_max: negotiated.channel_max,
            frame_max,
            heartbeat: negotiated.heartbeat,
        };
        self.link.answer(0, &tune_ok);
        let largest = if frame_max == 0 { u32::MAX } else { frame_max };
        self.link.frame_max = largest;
        self.limits.body = largest.min(largest_body(config.max_message_size));
        self.limits.other = self.limits.other.max(frame_max);
        self.deadlines
            .start_heartbeats(Duration::from_secs(negotiated.heartbeat.into()));
        if config.credentials.is_erase_on_connect() {
            config.credentials.erase();
        }
        let virtual_host = crate::channel::cut(&config.virtual_host);
        self.link.answer(0, &ConnectionOpen { virtual_host });
        self.state = State::WaitOpenOk;
        Ok(())
    }
}

/// What we take in one body frame where no limit, or a huge one, was settled: no more than a message may have, and 16 MiB.
fn largest_body(max_message_size: u64) -> u32 {
    let message = max_message_size.saturating_add(u64::from(FRAME_OVERHEAD));
    u32::try_from(message).unwrap_or(u32::MAX).max(16 * 1024 * 1024)
}

/// What the peer takes before `connection.tune`.
fn initial_frame_max(server: &FieldTable) -> u32 {
    let text = |key| server.get(key).and_then(|value| value.as_str());
    let version = text("version").unwrap_or_default();
    let mut numbers = version
        .split(|c: char| !c.is_ascii_digit())
        .map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if text("product") == Some("RabbitMQ") && version >= (4, 1) {
        INITIAL_FRAME_MAX_4_1
    } else {
        FRAME_MIN_SIZE
    }
}

/// What we say of ourselves; the application's own words go over ours.
fn client_properties(config: &Config) -> FieldTable {
    let mut capabilities = FieldTable::new();
    for name in CAPABILITIES {
        put(&mut capabilities, name, FieldValue::Bool(true));
    }
    let mut properties = FieldTable::new();
    let text = |text: &'static str| FieldValue::LongStr(text.as_bytes());
    put(&mut properties, "product", text("amqp-proto"));
    put(&mut properties, "version", text(env!("CARGO_PKG_VERSION")));
    put(&mut properties, "platform", text("Rust"));
    put(
        &mut properties,
        "capabilities",
        FieldValue::Table(capabilities.as_ref()),
    );
    if let Some(name) = &config.connection_name {
        put(
            &mut properties,
            "connection_name",
            FieldValue::LongStr(name.as_bytes()),
        );
    }
    for (key, value) in config.client_properties.iter() {
        if let Ok(key) = key.to_str() {
            put(&mut properties, key, value);
        }
    }
    properties
}

/// Keys that fit and values that a table took before are taken.
fn put(table: &mut FieldTable, key: &str, value: FieldValue<'_>) {
    let result = table.insert(key, value);
    debug_assert!(result.is_ok(), "{}", format!("{key}: {result:?}"));
}
