//! A table of URIs with what they mean, or with what is wrong with them.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::*;

/// `user:password host,host virtual-host ?query`, passwords in the clear, `-` for what is not there; the
/// scheme only if it is amqps.
fn summary(uri: &AmqpUri) -> String {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let user = uri.user.clone().unwrap_or_else(|| "-".into());
    let password = uri
        .password
        .as_ref()
        .map_or_else(|| "-".into(), |p| text(p.expose()));
    let hosts: Vec<_> = uri
        .hosts
        .iter()
        .map(|h| format!("{}|{}", h.name, h.port.unwrap_or(0)))
        .collect();
    let tls = if uri.tls { "amqps " } else { "" };
    format!(
        "{tls}{user}:{password} {} {} {}",
        hosts.join(","),
        uri.virtual_host,
        uri.query
    )
    .trim_end()
    .into()
}

/// What is understood. A port of 0 is the default port.
pub(super) const GOOD: &[(&str, &str)] = &[
    // The examples of RabbitMQ's "AMQP URI Specification", appendix A.
    ("amqp://user:pass@host:10000/vhost", "user:pass host|10000 vhost"),
    (
        "amqp://user%61:%61pass@ho%61st:10000/v%2fhost",
        "usera:apass hoast|10000 v/host",
    ),
    ("amqp://", "-:- localhost|0 /"),
    ("amqp://:@/", ": localhost|0 /"),
    ("amqp://user@", "user:- localhost|0 /"),
    ("amqp://user:pass@", "user:pass localhost|0 /"),
    ("amqp://host", "-:- host|0 /"),
    ("amqp://:10000", "-:- localhost|10000 /"),
    ("amqp:///vhost", "-:- localhost|0 vhost"),
    ("amqp://host/", "-:- host|0 /"),
    ("amqp://host/%2f", "-:- host|0 /"),
    ("amqp://[::1]", "-:- ::1|0 /"),
    // Schemes.
    ("AMQP://host", "-:- host|0 /"),
    ("aMqPs://host", "amqps -:- host|0 /"),
    ("amqps://", "amqps -:- localhost|0 /"),
    (
        "amqps://u:p@b-1.mq.eu-west-1.amazonaws.com:5671",
        "amqps u:p b-1.mq.eu-west-1.amazonaws.com|5671 /",
    ),
    // Users and passwords.
    ("amqp://guest:guest@localhost/", "guest:guest localhost|0 /"),
    ("amqp://user:@host", "user: host|0 /"),
    ("amqp://:pass@host", ":pass host|0 /"),
    ("amqp://@host", ":- host|0 /"),
    ("amqp://user:a:b@host", "user:a:b host|0 /"),
    ("amqp://u:p%40s%2Fs%3F%23%25@host", "u:p@s/s?#% host|0 /"),
    ("amqp://u%3Ax:p@host", "u:x:p host|0 /"),
    ("amqp://ann%20b:c+d@host", "ann b:c+d host|0 /"),
    ("amqp://ünï:pässword@host", "ünï:pässword host|0 /"),
    ("amqp://%C3%BCn:%E2%82%AC@host", "ün:€ host|0 /"),
    ("amqp://u:a,b@host", "u:a,b host|0 /"),
    ("amqp://u:[x]@host", "u:[x] host|0 /"),
    ("amqp://u:a%0Ab@host", "u:a\nb host|0 /"),
    // Hosts and ports.
    ("amqp://127.0.0.1:5673", "-:- 127.0.0.1|5673 /"),
    ("amqp://my_host-1.example.:1", "-:- my_host-1.example.|1 /"),
    ("amqp://host:65535", "-:- host|65535 /"),
    ("amqp://host:05672", "-:- host|5672 /"),
    ("amqp://HOST", "-:- HOST|0 /"),
    ("amqp://[::1]:5673/v", "-:- ::1|5673 v"),
    ("amqp://u:p@[2001:db8::7]:1/", "u:p 2001:db8::7|1 /"),
    ("amqp://[::ffff:10.0.0.1]", "-:- ::ffff:10.0.0.1|0 /"),
    ("amqp://[fe80::1%25eth0]:5672", "-:- fe80::1%eth0|5672 /"),
    ("amqp://[fe80::1%25a.b_c~d-1]", "-:- fe80::1%a.b_c~d-1|0 /"),
    (
        "amqp://u:p@h1:5672,h2,[::1]:5673/vhost",
        "u:p h1|5672,h2|0,::1|5673 vhost",
    ),
    ("amqps://a,b?name=x", "amqps -:- a|0,b|0 / ?name=x"),
    // Virtual hosts.
    ("amqp://host//", "-:- host|0 /"),
    ("amqp:///", "-:- localhost|0 /"),
    ("amqp:////", "-:- localhost|0 /"),
    ("amqp://host/%2F", "-:- host|0 /"),
    ("amqp://host/%2F%2f", "-:- host|0 //"),
    ("amqp://host/amqp-xxx|Vhostname", "-:- host|0 amqp-xxx|Vhostname"),
    (
        "amqp://host/amqp-xxx%7CVhostname",
        "-:- host|0 amqp-xxx|Vhostname",
    ),
    (
        "amqp://host/amqp-xxx%7cVhostname",
        "-:- host|0 amqp-xxx|Vhostname",
    ),
    ("amqp://host/a%20b+c", "-:- host|0 a b+c"),
    ("amqp://host/über", "-:- host|0 über"),
    ("amqp://host/a%3Fb%23c", "-:- host|0 a?b#c"),
    ("amqp://u@host/a@b:c", "u:- host|0 a@b:c"),
    ("amqp://host/%76host", "-:- host|0 vhost"),
    ("amqp://host/%25", "-:- host|0 %"),
    // Queries.
    ("amqp://host?", "-:- host|0 /"),
    ("amqp://host/?", "-:- host|0 /"),
    ("amqp://host?heartbeat=5", "-:- host|0 / ?heartbeat=5"),
    ("amqp://?heartbeat=0", "-:- localhost|0 / ?heartbeat=0"),
    ("amqp://host/v?heartbeat=65535", "-:- host|0 v ?heartbeat=65535"),
    ("amqp://host?heartbeat_interval=7", "-:- host|0 / ?heartbeat=7"),
    ("amqp://host?%68eartbeat=%35", "-:- host|0 / ?heartbeat=5"),
    (
        "amqp://host?channel_max=0&frame_max=0",
        "-:- host|0 / ?channel_max=0&frame_max=0",
    ),
    ("amqp://host?frame_max=4096", "-:- host|0 / ?frame_max=4096"),
    (
        "amqp://host?frame_max=4294967295",
        "-:- host|0 / ?frame_max=4294967295",
    ),
    (
        "amqp://host?connection_timeout=1500",
        "-:- host|0 / ?connection_timeout=1500",
    ),
    (
        "amqp://host?socket_timeout=1.5",
        "-:- host|0 / ?connection_timeout=1500",
    ),
    (
        "amqp://host?socket_timeout=.0005",
        "-:- host|0 / ?socket_timeout=0.000500000",
    ),
    (
        "amqp://host?socket_timeout=18446744073709551615",
        "-:- host|0 / ?socket_timeout=18446744073709551615",
    ),
    (
        "amqp://host?connection_timeout=18446744073709551615",
        "-:- host|0 / ?connection_timeout=18446744073709551615",
    ),
    ("amqp://host?stack_timeout=20.", "-:- host|0 / ?stack_timeout=20"),
    (
        "amqp://host?timeout=0.25",
        "-:- host|0 / ?stack_timeout=0.250000000",
    ),
    (
        "amqp://host?connection_attempts=3&retry_delay=0",
        "-:- host|0 / ?connection_attempts=3&retry_delay=0",
    ),
    (
        "amqp://host?blocked_connection_timeout=300",
        "-:- host|0 / ?blocked_connection_timeout=300",
    ),
    (
        "amqp://host?locale=de_DE&name=my%20app+1",
        "-:- host|0 / ?locale=de_DE&name=my%20app%2B1",
    ),
    ("amqp://host?name=a=b;c", "-:- host|0 / ?name=a%3Db%3Bc"),
    ("amqp://host?name=a/b?c", "-:- host|0 / ?name=a%2Fb%3Fc"),
    ("amqp://host?name=ü", "-:- host|0 / ?name=%C3%BC"),
    (
        "amqp://host?auth_mechanism=external",
        "-:- host|0 / ?auth_mechanism=external",
    ),
    (
        "amqp://host?auth_mechanism=AMQPLAIN&heartbeat=1&auth_mechanism=PLAIN",
        "-:- host|0 / ?heartbeat=1&auth_mechanism=amqplain&auth_mechanism=plain",
    ),
    (
        "amqp://host?auth_mechanism=rabbit-cr-demo&auth_mechanism=anonymous",
        "-:- host|0 / ?auth_mechanism=crdemo&auth_mechanism=anonymous",
    ),
    ("amqp://host?backpressure_detection=t", "-:- host|0 /"),
    (
        "amqp://host?backpressure_detection=f&heartbeat=1",
        "-:- host|0 / ?heartbeat=1",
    ),
    (
        "amqps://host?cacertfile=/c/ca.pem&certfile=/c/crt%20.pem&keyfile=k&password=p%26w",
        "amqps -:- host|0 / ?cacertfile=%2Fc%2Fca.pem&certfile=%2Fc%2Fcrt%20.pem&keyfile=k&password=***",
    ),
    (
        "amqps://host?verify=verify_none&depth=2&server_name_indication=b.example",
        "amqps -:- host|0 / ?verify=verify_none&depth=2&server_name_indication=b.example",
    ),
    (
        "amqps://host?verify=verify_peer&server_name_indication=disable",
        "amqps -:- host|0 / ?verify=verify_peer&server_name_indication=disable",
    ),
    ("amqps://host?password=", "amqps -:- host|0 / ?password=***"),
    (
        "amqps://host?fail_if_no_peer_cert=true&customize_hostname_check=https",
        "amqps -:- host|0 /",
    ),
];

