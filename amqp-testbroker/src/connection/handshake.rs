//! From the protocol header to `connection.open-ok`.

use std::sync::Arc;

use amqp_proto::wire::*;
use amqp_proto::{Instant, RecvBuf};

use super::heartbeat::Heartbeat;
use super::sasl::{self, Login};
use super::{Capabilities, Connection, Session, State, Stream};
use crate::broker::Common;
use crate::config::{BrokerConfig, Release};
use crate::refusal::Refusal;

/// What RabbitMQ says that it can do.
const CAPABILITIES: [&str; 9] = [
    "publisher_confirms",
    "exchange_exchange_bindings",
    "basic.nack",
    "consumer_cancel_notify",
    "connection.blocked",
    "consumer_priorities",
    "authentication_failure_close",
    "per_consumer_qos",
    "direct_reply_to",
];

impl Connection {
    /// The first octets of a stream. Whoever speaks something else is told what is spoken here.
    pub(super) fn on_protocol_header(&mut self, common: &Common, input: &mut RecvBuf) -> bool {
        match parse_protocol_header(input.unread()) {
            Ok(None) => false,
            Ok(Some(())) => {
                input.consume(PROTOCOL_HEADER.len());
                self.say_start(common.config.release);
                self.state = State::Starting;
                true
            }
            Err(_) => {
                input.consume(usize::MAX);
                self.output.protocol_header();
                self.become_over();
                true
            }
        }
    }

    fn say_start(&mut self, release: Release) {
        let mechanisms = match self.stream {
            Stream::Plain => &b"PLAIN AMQPLAIN RABBIT-CR-DEMO"[..],
            Stream::Tls { .. } => b"PLAIN AMQPLAIN RABBIT-CR-DEMO EXTERNAL",
        };
        // Keys and values are ours, and short.
        let properties = server_properties(release).unwrap_or_default();
        self.output.method(
            0,
            &ConnectionStart {
                version_major: 0,
                version_minor: 9,
                server_properties: properties.as_ref(),
                mechanisms: LongStr::new(mechanisms),
                locales: LongStr::new(b"en_US"),
            },
        );
    }

    /// A method on channel 0 before the connection is open.
    pub(super) fn on_handshake(
        &mut self,
        common: &mut Common,
        now: Instant,
        method: &Method<'_>,
    ) -> Result<(), Refusal> {
        match (&self.state, method) {
            (State::Starting, Method::ConnectionStartOk(start_ok)) => self.on_start_ok(common, now, start_ok),
            (State::Securing { user }, Method::ConnectionSecureOk(secure_ok)) => {
                let login = sasl::second_round(&common.config, user, secure_ok.response.as_bytes());
                self.on_login(common, now, login, "RABBIT-CR-DEMO")
            }
            (State::Tuning { user }, Method::ConnectionTuneOk(tune_ok)) => {
                check_tune_ok(&common.config, tune_ok)?;
                let user = user.clone();
                self.channel_max = tune_ok.channel_max;
                self.frame_max = tune_ok.frame_max;
                self.heartbeat = Heartbeat::start(tune_ok.heartbeat, now);
                self.state = State::Opening { user };
                Ok(())
            }
            (State::Opening { user }, Method::ConnectionOpen(open)) => {
                let session = session(common, user, open.virtual_host)?;
                self.session = Some(session);
                self.state = State::Running;
                self.deadline = None;
                self.output.method(0, &ConnectionOpenOk {});
                Ok(())
            }
            _ => Err(self.unexpected_method()),
        }
    }

    fn on_start_ok(
        &mut self,
        common: &mut Common,
        now: Instant,
        start_ok: &ConnectionStartOk<'_>,
    ) -> Result<(), Refusal> {
        self.capabilities = capabilities(start_ok.client_properties);
        let (mechanism, response) = (start_ok.mechanism, start_ok.response.as_bytes());
        let login = sasl::first_round(&common.config, &self.stream, mechanism.as_bytes(), response);
        self.on_login(common, now, login, &mechanism.to_string())
    }

