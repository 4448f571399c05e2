//! One station, one authority, eight devices at once, and a quota of five.

use std::convert::Infallible;
use std::time::Duration;

use emulator::Machine;
use fail_code::FailCode;
use lifecycle::Lifecycle;
use memory_map::qemu_virt::OTP;
use station::{Authorise, Linked, Patience, Record, Socket, serve_all};
use tests::factory::LOT;
use tests::verdict::{story, text};
use tests::{Die, Factory, expectation};

const DEVICES: usize = 8;
const QUOTA: u32 = 5;
/// Eight emulators share few cores: nothing here is quick.
const PATIENCE: Patience = Patience {
    device: Duration::from_secs(180),
    authority: Duration::from_secs(60),
    last_word: Duration::from_secs(30),
};

/// Powers all dies on at once at one station, until the last of them has its record.
fn provision(dies: &[&Die], way: &dyn Authorise) -> Vec<Record> {
    let machines: Vec<Machine> = dies.iter().map(|die| die.start()).collect();
    let link = |(number, machine): (usize, &Machine)| -> Linked {
        let line = machine.station().unwrap().connect().unwrap();
        (format!("socket-{number}"), Box::new(Socket::new(line).unwrap()))
    };
    let links = machines.iter().enumerate().map(link).collect();
    let records = serve_all(links, way, PATIENCE, &|_, _| (), &|_, _| Ok::<(), Infallible>(()));
    records.into_iter().map(|record| record.unwrap_or_else(|never| match never {})).collect()
}

#[test]
fn of_eight_devices_exactly_five_are_closed_and_three_are_told_why_not() {
    let factory = Factory::new();
    let way = factory.open(QUOTA);
    let dies: Vec<Die> = (0..DEVICES).map(|_| factory.die().machine(|config| config.cores(1))).collect();
    let fuses: Vec<Vec<u8>> = dies.iter().map(|die| die.region(OTP)).collect();
    let records = provision(&dies.iter().collect::<Vec<_>>(), &way);
    assert_eq!(records.len(), DEVICES);
    for (die, record) in dies.iter().zip(&records) {
        assert_eq!(record.chip_id, Some(release::hex(&die.chip_id)), "{record:?}");
    }
    let passed = |record: &&Record| record.result == station::Outcome::Pass;
    assert_eq!(records.iter().filter(passed).count(), QUOTA as usize, "{records:?}");
    assert_eq!(factory.counts(LOT), (QUOTA, QUOTA));

    let mut refused = Vec::new();
    for ((die, record), before) in dies.iter().zip(&records).zip(&fuses) {
        if record.result == station::Outcome::Pass {
            assert_eq!(die.lifecycle(), Lifecycle::Production);
            continue;
        }
        assert_eq!(record.code, Some(text(FailCode::QuotaExhausted)), "{record:?}");
        let cause = record.cause.as_deref().unwrap();
        assert!(cause.starts_with(FailCode::QuotaExhausted.cause()), "{cause}");
        let last = record.steps.last().unwrap();
        assert_eq!((last.name.as_str(), last.end_ms), ("ask", None), "{record:?}");
        assert_eq!(&die.region(OTP), before, "a fuse of a refused device is burned");
        assert_eq!(die.lifecycle(), Lifecycle::Secured);
        refused.push(die);
    }
    assert_eq!(refused.len(), DEVICES - QUOTA as usize);

    // They are as good as new: the owner orders three more.
    factory.authority.set_quota(LOT, DEVICES as u32).unwrap();
    let records = provision(&refused, &way);
    assert!(records.iter().all(|record| record.result == station::Outcome::Pass), "{records:?}");
    assert_eq!(factory.counts(LOT), (DEVICES as u32, DEVICES as u32));
    for die in &dies {
        assert_eq!(die.lifecycle(), Lifecycle::Production);
    }
    let boot = refused[0].start().observe(&expectation()).unwrap();
    assert_eq!(boot.token_matched, Some(true), "{}", story(&boot));
}
