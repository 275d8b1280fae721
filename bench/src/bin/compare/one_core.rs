//! Programs that share a core.

use anyhow::{Context, Result};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// As long as this lives, what this thread starts stays on one core, and so does this thread.
#[derive(Debug)]
pub(crate) struct OneCore {
    before: CpuSet,
}

impl OneCore {
    pub(crate) fn enter() -> Result<Self> {
        let before = sched_getaffinity(None).context("which cores there are")?;
        let core = (0..CpuSet::MAX_CPU).find(|core| before.is_set(*core));
        let mut one = CpuSet::new();
        one.set(core.context("there is no core")?);
        sched_setaffinity(None, &one).context("staying on one core")?;
        Ok(Self { before })
    }
}

impl Drop for OneCore {
    fn drop(&mut self) {
        if let Err(error) = sched_setaffinity(None, &self.before) {
            eprintln!("all that follows is on one core: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_one_core_and_then_as_many_as_before() {
        let before = sched_getaffinity(None).expect("it is known");
        let one = OneCore::enter().expect("there is a core");
        assert_eq!(sched_getaffinity(None).expect("it is known").count(), 1);
        drop(one);
        assert_eq!(sched_getaffinity(None).expect("it is known"), before);
    }
}
