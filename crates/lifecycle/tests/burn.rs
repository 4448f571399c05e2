//! The fuse transaction: power that fails at any word and inside it, dies that somebody else has burned, banks that do
//! not do what they are told.

use boot_crypto::Key;
use fail_code::FailCode;
use hal::{BurnError, OtpBurn};
use lifecycle::{
    Closing, Development, Error, Fabrication, Flag, FuseFacts, FusePolicy, Fuses, Lifecycle, Plan,
    PreProvisioning, ROLES, Row, Rows, WORDS, burn, fuse_tag,
};
use sim::{Operation, Otp, Power, Tear};

const ROOT: [u8; 32] = [0xA2; 32];
const MEASUREMENT: [u8; 32] = [0x65; 32];
const SECURED: [u8; ROLES as usize] = [0, 2, 0, 0, 0, 0];
const PRODUCTION: [u8; ROLES as usize] = [3, 2, 40, 0, 0, 0];

fn provisioning_key() -> Key {
    Key::new([0x33; 32])
}

fn seed() -> Key {
    Key::new([0xC4; 32])
}

fn policy() -> FusePolicy {
    FusePolicy {
        root_digest: ROOT,
        provisioning_key_tag: fuse_tag(Row::ProvisioningKey, &provisioning_key()),
        secured_floors: SECURED,
        production_floors: PRODUCTION,
        closing_measurement: MEASUREMENT,
    }
}

fn pre_provisioning() -> Plan {
    let key = &provisioning_key();
    Plan::pre_provisioning(&PreProvisioning { root_digest: ROOT, provisioning_key: key, floors: SECURED })
        .unwrap()
}

fn closing_with(measurement: [u8; 32], seed: &Key, floors: [u8; ROLES as usize]) -> Plan {
    Plan::closing(&Closing { measurement, device_seed: seed, floors }).unwrap()
}

fn closing() -> Plan {
    closing_with(MEASUREMENT, &seed(), PRODUCTION)
}

fn development() -> Plan {
    Plan::development(&Development { root_digest: ROOT, device_seed: &seed(), floors: SECURED }).unwrap()
}

/// A die as the vendor delivers it.
fn blank(power: &Power) -> Otp {
    let mut otp = Otp::new(vec![0; WORDS], power, |otp, index| burn::is_locked(otp, index));
    let die = Fabrication { chip_id: *b"chip id of a die", silicon_secret: &Key::new([0x51; 32]) };
    Plan::fabrication(&die).check(&otp).unwrap().burn(&mut otp).unwrap();
    otp
}

fn burned(mut otp: Otp, plan: Plan) -> Otp {
    plan.check(&otp).unwrap().burn(&mut otp).unwrap();
    otp
}

fn secured(power: &Power) -> Otp {
    burned(blank(power), pre_provisioning())
}

fn closed(power: &Power) -> Otp {
    burned(secured(power), closing())
}

fn burned_bits(otp: &Otp) -> u32 {
    otp.contents().iter().map(|word| word.count_ones()).sum()
}

/// Cuts the burn of a plan at each of its words, in each way, shows what is left to `look`, and burns it again to its
/// end. Returns how many cuts there were.
fn cut_everywhere(start: &Otp, power: &Power, plan: fn() -> Plan, look: impl Fn(&Otp, &str)) -> u32 {
    let whole = burned(start.clone(), plan());
    let mut cuts = 0;
    for tear in Tear::ALL {
        for operation in 0.. {
            power.restore();
            let mut otp = start.clone();
            let checked = plan().check(&otp).unwrap();
            power.restore();
            power.cut_at(operation, tear);
            let outcome = checked.burn(&mut otp);
            if !power.is_off() {
                assert_eq!(outcome, Ok(()));
                break;
            }
            power.restore();
            assert!(matches!(outcome, Err(Error::BurnFailed(BurnError::Failed { .. }))), "{outcome:?}");
            let shown = format!("{tear:?} at word {operation} of the plan");
            look(&otp, &shown);
            // The same plan carries on, from what was read anew.
            let again = plan().check(&otp).unwrap_or_else(|error| panic!("{shown}: {error:?}"));
            again.burn(&mut otp).unwrap_or_else(|error| panic!("{shown}: {error:?}"));
            assert_eq!(otp.contents(), whole.contents(), "{shown}");
            assert_eq!(otp.unstable().count(), 0, "{shown}: a bit that is burned in part");
            cuts += 1;
        }
    }
    power.restore();
    cuts
}

