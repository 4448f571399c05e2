//! The few A64 instructions that can name another function.

/// What an instruction refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reference {
    /// A branch or call, conditional or not, to an address.
    Branch(u64),
    /// A call or jump to an address in a register.
    Indirect,
    /// An address formed from the program counter alone (`adr`).
    Address(u64),
    /// A page address in a register (`adrp`).
    Page { register: u8, page: u64 },
    /// A register plus a constant (`add` immediate, 64 bits).
    Add { to: u8, from: u8, amount: u64 },
    /// A 64-bit word loaded from an address near the program counter.
    Literal(u64),
}

/// Decodes the instruction `word` at address `pc`; `None` if it names no address.
pub(super) fn decode(word: u32, pc: u64) -> Option<Reference> {
    let branch = |field_at: u32, bits: u32| {
        let offset = signed(u64::from(word >> field_at), bits) << 2;
        Reference::Branch(pc.wrapping_add_signed(offset))
    };
    let register = (word & 31) as u8;
    let adr_offset = || signed((u64::from(word >> 5) & 0x7_FFFF) << 2 | u64::from(word >> 29) & 3, 21);
    Some(match word {
        // b, bl
        w if w & 0x7C00_0000 == 0x1400_0000 => branch(0, 26),
        // b.cond, bc.cond
        w if w & 0xFF00_0000 == 0x5400_0000 => branch(5, 19),
        // cbz, cbnz
        w if w & 0x7E00_0000 == 0x3400_0000 => branch(5, 19),
        // tbz, tbnz
        w if w & 0x7E00_0000 == 0x3600_0000 => branch(5, 14),
        // br, blr, with and without pointer authentication
        w if w & 0xFEDF_F000 == 0xD61F_0000 => Reference::Indirect,
        w if w & 0x9F00_0000 == 0x1000_0000 => Reference::Address(pc.wrapping_add_signed(adr_offset())),
        w if w & 0x9F00_0000 == 0x9000_0000 => {
            let page = (pc & !0xFFF).wrapping_add_signed(adr_offset() << 12);
            Reference::Page { register, page }
        }
        w if w & 0xFF80_0000 == 0x9100_0000 => {
            let shift = if w & 1 << 22 == 0 { 0 } else { 12 };
            let amount = (u64::from(w >> 10) & 0xFFF) << shift;
            Reference::Add { to: register, from: (w >> 5 & 31) as u8, amount }
        }
        w if w & 0xFF00_0000 == 0x5800_0000 => {
            Reference::Literal(pc.wrapping_add_signed(signed(u64::from(word >> 5), 19) << 2))
        }
        _ => return None,
    })
}

/// Takes the low `bits` bits of `value` as a signed number.
fn signed(value: u64, bits: u32) -> i64 {
    ((value << (64 - bits)) as i64) >> (64 - bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branches_of_every_kind_give_their_target() {
        let pc = 0x1000;
        for (word, target) in [
            (0x9400_0004, 0x1010), // bl .+16
            (0x97FF_FFFF, 0x0FFC), // bl .-4
            (0x1400_0002, 0x1008), // b .+8
            (0x5400_0040, 0x1008), // b.eq .+8
            (0x54FF_FFE1, 0x0FFC), // b.ne .-4
            (0xB400_0060, 0x100C), // cbz x0, .+12
            (0x3500_0060, 0x100C), // cbnz w0, .+12
            (0x3700_0080, 0x1010), // tbnz w0, #0, .+16
            (0xB607_FFE0, 0x0FFC), // tbz x0, #32, .-4
        ] {
            assert_eq!(decode(word, pc), Some(Reference::Branch(target)), "{word:#010x}");
        }
    }

    #[test]
    fn addresses_are_formed_as_the_core_does() {
        // adr x0, .+4100 ; adrp x1, +2 pages ; adrp x1, -1 page ; add x2, x1, #0x10 ; add x2, x1, #1, lsl #12
        assert_eq!(decode(0x1000_8020, 0x1000), Some(Reference::Address(0x2004)));
        assert_eq!(decode(0xD000_0001, 0x1234), Some(Reference::Page { register: 1, page: 0x3000 }));
        assert_eq!(decode(0xF0FF_FFE1, 0x1234), Some(Reference::Page { register: 1, page: 0 }));
        assert_eq!(decode(0x9100_4022, 0), Some(Reference::Add { to: 2, from: 1, amount: 0x10 }));
        assert_eq!(decode(0x9140_0422, 0), Some(Reference::Add { to: 2, from: 1, amount: 0x1000 }));
        assert_eq!(decode(0x5800_0040, 0x1000), Some(Reference::Literal(0x1008)));
    }

    #[test]
    fn indirect_branches_are_seen_and_returns_are_not() {
        assert_eq!(decode(0xD63F_0100, 0), Some(Reference::Indirect)); // blr x8
        assert_eq!(decode(0xD61F_0200, 0), Some(Reference::Indirect)); // br x16
        assert_eq!(decode(0xD65F_03C0, 0), None); // ret
        assert_eq!(decode(0xD503_201F, 0), None); // nop
        assert_eq!(decode(0xF940_0000, 0), None); // ldr x0, [x0]
    }
}
