//! The ring under a model checker: loom tries the orders in which its steps can happen.
//!
//! What runs here is `src/ring.rs` and `src/queue.rs`, the files themselves, on the machine in
//! `machine.rs`. A program of a few calls in two or three threads is run again and again, each time
//! with its steps in another order and each load with another of the values that the memory model
//! allows; each time the answers of all calls must be explained by a plain `VecDeque`: some order
//! of the calls, one after another, in which it gives the same answers. A thread that waits for
//! good is a deadlock, and a slot that is read while another thread may write it is a race: both
//! end the run.
//!
//! The programs with a death run once for each step at which the victim can be killed.
//!
//! What the model leaves out:
//!
//! * Time. A sleep lasts until a wake-up (after a death, each thread's next sleep ends by itself),
//!   no `_timeout` runs out, and a `try_` call waits for the lock as long as it takes.
//! * The C library's lock: here it is loom's, freed at a death. That the real one is freed too is
//!   tried out on real processes.
//! * Death inside a step: a kill while a slot's bytes are being copied is a kill before that.
//!   Slots are not committed then, so nobody looks at them.
//! * More than three threads, more than three items, and orders with more [`INTERRUPTIONS`].

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use anyhow::Result;

use queue::{Queue, QueueError};

mod machine;
#[allow(dead_code, reason = "the crate's own file; not all of it is called here")]
#[path = "../../src/queue.rs"]
mod queue;
#[allow(dead_code, reason = "the crate's own file; not all of it is called here")]
#[path = "../../src/ring.rs"]
mod ring;

fork_harness::tests! {
    a_producer_and_a_consumer_wait_for_each_other,
    two_producers_wait_for_room,
    two_consumers_wait_for_items,
    calls_that_do_not_wait_agree_with_each_other,
    a_batch_that_fits_goes_in_and_out_as_one,
    a_closed_queue_drains_and_wakes_its_consumers,
    a_closed_queue_wakes_its_producers,
    a_length_is_one_that_the_queue_had,
    a_killed_producer_has_put_its_item_or_not,
    a_killed_producer_has_put_its_batch_or_not,
    a_killed_producer_leaves_room_for_others,
    a_killed_producer_may_have_waited_for_room,
    a_killed_consumer_has_taken_its_item_or_not,
    a_killed_consumer_leaves_items_for_others,
    a_killed_closer_has_closed_the_queue_or_not;
    long: all_of_this_with_one_more_interruption,
}

/// How many times, in one run, a thread that could go on is interrupted for another one.
static INTERRUPTIONS: AtomicUsize = AtomicUsize::new(2);

#[derive(Debug, Clone)]
enum Call {
    Put(u64),
    PutMany(Vec<u64>),
    TryPut(u64),
    Get,
    GetMany(usize),
    TryGet,
    Len,
    Close,
}
use Call::{Close, Get, GetMany, Len, Put, PutMany, TryGet, TryPut};

#[derive(Debug, Clone, PartialEq)]
enum Answer {
    Done,
    Got(Vec<u64>),
    Length(usize),
    Failed(QueueError),
    /// The caller was killed before there was one.
    Killed,
}

/// What one thread called, and what it was told.
type Log = Vec<(Call, Answer)>;

impl Call {
    fn on_the_real_queue(&self, queue: &Queue<u64>) -> Answer {
        let result = match self.clone() {
            Put(item) => queue.put(item).map(|()| Answer::Done),
            PutMany(items) => queue.put_many(items).map(|_| Answer::Done),
            TryPut(item) => queue.try_put(item).map(|()| Answer::Done),
            Get => queue.get().map(|item| Answer::Got(vec![item])),
            GetMany(at_most) => queue.get_many(at_most).map(Answer::Got),
            TryGet => queue.try_get().map(|item| Answer::Got(vec![item])),
            Len => Ok(Answer::Length(queue.len())),
            Close => queue.close().map(|()| Answer::Done),
        };
        result.unwrap_or_else(Answer::Failed)
    }

    /// `None` where it has to wait.
    fn on_a_plain_queue(&self, queue: &mut Plain) -> Option<Answer> {
        let Plain { items, closed, capacity } = queue;
        let room = *capacity - items.len();
        match self {
            Put(_) | TryPut(_) | PutMany(_) if *closed => Some(Answer::Failed(QueueError::Closed)),
            Put(item) | TryPut(item) if room > 0 => {
                items.push_back(*item);
                Some(Answer::Done)
            }
            // Only called where there will be room for all.
            PutMany(many) if room >= many.len() => {
                items.extend(many);
                Some(Answer::Done)
            }
            TryPut(_) => Some(Answer::Failed(QueueError::Full)),
            Put(_) | PutMany(_) => None,
            Get | TryGet | GetMany(_) if !items.is_empty() => {
                let at_most = if let GetMany(at_most) = self { *at_most } else { 1 };
                Some(Answer::Got(items.drain(..at_most.min(items.len())).collect()))
            }
            Get | TryGet | GetMany(_) if *closed => Some(Answer::Failed(QueueError::Closed)),
            TryGet => Some(Answer::Failed(QueueError::Empty)),
            Get | GetMany(_) => None,
            Len => Some(Answer::Length(items.len())),
            Close => {
                *closed = true;
                Some(Answer::Done)
            }
        }
    }
}

