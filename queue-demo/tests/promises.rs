//! What a queue promises, tried out on real processes.

use std::cell::Cell;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use anyhow::{Result, ensure};
use common::message::{DecodeError, Length, Message, Reader, Writer};
use common::{Process, Shared, join_all, spawn};
use fork_harness::watch::{self, Signal, asleep, interrupt, stopped, wait_until};
use queue_demo::{Queue, QueueError};

fork_harness::tests! {
    two_producers_and_two_consumers_move_each_item_once_and_in_order,
    put_waits_while_the_queue_is_full,
    get_waits_while_the_queue_is_empty,
    every_wait_can_be_bounded,
    signals_do_not_surface,
    a_closed_queue_drains_and_then_ends_for_every_consumer,
    closing_wakes_those_who_wait,
    many_items_move_in_order_through_few_slots,
    items_put_at_once_are_seen_at_once,
    put_many_says_how_many_were_put_when_it_fails_halfway,
    too_large_an_item_is_refused_with_both_sizes_and_the_way_out,
    a_size_of_nothing_or_of_more_than_all_memory_is_an_error_that_names_it,
    a_producer_killed_while_it_puts_leaves_nothing_torn_and_nobody_waiting,
    a_consumer_killed_while_it_gets_leaves_the_item_to_the_next,
    a_producer_killed_at_any_moment_has_put_what_it_was_told_is_put,
    a_consumer_killed_at_any_moment_takes_one_item_along_at_the_most,
    a_producer_stopped_at_any_moment_overwrites_nothing_when_it_goes_on,
    a_consumer_stopped_at_any_moment_takes_nothing_twice_when_it_goes_on,
    others_get_a_timeout_while_a_producer_is_stopped,
    others_get_a_timeout_while_a_consumer_is_stopped,
    a_panic_while_an_item_is_encoded_leaves_the_queue_usable,
    an_item_that_does_not_decode_is_taken_and_reported_alone,
    a_queue_has_no_descriptor_and_no_name,
}

/// Longer than anything here takes: where it runs out, something hangs.
const LONG: Duration = Duration::from_secs(10);
/// For waits that are to run out.
const SHORT: Duration = Duration::from_millis(20);
/// For waits that may run out, many times.
const PAUSE: Duration = Duration::from_millis(1);

thread_local! {
    /// What this process does in the middle of the next [`Item`] that it encodes or decodes: it
    /// holds a lock of the queue then.
    static TRAP: Cell<Option<fn()>> = const { Cell::new(None) };
}

/// A trap.
fn die() {
    watch::send(std::process::id(), Signal::SIGKILL).unwrap();
}

/// A trap.
fn stop() {
    watch::send(std::process::id(), Signal::SIGSTOP).unwrap();
}

/// A number that is written twice, so that a torn one does not decode, with the trap in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Item(u64);

/// The item that never decodes.
const BAD: Item = Item(u64::MAX);

impl Message for Item {
    const LENGTH: Length = Length::Exactly(16);

    fn encoded_len(&self) -> usize {
        16
    }

    fn encode(&self, out: &mut Writer<'_>) {
        out.write(&self.0.to_le_bytes());
        spring_trap();
        out.write(&self.0.to_le_bytes());
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let one = u64::from_le_bytes(input.array("one half")?);
        spring_trap();
        let other = u64::from_le_bytes(input.array("other half")?);
        if one != other || Item(one) == BAD {
            return Err(DecodeError::Invalid(format!("{one} and {other}")));
        }
        Ok(Item(one))
    }
}

fn spring_trap() {
    if let Some(trap) = TRAP.take() {
        trap();
    }
}

fn assert_killed(process: Process) {
    let error = process.join().unwrap_err().to_string();
    assert!(error.contains("killed by SIGKILL"), "{error}");
}

/// All that is in the queue now.
fn drain<T: Message>(queue: &Queue<T>) -> Vec<T> {
    std::iter::from_fn(|| queue.try_get().ok()).collect()
}

