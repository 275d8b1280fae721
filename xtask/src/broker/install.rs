//! Finding RabbitMQ's own scripts, or installing them.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use crate::apt;

/// Where packages put RabbitMQ's scripts. Those in /usr/sbin are wrappers that insist on the system's broker.
const SCRIPTS: &str = "/usr/lib/rabbitmq/bin";
/// Where packages put RabbitMQ itself, in a folder named after its version.
const VERSIONS: &str = "/usr/lib/rabbitmq/lib";

/// One of RabbitMQ's scripts, such as `rabbitmqctl`.
pub(super) fn script(name: &str) -> PathBuf {
    Path::new(SCRIPTS).join(name)
}

/// Installs RabbitMQ if it is not there.
pub(super) fn ensure_installed() -> Result<()> {
    if script("rabbitmq-server").exists() {
        return Ok(());
    }
    apt::install("rabbitmq-server")?;
    if Path::new("/run/systemd/system").exists() {
        eprintln!("its service is enabled; to keep it off at boot: sudo systemctl disable rabbitmq-server");
    }
    ensure!(
        script("rabbitmq-server").exists(),
        "rabbitmq-server is installed, but not in {SCRIPTS}"
    );
    Ok(())
}

/// The installed RabbitMQ's major version, where the package's folders tell.
pub(super) fn major_version() -> Option<u32> {
    let folders = Path::new(VERSIONS).read_dir().ok()?;
    folders
        .flatten()
        .find_map(|folder| major_version_in(folder.file_name().to_str()?))
}

fn major_version_in(folder: &str) -> Option<u32> {
    folder
        .strip_prefix("rabbitmq_server-")?
        .split('.')
        .next()?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_tell_the_major_version() {
        assert_eq!(major_version_in("rabbitmq_server-3.10.8"), Some(3));
        assert_eq!(major_version_in("rabbitmq_server-4.3.6"), Some(4));
        assert_eq!(major_version_in("plugins"), None);
    }
}
