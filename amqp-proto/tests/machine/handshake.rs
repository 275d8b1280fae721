//! From the protocol header to `connection.open-ok`.

use amqp_proto::wire::*;
use amqp_proto::{
    CloseReason, Config, ConfigError, ConnectionState, Credentials, Event, PeerClose, SaslError,
    SaslMechanism, Secret, TransportError,
};

use crate::peer::Peer;
use crate::states::{At, TUNE, assert_closed_for_good, close};

#[test]
fn it_goes_through_start_tune_and_open() {
    let mut peer = Peer::new(Config::default());
    assert_eq!(peer.connection.state(), ConnectionState::WaitingForStart);
    assert_eq!(peer.sent(), ["protocol header"]);
    peer.send(0, ConnectionStart::default());
    assert_eq!(peer.events(), []);
    assert_eq!(peer.connection.state(), ConnectionState::WaitingForTune);
    let start_ok = peer.sent();
    assert!(
        start_ok[0].starts_with("ch 0 connection.start-ok"),
        "{start_ok:?}"
    );
    peer.send(
        0,
        ConnectionTune {
            channel_max: 2047,
            frame_max: 131_072,
            heartbeat: 60,
        },
    );
    assert_eq!(peer.events(), []);
    assert_eq!(
        peer.sent(),
        [
            "ch 0 connection.tune-ok channel_max=2047 frame_max=131072 heartbeat=60",
            r#"ch 0 connection.open virtual_host="/""#,
        ]
    );
    peer.send(0, ConnectionOpenOk {});
    assert_eq!(peer.event(), Event::Connected);
    assert!(peer.connection.is_open());
}

/// The first method of what was written.
fn read(octets: &[u8]) -> Method<'_> {
    let raw = RawFrame::parse(octets, &FrameLimits::default());
    match raw.unwrap().unwrap().decode().unwrap() {
        Frame::Method { channel: 0, method } => method,
        other => panic!("{other}"),
    }
}

/// A connection that has only said its protocol header.
fn started(config: Config) -> Peer {
    let mut peer = Peer::new(config);
    peer.sent();
    peer
}

/// What a server says of itself.
fn properties(product: &str, version: &str) -> FieldTable {
    let capabilities = FieldTable::new()
        .with("consumer_cancel_notify", true)
        .unwrap()
        .with("per_consumer_qos", false)
        .unwrap();
    FieldTable::new()
        .with("product", product)
        .unwrap()
        .with("version", version)
        .unwrap()
        .with("capabilities", FieldValue::Table(capabilities.as_ref()))
        .unwrap()
}

fn start<'a>(mechanisms: &'a str, server: &'a FieldTable) -> ConnectionStart<'a> {
    ConnectionStart {
        mechanisms: LongStr::new(mechanisms.as_bytes()),
        server_properties: server.as_ref(),
        ..ConnectionStart::default()
    }
}

/// Why it ended, which is all that happened: nothing was written.
#[track_caller]
fn silent_end(peer: &mut Peer) -> CloseReason {
    let Event::Closed(reason) = peer.event() else {
        panic!("not closed");
    };
    assert_eq!(peer.sent(), Vec::<String>::new());
    assert_closed_for_good(peer);
    reason
}

#[test]
fn a_challenge_is_answered_by_the_mechanism() {
    let mut peer = started(Config::default().credentials(Credentials::rabbit_cr_demo("ann", "s3cret")));
    peer.send(0, start("PLAIN RABBIT-CR-DEMO", &FieldTable::new()));
    assert_eq!(peer.events(), []);
    let octets = peer.sent_octets();
    let Method::ConnectionStartOk(start_ok) = read(&octets) else {
        panic!("no start-ok");
    };
    assert_eq!(start_ok.mechanism.as_bytes(), b"RABBIT-CR-DEMO");
    assert_eq!(start_ok.response.as_bytes(), b"ann");
    for _ in 0..2 {
        let challenge = LongStr::new(b"Please tell me your password");
        peer.send(0, ConnectionSecure { challenge });
        let events = peer.events();
        if let [Event::Closed(reason)] = &events[..] {
            let error = SaslError::unexpected_challenge("RABBIT-CR-DEMO", 2);
            assert_eq!(*reason, CloseReason::Sasl(error));
            assert!(reason.is_permanent());
            assert!(peer.sent().is_empty());
            return assert_closed_for_good(&mut peer);
        }
        assert_eq!(events, []);
        assert_eq!(peer.connection.state(), ConnectionState::WaitingForTune);
        let octets = peer.sent_octets();
        let Method::ConnectionSecureOk(secure_ok) = read(&octets) else {
            panic!("no secure-ok");
        };
        assert_eq!(secure_ok.response.as_bytes(), b"My password is s3cret");
    }
    panic!("a third round was answered");
}

