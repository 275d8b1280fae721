//! Installing a package of the system, where that is apt's business and we may.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process::{read, run, succeeds};

/// Installs a package of Debian, Ubuntu and their kin, without letting its services start.
///
/// Fails, saying what to type, where there is no apt or where we are neither root nor allowed to become it unasked.
pub(crate) fn install(package: &str) -> Result<()> {
    if !succeeds(Command::new("apt-get").arg("--version")) {
        bail!("{package} is not installed and this system has no apt-get: install it by hand");
    }
    let mut shell = root_shell()
        .with_context(|| format!("{package} is not installed; type: sudo apt-get install {package}"))?;
    eprintln!("installing {package} with apt-get");
    // What the script is called with -x would drown apt's own words; its name is what matters in an error.
    run(shell.args(["-c", include_str!("apt_install.sh"), "apt_install.sh", package]))
        .map_err(|_| anyhow::anyhow!("apt-get could not install {package} (see above)"))
}

fn root_shell() -> Result<Command> {
    if read(Command::new("id").arg("-u"))?.trim() == "0" {
        return Ok(Command::new("sh"));
    }
    if succeeds(Command::new("sudo").args(["-n", "true"])) {
        let mut sudo = Command::new("sudo");
        sudo.args(["-n", "sh"]);
        return Ok(sudo);
    }
    bail!("not root, and sudo would ask for a password")
}
