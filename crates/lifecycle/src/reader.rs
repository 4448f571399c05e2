//! Reading rows out of the bank.

use crate::map::{COPIES, COPY_WORDS, DATA_WORDS, ROOT_SLOTS, VALID_FLAG};
use crate::redundancy::{Copy, MAX_DRIFT, distance, is_whole, level, vote};
use crate::{Error, Flag, Lifecycle, Record, Row, Rows, WORDS};
use boot_crypto::Key;
use core::hint::black_box;
use hal::Otp;
use zeroize::Zeroizing;

/// A bank that is large enough, and the rows in which redundancy has corrected something.
pub(crate) struct Reader<'a, O: Otp> {
    otp: &'a O,
    corrected: Rows,
}

impl<'a, O: Otp> Reader<'a, O> {
    /// Takes a bank.
    pub(crate) fn new(otp: &'a O) -> Result<Self, Error> {
        match otp.words() {
            words if words < WORDS => Err(Error::BankTooSmall(words)),
            _ => Ok(Self { otp, corrected: Rows::default() }),
        }
    }

    /// Returns the rows in which something was corrected so far.
    pub(crate) fn corrected(&self) -> Rows {
        self.corrected
    }

    /// Reads one word three times and takes of each bit what most of them say: one disturbed read changes nothing, and a
    /// bit that a torn burn has left between 0 and 1 counts as either, as the redundancy of its row expects.
    fn word(&self, index: usize) -> Result<u32, Error> {
        let mut reads = [0; COPIES];
        for read in &mut reads {
            *read = self.otp.read(black_box(index)).ok_or(Error::BankTooSmall(index))?;
        }
        Ok(vote(reads))
    }

    /// Reads three copies of one word, `step` words apart.
    fn copies(&mut self, row: Row, first: usize, step: usize) -> Result<[u32; COPIES], Error> {
        let mut copies = [0; COPIES];
        for (copy, number) in copies.iter_mut().zip(0..) {
            *copy = self.word(first.wrapping_add(step.wrapping_mul(number)))?;
        }
        if copies.iter().any(|copy| Some(copy) != copies.first()) {
            self.corrected.insert(row);
        }
        Ok(copies)
    }

    /// Reads the lifecycle.
    pub(crate) fn lifecycle(&mut self) -> Result<Lifecycle, Error> {
        let copies = self.copies(Row::Lifecycle, Row::Lifecycle.first_word(), 1)?;
        Lifecycle::decode(copies).ok_or(Error::LifecycleUnknown(copies))
    }

    /// Reads the flag whose first word is at `at` within the row.
    fn flag_at(&mut self, row: Row, at: usize) -> Result<Flag, Error> {
        Ok(Flag::decode(self.copies(row, row.first_word().wrapping_add(at), 1)?))
    }

    /// Reads flag number `flag` of a row that holds flags only.
    pub(crate) fn flag(&mut self, row: Row, flag: usize) -> Result<Flag, Error> {
        self.flag_at(row, flag.wrapping_mul(COPIES))
    }

    /// Reads the valid flag of an owner root slot.
    pub(crate) fn root_valid(&mut self, row: Row) -> Result<Flag, Error> {
        self.flag_at(row, VALID_FLAG)
    }

    /// Reads the revoked flag of each owner root slot.
    pub(crate) fn roots_revoked(&mut self) -> Result<[Flag; ROOT_SLOTS], Error> {
        let mut flags = [Flag::Torn; ROOT_SLOTS];
        for (flag, slot) in flags.iter_mut().zip(0..) {
            *flag = self.flag(Row::RootRevocation, slot)?;
        }
        Ok(flags)
    }

    /// Reads the flag that locks a row.
    fn lock(&mut self, row: Row) -> Result<Flag, Error> {
        Ok(Flag::decode(self.copies(row, row.lock_words().start, 1)?))
    }

    /// Reads which rows are locked; a lock that is burned in part counts.
    pub(crate) fn locks(&mut self) -> Result<Rows, Error> {
        let mut locked = Rows::default();
        for row in Row::ALL {
            if self.lock(*row)? != Flag::Clear {
                locked.insert(*row);
            }
        }
        Ok(locked)
    }

    /// Reads a thermometer row.
    pub(crate) fn level(&mut self, row: Row) -> Result<u8, Error> {
        let first = row.first_word();
        let low = self.copies(row, first, 2)?;
        let high = self.copies(row, first.wrapping_add(1), 2)?;
        Ok(level(low, high))
    }

    /// Reads one copy of a record.
    fn copy(&self, first: usize) -> Result<Copy, Error> {
        let mut copy = Zeroizing::new([0; COPY_WORDS]);
        for (word, index) in copy.iter_mut().zip(first..) {
            *word = self.word(index)?;
        }
        Ok(copy)
    }

    /// Reads a record: one copy must be whole and the other not further from it than drift.
    pub(crate) fn record(&mut self, row: Row) -> Result<Key, Error> {
        let a = self.copy(row.first_word())?;
        let b = self.copy(row.first_word().wrapping_add(COPY_WORDS))?;
        let differing = distance(&a, &b);
        let whole = match (is_whole(row.number(), &a), is_whole(row.number(), &b)) {
            (true, true) if differing != 0 => return Err(Error::RowsDisagree(row)),
            (true, _) if differing <= MAX_DRIFT => &a,
            (_, true) if differing <= MAX_DRIFT => &b,
            (false, false) if a.iter().chain(b.iter()).all(|word| *word == 0) => {
                return Err(Error::RowMissing(row));
            }
            _ => return Err(Error::RowTorn(row)),
        };
        if differing != 0 {
            self.corrected.insert(row);
        }
        let mut bytes = Zeroizing::new([0; 4 * DATA_WORDS]);
        for (into, word) in bytes.chunks_exact_mut(4).zip(whole.iter()) {
            for (into, byte) in into.iter_mut().zip(word.to_le_bytes()) {
                *into = byte;
            }
        }
        Ok(Key::new(*bytes))
    }

    /// Reads how far a record is burned, and its content if it is whole. Up to [`MAX_DRIFT`] bits in an otherwise
    /// blank row are drift.
    pub(crate) fn record_state(&mut self, row: Row) -> Result<Record, Error> {
        match self.record(row) {
            Ok(content) => Ok(Record::Whole(*content.expose())),
            Err(Error::RowMissing(_)) => Ok(Record::Blank),
            Err(Error::RowTorn(_) | Error::RowsDisagree(_)) => {
                let first = self.copy(row.first_word())?;
                let second = self.copy(row.first_word().wrapping_add(COPY_WORDS))?;
                let burned =
                    distance(&first, &[0; COPY_WORDS]).wrapping_add(distance(&second, &[0; COPY_WORDS]));
                Ok(if burned <= MAX_DRIFT { Record::Blank } else { Record::Torn })
            }
            Err(error) => Err(error),
        }
    }
}
