//! The article's work: count to a number, deliver the subtotal, say who did it.

use std::hint::black_box;
use std::io::{self, Write};

use anyhow::{Context, Result};

use crate::current_name;

/// Counts to `base_num` one by one, as the article's loop does, and returns the count.
///
/// The loop really runs. Without [`black_box`] the optimiser sees that the answer is `base_num`
/// and removes it, and any timing around it measures nothing. `black_box` stands on the number
/// added, not on the sum: there it would force the sum through memory, at five times the cost.
///
/// ```
/// assert_eq!(common::count_to(1_000), 1_000);
/// ```
pub fn count_to(base_num: u64) -> u64 {
    let mut sub_total = 0;
    for _ in 0..base_num {
        sub_total += black_box(1);
    }
    sub_total
}

/// The body of the article's counting child: counts to `base_num`, hands the subtotal to
/// `deliver`, then prints its pid and name, and the result.
///
/// Both lines leave in one `write`, so the lines of one child never stand between another's.
/// Blocks only where `deliver` does. Fails where `deliver` fails (then nothing is printed), or
/// where stdout cannot be written.
pub fn counting_worker(base_num: u64, deliver: impl FnOnce(u64) -> Result<()>) -> Result<()> {
    let sub_total = count_to(base_num);
    deliver(sub_total)?;

    let (pid, name) = (std::process::id(), current_name());
    let lines = format!("Process ID: {pid}, Process Name: {name}\nResult: {sub_total}\n");
    io::stdout().write_all(lines.as_bytes()).context("cannot write the result to stdout")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counting_reaches_the_number_it_was_given() {
        for base_num in [0, 1, 2, 1_000] {
            assert_eq!(count_to(base_num), base_num);
        }
    }

    #[test]
    fn a_failed_delivery_is_the_workers_failure() {
        let failed = counting_worker(1, |_| anyhow::bail!("the pipe is closed"));
        assert_eq!(failed.unwrap_err().to_string(), "the pipe is closed");
    }
}
