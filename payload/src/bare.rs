//! The program: look around, do the task, stop.

mod console;
mod cores;
mod entry;
mod probe;
mod psci;
mod smc;
mod suspend;
mod timer;

use crate::println;
use core::panic::PanicInfo;
use fdt::Fdt;
use memory_map::qemu_virt::MAX_CORES;
use payload::boot_args::{BootArgs, Task};

/// The cores that the device tree offers: the affinity fields of their `MPIDR_EL1`, this one first.
pub(crate) struct Offered {
    affinities: [u64; MAX_CORES],
    count: usize,
}

impl Offered {
    fn read(tree: &Fdt<'_>) -> Self {
        let mut offered = Self { affinities: [0; MAX_CORES], count: 0 };
        for cpu in tree.cpus() {
            let failed = cpu.property("status").and_then(|status| status.as_str()) == Some("fail");
            if let (false, Some(slot)) = (failed, offered.affinities.get_mut(offered.count)) {
                *slot = cpu.ids().first() as u64;
                offered.count += 1;
            }
        }
        offered
    }

    /// Returns all of them.
    pub(crate) fn all(&self) -> &[u64] {
        self.affinities.get(..self.count).unwrap_or_default()
    }

    /// Returns all but the first.
    pub(crate) fn others(&self) -> &[u64] {
        self.all().get(1..).unwrap_or_default()
    }
}

/// Runs on the core that boots, with the address of the device tree.
extern "C" fn payload_main(tree: *const u8) -> ! {
    // SAFETY: the boot protocol for arm64 puts the address of a device tree blob in x0, and nothing writes to it.
    let tree = unsafe { Fdt::from_ptr(tree) }.expect("x0 holds no device tree");
    let offered = Offered::read(&tree);
    let command_line = tree.chosen().bootargs().unwrap_or_default();
    println!("payload: EL{}, {} cores offered, bootargs: {command_line}", entry::current_el(), offered.count);

    let args = BootArgs::parse(command_line);
    match args.task {
        Task::Greet | Task::Stay => {
            println!("KILN-PAYLOAD cpus={} token={}", 1 + cores::visit(offered.others()), args.token)
        }
        Task::Psci | Task::PsciReset => psci::run(&offered),
    }
    match args.task {
        Task::Greet | Task::Psci => smc::system_off(),
        Task::PsciReset => smc::system_reset(),
        Task::Stay => loop {
            core::hint::spin_loop();
        },
    }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    println!("payload: {info}");
    smc::system_off()
}
