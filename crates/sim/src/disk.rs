//! A block device, and the devices that reach memory by DMA together.

use crate::{Fate, Noise, Operation, Power, Source, Tear};
use hal::{DmaDevices, Entropy as _, ReadError, Storage, StorageMut, WriteError};

const SECTOR: u64 = 512;

/// A block device with a volatile cache.
#[derive(Clone, Debug)]
pub struct Disk {
    /// What a reader sees: everything written.
    seen: Vec<u8>,
    /// Where a sector was written since the last flush, and what is durable there.
    pending: Vec<(usize, [u8; SECTOR as usize])>,
    power: Power,
}

impl Disk {
    /// Makes a disk with this content, whole sectors.
    pub fn new(content: Vec<u8>, power: &Power) -> Self {
        assert!((content.len() as u64).is_multiple_of(SECTOR), "a disk is made of whole sectors");
        Self { seen: content, pending: Vec::new(), power: power.clone() }
    }

    /// Returns the content, after a power cut what is durable.
    pub fn bytes(&self) -> &[u8] {
        &self.seen
    }

    /// Changes the content, for an adversary who has the disk in his hands. What he writes is durable.
    pub fn change(&mut self, change: impl FnOnce(&mut [u8])) {
        change(&mut self.seen);
        self.pending.clear();
    }

    /// Takes another supply, for a copy that is to be independent.
    pub fn connect(&mut self, power: &Power) {
        self.power = power.clone();
    }

    /// After a power cut: loses what the cut has lost of what was not flushed. For a cut that came during an operation of
    /// another part; of its own the disk knows by itself.
    pub fn settle(&mut self) {
        if let Some((tear, mut noise)) = self.power.failed() {
            self.lose(|| noise.came_to(tear));
        }
    }

    /// Power fails while a sector is written: like all that was not flushed it is there or not, or, if its bits are
    /// unstable, only up to some byte.
    fn tear_sector(&mut self, at: usize, sector: &[u8], tear: Tear, mut noise: Noise) {
        let come_to = (noise.next() % SECTOR) as usize;
        self.lose(|| noise.came_to(tear));
        if tear == Tear::Unstable {
            self.seen[at..at + come_to].copy_from_slice(&sector[..come_to]);
        }
    }

    /// Power fails: of what was not flushed, each sector is there or not.
    fn lose(&mut self, mut keep: impl FnMut() -> bool) {
        for (at, durable) in std::mem::take(&mut self.pending).into_iter().rev() {
            if !keep() {
                self.seen[at..at + durable.len()].copy_from_slice(&durable);
            }
        }
    }
}

impl Storage for Disk {
    fn size(&self) -> u64 {
        self.seen.len() as u64
    }

    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), ReadError> {
        let error = ReadError { offset };
        if self.power.is_off() {
            return Err(error);
        }
        let from = self.seen.get(offset as usize..).and_then(|rest| rest.get(..into.len())).ok_or(error)?;
        into.copy_from_slice(from);
        Ok(())
    }
}

impl StorageMut for Disk {
    fn erase_size(&self) -> u64 {
        1
    }

    fn erase(&mut self, offset: u64, len: u64) -> Result<(), WriteError> {
        if offset.saturating_add(len) > self.size() { Err(WriteError { offset }) } else { Ok(()) }
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), WriteError> {
        let error = WriteError { offset };
        let whole = offset.is_multiple_of(SECTOR) && (bytes.len() as u64).is_multiple_of(SECTOR);
        if !whole || offset.saturating_add(bytes.len() as u64) > self.size() {
            return Err(error);
        }
        for (at, sector) in (offset as usize..).step_by(SECTOR as usize).zip(bytes.chunks(SECTOR as usize)) {
            let fate =
                self.power.operation(|| Operation::Sector { offset: at as u64, bytes: sector.to_vec() });
            if fate != Fate::Off {
                let place = &mut self.seen[at..at + sector.len()];
                let mut durable = [0; SECTOR as usize];
                durable.copy_from_slice(place);
                place.copy_from_slice(sector);
                self.pending.push((at, durable));
            }
            match fate {
                Fate::Done => {}
                Fate::Torn(tear, noise) => {
                    self.tear_sector(at, sector, tear, noise);
                    return Err(error);
                }
                Fate::Off => return Err(error),
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), WriteError> {
        let error = WriteError { offset: 0 };
        match self.power.operation(|| Operation::FlushDisk) {
            Fate::Done => {
                self.pending.clear();
                Ok(())
            }
            Fate::Torn(tear, mut noise) => {
                self.lose(|| noise.came_to(tear));
                Err(error)
            }
            Fate::Off => Err(error),
        }
    }
}

/// Disk and entropy source of a device.
#[derive(Debug)]
pub struct Devices {
    /// The disk, if there is one.
    pub disk: Option<Disk>,
    /// The entropy source.
    pub entropy: Source,
    started: bool,
}

impl Devices {
    /// Puts the devices together.
    pub fn new(disk: Option<Disk>, entropy: Source) -> Self {
        Self { disk, entropy, started: false }
    }
}

impl DmaDevices for Devices {
    type Disk = Disk;

    fn start(&mut self) {
        self.started = true;
    }

    fn stop(&mut self) {
        self.started = false;
    }

    fn disk(&mut self) -> Option<&mut Disk> {
        self.disk.as_mut().filter(|_| self.started)
    }

    fn entropy(&mut self, into: &mut [u8]) -> bool {
        self.started && self.entropy.fill(into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_flushed_stays_and_the_rest_may_be_lost_in_any_order() {
        let power = Power::new();
        let mut outcomes = Vec::new();
        for cut in 0..20 {
            power.restore();
            let mut disk = Disk::new(vec![0; 8192], &power);
            disk.write(0, &[1; 512]).unwrap();
            disk.flush().unwrap();
            power.cut_at(2 + cut, Tear::Some);
            let _ = (0..15).try_for_each(|sector| disk.write((sector + 1) * 512, &[2; 512]));
            let _ = disk.flush();
            if power.is_off() {
                assert!(disk.bytes()[..512].iter().all(|byte| *byte == 1));
                outcomes.push(disk.bytes().chunks(512).map(|sector| sector[0] == 2).collect::<Vec<_>>());
            }
        }
        assert!(outcomes.len() > 10);
        assert!(
            outcomes.iter().any(|kept| kept.windows(2).any(|pair| pair == [false, true])),
            "out of order"
        );
    }

    #[test]
    fn devices_that_were_stopped_do_not_answer() {
        let disk = Disk::new(vec![0; 512], &Power::new());
        let mut devices = Devices::new(Some(disk), Source::new(1));
        assert!(devices.disk().is_none() && !devices.entropy(&mut [0; 4]));
        devices.start();
        assert!(devices.disk().is_some() && devices.entropy(&mut [0; 4]));
        devices.stop();
        assert!(devices.disk().is_none() && !devices.entropy(&mut [0; 4]));
    }
}
