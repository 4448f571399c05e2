use super::fake::{BLOCK, Cells, Chips};
use super::*;

const BLOCK_BYTES: u64 = BLOCK as u64 * WORD;
/// The second and third block.
const WRITABLE: Region = Region::new(BLOCK_BYTES, 2 * BLOCK_BYTES);
const VIEW: View = View {
    block: BLOCK_BYTES,
    identity: true,
    readable: &[WRITABLE, Region::new(3 * BLOCK_BYTES, 16)],
    writable: &[WRITABLE],
};

fn bytes<B: Bus, C: Clock>(nor: &mut Nor<'_, B, C>, offset: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    nor.read(offset, &mut bytes).unwrap();
    bytes
}

#[test]
fn what_is_written_reads_back_and_its_neighbours_stay() {
    for (cells, offset, len) in [
        (Cells::OneWay, 0, 4096),
        (Cells::Rewritable, 0, 4096),
        (Cells::Rewritable, 4, 4),
        (Cells::Rewritable, 5, 1),
        (Cells::Rewritable, 2047, 2),
        (Cells::Rewritable, 2045, 2059),
        (Cells::Rewritable, 3, 4090),
    ] {
        let bank = Chips::new(cells).bank();
        let mut nor = Nor::new(&bank, VIEW);
        let around: Vec<u8> = (0..8192_u32).map(|i| (i * 5 + 1) as u8).collect();
        nor.write(BLOCK_BYTES, &around[..offset]).unwrap();
        let after = offset + len;
        nor.write(BLOCK_BYTES + after as u64, &around[after..]).unwrap();
        nor.write(BLOCK_BYTES + offset as u64, &around[offset..after]).unwrap();
        assert_eq!(bytes(&mut nor, BLOCK_BYTES, 8192), around, "{cells:?} {offset} {len}");
        assert!(bank.bus.lock().is_in_array_mode() && Chips::operations_of(&bank) >= 3);
        assert_eq!(nor.flush(), Ok(()));
    }
}

#[test]
fn programming_raises_no_bit_on_a_flash_that_would() {
    let bank = Chips::new(Cells::Rewritable).bank();
    let mut nor = Nor::new(&bank, VIEW);
    for (first, then) in
        [(&[0xEF, 0xBE, 0xAD, 0xDE, 0][..], &[0xFF, 0xFF, 0, 0, 0xFF][..]), (&[0x0F], &[0xF3])]
    {
        nor.erase(BLOCK_BYTES, BLOCK_BYTES).unwrap();
        nor.write(BLOCK_BYTES, first).unwrap();
        nor.write(BLOCK_BYTES, then).unwrap();
        let both: Vec<u8> = first.iter().zip(then).map(|(first, then)| first & then).collect();
        assert_eq!(bytes(&mut nor, BLOCK_BYTES, first.len()), both);
    }
}

#[test]
fn an_erase_reaches_its_blocks_only() {
    let mut chips = Chips::new(Cells::OneWay);
    chips.words.fill(0);
    let bank = chips.bank();
    let mut nor = Nor::new(&bank, VIEW);
    nor.erase(2 * BLOCK_BYTES, BLOCK_BYTES).unwrap();
    let blank = |block: usize| -> bool {
        bank.bus.lock().words[block * BLOCK..][..BLOCK].iter().all(|word| *word == u32::MAX)
    };
    assert_eq!([blank(0), blank(1), blank(2), blank(3)], [false, false, true, false]);
    nor.erase(BLOCK_BYTES, 2 * BLOCK_BYTES).unwrap();
    assert_eq!([blank(0), blank(1), blank(2), blank(3)], [false, true, true, false]);
    assert!(bank.bus.lock().is_in_array_mode());
}

