//! From the protocol header to `connection.open-ok`, and who is turned away.

use std::time::Duration;

use amqp_proto::wire::*;
use amqp_testbroker::{BrokerConfig, Permissions, Release, User};

use crate::stage::{Stage, all_capabilities, close, name};

const THREE_SECONDS: Duration = Duration::from_secs(3);

/// Nothing is said for three seconds, then the stream ends.
#[track_caller]
fn is_silently_dropped(stage: &mut Stage, who: usize) {
    assert!(stage.received(who).is_empty());
    stage.send(who, 0, ConnectionOpen::default());
    stage.advance(THREE_SECONDS - Duration::from_nanos(1));
    assert!(!stage.is_over(who));
    stage.advance(Duration::from_nanos(1));
    assert!(stage.is_over(who));
    assert!(stage.received(who).is_empty());
    assert_eq!(stage.unread(who), 0);
}

#[test]
fn a_handshake() {
    let mut stage = Stage::new();
    let who = stage.connect();
    stage.send_octets(who, &PROTOCOL_HEADER[..5]);
    assert!(stage.received(who).is_empty());
    stage.send_octets(who, &PROTOCOL_HEADER[5..]);
    let start = stage.received(who);
    assert_eq!(start.len(), 1);
    assert!(
        start[0].starts_with("ch 0 connection.start version_major=0 version_minor=9"),
        "{start:?}"
    );
    assert!(
        start[0].contains(r#""product": "amqp-testbroker", "version": "4.3.6""#),
        "{start:?}"
    );
    assert!(
        start[0].contains(r#"mechanisms="PLAIN AMQPLAIN RABBIT-CR-DEMO" locales="en_US""#),
        "{start:?}"
    );
    for capability in [
        "publisher_confirms",
        "basic.nack",
        "connection.blocked",
        "direct_reply_to",
    ] {
        assert!(start[0].contains(&format!("{capability:?}: true")), "{start:?}");
    }
    stage.start_ok(who, "PLAIN", b"\0guest\0guest", &all_capabilities());
    stage.tune(who, 0);
    stage.call(who, 0, ConnectionOpen::default(), "connection.open-ok");
    let connections = stage.broker.connections();
    assert_eq!(connections.len(), 1);
    assert_eq!(connections[0].user.as_deref(), Some("guest"));
    assert_eq!(connections[0].virtual_host.as_deref(), Some("/"));
    assert_eq!(stage.broker.poll_timeout(), None);
}

#[test]
fn the_version_is_that_of_the_release_that_is_followed() {
    let mut config = BrokerConfig::default();
    config.release = Release::V3_10;
    let mut stage = Stage::with(config);
    let who = stage.connect();
    stage.send_octets(who, &PROTOCOL_HEADER);
    assert!(stage.received(who)[0].contains(r#""version": "3.10.8""#));
}

#[test]
fn another_protocol_is_told_which_one_is_spoken_here() {
    for header in [&b"AMQP\x00\x01\x00\x00"[..], b"GET / HTTP/1.1\r\n"] {
        let mut stage = Stage::new();
        let who = stage.connect();
        stage.send_octets(who, header);
        assert_eq!(stage.received(who), ["protocol header"]);
        assert!(stage.is_over(who));
    }
}

#[test]
fn amqplain_and_the_two_rounds_of_the_demonstration_are_accepted() {
    let mut stage = Stage::new();
    let who = stage.connect();
    stage.send_octets(who, &PROTOCOL_HEADER);
    stage.received(who);
    let login = b"\x05LOGINS\0\0\0\x05guest\x08PASSWORDS\0\0\0\x05guest";
    stage.start_ok(who, "AMQPLAIN", login, &all_capabilities());
    stage.tune(who, 0);

    let who = stage.connect();
    stage.send_octets(who, &PROTOCOL_HEADER);
    stage.received(who);
    stage.start_ok(who, "RABBIT-CR-DEMO", b"guest", &all_capabilities());
    let secure = r#"ch 0 connection.secure challenge="Please tell me your password""#;
    assert_eq!(stage.received(who), [secure]);
    let response = SecretStr::new(b"My password is guest");
    stage.send(who, 0, ConnectionSecureOk { response });
    stage.tune(who, 0);
}

#[test]
fn a_wrong_password_is_refused_and_three_seconds_later_the_stream_ends() {
    for (user, password) in [("guest", "wrong"), ("nobody", "guest")] {
        let mut stage = Stage::new();
        let who = stage.start(user, password, &all_capabilities());
        let text = "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker logfile.";
        assert_eq!(stage.received(who), [close(0, 403, text, 0, 0)]);
        is_silently_dropped(&mut stage, who);
    }
}

#[test]
fn a_wrong_password_in_the_second_round_is_refused_too() {
    let mut stage = Stage::new();
    let who = stage.connect();
    stage.send_octets(who, &PROTOCOL_HEADER);
    stage.received(who);
    stage.start_ok(who, "RABBIT-CR-DEMO", b"guest", &all_capabilities());
    stage.received(who);
    let response = SecretStr::new(b"My password is wrong");
    stage.send(who, 0, ConnectionSecureOk { response });
    let text = "ACCESS_REFUSED - Login was refused using authentication mechanism RABBIT-CR-DEMO. For details see the broker logfile.";
    assert_eq!(stage.received(who), [close(0, 403, text, 0, 0)]);
}

#[test]
fn who_cannot_be_told_of_a_wrong_password_gets_silence() {
    let mut stage = Stage::new();
    let who = stage.start("guest", "wrong", &FieldTable::new());
    is_silently_dropped(&mut stage, who);
}

#[test]
fn a_mechanism_that_was_not_offered_and_a_malformed_response_get_silence() {
    let cases: [(&str, &[u8]); 5] = [
        ("EXTERNAL", b""),
        ("PLAIN", b"guest\0guest"),
        ("PLAIN", b"\0guest\0guest\0"),
        ("AMQPLAIN", b"\x05LOGINS\0\0\0\x05guest"),
        ("nonsense", b""),
    ];
    for (mechanism, response) in cases {
        let mut stage = Stage::new();
        let who = stage.connect();
        stage.send_octets(who, &PROTOCOL_HEADER);
        stage.received(who);
        stage.start_ok(who, mechanism, response, &all_capabilities());
        is_silently_dropped(&mut stage, who);
    }
}

#[test]
fn external_takes_the_name_in_the_certificate_and_is_offered_on_tls_only() {
    for (certificate, is_accepted) in [(Some("guest"), true), (Some("nobody"), false), (None, false)] {
        let mut stage = Stage::new();
        let key = stage.broker.accept_tls(stage.now, certificate);
        let who = stage.add(key);
        stage.send_octets(who, &PROTOCOL_HEADER);
        assert!(stage.received(who)[0].contains("RABBIT-CR-DEMO EXTERNAL"));
        stage.start_ok(who, "EXTERNAL", b"", &all_capabilities());
        if is_accepted {
            stage.tune(who, 0);
        } else {
            let text = "ACCESS_REFUSED - Login was refused using authentication mechanism EXTERNAL. For details see the broker logfile.";
            assert_eq!(stage.received(who), [close(0, 403, text, 0, 0)]);
        }
    }
}

#[test]
fn a_limit_above_the_offer_or_below_the_minimum_gets_silence() {
    let cases = [
        (Release::V4, 0, 131_072, false),
        (Release::V4, 2048, 131_072, false),
        (Release::V4, 2047, 0, false),
        (Release::V4, 2047, 131_073, false),
        (Release::V4, 2047, 8191, false),
        (Release::V4, 2047, 8192, true),
        (Release::V4, 1, 131_072, true),
        (Release::V3_10, 2047, 4095, false),
        (Release::V3_10, 2047, 4096, true),
    ];
    for (release, channel_max, frame_max, is_allowed) in cases {
        let mut config = BrokerConfig::default();
        config.release = release;
        let mut stage = Stage::with(config);
        let who = stage.start("guest", "guest", &all_capabilities());
        stage.received(who);
        stage.tune_ok(who, channel_max, frame_max, 0);
        if is_allowed {
            stage.call(who, 0, ConnectionOpen::default(), "connection.open-ok");
        } else {
            is_silently_dropped(&mut stage, who);
        }
    }
}

#[test]
fn without_a_limit_in_the_offer_none_is_needed_in_the_answer() {
    let mut config = BrokerConfig::default();
    (config.channel_max, config.frame_max) = (0, 0);
    let mut stage = Stage::with(config);
    let who = stage.start("guest", "guest", &all_capabilities());
    stage.received(who);
    stage.tune_ok(who, 0, 0, 0);
    stage.call(who, 0, ConnectionOpen::default(), "connection.open-ok");
    stage.channel(who, 65_535);
}

#[test]
fn a_virtual_host_that_is_missing_or_forbidden_is_not_allowed() {
    let mut config = BrokerConfig::default();
    config.virtual_hosts.push("other".to_owned());
    let permissions = Permissions::default();
    let user = User::new("secret").with_permissions("other", permissions);
    config.users.insert("visitor".to_owned(), user);
    let mut stage = Stage::with(config);
    for (virtual_host, text) in [
        ("x", "NOT_ALLOWED - vhost x not found"),
        (
            "/",
            "NOT_ALLOWED - access to vhost '/' refused for user 'visitor'",
        ),
    ] {
        let who = stage.start("visitor", "secret", &all_capabilities());
        stage.tune(who, 0);
        let virtual_host = name(virtual_host);
        stage.send(who, 0, ConnectionOpen { virtual_host });
        assert_eq!(stage.received(who), [close(0, 530, text, 10, 40)]);
        assert!(!stage.is_over(who));
        stage.send(who, 0, ConnectionCloseOk {});
        stage.run();
        assert!(stage.is_over(who));
    }
}

#[test]
fn a_handshake_may_take_ten_seconds() {
    let mut stage = Stage::new();
    let silent = stage.connect();
    let slow = stage.start("guest", "guest", &all_capabilities());
    stage.tune(slow, 0);
    stage.advance(Duration::from_nanos(9_999_999_999));
    assert!(!stage.is_over(silent) && !stage.is_over(slow));
    stage.advance(Duration::from_nanos(1));
    assert!(stage.is_over(silent) && stage.is_over(slow));
}

#[test]
fn a_method_out_of_turn_or_on_a_channel_gets_silence_before_the_connection_is_open() {
    let mut stage = Stage::new();
    let who = stage.start("guest", "guest", &all_capabilities());
    stage.received(who);
    stage.send(who, 0, ConnectionOpen::default());
    is_silently_dropped(&mut stage, who);

    let who = stage.start("guest", "guest", &all_capabilities());
    stage.received(who);
    stage.send(who, 1, ChannelOpen::default());
    is_silently_dropped(&mut stage, who);
}
