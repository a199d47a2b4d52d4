//! What the figures depend on: the machine, the versions, and the neighbours.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};

use crate::contenders::outside::output;

/// What there is to say of this machine before a run begins.
pub fn facts() -> Vec<(String, String)> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let line = |text: &str, key: &str| {
        let value = text.lines().find(|line| line.starts_with(key));
        value
            .and_then(|line| line.split_once(':'))
            .map_or("unknown", |(_, value)| value)
            .trim()
            .into()
    };
    let said = |program: &str, arguments: &[&str]| {
        output(Command::new(program).args(arguments)).unwrap_or_else(|_| "unknown".into())
    };
    let processor: String = line(&read("/proc/cpuinfo"), "model name");
    let memory: String = line(&read("/proc/meminfo"), "MemTotal");
    let kib: f64 = memory.trim_end_matches(" kB").parse().unwrap_or(0.0);
    let cores = std::thread::available_parallelism().map_or(0, |cores| cores.get());
    let load = read("/proc/loadavg").split(' ').next().unwrap_or_default().to_string();
    let kernel = read("/proc/sys/kernel/osrelease"); // then the builder's own suffix
    let facts = [
        ("Date", said("date", &["-u", "+%Y-%m-%d %H:%M UTC"])),
        ("Processor", processor),
        ("Cores", cores.to_string()),
        ("Memory", format!("{:.1} GiB", kib / (1 << 20) as f64)),
        ("Kernel", kernel.trim().split('-').next().unwrap_or_default().into()),
        ("C library", said("getconf", &["GNU_LIBC_VERSION"])),
        ("Rust", said("rustc", &["--version"])),
        ("Load before the run", load),
        ("crossbeam-channel", locked_version("crossbeam-channel")),
        ("ipc-channel", locked_version("ipc-channel")),
        ("iceoryx2", locked_version("iceoryx2")),
    ];
    facts.map(|(name, value)| (name.to_string(), value)).into()
}

/// The version of a crate that this program is built with.
fn locked_version(name: &str) -> String {
    let entry = format!("name = \"{name}\"\nversion = \"");
    let rest = include_str!("../Cargo.lock").split_once(&entry).map(|(_, rest)| rest);
    rest.and_then(|rest| rest.split('"').next()).unwrap_or("unknown").to_string()
}

/// The clock ticks of all cores so far, as `/proc/stat` counts them.
#[derive(Clone, Copy)]
pub struct Ticks {
    all: u64,
    stolen: u64,
}

impl Ticks {
    pub fn now() -> Result<Ticks> {
        let stat = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
        let first = stat.lines().next().unwrap_or_default();
        // cpu, then: user nice system idle iowait irq softirq steal
        let ticks: Vec<u64> =
            first.split_whitespace().skip(1).take(8).flat_map(|word| word.parse()).collect();
        let stolen = *ticks.get(7).context("/proc/stat does not tell what was stolen")?;
        Ok(Ticks { all: ticks.iter().sum(), stolen })
    }

    /// The share of the time since `earlier` in which the host ran somebody else.
    pub fn stolen_since(self, earlier: Ticks) -> f64 {
        let all = self.all.saturating_sub(earlier.all).max(1);
        self.stolen.saturating_sub(earlier.stolen) as f64 / all as f64
    }
}

/// Keeps this process and its children to one core.
pub fn pin_to_one_core() -> Result<()> {
    let size = size_of::<libc::cpu_set_t>();
    // SAFETY: zeros are an empty set, the set is as large as the calls are told, and every core
    // that is asked for lies in it.
    let answer = unsafe {
        let mut cores: libc::cpu_set_t = std::mem::zeroed();
        libc::sched_getaffinity(0, size, &raw mut cores);
        // The last one: the first has the interrupts.
        let last = (0..8 * size).rev().find(|&core| libc::CPU_ISSET(core, &cores)).unwrap_or(0);
        libc::CPU_ZERO(&mut cores);
        libc::CPU_SET(last, &mut cores);
        libc::sched_setaffinity(0, size, &raw const cores)
    };
    anyhow::ensure!(answer == 0, "cannot stay on one core: {}", std::io::Error::last_os_error());
    Ok(())
}
