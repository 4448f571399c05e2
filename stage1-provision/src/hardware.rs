//! What provisioning may touch.

use hal::{Clock, Coherency, Console, Cores, DmaDevices, Identify, OtpBurn, Receive, StorageMut};

/// The types of a board's parts.
pub trait Hardware {
    /// The secure flash bank: offsets are those of the memory map.
    type Flash: StorageMut + Identify;
    /// The disk and the entropy source.
    type Devices: DmaDevices<Disk: StorageMut>;
    /// The fuses.
    type Otp: OtpBurn;
    /// The station link.
    type Link: Console + Receive;
    /// The console.
    type Console: Console;
    /// The system counter.
    type Clock: Clock;
    /// The data caches.
    type Caches: Coherency;
    /// All cores.
    type Cores: Cores;
}

/// A board's parts, lent for one run.
pub struct Board<'a, H: Hardware> {
    /// The secure flash bank.
    pub flash: &'a mut H::Flash,
    /// The disk and the entropy source.
    pub devices: &'a mut H::Devices,
    /// The fuses.
    pub otp: &'a mut H::Otp,
    /// The station link.
    pub link: &'a mut H::Link,
    /// The console.
    pub console: &'a mut H::Console,
    /// The system counter.
    pub clock: &'a H::Clock,
    /// The data caches.
    pub caches: &'a H::Caches,
    /// All cores.
    pub cores: &'a mut H::Cores,
    /// Bytes of the heap that the self-test marches over: as much as provisioning takes on this board.
    pub working_memory: usize,
}

impl<H: Hardware> Board<'_, H> {
    /// Returns the disk, if one answered.
    pub(crate) fn disk(&mut self) -> Result<&mut <H::Devices as DmaDevices>::Disk, crate::Error> {
        self.devices.disk().ok_or(crate::Error::NoDisk)
    }
}