/// A mechanism that answers each challenge with its round and the challenge, or with as many octets as that says.
#[derive(Debug)]
struct Echo;

impl SaslMechanism for Echo {
    fn name(&self) -> &str {
        "X-ECHO"
    }

    fn respond(&self, round: u32, challenge: &[u8]) -> Result<Secret, SaslError> {
        let text = std::str::from_utf8(challenge).unwrap();
        match text.parse() {
            Ok(length) => Ok(Secret::new(vec![b'x'; length])),
            Err(_) => Ok(Secret::from(format!("{round}{text}"))),
        }
    }
}

#[test]
fn rounds_are_counted_and_challenges_handed_on() {
    let mut peer = started(Config::default().credentials(Credentials::custom(Echo)));
    peer.send(0, start("X-ECHO", &FieldTable::new()));
    assert_eq!(peer.events(), []);
    let octets = peer.sent_octets();
    assert!(matches!(read(&octets), Method::ConnectionStartOk(ok) if ok.response.as_bytes() == b"0"));
    for expected in ["1abc", "2abc", "3abc"] {
        let challenge = LongStr::new(b"abc");
        peer.send(0, ConnectionSecure { challenge });
        assert_eq!(peer.events(), []);
        let octets = peer.sent_octets();
        let response = SecretStr::new(expected.as_bytes());
        assert_eq!(read(&octets), ConnectionSecureOk { response }.into());
    }
    // An answer that the peer does not take is not given.
    let challenge = LongStr::new(b"5000");
    peer.send(0, ConnectionSecure { challenge });
    assert!(matches!(silent_end(&mut peer), CloseReason::Encode(_)));
}

#[test]
fn a_server_without_our_mechanism_is_left_without_a_word() {
    let mut peer = started(Config::default());
    peer.send(0, start("EXTERNAL PLAINER", &FieldTable::new()));
    let reason = silent_end(&mut peer);
    let error = SaslError::AuthMechanismNotOffered {
        offered: "EXTERNAL PLAINER".into(),
        supported: "PLAIN AMQPLAIN".into(),
    };
    assert_eq!(reason, CloseReason::Sasl(error));
    assert!(reason.is_permanent());
}

#[test]
fn the_first_mechanism_that_is_offered_is_used_and_said() {
    let credentials = Credentials::external().or(Credentials::plain("ann", "s3cret"));
    for (offered, used) in [
        ("PLAIN EXTERNAL", "EXTERNAL"),
        ("AMQPLAIN PLAIN", "PLAIN"),
        ("AMQPLAIN", "AMQPLAIN"),
    ] {
        let mut peer = started(Config::default().credentials(credentials.clone()));
        assert_eq!(peer.connection.mechanism(), None);
        peer.send(0, start(offered, &FieldTable::new()));
        assert_eq!(peer.events(), []);
        let octets = peer.sent_octets();
        let Method::ConnectionStartOk(start_ok) = read(&octets) else {
            panic!("no start-ok");
        };
        assert_eq!(start_ok.mechanism.as_bytes(), used.as_bytes());
        assert_eq!(peer.connection.mechanism(), Some(used));
    }
}

#[test]
fn erased_credentials_end_it_without_a_word() {
    let credentials = Credentials::default();
    credentials.erase();
    let mut peer = started(Config::default().credentials(credentials));
    peer.send(0, ConnectionStart::default());
    assert_eq!(
        silent_end(&mut peer),
        CloseReason::Sasl(SaslError::CredentialsErased)
    );
}

#[test]
fn credentials_are_erased_on_tune_if_they_are_to_be() {
    for erase in [false, true] {
        let credentials = Credentials::default().erase_on_connect(erase);
        let mut peer = started(Config::default().credentials(credentials.clone()));
        peer.send(0, ConnectionStart::default());
        assert_eq!(peer.events(), []);
        assert!(!credentials.is_erased());
        peer.send(0, TUNE);
        assert_eq!(peer.events(), []);
        assert_eq!(credentials.is_erased(), erase);
    }
}

