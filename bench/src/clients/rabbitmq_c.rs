//! rabbitmq-c, where it is installed: a program in C, which prints the same report (see `rabbitmq_c/client.c`).

use std::convert::Infallible;
use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Error, Result, bail};

/// Its name among the clients.
pub const RABBITMQ_C: &str = "rabbitmq_c";

/// Compiles the program for `client` and the one for `client_counting` in that folder; `false` if the library is not
/// installed, or there is no compiler.
///
/// # Errors
/// The library is there, but the program cannot be compiled with it.
pub fn build(folder: &Path) -> Result<bool> {
    let is_installed = Command::new("cc")
        .args(["-fsyntax-only", "-include", "amqp.h", "-x", "c", "/dev/null"])
        .stderr(Stdio::null())
        .status();
    if !is_installed.is_ok_and(|status| status.success()) {
        return Ok(false);
    }
    compile(&program(folder.join("client")), &[])?;
    compile(&program(folder.join("client_counting")), &["-DCOUNT_ALLOCATIONS"])?;
    Ok(true)
}

fn compile(program: &Path, options: &[&str]) -> Result<()> {
    let status = Command::new("cc")
        .args(["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror"])
        .args(options)
        .arg("-o")
        .arg(program)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/rabbitmq_c/client.c"))
        .arg("-lrabbitmq")
        .status()
        .context("cannot run cc")?;
    if !status.success() {
        bail!("cc failed: {status}");
    }
    Ok(())
}

/// Beside the Rust program that turns into it.
fn program(client: PathBuf) -> PathBuf {
    let mut program = OsString::from(client);
    program.push("_rabbitmq_c");
    program.into()
}

/// This process becomes that program, with these arguments.
pub(crate) fn become_it(arguments: &[String]) -> Result<Infallible> {
    let program = program(env::current_exe()?);
    let error = Command::new(&program).args(arguments).exec();
    Err(Error::new(error).context(format!("cannot become {}", program.display())))
}
