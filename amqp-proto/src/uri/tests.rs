//! Properties of every URI, and what becomes of one in the parameters.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

use super::table::GOOD;
use super::{UriPart as Part, UriProblem as Problem, *};
use crate::parameters::{PeerVerification, ServerName};

#[test]
fn long_names() {
    let with = |name: &str| alloc::format!("amqp://host/{name}").parse::<AmqpUri>();
    assert_eq!(with(&"v".repeat(255)).unwrap().virtual_host.len(), 255);
    assert_eq!(with(&"%76".repeat(255)).unwrap().virtual_host.len(), 255);
    assert_eq!(
        with(&"ä".repeat(128)).unwrap_err(),
        UriError::new(Part::VirtualHost, 12, Problem::TooLong)
    );
    let locale = |length| format!("amqp://host?locale={}", "x".repeat(length)).parse::<AmqpUri>();
    assert!(locale(255).is_ok() && locale(256).is_err());
    let key = |length| {
        format!("amqp://host?{}=1", "k".repeat(length))
            .parse::<AmqpUri>()
            .unwrap_err()
            .problem
    };
    assert_eq!(key(40), Problem::UnknownKey { key: "k".repeat(40) });
    assert_eq!(key(41), Problem::UnknownKey { key: "?".into() });
}

#[test]
fn errors_name_the_part() {
    for (text, start) in [
        ("x", "bad scheme in the URI, at byte 0: it must begin"),
        ("amqp://a@b@c", "bad user information in the URI, at byte 8: an @"),
        ("amqp://%@c", "bad user name in the URI, at byte 7: a %"),
        ("amqp://a:%@c", "bad password in the URI, at byte 9: a %"),
        ("amqp://[", "bad host in the URI, at byte 7: the bracket"),
        ("amqp://h:x", "bad port in the URI, at byte 9: not a number"),
        ("amqp://h/a/b", "bad virtual host in the URI, at byte 10: a /"),
        ("amqp://h?x=y", "bad query in the URI, at byte 9: unknown key `x`"),
        ("amqp://h#x", "bad fragment in the URI, at byte 8: there is none"),
    ] {
        let message = text.parse::<AmqpUri>().unwrap_err().to_string();
        assert!(message.starts_with(start), "{text}: {message}");
    }
}

#[test]
fn pikas_python_values_are_refused_with_a_hint() {
    for (key, hint) in [
        ("client_properties", "Config::client_properties"),
        ("ssl_options", "ConnectionParameters::tls"),
        ("tcp_options", "ConnectionParameters::tcp"),
    ] {
        let error = format!("amqps://host?{key}=%7B%7D")
            .parse::<AmqpUri>()
            .unwrap_err();
        assert_eq!((error.part, error.offset), (Part::Query, 13));
        assert!(matches!(&error.problem, Problem::OnlyInCode { key: of, .. } if *of == key));
        assert!(error.to_string().contains(hint), "{error}");
    }
}

#[test]
fn what_is_printed_parses_to_the_same() {
    for (text, _) in GOOD {
        let uri: AmqpUri = text.parse().unwrap();
        let printed = uri.to_string();
        let again: AmqpUri = printed
            .parse()
            .unwrap_or_else(|error| panic!("{text}: {printed}: {error}"));
        assert_eq!(again.to_string(), printed, "{text}");
        assert_eq!(format!("{again:?}"), format!("{uri:?}"), "{text}");
    }
}

#[test]
fn the_password_is_never_printed() {
    let uri: AmqpUri = "amqps://ann:hunter2@host/v?password=hunter2".parse().unwrap();
    assert_eq!(uri.to_string(), "amqps://ann:***@host/v?password=***");
    for text in [
        format!("{uri:?}"),
        format!("{:?}", ConnectionParameters::from(uri)),
    ] {
        assert!(text.contains("ann") && !text.contains("hunter2"), "{text}");
    }
    // Neither by an error, wherever a raw delimiter in it ends what looks like the host.
    for delimiter in [
        "/", "?", "#", "@", ":", "%", "[", "]", ",", " ", "&", "=", "/?", "?x=1&",
    ] {
        for digits in ["", "12", "hunter2"] {
            let text = format!("amqp://ann:{digits}{delimiter}hunter2@host/hunter2/?hunter2=%zz");
            let error = text.parse::<AmqpUri>().unwrap_err();
            assert!(
                !format!("{error} {error:?}").contains("hunter2"),
                "{text}: {error}"
            );
        }
    }
}

/// Numbers that look random and are the same in every run (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as usize % limit
    }

    fn text(&mut self, alphabet: &[char], longest: usize) -> String {
        (0..self.below(longest + 1))
            .map(|_| alphabet[self.below(alphabet.len())])
            .collect()
    }
}

#[test]
fn any_names_survive_printing_and_parsing() {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let alphabet: Vec<char> = " %/?#[]@:&=+,;|ab09-._~\"'\\\u{1}\n\u{7f}ü€😀".chars().collect();
    for _ in 0..3000 {
        let mut uri: AmqpUri = "amqps://host".parse().unwrap();
        uri.user = Some(random.text(&alphabet, 8));
        uri.password = (random.below(2) == 0).then(|| Secret::from("***"));
        uri.virtual_host = random.text(&alphabet, 8) + "v";
        uri.query.name = Some(random.text(&alphabet, 8) + "n");
        uri.query.cacertfile = Some(random.text(&alphabet, 8) + "c");
        uri.query.retry_delay = Some(Duration::new(
            random.below(1 << 30) as u64,
            u32::try_from(random.below(1_000_000_000)).unwrap(),
        ));
        let printed = uri.to_string();
        let again: AmqpUri = printed
            .parse()
            .unwrap_or_else(|error| panic!("{printed}: {error}"));
        assert_eq!(format!("{again:?}"), format!("{uri:?}"), "{printed}");
        assert_eq!(again.password.is_some(), uri.password.is_some());
    }
}

