//! The emulated core that a stage runs on, stopped, saved and set back at will.
//!
//! Events are what the rig counts time by: entries of basic blocks. Nothing depends on the host's clock: the counter of
//! the device moves by a constant with each reading.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use memory_map::Region;
use unicorn_engine::unicorn_const::{Arch, HookType, MemType, Mode, Prot, uc_error};
use unicorn_engine::{Arm64CpuModel, Arm64Insn, Context, RegisterARM64 as Reg, RegisterARM64CP, Unicorn};

use crate::device::Devices;
use crate::register::Register;
use crate::virtio::Dma;

const PAGE: u64 = 4096;
/// What may be done with RAM that no run without a fault writes.
const GUARDED: Prot = Prot(Prot::READ.0 | Prot::EXEC.0);
/// The least number of bytes that are cleared at once.
const CLEARED_AT_ONCE: u64 = 4096;
/// The most events that the pure function takes.
const COMPUTATION: u64 = 600_000;
/// The most runs of it whose events are not counted: two signatures, of two slots, looked at twice.
const COMPUTATIONS: u64 = 8;
/// What `CNTFRQ_EL0` reads.
const COUNTER_HZ: u64 = memory_map::qemu_virt::COUNTER_HZ;
/// EL3 on its own stack, every interrupt masked: the state of a core at reset.
const EL3H_MASKED: u64 = 0x3CD;
/// How far the counter moves with each reading.
const TICK: u64 = 1000;

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
    /// It is about to clean the cache of the region for which that is not done.
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
    /// what the run without a fault writes, that is done at once instead of by its many stores.
    pub clear: (u64, Region),
    /// A function that cleans the cache, which this core does not have. Whenever it is called for just this region, nothing is
    /// done, instead of its many steps.
    pub clean: (u64, Region),
    /// A function whose result depends on nothing but what its arguments point to.
    pub pure: Pure,
}

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

/// What hooks see.
struct Inner {
    devices: Devices,
    events: u64,
    stop_at: u64,
    limit: u64,
    path: u64,
    stop: u64,
    clear: (u64, Region),
    clean: (u64, Region),
    pure: Pure,
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

/// Memory that no run without a fault writes, and that one with a fault wrote.
struct Stray {
    region: Region,
    was: Vec<u8>,
    /// Guarded before, and not any more.
    opened: bool,
}

/// A core with memory and devices.
pub struct Machine {
    uc: Unicorn<'static, Inner>,
    /// RAM whose contents are saved and set back.
    kept: Vec<Region>,
    scratch: Vec<u8>,
}

/// A machine as it was.
pub struct Snapshot {
    context: Context,
    memory: Vec<(u64, Vec<u8>)>,
    devices: Devices,
    events: u64,
    counter: u64,
    path: u64,
    inside: bool,
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
        Self { uc, kept: Vec::new(), scratch: Vec::new() }
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

    /// Notes which pages of `ram` are written from now on; ends with [`Machine::written`].
    pub fn note_writes(&mut self, ram: &[Region]) {
        self.uc.get_data_mut().noting = true;
        self.keep(ram, &[]);
    }

    /// Returns the regions whose pages were written.
    pub fn written(&self) -> Vec<Region> {
        let strays = self.uc.get_data().strays.iter().map(|stray| stray.region);
        let mut pages: Vec<u64> =
            strays.flat_map(|region| region.base / PAGE..=(region.end() - 1) / PAGE).collect();
        pages.sort_unstable();
        pages.dedup();
        let mut regions: Vec<Region> = Vec::new();
        for page in pages {
            match regions.last_mut() {
                Some(last) if last.end() == page * PAGE => last.size += PAGE,
                _ => regions.push(Region::new(page * PAGE, PAGE)),
            }
        }
        regions
    }

