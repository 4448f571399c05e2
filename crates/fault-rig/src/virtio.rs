//! Virtio devices behind their memory-mapped transports: a disk and an entropy source, as much of them as a stage uses (OASIS
//! Virtual I/O Device 1.2, sections 2.7, 4.2, 5.2 and 5.4).

use std::sync::Arc;

use memory_map::qemu_virt::{DRAM_BASE, DRAM_MIN, VIRTIO_STRIDE};
use memory_map::{MIB, Region};

/// Memory as a device reaches it. The normal world's alone: what lies elsewhere is left as it is.
pub(crate) trait Dma {
    /// Reads; false where there is no memory.
    fn read(&self, address: u64, into: &mut [u8]) -> bool;
    /// Writes memory that is there.
    fn write(&mut self, address: u64, bytes: &[u8]);
}

/// What devices reach.
const REACH: Region = Region::new(DRAM_BASE, DRAM_MIN);

/// A disk that cannot be written: what lies on it, and at which offset; everything else is zero.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    size: u64,
    written: Vec<(u64, Arc<Vec<u8>>)>,
}

/// Bytes of a sector.
const SECTOR: u64 = 512;

impl Disk {
    /// Makes a disk of so many bytes.
    pub fn new(size: u64, written: Vec<(u64, Vec<u8>)>) -> Self {
        Self { size, written: written.into_iter().map(|(at, bytes)| (at, Arc::new(bytes))).collect() }
    }

    fn read(&self, offset: u64, length: u64) -> Option<Vec<u8>> {
        let wanted = Region::new(0, self.size).contains(offset, length).then_some(offset..offset + length)?;
        let mut bytes = vec![0; length as usize];
        for (at, content) in &self.written {
            let end = at + content.len() as u64;
            let (from, to) = (wanted.start.max(*at), wanted.end.min(end));
            if from < to {
                let part = &content[(from - at) as usize..(to - at) as usize];
                bytes[(from - offset) as usize..(to - offset) as usize].copy_from_slice(part);
            }
        }
        Some(bytes)
    }
}

/// What is behind a transport.
#[derive(Clone, Debug)]
enum Kind {
    Nothing,
    Disk(Disk),
    Entropy,
}

/// A transport with one queue.
#[derive(Clone, Debug)]
struct Transport {
    kind: Kind,
    status: u32,
    features: u32,
    length: u32,
    ready: u32,
    descriptors: u64,
    available: u64,
    used: u64,
    seen: u16,
}

/// `VIRTIO_BLK_T_IN`, and the answers that a request was done or failed.
const READ: u32 = 0;
const DONE: u8 = 0;
const FAILED: u8 = 1;
/// The most descriptors of the queue.
const LONGEST: u32 = 8;
/// The most bytes of one buffer: no driver of Kiln asks for more.
const LARGEST: u64 = 8 * MIB;
/// Flags of a descriptor.
const NEXT: u16 = 1;
const WRITABLE: u16 = 2;

impl Transport {
    fn new(kind: Kind) -> Self {
        let (descriptors, available, used) = (0, 0, 0);
        Self { kind, status: 0, features: 0, length: 0, ready: 0, descriptors, available, used, seen: 0 }
    }

    fn reset(&mut self) {
        let kind = std::mem::replace(&mut self.kind, Kind::Nothing);
        *self = Self::new(kind);
    }

    fn read(&self, register: u64) -> u32 {
        let sectors = match &self.kind {
            Kind::Disk(disk) => disk.size / SECTOR,
            Kind::Nothing | Kind::Entropy => 0,
        };
        match register {
            // "virt", and no legacy device.
            0x000 => 0x7472_6976,
            0x004 => 2,
            0x008 => match self.kind {
                Kind::Nothing => 0,
                Kind::Disk(_) => 2,
                Kind::Entropy => 4,
            },
            // VIRTIO_F_VERSION_1, in the second word.
            0x010 => u32::from(self.features == 1),
            0x034 => LONGEST,
            0x044 => self.ready,
            0x070 => self.status,
            0x100 => sectors as u32,
            0x104 => (sectors >> 32) as u32,
            _ => 0,
        }
    }

    /// Writes a register; true if that tells the device to look at its queue.
    fn write(&mut self, register: u64, value: u32) -> bool {
        let low = |word: &mut u64| *word = *word & !0xFFFF_FFFF | u64::from(value);
        let high = |word: &mut u64| *word = *word & 0xFFFF_FFFF | u64::from(value) << 32;
        match register {
            0x014 => self.features = value,
            0x038 => self.length = value.min(LONGEST),
            0x044 => self.ready = value & 1,
            0x070 if value == 0 => self.reset(),
            0x070 => self.status = value,
            0x080 => low(&mut self.descriptors),
            0x084 => high(&mut self.descriptors),
            0x090 => low(&mut self.available),
            0x094 => high(&mut self.available),
            0x0A0 => low(&mut self.used),
            0x0A4 => high(&mut self.used),
            _ => {}
        }
        register == 0x050 && self.ready == 1 && self.length > 0
    }

