//! A queue that the system gives no memory for is an error that says so, and a queue that is let go
//! leaves nothing behind.

use anyhow::{Result, bail, ensure};
use common::{join_all, spawn};
use fork_harness::{childless, holdings};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use queue_demo::Queue;

fork_harness::tests! {
    a_queue_larger_than_a_limit_is_an_error_and_leaves_no_child,
    a_thousand_spawns_with_queues_leave_no_descriptor_and_no_mapping,
}

fn a_queue_larger_than_a_limit_is_an_error_and_leaves_no_child() -> Result<()> {
    const MIB: usize = 1 << 20;
    spawn("first", || Ok(()))?.join()?; // what is only set up once is there now
    let before = holdings()?;
    let (_, hard) = getrlimit(Resource::RLIMIT_FSIZE)?;
    setrlimit(Resource::RLIMIT_FSIZE, 10 * MIB as u64, hard)?;
    let attempt = || {
        let fits = Queue::<Vec<u8>>::with_slots(9, MIB)?;
        let _child = spawn("consumer", || {
            fits.get()?;
            Ok(())
        })?;
        Queue::<Vec<u8>>::with_slots(10, MIB)
    };
    let Err(error) = attempt() else { bail!("the limit was none") };
    ensure!(childless() && holdings()? == before, "something is left");
    let text = format!("{error:#}");
    println!("## {text}");
    ensure!(text.contains("10 x 1048576 bytes") && text.contains("ulimit -f"));
    Ok(())
}

fn a_thousand_spawns_with_queues_leave_no_descriptor_and_no_mapping() -> Result<()> {
    let round = |number: u64| {
        let (questions, answers) = (Queue::new()?, Queue::new()?);
        let child = || {
            for question in &questions {
                answers.put(question? + number)?;
            }
            Ok(())
        };
        let children = [spawn("one", child)?, spawn("other", child)?];
        questions.put_many([1, 2, 3])?;
        let sum = answers.get()? + answers.get()? + answers.get()?;
        ensure!(sum == 1 + 2 + 3 + 3 * number);
        questions.close()?;
        join_all(children)
    };
    (0..10).try_for_each(round)?; // what is only set up once is there now
    let before = holdings()?;
    (0..500).try_for_each(round)?;
    ensure!(holdings()? == before, "{:?}, and before {before:?}", holdings()?);
    println!("## 1000 spawns: still {} descriptors and {} mappings", before.0, before.1);
    Ok(())
}
