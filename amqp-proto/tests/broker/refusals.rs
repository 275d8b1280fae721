//! How the broker says no, and that its words arrive.

use amqp_proto::Credentials;
use amqp_proto::wire::{ExchangeDeclare, ExchangeDeclareOk, Method, QueueDeclare};

use crate::client::Error;
use crate::connect::{guest, is, parameters, queue_name, session};

fn refusal<T>(result: Result<T, Error>) -> String {
    result.map(|_| ()).unwrap_err().to_string()
}

#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn a_wrong_password_is_a_403() {
    let config = parameters()
        .config
        .credentials(Credentials::plain("guest", "wrong"));
    let refusal = refusal(session(&config));
    assert!(
        refusal.contains(
            "connection.close reply_code=403 ACCESS_REFUSED reply_text=\"ACCESS_REFUSED - Login was refused"
        ),
        "{refusal}"
    );
}

#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn a_mechanism_that_is_not_offered_fails_before_anything_is_sent() {
    let refusal = refusal(session(&parameters().config.credentials(Credentials::external())));
    assert!(
        refusal.contains("EXTERNAL") && refusal.contains("PLAIN"),
        "{refusal}"
    );
}

#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn a_virtual_host_that_is_not_there_is_a_530() {
    let refusal = refusal(session(&parameters().config.virtual_host("nowhere")));
    assert!(
        refusal.contains("connection.close reply_code=530 NOT_ALLOWED"),
        "{refusal}"
    );
    assert!(refusal.contains("vhost nowhere not found"), "{refusal}");
}

#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn a_queue_that_is_not_there_is_a_404_that_names_the_method() {
    let declare = QueueDeclare {
        queue: "no such queue".try_into().unwrap(),
        passive: true,
        ..Default::default()
    };
    let refusal = refusal(guest().request(&declare, "queue.declare-ok", queue_name));
    assert!(
        refusal.contains("channel.close reply_code=404 NOT_FOUND"),
        "{refusal}"
    );
    assert!(
        refusal.contains("no queue 'no such queue' in vhost '/'"),
        "{refusal}"
    );
    assert!(refusal.contains("class_id=50 method_id=10"), "{refusal}");
}

#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn a_reserved_name_is_a_403() {
    let declare = ExchangeDeclare {
        exchange: "amq.mine".try_into().unwrap(),
        ..Default::default()
    };
    let refusal = refusal(guest().request(&declare, "exchange.declare-ok", is::<ExchangeDeclareOk>));
    assert!(
        refusal.contains("channel.close reply_code=403 ACCESS_REFUSED"),
        "{refusal}"
    );
}

mod with_ctl {
    use super::*;
    use crate::connect::ctl;

    #[test]
    #[ignore = "needs a broker: cargo xtask test"]
    fn an_operator_s_words_arrive_when_he_deletes_the_virtual_host() {
        ctl("add_vhost short-lived");
        ctl("set_permissions -p short-lived guest '.*' '.*' '.*'");
        let mut client = session(&parameters().config.virtual_host("short-lived")).unwrap();
        ctl("delete_vhost short-lived");
        let close = client
            .receive_method("connection.close", |method| match method {
                Method::ConnectionClose(close) => Some(format!("{} {}", close.reply_code, close.reply_text)),
                _ => None,
            })
            .unwrap();
        assert!(
            close.starts_with("320 CONNECTION_FORCED CONNECTION_FORCED - vhost 'short-lived' is"),
            "{close}"
        );
    }
}
