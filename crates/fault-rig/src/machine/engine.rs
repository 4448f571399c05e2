//! What this engine leaves to whoever drives it: exceptions, the interrupt controller's registers, the clock.

use unicorn_engine::unicorn_const::uc_error;
use unicorn_engine::{RegisterARM64 as Reg, RegisterARM64CP, Unicorn};

use super::{EL3H_MASKED, Inner, Machine};
use crate::register::Register;

/// What `CNTFRQ_EL0` reads.
const COUNTER_HZ: u64 = memory_map::qemu_virt::COUNTER_HZ;
/// How far the counter moves with each reading.
const TICK: u64 = 1000;

impl Machine {
    /// Goes on behind an access to the interrupt controller's core interface (`ICC_*`), which this engine's core does not have: what is
    /// written there goes nowhere, and it reads as zero. False if the core stands at something else.
    pub(super) fn passes_interrupt_interface(&mut self) -> bool {
        let pc = self.pc();
        let mut bytes = [0; 4];
        if self.uc.mem_read(pc, &mut bytes).is_err() {
            return false;
        }
        let instruction = u32::from_le_bytes(bytes);
        // MRS and MSR of S3_x_C12_C8..C12_x, and of ICC_PMR_EL1, S3_0_C4_C6_0.
        let of_group =
            instruction & 0xFFD8_F000 == 0xD518_C000 && (8..=12).contains(&(instruction >> 8 & 15));
        if !of_group && instruction & 0xFFDF_FFE0 != 0xD518_4600 {
            return false;
        }
        let reads = instruction & 1 << 21 != 0;
        let into = (instruction & 31) as u8;
        if reads && into != 31 {
            self.set_register(Register::General(into), 0);
        }
        self.set_pc(pc + 4);
        // A write ends a basic block.
        self.uc.get_data_mut().inside = reads;
        true
    }

    /// Enters the vector of an exception, which this engine leaves to whoever drives it.
    pub(super) fn take_exception(&mut self, error: uc_error) {
        assert!(!matches!(error, uc_error::NOMEM | uc_error::HANDLE | uc_error::RESOURCE), "{error:?}");
        const CURRENT_LEVEL_SYNCHRONOUS: u64 = 0x200;
        let vectors = self.uc.reg_read(Reg::VBAR_EL3).expect("it can be read");
        let pc = self.pc();
        self.uc.reg_write(Reg::ELR_EL3, pc).expect("it can be written");
        self.uc.reg_write(Reg::PSTATE, EL3H_MASKED).expect("it can be written");
        self.set_pc(vectors + CURRENT_LEVEL_SYNCHRONOUS);
    }
}

/// Answers the reads of system registers that are the clock.
pub(super) fn read_register(uc: &mut Unicorn<'_, Inner>, into: Reg, register: &RegisterARM64CP) -> bool {
    let name = (register.op0, register.op1, register.crn, register.crm, register.op2);
    let value = match name {
        // CNTFRQ_EL0
        (3, 3, 14, 0, 0) => COUNTER_HZ,
        // CNTPCT_EL0
        (3, 3, 14, 0, 1) => {
            let inner = uc.get_data_mut();
            inner.counter += TICK;
            inner.counter
        }
        _ => return false,
    };
    uc.reg_write(into, value).expect("it can be written");
    true
}