#[test]
fn a_long_token_fits_rabbitmq_from_4_1_on_and_nobody_else() {
    for (product, version, fits) in [
        ("RabbitMQ", "3.13.7", false),
        ("RabbitMQ", "4.0.9", false),
        ("RabbitMQ", "4.1.0", true),
        ("RabbitMQ", "4.1.0-rc.1", true),
        ("RabbitMQ", "4.10.0", true),
        ("RabbitMQ", "5.0.0", true),
        ("RabbitMQ", "4", false),
        ("RabbitMQ", "", false),
        ("LavinMQ", "4.3.0", false),
        ("", "4.3.0", false),
    ] {
        let config = Config::default().credentials(Credentials::token("t".repeat(5000)));
        let mut peer = started(config);
        peer.send(0, start("PLAIN", &properties(product, version)));
        if fits {
            assert_eq!(peer.events(), [], "{product} {version}");
            assert!(peer.sent_octets().len() > 5000);
        } else {
            let reason = silent_end(&mut peer);
            let CloseReason::Encode(EncodeError::FrameTooLarge { name, limit, .. }) = &reason else {
                panic!("{product} {version}: {reason}");
            };
            assert_eq!((*name, *limit), ("connection.start-ok", 4096));
            assert!(reason.is_permanent());
        }
    }
    let config = Config::default().credentials(Credentials::token("t".repeat(8192)));
    let mut peer = started(config);
    peer.send(0, start("PLAIN", &properties("RabbitMQ", "4.3.6")));
    let reason = silent_end(&mut peer);
    assert!(
        matches!(
            reason,
            CloseReason::Encode(EncodeError::FrameTooLarge { limit: 8192, .. })
        ),
        "{reason}"
    );
}

#[test]
fn a_refusal_in_words_is_permanent_and_a_hang_up_is_not() {
    let mut peer = At::Tune.reach();
    let text = "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN";
    peer.send(0, close(403, text));
    let said = PeerClose::new(ReplyCode::ACCESS_REFUSED, text, None);
    let refused = CloseReason::AuthRefused {
        peer: Some(said.clone()),
    };
    assert_eq!(peer.event(), Event::Closed(refused.clone()));
    assert!(refused.is_permanent());
    assert_eq!(refused.peer(), Some(&said));
    assert_eq!(peer.sent(), ["ch 0 connection.close-ok"]);
    for error in [None, Some(TransportError::new("connection reset by peer"))] {
        let mut peer = At::Tune.reach();
        peer.connection.handle_disconnect(peer.now, error);
        let reason = silent_end(&mut peer);
        assert_eq!(reason, CloseReason::AuthRefused { peer: None });
        assert!(!reason.is_permanent());
        assert_eq!(reason.peer(), None);
    }
}

#[test]
fn a_refused_virtual_host_is_permanent_and_a_limit_on_connections_is_not() {
    let open = ConnectionOpen::SPEC.id;
    for (code, text, method, is_permanent) in [
        (530, "NOT_ALLOWED - vhost nope not found", open, true),
        (
            530,
            "NOT_ALLOWED - access to vhost 'v' refused for user 'ann'",
            open,
            true,
        ),
        (
            530,
            "NOT_ALLOWED - access to vhost '/' refused for user 'ann': connection limit (0) is reached",
            open,
            false,
        ),
        (
            530,
            "NOT_ALLOWED - connection refused for user 'ann': user connection limit (0) is reached",
            open,
            false,
        ),
        (530, "NOT_ALLOWED - vhost 'v' is down", open, false),
        (530, "NOT_ALLOWED - vhost v not found", MethodId::default(), false),
        (541, "INTERNAL_ERROR - vhost v not found", open, false),
        (403, "ACCESS_REFUSED - refused for user 'ann'", open, false),
    ] {
        let mut peer = At::OpenOk.reach();
        peer.send(
            0,
            ConnectionClose {
                class_id: method.class,
                method_id: method.method,
                ..close(code, text)
            },
        );
        let Event::Closed(reason @ CloseReason::Peer(_)) = peer.event() else {
            panic!("{text}");
        };
        assert_eq!(reason.is_permanent(), is_permanent, "{text}");
        assert_eq!(peer.sent(), ["ch 0 connection.close-ok"]);
    }
}

