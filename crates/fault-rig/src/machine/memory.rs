//! The memory of the emulated core: what a run writes of it is saved and set back.

use memory_map::Region;
use unicorn_engine::unicorn_const::{HookType, MemType, Prot};
use unicorn_engine::{Context, Unicorn};

use super::{Inner, Machine};
use crate::device::Devices;
use crate::virtio::Dma;

const PAGE: u64 = 4096;
/// What may be done with RAM that no run without a fault writes.
const GUARDED: Prot = Prot(Prot::READ.0 | Prot::EXEC.0);

/// How much memory that was opened stays open, in bytes: guarding it again costs more than setting it back.
const LEFT_OPEN: u64 = 1 << 20;

/// Memory that no run without a fault writes, and that one with a fault wrote.
pub(super) struct Stray {
    pub(super) region: Region,
    was: Vec<u8>,
    /// Guarded before, and not any more.
    opened: bool,
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
        self.blank.clear();
        for region in ram {
            let mut at = region.base;
            let end = Region::new(region.end(), 0);
            for kept in written.iter().filter(|kept| region.contains(kept.base, kept.size)).chain([&end]) {
                if at < kept.base {
                    let guarded = Region::new(at, kept.base - at);
                    self.uc.mem_protect(at, guarded.size, GUARDED).expect("it can be guarded");
                    self.uc.get_data_mut().guarded.push(guarded);
                    if self.is_blank(guarded) {
                        self.blank.push(guarded);
                    }
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
        self.take_back();
        for (base, bytes) in &snapshot.memory {
            self.uc.mem_write(*base, bytes).expect("memory can be written");
        }
        let strays = std::mem::take(&mut self.uc.get_data_mut().strays);
        for Stray { region, was, .. } in strays.iter().rev() {
            self.uc.mem_write(region.base, was).expect("memory can be written");
        }
        for (region, was) in &self.left_open {
            self.uc.mem_write(region.base, was).expect("memory can be written");
        }
        for Stray { region, .. } in strays.into_iter().filter(|stray| stray.opened) {
            let open: u64 = self.left_open.iter().map(|(region, _)| region.size).sum();
            if open + region.size <= LEFT_OPEN {
                self.left_open.push((region, self.read(region.base, region.size)));
            } else {
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
        (inner.computed, inner.waited) = (0, 0);
        inner.end = None;
    }

    fn is_blank(&self, region: Region) -> bool {
        const AT_ONCE: u64 = 1 << 20;
        let mut parts = (region.base..region.end()).step_by(AT_ONCE as usize);
        parts.all(|at| self.read(at, AT_ONCE.min(region.end() - at)).iter().all(|byte| *byte == 0))
    }

    /// Returns the parts of RAM that a run may have changed since the machine was saved.
    pub(super) fn changed(&self) -> impl Iterator<Item = Region> {
        let strays = self.uc.get_data().strays.iter().map(|stray| stray.region);
        let open = self.left_open.iter().map(|(region, _)| *region);
        self.kept.iter().copied().chain(strays).chain(open)
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
        let open = self.left_open.iter().map(|(region, was)| (region.base, was));
        let same = memory.iter().map(|(base, bytes)| (*base, bytes)).chain(strays).chain(open).all(
            |(base, bytes)| {
                scratch.resize(bytes.len(), 0);
                self.uc.mem_read(base, &mut scratch).expect("memory can be read");
                scratch == *bytes
            },
        );
        self.scratch = scratch;
        same
    }
}

/// Opens the part of a guarded region that an address lies in for writing, and saves what is in it.
pub(super) fn open(uc: &mut Unicorn<'_, Inner>, guarded: usize, address: u64) {
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
pub(super) fn common(a: Region, b: Region) -> Option<Region> {
    let (base, end) = (a.base.max(b.base), a.end().min(b.end()));
    (base < end).then(|| Region::new(base, end - base))
}

/// Returns what is left of a region around another one.
fn around(region: Region, without: Region) -> impl Iterator<Item = Region> {
    let parts =
        [(region.base, region.end().min(without.base)), (region.base.max(without.end()), region.end())];
    parts.into_iter().filter(|(from, to)| from < to).map(|(from, to)| Region::new(from, to - from))
}

/// The memory, for devices.
pub(super) struct Bus<'a, 'b>(pub(super) &'a mut Unicorn<'b, Inner>);

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
