//! The emulated core that a stage runs on, stopped, saved and set back at will.
//!
//! Events are what the rig counts time by: entries of basic blocks. Nothing depends on the host's clock: the counter of
//! the device moves by a constant with each reading.

mod engine;
mod memory;
mod shortcuts;

use std::ops::Range;
use std::sync::Arc;

use memory_map::Region;
use unicorn_engine::unicorn_const::{Arch, Mode, Prot};
use unicorn_engine::{Arm64CpuModel, Arm64Insn, RegisterARM64 as Reg, RegisterARM64CP, Unicorn};

pub use memory::Snapshot;
pub use shortcuts::{Pure, Results};

use crate::device::Devices;
use crate::register::Register;
use engine::read_register;
use memory::{Bus, Stray, open};

/// The least number of bytes that are cleared at once.
const CLEARED_AT_ONCE: u64 = 4096;
/// How often a core may wait for an interrupt.
const WAITS: u32 = 1000;
/// EL3 on its own stack, every interrupt masked: the state of a core at reset.
const EL3H_MASKED: u64 = 0x3CD;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// At the event it was to stop at.
    Event,
    /// At a mark.
    Mark(u64),
    /// In the function that a stage stops in for good.
    Stopped,
    /// It executed something that is not the stage's own code: at this address.
    Outside(u64),
    /// It did not end within its limit of events.
    Limit,
    /// The core waits for ever, or meets exceptions without end.
    Dead,
    /// It is about to clear the region that is cleared at once.
    Clearing,
    /// It is about to clean the cache of memory for which that is not done.
    Cleaning,
    /// It is about to compute what may be known.
    Computing,
}