    /// Says which parts of `ram` are written in a run without a fault: those are saved and set back. The others may not
    /// be written from now on, until a fault does: then they are saved and set back as well.
    pub fn keep(&mut self, ram: &[Region], written: &[Region]) {
        self.kept = written.to_vec();
        for region in ram {
            let mut at = region.base;
            let end = Region::new(region.end(), 0);
            for kept in written.iter().filter(|kept| region.contains(kept.base, kept.size)).chain([&end]) {
                if at < kept.base {
                    let guarded = Region::new(at, kept.base - at);
                    self.uc.mem_protect(at, guarded.size, GUARDED).expect("it can be guarded");
                    self.uc.get_data_mut().guarded.push(guarded);
                }
                at = kept.end();
            }
        }
        // Not opened here: the store that is under way would be lost. The run ends before it, and is taken up again.
        let stray = |uc: &mut Unicorn<'_, Inner>, _: MemType, address: u64, size: usize, _: i64| {
            uc.get_data_mut().stray = Some((address, address + size as u64 - 1));
            false
        };
        for region in ram {
            let (first, last) = (region.base, region.end() - 1);
            self.uc.add_mem_hook(HookType::MEM_WRITE_PROT, first, last, stray).expect("a hook");
        }
    }

    /// Saves the machine.
    pub fn save(&self) -> Snapshot {
        let inner = self.uc.get_data();
        Snapshot {
            context: self.uc.context_init().expect("a context"),
            memory: self.kept.iter().map(|kept| (kept.base, self.read(kept.base, kept.size))).collect(),
            devices: inner.devices.clone(),
            events: inner.events,
            counter: inner.counter,
            path: inner.path,
            inside: inner.inside,
        }
    }

