//! Measures what re-keying cannot be faster than on this board: the same bytes through the same disk, flash, secure RAM,
//! cores and cryptography, and nothing else: no images, no signatures, no journal, no protocol.
//!
//! `cargo xtask bench provisioning` tells it how much, in the first sector of the package region, and reads the line that it
//! prints. It writes to the device that it runs on, and makes it useless.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
extern crate alloc;

#[cfg(target_os = "none")]
#[path = "conformance/checks.rs"]
#[allow(dead_code, reason = "the conformance programs use the rest of it")]
mod checks;

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this runs on a device: `cargo xtask bench provisioning` builds and starts it");
}

#[cfg(target_os = "none")]
mod program {
    use alloc::vec;
    use alloc::vec::Vec;

    use board_qemu_virt::{Counter, power_pins, provision, ram};
    use boot_crypto::{Digest, GcmKey, Key};
    use drivers::otp::Rules;
    use hal::{Clock as _, Cores, DmaDevices as _, Storage, StorageMut};
    use lifecycle::burn;
    use memory_map::Region;
    use memory_map::qemu_virt as map;
    use spin::Mutex;

    use crate::checks::{Checks, fatal};

    el3::tables!(ram::level1(), provision::level2());
    el3::entry!(main, fatal);

    const RULES: Rules = Rules { locked: burn::is_locked, hidden: burn::is_hidden };
    /// What the order of the host begins with.
    const MAGIC: u64 = u64::from_le_bytes(*b"KILNLIM1");
    /// Where the sealed source lies: behind the order.
    const SOURCE: Region = map::PACKAGE.part(map::FLASH_BLOCK, map::PACKAGE.size - map::FLASH_BLOCK);
    /// Most bytes that are in memory at a time, for each copy.
    const ROOM: usize = 1024 * 1024;

    /// What is to be converted.
    struct Order {
        /// Bytes of a chunk.
        chunk: usize,
        /// Bytes that go from the disk to both OS slots.
        os: u64,
        /// Bytes that go from the disk to two places in flash, one after the other.
        flash: u64,
    }

    impl Order {
        fn parse(sector: &[u8; 512]) -> Option<Self> {
            let word = |n: usize| sector.get(n * 8..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
            let chunk = word(1).filter(|chunk| (1..=ROOM as u64).contains(chunk))? as usize;
            let order = Self { chunk, os: word(2)?, flash: word(3)? };
            let fits = order.os.max(order.flash) <= SOURCE.size
                && order.os <= map::OS_SLOT_A.size
                && order.flash <= map::BOOT_SLOT_A.size;
            (word(0)? == MAGIC && fits).then_some(order)
        }
    }

    /// Ticks that each kind of work took.
    #[derive(Default)]
    struct Ticks {
        read: u64,
        convert: u64,
        write: u64,
        read_again: u64,
        verify: u64,
    }

    fn timed<T>(ticks: &mut u64, work: impl FnOnce() -> T) -> T {
        let begun = Counter.now();
        let result = work();
        *ticks += Counter.now() - begun;
        result
    }

    fn main(_: u64) -> ! {
        let Some(mut board) = provision::Board::take(RULES) else { fatal(0) };
        board.devices.start();
        let mut console = Checks::new(board.console);
        let cores = board.cores.count();
        match board.devices.disk().and_then(|disk| measure(disk, &mut board.flash, &mut board.cores)) {
            Some((bytes, ticks)) => {
                let us = |ticks: u64| ticks * 1_000_000 / Counter.hz();
                let Ticks { read, convert, write, read_again, verify } = ticks;
                console.say(format_args!(
                    "LIMIT cores={cores} bytes={bytes} read_us={} convert_us={} write_us={} read_again_us={} \
                     verify_us={}",
                    us(read),
                    us(convert),
                    us(write),
                    us(read_again),
                    us(verify),
                ));
            }
            None => console.say(format_args!("LIMIT failed")),
        }
        board.devices.stop();
        power_pins().power_off()
    }

