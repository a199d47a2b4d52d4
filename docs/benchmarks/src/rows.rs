//! What is measured: each row with its contenders, ours first, and what the design asks of it.

use anyhow::Result;

use crate::contenders::ours::Kept;
use crate::contenders::outside::{Program, Tool, boost_numbers, python};
use crate::contenders::raw::Line;
use crate::contenders::{libraries, ours, raw};
use crate::crew::Sample;
use crate::crew::Watch::{All, Each};

/// The unit of a row's figures, made from seconds for each operation.
#[derive(Clone, Copy, PartialEq)]
pub struct Unit {
    pub name: &'static str,
    per_second: f64,
    /// Whether more is better: operations a second, and not time for each.
    pub rate: bool,
}

impl Unit {
    pub fn of(self, seconds: f64) -> f64 {
        if self.rate { self.per_second / seconds } else { self.per_second * seconds }
    }

    /// The way back.
    pub fn seconds(self, figure: f64) -> f64 {
        if self.rate { self.per_second / figure } else { figure / self.per_second }
    }
}

const NS: Unit = Unit { name: "ns", per_second: 1e9, rate: false };
const US: Unit = Unit { name: "µs", per_second: 1e6, rate: false };
const MS: Unit = Unit { name: "ms", per_second: 1e3, rate: false };
const MILLIONS: Unit = Unit { name: "million/s", per_second: 1e-6, rate: true };
/// For messages of 1 MiB.
const GIB: Unit = Unit { name: "GiB/s", per_second: 1.0 / 1024.0, rate: true };

/// How ours is held against a peer.
#[derive(Clone, Copy, PartialEq)]
pub enum Bound {
    /// Ours takes at most so many times the peer's time.
    AtMost,
    /// Ours reaches at least so many times the peer's rate.
    AtLeast,
    /// Ours is at least so many times faster.
    Faster,
}

/// A line of the design's table of targets.
pub struct Target {
    pub peer: &'static str,
    pub bound: Bound,
    pub must: f64,
    pub aim: f64,
    /// Ours at this figure meets the must, whatever the peer does.
    pub or_figure: Option<f64>,
}

/// Who is measured in a row.
pub struct Contender {
    pub name: &'static str,
    pub ours: bool,
    pub tool: Option<Tool>,
    /// How many operations make a sample of a tenth of a second or so.
    pub amount: u64,
    /// Gets that number, or in a growth row the point.
    pub work: fn(u64) -> Result<Sample>,
}

/// One comparison.
pub struct Row {
    pub name: &'static str,
    pub section: &'static str,
    pub title: &'static str,
    pub unit: Unit,
    /// One for each figure of a sample.
    pub figures: &'static [&'static str],
    /// What grows, and its points: a growth row.
    pub growth: Option<(&'static str, &'static [u64])>,
    /// All of it runs on one core.
    pub pinned: bool,
    /// Drawn as bars.
    pub plotted: bool,
    pub contenders: Vec<Contender>,
    pub targets: Vec<Target>,
}

impl Row {
    fn new(section: &'static str, name: &'static str, title: &'static str, unit: Unit) -> Row {
        Row {
            name,
            section,
            title,
            unit,
            figures: &[""],
            growth: None,
            pinned: false,
            plotted: false,
            contenders: Vec::new(),
            targets: Vec::new(),
        }
    }

    fn with(mut self, name: &'static str, amount: u64, work: fn(u64) -> Result<Sample>) -> Row {
        self.contenders.push(Contender { name, ours: false, tool: None, amount, work });
        self
    }

    fn ours(self, name: &'static str, amount: u64, work: fn(u64) -> Result<Sample>) -> Row {
        let mut row = self.with(name, amount, work);
        row.last().ours = true;
        row
    }

    fn last(&mut self) -> &mut Contender {
        self.contenders.last_mut().expect("a contender was added")
    }

    /// The contender added last needs `tool`.
    fn needs(mut self, tool: Tool) -> Row {
        self.last().tool = Some(tool);
        self
    }

    fn target(mut self, peer: &'static str, bound: Bound, must: f64, aim: f64) -> Row {
        self.targets.push(Target { peer, bound, must, aim, or_figure: None });
        self
    }

    fn or_figure(mut self, figure: f64) -> Row {
        self.targets.last_mut().expect("a target was added").or_figure = Some(figure);
        self
    }

    fn grows(mut self, what: &'static str, points: &'static [u64]) -> Row {
        self.growth = Some((what, points));
        self
    }

    fn pinned(mut self) -> Row {
        self.pinned = true;
        self
    }

    fn plotted(mut self) -> Row {
        self.plotted = true;
        self
    }