/// What the emulator does between two runs.
pub struct Watch {
    /// Where the stage's own code lies: whatever else is executed is a find.
    pub code: Range<u64>,
    /// Where a stage stops for good.
    pub stop: u64,
    /// A function that fills memory: where, with what, how much. Whenever it is called to clear just this region, or as much as a page of
    /// what the run without a fault writes or finds blank, that is done at once instead of by its many stores.
    pub clear: (u64, Region),
    /// A function that cleans the cache, which this core does not have. Whenever it is called for a part of one of these regions,
    /// nothing is done, instead of its many steps.
    pub clean: (u64, &'static [Region]),
    /// A function whose result depends on nothing but what its arguments point to.
    pub pure: Pure,
    /// Where a core goes on that has waited for an interrupt: there are none, so whoever comes there again and again stands still.
    pub waits: Vec<u64>,
}

/// What hooks see.
struct Inner {
    devices: Devices,
    events: u64,
    stop_at: u64,
    limit: u64,
    path: u64,
    stop: u64,
    clear: (u64, Region),
    clean: (u64, &'static [Region]),
    pure: Pure,
    waits: Vec<u64>,
    /// How often the core has waited.
    waited: u32,
    /// What the pure function makes of its inputs, where that is looked up.
    results: Option<Arc<Results>>,
    marks: Vec<u64>,
    trace: Option<Vec<u64>>,
    end: Option<End>,
    counter: u64,
    /// RAM that no run without a fault writes.
    guarded: Vec<Region>,
    /// What a fault wrote of it, as it was, in the order of the writes, and whether it was opened for that.
    strays: Vec<Stray>,
    /// What is written is noted, page by page.
    noting: bool,
    /// First and last byte of a store that ended the run, since it goes to guarded RAM.
    stray: Option<(u64, u64)>,
    inside: bool,
    /// The pure function is not to be looked up once more.
    unknown: bool,
    /// The function that fills memory is to be run.
    uncleared: bool,
    /// How many events more the runs of that function may take, whose results were not known.
    computed: u64,
}

/// A core with memory and devices.
pub struct Machine {
    uc: Unicorn<'static, Inner>,
    /// RAM whose contents are saved and set back.
    kept: Vec<Region>,
    /// RAM that is guarded at first, and holds zeros.
    blank: Vec<Region>,
    /// Guarded RAM that stays open since a fault wrote it, and what is in it without a fault.
    left_open: Vec<(Region, Vec<u8>)>,
    scratch: Vec<u8>,
}

impl Machine {
    /// Makes a machine at reset.
    pub fn new(devices: Devices, watch: &Watch) -> Self {
        let inner = Inner {
            devices,
            events: 0,
            stop_at: u64::MAX,
            limit: u64::MAX,
            path: 0,
            stop: watch.stop,
            clear: watch.clear,
            clean: watch.clean,
            pure: watch.pure,
            waits: watch.waits.clone(),
            waited: 0,
            results: None,
            marks: Vec::new(),
            trace: None,
            end: None,
            counter: 0,
            guarded: Vec::new(),
            strays: Vec::new(),
            noting: false,
            stray: None,
            inside: false,
            unknown: false,
            uncleared: false,
            computed: 0,
        };
        let mut uc = Unicorn::new_with_data(Arch::ARM64, Mode::LITTLE_ENDIAN, inner).expect("an engine");
        uc.ctl_set_cpu_model(Arm64CpuModel::A57 as i32).expect("the core that Kiln is tested on");
        uc.reg_write(Reg::PSTATE, EL3H_MASKED).expect("it can be written");
        // The engine takes note of the level, which it has lowered for compatibility, with the next system register that
        // is written: TPIDR_EL0.
        let unused = RegisterARM64CP { op0: 3, op1: 3, crn: 13, crm: 0, op2: 2, val: 0 };
        uc.reg_write_arm64_coproc(&unused).expect("it can be written");
        let devices = memory_map::qemu_virt::DEVICES;
        uc.mmio_map(
            devices.base,
            devices.size,
            Some(|uc: &mut Unicorn<'_, Inner>, offset, size| uc.get_data_mut().devices.read(offset, size)),
            Some(|uc: &mut Unicorn<'_, Inner>, offset, size, value| {
                if let Some(transport) = uc.get_data_mut().devices.write(offset, size, value) {
                    let mut devices = std::mem::take(&mut uc.get_data_mut().devices);
                    devices.serve(transport, &mut Bus(uc));
                    uc.get_data_mut().devices = devices;
                }
            }),
        )
        .expect("devices can be mapped");
        let (first, last) = (watch.code.start, watch.code.end - 1);
        uc.add_block_hook(first, last, |uc, address, _| event(uc, address)).expect("a hook");
        let outside = |uc: &mut Unicorn<'_, Inner>, address, _| {
            finish(uc, End::Outside(address));
        };
        if watch.code.start > 0 {
            uc.add_block_hook(0, watch.code.start - 1, outside).expect("a hook");
        }
        uc.add_block_hook(watch.code.end, u64::MAX, outside).expect("a hook");
        uc.add_insn_sys_hook_arm64(Arm64Insn::UC_ARM64_INS_MRS, 1, 0, read_register).expect("a hook");
        Self { uc, kept: Vec::new(), blank: Vec::new(), left_open: Vec::new(), scratch: Vec::new() }
    }

    /// Maps memory that is only read and executed; what `bytes` leave is erased flash.
    pub fn rom(&mut self, region: Region, bytes: &[u8]) {
        self.uc.mem_map(region.base, region.size, Prot::READ | Prot::EXEC).expect("memory can be mapped");
        let mut whole = bytes.to_vec();
        whole.resize(region.size as usize, 0xFF);
        self.uc.mem_write(region.base, &whole).expect("memory can be written");
    }

    /// Maps RAM, cut at these addresses: the engine copies all of a piece when a part of it is guarded, and is slow with many.
    pub fn ram(&mut self, region: Region, cuts: &[u64]) {
        let mut at = region.base;
        for end in cuts.iter().copied().chain([region.end()]) {
            self.uc.mem_map(at, end - at, Prot::ALL).expect("memory can be mapped");
            at = end;
        }
    }

    /// Writes memory.
    pub fn write(&mut self, address: u64, bytes: &[u8]) {
        self.uc.mem_write(address, bytes).expect("memory can be written");
    }