#[test]
fn pre_provisioning_that_is_cut_anywhere_boots_nothing_shows_no_key_and_carries_on() {
    let power = Power::new();
    let cuts = cut_everywhere(&blank(&power), &power, pre_provisioning, |otp, shown| {
        match Fuses::read(otp) {
            Err(Error::LifecycleForbids(Lifecycle::Blank) | Error::LifecycleUnknown(_)) => {}
            // The last bits of the lifecycle are drift already.
            Ok(fuses) => {
                assert_eq!(FuseFacts::read(otp), Ok(policy().secured()), "{shown}");
                assert_eq!(fuses.provisioning_key().unwrap().expose(), &[0x33; 32]);
            }
            Err(error) => panic!("{shown}: {error:?}"),
        }
        let facts_of_lock = Row::DebugLock.words().map(|word| otp.contents()[word]);
        if burn::is_begun(otp, Row::ProvisioningKey) {
            assert_eq!(
                facts_of_lock.collect::<Vec<_>>(),
                [0x31E8_E7A1; 3],
                "{shown}: a key, and debug access"
            );
        }
    });
    assert!(cuts > 4 * 70, "only {cuts} cuts");
    assert_eq!(FuseFacts::read(&secured(&power)), Ok(policy().secured()));
}

#[test]
fn closing_that_is_cut_anywhere_boots_the_stage_that_began_and_carries_on() {
    let power = Power::new();
    let states = std::cell::RefCell::new(Vec::new());
    let cuts = cut_everywhere(&secured(&power), &power, closing, |otp, shown| {
        let fuses = Fuses::read(otp).unwrap_or_else(|error| panic!("{shown}: {error:?}"));
        states.borrow_mut().push(fuses.lifecycle());
        let begun = burn::is_begun(otp, Row::DeviceSeed);
        match fuses.lifecycle() {
            Lifecycle::Secured => {
                assert_eq!(fuses.provisioning_key().unwrap().expose(), &[0x33; 32], "{shown}");
                // From the first bit of the seed on, only the stage that began may boot.
                if begun {
                    assert_eq!(fuses.closing_measurement(), Some(&MEASUREMENT), "{shown}");
                }
                let measurement = fuses.closing_measurement();
                assert!(measurement.is_none_or(|found| *found == MEASUREMENT), "{shown}");
            }
            Lifecycle::Closing => {
                assert_eq!(fuses.provisioning_key().unwrap().expose(), &[0x33; 32], "{shown}");
                assert_eq!(fuses.closing_measurement(), Some(&MEASUREMENT), "{shown}");
                assert_eq!(fuses.device_seed().unwrap().expose(), seed().expose(), "{shown}");
            }
            Lifecycle::Production => {
                assert_eq!(FuseFacts::read(otp), Ok(policy().production()), "{shown}");
                assert_eq!(fuses.device_seed().unwrap().expose(), seed().expose(), "{shown}");
            }
            other => panic!("{shown}: {other:?}"),
        }
        // No floor falls, and that of the stage that has still to boot does not rise.
        for (role, floor) in (1..).zip(SECURED) {
            assert!(fuses.floor(role).unwrap() >= u32::from(floor), "{shown}");
        }
        assert_eq!(fuses.floor(2), Some(2), "{shown}");
    });
    assert!(cuts > 4 * 50, "only {cuts} cuts");
    for state in [Lifecycle::Secured, Lifecycle::Closing, Lifecycle::Production] {
        assert!(states.borrow().contains(&state), "no cut left a die in {state:?}");
    }
    assert_eq!(FuseFacts::read(&closed(&power)), Ok(policy().production()));
}