    fn percentiles(mut self) -> Row {
        self.figures = &["p50", "p99", "p99.9"];
        self
    }

    fn python(self, amount: u64, work: fn(u64) -> Result<Sample>) -> Row {
        self.with(PYTHON, amount, work).needs(Tool::Python)
    }
}

const PYTHON: &str = "CPython";
const CROSSBEAM: &str = "crossbeam, threads";
const SEQPACKET: &str = "raw seqpacket";
const STREAM: &str = "raw stream socketpair";
const PIPE: &str = "raw pipe";
const ROBUST: &str = "robust pthread mutex";
const ATOMIC: &str = "atomics in a raw mapping";
const C: &str = "C";
const SPINNING: &str = "two words, spinning";
const FUTEX: &str = "two words, futex sleep";
const PLAIN: &str = "plain futex sleep";
const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// All rows, in the order in which they run.
pub fn rows() -> Vec<Row> {
    let mut rows = processes();
    rows.extend(counters());
    rows.extend(connection());
    rows.extend(queue());
    rows.extend(latency());
    rows.extend(growth());
    rows
}

fn processes() -> Vec<Row> {
    use Bound::{AtMost, Faster};
    const S: &str = "Processes and programs";
    let program = |name, title, ours, c, python| {
        Row::new(S, name, title, MS)
            .ours("this workspace", 20, ours)
            .needs(Tool::Workspace)
            .with(C, 20, c)
            .needs(Tool::C)
            .python(2, python)
            .plotted()
    };
    use Program::{Pipe, Queue, Value};
    vec![
        Row::new(S, "spawn", "Spawn and join an empty child", US)
            .ours("spawn + join", 500, ours::spawn_and_join)
            .with("fork + waitpid", 500, raw::fork_and_wait)
            .python(100, |n| python("spawn", n))
            .target("fork + waitpid", AtMost, 1.25, 1.1),
        program(
            "program-value",
            "The article's \"Sharing State\" program",
            |n| Value.ours(n),
            |n| Value.in_c(n),
            |n| Value.in_python(n),
        )
        .target(PYTHON, Faster, 20.0, 30.0),
        program(
            "program-pipe",
            "The article's \"Pipe\" program",
            |n| Pipe.ours(n),
            |n| Pipe.in_c(n),
            |n| Pipe.in_python(n),
        )
        .target(PYTHON, Faster, 20.0, 45.0),
        program(
            "program-queue",
            "The article's \"Queue\" program",
            |n| Queue.ours(n),
            |n| Queue.in_c(n),
            |n| Queue.in_python(n),
        )
        .target(PYTHON, Faster, 20.0, 40.0),
        Row::new(S, "program-queue-pinned", "The \"Queue\" program, all on one core", MS)
            .ours("this workspace", 10, |n| Queue.ours(n))
            .needs(Tool::Workspace)
            .with(PLAIN, 10, |n| Queue.with_plain_queue(n))
            .needs(Tool::Workspace)
            .with(C, 10, |n| Queue.in_c(n))
            .needs(Tool::C)
            .pinned()
            // "No slower": two measurements of the same program differ by as much.
            .target(PLAIN, AtMost, 1.05, 1.0),
    ]
}

fn counters() -> Vec<Row> {
    use Bound::AtMost;
    const S: &str = "A shared counter";
    let lock = |name, title, ours, raw, python| {
        Row::new(S, name, title, NS)
            .ours("*value.lock()? += 1", 900_000, ours)
            .with(ROBUST, 450_000, raw)
            .python(18_000, python)
    };
    let atomic = |name, title, ours, raw| {
        Row::new(S, name, title, NS)
            .ours("Shared<AtomicU64>", 9_000_000, ours)
            .with(ATOMIC, 9_000_000, raw)
    };
    vec![
        lock(
            "lock-1",
            "Add 1 under a lock, 1 process",
            |n| ours::locked_counter(1, n),
            |n| raw::locked_counter(1, n),
            |n| python("counter1", n),
        ),
        lock(
            "lock-2",
            "Add 1 under a lock, 2 processes",
            |n| ours::locked_counter(2, n),
            |n| raw::locked_counter(2, n),
            |n| python("counter2", n),
        )
        .target(ROBUST, AtMost, 1.1, 0.7),
        lock(
            "lock-9",
            "Add 1 under a lock, 9 processes",
            |n| ours::locked_counter(9, n),
            |n| raw::locked_counter(9, n),
            |n| python("counter9", n),
        ),
        atomic(
            "atomic-1",
            "Add 1 atomically, 1 process",
            |n| ours::atomic_counter(1, n),
            |n| raw::atomic_counter(1, n),
        ),
        atomic(
            "atomic-2",
            "Add 1 atomically, 2 processes",
            |n| ours::atomic_counter(2, n),
            |n| raw::atomic_counter(2, n),
        )
        .target(ATOMIC, AtMost, 1.05, 1.0),
        atomic(
            "atomic-9",
            "Add 1 atomically, 9 processes",
            |n| ours::atomic_counter(9, n),
            |n| raw::atomic_counter(9, n),
        ),
    ]
}