    /// Answers what has become available.
    fn serve(&mut self, memory: &mut impl Dma) -> Option<()> {
        let length = self.length as u16;
        let available = u16::from_le_bytes(get(memory, self.available + 2)?);
        while self.seen != available {
            let slot = u64::from(self.seen % length);
            let head = u16::from_le_bytes(get(memory, self.available + 4 + 2 * slot)?);
            let written = self.answer(head, memory)?;
            let used = [u32::from(head).to_le_bytes(), written.to_le_bytes()].concat();
            put(memory, self.used + 4 + 8 * slot, &used);
            self.seen = self.seen.wrapping_add(1);
            put(memory, self.used + 2, &self.seen.to_le_bytes());
        }
        Some(())
    }

    /// Answers the request whose descriptors start with `head`; returns how many bytes were written.
    fn answer(&self, head: u16, memory: &mut impl Dma) -> Option<u32> {
        let (mut given, mut wanted) = (Vec::new(), Vec::new());
        let mut next = Some(head);
        for _ in 0..self.length {
            let Some(number) = next else { break };
            let descriptor: [u8; 16] = get(memory, self.descriptors + 16 * u64::from(number))?;
            let field = |at: usize, length: usize| {
                let bytes = descriptor[at..at + length].iter().rev();
                bytes.fold(0_u64, |value, byte| value << 8 | u64::from(*byte))
            };
            let (address, length, flags) = (field(0, 8), field(8, 4).min(LARGEST), field(12, 2) as u16);
            if flags & WRITABLE == 0 {
                let mut bytes = vec![0; length as usize];
                memory.read(address, &mut bytes).then_some(())?;
                given.extend(bytes);
            } else {
                wanted.push((address, length));
            }
            next = (flags & NEXT != 0).then_some(field(14, 2) as u16);
        }
        let room: u64 = wanted.iter().map(|(_, length)| length).sum();
        let answer = match &self.kind {
            Kind::Nothing => return None,
            Kind::Entropy => (0..room).map(|at| (at as u8).wrapping_mul(0x9D) ^ 0xA5).collect(),
            Kind::Disk(disk) => {
                let header = given.get(..16)?;
                let request = u32::from_le_bytes(header[..4].try_into().ok()?);
                let sector = u64::from_le_bytes(header[8..].try_into().ok()?);
                let content = room.checked_sub(1)?;
                let offset = sector.checked_mul(SECTOR).filter(|_| request == READ);
                match offset.and_then(|offset| disk.read(offset, content)) {
                    Some(mut bytes) => {
                        bytes.push(DONE);
                        bytes
                    }
                    None => {
                        let mut bytes = vec![0; content as usize];
                        bytes.push(FAILED);
                        bytes
                    }
                }
            }
        };
        let mut rest = &answer[..];
        for (address, length) in wanted {
            let (part, after) = rest.split_at(length as usize);
            put(memory, address, part);
            rest = after;
        }
        Some(answer.len() as u32)
    }
}

fn get<const N: usize>(memory: &impl Dma, address: u64) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    memory.read(address, &mut bytes).then_some(bytes)
}

fn put(memory: &mut impl Dma, address: u64, bytes: &[u8]) {
    if REACH.contains(address, bytes.len() as u64) {
        memory.write(address, bytes);
    }
}

/// The transports of the board: a disk behind the first one, and an entropy source behind the second.
#[derive(Clone, Debug)]
pub struct Transports(Vec<Transport>);

impl Transports {
    /// Puts a disk and an entropy source behind transports.
    pub fn new(disk: Disk) -> Self {
        Self(vec![Transport::new(Kind::Disk(disk)), Transport::new(Kind::Entropy)])
    }

    /// Reads a register, by its offset in the transports' region.
    pub(crate) fn read(&self, offset: u64) -> u32 {
        let transport = self.0.get((offset / VIRTIO_STRIDE) as usize);
        let nothing = Transport::new(Kind::Nothing);
        transport.unwrap_or(&nothing).read(offset % VIRTIO_STRIDE)
    }

    /// Writes a register, and returns the transport whose device is to look at its queue, if that is so.
    pub(crate) fn write(&mut self, offset: u64, value: u32) -> Option<usize> {
        let number = (offset / VIRTIO_STRIDE) as usize;
        let transport = self.0.get_mut(number)?;
        transport.write(offset % VIRTIO_STRIDE, value).then_some(number)
    }

    /// Lets the device behind a transport look at its queue. What makes no sense is not answered.
    pub(crate) fn serve(&mut self, number: usize, memory: &mut impl Dma) {
        if let Some(transport) = self.0.get_mut(number) {
            let _answered = transport.serve(memory);
        }
    }
}