/// What the real queue is compared with.
#[derive(Clone)]
struct Plain {
    items: VecDeque<u64>,
    closed: bool,
    capacity: usize,
}

impl Plain {
    /// Whether the calls of all threads, in some order that keeps each thread's own, get these
    /// answers from this queue, and then those of `last`.
    fn explains(&self, threads: &[&[(Call, Answer)]], last: &[(Call, Answer)]) -> bool {
        if threads.iter().all(|log| log.is_empty()) {
            return last.is_empty() || self.explains(&[last], &[]);
        }
        (0..threads.len()).any(|index| {
            let Some(((call, answer), rest)) = threads[index].split_first() else { return false };
            let mut threads = threads.to_vec();
            threads[index] = rest;
            // The call of one who was killed may have had its effect or not.
            if *answer == Answer::Killed && self.explains(&threads, last) {
                return true;
            }
            let mut after = self.clone();
            call.on_a_plain_queue(&mut after)
                .is_some_and(|told| *answer == Answer::Killed || *answer == told)
                && after.explains(&threads, last)
        })
    }
}

/// A program: what each thread calls, and what is called after all have ended.
#[derive(Clone)]
struct Program {
    capacity: usize,
    threads: Vec<Vec<Call>>,
    last: Vec<Call>,
}

impl Program {
    /// Tries the orders in which it can run.
    fn check(self) -> Result<()> {
        let (runs, _) = self.tried(INTERRUPTIONS.load(Relaxed), None);
        println!("## {runs} orders");
        Ok(())
    }

    /// The same, with the first thread killed before each of the steps that it can take. The death
    /// counts as an interruption.
    fn check_with_deaths(self) -> Result<()> {
        let (mut runs, mut deaths) = (0, 0);
        for steps in 0.. {
            let more = self.clone().tried(INTERRUPTIONS.load(Relaxed) - 1, Some(steps));
            runs += more.0;
            deaths += more.1;
            if more.1 == 0 {
                println!("## {runs} orders, {deaths} of them with a death, at {steps} steps");
                break;
            }
        }
        Ok(())
    }

    /// How many runs there were, and in how many of them the victim met its death.
    fn tried(self, interruptions: usize, steps: Option<u32>) -> (u64, u64) {
        let counts = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(interruptions);
        let counted = counts.clone();
        builder.check(move || {
            counted[0].fetch_add(1, Relaxed);
            counted[1].fetch_add(self.run(steps), Relaxed);
        });
        let [runs, deaths] = &*counts;
        (runs.load(Relaxed), deaths.load(Relaxed))
    }

    /// Runs it once, in an order that loom chooses, and returns how many threads were killed.
    fn run(&self, steps: Option<u32>) -> u64 {
        let queue = Rc::new(Queue::with_capacity(self.capacity).expect("it is small"));
        let start = |(index, calls): (usize, &Vec<Call>)| {
            let (queue, calls, log) = (queue.clone(), calls.clone(), Rc::<RefCell<Log>>::default());
            let steps = steps.filter(|_| index == 0);
            let logged = log.clone();
            let life = move || machine::run(steps, || make(&queue, &calls, &logged));
            (loom::thread::spawn(life), log)
        };
        let threads: Vec<_> = self.threads.iter().enumerate().map(start).collect();
        let (mut logs, mut deaths) = (Vec::new(), 0);
        for (thread, log) in threads {
            let end = thread.join().expect("a panic ends the whole model");
            deaths += u64::from(end.is_none());
            logs.push(log.take());
        }
        let last = RefCell::default();
        make(&queue, &self.last, &last);

        let plain = Plain { items: [].into(), closed: false, capacity: self.capacity };
        let threads: Vec<_> = logs.iter().map(|log| &log[..]).collect();
        let last = last.take();
        assert!(plain.explains(&threads, &last), "no order explains {logs:?}, then {last:?}");
        deaths
    }
}

/// Makes the calls one after the other, and writes down each before and after it.
fn make(queue: &Queue<u64>, calls: &[Call], log: &RefCell<Log>) {
    for call in calls {
        log.borrow_mut().push((call.clone(), Answer::Killed));
        let answer = call.on_the_real_queue(queue);
        log.borrow_mut().last_mut().expect("just pushed").1 = answer;
    }
}

fn a_producer_and_a_consumer_wait_for_each_other() -> Result<()> {
    let threads = vec![vec![Put(1), Put(2), Put(3)], vec![Get, Get, Get]];
    Program { capacity: 1, threads, last: vec![TryGet] }.check()
}