fn connection() -> Vec<Row> {
    use Bound::{AtLeast, AtMost};
    use Line::{Pipe, Seqpacket, Stream};
    const S: &str = "Connection";
    vec![
        Row::new(S, "round-trip", "Round trip of 8 bytes", US)
            .ours("Connection", 30_000, |n| ours::connection_exchange(All, n))
            .with(SEQPACKET, 5_000, |n| raw::seqpacket_exchange(All, n))
            .python(3_000, |n| python("exchange", n))
            .target(SEQPACKET, AtMost, 0.5, 0.15),
        Row::new(S, "one-way-8B", "One way, messages of 8 bytes", MILLIONS)
            .ours("Connection", 200_000, ours::connection_numbers)
            .with(SEQPACKET, 200_000, |n| raw::numbers_through(Seqpacket, n))
            .with(STREAM, 200_000, |n| raw::numbers_through(Stream, n))
            .with(PIPE, 200_000, |n| raw::numbers_through(Pipe, n))
            .python(30_000, |n| python("pipe", n))
            .plotted()
            .target(SEQPACKET, AtLeast, 0.9, 1.0),
        Row::new(S, "one-way-1KiB", "One way, messages of 1 KiB", MILLIONS)
            .ours("Connection", 100_000, |n| ours::connection_blocks::<Vec<u8>>(KIB, n))
            .with(SEQPACKET, 100_000, |n| raw::blocks_through(Seqpacket, KIB, n))
            .with(STREAM, 100_000, |n| raw::blocks_through(Stream, KIB, n))
            .with(PIPE, 100_000, |n| raw::blocks_through(Pipe, KIB, n)),
        Row::new(S, "one-way-1MiB", "One way, messages of 1 MiB", GIB)
            .ours("Connection", 500, |n| ours::connection_blocks::<Vec<u8>>(MIB, n))
            .ours("Connection, the sender keeps its buffer", 500, |n| {
                ours::connection_blocks::<Kept>(MIB, n)
            })
            .with(STREAM, 500, |n| raw::blocks_through(Stream, MIB, n))
            .with(PIPE, 500, |n| raw::blocks_through(Pipe, MIB, n))
            .with("raw seqpacket, parts of 64 KiB", 500, |n| raw::blocks_through(Seqpacket, MIB, n))
            .target(STREAM, AtLeast, 0.5, 0.9),
    ]
}

