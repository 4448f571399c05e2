//! U-Boot's image trees.

use crate::Verdict::{self, Refused};
use dtoolkit::fdt::Fdt;
use dtoolkit::{Node, Property};
use fit::{Key, System, verify};
use std::sync::LazyLock;

/// A FIT of `mkimage`'s with two signed configurations, the second with PSS and a kernel in gzip.
const FIT: &[u8] = include_bytes!("../testdata/image.itb");
/// The test key that it is signed with; its private half is forgotten.
const CERTIFICATE: &[u8] = include_bytes!("../testdata/image-test.crt");
const CONFIGURATIONS: [&str; 2] = ["conf-1", "conf-2"];

/// The key, and what it signed.
struct Sound {
    key: Key,
    systems: [System; 2],
}

static SOUND: LazyLock<Sound> = LazyLock::new(|| {
    let key = Key::from_pem(CERTIFICATE).expect("a certificate");
    let systems = CONFIGURATIONS.map(|name| verify(FIT, &key, Some(name)).expect("mkimage signed it"));
    Sound { key, systems }
});

/// A FIT: what is taken of it is what was signed, and another library for device trees, which takes a node with a unit
/// address for one without, finds the same data in it. Behind the signature only what `mkimage` signed is reached.
pub(crate) fn fit(data: &[u8]) -> Verdict {
    let mut verdict = Refused;
    for asked in [None, Some(CONFIGURATIONS[0]), Some(CONFIGURATIONS[1])] {
        let Ok(system) = verify(data, &SOUND.key, asked) else { continue };
        assert!(asked.is_none_or(|name| name == system.configuration), "another configuration");
        assert!(SOUND.systems.contains(&system), "nobody signed this");
        let theirs = Fdt::new(data).expect("the second library reads it");
        for image in [Some(&system.kernel), system.device_tree.as_ref(), system.ramdisk.as_ref()] {
            let Some(image) = image else { continue };
            let node = theirs.find_node(&format!("/images/{}", image.name)).expect("it finds the image");
            let stored = node.property("data").expect("it finds the data");
            // The one in gzip is held against the sound one above.
            assert!(stored.value() == image.data || image.name == "kernel-2", "two readers differ");
        }
        verdict = Verdict::Taken;
    }
    verdict
}

/// The FIT as it is, and one whose default is the other configuration: nothing signs that word.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let word = b"conf-1\0";
    let mut other = FIT.to_vec();
    let at = other.windows(word.len()).position(|window| window == word).expect("there is a default");
    other[at + 5] = b'2';
    vec![FIT.to_vec(), other]
}