#[test]
fn we_say_who_we_are_and_what_we_can_do() {
    let mut peer = started(Config::default());
    peer.send(0, ConnectionStart::default());
    assert_eq!(peer.events(), []);
    let capabilities = [
        "authentication_failure_close",
        "basic.nack",
        "connection.blocked",
        "consumer_cancel_notify",
        "exchange_exchange_bindings",
        "publisher_confirms",
    ];
    let capabilities = capabilities.map(|name| format!("{name:?}: true")).join(", ");
    let version = env!("CARGO_PKG_VERSION");
    let sent = peer.sent().concat();
    let (ours, rest) = sent.split_once(r#", "capabilities": "#).unwrap();
    assert_eq!(
        ours,
        format!(
            r#"ch 0 connection.start-ok client_properties={{"product": "amqp-proto", "version": "{version}", "platform": "Rust""#
        )
    );
    let end = r#"mechanism="PLAIN" response=<12 secret octets> locale="en_US""#;
    assert_eq!(rest, format!("{{{capabilities}}}}} {end}"));
}

#[test]
fn the_applications_own_words_go_over_ours() {
    let own = FieldTable::new()
        .with("product", "shop")
        .unwrap()
        .with("team", "orders")
        .unwrap();
    let config = Config::default()
        .connection_name("till 7")
        .client_properties(own)
        .locale("de_DE");
    let mut peer = started(config);
    peer.send(0, ConnectionStart::default());
    assert_eq!(peer.events(), []);
    let octets = peer.sent_octets();
    let Method::ConnectionStartOk(start_ok) = read(&octets) else {
        panic!("no start-ok");
    };
    let text = |key| match start_ok.client_properties.get(key).unwrap() {
        Some(value) => value.as_str().unwrap_or("not a text"),
        None => "nothing",
    };
    assert_eq!(text("product"), "shop");
    assert_eq!(text("team"), "orders");
    assert_eq!(text("connection_name"), "till 7");
    assert_eq!(text("platform"), "Rust");
    assert_eq!(text("capabilities"), "not a text");
    assert_eq!(start_ok.client_properties.iter().count(), 6);
    assert_eq!(start_ok.locale.as_bytes(), b"de_DE");
}

#[test]
fn the_virtual_host_is_named() {
    for name in ["orders", "", &"v".repeat(255)] {
        let mut peer = started(Config::default().virtual_host(name));
        peer.send(0, ConnectionStart::default());
        peer.send(0, TUNE);
        assert_eq!(peer.events(), []);
        assert_eq!(
            peer.sent()[2],
            format!("ch 0 connection.open virtual_host=\"{name}\"")
        );
    }
}

#[test]
fn a_configuration_that_cannot_work_ends_it_without_a_word() {
    let mut peer = started(Config::default().virtual_host("v".repeat(256)));
    peer.send(0, ConnectionStart::default());
    let reason = silent_end(&mut peer);
    assert_eq!(
        reason,
        CloseReason::Config(ConfigError::VirtualHostTooLong { length: 256 })
    );
    assert!(reason.is_permanent());
}

#[test]
fn a_server_of_another_version_is_left_without_a_word() {
    for (version_major, version_minor) in [(0, 8), (8, 0), (1, 9), (0, 10)] {
        let mut peer = started(Config::default());
        let start = ConnectionStart {
            version_major,
            version_minor,
            ..ConnectionStart::default()
        };
        peer.send(0, start);
        let reason = silent_end(&mut peer);
        let CloseReason::Protocol(error) = &reason else {
            panic!("{reason}");
        };
        assert_eq!(
            error.problem,
            Problem::ProtocolHeader([0, version_major, version_minor, 0])
        );
        assert!(reason.is_permanent());
    }
}

#[test]
fn who_speaks_another_protocol_is_left_without_a_word() {
    for (octets, words) in [
        (
            &b"AMQP\x00\x00\x09\x01"[..],
            "the peer wants another protocol version: AMQP 0 0 9 1",
        ),
        (
            b"AMQP\x03\x01\x00\x00",
            "the peer wants another protocol version: AMQP 3 1 0 0",
        ),
        (
            b"HTTP/1.1 400 Bad Request\r\n",
            "the peer does not speak AMQP, it began with \"HTTP/1.1\"",
        ),
        (b"\x15\x03\x03\x00\x02\x02\x46", "the peer does not speak AMQP"),
    ] {
        let mut peer = started(Config::default());
        let (first, rest) = octets.split_at(6);
        peer.send_octets(first);
        assert_eq!(peer.events(), [], "it may become anything");
        peer.send_octets(rest);
        peer.connection
            .handle_disconnect(peer.now, Some(TransportError::new("reset")));
        let reason = silent_end(&mut peer);
        assert!(reason.to_string().contains(words), "{reason}");
        assert!(reason.is_permanent());
    }
}

#[test]
fn what_the_server_says_of_itself_can_be_asked_for() {
    let mut peer = started(Config::default());
    assert!(peer.connection.server_properties().is_empty());
    assert!(!peer.connection.server_has("consumer_cancel_notify"));
    peer.send(0, start("PLAIN", &properties("RabbitMQ", "4.3.6")));
    assert_eq!(peer.events(), []);
    let server = peer.connection.server_properties();
    assert_eq!(server.get("version").unwrap().unwrap().as_str(), Some("4.3.6"));
    assert!(peer.connection.server_has("consumer_cancel_notify"));
    assert!(!peer.connection.server_has("per_consumer_qos"));
    assert!(!peer.connection.server_has("basic.nack"));
    assert!(!peer.connection.server_has("version"));
}
