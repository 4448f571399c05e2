//! What the emulator does at once, instead of by the many instructions of the stage.

use std::collections::HashMap;
use std::sync::Arc;

use memory_map::Region;

use super::memory::common;
use super::{End, Machine};
use crate::register::Register;

/// The most events that the pure function takes.
const COMPUTATION: u64 = 600_000;
/// The most runs of it whose events are not counted: two signatures of two slots, a public key and a signature of what is vouched
/// for, looked at twice.
const COMPUTATIONS: u64 = 12;

/// A function that gets the address for its result in `x0` and those of its inputs in `x1` to `x3`.
#[derive(Clone, Copy, Debug)]
pub struct Pure {
    /// Its address.
    pub entry: u64,
    /// The lengths of its inputs.
    pub inputs: [u64; 3],
    /// The length of its result.
    pub output: u64,
}

/// Results of a function, by its inputs, with the registers that it may leave anything in.
pub type Results = HashMap<Vec<u8>, (Vec<u8>, [u64; 18])>;

impl Machine {
    /// Does what the function that clears memory does.
    pub(super) fn clear(&mut self) {
        let wanted = Region::new(self.register(Register::General(0)), self.register(Register::General(2)));
        let (_, region) = self.uc.get_data().clear;
        // What is guarded and blank needs no store, but where a fault has written it.
        let known = self.kept.iter().chain(&self.blank);
        let whole = wanted.base.checked_add(wanted.size).is_some_and(|_| {
            known.filter_map(|known| common(*known, wanted)).map(|part| part.size).sum::<u64>() == wanted.size
        });
        if wanted != region && !whole {
            let inner = self.uc.get_data_mut();
            (inner.uncleared, inner.end) = (true, None);
            return;
        }
        let parts: Vec<Region> = if self.kept.is_empty() {
            vec![wanted]
        } else {
            self.changed().filter_map(|part| common(part, wanted)).collect()
        };
        for part in parts {
            self.uc.mem_write(part.base, &vec![0; part.size as usize]).expect("memory can be written");
        }
        self.set_pc(self.register(Register::General(30)));
        self.uc.get_data_mut().end = None;
    }

    /// Says what a pure function returned for which inputs.
    pub fn know(&mut self, results: Arc<Results>) {
        self.uc.get_data_mut().results = Some(results);
    }

    /// Watches a pure function, at whose entry the core stands, and returns its inputs and what it made of them.
    pub fn learn(&mut self) -> (Vec<u8>, (Vec<u8>, [u64; 18])) {
        let pure = self.uc.get_data().pure;
        let inputs = self.inputs(pure).expect("the inputs can be read");
        let place = self.register(Register::General(0));
        let back = self.register(Register::General(30));
        self.step(u64::MAX);
        assert_eq!(self.run(u64::MAX, u64::MAX, &[back]), End::Mark(back));
        let left = std::array::from_fn(|number| self.register(Register::General(number as u8)));
        (inputs, (self.read(place, pure.output), left))
    }

    fn inputs(&self, pure: Pure) -> Option<Vec<u8>> {
        let mut inputs = Vec::new();
        for (register, length) in (1..).zip(pure.inputs) {
            let address = self.register(Register::General(register));
            inputs.extend(self.uc.mem_read_as_vec(address, length as usize).ok()?);
        }
        Some(inputs)
    }

    /// Does what the pure function does, if that is known; else lets it run.
    pub(super) fn compute(&mut self) {
        let pure = self.uc.get_data().pure;
        let results = self.uc.get_data().results.clone();
        let known = results.as_ref().and_then(|results| results.get(&self.inputs(pure)?));
        let place = self.register(Register::General(0));
        let written = known.filter(|(output, _)| {
            // Where the result cannot go, the function runs and fails by itself.
            self.kept.iter().any(|kept| kept.contains(place, pure.output))
                && self.uc.mem_write(place, output).is_ok()
        });
        if let Some((_, left)) = written {
            for (number, value) in (0..).zip(left) {
                self.set_register(Register::General(number), *value);
            }
            self.set_pc(self.register(Register::General(30)));
        } else {
            let inner = self.uc.get_data_mut();
            inner.unknown = true;
            inner.computed = (inner.computed + COMPUTATION).min(COMPUTATIONS * COMPUTATION);
        }
        self.uc.get_data_mut().end = None;
    }
}