fn two_producers_and_two_consumers_move_each_item_once_and_in_order() -> Result<()> {
    const EACH: u64 = 20_000;
    let queue = Queue::<(u8, u64)>::with_capacity(8)?;
    let results = Queue::<(u8, u8, u64)>::with_capacity(2 * EACH as usize)?;
    let producers = [0, 1].map(|producer| {
        let queue = &queue;
        spawn("producer", move || (0..EACH).try_for_each(|n| Ok(queue.put((producer, n))?)))
    });
    let consumers = [0, 1].map(|consumer| {
        let (queue, results) = (&queue, &results);
        spawn("consumer", move || {
            for item in queue {
                let (producer, number) = item?;
                results.put((consumer, producer, number))?;
            }
            Ok(())
        })
    });
    join_all(producers.into_iter().collect::<Result<Vec<_>>>()?)?;
    queue.close()?;
    join_all(consumers.into_iter().collect::<Result<Vec<_>>>()?)?;

    let mut moved = [vec![], vec![]];
    let mut last = [[None; 2]; 2];
    for (consumer, producer, number) in drain(&results) {
        let last = &mut last[usize::from(consumer)][usize::from(producer)];
        assert!(*last < Some(number), "a consumer got {last:?} and then {number}");
        *last = Some(number);
        moved[usize::from(producer)].push(number);
    }
    for mut numbers in moved {
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(0..EACH), "an item was lost or came twice");
    }
    Ok(())
}

fn put_waits_while_the_queue_is_full() -> Result<()> {
    let queue = Queue::with_capacity(4)?;
    let child = spawn("producer", || (0..10_u64).try_for_each(|n| Ok(queue.put(n)?)))?;
    wait_until("the queue is full", || queue.is_full())?;
    asleep(child.pid())?;
    assert_eq!((queue.len(), queue.try_put(99)), (4, Err(QueueError::Full)));
    for number in 0..10 {
        assert_eq!(queue.get(), Ok(number));
    }
    child.join()?;
    assert!(queue.is_empty());
    Ok(())
}

fn get_waits_while_the_queue_is_empty() -> Result<()> {
    let queue = Queue::new()?;
    let ready = Shared::new(AtomicU64::new(0))?;
    let child = spawn("consumer", || {
        ready.store(1, SeqCst);
        let got = queue.get()?;
        ensure!(got == "late", "got {got}");
        Ok(())
    })?;
    wait_until("the child is about to get", || ready.load(SeqCst) == 1)?;
    asleep(child.pid())?;
    queue.put("late".to_string())?;
    child.join()
}

fn every_wait_can_be_bounded() -> Result<()> {
    let queue = Queue::with_capacity(2)?;
    assert_eq!(queue.try_get(), Err(QueueError::Empty));
    assert_eq!(queue.get_timeout(SHORT), Err(QueueError::Timeout));
    assert_eq!(queue.get_many_timeout(5, SHORT), Err(QueueError::Timeout));
    assert_eq!(queue.put_timeout(1, LONG), Ok(()));
    assert_eq!(queue.put_many_timeout([2, 3], SHORT), Err(partly(1, QueueError::Timeout)));
    assert_eq!(queue.try_put(3), Err(QueueError::Full));
    assert_eq!(queue.put_timeout(3, SHORT), Err(QueueError::Timeout));
    assert_eq!(queue.put_many_timeout([3, 4], SHORT), Err(QueueError::Timeout));

    // With someone at the other side they succeed.
    let child = spawn("consumer", || {
        let mut got = vec![];
        while got.len() < 5 {
            got.extend(queue.get_many_timeout(1, LONG)?);
        }
        got.push(queue.get_timeout(LONG)?);
        ensure!(got == [1, 2, 3, 4, 5, 6], "got {got:?}");
        Ok(())
    })?;
    queue.put_timeout(3, LONG)?;
    assert_eq!(queue.put_many_timeout([4, 5, 6], LONG), Ok(3));
    child.join()
}

