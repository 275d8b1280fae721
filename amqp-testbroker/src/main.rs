//! The program `amqp-testbroker`: a broker for tests, for as long as it runs.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use amqp_testbroker::{BrokerConfig, Permissions, Release, TestBroker, User};
use clap::{Parser, ValueEnum};

/// An AMQP 0-9-1 broker for tests, in memory. It is no production broker: nothing is written to disk, and nothing about it is
/// meant for load.
///
/// When it listens, it prints one line: the URI, and behind a space that for TLS if there is one.
#[derive(Debug, Parser)]
#[command(name = "amqp-testbroker", version)]
struct Options {
    /// Where to listen; port 0 is any that is free
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:5672")]
    listen: SocketAddr,
    /// Where to listen for TLS, with a certificate made at the start
    #[arg(long, value_name = "ADDRESS")]
    tls: Option<SocketAddr>,
    /// A file to write the certificate to that clients need to trust, in PEM
    #[arg(long, value_name = "FILE", requires = "tls")]
    ca_file: Option<PathBuf>,
    /// The RabbitMQ to follow where releases differ
    #[arg(long, value_enum, default_value_t = ReleaseName::V4)]
    release: ReleaseName,
    /// Somebody who may connect to every virtual host and do everything (several times for several; guest:guest if none is named)
    #[arg(long = "user", value_name = "NAME:PASSWORD", value_parser = login)]
    users: Vec<(String, String)>,
    /// A virtual host besides `/` (several times for several)
    #[arg(long = "vhost", value_name = "NAME")]
    virtual_hosts: Vec<String>,
    /// End when the standard input does, so that it cannot outlive whoever started it
    #[arg(long)]
    until_stdin_closes: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ReleaseName {
    #[value(name = "3.10")]
    V3_10,
    #[value(name = "4")]
    V4,
}

/// The password begins behind the first colon.
fn login(text: &str) -> Result<(String, String), String> {
    let (name, password) = text.split_once(':').ok_or("there is no colon in it")?;
    Ok((name.into(), password.into()))
}

fn main() -> ExitCode {
    match run(Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> io::Result<()> {
    let mut builder = TestBroker::builder()
        .address(options.listen)
        .config(options.config());
    if let Some(address) = options.tls {
        builder = builder.tls_address(address);
    }
    let broker = builder.start()?;
    if let (Some(file), Some(pem)) = (&options.ca_file, broker.ca_pem()) {
        std::fs::write(file, pem)?;
    }
    let uris: Vec<_> = [Some(broker.uri()), broker.tls_uri()]
        .into_iter()
        .flatten()
        .collect();
    let mut output = io::stdout().lock();
    writeln!(output, "{}", uris.join(" "))?;
    output.flush()?;
    if options.until_stdin_closes {
        io::copy(&mut io::stdin().lock().by_ref(), &mut io::sink())?;
        broker.shutdown()
    } else {
        broker.wait()
    }
}

impl Options {
    fn config(&self) -> BrokerConfig {
        let mut config = BrokerConfig::of(match self.release {
            ReleaseName::V3_10 => Release::V3_10,
            ReleaseName::V4 => Release::V4,
        });
        config.virtual_hosts.extend(self.virtual_hosts.iter().cloned());
        let guest = ("guest".to_owned(), "guest".to_owned());
        let users = match self.users.as_slice() {
            [] => &[guest],
            users => users,
        };
        let allowed = |password: &str| {
            let hosts = config.virtual_hosts.iter();
            hosts.fold(User::new(password), |user, host| {
                user.with_permissions(host, Permissions::default())
            })
        };
        config.users = users
            .iter()
            .map(|(name, password)| (name.clone(), allowed(password)))
            .collect();
        config
    }
}