    /// Reads memory.
    pub fn read(&self, address: u64, length: u64) -> Vec<u8> {
        self.uc.mem_read_as_vec(address, length as usize).expect("memory can be read")
    }
}

impl Machine {
    /// Lets the core run on until it has come to `stop_at` events, a mark or an end, at most `limit` events in all.
    pub fn run(&mut self, stop_at: u64, limit: u64, marks: &[u64]) -> End {
        self.run_until(stop_at, limit, marks, u64::MAX).expect("there is no other end")
    }

    /// Lets the core run on as far as the instruction at `until`, which lies ahead in the same basic block, which is
    /// translated anew for it.
    pub fn run_to(&mut self, until: u64) {
        let pc = self.pc();
        if pc == until {
            return;
        }
        self.forget(pc..until + 4);
        let end = self.run_until(u64::MAX, u64::MAX, &[], until);
        assert!(end.is_none() && self.pc() == until, "{until:#x} lies ahead of {pc:#x}: {end:?}");
        self.forget(pc..until + 4);
        self.uc.get_data_mut().inside = true;
    }

    /// Counts the basic block that the core is about to enter, so that what follows is inside of it.
    pub fn enter(&mut self) {
        let pc = self.pc();
        let inner = self.uc.get_data_mut();
        if !std::mem::replace(&mut inner.inside, true) {
            inner.count(pc);
        }
    }

    /// Makes the next instruction the first of a basic block.
    pub fn leave(&mut self) {
        self.uc.get_data_mut().inside = false;
    }

    /// Lets the core run on to the next event.
    pub fn step(&mut self, limit: u64) {
        let inner = self.uc.get_data();
        let own = u64::from(!inner.inside);
        self.run(inner.events + own, limit, &[]);
    }

    /// Returns how the last run ended.
    pub fn ended(&self) -> Option<End> {
        self.uc.get_data().end
    }

    fn run_until(&mut self, stop_at: u64, limit: u64, marks: &[u64], until: u64) -> Option<End> {
        let inner = self.uc.get_data_mut();
        (inner.stop_at, inner.limit, inner.end) = (stop_at, limit, None);
        inner.marks.clear();
        inner.marks.extend_from_slice(marks);
        let mut exceptions = 0;
        loop {
            let pc = self.pc();
            let result = self.uc.emu_start(pc, until, 0, 0);
            if self.uc.get_data().end == Some(End::Clearing) {
                self.clear();
                continue;
            }
            if self.uc.get_data().end == Some(End::Cleaning) {
                self.set_pc(self.register(Register::General(30)));
                self.uc.get_data_mut().end = None;
                continue;
            }
            if self.uc.get_data().end == Some(End::Computing) {
                self.compute();
                continue;
            }
            if let Some(end) = self.uc.get_data().end {
                return Some(end);
            }
            if let Some((first, last)) = self.uc.get_data_mut().stray.take() {
                for address in [first, last] {
                    let found = self.uc.get_data().guarded.iter().position(|it| it.contains(address, 1));
                    if let Some(found) = found {
                        open(&mut self.uc, found, address);
                    }
                }
                // The basic block was counted when it was entered.
                self.uc.get_data_mut().inside = true;
                continue;
            }
            match result {
                Ok(()) if self.pc() == until => return None,
                Ok(()) => return Some(End::Dead),
                Err(_) if self.passes_interrupt_interface() => {}
                Err(error) => {
                    exceptions += 1;
                    if exceptions > 4 {
                        return Some(End::Dead);
                    }
                    self.take_exception(error);
                }
            }
        }
    }

    /// Records the address of every event from now on.
    pub fn trace(&mut self) {
        self.uc.get_data_mut().trace = Some(Vec::new());
    }

    /// Returns what was recorded.
    pub fn traced(&mut self) -> Vec<u64> {
        self.uc.get_data_mut().trace.take().expect("a trace was begun")
    }

    /// Returns the address of the next instruction.
    pub fn pc(&self) -> u64 {
        self.uc.reg_read(Reg::PC).expect("it can be read")
    }

    /// Goes on somewhere else.
    pub fn set_pc(&mut self, address: u64) {
        self.uc.reg_write(Reg::PC, address).expect("it can be written");
    }