    /// Sets the machine back.
    pub fn restore(&mut self, snapshot: &Snapshot) {
        self.uc.context_restore(&snapshot.context).expect("a context of this engine");
        for (base, bytes) in &snapshot.memory {
            self.uc.mem_write(*base, bytes).expect("memory can be written");
        }
        let strays = std::mem::take(&mut self.uc.get_data_mut().strays);
        for Stray { region, was, opened } in strays.into_iter().rev() {
            self.uc.mem_write(region.base, &was).expect("memory can be written");
            if opened {
                self.uc.mem_protect(region.base, region.size, GUARDED).expect("it can be guarded");
                self.uc.get_data_mut().guarded.push(region);
            }
        }
        let inner = self.uc.get_data_mut();
        inner.devices.clone_from(&snapshot.devices);
        inner.events = snapshot.events;
        inner.counter = snapshot.counter;
        inner.path = snapshot.path;
        inner.inside = snapshot.inside;
        inner.computed = 0;
        inner.end = None;
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

    /// Returns what is in the RAM that is saved and set back, but for a part.
    pub fn kept(&self, without: Region) -> Vec<(u64, Vec<u8>)> {
        let parts = self.kept.iter().flat_map(|kept| around(*kept, without));
        parts.map(|part| (part.base, self.read(part.base, part.size))).collect()
    }

    /// Tells whether the same is in it, and nothing was written elsewhere.
    pub fn keeps(&mut self, memory: &[(u64, Vec<u8>)]) -> bool {
        let mut scratch = std::mem::take(&mut self.scratch);
        let strays = self.uc.get_data().strays.iter().map(|stray| (stray.region.base, &stray.was));
        let same = memory.iter().map(|(base, bytes)| (*base, bytes)).chain(strays).all(|(base, bytes)| {
            scratch.resize(bytes.len(), 0);
            self.uc.mem_read(base, &mut scratch).expect("memory can be read");
            scratch == *bytes
        });
        self.scratch = scratch;
        same
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

    /// Does what the function that clears memory does.
    fn clear(&mut self) {
        let wanted = Region::new(self.register(Register::General(0)), self.register(Register::General(2)));
        let (_, region) = self.uc.get_data().clear;
        if wanted != region {
            if self.kept.iter().any(|kept| kept.contains(wanted.base, wanted.size)) {
                self.write(wanted.base, &vec![0; wanted.size as usize]);
                self.set_pc(self.register(Register::General(30)));
            } else {
                self.uc.get_data_mut().uncleared = true;
            }
            self.uc.get_data_mut().end = None;
            return;
        }
        let kept: Vec<Region> = if self.kept.is_empty() {
            vec![region]
        } else {
            let strays = self.uc.get_data().strays.iter().map(|stray| stray.region);
            self.kept.iter().copied().chain(strays).filter_map(|kept| common(kept, region)).collect()
        };
        for part in kept {
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
    fn compute(&mut self) {
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

    /// Goes on behind an access to the interrupt controller's core interface (`ICC_*`), which this engine's core does not have: what is
    /// written there goes nowhere, and it reads as zero. False if the core stands at something else.
    fn passes_interrupt_interface(&mut self) -> bool {
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
    fn take_exception(&mut self, error: uc_error) {
        assert!(!matches!(error, uc_error::NOMEM | uc_error::HANDLE | uc_error::RESOURCE), "{error:?}");
        const CURRENT_LEVEL_SYNCHRONOUS: u64 = 0x200;
        let vectors = self.uc.reg_read(Reg::VBAR_EL3).expect("it can be read");
        let pc = self.pc();
        self.uc.reg_write(Reg::ELR_EL3, pc).expect("it can be written");
        self.uc.reg_write(Reg::PSTATE, EL3H_MASKED).expect("it can be written");
        self.set_pc(vectors + CURRENT_LEVEL_SYNCHRONOUS);
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

/// Opens the part of a guarded region that an address lies in for writing, and saves what is in it.
fn open(uc: &mut Unicorn<'_, Inner>, guarded: usize, address: u64) {
    const AT_ONCE: u64 = 1 << 16;
    let inner = uc.get_data_mut();
    let at_once = if inner.noting { PAGE } else { AT_ONCE };
    let whole = inner.guarded.swap_remove(guarded);
    let start = address / at_once * at_once;
    let part = common(whole, Region::new(start, at_once)).expect("the address lies in both");
    let rest = around(whole, part);
    uc.get_data_mut().guarded.extend(rest);
    uc.mem_protect(part.base, part.size, Prot::ALL).expect("it can be opened");
    let bytes = uc.mem_read_as_vec(part.base, part.size as usize).expect("memory can be read");
    uc.get_data_mut().strays.push(Stray { region: part, was: bytes, opened: true });
}

/// Returns what two regions have in common.
fn common(a: Region, b: Region) -> Option<Region> {
    let (base, end) = (a.base.max(b.base), a.end().min(b.end()));
    (base < end).then(|| Region::new(base, end - base))
}

/// Returns what is left of a region around another one.
fn around(region: Region, without: Region) -> impl Iterator<Item = Region> {
    let parts =
        [(region.base, region.end().min(without.base)), (region.base.max(without.end()), region.end())];
    parts.into_iter().filter(|(from, to)| from < to).map(|(from, to)| Region::new(from, to - from))
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
    let (clean, region) = uc.get_data().clean;
    if address == clean {
        let wanted = [(Reg::X0, region.base), (Reg::X1, region.size)];
        if wanted.iter().all(|(register, value)| uc.reg_read(*register) == Ok(*value)) {
            return finish(uc, End::Cleaning);
        }
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

/// The memory, for devices.
struct Bus<'a, 'b>(&'a mut Unicorn<'b, Inner>);

impl Dma for Bus<'_, '_> {
    fn read(&self, address: u64, into: &mut [u8]) -> bool {
        self.0.mem_read(address, into).is_ok()
    }

    fn write(&mut self, address: u64, bytes: &[u8]) {
        let region = Region::new(address, bytes.len() as u64);
        let Ok(was) = self.0.mem_read_as_vec(address, bytes.len()) else { return };
        let inner = self.0.get_data_mut();
        if inner.guarded.iter().any(|guarded| guarded.overlaps(&region)) {
            inner.strays.push(Stray { region, was, opened: false });
        }
        self.0.mem_write(address, bytes).expect("memory that can be read can be written");
    }
}

impl Inner {
    fn count(&mut self, address: u64) {
        self.events += 1;
        self.path = (self.path.rotate_left(5) ^ address).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        if let Some(trace) = &mut self.trace {
            trace.push(address);
        }
    }
}

/// Answers the reads of system registers that are the clock.
fn read_register(uc: &mut Unicorn<'_, Inner>, into: Reg, register: &RegisterARM64CP) -> bool {
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
