//! Rust libraries: between threads crossbeam-channel and the standard library's channel, between
//! processes ipc-channel and iceoryx2.

use std::fs;
use std::hint::spin_loop;
use std::process;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::mpsc;

use anyhow::{Result, ensure};
use common::Shared;
use iceoryx2::config::Config;
use iceoryx2::prelude::*;
use iceoryx2::service::port_factory::publish_subscribe::PortFactory;

use super::SLOTS;
use crate::crew::Crew::{Processes, Threads};
use crate::crew::{Member, Sample, Watch};

pub fn crossbeam_numbers(producers: u64, consumers: u64, n: u64) -> Result<Sample> {
    let (sender, receiver) = crossbeam_channel::bounded(SLOTS);
    let send = |_| {
        let sender = sender.clone();
        move |k| Ok(sender.send(k)?)
    };
    let receive = |_| {
        let receiver = receiver.clone();
        move || Ok(receiver.recv()?)
    };
    Threads.flow(n, (0..producers).map(send).collect(), (0..consumers).map(receive).collect())
}

pub fn crossbeam_exchange(watch: Watch, n: u64) -> Result<Sample> {
    let (there, arrived) = crossbeam_channel::bounded(SLOTS);
    let (back, answers) = crossbeam_channel::bounded(SLOTS);
    let call = move |k| {
        there.send(k)?;
        Ok(answers.recv()?)
    };
    Threads.exchange(watch, n, call, move || Ok(back.send(arrived.recv()?)?))
}

pub fn std_numbers(producers: u64, n: u64) -> Result<Sample> {
    let (sender, receiver) = mpsc::sync_channel(SLOTS);
    let send = |_| {
        let sender = sender.clone();
        move |k| Ok(sender.send(k)?)
    };
    let senders = (0..producers).map(send).collect();
    Threads.flow(n, senders, vec![move || Ok(receiver.recv()?)])
}

pub fn ipc_channel_numbers(n: u64) -> Result<Sample> {
    let (sender, receiver) = ipc_channel::ipc::channel::<u64>()?;
    Processes.flow(n, vec![move |k| Ok(sender.send(k)?)], vec![move || Ok(receiver.recv()?)])
}

/// What iceoryx2's names begin with.
const PREFIX: &str = "benchmarks_iox2_";

/// Removes what iceoryx2 leaves in shared memory when its last node has gone.
fn sweep() -> Result<()> {
    for entry in fs::read_dir("/dev/shm")? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(PREFIX) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// What both sides of an iceoryx2 line open: a service without loss that buffers as many samples as
/// the others. The node comes first in what is returned, and must outlive the service.
fn service(name: &str) -> Result<(Node<ipc::Service>, PortFactory<ipc::Service, u64, ()>)> {
    let mut config = Config::default();
    config.global.prefix = FileName::new(PREFIX.as_bytes())?;
    config.global.set_root_path(&Path::new(super::FILES.as_bytes())?);
    let node = NodeBuilder::new().config(&config).create::<ipc::Service>()?;
    let service = node
        .service_builder(&name.try_into()?)
        .publish_subscribe::<u64>()
        .enable_safe_overflow(false)
        .subscriber_max_buffer_size(SLOTS)
        .open_or_create()?;
    Ok((node, service))
}

/// Publish and subscribe; the subscriber polls, as it must without a second service for events.
pub fn iceoryx2_numbers(n: u64) -> Result<Sample> {
    set_log_level(LogLevel::Error);
    let name = &format!("benchmarks-{}", process::id());
    let sum = &Shared::new(AtomicU64::new(0))?;
    let received = &Shared::new(AtomicU64::new(0))?;
    let publisher: Member<'_> = Box::new(move |gate| {
        let (_node, service) = service(name)?;
        let publisher = service
            .publisher_builder()
            .backpressure_strategy(BackpressureStrategy::RetryUntilDelivered)
            .create()?;
        let wait_for = |count| {
            while received.load(SeqCst) < count {
                spin_loop();
            }
        };
        gate.pass();
        for k in 0..n {
            publisher.loan_uninit()?.write_payload(k).send()?;
            if k == 0 {
                // Until the subscriber has met it, a full buffer is no reason for it to wait.
                wait_for(1);
            }
        }
        wait_for(n); // what it published would go with it
        Ok(())
    });
    let subscriber: Member<'_> = Box::new(move |gate| {
        let (_node, service) = service(name)?;
        let subscriber = service.subscriber_builder().buffer_size(SLOTS).create()?;
        gate.pass();
        let (mut count, mut total) = (0, 0);
        while count < n {
            match subscriber.receive()? {
                Some(sample) => {
                    total += *sample;
                    count += 1;
                    if count == 1 {
                        received.store(count, SeqCst);
                    }
                }
                None => spin_loop(),
            }
        }
        sum.store(total, SeqCst);
        received.store(count, SeqCst);
        Ok(())
    });
    let time = Processes.run(vec![publisher, subscriber])?;
    sweep()?;
    let sum = sum.load(SeqCst);
    ensure!(sum == n * (n - 1) / 2, "what was received adds up to {sum}");
    Ok(Sample::new(time, n))
}
