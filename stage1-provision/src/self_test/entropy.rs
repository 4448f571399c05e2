//! Health tests of the entropy source: SP 800-90B section 4.4.
//!
//! A sample is a byte. The source is taken to give at least [`MIN_ENTROPY`] bits with each, and a source that does is
//! refused with a probability of about 2⁻³⁰ for each run of a test. Nothing of this shows that a source is random:
//! whoever owns it passes the tests with numbers that he knows. That is why no key depends on it alone.

use fail_code::FailCode;

/// Bits of min-entropy that each byte is taken to hold: `H`.
pub const MIN_ENTROPY: u32 = 4;
/// Cutoff of the repetition count test: 1 + ⌈30 / H⌉.
pub const REPETITION_CUTOFF: u32 = 9;
/// Samples in a window of the adaptive proportion test, for samples of more than one bit.
pub const WINDOW: u32 = 512;
/// Cutoff of the adaptive proportion test: 1 + critbinom(512, 2⁻⁴, 1 - 2⁻³⁰).
pub const PROPORTION_CUTOFF: u32 = 71;
/// Samples that the start-up test takes (section 4.3): at least 1,024.
pub const STARTUP_SAMPLES: usize = 1024;

/// Both tests, running over every byte that the source gives.
#[derive(Clone, Debug, Default)]
pub struct HealthTests {
    last: Option<u8>,
    repeated: u32,
    /// The sample that the window counts.
    counted: u8,
    occurrences: u32,
    /// Samples of the window so far; 0 before it starts.
    seen: u32,
}

impl HealthTests {
    /// Takes the next samples.
    ///
    /// # Errors
    /// [`FailCode::EntropyHealth`]: a test has failed. The samples are not to be used.
    pub fn check(&mut self, samples: &[u8]) -> Result<(), FailCode> {
        let healthy = samples.iter().all(|sample| self.take(*sample));
        if healthy { Ok(()) } else { Err(FailCode::EntropyHealth) }
    }

    fn take(&mut self, sample: u8) -> bool {
        self.repeated = if self.last == Some(sample) { self.repeated.saturating_add(1) } else { 1 };
        self.last = Some(sample);

        if self.seen == 0 {
            self.counted = sample;
            self.occurrences = 0;
        }
        if self.counted == sample {
            self.occurrences = self.occurrences.saturating_add(1);
        }
        self.seen = self.seen.wrapping_add(1) % WINDOW;
        self.repeated < REPETITION_CUTOFF && self.occurrences < PROPORTION_CUTOFF
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A generator with a good distribution, for samples that must pass.
    struct Xorshift(u64);

    impl Xorshift {
        fn next(&mut self) -> u8 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 >> 32) as u8
        }
    }

    #[test]
    fn the_cutoffs_are_those_of_the_formulas() {
        assert_eq!(REPETITION_CUTOFF, 1 + 30_u32.div_ceil(MIN_ENTROPY));
        // critbinom(512, 1/16, 1 - 2^-30): the least k with P(X <= k) >= 1 - 2^-30.
        let p = 0.5_f64.powi(MIN_ENTROPY as i32);
        let mut tail = 1.0;
        let mut exactly = (1.0 - p).powi(WINDOW as i32);
        let mut k = 0_u32;
        loop {
            tail -= exactly;
            if tail <= 0.5_f64.powi(30) {
                break;
            }
            exactly *= f64::from(WINDOW - k) / f64::from(k + 1) * p / (1.0 - p);
            k += 1;
        }
        assert_eq!(PROPORTION_CUTOFF, 1 + k);
    }

    #[test]
    fn random_samples_pass() {
        let mut source = Xorshift(0x1234_5678_9ABC_DEF1);
        let samples: Vec<u8> = (0..1_000_000).map(|_| source.next()).collect();
        assert_eq!(HealthTests::default().check(&samples), Ok(()));
    }

    #[test]
    fn a_stuck_source_fails_after_nine_equal_samples() {
        for value in [0, 0xFF, 0x5A] {
            let mut tests = HealthTests::default();
            assert_eq!(tests.check(&[value; 8]), Ok(()));
            assert_eq!(tests.check(&[value]), Err(FailCode::EntropyHealth));
        }
    }

    #[test]
    fn a_source_that_prefers_one_value_fails() {
        let mut source = Xorshift(99);
        // Every fourth sample is zero: two bits of min-entropy.
        let samples: Vec<u8> = (0..2048).map(|n| if n % 4 == 0 { 0 } else { source.next() | 1 }).collect();
        assert_eq!(HealthTests::default().check(&samples), Err(FailCode::EntropyHealth));
    }

    #[test]
    fn a_source_of_few_values_fails() {
        let samples: Vec<u8> = (0..1024_u32).map(|n| (n % 7) as u8).collect();
        assert_eq!(HealthTests::default().check(&samples), Err(FailCode::EntropyHealth));
    }

    #[test]
    fn the_tests_go_on_from_one_draw_to_the_next() {
        let mut tests = HealthTests::default();
        let outcomes: Vec<_> = (0..9).map(|_| tests.check(&[1])).collect();
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_err()).count(), 1);
    }
}
