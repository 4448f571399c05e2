//! QEMU `virt` with TrustZone (`-M virt,secure=on,virtualization=on,gic-version=3`).

use crate::{GIB, KIB, MIB, Region};

/// The board's name in manifests, delegations and reports.
pub const BOARD: &str = "qemu-virt";

/// Highest number of cores that Kiln parks, releases and serves through PSCI.
pub const MAX_CORES: usize = 8;

// --- NOR flash -------------------------------------------------------------------------------------------

/// First flash bank: secure only, executes in place.
pub const FLASH0: Region = Region::new(0, 64 * MIB);
/// Second flash bank: the normal world's, the inbox for updates.
pub const FLASH1: Region = Region::new(64 * MIB, 64 * MIB);
/// Erase block of both banks.
pub const FLASH_BLOCK: u64 = 256 * KIB;
/// Longest buffered program of both banks.
pub const FLASH_WRITE_BUFFER: u64 = 2 * KIB;

/// stage0, in place: the stand-in for a mask ROM. A bigger stage0 fails the build.
pub const STAGE0_ROM: Region = FLASH0.part(0, 64 * KIB);
/// The part of flash0 that stage0 maps executable: one MMU block, which holds nothing but stage0.
pub const STAGE0_EXECUTABLE: Region = FLASH0.part(0, 2 * MIB);
/// Boot slot A, the primary one.
pub const BOOT_SLOT_A: Region = FLASH0.part(2 * MIB, 2 * MIB);
/// Boot slot B, the backup.
pub const BOOT_SLOT_B: Region = FLASH0.part(4 * MIB, 2 * MIB);
/// The provisioning journal.
pub const JOURNAL: Region = FLASH0.part(6 * MIB, MIB);
/// Device state: the three regions that follow.
pub const DEVICE_STATE: Region = FLASH0.part(7 * MIB, MIB);
/// How far closing has come: which install stage0 still proves, and whether the authority has acknowledged it.
pub const CLOSING_STATE: Region = DEVICE_STATE.part(0, FLASH_BLOCK);
/// The device certificate and its chain, once the authority has released them.
pub const CERTIFICATES: Region = DEVICE_STATE.part(FLASH_BLOCK, FLASH_BLOCK);
/// Secret objects (customer keys and certificates), sealed for this device.
pub const SECRETS: Region = DEVICE_STATE.part(2 * FLASH_BLOCK, 2 * FLASH_BLOCK);
/// The second copy of the production stage while provisioning: it moves to boot slot B once the device is closed.
pub const BOOT_STAGING: Region = FLASH0.part(8 * MIB, 2 * MIB);
/// The OTP bank's stand-in: the last erase block of flash0.
pub const OTP: Region = FLASH0.part(64 * MIB - FLASH_BLOCK, FLASH_BLOCK);
/// The part of the OTP bank that holds fuse words; the vendor's certificate lies behind it.
pub const OTP_WORDS: Region = OTP.part(0, FLASH_BLOCK / 2);
/// The silicon vendor's certificates for the die, which fabrication writes behind the fuse words: the die's own, then
/// those that issued it. Each is its length as a little-endian `u32`, then its DER; `lifecycle::vendor` reads them.
pub const VENDOR_CERTIFICATE: Region = OTP.part(FLASH_BLOCK / 2, 8 * KIB);

// --- Secure RAM ------------------------------------------------------------------------------------------

/// RAM that the normal world cannot reach.
pub const SECURE_RAM: Region = Region::new(0x0E00_0000, 16 * MIB);
/// Where parked cores wait for their release: one line for each, see the `el3` crate.
pub const PARKING: Region = SECURE_RAM.part(0, 4 * KIB);
/// The secrets that go with the [`BOOT_INFO`]; wiped by the receiver. Below all that stage0 works with: what reads on or copies on
/// past an end, after a fault, goes up and away from them.
pub const HANDOFF_SECRETS: Region = SECURE_RAM.part(4 * KIB, 4 * KIB);
/// stage0's stack, data and working buffers; wiped before stage0 jumps.
pub const STAGE0_RAM: Region = SECURE_RAM.part(64 * KIB, 960 * KIB);
/// The `BootInfo` that a stage hands to the next.
pub const BOOT_INFO: Region = SECURE_RAM.part(MIB, 4 * KIB);
/// Where a stage is decrypted to and runs: code, data and stacks.
pub const STAGE_RUN: Region = SECURE_RAM.part(2 * MIB, 6 * MIB);
/// Where a stage in RAM executes: the first MMU block of where it runs. Its image fits in there.
pub const STAGE_CODE: Region = STAGE_RUN.part(0, 2 * MIB);
/// Heap and buffers of the running stage.
pub const STAGE_WORK: Region = SECURE_RAM.part(8 * MIB, 8 * MIB);