#[test]
fn a_development_die_that_is_cut_anywhere_boots_nothing_and_carries_on() {
    let power = Power::new();
    let cuts = cut_everywhere(&blank(&power), &power, development, |otp, shown| match Fuses::read(otp) {
        Err(Error::LifecycleForbids(Lifecycle::Blank) | Error::LifecycleUnknown(_)) => {}
        Ok(fuses) => assert_eq!(fuses.lifecycle(), Lifecycle::Development, "{shown}"),
        Err(error) => panic!("{shown}: {error:?}"),
    });
    assert!(cuts > 4 * 50, "only {cuts} cuts");
}

/// Power that fails twice: at any word, and again at each of the words that were left.
#[test]
fn closing_that_is_cut_twice_carries_on() {
    let power = Power::new();
    let start = secured(&power);
    let mut cuts = 0;
    for (first, tear) in (0..60).step_by(3).zip(Tear::ALL.into_iter().cycle()) {
        power.restore();
        let mut once = start.clone();
        let checked = closing().check(&once).unwrap();
        power.restore();
        power.cut_at(first, tear);
        if checked.burn(&mut once).is_ok() {
            break;
        }
        power.restore();
        cuts += cut_everywhere(&once, &power, closing, |otp, shown| {
            assert!(Fuses::read(otp).is_ok(), "{shown} after {tear:?} at {first}");
        });
    }
    assert!(cuts > 2000, "only {cuts} cuts");
}

/// A lock of which one bit is burned in part is set at one look and not at the next. It stands in nobody's way: its row was
/// whole before it was begun.
#[test]
fn a_lock_at_which_power_failed_costs_no_power_on() {
    let power = Power::new();
    let start = secured(&power);
    let mut whole = start.clone();
    power.record();
    closing().check(&start).unwrap().burn(&mut whole).unwrap();
    let locks = Row::ClosingMeasurement.lock_words().chain(Row::DeviceSeed.lock_words());
    let operations = power.recorded();
    let mut doubtful = 0;
    for (lock, tear, seed) in locks
        .flat_map(|lock| [Tear::Weak, Tear::Touched].map(|tear| (lock, tear)))
        .flat_map(|(lock, tear)| (0..4).map(move |seed| (lock, tear, seed)))
    {
        let burns =
            |operation: &Operation| matches!(operation, Operation::Burn { index, .. } if *index == lock);
        let at = operations.iter().position(burns).unwrap();
        let mut otp = start.clone();
        let checked = closing().check(&otp).unwrap();
        power.restore();
        power.cut_with(at as u64, tear, seed);
        assert!(checked.burn(&mut otp).is_err());
        power.restore();
        let row = Row::ALL.iter().find(|row| row.lock_words().contains(&lock)).unwrap().first_word();
        let looks: Vec<bool> = (0..64).map(|_| burn::is_locked(&otp, row)).collect();
        doubtful += u32::from(looks.contains(&true) && looks.contains(&false));
        // As it reads in one boot, and as it reads in others.
        for boot in 0..8 {
            let mut copy = otp.clone();
            (0..boot).for_each(|_| _ = hal::Otp::read(&copy, lock));
            let shown = format!("{tear:?} at word {lock}, seed {seed}, boot {boot}");
            let again = closing().check(&copy).unwrap_or_else(|error| panic!("{shown}: {error:?}"));
            again.burn(&mut copy).unwrap_or_else(|error| panic!("{shown}: {error:?}"));
            assert_eq!(copy.contents(), whole.contents(), "{shown}");
        }
    }
    assert!(doubtful > 4, "only {doubtful} locks read otherwise each time");
}

