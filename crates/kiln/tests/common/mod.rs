//! A folder to run the command in, and firmware for it.

#[path = "../../../release/tests/factory/bootable.rs"]
mod bootable;

pub(crate) use bootable::{device_tree, kernel};
use object::elf::{EM_AARCH64, ET_EXEC, FileFlags, OsAbi, PF_R, PF_X, PT_LOAD};
use object::write::elf::{FileHeader, ProgramHeader, Writer};
use serde_json::Value;
use std::fs;
use std::process::{Command, Output};
use tempfile::TempDir;

/// What the keys of the owners in files are encrypted with.
pub(crate) const PASSPHRASE: &str = "a passphrase of a test";

/// A folder in which the command runs, with firmware in it.
pub(crate) struct Desk {
    folder: TempDir,
    environment: Vec<(String, String)>,
}

impl Desk {
    pub(crate) fn new() -> Self {
        let environment = vec![("KILN_PASSPHRASE".into(), PASSPHRASE.into())];
        let desk = Self { folder: tempfile::tempdir().unwrap(), environment };
        desk.put("stage0.bin", b"stage0 of a test");
        desk.put("stage1.elf", &elf(&[1; 5000]));
        desk.put("stage2.elf", &elf(&[2; 5000]));
        desk.put("Image", &kernel(9000, 0x20_0000));
        desk.put("board.dtb", &device_tree());
        desk
    }

    pub(crate) fn put(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// Sets a variable for the commands from now on.
    #[allow(dead_code, reason = "the tests of the command line need none")]
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.into(), value.into()));
    }

    /// Unsets a variable that was set.
    #[allow(dead_code, reason = "the tests of the command line need none")]
    pub(crate) fn unset(&mut self, name: &str) {
        self.environment.retain(|(known, _)| known != name);
    }

    /// Returns the variables that are set.
    #[allow(dead_code, reason = "the tests of the command line need none")]
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        self.environment.clone()
    }

    /// Runs `kiln`; nobody is there to answer a question.
    pub(crate) fn run(&self, line: &str) -> Output {
        self.run_by(Command::new(env!("CARGO_BIN_EXE_kiln")).args(line.split_whitespace()))
    }

    /// Runs `kiln` on a disk that takes no more than so many blocks of 512 bytes of any file.
    #[allow(dead_code, reason = "the tests of the command line need none")]
    pub(crate) fn run_short_of_room(&self, line: &str, blocks: u32) -> Output {
        // Writing then fails as it does on a full disk, and does not end the process.
        let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec {} {line}", env!("CARGO_BIN_EXE_kiln"));
        self.run_by(Command::new("sh").args(["-c", &script]))
    }

    fn run_by(&self, command: &mut Command) -> Output {
        command
            .current_dir(self.folder.path())
            .env_remove("KILN_PIN")
            .env_remove("KILN_PASSPHRASE")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap()
    }

    /// Runs a command that succeeds, and returns what it prints on stdout.
    #[track_caller]
    pub(crate) fn good(&self, line: &str) -> String {
        let output = self.run(line);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "kiln {line}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command that fails, and returns what it prints on stderr; stdout stays empty.
    #[track_caller]
    pub(crate) fn bad(&self, line: &str) -> String {
        let output = self.run(line);
        assert_eq!(output.status.code(), Some(1), "kiln {line}");
        assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
        String::from_utf8(output.stderr).unwrap()
    }

    #[track_caller]
    pub(crate) fn good_json(&self, line: &str) -> Value {
        let object: Value = serde_json::from_str(&self.good(&format!("{line} --json"))).unwrap();
        assert_eq!(object["result"], "ok", "{object}");
        object
    }
}

/// An executable of one segment, at the address of a stage.
pub(crate) fn elf(code: &[u8]) -> Vec<u8> {
    elf_at(code, memory_map::qemu_virt::STAGE_RUN.base)
}

/// The same at another address.
pub(crate) fn elf_at(code: &[u8], load: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = Writer::new(object::Endianness::Little, true, &mut bytes);
    writer.reserve_file_header();
    writer.reserve_program_headers(1);
    let offset = writer.reserve(code.len() as u64, 16);
    let header = FileHeader {
        os_abi: OsAbi(0),
        abi_version: 0,
        e_type: ET_EXEC,
        e_machine: EM_AARCH64,
        e_entry: load,
        e_flags: FileFlags(0),
    };
    writer.write_file_header(&header).unwrap();
    writer.write_align_program_headers();
    writer.write_program_header(&ProgramHeader {
        p_type: PT_LOAD,
        p_flags: PF_R | PF_X,
        p_offset: offset,
        p_vaddr: load,
        p_paddr: load,
        p_filesz: code.len() as u64,
        p_memsz: code.len() as u64,
        p_align: 16,
    });
    writer.pad_until(offset);
    writer.write(code);
    bytes
}
