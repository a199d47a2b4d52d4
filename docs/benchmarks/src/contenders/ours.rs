//! This workspace.

use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use anyhow::{Result, ensure};
use common::message::{DecodeError, Message, Reader, Writer};
use common::{Shared, join_all, spawn};
use pipe_demo::{Connection, one_way};
use queue_demo::Queue;
use shared_value::Value;

use super::{SLOTS, block, block_number, check_body, number_block};
use crate::crew::{Crew::Processes, Member, Sample, Watch};

pub fn spawn_and_join(n: u64) -> Result<Sample> {
    let start = Instant::now();
    for _ in 0..n {
        spawn("child", || Ok(()))?.join()?;
    }
    Ok(Sample::new(start.elapsed(), n))
}

/// `workers` children at once, each of which puts its number into a queue.
pub fn crowd(workers: u64) -> Result<Sample> {
    let start = Instant::now();
    let queue = &Queue::new()?;
    let mut children = Vec::new();
    for number in 0..workers {
        children.push(spawn("child", move || Ok(queue.put(number)?))?);
    }
    join_all(children)?;
    queue.close()?;
    let sum: u64 = queue.iter().sum::<Result<_, _>>()?;
    ensure!(sum == workers * (workers - 1) / 2, "the children's numbers add up to {sum}");
    Ok(Sample::new(start.elapsed(), 1))
}

pub fn locked_counter(processes: u64, n: u64) -> Result<Sample> {
    let value = &Value::new(0_u64)?;
    let sample = Processes.together(processes, n, || {
        *value.lock()? += 1;
        Ok(())
    })?;
    ensure!(value.get()? == n, "counted to {} instead of {n}", value.get()?);
    Ok(sample)
}

pub fn atomic_counter(processes: u64, n: u64) -> Result<Sample> {
    let value = &Shared::new(AtomicU64::new(0))?;
    let sample = Processes.together(processes, n, || {
        value.fetch_add(1, Relaxed);
        Ok(())
    })?;
    let count = value.load(Relaxed);
    ensure!(count == n, "counted to {count} instead of {n}");
    Ok(sample)
}

pub fn connection_exchange(watch: Watch, n: u64) -> Result<Sample> {
    let (here, there) = Connection::<u64>::pair()?;
    let call = move |k| {
        here.send(k)?;
        Ok(here.recv()?)
    };
    Processes.exchange(watch, n, call, move || Ok(there.send(there.recv()?)?))
}

pub fn connection_numbers(n: u64) -> Result<Sample> {
    let (receiver, sender) = one_way::<u64>()?;
    Processes.flow(n, vec![move |k| Ok(sender.send(k)?)], vec![move || Ok(receiver.recv()?)])
}

pub fn queue_numbers(producers: u64, consumers: u64, n: u64) -> Result<Sample> {
    let queue = &Queue::with_capacity(SLOTS)?;
    let send = move |k| Ok(queue.put(k)?);
    let receive = move || Ok(queue.get()?);
    let senders = (0..producers).map(|_| send).collect();
    Processes.flow(n, senders, (0..consumers).map(|_| receive).collect())
}

/// As [`queue_numbers`], one to one, but up to `batch` with each call.
pub fn queue_batches(batch: u64, n: u64) -> Result<Sample> {
    let queue = &Queue::with_capacity(SLOTS)?;
    let sum = &Shared::new(AtomicU64::new(0))?;
    let producer: Member<'_> = Box::new(move |gate| {
        gate.pass();
        for first in (0..n).step_by(batch as usize) {
            queue.put_many(first..n.min(first + batch))?;
        }
        Ok(())
    });
    let consumer: Member<'_> = Box::new(move |gate| {
        gate.pass();
        let (mut received, mut total) = (0, 0);
        while received < n {
            let numbers = queue.get_many(batch as usize)?;
            received += numbers.len() as u64;
            total += numbers.iter().sum::<u64>();
        }
        sum.store(total, Relaxed);
        Ok(())
    });
    let time = Processes.run(vec![producer, consumer])?;
    let sum = sum.load(Relaxed);
    ensure!(sum == n * (n - 1) / 2, "what was received adds up to {sum}");
    Ok(Sample::new(time, n))
}

pub fn queue_exchange(watch: Watch, n: u64) -> Result<Sample> {
    let (there, back) = &(Queue::<u64>::new()?, Queue::<u64>::new()?);
    let call = move |k| {
        there.put(k)?;
        Ok(back.get()?)
    };
    Processes.exchange(watch, n, call, move || Ok(back.put(there.get()?)?))
}

/// A large message. `Vec<u8>` is the usual one: each message is a `Vec` of its own, which the sender
/// fills before it sends it.
pub trait Block: Message {
    fn new(number: u64, sent: &'static [u8]) -> Self;
    fn number(&self, sent: &[u8]) -> Result<u64>;
}

impl Block for Vec<u8> {
    fn new(number: u64, sent: &'static [u8]) -> Self {
        let mut block = sent.to_vec();
        number_block(&mut block, number);
        block
    }

    fn number(&self, sent: &[u8]) -> Result<u64> {
        block_number(self, sent)
    }
}

/// A large message whose sender keeps its bytes, and sends them again, as the peers do.
pub struct Kept {
    number: u64,
    body: Cow<'static, [u8]>,
}

impl Block for Kept {
    fn new(number: u64, sent: &'static [u8]) -> Self {
        Kept { number, body: Cow::Borrowed(&sent[8..]) }
    }

    fn number(&self, sent: &[u8]) -> Result<u64> {
        check_body(self.number, &self.body, &sent[8..])?;
        Ok(self.number)
    }
}

impl Message for Kept {
    fn encoded_len(&self) -> usize {
        8 + self.body.len()
    }

    fn encode(&self, out: &mut Writer<'_>) {
        out.write(&self.number.to_ne_bytes());
        out.write(&self.body);
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let number = u64::from_ne_bytes(input.array("a number")?);
        Ok(Kept { number, body: Cow::Owned(input.rest()) })
    }
}

pub fn connection_blocks<B: Block>(size: usize, n: u64) -> Result<Sample> {
    let (receiver, sender) = one_way::<B>()?;
    let sent = block(size);
    let send = move |k| Ok(sender.send(B::new(k, sent))?);
    Processes.flow(n, vec![send], vec![move || receiver.recv()?.number(sent)])
}

/// The queue has 8 MiB of slots, but no more slots than everywhere.
pub fn queue_blocks<B: Block>(size: usize, n: u64) -> Result<Sample> {
    let queue = &Queue::with_slots(((8 << 20) / size).min(SLOTS), size)?;
    let sent = block(size);
    let send = move |k| Ok(queue.put(B::new(k, sent))?);
    Processes.flow(n, vec![send], vec![move || queue.get()?.number(sent)])
}