/// The last word of closing, torn so that the die is closed in one boot and on its way in the next: what runs once it reads
/// as closed burns the word once more. Cut at any word, in any way, that leaves the die no worse.
#[test]
fn a_die_that_is_closed_in_one_boot_and_not_in_the_next_is_closed_for_good() {
    let states = |otp: &Otp| (0..64).map(|_| Fuses::read_lifecycle(otp)).collect::<Vec<_>>();
    let word = Row::Lifecycle.words().end - 1;
    let mut start = closed(&Power::new());
    start.contents_mut()[word] = Lifecycle::Secured.codeword();
    let (mut found, mut cuts) = (0, 0);
    for seed in 0..4000 {
        let power = Power::new();
        let mut otp = start.clone();
        otp.connect(&power);
        power.cut_with(0, Tear::Unstable, seed);
        assert!(otp.burn(word, Lifecycle::Production.codeword()).is_err());
        power.restore();
        let doubtful = states(&otp);
        if ![Lifecycle::Closing, Lifecycle::Production].iter().all(|state| doubtful.contains(&Ok(*state))) {
            continue;
        }
        found += 1;
        for (tear, at) in Tear::ALL.into_iter().flat_map(|tear| (0..3).map(move |at| (tear, at))) {
            let mut copy = otp.clone();
            power.restore();
            power.cut_with(at, tear, seed);
            assert!(burn::finish_closing(&mut copy).is_err());
            power.restore();
            let shown = format!("seed {seed}, then {tear:?} at {at}");
            let cut = states(&copy);
            let good = |state: &_| matches!(state, Ok(Lifecycle::Closing | Lifecycle::Production));
            assert!(cut.iter().all(good), "{shown}: {cut:?}");
            burn::finish_closing(&mut copy).unwrap_or_else(|error| panic!("{shown}: {error:?}"));
            assert!(states(&copy).iter().all(|state| *state == Ok(Lifecycle::Production)), "{shown}");
            assert_eq!(copy.unstable().count(), 0, "{shown}");
            cuts += 1;
        }
    }
    assert!(found >= 10 && cuts == found * 24, "{found} dies, {cuts} cuts");
}

#[test]
fn only_a_die_that_is_closed_or_on_its_way_is_finished() {
    let power = Power::new();
    let mut returned = closed(&power);
    Row::Lifecycle.words().for_each(|word| returned.contents_mut()[word] = u32::MAX);
    for (mut otp, state) in [
        (blank(&power), Lifecycle::Blank),
        (secured(&power), Lifecycle::Secured),
        (burned(blank(&power), development()), Lifecycle::Development),
        (returned, Lifecycle::Returned),
    ] {
        power.restore();
        assert_eq!(burn::finish_closing(&mut otp), Err(Error::LifecycleForbids(state)));
        assert_eq!(power.operations(), 0, "something was burned");
    }
    // A bit that does not burn is told, and one that has drifted stands in nobody's way.
    let word = Row::Lifecycle.first_word() + 1;
    let bit = 1 << Lifecycle::Production.codeword().trailing_zeros();
    let mut otp = closed(&power);
    otp.contents_mut()[word] &= !bit;
    let mut stuck = Stuck { otp: otp.clone(), word, bit };
    assert_eq!(burn::finish_closing(&mut stuck), Err(Error::ReadBack(word)));
    otp.contents_mut()[word] |= 1 << Lifecycle::Production.codeword().trailing_ones();
    assert_eq!(burn::finish_closing(&mut otp), Ok(()));
    assert_eq!(Fuses::read_lifecycle(&otp), Ok(Lifecycle::Production));
}

#[test]
fn burning_a_plan_again_changes_nothing() {
    let power = Power::new();
    let mut otp = closed(&power);
    let before = otp.contents().to_vec();
    closing().check(&otp).unwrap().burn(&mut otp).unwrap();
    assert_eq!(otp.contents(), before);
    assert!(burned_bits(&otp) > 1000);
}

