//! What this engine leaves to whoever drives it: exceptions, the interrupt controller's registers, the clock.

use unicorn_engine::unicorn_const::uc_error;
use unicorn_engine::{RegisterARM64 as Reg, RegisterARM64CP, Unicorn};

use super::{EL3H_MASKED, Inner, Machine};
use crate::register::Register;

/// What `CNTFRQ_EL0` reads.
const COUNTER_HZ: u64 = memory_map::qemu_virt::COUNTER_HZ;
/// How far the counter moves with each reading.
const TICK: u64 = 1000;

/// The register that makes virtual interrupts pending, with its bits `VI` and `VF`.
const HCR_EL2: RegisterARM64CP = RegisterARM64CP { op0: 3, op1: 4, crn: 1, crm: 1, op2: 0, val: 0 };

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

    /// Takes back what the engine keeps apart from the registers that it sets back: which virtual interrupts are pending, and what it
    /// knows of the page tables.
    pub(super) fn take_back(&mut self) {
        let mut hypervisor = HCR_EL2;
        self.uc.reg_read_arm64_coproc(&mut hypervisor).expect("it can be read");
        self.uc.reg_write_arm64_coproc(&hypervisor).expect("it can be written");
        self.uc.ctl_flush_tlb().expect("it can be emptied");
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

#[cfg(test)]
mod tests {
    use memory_map::Region;

    use crate::machine::Pure;
    use crate::{Devices, End, Machine, Watch};

    /// `mov x0, #64`; `msr hcr_el2, x0`, which makes a virtual FIQ pending; `wfi`; `b .-4`.
    const CODE: [u32; 4] = [0xD280_0800, 0xD51C_1100, 0xD503_207F, 0x17FF_FFFF];
    const BASE: u64 = 0x0E20_0000;
    const WAITS: u64 = BASE + 8;

    /// Were it pending still, the core would not halt where a run has to stop inside of a basic block: the engine stops there by a halt.
    #[test]
    fn an_interrupt_that_a_run_has_made_pending_is_not_when_it_is_set_back() {
        let watch = Watch {
            code: BASE..BASE + 4096,
            stop: 0,
            clear: (0, Region::new(0, 0)),
            clean: (0, &[]),
            pure: Pure { entry: 0, inputs: [0; 3], output: 0 },
            waits: vec![WAITS + 4],
        };
        let mut machine = Machine::new(Devices::default(), &watch);
        machine.ram(Region::new(BASE, 4096), &[]);
        CODE.iter().zip((BASE..).step_by(4)).for_each(|(word, at)| machine.write(at, &word.to_le_bytes()));
        machine.set_pc(WAITS);
        let before = machine.save();
        assert_eq!(machine.run(u64::MAX, u64::MAX, &[]), End::Dead);
        let halted = machine.events();
        machine.restore(&before);
        machine.set_pc(BASE);
        assert_eq!(machine.run(u64::MAX, u64::MAX, &[]), End::Dead);
        assert!(
            machine.events() > halted + 100,
            "the control: with an interrupt pending, waiting does not halt it"
        );
        machine.restore(&before);
        assert_eq!(machine.run(u64::MAX, u64::MAX, &[]), End::Dead);
        assert_eq!(machine.events(), halted);
    }
}