    /// Reads a register.
    pub fn register(&self, register: Register) -> u64 {
        self.uc.reg_read(register.id()).expect("it can be read")
    }

    /// Reads the vector registers, one after the other.
    pub fn vectors(&self) -> Vec<u8> {
        let first = Reg::Q0 as i32;
        let each = (first..first + 32).map(|id| self.uc.reg_read_long(id).expect("it can be read"));
        each.flatten().collect()
    }

    /// Writes a register.
    pub fn set_register(&mut self, register: Register, value: u64) {
        self.uc.reg_write(register.id(), value).expect("it can be written");
    }

    /// Returns the instruction at an address.
    pub fn instruction(&self, address: u64) -> u32 {
        let mut bytes = [0; 4];
        self.uc.mem_read(address, &mut bytes).expect("code can be read");
        u32::from_le_bytes(bytes)
    }

    /// Replaces an instruction.
    pub fn set_instruction(&mut self, address: u64, instruction: u32) {
        self.write(address, &instruction.to_le_bytes());
        self.forget(address..address + 4);
    }

    fn forget(&mut self, code: Range<u64>) {
        // An address that was never translated is no error here.
        let _ = self.uc.ctl_remove_cache(code.start, code.end);
    }

    /// Returns the number of events so far.
    pub fn events(&self) -> u64 {
        self.uc.get_data().events
    }

    /// Returns a hash of the way that the core has taken.
    pub fn path(&self) -> u64 {
        self.uc.get_data().path
    }

    /// Returns the devices.
    pub fn devices(&self) -> &Devices {
        &self.uc.get_data().devices
    }
}

fn finish(uc: &mut Unicorn<'_, Inner>, end: End) {
    uc.get_data_mut().end.get_or_insert(end);
    uc.emu_stop().expect("a running engine can be stopped");
}

/// Counts an event, which is about to happen at `address`.
fn event(uc: &mut Unicorn<'_, Inner>, address: u64) {
    let inner = uc.get_data_mut();
    if inner.end.is_some() {
        return;
    }
    if address == inner.clear.0 && !std::mem::take(&mut inner.uncleared) {
        let large = uc.reg_read(Reg::X2).is_ok_and(|size| size >= CLEARED_AT_ONCE);
        if large && uc.reg_read(Reg::X1) == Ok(0) {
            return finish(uc, End::Clearing);
        }
    }
    let (clean, regions) = uc.get_data().clean;
    if address == clean
        && let (Ok(base), Ok(size)) = (uc.reg_read(Reg::X0), uc.reg_read(Reg::X1))
        && regions.iter().any(|region| region.contains(base, size))
    {
        return finish(uc, End::Cleaning);
    }
    let inner = uc.get_data_mut();
    if address == inner.pure.entry && inner.results.is_some() && !std::mem::take(&mut inner.unknown) {
        return finish(uc, End::Computing);
    }
    if std::mem::take(&mut inner.inside) {
        // The run goes on inside a basic block, which was counted at its start.
        return;
    }
    let end = if inner.events == inner.stop_at {
        Some(End::Event)
    } else if address == inner.stop {
        Some(End::Stopped)
    } else if inner.events >= inner.limit.saturating_add(inner.computed) {
        // Before the marks: whoever goes on from one by a step that the limit forbids would stay there for ever.
        Some(End::Limit)
    } else if inner.waits.contains(&address) && inner.waits_on() {
        Some(End::Dead)
    } else if inner.marks.contains(&address) {
        Some(End::Mark(address))
    } else {
        None
    };
    if let Some(end) = end {
        return finish(uc, end);
    }
    inner.count(address);
}

impl Inner {
    /// Counts that the core has waited, and tells whether that was too often.
    fn waits_on(&mut self) -> bool {
        self.waited += 1;
        self.waited > WAITS
    }

    fn count(&mut self, address: u64) {
        self.events += 1;
        self.path = (self.path.rotate_left(5) ^ address).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        if let Some(trace) = &mut self.trace {
            trace.push(address);
        }
    }
}
