//! The program `amqp-testbroker`.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

use crate::client::Client;

fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_amqp-testbroker"));
    command.args(arguments);
    command
}

/// Starts it until its input is closed; what it printed.
fn start(arguments: &[&str]) -> (Child, String) {
    let mut process = program(&["--listen", "127.0.0.1:0", "--until-stdin-closes"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(process.stdout.as_mut().unwrap())
        .read_line(&mut line)
        .unwrap();
    (process, line.trim_end().to_owned())
}

fn stop(mut process: Child) {
    drop(process.stdin.take());
    assert!(process.wait().unwrap().success());
}

#[test]
fn it_prints_where_it_listens_and_ends_with_its_input() {
    let (process, uri) = start(&[]);
    assert!(uri.starts_with("amqp://guest:guest@127.0.0.1:"), "{uri}");
    Client::connect(&uri).open_channel();
    stop(process);
}

#[test]
fn or_it_goes_on_until_it_is_killed() {
    let mut process = program(&["--listen", "127.0.0.1:0"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut uri = String::new();
    BufReader::new(process.stdout.as_mut().unwrap())
        .read_line(&mut uri)
        .unwrap();
    let uri = uri.trim_end();
    for _ in 0..2 {
        Client::connect(uri).open_channel();
    }
    assert!(process.try_wait().unwrap().is_none());
    process.kill().unwrap();
    assert!(!process.wait().unwrap().success());
}

#[test]
fn it_has_the_users_and_virtual_hosts_it_is_told() {
    let (process, uri) = start(&[
        "--user",
        "ann:a:b",
        "--user",
        "bob:c",
        "--vhost",
        "v",
        "--release",
        "3.10",
    ]);
    assert!(uri.starts_with("amqp://ann:a%3Ab@"), "{uri}");
    Client::connect(&uri).open_channel();
    let (_, address) = uri.split_once('@').unwrap();
    Client::connect(&format!("amqp://bob:c@{address}/v")).open_channel();
    stop(process);
}

#[test]
fn it_writes_down_who_is_to_be_trusted() {
    let file = std::env::temp_dir().join(format!("amqp-testbroker-{}.pem", std::process::id()));
    let (process, uris) = start(&["--tls", "127.0.0.1:0", "--ca-file", file.to_str().unwrap()]);
    let (_, tls_uri) = uris.split_once(' ').unwrap();
    assert!(tls_uri.starts_with("amqps://guest:guest@127.0.0.1:"), "{tls_uri}");
    let pem = fs::read_to_string(&file).unwrap();
    fs::remove_file(&file).unwrap();
    assert!(pem.starts_with("-----BEGIN CERTIFICATE-----"), "{pem}");
    stop(process);
}

#[test]
fn help_says_that_it_is_for_tests() {
    let output = program(&["--help"]).output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    assert!(help.contains("It is no production broker"), "{help}");
    for option in [
        "--listen",
        "--tls",
        "--release",
        "--user",
        "--vhost",
        "--until-stdin-closes",
    ] {
        assert!(help.contains(option), "{help}");
    }
}

#[test]
fn a_user_without_a_password_is_refused() {
    let mut process = program(&["--user", "ann"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut error = String::new();
    process.stderr.take().unwrap().read_to_string(&mut error).unwrap();
    assert!(!process.wait().unwrap().success());
    assert!(error.contains("there is no colon in it"), "{error}");
}
