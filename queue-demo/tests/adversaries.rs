//! Safe code that tries to do harm to a queue.

use std::panic::{AssertUnwindSafe, catch_unwind};

use anyhow::{Result, ensure};
use common::message::{DecodeError, Message, Reader, Writer};
use common::spawn;
use queue_demo::Queue;

fork_harness::tests! {
    an_item_whose_decode_panics_is_taken_out,
    a_queue_dropped_while_others_are_busy_with_it_is_unmapped,
}

/// A byte that cannot be decoded where it is 0.
struct Pill(u8);

impl Message for Pill {
    fn encoded_len(&self) -> usize {
        1
    }

    fn encode(&self, out: &mut Writer<'_>) {
        out.write(&[self.0]);
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let [byte] = input.array("Pill")?;
        assert!(byte > 0, "on purpose");
        Ok(Pill(byte))
    }
}

fn an_item_whose_decode_panics_is_taken_out() -> Result<()> {
    let queue = Queue::new()?;
    queue.put_many([Pill(0), Pill(1)])?;
    ensure!(catch_unwind(AssertUnwindSafe(|| queue.get())).is_err());
    ensure!(queue.get()?.0 == 1 && queue.is_empty());
    Ok(())
}

fn a_queue_dropped_while_others_are_busy_with_it_is_unmapped() -> Result<()> {
    let mapped = || -> Result<usize> {
        let maps = std::fs::read_to_string("/proc/self/maps")?;
        Ok(maps.lines().filter(|line| line.contains("memfd:shared")).count())
    };
    for _ in 0..50 {
        let queue = Queue::with_slots(16, 65536)?;
        let producer = spawn("producer", || {
            while queue.put(vec![1_u8; 65536]).is_ok() {}
            Ok(())
        })?;
        // The parent's copy is dropped as it is moved here, in the middle of the producer's puts.
        let consumer = spawn("consumer", move || {
            for _ in 0..50 {
                queue.get()?;
            }
            Ok(queue.close()?)
        })?;
        consumer.join()?;
        producer.join()?;
    }
    ensure!(mapped()? == 0, "{} queues are still mapped", mapped()?);
    Ok(())
}
