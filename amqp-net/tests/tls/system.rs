//! The system's roots. What they are is up to an environment variable, and so to a process: the test starts itself.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self, Command};

use amqp_net::rustls::{CertificateError, Error};
use amqp_net::{TlsConfig, TlsError};
use amqp_proto::TlsParameters;

use crate::authority::Authority;
use crate::handshake::{Failure, Server};

const HOST: &str = "broker.example";
const VARIABLE: &str = "SSL_CERT_FILE";
const FILE_PREFIX: &str = "system-roots-";

#[test]
fn the_systems_roots_are_the_default_and_can_be_added_to_or_replaced() {
    match env::var_os(VARIABLE).map(PathBuf::from) {
        Some(path) if path.to_string_lossy().contains(FILE_PREFIX) => with_roots_in(&path),
        _ => {
            let name = format!("{FILE_PREFIX}{}.pem", process::id());
            let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
            let output = Command::new(env::current_exe().unwrap())
                .args([
                    "--exact",
                    "system::the_systems_roots_are_the_default_and_can_be_added_to_or_replaced",
                ])
                .env(VARIABLE, &path)
                .env_remove("SSL_CERT_DIR")
                .output()
                .unwrap();
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && text.contains("1 passed"), "{text}");
        }
    }
}

fn with_roots_in(path: &Path) {
    let (system, ours) = (Authority::new("system"), Authority::new("ours"));
    let [public, private] = [&system, &ours].map(|authority| Server::new(&authority.identity(&[HOST])));
    let refused = Err(Failure::AtClient(Error::InvalidCertificate(
        CertificateError::UnknownIssuer,
    )));

    let TlsError::NoSystemRoots { message } = TlsConfig::new().build().unwrap_err() else {
        panic!("there are roots");
    };
    assert!(message.contains(FILE_PREFIX), "{message}");

    fs::write(path, system.pem()).unwrap();
    let default = TlsConfig::new();
    public.meets(&default, HOST).unwrap();
    assert_eq!(private.meets(&default, HOST), refused);

    let both = default.also_trust(ours.material());
    public.meets(&both, HOST).unwrap();
    private.meets(&both, HOST).unwrap();

    let only = both.trust_only(ours.material());
    assert_eq!(public.meets(&only, HOST), refused);
    private.meets(&only, HOST).unwrap();

    fs::write(path.with_extension("ours"), ours.pem()).unwrap();
    let file = path.with_extension("ours").to_str().unwrap().to_owned();
    let named = TlsConfig::from_parameters(&TlsParameters::default().ca_certificate(&file));
    assert_eq!(public.meets(&named, HOST), refused);
    private.meets(&named, HOST).unwrap();

    let unnamed = TlsConfig::from_parameters(&TlsParameters::default());
    public.meets(&unnamed, HOST).unwrap();
    for file in [path, Path::new(&file)] {
        fs::remove_file(file).unwrap();
    }
}

#[test]
fn a_system_without_roots_says_what_was_looked_for() {
    let text = |message: &str| {
        let message = message.into();
        TlsError::NoSystemRoots { message }.to_string()
    };
    let what = "the system has no root certificates; name the authority to trust";
    assert_eq!(text(""), what);
    assert_eq!(text("no such file"), format!("{what} (no such file)"));
}