#[test]
fn nothing_outside_the_view_is_reached() {
    let bank = Chips::new(Cells::OneWay).bank();
    let mut nor = Nor::new(&bank, VIEW);
    for offset in [0, BLOCK_BYTES - 4, 3 * BLOCK_BYTES - 4, 3 * BLOCK_BYTES, u64::MAX - 7] {
        assert_eq!(nor.write(offset, &[0; 8]), Err(WriteError { offset }), "{offset:#x}");
    }
    for (offset, len) in [
        (0, BLOCK_BYTES),
        (0, 4 * BLOCK_BYTES),
        (2 * BLOCK_BYTES, 2 * BLOCK_BYTES),
        (BLOCK_BYTES, 4),
        (BLOCK_BYTES + 4, BLOCK_BYTES),
        (u64::MAX - BLOCK_BYTES + 1, BLOCK_BYTES),
    ] {
        assert_eq!(nor.erase(offset, len), Err(WriteError { offset }), "{offset:#x} {len:#x}");
    }
    for offset in [0, BLOCK_BYTES - 1, 3 * BLOCK_BYTES + 9, u64::MAX - 3] {
        assert_eq!(nor.read(offset, &mut [0; 8]), Err(ReadError { offset }), "{offset:#x}");
    }
    assert_eq!((bytes(&mut nor, 3 * BLOCK_BYTES, 16).len(), nor.size()), (16, 3 * BLOCK_BYTES + 16));
    assert_eq!((Chips::operations_of(&bank), nor.erase_size()), (0, BLOCK_BYTES));
}

#[test]
fn a_chip_that_reports_an_error_is_refused_and_answers_again() {
    for error in [0x20, 0x10, 0x08, 0x02] {
        for one_chip in [error, error << 16] {
            let bank = Chips::new(Cells::OneWay).bank();
            let mut nor = Nor::new(&bank, VIEW);
            let at = BLOCK_BYTES;
            let failing = || bank.bus.lock().fails = one_chip;
            failing();
            assert_eq!(nor.erase(at, BLOCK_BYTES), Err(WriteError { offset: at }));
            failing();
            assert_eq!(nor.write(at, &[0; 4]), Err(WriteError { offset: at }));
            failing();
            assert_eq!(nor.write(at, &[0; 64]), Err(WriteError { offset: at }));
            assert_eq!(bytes(&mut nor, at, 64), [0xFF; 64]);
            assert_eq!(nor.write(at, &[0; 64]), Ok(()));
            assert_eq!(bytes(&mut nor, at, 64), [0; 64]);
        }
    }
}

#[test]
fn a_dead_chip_keeps_nobody_waiting_and_its_status_is_never_data() {
    let bank = Chips::new(Cells::OneWay).bank();
    let mut nor = Nor::new(&bank, VIEW);
    let at = BLOCK_BYTES;
    bank.bus.lock().dead = true;
    assert_eq!(nor.write(at, &[0; 64]), Err(WriteError { offset: at }));
    assert_eq!(nor.read(at, &mut [0; 4]), Err(ReadError { offset: at }));
    assert_eq!(nor.erase(at, BLOCK_BYTES), Err(WriteError { offset: at }));
    assert_eq!((nor.identify(), Chips::operations_of(&bank)), (None, 0));
}

#[test]
fn the_bank_says_what_it_is() {
    let bank = Chips::new(Cells::OneWay).bank();
    let identity = FlashIdentity { size: 4 * BLOCK_BYTES, erase_block: BLOCK_BYTES, write_buffer: 2048 };
    assert_eq!(Nor::new(&bank, VIEW).identify(), Some(identity));
    assert!(bank.bus.lock().is_in_array_mode());
    assert_eq!(Nor::new(&bank, View { identity: false, ..VIEW }).identify(), None);
}

#[test]
fn what_is_no_such_flash_says_nothing() {
    // No answer, another command set, two kinds of block, a size that does not add up, chips that differ.
    let changes =
        [(0x10, 0), (0x13, both(2)), (0x2C, both(2)), (0x27, both(14)), (0x27, both(64)), (0x2A, 11)];
    for (field, value) in changes {
        let mut chips = Chips::new(Cells::OneWay);
        chips.query[field] = value;
        let bank = chips.bank();
        assert_eq!(Nor::new(&bank, VIEW).identify(), None, "{field:#x} {value:#x}");
        assert!(bank.bus.lock().is_in_array_mode());
    }
}
