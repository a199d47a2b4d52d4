//! What this crate promises, tried out on real processes.

use anyhow::Result;

fork_harness::tests! { placeholder }

fn placeholder() -> Result<()> {
    Ok(())
}