// --- DRAM ------------------------------------------------------------------------------------------------

/// Where DRAM starts. How much there is, QEMU's device tree tells.
pub const DRAM_BASE: u64 = GIB;
/// The least DRAM that Kiln boots with.
pub const DRAM_MIN: u64 = 256 * MIB;
/// The most DRAM that Kiln tells Linux of: more is clamped to this.
pub const DRAM_MAX: u64 = 8 * GIB;
/// Where QEMU puts its own device tree, at most this large.
pub const QEMU_DTB: Region = Region::new(DRAM_BASE, MIB);
/// Virtqueues and bounce buffers while stage2 reads the disk.
pub const DMA_POOL: Region = Region::new(DRAM_BASE + MIB, MIB);
/// Where the operating system's objects may be loaded, given [`DRAM_MIN`]: everything but the first 2 MiB and
/// the last one, which holds [`BOOT_LOG`].
pub const OS_LOAD: Region = Region::new(DRAM_BASE + 2 * MIB, DRAM_MIN - 3 * MIB);
/// The record of this boot, left for the operating system as reserved memory.
pub const BOOT_LOG: Region = Region::new(DRAM_BASE + DRAM_MIN - MIB, 64 * KIB);

/// Load address of the kernel that `cargo xtask` makes images for.
pub const KERNEL_LOAD: u64 = DRAM_BASE + 2 * MIB;
/// Load address of the device tree.
pub const DTB_LOAD: u64 = DRAM_BASE + 128 * MIB;
/// Room for the device tree, additions included.
pub const DTB_ROOM: u64 = MIB;
/// Load address of the initramfs.
pub const INITRAMFS_LOAD: u64 = DRAM_BASE + 130 * MIB;

// --- Devices ---------------------------------------------------------------------------------------------

/// All device registers that EL3 maps.
pub const DEVICES: Region = Region::new(128 * MIB, 64 * MIB);
/// GICv3 distributor.
pub const GICD: Region = Region::new(0x0800_0000, 64 * KIB);
/// GICv3 redistributors: 128 KiB for each core.
pub const GICR: Region = Region::new(0x080A_0000, 0x00F6_0000);
/// Length of one redistributor.
pub const GICR_STRIDE: u64 = 128 * KIB;
/// Console, PL011, both worlds.
pub const UART0: Region = Region::new(0x0900_0000, 4 * KIB);
/// Station link, PL011, secure only.
pub const UART1: Region = Region::new(0x0904_0000, 4 * KIB);
/// Real-time clock, PL031.
pub const RTC: Region = Region::new(0x0901_0000, 4 * KIB);
/// Secure GPIO, PL061: bit 0 powers off, bit 1 resets.
pub const SECURE_GPIO: Region = Region::new(0x090B_0000, 4 * KIB);
/// The virtio-mmio transports.
pub const VIRTIO: Region = Region::new(0x0A00_0000, 0x4000);
/// Length of one virtio-mmio transport.
pub const VIRTIO_STRIDE: u64 = 0x200;
/// Frequency of the system counter in Hz, as QEMU sets `CNTFRQ_EL0`.
pub const COUNTER_HZ: u64 = 62_500_000;

// --- Block device ----------------------------------------------------------------------------------------

/// Smallest block device that holds both OS slots.
pub const DISK_MIN: u64 = 320 * MIB;
/// OS slot A on the block device: byte offsets, not addresses.
pub const OS_SLOT_A: Region = Region::new(MIB, 128 * MIB);
/// OS slot B on the block device.
pub const OS_SLOT_B: Region = Region::new(129 * MIB, 128 * MIB);
/// The provisioning package, as the gang programmer wrote it.
pub const PACKAGE: Region = Region::new(257 * MIB, 63 * MIB);

const _: () = {
    assert!(!STAGE0_EXECUTABLE.overlaps(&BOOT_SLOT_A));
    assert!(!BOOT_SLOT_A.overlaps(&BOOT_SLOT_B));
    assert!(OTP.end() == FLASH0.end());
    assert!(DEVICE_STATE.base == JOURNAL.end() && BOOT_STAGING.base == DEVICE_STATE.end());
    assert!(SECRETS.end() == DEVICE_STATE.end());
    assert!(BOOT_STAGING.size == BOOT_SLOT_B.size);
    assert!(!STAGE0_RAM.overlaps(&BOOT_INFO));
    assert!(PARKING.end() <= HANDOFF_SECRETS.base && HANDOFF_SECRETS.end() <= STAGE0_RAM.base);
    assert!(!BOOT_INFO.overlaps(&STAGE_RUN));
    assert!(STAGE_WORK.end() == SECURE_RAM.end());
    assert!(PACKAGE.end() == DISK_MIN);
    assert!(!OS_LOAD.overlaps(&BOOT_LOG) && !OS_LOAD.overlaps(&DMA_POOL));
};