#[test]
fn a_plan_names_the_rows_that_it_burns_into_and_no_others() {
    use Row::*;
    let rows = |list: &[Row]| {
        let mut rows = Rows::default();
        list.iter().for_each(|row| rows.insert(*row));
        rows
    };
    let power = Power::new();
    let roots = [OwnerRoot0, OwnerRoot1, OwnerRoot2, OwnerRoot3];
    let before = [&roots[..], &[DebugLock, FloorProvision, BootPolicy, ProvisioningKey, Lifecycle]].concat();
    let closed = [ClosingMeasurement, DeviceSeed, FloorBoot, FloorProvision, FloorOs, Lifecycle];
    for (start, plan, named) in
        [(blank(&power), pre_provisioning as fn() -> Plan, &before[..]), (secured(&power), closing, &closed)]
    {
        assert_eq!(plan().rows(), rows(named));
        assert_eq!(plan().check(&start).unwrap().rows(), rows(named));
    }
}

#[test]
fn no_second_seed_or_measurement_goes_over_a_first() {
    let power = Power::new();
    let start = secured(&power);
    let other = Key::new([0x3B; 32]);
    let refused = |otp: &Otp, plan: Plan| plan.check(otp).err();
    let mut tried = 0;
    let whole = closed(&power);
    // As the words of the first plan burn one by one, a second plan is refused from the first bit on that it lacks.
    for row in [Row::ClosingMeasurement, Row::DeviceSeed] {
        for last in row.words() {
            let mut otp = start.clone();
            for word in row.first_word()..=last {
                otp.contents_mut()[word] = whole.contents()[word];
            }
            let plan = match row {
                Row::DeviceSeed => closing_with(MEASUREMENT, &other, PRODUCTION),
                _ => closing_with([0x9A; 32], &seed(), PRODUCTION),
            };
            let error = refused(&otp, plan);
            assert_eq!(error, Some(Error::RowForeign(row)), "word {last}");
            assert_eq!(error.map(|error| error.code()), Some(FailCode::FuseForeign));
            assert_eq!(refused(&otp, closing()), None, "the first plan carries on");
            tried += 1;
        }
    }
    assert_eq!(tried, 40);
}

#[test]
fn a_bit_that_somebody_else_burned_is_found_before_anything_burns() {
    let power = Power::new();
    for (start, plan, rows) in [
        (blank(&power), pre_provisioning as fn() -> Plan, Row::ALL.to_vec()),
        (
            secured(&power),
            closing,
            vec![Row::ClosingMeasurement, Row::DeviceSeed, Row::Lifecycle, Row::FloorBoot],
        ),
    ] {
        let whole = burned(start.clone(), plan());
        let mut tried = 0;
        for row in rows.into_iter().filter(|row| !matches!(row, Row::ChipId | Row::SiliconSecret)) {
            for word in row.words().chain(row.lock_words()) {
                let foreign = !whole.contents()[word];
                if foreign == 0 {
                    continue;
                }
                let bit = 1 << foreign.trailing_zeros();
                let mut otp = start.clone();
                otp.contents_mut()[word] |= bit;
                power.restore();
                assert_eq!(plan().check(&otp).err(), Some(Error::RowForeign(row)), "{row:?}, word {word}");
                // Burned after the check, it is found all the same.
                let checked = plan().check(&start).unwrap();
                assert_eq!(checked.burn(&mut otp), Err(Error::RowForeign(row)), "{row:?}, word {word}");
                assert_eq!(power.operations(), 0, "something was burned");
                tried += 1;
            }
        }
        assert!(tried > 40, "only {tried}");
    }
}

#[test]
fn a_row_that_was_locked_before_it_was_whole_is_refused() {
    let power = Power::new();
    for (start, plan, row) in [
        (secured(&power), closing as fn() -> Plan, Row::DeviceSeed),
        (secured(&power), closing, Row::ClosingMeasurement),
        (blank(&power), pre_provisioning, Row::ProvisioningKey),
        (blank(&power), pre_provisioning, Row::DebugLock),
    ] {
        // The lock in part: what sets it is set in it all the same.
        for words in 1..=3 {
            let mut otp = start.clone();
            row.lock_words().take(words).for_each(|word| otp.contents_mut()[word] = 0x31E8_E7A1);
            let locked = words > 1;
            let error = plan().check(&otp).err();
            let expected = Error::BurnFailed(BurnError::Locked { index: row.first_word() });
            assert_eq!(error, locked.then_some(expected), "{row:?}, {words} words");
            assert!(error.is_none_or(|error| error.code() == FailCode::FuseBurn));
        }
    }
}

