//! How tests reach a broker.

use std::env;
use std::fmt;
use std::path::Path;

use crate::process::shell_word;

/// A broker's addresses and what else tests may need of it.
#[derive(Debug, Default)]
pub(crate) struct Endpoint {
    /// `amqp://...`
    pub(crate) url: String,
    /// `amqps://...?cacertfile=...`
    pub(crate) tls_url: Option<String>,
    /// The files of a client certificate that the broker's user `certuser` can log in with.
    pub(crate) client: Option<Client>,
    /// The beginning of a shell command line; arguments of rabbitmqctl follow.
    pub(crate) control: Option<String>,
    /// A shell command that kills it without warning and starts it again with what it has on disk.
    pub(crate) restart: Option<String>,
}

/// The files of a client certificate.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

const CLIENT_CERTIFICATE: &str = "AMQP_TEST_CLIENT_CERT";
const CLIENT_KEY: &str = "AMQP_TEST_CLIENT_KEY";

impl Endpoint {
    /// The variables tests read. One that has no value must be absent from their environment.
    pub(crate) fn variables(&self) -> [(&'static str, Option<&str>); 6] {
        let client = self.client.as_ref();
        [
            ("AMQP_TEST_URL", Some(&self.url)),
            ("AMQP_TEST_TLS_URL", self.tls_url.as_deref()),
            (
                CLIENT_CERTIFICATE,
                client.map(|client| client.certificate.as_str()),
            ),
            (CLIENT_KEY, client.map(|client| client.key.as_str())),
            ("AMQP_TEST_CTL", self.control.as_deref()),
            ("AMQP_TEST_RESTART", self.restart.as_deref()),
        ]
    }
}

impl Client {
    /// The client certificate named by our own environment: the way to give one for a broker of one's own.
    pub(crate) fn from_environment() -> Option<Self> {
        Some(Self {
            certificate: env::var(CLIENT_CERTIFICATE).ok()?,
            key: env::var(CLIENT_KEY).ok()?,
        })
    }
}

/// Lines for a shell to evaluate.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let variables = [("AMQP_URL", Some(self.url.as_str()))]
            .into_iter()
            .chain(self.variables());
        for (name, value) in variables.filter_map(|(name, value)| Some((name, value?))) {
            writeln!(f, "{name}={}", shell_word(value))?;
        }
        Ok(())
    }
}

/// The path as a value in a URI's query.
pub(super) fn query_value(path: &Path) -> String {
    let mut value = String::new();
    for byte in path.to_string_lossy().bytes() {
        if byte.is_ascii_alphanumeric() || b"/._-~".contains(&byte) {
            value.push(char::from(byte));
        } else {
            value += &format!("%{byte:02X}");
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_escaped_in_a_query() {
        assert_eq!(query_value(Path::new("/a b/ü&c.pem")), "/a%20b/%C3%BC%26c.pem");
    }

    #[test]
    fn a_shell_can_evaluate_the_lines() {
        let endpoint = Endpoint {
            url: "amqp://guest:guest@127.0.0.1:20001".into(),
            control: Some("xtask broker ctl".into()),
            ..Endpoint::default()
        };
        let lines = "AMQP_URL=amqp://guest:guest@127.0.0.1:20001\n\
            AMQP_TEST_URL=amqp://guest:guest@127.0.0.1:20001\n\
            AMQP_TEST_CTL='xtask broker ctl'\n";
        assert_eq!(endpoint.to_string(), lines);
    }
}