    fn on_login(
        &mut self,
        common: &mut Common,
        now: Instant,
        login: Login,
        mechanism: &str,
    ) -> Result<(), Refusal> {
        match login {
            Login::Accepted { user } => {
                let BrokerConfig {
                    channel_max,
                    frame_max,
                    heartbeat,
                    ..
                } = common.config;
                self.output.method(
                    0,
                    &ConnectionTune {
                        channel_max,
                        frame_max,
                        heartbeat,
                    },
                );
                self.state = State::Tuning { user };
            }
            Login::Challenge { user, challenge } => {
                self.output.method(
                    0,
                    &ConnectionSecure {
                        challenge: LongStr::new(challenge),
                    },
                );
                self.state = State::Securing { user };
            }
            Login::Refused => {
                let text = format_args!(
                    "Login was refused using authentication mechanism {mechanism}. For details see the broker logfile."
                );
                if self.capabilities.authentication_failure_close {
                    let refusal = Refusal::connection(ReplyCode::ACCESS_REFUSED, text);
                    self.say_close(&refusal, MethodId::default());
                }
                self.fall_silent(common, now);
            }
            Login::Malformed => return Err(Refusal::connection(ReplyCode::SYNTAX_ERROR, "response invalid")),
        }
        Ok(())
    }
}

fn server_properties(release: Release) -> Result<FieldTable, FieldError> {
    let mut capabilities = FieldTable::new();
    for capability in CAPABILITIES {
        capabilities.insert(capability, true)?;
    }
    FieldTable::new()
        .with("capabilities", &capabilities)?
        .with("cluster_name", "testbroker@localhost")?
        .with(
            "information",
            "A broker for tests, in memory; no production broker",
        )?
        .with("platform", "Rust")?
        .with("product", "amqp-testbroker")?
        .with("version", release.version())
}

fn capabilities(properties: FieldTableRef<'_>) -> Capabilities {
    let table = properties
        .get("capabilities")
        .ok()
        .flatten()
        .and_then(|value| value.as_table());
    let can = |name| {
        let value = table.and_then(|table| table.get(name).ok().flatten());
        value.and_then(|value| value.as_bool()).unwrap_or(false)
    };
    Capabilities {
        consumer_cancel_notify: can("consumer_cancel_notify"),
        connection_blocked: can("connection.blocked"),
        authentication_failure_close: can("authentication_failure_close"),
    }
}

/// Neither too small nor above what was proposed; 0, no limit, is above all limits.
fn check_tune_ok(config: &BrokerConfig, tune_ok: &ConnectionTuneOk) -> Result<(), Refusal> {
    let is_allowed = |value: u32, min: u32, offer: u32| {
        (value == 0 || value >= min) && (offer == 0 || value != 0 && value <= offer)
    };
    let is_frame_max = is_allowed(tune_ok.frame_max, config.release.frame_min(), config.frame_max);
    if is_frame_max && is_allowed(tune_ok.channel_max.into(), 1, config.channel_max.into()) {
        return Ok(());
    }
    // Nobody is told: RabbitMQ keeps silent.
    Err(Refusal::connection(
        ReplyCode::NOT_ALLOWED,
        "negotiated value out of range",
    ))
}

fn session(common: &Common, user: &str, virtual_host: ShortStr<'_>) -> Result<Session, Refusal> {
    let name = virtual_host.to_string();
    let Some((host, _)) = common.hosts.get_key_value(name.as_str()) else {
        let text = format_args!("vhost {name} not found");
        return Err(Refusal::connection(ReplyCode::NOT_ALLOWED, text));
    };
    let permissions = common
        .config
        .users
        .get(user)
        .and_then(|user| user.permissions.get(&name));
    let Some(permissions) = permissions else {
        let text = format_args!("access to vhost '{name}' refused for user '{user}'");
        return Err(Refusal::connection(ReplyCode::NOT_ALLOWED, text));
    };
    Ok(Session {
        user: user.to_owned(),
        host: Arc::clone(host),
        permissions: permissions.clone(),
    })
}