fn partly(put: usize, cause: QueueError) -> QueueError {
    QueueError::Partly { put, cause: Box::new(cause) }
}

fn signals_do_not_surface() -> Result<()> {
    let there = Queue::with_capacity(1)?;
    let back = Queue::with_capacity(1)?;
    let locked = Queue::new()?;
    let holder = spawn("holder of the lock", || {
        TRAP.set(Some(stop));
        Ok(locked.put(Item(1))?)
    })?;
    stopped(holder.pid())?;
    let child = spawn("bombarded", || {
        watch::be_interruptible()?;
        there.put(1)?;
        there.put(2)?;
        back.get()?;
        there.put_timeout(3, LONG)?;
        back.get_timeout(LONG)?;
        Ok(locked.put(Item(2))?)
    })?;
    wait_until("signals are harmless", || there.is_full())?;
    interrupt(child.pid())?; // while it waits for room
    assert_eq!(there.get(), Ok(1));
    interrupt(child.pid())?; // for an item
    back.put(())?;
    interrupt(child.pid())?; // for room, with a limit
    assert_eq!(there.get(), Ok(2));
    interrupt(child.pid())?; // for an item, with a limit
    back.put(())?;
    interrupt(child.pid())?; // for the lock
    watch::send(holder.pid(), Signal::SIGCONT)?;
    join_all([holder, child])?;
    assert_eq!(drain(&locked), [Item(1), Item(2)]);
    Ok(())
}

fn a_closed_queue_drains_and_then_ends_for_every_consumer() -> Result<()> {
    let queue = Queue::new()?;
    let [count, sum] = [Shared::new(AtomicU64::new(0))?, Shared::new(AtomicU64::new(0))?];
    assert_eq!(queue.put_many(1..=600), Ok(600));
    queue.close()?;
    queue.close()?; // no error
    assert_eq!(queue.put(7), Err(QueueError::Closed));
    assert_eq!(queue.try_put(7), Err(QueueError::Closed));
    assert_eq!(queue.put_many([7]), Err(QueueError::Closed));

    let consume = || {
        for number in &queue {
            count.fetch_add(1, SeqCst);
            sum.fetch_add(number?, SeqCst);
        }
        ensure!(queue.get() == Err(QueueError::Closed));
        ensure!(queue.try_get() == Err(QueueError::Closed));
        ensure!(queue.get_many(3) == Err(QueueError::Closed));
        Ok(())
    };
    let consumers = (0..3).map(|_| spawn("consumer", consume)).collect::<Result<Vec<_>>>()?;
    join_all(consumers)?;
    assert_eq!((count.load(SeqCst), sum.load(SeqCst)), (600, 600 * 601 / 2));
    Ok(())
}

fn closing_wakes_those_who_wait() -> Result<()> {
    let [empty, full] = [Queue::with_capacity(1)?, Queue::with_capacity(1)?];
    let waiting = Shared::new(AtomicU64::new(0))?;
    full.put(0)?;
    let get = || {
        waiting.fetch_add(1, SeqCst);
        ensure!(empty.get() == Err(QueueError::Closed));
        Ok(())
    };
    let put = || {
        waiting.fetch_add(1, SeqCst);
        ensure!(full.put(1) == Err(QueueError::Closed));
        Ok(())
    };
    let mut children = Vec::new();
    for _ in 0..3 {
        children.push(spawn("getter", get)?);
        children.push(spawn("putter", put)?);
    }
    wait_until("all are about to wait", || waiting.load(SeqCst) == 6)?;
    children.iter().try_for_each(|child| asleep(child.pid()))?;
    empty.close()?;
    full.close()?;
    join_all(children)?;
    assert_eq!(drain(&full), [0]);
    Ok(())
}

