//! ELF executables become what lies in memory.

use object::elf::{
    EM_AARCH64, EM_X86_64, ET_EXEC, FileFlags, Machine, OsAbi, PF_R, PF_X, PT_LOAD, PT_NOTE, ProgramType,
};
use object::write::elf::{FileHeader, ProgramHeader, Writer};
use release::{Error, FlatImage, flatten_elf};

/// A segment: type, virtual and physical address, content, size in memory.
type Segment<'a> = (ProgramType, u64, u64, &'a [u8], u64);

fn elf(machine: Machine, entry: u64, segments: &[Segment<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = Writer::new(object::Endianness::Little, true, &mut bytes);
    writer.reserve_file_header();
    writer.reserve_program_headers(segments.len() as u32);
    let offsets: Vec<_> = segments.iter().map(|segment| writer.reserve(segment.3.len() as u64, 16)).collect();
    writer
        .write_file_header(&FileHeader {
            os_abi: OsAbi(0),
            abi_version: 0,
            e_type: ET_EXEC,
            e_machine: machine,
            e_entry: entry,
            e_flags: FileFlags(0),
        })
        .unwrap();
    writer.write_align_program_headers();
    for ((kind, virt, phys, data, memory), offset) in segments.iter().zip(&offsets) {
        writer.write_program_header(&ProgramHeader {
            p_type: *kind,
            p_flags: PF_R | PF_X,
            p_offset: *offset,
            p_vaddr: *virt,
            p_paddr: *phys,
            p_filesz: data.len() as u64,
            p_memsz: *memory,
            p_align: 16,
        });
    }
    for (segment, offset) in segments.iter().zip(&offsets) {
        writer.pad_until(*offset);
        writer.write(segment.3);
    }
    bytes
}

#[test]
fn segments_lie_at_their_physical_addresses_and_bss_is_left_out() {
    let bytes = elf(
        EM_AARCH64,
        0xFFFF_1004,
        &[
            (PT_LOAD, 0xFFFF_2000, 0x2010, b"data", 0x9000),
            (PT_NOTE, 0, 0, b"a note", 6),
            (PT_LOAD, 0xFFFF_1000, 0x2000, b"code....", 8),
            (PT_LOAD, 0xFFFF_F000, 0x9000, b"", 0x1000),
        ],
    );
    let expected = FlatImage { bytes: b"code....\0\0\0\0\0\0\0\0data".into(), load: 0x2000, entry: 0x2004 };
    assert_eq!(flatten_elf(&bytes).unwrap(), expected);
}

#[test]
fn what_is_no_such_executable_is_refused_with_the_reason() {
    let code: Segment<'_> = (PT_LOAD, 0x1000, 0x1000, b"code", 4);
    let reason = |bytes: &[u8]| match flatten_elf(bytes) {
        Err(Error::Elf { reason }) => reason,
        other => panic!("{other:?}"),
    };
    assert!(flatten_elf(&elf(EM_AARCH64, 0x1000, &[code])).is_ok());
    reason(b"");
    reason(b"#!/bin/sh\n");
    assert!(reason(&elf(EM_X86_64, 0x1000, &[code])).contains("machine"));
    assert!(reason(&elf(EM_AARCH64, 0x1004, &[code])).contains("entry"));
    // Behind what is in the file there is nothing to execute.
    let with_bss: Segment<'_> = (PT_LOAD, 0x1000, 0x1000, b"code", 0x100);
    assert!(reason(&elf(EM_AARCH64, 0x1004, &[with_bss])).contains("entry"));
    assert!(reason(&elf(EM_AARCH64, 0x1000, &[])).contains("nothing to load"));
    let twice = [code, (PT_LOAD, 0x2000, 0x1002, b"more", 4)];
    assert!(reason(&elf(EM_AARCH64, 0x1000, &twice)).contains("overlaps"));
    let far = [code, (PT_LOAD, 0x2000, 0x1_0000_0000, b"far", 3)];
    assert!(reason(&elf(EM_AARCH64, 0x1000, &far)).contains("too far"));
    let whole = elf(EM_AARCH64, 0x1000, &[code]);
    for length in 0..whole.len() {
        assert!(flatten_elf(&whole[..length]).is_err(), "{length}");
    }
}
