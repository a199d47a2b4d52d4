//! Numbers that differ from run to run.

use std::time::SystemTime;

/// Marsaglia's xorshift, seeded with the time.
pub struct Random {
    /// To be told with what was found.
    pub seed: u64,
    state: u64,
}

impl Random {
    pub fn new() -> Random {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Random::seeded(now.map_or(1, |now| now.as_nanos() as u64))
    }

    pub fn seeded(seed: u64) -> Random {
        Random { seed, state: seed | 1 }
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state % end
    }
}
