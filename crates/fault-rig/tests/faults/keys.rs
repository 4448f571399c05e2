//! What nobody but the device may learn.

use std::collections::HashMap;

use boot_crypto::{Drbg, EcKey, Key};
use fault_rig::{Machine, Register};
use memory_map::Region;
use tests::Maker;
use tests::leak::{Secret, die_key, identity_key, keys_of_die, keys_of_provisioning, keys_of_slot};

/// What is looked for of a secret: any 16 bytes of it that follow each other.
const PART: usize = 16;
/// Memory is searched by so many bytes.
const PAGE: usize = 4096;

/// The secrets of a die, with their names, as they are and with their bytes in the other order: that is how a core holds a number.
pub(crate) struct Keys {
    names: Vec<String>,
    parts: HashMap<[u8; PART], usize>,
}

impl Keys {
    /// Returns those of a die, whatever it boots: what its fuses hold, what follows from them, and the private scalars of
    /// its keys.
    pub(crate) fn of(maker: &Maker) -> Self {
        let (silicon, seed) = (Key::new(maker.die.silicon_secret), Key::new(maker.die.device_seed));
        let root = boot_crypto::device_root(&boot_crypto::die_secret(&silicon), &seed);
        let provisioning = Secret::new("provisioning key", &maker.die.provisioning_key);
        let signing = [provisioning, die_key(&silicon), identity_key(&root, &maker.die.chip_id)];
        Self { names: Vec::new(), parts: HashMap::new() }.and(keys_of_die(maker)).and(signing)
    }

    /// Adds those that the stage with this measurement has on a die that is not closed.
    pub(crate) fn and_of_provisioning(self, maker: &Maker, measurement: &[u8; 32]) -> Self {
        self.and(keys_of_provisioning(&Key::new(maker.die.silicon_secret), measurement))
    }

    /// Adds those of an image that a key wraps: its data key, and the round keys that AES makes of it.
    pub(crate) fn and_of_image(self, image: &[u8], key: &Key) -> Self {
        self.and(keys_of_slot(image, key))
    }

    /// Adds the nonce that the die signs a digest with: whoever has it and the signature has the die key.
    pub(crate) fn and_nonce(self, maker: &Maker, digest: &[u8; 32], signature: &[u8; 64]) -> Self {
        let mut nonce = [0; 32];
        Drbg::new(&die_key(&Key::new(maker.die.silicon_secret)).bytes, digest, &[]).fill(&mut nonce);
        let point = EcKey::from_scalar(&nonce).expect("one in 2^32 is none").public();
        assert_eq!(point[..32], signature[..32], "the signature was made with this nonce");
        self.and([Secret::new("nonce of the statement", &nonce)])
    }

    fn and(mut self, secrets: impl IntoIterator<Item = Secret>) -> Self {
        for Secret { name, mut bytes } in secrets {
            for name in [name.clone(), format!("{name} in the other order")] {
                for part in bytes.windows(PART) {
                    self.parts.insert(part.try_into().expect("so long"), self.names.len());
                }
                self.names.push(name);
                bytes.reverse();
            }
        }
        self
    }

    /// Says which key went out on a line.
    pub(crate) fn leaked(&self, machine: &Machine) -> Option<String> {
        let devices = machine.devices();
        let lines = [("on the console", &devices.console), ("on the link", &devices.link)];
        lines.into_iter().find_map(|(place, said)| self.found(said, place, &[]))
    }

    /// Says which key lies in a region of memory, but for some that may.
    pub(crate) fn lies_in(&self, machine: &Machine, region: Region, but: &[&str]) -> Option<String> {
        self.found(&machine.read(region.base, region.size), "in memory", but)
    }

    /// Says which key lies in registers that follow each other.
    pub(crate) fn in_registers(&self, machine: &Machine) -> Option<String> {
        let registers = (0..31).flat_map(|number| machine.register(Register::General(number)).to_le_bytes());
        let general = self.found(&registers.collect::<Vec<_>>(), "in registers", &[]);
        general.or_else(|| self.found(&machine.vectors(), "in vector registers", &[]))
    }

    fn found(&self, bytes: &[u8], place: &str, but: &[&str]) -> Option<String> {
        let pages = (0..bytes.len()).step_by(PAGE);
        let pages = pages.map(|at| &bytes[at..bytes.len().min(at + PAGE + PART - 1)]);
        // Cleared memory, which is the most of it, needs no search.
        let written = pages.filter(|page| page.iter().any(|byte| *byte != 0));
        written.flat_map(|page| page.windows(PART)).find_map(|part| {
            let name = &self.names[*self.parts.get(part)?];
            (!but.contains(&name.as_str())).then(|| format!("{name} {place}"))
        })
    }
}

#[test]
fn a_key_is_found_in_both_orders_and_half_of_it_too() {
    let maker = Maker::production();
    let measurement = [7; 32];
    let keys = Keys::of(&maker).and_of_provisioning(&maker, &measurement);
    let own = keys_of_provisioning(&Key::new(maker.die.silicon_secret), &measurement);
    let own = own.into_iter().chain(keys_of_die(&maker));
    let mut searched = 0;
    for Secret { name, bytes } in own {
        for (bytes, name) in [
            (bytes.clone(), name.clone()),
            (bytes.iter().rev().copied().collect(), format!("{name} in the other order")),
        ] {
            let memory = [&[0xAA; 5], &bytes[9..25], &[0xAA; 5]].concat();
            // Across the end of a page as well.
            let over = [&vec![0; PAGE - 8], &bytes[9..25]].concat();
            assert_eq!(keys.found(&over, "here", &[]), Some(format!("{name} here")));
            assert_eq!(keys.found(&memory, "here", &[]), Some(format!("{name} here")));
            assert_eq!(keys.found(&memory, "here", &[&name]), None);
            assert_eq!(keys.found(&memory[..20], "here", &[]), None, "less than half of it");
            searched += 1;
        }
    }
    assert_eq!(searched, 2 * (7 + 7));
}
