//! The handshake, and keeping alive.

use std::sync::mpsc;
use std::time::Duration;

use amqp_proto::wire::{FieldTable, FrameLimits, RawFrame, ReplyCode};
use amqp_proto::{CloseReason, Credentials, Heartbeat, Instant, Mechanism, SaslError, trace};

use super::Session;
use crate::connect::parameters;

#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn each_mechanism_that_needs_no_tls_gets_in() {
    for mechanism in [Mechanism::Plain, Mechanism::Amqplain, Mechanism::RabbitCrDemo] {
        let credentials = Credentials::with_mechanisms("guest", "guest", [mechanism]);
        let mut session = Session::connect(parameters().config.credentials(credentials));
        session.open();
        session.close();
    }
}

#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn a_challenge_is_answered() {
    let credentials = Credentials::rabbit_cr_demo("guest", "guest");
    let mut session = Session::new(parameters().config.credentials(credentials));
    let (sender, lines) = mpsc::channel();
    let tap = move |_: Instant, direction: trace::Direction, _: u16, octets: &[u8]| {
        if let Ok(Some(frame)) = RawFrame::parse(octets, &FrameLimits::default()) {
            sender
                .send(format!("{direction} {}", frame.decode().unwrap()))
                .unwrap();
        }
    };
    session.core.set_tap(Some(Box::new(tap)));
    let mut session = session.connected();
    session.core.set_tap(None);
    let lines: Vec<_> = lines.iter().collect();
    assert!(lines[2].starts_with("<- ch 0 connection.secure "), "{lines:#?}");
    assert!(lines[2].contains("Please tell me your password"), "{lines:#?}");
    assert!(lines[3].starts_with("-> ch 0 connection.secure-ok"), "{lines:#?}");
    session.close();
}

#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn a_wrong_password_is_refused_for_good_in_the_broker_s_words() {
    let wrong = [
        Credentials::plain("guest", "wrong"),
        Credentials::with_mechanisms("guest", "wrong", [Mechanism::Amqplain]),
        Credentials::rabbit_cr_demo("guest", "wrong"),
    ];
    for credentials in wrong {
        let reason = Session::new(parameters().config.credentials(credentials)).end();
        assert!(
            matches!(reason, CloseReason::AuthRefused { peer: Some(_) }),
            "{reason:?}"
        );
        assert!(reason.is_permanent());
        let peer = reason.peer().unwrap();
        assert_eq!(peer.code, ReplyCode::ACCESS_REFUSED);
        assert!(
            peer.text.starts_with("ACCESS_REFUSED - Login was refused using"),
            "{peer}"
        );
    }
}

/// RabbitMQ says nothing for three seconds and hangs up.
#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn a_refusal_without_words_is_recognised_and_not_for_good() {
    let mut silent = FieldTable::new();
    silent.insert("capabilities", &FieldTable::new()).unwrap();
    let config = parameters().config.client_properties(silent);
    let reason = Session::new(config.credentials(Credentials::plain("guest", "wrong"))).end();
    assert_eq!(reason, CloseReason::AuthRefused { peer: None });
    assert!(!reason.is_permanent());
}

#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn a_mechanism_that_is_not_offered_is_not_tried() {
    let reason = Session::new(parameters().config.credentials(Credentials::external())).end();
    assert!(
        matches!(
            reason,
            CloseReason::Sasl(SaslError::AuthMechanismNotOffered { .. })
        ),
        "{reason:?}"
    );
    assert!(reason.is_permanent());
}

#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn a_virtual_host_that_is_not_there_or_not_ours_is_refused_for_good() {
    let nobody = parameters()
        .config
        .credentials(Credentials::plain("nobody", "nobody"));
    for (config, words) in [
        (
            parameters().config.virtual_host("nowhere"),
            "vhost nowhere not found",
        ),
        (nobody, "refused for user 'nobody'"),
    ] {
        let reason = Session::new(config).end();
        assert!(matches!(reason, CloseReason::Peer(_)), "{reason:?}");
        assert!(reason.is_permanent(), "{reason:?}");
        let peer = reason.peer().unwrap();
        assert_eq!(peer.code, ReplyCode::NOT_ALLOWED);
        assert!(peer.text.contains(words), "{peer}");
    }
}

#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn a_virtual_host_with_a_bar_is_entered() {
    let mut session = Session::connect(parameters().config.virtual_host("a|b"));
    session.open();
    session.close();
}

#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn what_the_server_says_of_itself_is_kept() {
    let (session, _) = Session::guest();
    let product = session.core.server_properties().get("product").unwrap().unwrap();
    assert_eq!(product.as_str(), Some("RabbitMQ"));
    for capability in [
        "basic.nack",
        "publisher_confirms",
        "consumer_cancel_notify",
        "connection.blocked",
        "exchange_exchange_bindings",
        "authentication_failure_close",
    ] {
        assert!(session.core.server_has(capability), "{capability}");
    }
    assert!(!session.core.server_has("no such thing"));
    session.close();
}

#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn the_limits_are_the_lower_ones() {
    let config = parameters()
        .config
        .channel_max(7)
        .frame_max(8192)
        .heartbeat(Heartbeat::Seconds(5));
    let mut session = Session::connect(config);
    let negotiated = session.core.negotiated();
    assert_eq!((negotiated.channel_max, negotiated.frame_max), (7, 8192));
    for _ in 0..7 {
        session.open();
    }
    assert!(session.core.open_channel().is_err());
    session.close();

    let session = Session::connect(parameters().config);
    let negotiated = session.core.negotiated();
    assert_eq!((negotiated.channel_max, negotiated.frame_max), (2047, 131_072));
    session.close();
}

/// RabbitMQ hangs up after three intervals of silence; we would after two.
#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn heartbeats_keep_an_idle_connection_alive() {
    let mut session = Session::connect(parameters().config.heartbeat(Heartbeat::Seconds(1)));
    let channel = session.open();
    session.idle(Duration::from_millis(4500));
    let counters = session.core.counters();
    assert!(counters.heartbeats_sent >= 6, "{counters:?}");
    assert!(counters.heartbeats_received >= 3, "{counters:?}");
    assert_eq!(session.unclaimed().next(), None);
    session.queue(channel);
    session.close();
}

mod over_tls {
    use super::*;
    use crate::connect::tls_parameters;

    #[test]
    #[ignore = "needs a broker: cargo xtask test"]
    fn a_message_goes_there_and_back() {
        let parameters = tls_parameters();
        let mut session = Session::new_tls(&parameters, parameters.config.clone(), false).connected();
        let channel = session.open();
        let queue = session.queue(channel);
        let body = vec![7; 300_000];
        session.publish(channel, &queue, &body);
        assert!(session.get(channel, &queue).unwrap().message.body() == body);
        session.close();
    }

    #[test]
    #[ignore = "needs a broker: cargo xtask test"]
    fn external_without_a_certificate_is_refused() {
        let parameters = tls_parameters();
        let config = parameters.config.clone().credentials(Credentials::external());
        let reason = Session::new_tls(&parameters, config, false).end();
        assert!(
            matches!(reason, CloseReason::AuthRefused { peer: Some(_) }),
            "{reason:?}"
        );
    }

    #[test]
    #[ignore = "needs a broker: cargo xtask test"]
    fn with_client_certificate_external_gets_in() {
        let parameters = tls_parameters();
        let config = parameters.config.clone().credentials(Credentials::external());
        let mut session = Session::new_tls(&parameters, config, true).connected();
        session.open();
        session.close();
    }
}