fn queue() -> Vec<Row> {
    use Bound::{AtLeast, AtMost};
    const S: &str = "Queue";
    let batch = |name, title, ours| {
        Row::new(S, name, title, MILLIONS).ours("put_many, get_many", 5_000_000, ours).with(
            CROSSBEAM,
            2_000_000,
            |n| libraries::crossbeam_numbers(1, 1, n),
        )
    };
    vec![
        Row::new(S, "queue-1-1", "Messages of 8 bytes, 1 producer, 1 consumer", MILLIONS)
            .ours("Queue", 2_000_000, |n| ours::queue_numbers(1, 1, n))
            .with(CROSSBEAM, 2_000_000, |n| libraries::crossbeam_numbers(1, 1, n))
            .with("std sync_channel, threads", 1_000_000, |n| libraries::std_numbers(1, n))
            .with("Boost.Interprocess", 500_000, boost_numbers)
            .needs(Tool::Boost)
            .with("iceoryx2", 300_000, libraries::iceoryx2_numbers)
            .with("ipc-channel", 100_000, libraries::ipc_channel_numbers)
            .with("POSIX mq", 100_000, raw::posix_queue_numbers)
            .needs(Tool::PosixQueues)
            .python(30_000, |n| python("queue", n))
            .plotted()
            .target(CROSSBEAM, AtLeast, 0.8, 1.3)
            .target("Boost.Interprocess", AtLeast, 1.0, 3.0)
            .target("iceoryx2", AtLeast, 1.0, 7.0)
            .target("ipc-channel", AtLeast, 1.0, 15.0)
            .target(PYTHON, AtLeast, 1.0, 60.0),
        Row::new(S, "queue-5-1", "Messages of 8 bytes, 5 producers, 1 consumer", MILLIONS)
            .ours("Queue", 1_000_000, |n| ours::queue_numbers(5, 1, n))
            .with(CROSSBEAM, 1_000_000, |n| libraries::crossbeam_numbers(5, 1, n))
            .with("std sync_channel, threads", 500_000, |n| libraries::std_numbers(5, n))
            .plotted()
            .target(CROSSBEAM, AtLeast, 1.0, 1.5),
        Row::new(S, "queue-2-2", "Messages of 8 bytes, 2 producers, 2 consumers", MILLIONS)
            .ours("Queue", 1_000_000, |n| ours::queue_numbers(2, 2, n))
            .with(CROSSBEAM, 1_000_000, |n| libraries::crossbeam_numbers(2, 2, n)),
        batch("batch-1", "Batches of 1", |n| ours::queue_batches(1, n)),
        batch("batch-8", "Batches of 8", |n| ours::queue_batches(8, n)),
        batch("batch-64", "Batches of 64", |n| ours::queue_batches(64, n))
            .target(CROSSBEAM, AtLeast, 5.0, 10.0)
            .or_figure(50.0),
        batch("batch-512", "Batches of 512", |n| ours::queue_batches(512, n)),
        Row::new(S, "queue-1MiB", "Messages of 1 MiB", GIB)
            .ours("Queue<Vec<u8>>", 500, |n| ours::queue_blocks::<Vec<u8>>(MIB, n))
            .ours("Queue, the sender keeps its buffer", 500, |n| ours::queue_blocks::<Kept>(MIB, n))
            .with("memcpy in one process", 2_000, |n| raw::copy_blocks(MIB, n))
            .target("memcpy in one process", AtLeast, 0.25, 0.5),
        Row::new(S, "ping-pong", "Round trip through two queues, both sides awake", NS)
            .ours("Queue", 200_000, |n| ours::queue_exchange(All, n))
            .with(SPINNING, 500_000, |n| raw::spinning_exchange(All, n))
            .with(CROSSBEAM, 200_000, |n| libraries::crossbeam_exchange(All, n))
            .target(SPINNING, AtMost, 4.0, 2.0),
        Row::new(S, "ping-pong-pinned", "The same, both sides on one core", NS)
            .ours("Queue", 50_000, |n| ours::queue_exchange(All, n))
            .with(FUTEX, 30_000, raw::futex_exchange)
            .with(CROSSBEAM, 30_000, |n| libraries::crossbeam_exchange(All, n))
            .pinned()
            .target(FUTEX, AtMost, 1.0, 1.0),
    ]
}

fn latency() -> Vec<Row> {
    vec![
        Row::new("Latency", "latency", "Round trips of 8 bytes, each timed on its own", US)
            .ours("Queue", 50_000, |n| ours::queue_exchange(Each, n))
            .ours("Connection", 30_000, |n| ours::connection_exchange(Each, n))
            .with(SEQPACKET, 10_000, |n| raw::seqpacket_exchange(Each, n))
            .with(CROSSBEAM, 50_000, |n| libraries::crossbeam_exchange(Each, n))
            .with(SPINNING, 100_000, |n| raw::spinning_exchange(Each, n))
            .percentiles()
            .plotted(),
    ]
}

fn growth() -> Vec<Row> {
    const S: &str = "Growth";
    const SIZES: &[u64] = &[8, 64, 512, 4 << 10, 32 << 10, 256 << 10, 1 << 20];
    /// As many messages of a size as take about as long as those of any other.
    fn amount(size: u64) -> u64 {
        ((512 << 20) / size).clamp(100, 200_000)
    }
    vec![
        Row::new(S, "growth-workers", "Time for so many workers at once", MS)
            .ours("spawn, put, join", 1, ours::crowd)
            .with("fork + waitpid", 1, raw::crowd)
            .grows("workers", &[1, 3, 10, 30, 100, 300, 1_000]),
        Row::new(S, "growth-messages", "Time for so many messages", MS)
            .ours("Queue", 1, |n| Ok(ours::queue_numbers(1, 1, n)?.whole(n)))
            .with(CROSSBEAM, 1, |n| Ok(libraries::crossbeam_numbers(1, 1, n)?.whole(n)))
            .grows("messages", &[1_000, 10_000, 100_000, 1_000_000, 10_000_000]),
        Row::new(S, "growth-size", "Time for a message of so many bytes", US)
            .ours("Queue", 1, |size| ours::queue_blocks::<Vec<u8>>(size as usize, amount(size)))
            .ours("Connection", 1, |size| {
                ours::connection_blocks::<Vec<u8>>(size as usize, amount(size))
            })
            .with(STREAM, 1, |size| raw::blocks_through(Line::Stream, size as usize, amount(size)))
            .grows("bytes", SIZES),
    ]
}