fn many_items_move_in_order_through_few_slots() -> Result<()> {
    let queue = Queue::with_capacity(16)?;
    let child = spawn("producer", || {
        ensure!(queue.put_many(0..1000) == Ok(1000));
        Ok(queue.close()?)
    })?;
    let mut got = Vec::new();
    loop {
        match queue.get_many(7) {
            Err(QueueError::Closed) => break,
            items => got.push(items?),
        }
    }
    assert!(got.iter().all(|items| (1..=7).contains(&items.len())));
    assert!(got.into_iter().flatten().eq(0..1000));
    child.join()
}

fn items_put_at_once_are_seen_at_once() -> Result<()> {
    let queue = Queue::with_capacity(4)?;
    let child = spawn("stopped halfway", || {
        TRAP.set(Some(|| TRAP.set(Some(stop)))); // in the second item
        queue.put_many([Item(1), Item(2), Item(3)])?;
        Ok(())
    })?;
    stopped(child.pid())?;
    assert_eq!((queue.len(), queue.try_get()), (0, Err(QueueError::Empty)));
    watch::send(child.pid(), Signal::SIGCONT)?;
    child.join()?;
    assert_eq!(queue.get_many(10), Ok(vec![Item(1), Item(2), Item(3)]));
    Ok(())
}

fn put_many_says_how_many_were_put_when_it_fails_halfway() -> Result<()> {
    let queue = Queue::with_slots(4, 10)?;
    let sizes = |sizes: &[usize]| sizes.iter().map(|&len| vec![7; len]).collect::<Vec<_>>();
    let too_large = QueueError::TooLarge { len: 11, max: 10 };
    assert_eq!(queue.put_many(sizes(&[1, 11, 3])), Err(too_large.clone()));
    assert!(queue.is_empty());
    assert_eq!(queue.put_many(sizes(&[1, 2, 3, 4, 5, 11])), Err(partly(4, too_large)));
    assert_eq!(drain(&queue), sizes(&[1, 2, 3, 4]));

    let child = spawn("producer", || {
        let put = queue.put_many(sizes(&[1, 2, 3, 4, 5, 6]));
        ensure!(put == Err(partly(4, QueueError::Closed)), "{put:?}");
        Ok(())
    })?;
    wait_until("the queue is full", || queue.is_full())?;
    queue.close()?;
    child.join()?;
    assert_eq!(drain(&queue), sizes(&[1, 2, 3, 4]));
    Ok(())
}

fn too_large_an_item_is_refused_with_both_sizes_and_the_way_out() -> Result<()> {
    let bytes = Queue::with_slots(4, 100)?;
    let text = Queue::with_slots(4, 100)?;
    let two_bytes_each = |count| "é".repeat(count);
    let child = spawn("producer", || {
        bytes.put(vec![7; 100])?;
        Ok(text.put(two_bytes_each(50))?)
    })?;
    assert_eq!(bytes.get(), Ok(vec![7; 100]));
    assert_eq!(text.get(), Ok(two_bytes_each(50)));
    child.join()?;

    let error = bytes.put(vec![7; 101]).unwrap_err();
    assert_eq!(error, QueueError::TooLarge { len: 101, max: 100 });
    let told = error.to_string();
    for part in ["101", "100 bytes", "Queue::with_slots(capacity, 101)"] {
        assert!(told.contains(part), "{told}");
    }
    let error = text.try_put(two_bytes_each(51)).unwrap_err();
    assert_eq!(error, QueueError::TooLarge { len: 102, max: 100 });
    assert!(bytes.is_empty() && text.is_empty());

    let default = Queue::new()?;
    default.put(vec![7; 1024])?;
    assert_eq!(default.put(vec![7; 1025]), Err(QueueError::TooLarge { len: 1025, max: 1024 }));
    Ok(())
}

