//! What has passed is reported to whoever made the tests run, for the table of `docs/parity.md`.

use std::fs::OpenOptions;
use std::io::Write;

/// Adds a line to the file that `AMQP_TEST_REPORT` names, if it is set: this package and the test's path.
pub(crate) fn passed(module: &str, name: &str) {
    let Some(file) = std::env::var_os("AMQP_TEST_REPORT") else {
        return;
    };
    let line = format!("{} {module}::{name}\n", env!("CARGO_PKG_NAME"));
    let mut file = OpenOptions::new().create(true).append(true).open(file).unwrap();
    // One write: other tests, of other processes too, write to the same file.
    file.write_all(line.as_bytes()).unwrap();
}
