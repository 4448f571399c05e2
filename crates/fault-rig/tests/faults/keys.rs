//! What nobody but the device may learn.

use boot_crypto::Key;
use fault_rig::{Machine, Register};
use memory_map::Region;
use tests::Maker;

/// The secrets of a die, with their names.
pub(crate) struct Keys(Vec<(&'static str, [u8; 32])>);

impl Keys {
    /// Returns those of a die.
    pub(crate) fn of(maker: &Maker) -> Self {
        let silicon = Key::new(maker.die.silicon_secret);
        let seed = Key::new(maker.die.device_seed);
        let die_secret = boot_crypto::die_secret(&silicon);
        let root = boot_crypto::device_root(&die_secret, &seed);
        let chip = &maker.die.chip_id;
        let key = |key: &Key| *key.expose();
        Self(vec![
            ("silicon secret", maker.die.silicon_secret),
            ("device seed", maker.die.device_seed),
            ("provisioning key", maker.die.provisioning_key),
            ("die secret", key(&die_secret)),
            ("device root", key(&root)),
            ("storage key of the boot slots", key(&maker.boot_key())),
            ("storage key of the system", key(&maker.os_key())),
            ("secret for random numbers", key(&boot_crypto::rng_secret(&root, chip))),
        ])
    }

    /// Says which key went out on a line.
    pub(crate) fn leaked(&self, machine: &Machine) -> Option<String> {
        let devices = machine.devices();
        self.found(&[("on the console", &devices.console), ("on the link", &devices.link)])
    }

    /// Says which key lies in a region of memory.
    pub(crate) fn lies_in(&self, machine: &Machine, region: Region) -> Option<String> {
        let bytes = machine.read(region.base, region.size);
        // Cleared memory, as it nearly always is, needs no search.
        if bytes.iter().all(|byte| *byte == 0) {
            return None;
        }
        self.found(&[("in memory", &bytes)])
    }

    /// Says which key lies in two registers that follow each other.
    pub(crate) fn in_registers(&self, machine: &Machine) -> Option<String> {
        let registers = (0..31).flat_map(|number| machine.register(Register::General(number)).to_le_bytes());
        self.found(&[("in registers", &registers.collect())])
    }

    fn found(&self, places: &[(&str, &Vec<u8>)]) -> Option<String> {
        places.iter().find_map(|(place, bytes)| {
            let (name, _) = self.0.iter().find(|(_, key)| {
                key.windows(16).any(|part| bytes.windows(16).any(|window| window == part))
            })?;
            Some(format!("{name} {place}"))
        })
    }
}