fn a_size_of_nothing_or_of_more_than_all_memory_is_an_error_that_names_it() -> Result<()> {
    let refused = |slots, bytes_each| {
        format!("{:#}", Queue::<Vec<u8>>::with_slots(slots, bytes_each).unwrap_err())
    };
    assert!(refused(0, 8).contains("0 slots"));
    assert!(refused(8, 0).contains("0 bytes"));
    let max = usize::MAX;
    for (slots, bytes_each) in [(max, 1), (max / 8, 8), (1 << 40, 1 << 20)] {
        let told = refused(slots, bytes_each);
        assert!(told.contains(&slots.to_string()), "{told}");
        assert!(told.contains(&bytes_each.to_string()), "{told}");
    }
    for slots in [1, max] {
        let told = refused(slots, max);
        assert!(told.contains(&max.to_string()), "{told}");
    }
    let told = Queue::<u64>::with_capacity(max).unwrap_err().to_string();
    assert!(told.contains(&max.to_string()), "{told}");
    let nothing = Queue::<u64>::new()?.get_many(0).unwrap_err();
    assert!(nothing.to_string().contains("get_many(0)"), "{nothing}");
    Ok(())
}

/// A trap that lets one item pass and springs in the next.
fn die_in_the_next() {
    TRAP.set(Some(die));
}

fn a_producer_killed_while_it_puts_leaves_nothing_torn_and_nobody_waiting() -> Result<()> {
    let queue = Queue::with_capacity(64)?;
    for trap in [die, die_in_the_next] {
        let victim = spawn("victim", || {
            queue.put(Item(1))?;
            TRAP.set(Some(trap));
            queue.put_many([Item(2), Item(3), Item(4)])?;
            Ok(())
        })?;
        let survivor = spawn("survivor", || (10..20).try_for_each(|n| Ok(queue.put(Item(n))?)))?;
        assert_killed(victim);
        survivor.join()?;
        queue.put(Item(20))?;
        let (victims, others): (Vec<_>, Vec<_>) =
            drain(&queue).into_iter().partition(|item| item.0 < 10);
        assert_eq!(victims, [Item(1)]);
        assert!(others.into_iter().eq((10..=20).map(Item)));
    }
    Ok(())
}

fn a_consumer_killed_while_it_gets_leaves_the_item_to_the_next() -> Result<()> {
    let queue = Queue::with_capacity(3)?;
    for trap in [die, die_in_the_next] {
        queue.put_many([Item(1), Item(2), Item(3)])?;
        let victim = spawn("victim", || {
            TRAP.set(Some(trap));
            queue.get_many(2)?;
            Ok(())
        })?;
        assert_killed(victim);
        let next = spawn("next", || {
            let got = queue.get();
            ensure!(got == Ok(Item(1)), "{got:?}");
            Ok(())
        })?;
        next.join()?;
        assert_eq!(drain(&queue), [Item(2), Item(3)]);
    }
    Ok(())
}

fn a_producer_killed_at_any_moment_has_put_what_it_was_told_is_put() -> Result<()> {
    let queue = Queue::with_capacity(4)?;
    for round in 0..200 {
        let told = Shared::new(AtomicU64::new(0))?;
        let victim = spawn("victim", || {
            for number in 0.. {
                queue.put(Item(number))?;
                told.store(number + 1, SeqCst);
            }
            Ok(())
        })?;
        let mut got = (0..round).map(|_| queue.get()).collect::<Result<Vec<_>, _>>()?;
        victim.kill()?;
        assert_killed(victim);
        got.extend(drain(&queue));
        let (told, put) = (told.load(SeqCst), got.len() as u64);
        assert!(put == told || put == told + 1, "it was told of {told}, {put} were there");
        assert!(got.into_iter().eq((0..put).map(Item)));
    }
    Ok(())
}