#[test]
fn a_plan_that_does_not_belong_to_the_dies_state_is_refused() {
    let power = Power::new();
    let closing_of = |otp: &Otp| closing().check(otp).err();
    assert_eq!(closing_of(&blank(&power)), Some(Error::LifecycleForbids(Lifecycle::Blank)));
    let mut returned = closed(&power);
    Row::Lifecycle.words().for_each(|word| returned.contents_mut()[word] = u32::MAX);
    assert_eq!(closing_of(&returned), Some(Error::RowForeign(Row::Lifecycle)));
    let development_die = burned(blank(&power), development());
    assert!(matches!(closing_of(&development_die), Some(Error::RowForeign(_))));
    // Pre-provisioning that did not come to its end has left a word that stands for nothing.
    let mut torn = secured(&power);
    Row::Lifecycle.words().skip(1).for_each(|word| torn.contents_mut()[word] = 0);
    let copies = [Lifecycle::Secured.codeword(), 0, 0];
    assert_eq!(closing_of(&torn), Some(Error::LifecycleUnknown(copies)));
    // A closed die is not pre-provisioned, and a pre-provisioned one not turned into a development die.
    assert!(matches!(pre_provisioning().check(&closed(&power)).err(), Some(Error::RowForeign(_))));
    assert!(matches!(development().check(&secured(&power)).err(), Some(Error::RowForeign(_))));
    // Floors do not fall.
    let lower = closing_with(MEASUREMENT, &seed(), [3, 1, 40, 0, 0, 0]);
    assert_eq!(lower.check(&secured(&power)).err(), Some(Error::RowForeign(Row::FloorProvision)));
    for floor in [65, 255] {
        let high = Closing { measurement: MEASUREMENT, device_seed: &seed(), floors: [0, 0, 0, 0, 0, floor] };
        let error = Plan::closing(&high).err().unwrap();
        assert_eq!(
            (error, error.code()),
            (Error::LevelTooHigh(Row::FloorTransfer, floor), FailCode::FusePlan)
        );
    }
}

#[test]
fn a_die_that_would_be_closed_without_what_it_needs_is_refused() {
    let power = Power::new();
    // Each of these is refused by the first look at the die: it does not boot as it is.
    for (row, word) in
        [(Row::DebugLock, 0), (Row::ProvisioningKey, 3), (Row::BootPolicy, 0), (Row::OwnerRoot0, 20)]
    {
        let mut otp = secured(&power);
        let first = row.first_word() + word;
        (first..first + 3).for_each(|word| otp.contents_mut()[word] = 0);
        let error = closing().check(&otp).err();
        assert_eq!(error, Some(Error::PlanUnsafe(0)), "{row:?}");
        assert_eq!(error.map(|error| error.code()), Some(FailCode::FusePlan));
    }
}

#[test]
fn only_what_fabrication_left_is_blank() {
    let power = Power::new();
    assert_eq!(burn::check_blank(&blank(&power)), Ok(()));
    assert_eq!(burn::check_blank(&secured(&power)), Err(Error::NotBlank(Row::Lifecycle)));
    let mut tried = 0;
    for row in Row::ALL.iter().filter(|row| !matches!(row, Row::ChipId | Row::SiliconSecret)) {
        for word in row.words().chain(row.lock_words()) {
            let mut otp = blank(&power);
            otp.contents_mut()[word] |= 1 << (word % 32);
            assert_eq!(burn::check_blank(&otp), Err(Error::NotBlank(*row)));
            tried += 1;
        }
    }
    assert!(tried > 200, "only {tried}");
    let small = Otp::new(vec![0; WORDS - 1], &power, |_, _| false);
    assert_eq!(burn::check_blank(&small), Err(Error::BankTooSmall(WORDS - 1)));
    assert_eq!(closing().check(&small).err(), Some(Error::BankTooSmall(WORDS - 1)));
}