    /// Converts what the host ordered, and reads it back. Returns how many bytes were written, and what took how long.
    fn measure(
        disk: &mut impl StorageMut,
        flash: &mut impl StorageMut,
        cores: &mut impl Cores,
    ) -> Option<(u64, Ticks)> {
        let mut sector = [0; 512];
        disk.read(map::PACKAGE.base, &mut sector).ok()?;
        let order = Order::parse(&sector)?;
        let [source, first, second, third, fourth] = [1, 2, 3, 4, 5].map(|n| GcmKey::new(&Key::new([n; 32])));
        let sealed = prepare(disk, &source, &order)?;

        let mut ticks = Ticks::default();
        let job = |len| Job { chunk: order.chunk, len, source: &source, sealed: &sealed };
        let (os, stage) = (job(order.os), job(order.flash));
        let [slot_a, slot_b] =
            os.convert(disk, &mut ticks, cores, [&first, &second], |disk, offset, copies: [&[u8]; 2]| {
                disk.write(map::OS_SLOT_A.base + offset, copies[0]).ok()?;
                disk.write(map::OS_SLOT_B.base + offset, copies[1]).ok()
            })?;
        let mut staged = Vec::new();
        for (region, key) in [(map::BOOT_STAGING, &third), (map::BOOT_SLOT_A, &fourth)] {
            timed(&mut ticks.write, || flash.erase(region.base, region.size)).ok()?;
            let [copy] = stage.convert(disk, &mut ticks, cores, [key], |_, offset, copies: [&[u8]; 1]| {
                flash.write(region.base + offset, copies[0]).ok()
            })?;
            staged.push((region, key, copy));
        }
        timed(&mut ticks.write, || disk.flush()).ok()?;

        os.verify(disk, &mut ticks, cores, map::OS_SLOT_A, &first, &slot_a)?;
        os.verify(disk, &mut ticks, cores, map::OS_SLOT_B, &second, &slot_b)?;
        for (region, key, copy) in &staged {
            stage.verify(flash, &mut ticks, cores, *region, key, copy)?;
        }
        Some((2 * (order.os + order.flash), ticks))
    }

    /// A chunk as it is known before it is opened.
    #[derive(Clone, Copy, Default)]
    struct Sealed {
        tag: [u8; 16],
        digest: Digest,
    }

    fn nonce(index: usize) -> [u8; 12] {
        let mut nonce = [0; 12];
        nonce.iter_mut().zip(index.to_le_bytes()).for_each(|(to, from)| *to = from);
        nonce
    }

    /// Data that is authenticated with each chunk: as long as that of a sealed image.
    const AAD: [u8; 40] = [0x5A; 40];

    /// Writes the source, which is not measured.
    fn prepare(disk: &mut impl StorageMut, key: &GcmKey, order: &Order) -> Option<Vec<Sealed>> {
        let mut buffer = vec![0; order.chunk];
        let (mut sealed, mut at) = (Vec::new(), 0);
        while at < order.os.max(order.flash) {
            let pattern = (at..).map(|n| (n.wrapping_mul(0x9E37_79B9) >> 13) as u8);
            buffer.iter_mut().zip(pattern).for_each(|(byte, value)| *byte = value);
            let digest = boot_crypto::sha256(&buffer);
            let tag = key.seal(&nonce(sealed.len()), &AAD, &mut buffer)?;
            disk.write(SOURCE.base + at, &buffer).ok()?;
            sealed.push(Sealed { tag, digest });
            at += order.chunk as u64;
        }
        disk.flush().ok()?;
        Some(sealed)
    }

    /// Hands out jobs to all cores; `None` if one fails.
    fn share<J: Send>(
        cores: &mut impl Cores,
        jobs: Vec<J>,
        work: impl Fn(J) -> Option<()> + Sync,
    ) -> Option<()> {
        let jobs = Mutex::new(jobs.into_iter());
        let outcome = Mutex::new(Some(()));
        cores.run(&|_| {
            loop {
                let Some(job) = jobs.lock().next() else { break };
                if work(job).is_none() {
                    *outcome.lock() = None;
                }
            }
        });
        outcome.into_inner()
    }