fn a_consumer_killed_at_any_moment_takes_one_item_along_at_the_most() -> Result<()> {
    let queue = Queue::with_capacity(4)?;
    for round in 0..200 {
        let told = Shared::new(AtomicU64::new(0))?;
        let victim = spawn("victim", || {
            for (number, item) in (0..).zip(&queue) {
                ensure!(item? == Item(number));
                told.store(number + 1, SeqCst);
            }
            Ok(())
        })?;
        (0..round).try_for_each(|number| queue.put(Item(number)))?;
        victim.kill()?;
        assert_killed(victim);
        let left = drain(&queue);
        let (told, taken) = (told.load(SeqCst), round - left.len() as u64);
        assert!(taken == told || taken == told + 1, "it told of {told}, {taken} are gone");
        assert!(left.into_iter().eq((taken..round).map(Item)));
    }
    Ok(())
}

/// Runs `meanwhile` while `process` is stopped, wherever that meets it.
fn while_stopped<R>(process: &Process, meanwhile: impl FnOnce() -> R) -> Result<R> {
    watch::send(process.pid(), Signal::SIGSTOP)?;
    stopped(process.pid())?;
    let result = meanwhile();
    watch::send(process.pid(), Signal::SIGCONT)?;
    Ok(result)
}

fn a_producer_stopped_at_any_moment_overwrites_nothing_when_it_goes_on() -> Result<()> {
    const OURS: u64 = 1 << 40;
    let queue = Queue::new()?;
    let child = spawn("producer", || {
        (0..).map(Item).find(|&item| queue.put(item).is_err());
        Ok(())
    })?;
    let (mut got, mut put) = (Vec::new(), Vec::new());
    for number in OURS..OURS + 1000 {
        got.extend(queue.get_many(queue.capacity())?);
        let item = Item(number);
        // A timeout where it is stopped in the middle of a put.
        if while_stopped(&child, || queue.put_timeout(item, PAUSE).is_ok())? {
            put.push(item);
        }
    }
    queue.close()?;
    child.join()?;
    got.extend(drain(&queue));
    let (ours, theirs): (Vec<_>, Vec<_>) = got.into_iter().partition(|item| item.0 >= OURS);
    assert_eq!(ours, put);
    assert!(theirs.into_iter().zip(0..).all(|(item, number)| item == Item(number)));
    Ok(())
}

fn a_consumer_stopped_at_any_moment_takes_nothing_twice_when_it_goes_on() -> Result<()> {
    let queue = Queue::new()?;
    let results = Queue::new()?;
    let child = spawn("consumer", || {
        let got = queue.iter().collect::<Result<Vec<_>, _>>()?;
        results.put_many(got)?;
        Ok(results.close()?)
    })?;
    let (mut got, mut put) = (Vec::new(), 0);
    for _ in 0..1000 {
        put += queue.put_many((put..put + 500).map(Item))? as u64;
        got.extend(while_stopped(&child, || queue.get_timeout(PAUSE).ok())?);
    }
    queue.close()?;
    for item in &results {
        got.push(item?);
    }
    child.join()?;
    got.sort_unstable();
    assert!(got.into_iter().eq((0..put).map(Item)), "an item was lost or came twice");
    Ok(())
}

fn others_get_a_timeout_while_a_producer_is_stopped() -> Result<()> {
    let queue = Queue::new()?;
    queue.put(Item(0))?;
    let child = spawn("stopped", || {
        TRAP.set(Some(stop));
        Ok(queue.put(Item(1))?)
    })?;
    stopped(child.pid())?;
    assert_eq!(queue.try_put(Item(9)), Err(QueueError::Timeout));
    assert_eq!(queue.put_timeout(Item(9), SHORT), Err(QueueError::Timeout));
    assert_eq!(queue.put_many_timeout([Item(9)], SHORT), Err(QueueError::Timeout));
    assert_eq!(queue.close_timeout(SHORT), Err(QueueError::Timeout));
    assert_eq!((queue.get(), queue.len()), (Ok(Item(0)), 0), "the other side goes on");
    watch::send(child.pid(), Signal::SIGCONT)?;
    child.join()?;
    queue.try_put(Item(2))?;
    assert_eq!(queue.close_timeout(LONG), Ok(()));
    assert_eq!(drain(&queue), [Item(1), Item(2)]);
    assert_eq!(queue.get(), Err(QueueError::Closed));
    Ok(())
}

