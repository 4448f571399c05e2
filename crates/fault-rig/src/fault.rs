//! The faults: what one glitch may do to one instruction, once.

use std::fmt;

use crate::machine::Machine;
use crate::program;
use crate::register::Register;

/// One fault in the execution of one instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// So many instructions are not executed.
    Skip(u8),
    /// A conditional branch goes the other way.
    Invert,
    /// A bit of the instruction is read wrong.
    Opcode(u8),
    /// A bit of a register that the instruction names is wrong from here on.
    Register(Register, u8),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Skip(count) => write!(f, "{count} skipped"),
            Self::Invert => f.write_str("branch inverted"),
            Self::Opcode(bit) => write!(f, "bit {bit} of the instruction"),
            Self::Register(register, bit) => write!(f, "bit {bit} of {register:?}"),
        }
    }
}

/// Kinds of faults, as the report counts them.
pub(crate) const KINDS: [&str; 4] = ["skips", "inverted branches", "instruction bits", "register bits"];

impl Fault {
    /// Lists every fault of an instruction, each once.
    pub fn all(instruction: u32) -> Vec<Self> {
        let inverted = inverting_bit(instruction);
        let skips = (1..=4).map(Self::Skip);
        let bits = (0..32).filter(|bit| Some(*bit) != inverted).map(Self::Opcode);
        let registers = registers(instruction).into_iter().flat_map(|register| {
            let bits = if register == Register::Flags { 28..32 } else { 0..64 };
            bits.map(move |bit| Self::Register(register, bit))
        });
        skips.chain(inverted.map(|_| Self::Invert)).chain(bits).chain(registers).collect()
    }

    /// Returns the number of the kind, as the report counts them.
    pub fn kind(self) -> usize {
        match self {
            Self::Skip(_) => 0,
            Self::Invert => 1,
            Self::Opcode(_) => 2,
            Self::Register(..) => 3,
        }
    }

    /// Injects the fault into the machine, which stands before the instruction. Afterwards it stands behind what the
    /// fault touches.
    pub fn inject(self, machine: &mut Machine, limit: u64) {
        let pc = machine.pc();
        machine.enter();
        match self {
            Self::Skip(count) => {
                let next = pc + 4 * u64::from(count);
                let skipped = (pc..next).step_by(4);
                if skipped.into_iter().any(|at| program::ends_block(machine.instruction(at))) {
                    machine.leave();
                }
                machine.set_pc(next);
            }
            Self::Invert => {
                let bit = inverting_bit(machine.instruction(pc)).expect("a conditional branch");
                execute_changed(machine, pc, bit, limit);
            }
            Self::Opcode(bit) => execute_changed(machine, pc, bit, limit),
            Self::Register(register, bit) => {
                machine.set_register(register, machine.register(register) ^ (1 << bit));
            }
        }
    }
}

/// Executes the next instruction with a bit of it changed, and puts it back.
fn execute_changed(machine: &mut Machine, pc: u64, bit: u8, limit: u64) {
    let instruction = machine.instruction(pc);
    machine.set_instruction(pc, instruction ^ (1 << bit));
    machine.step(limit);
    machine.set_instruction(pc, instruction);
}

/// Returns the bit that makes a conditional branch go the other way; `None` for other instructions.
fn inverting_bit(instruction: u32) -> Option<u8> {
    match instruction {
        // B.cond: the lowest bit of the condition, but that `al` and `nv` both mean always.
        it if it & 0xFF00_0010 == 0x5400_0000 && it & 0xE != 0xE => Some(0),
        // CBZ, CBNZ, TBZ, TBNZ.
        it if it & 0x7C00_0000 == 0x3400_0000 => Some(24),
        _ => None,
    }
}

/// Returns the registers in the fields of an instruction, and the flags where it has a condition. A field that is none
/// in this instruction names a register all the same: that is a fault as good as any.
fn registers(instruction: u32) -> Vec<Register> {
    let mut found = Vec::new();
    // Pairs that are loaded or stored, and products that are added.
    let fourth = instruction & 0x3A00_0000 == 0x2800_0000 || instruction & 0x1F00_0000 == 0x1B00_0000;
    for shift in [0, 5, 16].into_iter().chain(fourth.then_some(10)) {
        let register = match (instruction >> shift & 31) as u8 {
            31 if shift == 5 => Register::Stack,
            31 => continue,
            number => Register::General(number),
        };
        if !found.contains(&register) {
            found.push(register);
        }
    }
    let conditional_branch = instruction & 0xFF00_0010 == 0x5400_0000;
    let conditional = instruction & 0x1FE0_0000 == 0x1A80_0000 || instruction & 0x1FE0_0000 == 0x1A40_0000;
    if conditional_branch || conditional {
        found.push(Register::Flags);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `b.ne`, `b.al`, `cbz`, `tbnz`, `b`, `add`.
    #[test]
    fn conditional_branches_are_found_and_inverted() {
        let words = [0x5400_0041, 0x5400_004E, 0xB400_0040, 0x3700_0040, 0x1400_0001, 0x8B01_0000];
        assert_eq!(words.map(inverting_bit), [Some(0), None, Some(24), Some(24), None, None]);
    }

    #[test]
    fn every_fault_of_an_instruction_is_listed_once() {
        for (word, count) in [
            (0x8B02_0020, 4 + 32 + 3 * 64),         // add x0, x1, x2
            (0x5400_0041, 4 + 1 + 31 + 3 * 64 + 4), // b.ne: its fields name x0, x1 and x2
            (0x9A82_0020, 4 + 32 + 3 * 64 + 4),     // csel x0, x1, x2, eq
            (0xA941_7C04, 4 + 32 + 3 * 64),         // ldp x4, xzr, [x0, #16]: its fields name x1 as well
            (0xA941_0C04, 4 + 32 + 4 * 64),         // ldp x4, x3, [x0, #16]
        ] {
            let faults = Fault::all(word);
            assert_eq!(faults.len(), count, "{word:#x}");
            assert!(faults.iter().enumerate().all(|(n, fault)| !faults[..n].contains(fault)));
        }
    }
}
