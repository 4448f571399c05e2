//! From U-Boot to Kiln: a FIT that `mkimage` made of Debian's kernel becomes a release, and its package a device.

use std::fs;
use std::path::Path;
use std::process::Command;

use emulator::Outcome;
use lifecycle::Lifecycle;
use memory_map::qemu_virt::BOARD;
use release::{Compression, ContentKey, OsParts, OwnerKeys, PackageRelease, read_key};
use sealed_image::Kind;
use tests::factory::{LOT, Package};
use tests::verdict::story;
use tests::{Factory, Firmware, TOKEN, elf};

const CMDLINE: &str = "earlycon=pl011,0x9000000 console=ttyAMA0 panic=-1";

/// What U-Boot does not know.
const CONFIG: &str = r#"
product = "from-u-boot"
board = "qemu-virt"
version = "1.0.0"
rollback-index = 1
[owner]
keys = "keys"
[stages]
stage1 = "stage1.elf"
stage2 = "stage2.elf"
[bundle]
cmdline = "CMDLINE"
"#;

const SOURCE: &str = r#"/dts-v1/;
/ {
    description = "Debian";
    #address-cells = <1>;
    images {
        kernel-1 {
            data = /incbin/("kernel.gz"); type = "kernel"; arch = "arm64"; os = "linux"; compression = "gzip";
            load = <0x40400000>; entry = <0x40400000>; hash-1 { algo = "sha256"; };
        };
        fdt-1 { data = /incbin/("board.dtb"); type = "flat_dt"; compression = "none"; hash-1 { algo = "sha256"; }; };
        ramdisk-1 {
            data = /incbin/("ramdisk"); type = "ramdisk"; os = "linux"; compression = "none"; hash-1 { algo = "sha256"; };
        };
    };
    configurations {
        default = "debian";
        debian {
            kernel = "kernel-1"; fdt = "fdt-1"; ramdisk = "ramdisk-1";
            signature {
                algo = "sha256,rsa4096"; padding = "pss"; key-name-hint = "dev";
                sign-images = "kernel", "fdt", "ramdisk";
            };
        };
    };
};
"#;

fn run(folder: &Path, line: &str) {
    let mut words = line.split_whitespace();
    let program = words.next().unwrap();
    let output = Command::new(program).args(words).current_dir(folder).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}: `cargo xtask test` installs it"));
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Runs a command of `kiln` in the folder.
fn kiln(folder: &Path, line: &str) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kiln-under-test"));
    command.args(line.split_whitespace()).current_dir(folder);
    let output = command.output().unwrap();
    assert!(output.status.success(), "kiln {line}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Makes a FIT of Debian's kernel, and returns what went in.
fn make_fit(folder: &Path) -> OsParts {
    let fetched = |name| {
        let path =
            std::env::var_os(name).expect("Debian's kernel and busybox: `cargo xtask test` fetches them");
        fs::read(path).unwrap()
    };
    let parts = OsParts {
        kernel: fetched("KILN_KERNEL"),
        device_tree: Firmware::get().device_tree.clone(),
        initramfs: Some(xtask::initramfs::build(&fetched("KILN_BUSYBOX"), TOKEN).unwrap()),
        cmdline: CMDLINE.into(),
        compression: Compression::None,
        places: release::OsPlaces::default(),
    };
    let put = |name: &str, bytes: &[u8]| fs::write(folder.join(name), bytes).unwrap();
    put("kernel", &parts.kernel);
    put("board.dtb", &parts.device_tree);
    put("ramdisk", parts.initramfs.as_deref().unwrap());
    put("image.its", SOURCE.as_bytes());
    run(folder, "gzip -1n kernel");
    run(
        folder,
        "openssl req -batch -new -x509 -nodes -newkey rsa:4096 -subj /CN=dev -keyout dev.key -out dev.crt",
    );
    run(folder, "mkimage -f image.its -k . -r image.itb");
    parts
}

#[test]
fn a_fit_of_debians_linux_becomes_a_release_and_a_closed_device_that_boots_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let os = make_fit(folder.path());
    for (stage, file) in [("stage1-provision", "stage1.elf"), ("stage2-production", "stage2.elf")] {
        fs::write(path(file), elf(stage)).unwrap();
    }
    fs::write(path("kiln.toml"), CONFIG.replace("CMDLINE", CMDLINE)).unwrap();
    let owner = OwnerKeys::read_or_found(&path("keys"), BOARD).unwrap().owner().unwrap();
    kiln(
        folder.path(),
        "release --config kiln.toml --out r1 --content-key r1.key \
         --fit image.itb --fit-key dev.crt --fit-config debian",
    );
    kiln(folder.path(), "verify r1 --root keys/owner-root.pub.pem --content-key r1.key");

    let release = PackageRelease::read(&path("r1/package")).unwrap();
    let content_key = ContentKey::read(&path("r1.key")).unwrap();
    let opened = release.open(&content_key).unwrap();
    let holds = |kind, bytes: &[u8]| opened.iter().any(|one| one.info.kind == kind && *one.plain == bytes);
    assert!(holds(Kind::Kernel, &os.kernel), "the kernel was not decompressed to what it was");
    assert!(holds(Kind::DeviceTree, &os.device_tree), "another device tree");
    assert!(holds(Kind::Initramfs, os.initramfs.as_deref().unwrap()), "another initramfs");

    let root = read_key(&path("keys/owner-root.key.pem")).unwrap();
    let package = Package { release, content_key, plaintexts: Vec::new(), os };
    let factory = Factory::of(root, owner, package);
    let die = factory.die().machine(|config| config.cores(2));
    let run = die.provision(&factory.open(1));
    assert_eq!(run.record.result, station::Outcome::Pass, "{:?}\n{}", run.record, run.console);
    assert_eq!((die.lifecycle(), factory.counts(LOT)), (Lifecycle::Production, (1, 1)));
    assert_eq!(run.boot.result, Outcome::LinuxUserspace, "{}", story(&run.boot));
    assert_eq!(run.boot.token_matched, Some(true), "{}", story(&run.boot));
    assert!(run.console.contains(CMDLINE), "Linux has another command line");
}
