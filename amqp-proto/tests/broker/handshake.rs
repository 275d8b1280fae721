//! Who may in, and how.

use amqp_proto::wire::{Frame, Method, Problem};
use amqp_proto::{Credentials, Mechanism};

use crate::client::{Client, Direction};
use crate::connect::{answer_to, declare, parameters, session};

#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn every_mechanism_that_needs_no_tls_gets_in() {
    for mechanism in [Mechanism::Plain, Mechanism::Amqplain, Mechanism::RabbitCrDemo] {
        let credentials = Credentials::with_mechanisms("guest", "guest", [mechanism]);
        let mut client = session(&parameters().config.credentials(credentials)).unwrap();
        declare(&mut client);
        client.close().unwrap();
    }
}

#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn rabbit_cr_demo_takes_a_second_round() {
    let credentials = Credentials::rabbit_cr_demo("guest", "guest");
    let (sender, rounds) = std::sync::mpsc::channel();
    let parameters = parameters();
    let watch = move |direction, frame: &Frame<'_>| {
        if let (
            Direction::Received,
            Frame::Method {
                method: Method::ConnectionSecure(secure),
                ..
            },
        ) = (direction, frame)
        {
            sender.send(secure.challenge.to_string()).unwrap();
        }
    };
    let stream = crate::connect::tcp(&parameters);
    let client = Client::connect(stream, &parameters.config.credentials(credentials), watch).unwrap();
    client.close().unwrap();
    assert_eq!(
        rounds.iter().collect::<Vec<_>>(),
        ["Please tell me your password"]
    );
}

#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn a_virtual_host_with_a_bar_is_reached_raw_and_escaped() {
    let uri = crate::connect::variable("AMQP_TEST_URL");
    let base = uri.trim_end_matches('/');
    for path in ["a|b", "a%7Cb", "a%7cb"] {
        let parameters = amqp_proto::ConnectionParameters::from_uri(&format!("{base}/{path}")).unwrap();
        assert_eq!(parameters.config.virtual_host, "a|b");
        session(&parameters.config).unwrap().close().unwrap();
    }
}

#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn another_version_is_answered_with_the_broker_s_own() {
    let error = answer_to(&parameters(), b"AMQP\x00\x00\x08\x00").unwrap_err();
    assert!(matches!(error.problem, Problem::ProtocolHeader(_)), "{error}");
}

mod over_tls {
    use super::*;
    use crate::connect::{SILENT, tls, tls_parameters};

    #[test]
    #[ignore = "needs a broker: cargo xtask test"]
    fn the_main_job_is_done() {
        let parameters = tls_parameters();
        let mut client = Client::connect(tls(&parameters, false), &parameters.config, SILENT).unwrap();
        let queue = declare(&mut client);
        client.publish(&queue, &Default::default(), b"secret").unwrap();
        let got = client.get(&queue).unwrap().unwrap();
        assert_eq!(got.body, b"secret");
        client.ack(&got).unwrap();
        client.close().unwrap();
    }

    #[test]
    #[ignore = "needs a broker: cargo xtask test"]
    fn with_client_certificate_external_needs_no_password() {
        let parameters = tls_parameters();
        let config = parameters.config.clone().credentials(Credentials::external());
        let client = Client::connect(tls(&parameters, true), &config, SILENT).unwrap();
        client.close().unwrap();
    }
}