    /// One payload.
    struct Job<'a> {
        chunk: usize,
        len: u64,
        source: &'a GcmKey,
        sealed: &'a [Sealed],
    }

    impl Job<'_> {
        /// Lists what is in memory at a time: where it starts, its length in whole chunks, its first chunk.
        fn parts(&self) -> impl Iterator<Item = (u64, usize, usize)> {
            let (chunk, room) = (self.chunk, ROOM / self.chunk * self.chunk);
            let len = self.len.next_multiple_of(chunk as u64);
            (0..len).step_by(room).map(move |at| (at, room.min((len - at) as usize), at as usize / chunk))
        }

        /// Opens every chunk once and seals it for each of `N` copies, which `write` takes. Returns their tags.
        fn convert<D: Storage, C: Cores, const N: usize>(
            &self,
            disk: &mut D,
            ticks: &mut Ticks,
            cores: &mut C,
            keys: [&GcmKey; N],
            mut write: impl FnMut(&mut D, u64, [&[u8]; N]) -> Option<()>,
        ) -> Option<[Vec<Sealed>; N]> {
            let mut tables = [(); N].map(|()| self.sealed.to_vec());
            let mut buffers = [(); N].map(|()| vec![0; ROOM]);
            for (at, len, first) in self.parts() {
                timed(&mut ticks.read, || disk.read(SOURCE.base + at, &mut buffers[0][..len])).ok()?;
                let mut jobs: Vec<_> =
                    (first..first + len / self.chunk).map(|index| (index, Vec::with_capacity(N))).collect();
                for ((buffer, table), key) in buffers.iter_mut().zip(&mut tables).zip(keys) {
                    let pieces = buffer[..len].chunks_mut(self.chunk).zip(&mut table[first..]);
                    jobs.iter_mut().zip(pieces).for_each(|((_, copies), (piece, entry))| {
                        copies.push((piece, entry, key));
                    });
                }
                timed(&mut ticks.convert, || {
                    share(cores, jobs, |(index, mut copies)| {
                        let (plain, others) = copies.split_first_mut()?;
                        let known = self.sealed.get(index)?;
                        let mut found = [0; 32];
                        self.source
                            .open_and_digest(&nonce(index), &AAD, plain.0, &known.tag, &mut found)
                            .ok()?;
                        (found == known.digest).then_some(())?;
                        for (copy, entry, key) in others {
                            copy.copy_from_slice(plain.0);
                            entry.tag = key.seal(&nonce(index), &AAD, copy)?;
                        }
                        plain.1.tag = plain.2.seal(&nonce(index), &AAD, plain.0)?;
                        Some(())
                    })
                })?;
                let copies = buffers.each_ref().map(|buffer| &buffer[..len]);
                timed(&mut ticks.write, || write(disk, at, copies))?;
            }
            Some(tables)
        }

        /// Reads a copy back and opens every chunk.
        fn verify(
            &self,
            storage: &mut impl Storage,
            ticks: &mut Ticks,
            cores: &mut impl Cores,
            place: Region,
            key: &GcmKey,
            copy: &[Sealed],
        ) -> Option<()> {
            let mut buffer = vec![0; ROOM];
            for (at, len, first) in self.parts() {
                let read = &mut buffer[..len];
                timed(&mut ticks.read_again, || storage.read(place.base + at, read)).ok()?;
                let jobs: Vec<_> = read.chunks_mut(self.chunk).zip(first..).collect();
                timed(&mut ticks.verify, || {
                    share(cores, jobs, |(piece, index)| {
                        let known = copy.get(index)?;
                        let mut found = [0; 32];
                        key.open_and_digest(&nonce(index), &AAD, piece, &known.tag, &mut found).ok()?;
                        (found == known.digest).then_some(())
                    })
                })?;
            }
            Some(())
        }
    }
}