use UriPart as Part;
use UriProblem as Problem;

/// What is refused: where and why.
fn bad() -> Vec<(&'static str, Part, usize, Problem)> {
    let unknown = |key: &str| Problem::UnknownKey { key: key.into() };
    let twice = |key| Problem::DuplicateKey { key };
    let value = |key, expected| Problem::InvalidValue { key, expected };
    let tls = |key| Problem::NeedsTls { key };
    let seconds = "seconds above 0, as 2 or 0.25";
    alloc::vec![
        ("", Part::Scheme, 0, Problem::UnknownScheme),
        ("host", Part::Scheme, 0, Problem::UnknownScheme),
        ("http://host", Part::Scheme, 0, Problem::UnknownScheme),
        ("amqpx://host", Part::Scheme, 0, Problem::UnknownScheme),
        (" amqp://host", Part::Scheme, 0, Problem::UnknownScheme),
        ("localhost:5672", Part::Scheme, 0, Problem::UnknownScheme),
        ("amqp:", Part::Scheme, 4, Problem::UnknownScheme),
        ("amqps:/host", Part::Scheme, 5, Problem::UnknownScheme),
        // Users and passwords.
        ("amqp://user:p@ss@host", Part::UserInfo, 13, Problem::At),
        ("amqp://user:12/34@host", Part::UserInfo, 17, Problem::At),
        ("amqp://user:12?secret&x@host", Part::UserInfo, 23, Problem::At),
        ("amqp://user:12#secret@host", Part::UserInfo, 21, Problem::At),
        ("amqp://us%zzer@host", Part::User, 9, Problem::PercentEncoding),
        ("amqp://user:%@host", Part::Password, 12, Problem::PercentEncoding),
        (
            "amqp://user:%4@host",
            Part::Password,
            12,
            Problem::PercentEncoding
        ),
        (
            "amqp://user:%+1@host",
            Part::Password,
            12,
            Problem::PercentEncoding
        ),
        ("amqp://user:ab%FF@host", Part::Password, 14, Problem::InvalidUtf8),
        (
            "amqp://user:ä%C3%28@host",
            Part::Password,
            14,
            Problem::InvalidUtf8
        ),
        ("amqp://user:a%00@host", Part::Password, 13, Problem::Nul),
        ("amqp://user:a\0@host", Part::Password, 13, Problem::Nul),
        ("amqp://us er@host", Part::User, 9, Problem::WhiteSpace),
        ("amqp://user:a\tb@host", Part::Password, 13, Problem::WhiteSpace),
        (
            "amqp://user:a\x1bb@host",
            Part::Password,
            13,
            Problem::ControlCharacter
        ),
        // Hosts and ports.
        ("amqp://ho st", Part::Host, 9, Problem::WhiteSpace),
        ("amqp://ho%20st", Part::Host, 7, Problem::HostCharacter),
        ("amqp://höst", Part::Host, 7, Problem::HostCharacter),
        ("amqp://a,h*st", Part::Host, 9, Problem::HostCharacter),
        ("amqp://ho]st", Part::Host, 7, Problem::HostCharacter),
        ("amqp://h%2ci", Part::Host, 7, Problem::HostCharacter),
        ("amqp://ho%gst", Part::Host, 9, Problem::PercentEncoding),
        ("amqp://h1,,h2", Part::Host, 10, Problem::EmptyHost),
        ("amqp://h1,", Part::Host, 10, Problem::EmptyHost),
        ("amqp://u@,h1", Part::Host, 9, Problem::EmptyHost),
        ("amqp://h1,:5672", Part::Host, 10, Problem::EmptyHost),
        ("amqp://::1", Part::Host, 7, Problem::Brackets),
        ("amqp://a,host:1:2", Part::Host, 9, Problem::Brackets),
        ("amqp://[::1", Part::Host, 7, Problem::UnclosedBracket),
        ("amqp://[::1]x", Part::Host, 12, Problem::AfterBracket),
        ("amqp://[]", Part::Host, 8, Problem::Ipv6),
        ("amqp://[host]", Part::Host, 8, Problem::Ipv6),
        ("amqp://[127.0.0.1]", Part::Host, 8, Problem::Ipv6),
        ("amqp://[v1.x]", Part::Host, 8, Problem::Ipv6),
        ("amqp://[fe80::1%eth0]", Part::Host, 15, Problem::PercentEncoding),
        ("amqp://[fe80::1%25]", Part::Host, 8, Problem::Ipv6Zone),
        ("amqp://[fe80::1%25a%25b]", Part::Host, 8, Problem::Ipv6Zone),
        ("amqp://host:", Part::Port, 12, Problem::EmptyPort),
        ("amqp://:", Part::Port, 8, Problem::EmptyPort),
        ("amqp://[::1]:/v", Part::Port, 13, Problem::EmptyPort),
        ("amqp://host:0", Part::Port, 12, Problem::PortRange),
        ("amqp://host:65536", Part::Port, 12, Problem::PortRange),
        (
            "amqp://host:99999999999999999999",
            Part::Port,
            12,
            Problem::PortRange
        ),
        ("amqp://host:+5672", Part::Port, 12, Problem::PortRange),
        ("amqp://host:-1", Part::Port, 12, Problem::PortRange),
        ("amqp://host:56a", Part::Port, 12, Problem::PortRange),
        ("amqp://host:%35", Part::Port, 12, Problem::PortRange),
        ("amqp://[::1]:x", Part::Port, 13, Problem::PortRange),
        ("amqp://user:pa/ss", Part::Port, 12, Problem::PortRange),
        // Virtual hosts.
        ("amqp://host/a/b", Part::VirtualHost, 13, Problem::Slash),
        ("amqp://host/a/", Part::VirtualHost, 13, Problem::Slash),
        ("amqp://host//a", Part::VirtualHost, 12, Problem::Slash),
        ("amqp://host///", Part::VirtualHost, 12, Problem::Slash),
        ("amqp://host/%", Part::VirtualHost, 12, Problem::PercentEncoding),
        ("amqp://host/a%00", Part::VirtualHost, 13, Problem::Nul),
        ("amqp://host/%ff", Part::VirtualHost, 12, Problem::InvalidUtf8),
        ("amqp://host/a b", Part::VirtualHost, 13, Problem::WhiteSpace),
        ("amqp://host/a ", Part::VirtualHost, 13, Problem::WhiteSpace),
        ("amqp://host/v\n", Part::VirtualHost, 13, Problem::WhiteSpace),
        ("amqp://host#", Part::Fragment, 11, Problem::Unexpected),
        ("amqp://host/v#x", Part::Fragment, 13, Problem::Unexpected),
        ("amqp://host/v?name=x#y", Part::Fragment, 20, Problem::Unexpected),
        // Queries.
        ("amqp://host?colour=red", Part::Query, 12, unknown("colour")),
        (
            "amqp://host?name=x&Heartbeat=1",
            Part::Query,
            19,
            unknown("Heartbeat")
        ),
        (
            "amqp://host?max-Colour_2=red",
            Part::Query,
            12,
            unknown("max-Colour_2")
        ),
        ("amqp://host?a%20b=1", Part::Query, 12, unknown("?")),
        ("amqp://host?heartbeat", Part::Query, 12, Problem::KeyValue),
        ("amqp://host?=1", Part::Query, 12, Problem::KeyValue),
        ("amqp://host?name=x&", Part::Query, 19, Problem::KeyValue),
        ("amqp://host?&name=x", Part::Query, 12, Problem::KeyValue),
        (
            "amqp://host?heartbeat=1&heartbeat=1",
            Part::Query,
            24,
            twice("heartbeat")
        ),
        (
            "amqp://host?heartbeat=1&heartbeat_interval=1",
            Part::Query,
            24,
            twice("heartbeat_interval")
        ),
        (
            "amqp://host?connection_timeout=1&socket_timeout=1",
            Part::Query,
            33,
            twice("socket_timeout")
        ),
        (
            "amqp://host?timeout=1&stack_timeout=1",
            Part::Query,
            22,
            twice("stack_timeout")
        ),
        (
            "amqp://host?auth_mechanism=plain&auth_mechanism=PLAIN",
            Part::Query,
            33,
            twice("auth_mechanism")
        ),
        (
            "amqp://host?backpressure_detection=t&backpressure_detection=t",
            Part::Query,
            37,
            twice("backpressure_detection"),
        ),
        (
            "amqp://host?heartbeat=",
            Part::Query,
            22,
            value("heartbeat", "seconds from 0 to 65535")
        ),
        (
            "amqp://host?heartbeat=65536",
            Part::Query,
            22,
            value("heartbeat", "seconds from 0 to 65535")
        ),
        (
            "amqp://host?heartbeat=-1",
            Part::Query,
            22,
            value("heartbeat", "seconds from 0 to 65535")
        ),
        (
            "amqp://host?heartbeat=+1",
            Part::Query,
            22,
            value("heartbeat", "seconds from 0 to 65535")
        ),
        (
            "amqp://host?heartbeat=1.5",
            Part::Query,
            22,
            value("heartbeat", "seconds from 0 to 65535")
        ),
        (
            "amqp://host?channel_max=65536",
            Part::Query,
            24,
            value("channel_max", "a number from 0 to 65535")
        ),
        (
            "amqp://host?frame_max=1",
            Part::Query,
            22,
            value("frame_max", "bytes, 0 or from 4096 to 4294967295")
        ),
        (
            "amqp://host?frame_max=4095",
            Part::Query,
            22,
            value("frame_max", "bytes, 0 or from 4096 to 4294967295")
        ),
        (
            "amqp://host?connection_timeout=0",
            Part::Query,
            31,
            value("connection_timeout", "milliseconds, a whole number above 0"),
        ),
        (
            "amqp://host?connection_timeout=1.5",
            Part::Query,
            31,
            value("connection_timeout", "milliseconds, a whole number above 0"),
        ),
        (
            "amqp://host?socket_timeout=0",
            Part::Query,
            27,
            value("socket_timeout", seconds)
        ),
        (
            "amqp://host?socket_timeout=.",
            Part::Query,
            27,
            value("socket_timeout", seconds)
        ),
        (
            "amqp://host?stack_timeout=-1",
            Part::Query,
            26,
            value("stack_timeout", seconds)
        ),
        (
            "amqp://host?timeout=1e3",
            Part::Query,
            20,
            value("timeout", seconds)
        ),
        (
            "amqp://host?timeout=1.2.3",
            Part::Query,
            20,
            value("timeout", seconds)
        ),
        (
            "amqp://host?timeout=nan",
            Part::Query,
            20,
            value("timeout", seconds)
        ),
        (
            "amqp://host?timeout=1.0000000001",
            Part::Query,
            20,
            value("timeout", seconds)
        ),
        (
            "amqp://host?timeout=18446744073709551616",
            Part::Query,
            20,
            value("timeout", seconds)
        ),
        (
            "amqp://host?timeout=+1",
            Part::Query,
            20,
            value("timeout", seconds)
        ),
        (
            "amqp://host?timeout=1.2x",
            Part::Query,
            20,
            value("timeout", seconds)
        ),
        (
            "amqp://host?retry_delay=x",
            Part::Query,
            24,
            value("retry_delay", "seconds, as 2 or 0.25")
        ),
        (
            "amqp://host?blocked_connection_timeout=0",
            Part::Query,
            39,
            value("blocked_connection_timeout", seconds)
        ),
        (
            "amqp://host?connection_attempts=0",
            Part::Query,
            32,
            value("connection_attempts", "a number from 1 to 4294967295"),
        ),
        (
            "amqp://host?auth_mechanism=scram",
            Part::Query,
            27,
            value("auth_mechanism", "plain, amqplain, external, anonymous or crdemo"),
        ),
        (
            "amqp://host?backpressure_detection=yes",
            Part::Query,
            35,
            value("backpressure_detection", "t or f")
        ),
        (
            "amqp://host?locale=",
            Part::Query,
            19,
            value("locale", "1 to 255 bytes, as en_US")
        ),
        ("amqp://host?name=%zz", Part::Query, 17, Problem::PercentEncoding),
        ("amqp://host?name=a b", Part::Query, 18, Problem::WhiteSpace),
        ("amqp://host?name=%00", Part::Query, 17, Problem::Nul),
        ("amqp://host?name=%ff", Part::Query, 17, Problem::InvalidUtf8),
        ("amqp://host?cacertfile=x", Part::Query, 12, tls("cacertfile")),
        ("amqp://host?verify=verify_none", Part::Query, 12, tls("verify")),
        ("amqp://host?password=x", Part::Query, 12, tls("password")),
        (
            "amqp://host?customize_hostname_check=https",
            Part::Query,
            12,
            tls("customize_hostname_check")
        ),
        (
            "amqps://host?verify=none",
            Part::Query,
            20,
            value("verify", "verify_peer or verify_none")
        ),
        (
            "amqps://host?certfile=",
            Part::Query,
            22,
            value("certfile", "a path")
        ),
        (
            "amqps://host?depth=x",
            Part::Query,
            19,
            value("depth", "a number from 0 to 4294967295")
        ),
        (
            "amqps://host?server_name_indication=",
            Part::Query,
            36,
            value("server_name_indication", "a host name, or disable"),
        ),
        (
            "amqps://host?fail_if_no_peer_cert=1",
            Part::Query,
            34,
            value("fail_if_no_peer_cert", "true or false")
        ),
        (
            "amqps://host?customize_hostname_check=x",
            Part::Query,
            38,
            value("customize_hostname_check", "https")
        ),
        (
            "amqps://host?keyfile=a&keyfile=b",
            Part::Query,
            23,
            twice("keyfile")
        ),
    ]
}

#[test]
fn good_uris_mean_what_the_table_says() {
    for (text, expected) in GOOD {
        let parsed = text.parse::<AmqpUri>().map(|uri| summary(&uri));
        assert_eq!(parsed.as_deref(), Ok(*expected), "{text}");
    }
}

#[test]
fn bad_uris_say_where_and_why() {
    for (text, part, offset, problem) in bad() {
        let error = text.parse::<AmqpUri>().expect_err(text);
        assert_eq!(error, UriError::new(part, offset, problem), "{text}");
        assert!(text.is_char_boundary(error.offset), "{text}");
    }
}
