//! What a stage does with a secret takes as many instructions for every secret:
//! `crates/board-qemu-virt/examples/conformance/constant_time.rs` counts them on the device, in an emulator that counts a
//! cycle for each. stage0 starts it in the place of stage2.
//!
//! What this cannot see: an instruction that takes longer for some operands than for others, and a memory access whose
//! place depends on a secret.

use std::time::Duration;

use emulator::MachineConfig;
use figures::Figure;
use memory_map::qemu_virt::OS_LOAD;
use tests::verdict::numbers;
use tests::{Device, Maker, chance};

const WITHIN: Duration = Duration::from_secs(1200);
/// Random secrets.
const SECRETS: usize = 1000;
/// What has to be as fast for every secret.
const OPERATIONS: [&str; 11] = [
    "derive-key",
    "derive-scalar",
    "fuse-tag",
    "random",
    "expand-aes-key",
    "seal",
    "refuse-tag",
    "compare",
    "public-key",
    "sign",
    "agree",
];

#[test]
fn everything_done_with_a_secret_takes_as_many_instructions_for_each() {
    let mut chance = chance();
    // A scalar below the order of P-256: the first 32 bits are not all ones.
    let mut secrets: Vec<[u8; 32]> = std::iter::repeat_with(|| {
        let mut secret = [0; 32];
        secret.chunks_exact_mut(8).for_each(|chunk| chunk.copy_from_slice(&chance.next().to_le_bytes()));
        secret
    })
    .filter(|secret| secret[..4] != [0xFF; 4])
    .take(SECRETS)
    .collect();
    // What random ones hardly ever are: short scalars, the largest, and what differs from the program's guess at its end
    // only. What equals it is accepted, and that is no secret.
    let short = |last| std::array::from_fn(|at| if at == 31 { last } else { 0 });
    secrets.extend([short(1), short(2), short(255), [0x80; 32]]);
    let mut largest = ORDER;
    largest[31] -= 1;
    let mut guessed = [0x5A; 32];
    guessed[31] ^= 1;
    secrets.extend([largest, guessed]);

    let mut memory = (secrets.len() as u32).to_le_bytes().to_vec();
    memory.extend(secrets.iter().flatten());
    let maker = Maker::development();
    let device = Device::running(&maker, "conformance-constant-time").loaded(OS_LOAD, &memory);
    // The cycles of all cores are counted as one, and a core that waits wakes now and then.
    let machine = |config: MachineConfig| config.icount(0).cores(1).lifetime(Some(2 * WITHIN));
    let text = device.machine(machine).run(|machine| {
        machine.console.wait_for_line("TIME done ", 0, WITHIN).unwrap_or_else(|error| panic!("{error}"));
        machine.wait_power_off(WITHIN).unwrap();
        machine.console.text()
    });
    assert!(text.contains(&format!("TIME done {}\r\n", secrets.len())), "{text}");

    let mut violations = Vec::new();
    let mut counts = Vec::new();
    for operation in OPERATIONS {
        // The least, the most, and whose these are.
        let [least, most, of, other] = numbers(&text, &format!("TIME {operation} "));
        assert!(least > 50, "{operation} took {least} instructions\n{text}");
        counts.push(format!("{operation} {least}"));
        if least != most {
            violations.push(format!(
                "{operation}: {least} instructions with {:02x?}, {most} with {:02x?}",
                secrets[of as usize], secrets[other as usize]
            ));
        }
    }
    let [least, most, _, _] = numbers(&text, "TIME control ");
    assert!(
        most > least,
        "the control took {least} instructions for every secret: nothing is counted\n{text}"
    );
    Figure::new("constant time", "secrets", SECRETS as u64)
        .ran(secrets.len() as u64)
        .violations(&violations)
        .note(format!("instructions for each: {}; the control {least} to {most}", counts.join(", ")))
        .report();
}

/// The order of P-256 (SEC 2, section 2.4.2).
const ORDER: [u8; 32] = [
    0xFF, 0xFF, 0xFF, 0xFF, 0x00, 0x00, 0x00, 0x00, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xBC,
    0xE6, 0xFA, 0xAD, 0xA7, 0x17, 0x9E, 0x84, 0xF3, 0xB9, 0xCA, 0xC2, 0xFC, 0x63, 0x25, 0x51,
];
