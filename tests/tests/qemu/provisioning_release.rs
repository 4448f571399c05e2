//! A release as a company makes it: signed with keys on a PKCS#11 token (SoftHSM), its content key sealed to the authority.
//! Every party types its commands, and a blank die becomes a closed device with it.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use release::{PackageRelease, SiliconVendor, Start, certificate_pem, preprovision};
use serde_json::Value;
use station::{Authority, Credentials};
use store::Slot;
use tempfile::TempDir;
use tests::verdict::{assert_boots, assert_closed};
use tests::{Die, Firmware, TOKEN, cmdline, crates, elf};

const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
const PIN: &str = "a pin of a test";
const KILN: &str = env!("CARGO_BIN_EXE_kiln-under-test");

/// A folder that the parties work in.
struct Desk(TempDir);

impl Desk {
    /// Makes a desk with the firmware, a token without keys, and what the release is made of.
    fn new() -> Self {
        let desk = Self(tempfile::tempdir().unwrap());
        fs::create_dir(desk.path("tokens")).unwrap();
        let tokens = desk.path("tokens");
        desk.put("softhsm2.conf", format!("directories.tokendir = {}\n", tokens.display()).as_bytes());
        let mut token = Command::new("softhsm2-util");
        token.args(["--init-token", "--free", "--label", "owner", "--so-pin", PIN, "--pin", PIN]);
        let output = token.env("SOFTHSM2_CONF", desk.path("softhsm2.conf")).output();
        assert!(
            output.expect("softhsm2-util is installed: `cargo xtask test` sees to that").status.success()
        );

        let firmware = Firmware::get();
        for stage in ["stage1-provision", "stage2-production"] {
            desk.put(&format!("{stage}.elf"), &elf(stage));
        }
        desk.put("crates.json", &crates());
        desk.put("Image", &firmware.payload.bytes);
        desk.put("board.dtb", &firmware.device_tree);
        let kiln_toml = format!(
            r#"
product = "token"
board = "qemu-virt"
version = "1.0.0"
rollback-index = 1
profile = "production"
authority-key = "authority.pub.pem"
[owner]
keys = "owner"
[stages]
stage1 = "stage1-provision.elf"
stage2 = "stage2-production.elf"
crates = "crates.json"
commit = "0123456789abcdef"
[bundle]
cmdline = "{}"
[[payload]]
kind = "kernel"
file = "Image"
[[payload]]
kind = "device-tree"
file = "board.dtb"
"#,
            cmdline(TOKEN)
        );
        desk.put("kiln.toml", kiln_toml.as_bytes());
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).unwrap();
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(KILN);
        command.args(line.split(' ')).current_dir(self.0.path());
        command.env("SOFTHSM2_CONF", self.path("softhsm2.conf")).env("KILN_PIN", PIN);
        command.env_remove("KILN_AUTHORITY").env_remove("KILN_AUTHORITY_ANCHOR").stdin(Stdio::null());
        command
    }

    /// Runs `kiln`, and returns what it says as JSON.
    #[track_caller]
    fn kiln(&self, line: &str) -> Value {
        let output = self.command(&format!("{line} --json")).output().unwrap();
        assert!(output.status.success(), "kiln {line}: {}", String::from_utf8_lossy(&output.stdout));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

/// A service that ends with the test.
struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        self.0.kill().expect("the service is running");
        self.0.wait().expect("it ends");
    }
}

#[test]
fn a_release_that_delegated_keys_on_a_token_signed_and_whose_content_key_only_the_authority_has_makes_a_closed_device()
 {
    let desk = Desk::new();
    let token = format!("pkcs11:token=owner?module-path={MODULE}");
    // The root is on the same token, and still nobody needs it to release: the folder that does knows no way to it.
    desk.kiln(&format!("keys create root --role root --pkcs11 {token}"));
    desk.kiln(&format!("keys create owner --role boot --role provision --pkcs11 {token}"));
    desk.kiln(&format!("keys create owner --role os --algorithm ps256-3072 --pkcs11 {token}"));
    fs::copy(desk.path("root/owner-root.pub.pem"), desk.path("owner/owner-root.pub.pem")).unwrap();
    for role in ["boot", "provision", "os"] {
        desk.kiln(&format!(
            "keys delegate root --role {role} --key owner/owner-{role}.pub.pem --out owner/owner-{role}.delegation \
             --from-version 1.0.0 --to-version 1.0.9"
        ));
    }
    let authority = desk.kiln("authority init");
    let key = authority["signing_key"].as_str().unwrap();
    desk.kiln(&format!(
        "authority delegation sign --root-key root/owner-root.key.uri --key {key} --board qemu-virt --out d.json"
    ));
    desk.kiln("authority delegation add d.json --board qemu-virt");
    desk.kiln("authority key export authority.pub.pem");

    let made = desk.kiln("release --out r1");
    assert_eq!(made["content_key_sealed_to"], authority["sealing_key_thumbprint"]);
    let verified = desk.kiln("verify r1 --root owner/owner-root.pub.pem");
    assert_eq!(verified["package_id"], made["package_id"]);

    let vendor = SiliconVendor::found().unwrap();
    desk.put("vendor.pem", certificate_pem(vendor.root()).as_bytes());
    desk.kiln("authority lot create lot-1 --quota 1 --package r1/package --sealed-content-key r1/content-key.sealed --vendor vendor.pem");
    let mut service = desk.command("authority serve --port 0");
    let mut service = Service(service.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
    let mut line = String::new();
    BufReader::new(service.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let listening: Value = serde_json::from_str(&line).unwrap();
    let port = listening["listening"].as_str().unwrap().rsplit(':').next().unwrap().to_owned();
    let read = |name: &str| fs::read(desk.path("authority").join(name)).unwrap();
    let station = Credentials {
        authority_ca: read("tls-ca.pem"),
        certificate: read("station.pem"),
        key: read("station.key.pem"),
    };
    let way = Authority::new(&format!("https://localhost:{port}"), "lot-1", &station).unwrap();

    let die = Die::blank(&vendor);
    let package = PackageRelease::read(&desk.path("r1/package")).unwrap();
    preprovision(&die.files, &package, Start::Blank).unwrap();
    let run = die.provision(&way);
    assert_closed(&die, &run);
    assert_boots(&run.boot, Slot::A, Slot::A);
    assert_boots(&die.boot(), Slot::A, Slot::A);
    drop(service);
    let lot = desk.kiln("authority lot show lot-1");
    assert_eq!((&lot["issued"], &lot["closed"]), (&1.into(), &1.into()));
}
