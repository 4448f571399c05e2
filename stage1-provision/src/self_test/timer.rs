//! The timer in the self-test.

use fail_code::FailCode;
use hal::Clock;

/// Reads after which a counter that stands still is given up.
const PATIENCE: u32 = 1_000_000;
/// How often the counter has to be seen to move.
const TICKS: u32 = 16;

/// Checks that the counter has the frequency that the board gives it, runs, and runs forwards.
///
/// Its rate is not compared with another clock: the board's has a resolution of a second, which is as long as a third
/// of provisioning.
///
/// # Errors
/// [`FailCode::SelfTestTimer`].
pub fn check(clock: &impl Clock, expected_hz: u64) -> Result<(), FailCode> {
    let mut last = clock.now();
    let mut moved = 0;
    for _ in 0..PATIENCE {
        let now = clock.now();
        if now < last || clock.hz() != expected_hz {
            break;
        }
        moved += u32::from(now > last);
        last = now;
        if moved == TICKS {
            return Ok(());
        }
    }
    Err(FailCode::SelfTestTimer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::cell::Cell;

    struct Steps {
        now: Cell<u64>,
        step: i64,
        hz: u64,
    }

    impl Clock for Steps {
        fn now(&self) -> u64 {
            self.now.replace(self.now.get().wrapping_add_signed(self.step))
        }

        fn hz(&self) -> u64 {
            self.hz
        }
    }

    #[test]
    fn a_counter_that_stands_runs_backwards_or_has_another_frequency_is_refused() {
        for (step, hz, expected) in [
            (1, 1000, Ok(())),
            (500, 1000, Ok(())),
            (0, 1000, Err(FailCode::SelfTestTimer)),
            (-1, 1000, Err(FailCode::SelfTestTimer)),
            (1, 999, Err(FailCode::SelfTestTimer)),
            (1, 0, Err(FailCode::SelfTestTimer)),
        ] {
            let clock = Steps { now: Cell::new(1 << 40), step, hz };
            assert_eq!(check(&clock, 1000), expected, "{step} {hz}");
        }
    }
}
