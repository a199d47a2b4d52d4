//! Kills a process at any instruction we like, by `ptrace(2)`.
//!
//! The *victim* is a child that makes one call under [`traced`]. [`prove`] runs a scenario again
//! and again. First the victim makes its whole call, one instruction at a time, and the points that
//! it comes by are written down. Then, once for each of these points, a new victim gets as far as
//! that and no further, and the scenario kills it there and looks at what it left.
//!
//! A system call is one instruction to its caller: a kill finds it not begun or done. Only one that
//! sleeps makes two points of it, the second one in the midst of its sleep.
//!
//! To step through all of the call for every point would take the square of its length. So a victim
//! runs at full speed to a breakpoint: first at the last instruction, up to its point, that was not
//! there before in the call, and from there to the point itself. Where it does not come by (a clock
//! read at another time can lead another way), the next victim is stepped all the way. On
//! processors other than x86-64 all are.

use std::collections::HashSet;

use anyhow::{Context, Result, bail, ensure};
use nix::sched::sched_yield;
use nix::sys::ptrace;
use nix::sys::signal::{Signal, raise};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// More points than any call here has: a call that goes on and on ends in an error.
const MOST: usize = 100_000;

/// How many breakpoints to take rather than to step.
const FEW: usize = 8;

/// How often to ask for the victim's next stop before looking whether it sleeps.
const LOOKS: u32 = 100;

/// Kills a victim at every point of its call, and prints how many there were.
///
/// `scenario` tells the number of the state that it found after the kill. At the call's beginning
/// that must be 0, at its end the last of `states`, and each of them must be found somewhere.
pub fn prove(
    title: &str,
    states: &[&str],
    scenario: impl FnMut(&mut Strike) -> Result<usize>,
) -> Result<()> {
    let found = at_every_instruction(scenario).with_context(|| title.to_string())?;
    let mut counts = vec![0; states.len()];
    for &state in &found {
        counts[state] += 1;
    }
    let told: Vec<String> =
        states.iter().zip(&counts).map(|(state, count)| format!("{count} {state}")).collect();
    println!("## {title}: killed at {} points, found {}", found.len(), told.join(", "));
    ensure!(
        found[0] == 0 && found[found.len() - 1] == states.len() - 1,
        "{title}: not at both ends"
    );
    ensure!(!counts.contains(&0), "{title}: a state that is never found");
    Ok(())
}

/// In the victim: makes `call`, which may be stopped and killed anywhere by our parent.
pub fn traced<T>(call: impl FnOnce() -> T) -> Result<T> {
    trace_me()?;
    mark();
    let result = call();
    mark();
    Ok(result)
}

/// In the victim: lets our parent trace this process, from the first [`mark`] to the second.
pub fn trace_me() -> Result<()> {
    ptrace::traceme().context("PTRACE_TRACEME: may processes here trace their children?")
}

/// In the victim: where the parent begins, or ends, to take note of instructions.
pub fn mark() {
    raise(Signal::SIGSTOP).expect("cannot raise SIGSTOP");
}

/// Whether a process sleeps in a system call.
pub fn is_asleep(pid: u32) -> Result<bool> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // `pid (name) state ...`, and a name may hold anything.
    let (_, rest) = stat.rsplit_once(')').context("/proc/<pid>/stat without a name")?;
    Ok(rest.trim_start().starts_with('S'))
}

/// Runs `scenario` with a victim that makes its whole call, then with one for each point of that
/// call, and returns what the scenario made of each, in the order of the points. The last one is
/// the end of the call.
fn at_every_instruction<T>(mut scenario: impl FnMut(&mut Strike) -> Result<T>) -> Result<Vec<T>> {
    let mut strike = Strike { points: Vec::new(), way: Way::WriteDown };
    let at_the_end = scenario(&mut strike).context("the whole call")?;
    let all = strike.points.len();
    let mut results = Vec::new();
    for target in 0..all {
        strike.way = Way::Run(target);
        let mut result = scenario(&mut strike);
        if result.as_ref().is_err_and(|error| error.is::<Missed>()) {
            strike.way = Way::Step(target);
            result = scenario(&mut strike);
        }
        results.push(result.with_context(|| format!("killed at point {target} of {all}"))?);
    }
    results.push(at_the_end);
    Ok(results)
}

/// Where a victim's call comes by, and how far the next victim is to get.
#[derive(Debug)]
pub struct Strike {
    points: Vec<Point>,
    way: Way,
}

/// A moment of the call: before an instruction, or in the midst of a system call that sleeps.
#[derive(Debug)]
struct Point {
    /// Of the instruction; 0 for a sleep.
    address: u64,
    /// Whether it is an instruction that was not there before in the call.
    new: bool,
}

/// How a victim is led to the point at which it is to die.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// Through the whole call, and all points are written down.
    WriteDown,
    /// To this point, by a breakpoint.
    Run(usize),
    /// To this point, step by step.
    Step(usize),
}

/// The victim did not come by its breakpoint.
#[derive(Debug)]
struct Missed;

impl std::fmt::Display for Missed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the victim did not come by its breakpoint")
    }
}

impl std::error::Error for Missed {}

impl Strike {
    /// Lets the victim run to the point that it is to be killed at, and leaves it there. Where it
    /// falls asleep before that, `on_sleep` is called, perhaps more than once, to end its wait.
    ///
    /// An error is to be passed on at once: it may mean that another victim is tried.
    pub fn reach(&mut self, victim: u32, mut on_sleep: impl FnMut()) -> Result<()> {
        let mut victim = Victim { pid: Pid::from_raw(victim as i32), asleep: false };
        let event = victim.wait_awake(&mut || ())?;
        ensure!(event == Event::Mark, "the victim came to {event:?} before its call");
        match self.way {
            Way::WriteDown => self.write_down(&mut victim, &mut on_sleep),
            Way::Step(target) => victim.steps(target, &mut on_sleep),
            Way::Run(target) => self.run(target, &mut victim, &mut on_sleep),
        }
    }