fn two_producers_wait_for_room() -> Result<()> {
    let threads = vec![vec![Put(1)], vec![Put(2)], vec![Get, Get]];
    Program { capacity: 1, threads, last: vec![Len] }.check()
}

fn two_consumers_wait_for_items() -> Result<()> {
    let threads = vec![vec![Get], vec![Get], vec![Put(1), Put(2)]];
    Program { capacity: 1, threads, last: vec![Len] }.check()
}

fn calls_that_do_not_wait_agree_with_each_other() -> Result<()> {
    let threads = vec![vec![TryPut(1), TryGet, TryPut(2)], vec![TryPut(3), TryGet, TryGet]];
    Program { capacity: 1, threads, last: vec![Len, TryGet, TryGet] }.check()
}

fn a_batch_that_fits_goes_in_and_out_as_one() -> Result<()> {
    let threads = vec![vec![PutMany(vec![1, 2])], vec![PutMany(vec![3])], vec![GetMany(3)]];
    Program { capacity: 3, threads, last: vec![TryGet, TryGet, TryGet] }.check()
}

fn a_closed_queue_drains_and_wakes_its_consumers() -> Result<()> {
    let threads = vec![vec![Get, Get], vec![Get], vec![Put(1), Close]];
    Program { capacity: 1, threads, last: vec![TryGet, TryPut(2)] }.check()
}

fn a_closed_queue_wakes_its_producers() -> Result<()> {
    let threads = vec![vec![Put(1), Put(2)], vec![Put(3)], vec![Close]];
    Program { capacity: 1, threads, last: vec![TryGet, TryGet] }.check()
}

fn a_length_is_one_that_the_queue_had() -> Result<()> {
    // Never more than one item, but two puts and two gets during the look.
    let threads = vec![vec![Put(1), Get, Put(2), Get], vec![Len, Len]];
    Program { capacity: 2, threads, last: vec![Len] }.check()
}

fn a_killed_producer_has_put_its_item_or_not() -> Result<()> {
    let threads = vec![vec![Put(1)], vec![Get], vec![Close]];
    Program { capacity: 1, threads, last: vec![TryGet] }.check_with_deaths()
}

fn a_killed_producer_has_put_its_batch_or_not() -> Result<()> {
    let threads = vec![vec![PutMany(vec![1, 2])], vec![Put(3), GetMany(3)]];
    Program { capacity: 3, threads, last: vec![TryGet, TryGet] }.check_with_deaths()
}

fn a_killed_producer_leaves_room_for_others() -> Result<()> {
    let threads = vec![vec![Put(1)], vec![Put(2)], vec![Get]];
    Program { capacity: 1, threads, last: vec![TryGet, TryPut(3)] }.check_with_deaths()
}

fn a_killed_producer_may_have_waited_for_room() -> Result<()> {
    let threads = vec![vec![Put(1), Put(2)], vec![TryGet, TryPut(3), Close]];
    Program { capacity: 1, threads, last: vec![TryGet, TryGet] }.check_with_deaths()
}

fn a_killed_consumer_has_taken_its_item_or_not() -> Result<()> {
    let threads = vec![vec![Get], vec![Put(1), Put(2)], vec![Close]];
    Program { capacity: 1, threads, last: vec![TryGet, TryGet] }.check_with_deaths()
}

fn a_killed_consumer_leaves_items_for_others() -> Result<()> {
    let threads = vec![vec![Get], vec![Get], vec![PutMany(vec![1, 2])]];
    Program { capacity: 2, threads, last: vec![TryGet, TryPut(3)] }.check_with_deaths()
}

fn a_killed_closer_has_closed_the_queue_or_not() -> Result<()> {
    let threads = vec![vec![Close], vec![Put(1), Put(2)], vec![Get, TryGet]];
    Program { capacity: 1, threads, last: vec![Close, TryGet, TryPut(3)] }.check_with_deaths()
}

fn all_of_this_with_one_more_interruption() -> Result<()> {
    INTERRUPTIONS.fetch_add(1, Relaxed);
    let programs = [
        a_producer_and_a_consumer_wait_for_each_other,
        two_producers_wait_for_room,
        two_consumers_wait_for_items,
        calls_that_do_not_wait_agree_with_each_other,
        a_batch_that_fits_goes_in_and_out_as_one,
        a_closed_queue_drains_and_wakes_its_consumers,
        a_closed_queue_wakes_its_producers,
        a_length_is_one_that_the_queue_had,
        a_killed_producer_has_put_its_item_or_not,
        a_killed_producer_has_put_its_batch_or_not,
        a_killed_producer_leaves_room_for_others,
        a_killed_producer_may_have_waited_for_room,
        a_killed_consumer_has_taken_its_item_or_not,
        a_killed_consumer_leaves_items_for_others,
        a_killed_closer_has_closed_the_queue_or_not,
    ];
    programs.iter().try_for_each(|program| program())
}