fn others_get_a_timeout_while_a_consumer_is_stopped() -> Result<()> {
    let queue = Queue::new()?;
    queue.put_many([Item(1), Item(2)])?;
    let child = spawn("stopped", || {
        TRAP.set(Some(stop));
        ensure!(queue.get() == Ok(Item(1)));
        Ok(())
    })?;
    stopped(child.pid())?;
    assert_eq!(queue.try_get(), Err(QueueError::Timeout));
    assert_eq!(queue.get_timeout(SHORT), Err(QueueError::Timeout));
    assert_eq!(queue.get_many_timeout(5, SHORT), Err(QueueError::Timeout));
    queue.put(Item(3))?; // the other side goes on
    watch::send(child.pid(), Signal::SIGCONT)?;
    child.join()?;
    assert_eq!(drain(&queue), [Item(2), Item(3)]);
    Ok(())
}

fn a_panic_while_an_item_is_encoded_leaves_the_queue_usable() -> Result<()> {
    let queue = Queue::new()?;
    TRAP.set(Some(|| panic!("on purpose")));
    assert!(catch_unwind(AssertUnwindSafe(|| queue.put(Item(1)))).is_err());
    queue.put(Item(2))?;
    let child = spawn("panicking", || {
        TRAP.set(Some(|| panic!("on purpose")));
        Ok(queue.put(Item(3))?)
    })?;
    assert!(child.join().unwrap_err().to_string().contains("exited with 101"));
    queue.put(Item(4))?;
    assert_eq!(drain(&queue), [Item(2), Item(4)]);
    Ok(())
}

fn an_item_that_does_not_decode_is_taken_and_reported_alone() -> Result<()> {
    let queue = Queue::new()?;
    let put = || {
        let child = spawn("producer", || {
            queue.put_many([Item(1), BAD, Item(3), Item(4)])?;
            Ok(())
        })?;
        child.join()
    };
    put()?;
    assert_eq!(queue.get(), Ok(Item(1)));
    assert!(matches!(queue.get(), Err(QueueError::Decode(_))));
    assert_eq!(drain(&queue), [Item(3), Item(4)]);

    put()?;
    assert_eq!(queue.get_many(10), Ok(vec![Item(1)]), "what came before it is not lost");
    assert!(matches!(queue.get_many(10), Err(QueueError::Decode(_))));
    assert_eq!(queue.get_many(10), Ok(vec![Item(3), Item(4)]));

    put()?;
    queue.close()?;
    let sound: Vec<_> = queue.iter().map(|got| got.is_ok()).collect();
    assert_eq!(sound, [true, false, true, true], "iter goes on behind it");
    Ok(())
}

fn a_queue_has_no_descriptor_and_no_name() -> Result<()> {
    let shared_mappings = || -> Result<Vec<String>> {
        let maps = fs::read_to_string("/proc/self/maps")?;
        // The one from `/dev/zero` is the board on which processes write what they wait for.
        let ours = |line: &&str| line.contains("rw-s") && !line.contains("/dev/zero");
        Ok(maps.lines().filter(ours).map(String::from).collect())
    };
    let before = watch::descriptors()?;
    let queue = Queue::new()?;
    let mapped = shared_mappings()?;
    assert_eq!(mapped.len(), 1, "{mapped:?}");
    assert!(mapped[0].contains("/memfd:") && mapped[0].ends_with("(deleted)"), "{mapped:?}");
    let child = spawn("child", || {
        queue.put(1)?;
        ensure!(watch::descriptors()? == before);
        Ok(())
    })?;
    child.join()?;
    assert_eq!((queue.get(), watch::descriptors()?), (Ok(1), before));
    drop(queue);
    assert!(shared_mappings()?.is_empty());
    Ok(())
}
