//! The private node's configuration, in RabbitMQ's own formats.

use std::path::Path;

use super::ports::Ports;
use super::tls::{CLIENT_USER, TlsFiles};

/// `enabled_plugins`: EXTERNAL is not in the server itself.
pub(super) const PLUGINS: &str = "[rabbitmq_auth_mechanism_ssl].\n";

/// `rabbitmq.conf`: each listener on 127.0.0.1 alone, each way to log in.
pub(super) fn server(ports: Ports, tls: &TlsFiles, definitions: &Path, major_version: Option<u32>) -> String {
    let mut config = format!(
        "\
listeners.tcp.default = 127.0.0.1:{amqp}
listeners.ssl.default = 127.0.0.1:{amqps}
ssl_options.cacertfile = {authority}
ssl_options.certfile = {certificate}
ssl_options.keyfile = {key}
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = false
ssl_cert_login_from = common_name
load_definitions = {definitions}
disk_free_limit.absolute = 50MB
",
        amqp = ports.amqp,
        amqps = ports.amqps,
        authority = tls.authority.display(),
        certificate = tls.server.certificate.display(),
        key = tls.server.key.display(),
        definitions = definitions.display(),
    );
    for (index, mechanism) in mechanisms(major_version).enumerate() {
        config += &format!("auth_mechanisms.{} = {mechanism}\n", index + 1);
    }
    config
}

/// What a node's `rabbitmq.conf` says of a cluster's nodes: nothing if there are none.
pub(super) fn cluster(nodes: &[String]) -> String {
    if nodes.is_empty() {
        return String::new();
    }
    let mut config = String::from("cluster_formation.peer_discovery_backend = classic_config\n");
    for (index, node) in nodes.iter().enumerate() {
        config += &format!("cluster_formation.classic_config.nodes.{} = {node}\n", index + 1);
    }
    config
}

/// RabbitMQ learnt ANONYMOUS in 4.0.
fn mechanisms(major_version: Option<u32>) -> impl Iterator<Item = &'static str> {
    let anonymous = major_version
        .is_some_and(|major| major >= 4)
        .then_some("ANONYMOUS");
    ["PLAIN", "AMQPLAIN", "RABBIT-CR-DEMO", "EXTERNAL"]
        .into_iter()
        .chain(anonymous)
}

/// The users and virtual hosts, for `load_definitions`: they are there before the first listener opens.
///
/// `nobody` may do nothing at all, `limited` may not configure, and the client certificate's user has no password.
pub(super) fn definitions() -> String {
    format!(
        r#"{{
  "vhosts": [{{"name": "/"}}, {{"name": "a|b"}}],
  "users": [
    {{"name": "guest", "password": "guest", "tags": "administrator"}},
    {{"name": "limited", "password": "limited", "tags": ""}},
    {{"name": "nobody", "password": "nobody", "tags": ""}},
    {{"name": "{CLIENT_USER}", "password_hash": "", "tags": ""}}
  ],
  "permissions": [
    {{"user": "guest", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}},
    {{"user": "guest", "vhost": "a|b", "configure": ".*", "write": ".*", "read": ".*"}},
    {{"user": "limited", "vhost": "/", "configure": "", "write": ".*", "read": ".*"}},
    {{"user": "{CLIENT_USER}", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}}
  ]
}}
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server_of(major_version: Option<u32>) -> String {
        let ports = Ports {
            amqp: 20_001,
            amqps: 20_002,
            distribution: 20_003,
            epmd: 20_004,
        };
        server(
            ports,
            &TlsFiles::in_folder(Path::new("/d/tls")),
            Path::new("/d/definitions.json"),
            major_version,
        )
    }

    #[test]
    fn listeners_are_on_the_loopback_only() {
        let config = server_of(Some(3));
        let listeners: Vec<_> = config
            .lines()
            .filter(|line| line.starts_with("listeners"))
            .collect();
        assert_eq!(
            listeners,
            [
                "listeners.tcp.default = 127.0.0.1:20001",
                "listeners.ssl.default = 127.0.0.1:20002"
            ]
        );
        assert!(
            config.contains("ssl_options.keyfile = /d/tls/server.key\n"),
            "{config}"
        );
    }

    #[test]
    fn only_version_4_offers_anonymous() {
        assert!(
            server_of(Some(4)).ends_with("auth_mechanisms.4 = EXTERNAL\nauth_mechanisms.5 = ANONYMOUS\n")
        );
        assert!(server_of(Some(3)).ends_with("auth_mechanisms.4 = EXTERNAL\n"));
        assert!(server_of(None).ends_with("auth_mechanisms.4 = EXTERNAL\n"));
    }

    #[test]
    fn only_a_cluster_s_nodes_are_told_of_each_other() {
        assert_eq!(cluster(&[]), "");
        let expected = "cluster_formation.peer_discovery_backend = classic_config\n\
            cluster_formation.classic_config.nodes.1 = a@localhost\n\
            cluster_formation.classic_config.nodes.2 = b@localhost\n";
        assert_eq!(cluster(&["a@localhost".into(), "b@localhost".into()]), expected);
    }

    #[test]
    fn the_certificate_s_user_is_defined() {
        assert!(definitions().contains(r#"{"user": "certuser", "vhost": "/", "configure": ".*""#));
    }
}