    fn run(&self, target: usize, victim: &mut Victim, on_sleep: &mut impl FnMut()) -> Result<()> {
        let points = &self.points[..=target];
        // First to where the way is known for sure, then on to the last instruction.
        let mut at = points.iter().rposition(|point| point.new).unwrap_or(0);
        if at > 0 {
            victim.run_to(points[at].address, on_sleep)?;
        }
        let last = points.iter().rposition(|point| point.address != 0).unwrap_or(0);
        let address = points[last].address;
        let times = points[at + 1..].iter().filter(|point| point.address == address).count();
        if address != 0 && (1..=FEW).contains(&times) {
            for _ in 0..times {
                victim.run_to(address, on_sleep)?;
            }
            at = last;
        }
        victim.steps(target - at, on_sleep)
    }

    fn write_down(&mut self, victim: &mut Victim, on_sleep: &mut impl FnMut()) -> Result<()> {
        let mut seen = HashSet::new();
        loop {
            let address = if victim.asleep { 0 } else { victim.next_instruction()? };
            self.points.push(Point { address, new: address != 0 && seen.insert(address) });
            ensure!(self.points.len() < MOST, "the call has no end");
            if victim.step(on_sleep)? == Event::Mark {
                return Ok(());
            }
        }
    }
}

/// What a victim came to.
#[derive(Debug, PartialEq)]
enum Event {
    /// The next instruction, or the breakpoint.
    Trap,
    /// A sleep, in the midst of a system call.
    Asleep,
    /// A [`mark`].
    Mark,
}

/// A traced process, stopped or asleep.
struct Victim {
    pid: Pid,
    asleep: bool,
}

impl Victim {
    /// Goes on to the next point.
    fn step(&mut self, on_sleep: &mut impl FnMut()) -> Result<Event> {
        if self.asleep {
            self.asleep = false;
            return self.wait_awake(on_sleep);
        }
        ptrace::step(self.pid, None).context("PTRACE_SINGLESTEP")?;
        let event = self.wait()?;
        self.asleep = event == Event::Asleep;
        Ok(event)
    }

    /// Goes on by so many points, or to the end of the call.
    fn steps(&mut self, count: usize, on_sleep: &mut impl FnMut()) -> Result<()> {
        for _ in 0..count {
            if self.step(on_sleep)? == Event::Mark {
                break;
            }
        }
        Ok(())
    }

    /// Waits until the victim stops, and sees to it that it does.
    fn wait_awake(&self, on_sleep: &mut impl FnMut()) -> Result<Event> {
        loop {
            match self.wait()? {
                Event::Asleep => on_sleep(),
                event => return Ok(event),
            }
        }
    }

    /// Waits until the victim stops or sleeps.
    fn wait(&self) -> Result<Event> {
        loop {
            for _ in 0..LOOKS {
                match waitpid(self.pid, Some(WaitPidFlag::WNOHANG))? {
                    WaitStatus::StillAlive => sched_yield()?,
                    WaitStatus::Stopped(_, Signal::SIGTRAP) => return Ok(Event::Trap),
                    WaitStatus::Stopped(_, Signal::SIGSTOP) => return Ok(Event::Mark),
                    status => bail!("the victim ended in the midst of its call: {status:?}"),
                }
            }
            if is_asleep(self.pid.as_raw() as u32)? {
                return Ok(Event::Asleep);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
impl Victim {
    /// The address of the next instruction.
    fn next_instruction(&self) -> Result<u64> {
        Ok(ptrace::getregs(self.pid)?.rip)
    }

    /// Runs until the instruction at `address` comes next.
    fn run_to(&mut self, address: u64, on_sleep: &mut impl FnMut()) -> Result<()> {
        const INT3: i64 = 0xcc;
        if self.next_instruction()? == address {
            // Past it first, and past its sleep, should it be a system call that sleeps.
            while self.step(on_sleep)? == Event::Asleep {}
        }
        // The aligned word with the instruction's first byte in it.
        let word = (address & !7) as ptrace::AddressType;
        let shift = (address & 7) * 8;
        let before = ptrace::read(self.pid, word).context("PTRACE_PEEKTEXT")?;
        let with_breakpoint = before & !(0xff << shift) | INT3 << shift;
        ptrace::write(self.pid, word, with_breakpoint).context("PTRACE_POKETEXT")?;
        ptrace::cont(self.pid, None).context("PTRACE_CONT")?;
        if self.wait_awake(on_sleep)? == Event::Mark {
            return Err(Missed.into());
        }
        ptrace::write(self.pid, word, before).context("PTRACE_POKETEXT")?;
        let mut registers = ptrace::getregs(self.pid)?;
        ensure!(registers.rip == address + 1, "the victim stopped at {:#x}", registers.rip);
        registers.rip = address;
        Ok(ptrace::setregs(self.pid, registers)?)
    }
}

/// Without knowledge of the processor no instruction counts as new, and all victims are stepped from
/// the beginning.
#[cfg(not(target_arch = "x86_64"))]
impl Victim {
    fn next_instruction(&self) -> Result<u64> {
        Ok(0)
    }

    fn run_to(&mut self, address: u64, _: &mut impl FnMut()) -> Result<()> {
        bail!("there is no breakpoint at {address:#x} on this processor")
    }
}
