//! Prints what an AMQP URI means, one property a line, passwords redacted:
//!
//! ```text
//! cargo run -p amqp-proto --example uri -- 'amqp://ann:s3cret@broker/orders?heartbeat=20'
//! ```
//!
//! An error is shown with a caret under the offending byte; the exit code is 2 then.

use std::fmt::{Debug, Display};
use std::ops::Range;
use std::process::ExitCode;

use amqp_proto::{AmqpUri, ConnectionParameters, Host, UriError};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(text), None) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: uri amqp://user:password@host:port/virtual-host?key=value");
        return ExitCode::from(2);
    };
    match text.parse::<AmqpUri>() {
        Ok(uri) => {
            print_meaning(&uri);
            ExitCode::SUCCESS
        }
        Err(error) => {
            print_error(&text, &error);
            ExitCode::from(2)
        }
    }
}

fn print_meaning(uri: &AmqpUri) {
    line("uri", uri.to_string());
    let parameters = ConnectionParameters::from(uri.clone());
    for (host, port) in parameters.addresses() {
        line("address", Host::new(host).port(port));
    }
    let config = &parameters.config;
    line("user", config.credentials.user().unwrap_or_default());
    line("password", "***");
    line(
        "mechanisms",
        config.credentials.mechanisms().collect::<Vec<_>>().join(" "),
    );
    line("virtual host", &config.virtual_host);
    debug_line("connection name", &config.connection_name);
    debug_line("heartbeat", &config.heartbeat);
    line("channel max", config.channel_max);
    line("frame max", config.frame_max);
    line("locale", &config.locale);
    debug_line("connection timeout", &parameters.connection_timeout);
    debug_line("stack timeout", &parameters.stack_timeout);
    line("connection attempts", parameters.connection_attempts);
    debug_line("retry delay", &parameters.retry_delay);
    debug_line("blocked connection timeout", &config.blocked_connection_timeout);
    let Some(tls) = &parameters.tls else {
        return line("tls", "off");
    };
    line("tls", "on");
    debug_line("tls verification", &tls.verification);
    debug_line("tls server name", &tls.server_name);
    debug_line("tls depth", &tls.depth);
    debug_line("ca certificate", &tls.ca_certificate);
    debug_line("client certificate", &tls.client_certificate);
    debug_line("private key", &tls.private_key);
    debug_line("key password", &tls.key_password);
}

fn line(name: &str, value: impl Display) {
    println!("{name:<28}{value}");
}

fn debug_line(name: &str, value: &impl Debug) {
    println!("{name:<28}{value:?}");
}

/// Passwords are masked before the URI is shown; the caret goes by the columns of what is shown.
fn print_error(text: &str, error: &UriError) {
    let mut secrets = key_passwords(text);
    secrets.push(user_password(text));
    let mut shown = String::new();
    let mut column = None;
    for (offset, character) in text.char_indices() {
        if offset >= error.offset {
            column.get_or_insert_with(|| shown.chars().count());
        }
        match character {
            _ if secrets.iter().any(|secret| secret.contains(&offset)) => shown.push('*'),
            character if character.is_control() => shown.push('\u{fffd}'),
            character => shown.push(character),
        }
    }
    let column = column.unwrap_or_else(|| shown.chars().count());
    eprintln!("{shown}\n{:column$}^\n{error}", "");
}

/// From the first colon behind the scheme to the last `@`: in a URI that could not be parsed, a password may
/// be all of that. Without an `@` there is no password, as far as one can tell.
fn user_password(text: &str) -> Range<usize> {
    let Some(end) = text.rfind('@') else { return 0..0 };
    let start = text.find("://").map_or(0, |offset| offset + 3);
    let after = text.get(start..end).unwrap_or_default();
    after.find(':').map_or(0..0, |colon| start + colon + 1..end)
}

/// Every value of `password` in the query, or what may be one.
fn key_passwords(text: &str) -> Vec<Range<usize>> {
    const KEY: &str = "password=";
    let value = |(offset, _): (usize, &str)| {
        let start = offset + KEY.len();
        let after = text.get(start..).unwrap_or_default();
        start..start + after.find('&').unwrap_or(after.len())
    };
    text.match_indices(KEY).map(value).collect()
}
