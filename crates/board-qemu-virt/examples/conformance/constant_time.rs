//! Counts the instructions of everything that a stage does with a secret, for secrets that the host has put into the
//! system's memory: 32 bytes each, behind their number as 32 bits, little-endian. It takes a machine that counts one cycle
//! for each instruction.
//!
//! ```text
//! TIME NAME least=N most=N of=SECRET other=SECRET
//! TIME done SECRETS
//! ```
//! `of` and `other` are the places of the secrets that took the least and the most.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
#[path = "checks.rs"]
#[allow(dead_code, reason = "the other conformance programs use the rest of it")]
mod checks;

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this runs on a device: `cargo xtask test` builds and starts it");
}

#[cfg(target_os = "none")]
mod program {
    use core::arch::asm;
    use core::hint::black_box;

    use board_qemu_virt::{power_pins, ram};
    use boot_crypto::{Drbg, EcKey, GcmKey, Key, equal, fuse_tag, labels, sha256, storage_key};

    use crate::checks::{Checks, fatal};

    el3::tables!(ram::level1(), ram::level2());
    el3::entry!(main, fatal);

    /// A public point: the generator of P-256 times two.
    const PEER: [u8; 64] = [
        0x7C, 0xF2, 0x7B, 0x18, 0x8D, 0x03, 0x4F, 0x7E, 0x8A, 0x52, 0x38, 0x03, 0x04, 0xB5, 0x1A, 0xC3, 0xC0,
        0x89, 0x69, 0xE2, 0x77, 0xF2, 0x1B, 0x35, 0xA6, 0x0B, 0x48, 0xFC, 0x47, 0x66, 0x99, 0x78, 0x07, 0x77,
        0x55, 0x10, 0xDB, 0x8E, 0xD0, 0x40, 0x29, 0x3D, 0x9A, 0xC6, 0x9F, 0x74, 0x30, 0xDB, 0xBA, 0x7D, 0xAD,
        0xE6, 0x3C, 0xE9, 0x82, 0x29, 0x9E, 0x04, 0xB7, 0x9D, 0x22, 0x78, 0x73, 0xD1,
    ];
    /// What every comparison compares a secret with: of random ones, one of 256 begins with the same byte.
    const GUESS: [u8; 32] = [0x5A; 32];

    /// What is done with a secret.
    struct Operation {
        name: &'static str,
        run: fn(&Secret) -> u32,
    }

    /// A secret, in the forms in which the stages hold one.
    struct Secret {
        bytes: [u8; 32],
        key: Key,
        gcm: GcmKey,
        scalar: EcKey,
    }

    /// The last one is the control: it is not what a stage does, and takes longer for some secrets than for others.
    const OPERATIONS: [Operation; 12] = [
        Operation {
            name: "derive-key",
            run: |it| first(storage_key(&it.key, labels::STORAGE_OS, b"chip", 1).expose()),
        },
        Operation {
            name: "derive-scalar",
            run: |it| first(&EcKey::derive(&it.key, b"salt", b"label").public()),
        },
        Operation { name: "fuse-tag", run: |it| first(&fuse_tag(7, &it.key)) },
        Operation { name: "random", run: random },
        Operation { name: "expand-aes-key", run: |it| sealed(&GcmKey::new(&it.key), 0) },
        Operation { name: "seal", run: |it| sealed(&it.gcm, 1) },
        Operation { name: "refuse-tag", run: refused },
        Operation { name: "compare", run: |it| u32::from(equal(&it.bytes, &GUESS).accepts()) },
        Operation { name: "public-key", run: |it| first(&it.scalar.public()) },
        Operation { name: "sign", run: |it| first(&it.scalar.sign(&sha256(b"digest"))) },
        Operation { name: "agree", run: |it| it.scalar.agree(&PEER).map_or(0, |key| first(key.expose())) },
        Operation { name: "control", run: |it| leading_ones(&it.bytes) },
    ];