/// A bank in which one bit does not burn, and that says all went well.
struct Stuck {
    otp: Otp,
    word: usize,
    bit: u32,
}

impl hal::Otp for Stuck {
    fn words(&self) -> usize {
        self.otp.words()
    }

    fn read(&self, index: usize) -> Option<u32> {
        self.otp.read(index)
    }
}

impl OtpBurn for Stuck {
    fn burn(&mut self, index: usize, bits: u32) -> Result<(), BurnError> {
        let bits = if index == self.word { bits & !self.bit } else { bits };
        self.otp.burn(index, bits)
    }
}

#[test]
fn a_bit_that_does_not_burn_is_found_at_once_and_nothing_is_burned_behind_it() {
    let power = Power::new();
    let start = secured(&power);
    let whole = closed(&power);
    let mut tried = 0;
    for word in 0..WORDS {
        let missing = whole.contents()[word] & !start.contents()[word];
        if missing == 0 {
            continue;
        }
        let mut bank = Stuck { otp: start.clone(), word, bit: 1 << missing.trailing_zeros() };
        let error = closing().check(&bank).unwrap().burn(&mut bank).unwrap_err();
        assert_eq!((error, error.code()), (Error::ReadBack(word), FailCode::FuseBurn));
        // Nothing behind it: the lock of the row stays open, and the die is not closed. A lifecycle word alone that
        // lacks one bit is drift, and what is left is burned at the next try.
        let row = Row::of_word(word).unwrap();
        if row != Row::Lifecycle {
            assert_eq!(Fuses::read_lifecycle(&bank), Ok(Lifecycle::Secured), "word {word}");
        }
        if row.words().contains(&word) {
            assert!(!Fuses::read_locks(&bank).unwrap().contains(row), "word {word}");
        }
        tried += 1;
    }
    assert!(tried > 50, "only {tried}");
}

/// The bank hides the silicon secret from the stage that closes: that neither stops nor changes anything.
#[test]
fn a_hidden_silicon_secret_does_not_stand_in_the_way_of_closing() {
    let power = Power::new();
    let mut otp = secured(&power);
    let hidden: Vec<usize> = (0..WORDS).filter(|word| burn::is_hidden(*word)).collect();
    assert_eq!(hidden, Row::SiliconSecret.words().collect::<Vec<_>>());
    hidden.iter().for_each(|word| otp.contents_mut()[*word] = 0);
    let checked = closing().check(&otp).unwrap();
    assert_eq!(Fuses::read(checked.outcome()).unwrap().lifecycle(), Lifecycle::Production);
    checked.burn(&mut otp).unwrap();
    assert!(hidden.iter().all(|word| otp.contents()[*word] == 0), "the stand-in was burned");
    assert_eq!(FuseFacts::read(&otp), Ok(policy().production()));
    // One that is missing, and not hidden behind its lock, is none.
    Row::SiliconSecret.lock_words().for_each(|word| otp.contents_mut()[word] = 0);
    assert_eq!(closing().check(&otp).err(), Some(Error::PlanUnsafe(0)));
}

#[test]
fn locks_hold_what_they_lock_and_nothing_else() {
    let power = Power::new();
    let otp = closed(&power);
    for row in Row::ALL {
        let locked = Fuses::read_locks(&otp).unwrap().contains(*row);
        assert_eq!(burn::is_locked(&otp, row.first_word()), locked, "{row:?}");
        assert!(row.lock_words().all(|word| !burn::is_locked(&otp, word)), "{row:?}");
    }
    assert!(!burn::is_locked(&otp, WORDS) && !burn::is_locked(&otp, 31));
    let facts = FuseFacts::read(&otp).unwrap();
    assert_eq!(facts.debug_lock, Flag::Set);
    assert_eq!(facts.locks.len(), 2 + 1 + 4 + 1 + 2);
}
