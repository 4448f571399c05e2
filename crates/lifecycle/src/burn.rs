//! The fuse transaction: a plan is checked on a model, burned, read back, and its rows locked.
//!
//! # Threats
//! Power fails between two words, or inside one; somebody has burned bits of his own before, or burns them
//! meanwhile; the plan itself is wrong. Burning is idempotent, so whoever has the same plan carries on at any word.
//! A row that holds bits which the plan does not is never burned upon. Every prefix of what is about to be burned
//! is tried on a copy in RAM first: if one left a die that boots without all it needs, or a secret open to a
//! debugger, nothing is burned.

use crate::reader::Reader;
use crate::{Error, Flag, Fuses, Lifecycle, Plan, Row, Rows, WORDS};
use hal::{BurnError, Otp, OtpBurn};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Tells whether the bank takes no more bits in the word of this index: its row is locked, or its lock burned in
/// part. The words of a lock itself can always be burned.
///
/// Drivers whose hardware has no locks ask this before they burn.
pub fn is_locked(otp: &dyn Otp, index: usize) -> bool {
    let Some(row) = Row::ALL.iter().find(|row| row.words().contains(&index)) else { return false };
    let lock = row.lock_words().map(|word| otp.read(word).unwrap_or(u32::MAX));
    let mut copies = [u32::MAX; 3];
    copies.iter_mut().zip(lock).for_each(|(to, from)| *to = from);
    Flag::decode(copies) != Flag::Clear
}

/// Tells whether the bank hides the word of this index from everything after stage0: it holds part of the silicon
/// secret. Drivers whose hardware hides nothing ask this, and read such a word as blank.
pub fn is_hidden(index: usize) -> bool {
    Row::SiliconSecret.words().contains(&index)
}

/// Tells whether any bit of the row is burned.
pub fn is_begun(otp: &impl Otp, row: Row) -> bool {
    row.words().any(|word| otp.read(word).unwrap_or(u32::MAX) != 0)
}

/// Checks that nothing but fabrication has burned anything.
///
/// # Errors
/// [`Error::BankTooSmall`] and [`Error::NotBlank`].
pub fn check_blank(otp: &impl Otp) -> Result<(), Error> {
    Reader::new(otp)?;
    for row in Row::ALL.iter().filter(|row| !matches!(row, Row::ChipId | Row::SiliconSecret)) {
        if row.words().chain(row.lock_words()).any(|word| otp.read(word) != Some(0)) {
            return Err(Error::NotBlank(*row));
        }
    }
    Ok(())
}

/// A copy of a bank in RAM, locks included. Wiped when dropped.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Model {
    words: [u32; WORDS],
}

impl Model {
    /// Copies a bank.
    ///
    /// # Errors
    /// [`Error::BankTooSmall`].
    pub fn of(otp: &impl Otp) -> Result<Self, Error> {
        let mut model = Self { words: [0; WORDS] };
        for (word, index) in model.words.iter_mut().zip(0..) {
            *word = otp.read(index).ok_or(Error::BankTooSmall(index))?;
        }
        Ok(model)
    }

    /// Puts something in the place of a silicon secret that the bank hides: its row is locked and reads blank.
    /// What boots does not depend on its value.
    fn stand_in_for_hidden(&mut self) {
        let row = Row::SiliconSecret;
        let locked = is_locked(self, row.first_word());
        if locked && !is_begun(self, row) {
            for burn in Plan::fabrication_stand_in().burns() {
                if let Some(word) = self.words.get_mut(burn.word) {
                    *word |= burn.bits;
                }
            }
        }
    }
}

impl Otp for Model {
    fn words(&self) -> usize {
        WORDS
    }

    fn read(&self, index: usize) -> Option<u32> {
        self.words.get(index).copied()
    }
}

impl OtpBurn for Model {
    fn burn(&mut self, index: usize, bits: u32) -> Result<(), BurnError> {
        let locked = is_locked(self, index);
        let word = self.words.get_mut(index).ok_or(BurnError::NoSuchWord { index })?;
        if locked && bits & !*word != 0 {
            return Err(BurnError::Locked { index });
        }
        *word |= bits;
        Ok(())
    }
}

/// A plan that was tried on a model of the die.
pub struct CheckedPlan {
    plan: Plan,
    target: Model,
    model: Model,
}

impl Plan {
    /// Tries the plan on a model of the die, prefix by prefix. Nothing is burned.
    ///
    /// # Errors
    /// [`Error::RowForeign`] if a row of the plan holds other bits than the plan's, [`Error::LifecycleForbids`] if the
    /// plan does not begin in the die's state, [`Error::PlanUnsafe`] and [`Error::PlanIncomplete`] if the plan is wrong,
    /// [`Error::BurnFailed`] if a row is locked before it is whole.
    pub fn check(self, otp: &impl Otp) -> Result<CheckedPlan, Error> {
        let target = Model { words: self.target() };
        let mut model = Model::of(otp)?;
        check_foreign(&self, &target, &model)?;
        check_start(self.goal(), &model)?;
        model.stand_in_for_hidden();
        check_prefix(self.goal(), &model, 0)?;
        for burn in self.burns() {
            model.burn(burn.word, burn.bits).map_err(Error::BurnFailed)?;
            check_prefix(self.goal(), &model, burn.word)?;
        }
        match Fuses::read_lifecycle(&model).ok() {
            Some(state) if state == self.goal() => Ok(CheckedPlan { plan: self, target, model }),
            state => Err(Error::PlanIncomplete(state)),
        }
    }
}