    fn first(bytes: &[u8]) -> u32 {
        u32::from(black_box(bytes)[0])
    }

    fn random(it: &Secret) -> u32 {
        let mut drawn = [0; 32];
        Drbg::new(&it.bytes, b"nonce", b"chip").fill(&mut drawn);
        first(&drawn)
    }

    fn sealed(key: &GcmKey, fill: u8) -> u32 {
        let mut data = [fill; 1000];
        key.seal(&[0; 12], b"associated", &mut data).map_or(0, |tag| first(&tag))
    }

    /// Opens what nobody sealed: where the tag differs first is another place for each key.
    fn refused(it: &Secret) -> u32 {
        let mut data = [0; 1000];
        u32::from(it.gcm.open(&[0; 12], b"associated", &mut data, &[0x5A; 16]).is_err())
    }

    #[inline(never)]
    fn leading_ones(bytes: &[u8; 32]) -> u32 {
        bytes
            .iter()
            .flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1))
            .take_while(|bit| *bit == 1)
            .count() as u32
    }

    /// The least and the most instructions of an operation, each with the place of the secret that took them.
    #[derive(Clone, Copy)]
    struct Range {
        least: (u64, u32),
        most: (u64, u32),
    }

    fn main(_: u64) -> ! {
        let Some(board) = ram::Board::take() else { fatal(0) };
        let mut console = Checks::new(board.console);
        let Some((count, secrets)) = board.os_load.split_first_chunk::<4>() else { fatal(1) };
        let count = u32::from_le_bytes(*count);
        let mut ranges = [Range { least: (u64::MAX, 0), most: (0, 0) }; OPERATIONS.len()];
        count_cycles();
        for (place, bytes) in (0..count).zip(secrets.chunks_exact(32)) {
            let Ok(bytes) = <[u8; 32]>::try_from(bytes) else { fatal(2) };
            let key = Key::new(bytes);
            let Some(scalar) = EcKey::from_scalar(&bytes) else { fatal(3) };
            let secret = Secret { bytes, gcm: GcmKey::new(&key), key, scalar };
            for (operation, range) in OPERATIONS.iter().zip(&mut ranges) {
                let taken = instructions_of(operation.run, &secret);
                range.least = range.least.min((taken, place));
                if taken > range.most.0 {
                    range.most = (taken, place);
                }
            }
        }
        for (Operation { name, .. }, Range { least, most }) in OPERATIONS.iter().zip(&ranges) {
            console.say(format_args!(
                "TIME {name} least={} most={} of={} other={}",
                least.0, most.0, least.1, most.1
            ));
        }
        console.say(format_args!("TIME done {count}"));
        power_pins().power_off()
    }

    #[inline(never)]
    fn instructions_of(run: fn(&Secret) -> u32, secret: &Secret) -> u64 {
        let start = cycles();
        black_box(run(black_box(secret)));
        cycles() - start
    }

    /// Starts the cycle counter (Arm ARM, D13.4): at EL3 too, where this runs.
    fn count_cycles() {
        // SAFETY: The registers are the performance monitors' own, and exist at EL3; nothing else in this program uses them.
        unsafe {
            asm!(
                "mrs {t}, mdcr_el3",
                "orr {t}, {t}, #(1 << 17)", // SPME: count in Secure state.
                "msr mdcr_el3, {t}",
                "msr pmccfiltr_el0, xzr",
                "mov {t}, #(1 << 31)",
                "msr pmcntenset_el0, {t}",
                "mov {t}, #(1 << 6 | 1)", // LC, E: 64 bits, on.
                "msr pmcr_el0, {t}",
                "isb",
                t = out(reg) _,
                options(nomem, nostack),
            );
        }
    }

    fn cycles() -> u64 {
        let count: u64;
        // SAFETY: Reading the cycle counter changes nothing.
        unsafe { asm!("isb", "mrs {count}, pmccntr_el0", "isb", count = out(reg) count, options(nostack)) };
        count
    }
}
