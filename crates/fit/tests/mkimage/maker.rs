//! FITs as `mkimage` makes them, signed with keys that are made for one test.

use fit::Key;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// The key that both sides trust.
pub(crate) const DEV: &str = "dev";
/// A longer one, which both trust as well.
pub(crate) const BIG: &str = "big";
/// A key that nobody trusts.
pub(crate) const OTHER: &str = "other";

/// The source of a good FIT: three kernels, two configurations.
pub(crate) const SOURCE: &str = r#"/dts-v1/;
/ {
    description = "two systems";
    #address-cells = <1>;
    images {
        kernel-1 {
            description = "the kernel"; data = /incbin/("kernel"); type = "kernel"; arch = "arm64"; os = "linux";
            compression = "none"; load = <0x40400000>; entry = <0x40400000>;
            hash-1 { algo = "sha256"; };
        };
        kernel-2 {
            description = "the other kernel"; data = /incbin/("kernel.gz"); type = "kernel"; arch = "arm64"; os = "linux";
            compression = "gzip"; load = <0x40400000>; entry = <0x40400000>;
            hash-1 { algo = "sha256"; };
        };
        kernel-3 {
            description = "a kernel that nothing names"; data = /incbin/("evil"); type = "kernel"; arch = "arm64";
            os = "linux"; compression = "none"; load = <0x40400000>; entry = <0x40400000>;
            hash-1 { algo = "sha256"; };
        };
        fdt-1 {
            description = "the board"; data = /incbin/("board.dtb"); type = "flat_dt"; arch = "arm64";
            compression = "none"; hash-1 { algo = "sha256"; };
        };
        ramdisk-1 {
            description = "user space"; data = /incbin/("ramdisk"); type = "ramdisk"; arch = "arm64"; os = "linux";
            compression = "none"; hash-1 { algo = "sha256"; };
        };
    };
    configurations {
        default = "conf-1";
        conf-1 {
            description = "all"; kernel = "kernel-1"; fdt = "fdt-1"; ramdisk = "ramdisk-1";
            signature-1 { algo = "sha256,rsa2048"; key-name-hint = "dev"; sign-images = "kernel", "fdt", "ramdisk"; };
        };
        conf-2 {
            description = "packed"; kernel = "kernel-2"; fdt = "fdt-1";
            signature-1 { algo = "sha256,rsa2048"; key-name-hint = "dev"; sign-images = "kernel", "fdt"; };
        };
    };
};
"#;

/// A board as small as one can be.
const BOARD: &str = r#"/dts-v1/;
/ { compatible = "linux,dummy-virt"; #address-cells = <2>; #size-cells = <2>;
    memory@40000000 { device_type = "memory"; reg = <0 0x40000000 0 0x10000000>; }; };
"#;

/// A folder with keys and with files to put into FITs.
pub(crate) struct Maker {
    folder: TempDir,
}

impl Maker {
    pub(crate) fn new() -> Self {
        let maker = Self { folder: tempfile::tempdir().unwrap() };
        fs::create_dir(maker.path("keys")).unwrap();
        for (name, bits) in [(DEV, "2048"), (OTHER, "2048"), (BIG, "4096")] {
            maker.key(name, bits);
        }
        fs::write(maker.path("kernel"), noise(1, 9000)).unwrap();
        fs::write(maker.path("evil"), noise(2, 9000)).unwrap();
        fs::write(maker.path("ramdisk"), noise(3, 3000)).unwrap();
        fs::write(maker.path("board.dts"), BOARD).unwrap();
        maker.run("dtc", &["-O", "dtb", "-o", "board.dtb", "board.dts"]);
        for name in ["kernel", "board.dtb"] {
            maker.run("gzip", &["-kn", name]);
        }
        maker
    }

    fn key(&self, name: &str, bits: &str) {
        let (key, certificate) = (format!("keys/{name}.key"), format!("keys/{name}.crt"));
        let (kind, subject) = (format!("rsa:{bits}"), format!("/CN={name}"));
        self.run(
            "openssl",
            &[
                "req",
                "-batch",
                "-new",
                "-x509",
                "-nodes",
                "-newkey",
                &kind,
                "-subj",
                &subject,
                "-keyout",
                &key,
                "-out",
                &certificate,
            ],
        );
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    /// Runs a program in the folder.
    #[track_caller]
    pub(crate) fn run(&self, program: &str, args: &[&str]) {
        let output = Command::new(program).args(args).current_dir(self.folder.path()).output();
        let output =
            output.unwrap_or_else(|error| panic!("{program}: {error}: `cargo xtask test` installs it"));
        assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Makes and signs a FIT.
    #[track_caller]
    pub(crate) fn fit(&self, source: &str, more: &[&str]) -> Vec<u8> {
        fs::write(self.path("fit.its"), source).unwrap();
        self.run("mkimage", &[&["-f", "fit.its", "-k", "keys"], more, &["-r", "fit.itb"]].concat());
        self.read("fit.itb")
    }

    /// Makes a FIT of the good source with some of its words exchanged, all of them.
    #[track_caller]
    pub(crate) fn variant(&self, words: &[(&str, &str)]) -> Vec<u8> {
        self.fit(&variant(words), &[])
    }

    pub(crate) fn trusted(&self, name: &str) -> Key {
        Key::from_pem(&self.read(&format!("keys/{name}.crt"))).unwrap()
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// Exchanges words of the good source.
#[track_caller]
pub(crate) fn variant(words: &[(&str, &str)]) -> String {
    words.iter().fold(SOURCE.to_owned(), |source, (from, to)| {
        assert!(source.contains(from), "{from} is not in the source");
        source.replace(from, to)
    })
}

/// Bytes that do not repeat themselves.
pub(crate) fn noise(seed: u32, size: usize) -> Vec<u8> {
    let next = |state: &mut u32| {
        *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        Some((*state >> 24) as u8)
    };
    let mut state = seed;
    std::iter::from_fn(|| next(&mut state)).take(size).collect()
}