impl CheckedPlan {
    /// Returns the die as it will be; a silicon secret that the bank hides is replaced by a stand-in.
    pub fn outcome(&self) -> &Model {
        &self.model
    }

    /// Returns the rows into which the plan burns something.
    pub fn rows(&self) -> Rows {
        self.plan.rows()
    }

    /// Burns the plan: each word, read back before the next; a row's lock comes after its last word. What reads as burned
    /// already is burned again, unless its row is locked: power may have failed while it burned, and a bit that is burned
    /// in part reads one way today and the other way tomorrow.
    ///
    /// # Errors
    /// [`Error::RowForeign`] if a row of the plan holds other bits than the plan's, [`Error::BurnFailed`] if the bank
    /// reports an error, [`Error::ReadBack`] if a word does not hold what was burned. The same plan can be tried
    /// again after each.
    pub fn burn(&self, otp: &mut impl OtpBurn) -> Result<(), Error> {
        check_foreign(&self.plan, &self.target, otp)?;
        for burn in self.plan.burns() {
            if !is_locked(otp, burn.word) {
                match otp.burn(burn.word, burn.bits) {
                    // A lock that is burned in part may read otherwise each time: the word was whole before it was begun.
                    Ok(()) | Err(BurnError::Locked { .. }) => {}
                    Err(error) => return Err(Error::BurnFailed(error)),
                }
            }
            let target = self.target.read(burn.word).unwrap_or_default();
            if otp.read(burn.word).ok_or(Error::BankTooSmall(burn.word))? != target {
                return Err(Error::ReadBack(burn.word));
            }
        }
        check_foreign(&self.plan, &self.target, otp)
    }
}

/// Burns the lifecycle of a die that is closed once more, for the stage that boots next: power may have failed in the last
/// word of closing and left bits of it that read one way today and the other way tomorrow, so that the die is closed in one
/// boot and on its way there in the next. Nothing that only the provisioning stage needs may be cleared away before.
///
/// Of a die that is on its way all else was burned before the lifecycle's first bit, and read back.
///
/// # Errors
/// [`Error::LifecycleForbids`] if the die is neither closed nor on its way, [`Error::LifecycleUnknown`] if its state is none,
/// [`Error::BurnFailed`] if the bank reports an error, [`Error::ReadBack`] if a word does not hold what was burned. It can
/// be tried again after each of the last two.
pub fn finish_closing(otp: &mut impl OtpBurn) -> Result<(), Error> {
    match Fuses::read_lifecycle(otp)? {
        Lifecycle::Closing | Lifecycle::Production => {}
        state => return Err(Error::LifecycleForbids(state)),
    }
    let bits = Lifecycle::Production.codeword();
    for word in Row::Lifecycle.words() {
        otp.burn(word, bits).map_err(Error::BurnFailed)?;
        // Bits that have drifted are none of this: the row's redundancy corrects them.
        if otp.read(word).ok_or(Error::BankTooSmall(word))? & bits != bits {
            return Err(Error::ReadBack(word));
        }
    }
    Ok(())
}

/// Refuses a bank in which a row that the plan covers holds bits that the plan does not.
fn check_foreign(plan: &Plan, target: &Model, otp: &impl Otp) -> Result<(), Error> {
    for row in Row::ALL.iter().filter(|row| plan.covers().contains(**row)) {
        for word in row.words().chain(row.lock_words()) {
            let found = otp.read(word).ok_or(Error::BankTooSmall(word))?;
            if found & !target.read(word).unwrap_or_default() != 0 {
                return Err(Error::RowForeign(*row));
            }
        }
    }
    Ok(())
}

/// Closing begins in `Secured`; where another plan begins, the rows that it covers say.
fn check_start(goal: Lifecycle, model: &Model) -> Result<(), Error> {
    match (goal, Fuses::read_lifecycle(model)) {
        (Lifecycle::Production, Ok(Lifecycle::Secured | Lifecycle::Closing | Lifecycle::Production)) => {
            Ok(())
        }
        (Lifecycle::Production, Ok(state)) => Err(Error::LifecycleForbids(state)),
        (Lifecycle::Production, Err(error)) => Err(error),
        _ => Ok(()),
    }
}

/// Holds what must be true of a die at every instant of a plan: it boots with all that its state needs or not at
/// all, no secret of the owner's is there while debug access is open, and no seed is burned before the measurement of
/// the stage that alone may carry on.
fn check_prefix(goal: Lifecycle, model: &Model, word: usize) -> Result<(), Error> {
    let may_be_blank = goal != Lifecycle::Production;
    match Fuses::read(model) {
        Ok(_) => {}
        Err(Error::LifecycleForbids(Lifecycle::Blank) | Error::LifecycleUnknown(_)) if may_be_blank => {}
        Err(_) => return Err(Error::PlanUnsafe(word)),
    }
    let mut reader = Reader::new(model)?;
    let debug_locked = reader.flag(Row::DebugLock, 0)? == Flag::Set;
    if is_begun(model, Row::ProvisioningKey) && !debug_locked {
        return Err(Error::PlanUnsafe(word));
    }
    let burns_seed = goal == Lifecycle::Production && Row::of_word(word) == Some(Row::DeviceSeed);
    if burns_seed && reader.record(Row::ClosingMeasurement).is_err() {
        return Err(Error::PlanUnsafe(word));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