#[test]
fn no_text_panics_and_every_offset_is_in_it() {
    let mut random = Random(42);
    let alphabet: Vec<char> = "amqps:/@?#[]%20&=,:1a.heartbeat|ü\0 \u{2028}".chars().collect();
    for _ in 0..30_000 {
        let mut text = String::from("amqps://");
        text.truncate(8 - random.below(2) * random.below(8));
        text += &random.text(&alphabet, 30);
        match text.parse::<AmqpUri>() {
            Ok(uri) => {
                let printed = uri.to_string();
                let again: AmqpUri = printed
                    .parse()
                    .unwrap_or_else(|error| panic!("{text}: {printed}: {error}"));
                assert_eq!(format!("{again:?}"), format!("{uri:?}"), "{text}");
            }
            Err(error) => assert!(text.is_char_boundary(error.offset), "{text:?} {error:?}"),
        }
    }
}

#[test]
fn a_bare_uri_gives_the_default_parameters() {
    let parameters = ConnectionParameters::from_uri("amqp://").unwrap();
    assert_eq!(
        format!("{parameters:?}"),
        format!("{:?}", ConnectionParameters::default())
    );
    let plain = parameters
        .config
        .credentials
        .select(b"PLAIN")
        .unwrap()
        .respond(0, b"")
        .unwrap();
    assert_eq!(plain.expose(), b"\0guest\0guest");
}

#[test]
fn every_part_arrives_in_the_parameters() {
    let parameters = ConnectionParameters::from_uri(
        "amqps://ann:pw@h1,h2:1/v?heartbeat=9&channel_max=8&frame_max=8192&connection_timeout=1500&stack_timeout=7\
         &connection_attempts=6&retry_delay=0.5&blocked_connection_timeout=4&locale=de_DE&name=me&auth_mechanism=crdemo\
         &auth_mechanism=plain&cacertfile=ca&certfile=crt&keyfile=key&password=kp&verify=verify_none&depth=3\
         &server_name_indication=sni",
    )
    .unwrap();
    assert_eq!(
        parameters.addresses().collect::<Vec<_>>(),
        [("h1", 5671), ("h2", 1)]
    );
    assert_eq!(parameters.connection_timeout, Duration::from_millis(1500));
    assert_eq!(parameters.stack_timeout, Duration::from_secs(7));
    assert_eq!(parameters.connection_attempts, 6);
    assert_eq!(parameters.retry_delay, Duration::from_millis(500));

    let config = &parameters.config;
    assert_eq!(config.virtual_host, "v");
    assert_eq!(config.heartbeat.negotiate(60), 9);
    assert_eq!((config.channel_max, config.frame_max), (8, 8192));
    assert_eq!(config.blocked_connection_timeout, Some(Duration::from_secs(4)));
    assert_eq!(config.locale, "de_DE");
    assert_eq!(config.connection_name.as_deref(), Some("me"));
    assert_eq!(
        config.credentials.mechanisms().collect::<Vec<_>>(),
        ["RABBIT-CR-DEMO", "PLAIN"]
    );
    let plain = config
        .credentials
        .select(b"PLAIN")
        .unwrap()
        .respond(0, b"")
        .unwrap();
    assert_eq!(plain.expose(), b"\0ann\0pw");
    assert_eq!(parameters.validate(), Ok(()));

    let tls = parameters.tls.unwrap();
    assert_eq!(tls.ca_certificate.as_deref(), Some("ca"));
    assert_eq!(tls.client_certificate.as_deref(), Some("crt"));
    assert_eq!(tls.private_key.as_deref(), Some("key"));
    assert_eq!(
        tls.key_password.as_ref().map(Secret::expose),
        Some(b"kp".as_slice())
    );
    assert_eq!(tls.verification, PeerVerification::VerifyNone);
    assert_eq!(tls.depth, Some(3));
    assert_eq!(tls.server_name, ServerName::Name("sni".into()));
}

#[test]
fn defaults_that_depend_on_what_is_missing() {
    let parameters = |uri| ConnectionParameters::from_uri(uri).unwrap();
    let plain = |uri| {
        let credentials = parameters(uri).config.credentials;
        credentials
            .select(b"AMQPLAIN PLAIN")
            .unwrap()
            .respond(0, b"")
            .unwrap()
            .expose()
            .to_vec()
    };
    assert_eq!(plain("amqp://ann@host"), b"\0ann\0guest");
    assert_eq!(plain("amqp://ann:@host"), b"\0ann\0");
    assert_eq!(plain("amqp://:@host"), b"\0\0");
    assert_eq!(
        parameters("amqp://h?heartbeat=0").config.heartbeat.negotiate(60),
        0
    );
    assert_eq!(parameters("amqp://h").config.heartbeat.negotiate(60), 60);
    assert!(format!("{:?}", parameters("amqp://h?heartbeat=0").config.heartbeat) == "Off");

    let tls = parameters("amqps://h").tls.unwrap();
    assert_eq!(
        (tls.verification, tls.server_name),
        (PeerVerification::VerifyPeer, ServerName::Host)
    );
    assert_eq!(tls.depth, None);
    assert!(parameters("amqp://h").tls.is_none());
}
