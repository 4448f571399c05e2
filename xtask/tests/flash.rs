//! `flash` as a person runs it, in a factory of its own, with the workspace's payload in Linux's place: what it refuses,
//! what it carries on with, and what its report says.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use authority::{NewLot, Terms};
use fail_code::FailCode;
use memory_map::qemu_virt::BOARD;
use release::{ContentKey, PackageFacts, PackageRelease, certificate_pem, hex, read_certificate, read_key};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use xtask::local_authority::LocalAuthority;

/// How often a device is taken that came to its end before it was cut off.
const TRIES: usize = 10;

/// A folder in which owner, vendor, authority and devices lie.
struct Factory(TempDir);

/// What came of a command.
struct Flashed {
    code: Option<i32>,
    text: String,
    report: Value,
}

impl Factory {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, device: &str, options: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command.args(["flash", "--device", device]).args(options).env("KILN_DIR", self.0.path());
        command
    }

    fn flash(&self, device: &str, options: &[&str]) -> Flashed {
        let file = self.path("report.json");
        let _ = fs::remove_file(&file);
        let mut command = self.command(device, options);
        let output = command.arg("--report").arg(&file).output().unwrap();
        let report = fs::read(&file).map_or(Value::Null, |json| serde_json::from_slice(&json).unwrap());
        let text = String::from_utf8(output.stderr).unwrap();
        Flashed { code: output.status.code(), text, report }
    }

    /// Takes a device to its end.
    fn close(&self, device: &str, options: &[&str]) -> Value {
        let done = self.flash(device, options);
        assert_eq!(done.code, Some(0), "{}", done.text);
        assert_eq!(done.report["result"], "payload", "{}", done.text);
        assert_eq!(done.report["lifecycle"], "production");
        done.report
    }

    /// Asserts that a report counts two copies of the production stage and of the system, at least.
    fn assert_rekeyed(&self, report: &Value) {
        let sizes = ["stage2-production.bin", "payload.bin", "qemu-virt.dtb"]
            .map(|name| fs::metadata(self.path("build").join(name)).unwrap().len());
        let rekeyed = report["rekeyed_bytes"].as_u64().unwrap();
        assert!(rekeyed > 2 * sizes.iter().sum::<u64>(), "{rekeyed} bytes re-keyed of {sizes:?}");
    }

    fn flash0(&self, device: &str) -> Vec<u8> {
        fs::read(self.path("devices").join(device).join("flash0.img")).unwrap()
    }
}

/// Waits until a command says that something is done, and interrupts it as Ctrl-C does.
fn interrupt_after(mut command: Child, done: &str) {
    let lines = BufReader::new(command.stderr.take().unwrap()).lines();
    let said = lines.map_while(Result::ok).find(|line| line.contains(done));
    assert!(said.is_some(), "it ended before it said `{done}`");
    let _ = kill_process(Pid::from_child(&command), Signal::INT);
    command.wait().unwrap();
}

fn text(code: FailCode) -> String {
    String::from_utf8(code.text().to_vec()).unwrap()
}

/// Tells whether openssl accepts a certificate request.
fn openssl_accepts(csr: &Path) -> bool {
    let checked = Command::new("openssl").args(["req", "-verify", "-noout", "-in"]).arg(csr).output();
    checked.expect("openssl").status.success()
}

#[test]
fn a_closed_device_is_refused_and_stays_as_it_is_until_a_new_one_is_asked_for() {
    let factory = Factory::new();
    let report = factory.close("d", &["--payload"]);
    assert_eq!(report["device"], "d");
    assert_eq!(report["code"], Value::Null);
    assert_eq!(report["cpus_online"], 2);
    let lot = &report["authority"];
    assert_eq!((&lot["quota"], &lot["issued"], &lot["closed"]), (&json!(100), &json!(1), &json!(1)));
    factory.assert_rekeyed(&report);
    assert!(report["fuse_rows_burned"].as_u64().unwrap() >= 10, "{}", report["fuse_rows_burned"]);
    assert!(report["certificate_chain_pem"].as_str().unwrap().matches("BEGIN CERTIFICATE").count() >= 2);
    assert!(openssl_accepts(&factory.path("devices/d/csr.pem")));
    assert_eq!(report["boot"]["result"], "payload");
    assert_eq!(report["measurements"], report["boot"]["measurements"]);
    let steps: Vec<&str> =
        report["steps"].as_array().unwrap().iter().map(|step| step["name"].as_str().unwrap()).collect();
    let host = ["build", "release", "fabricate", "pre-provision", "start-authority"].map(str::to_owned);
    let expected: Vec<String> = host.into_iter().chain((0..=8).map(station::step_name)).collect();
    assert_eq!(steps, expected);
    let times = report["steps"].as_array().unwrap().iter();
    assert!(times.clone().all(|step| step["start_ms"].as_u64() <= step["end_ms"].as_u64()));
    assert!(fs::read_to_string(factory.path("report.svg")).unwrap().contains("check-and-fuse"));

    let before = factory.flash0("d");
    let again = factory.flash("d", &["--payload"]);
    assert_eq!((again.code, &again.report["code"]), (Some(1), &json!(text(FailCode::DieClosed))));
    assert_eq!(again.report["chip_id"], report["chip_id"]);
    for said in [FailCode::DieClosed.cause(), "run --device d", "flash --device d --new"] {
        assert!(again.text.contains(said), "{said}: {}", again.text);
    }
    assert!(factory.flash0("d") == before, "a closed device was written to");

    let new = factory.close("d", &["--payload", "--new"]);
    assert_ne!(new["chip_id"], report["chip_id"]);
    assert_eq!((&new["authority"]["issued"], &new["authority"]["closed"]), (&json!(2), &json!(2)));
}

#[test]
fn a_device_that_was_cut_off_goes_on_as_what_it_was_begun() {
    let factory = Factory::new();
    let begun = |file: &str| -> Value {
        serde_json::from_slice(&fs::read(factory.path("devices/d").join(file)).unwrap()).unwrap()
    };
    // A die that is closed by then was too fast.
    let cut = (0..TRIES).find(|_| {
        let mut command = factory.command("d", &["--payload", "--new", "--cores", "3"]);
        interrupt_after(command.stderr(Stdio::piped()).spawn().unwrap(), "ok   identity");
        factory.flash("d", &["--payload", "--cores", "2"]).report["code"] == text(FailCode::DeviceOfOtherKind)
    });
    assert!(cut.is_some(), "no die was cut off");
    let facts = begun("device.json");
    for (options, asked) in [
        (&["--cores", "2"][..], "number of cores"),
        (&["--memory", "1024"], "amount of DRAM"),
        (&["--payload", "--cmdline", "another"], "command line"),
        (&["--dtb", "/dev/null"], "device tree"),
    ] {
        let other = factory.flash("d", options);
        let code = text(FailCode::DeviceOfOtherKind);
        assert_eq!((other.code, &other.report["code"]), (Some(1), &json!(code)), "{}", other.text);
        assert_eq!(other.report["chip_id"], facts["chip_id"]);
        assert!(other.text.contains(asked) && other.text.contains("--new"), "{}", other.text);
        assert_eq!(begun("device.json"), facts);
    }

    let report = factory.close("d", &["--payload", "--cores", "3"]);
    assert_eq!(report["chip_id"], facts["chip_id"]);
    assert_eq!(report["cpus_online"], 3);
    assert_eq!(report["authority"]["closed"], 1 + cut.unwrap());
    assert_eq!(report["authority"]["issued"], report["authority"]["closed"]);
    // What was done before the cut is in the report too.
    factory.assert_rekeyed(&report);
    assert_eq!(report["csr_pem"], fs::read_to_string(factory.path("devices/d/csr.pem")).unwrap());
    assert!(openssl_accepts(&factory.path("devices/d/csr.pem")));
}

#[test]
fn a_quota_and_another_authority_are_what_the_options_say() {
    let factory = Factory::new();
    factory.close("d1", &["--payload", "--quota", "1"]);
    let refused = factory.flash("d2", &["--payload"]);
    assert_eq!((refused.code, &refused.report["code"]), (Some(1), &json!(text(FailCode::QuotaExhausted))));
    assert_eq!(
        (&refused.report["result"], &refused.report["lifecycle"]),
        (&json!("refused"), &json!("secured"))
    );
    assert_eq!(refused.report["rekeyed_bytes"], 0);
    assert_eq!(refused.report["csr_pem"], Value::Null);
    assert_eq!(refused.report["authority"]["quota"], 1);
    let chip_id = &refused.report["chip_id"];

    // Another authority of the same owner has a lot for the package too.
    let package = fs::read_dir(factory.path("factory/packages")).unwrap().next().unwrap().unwrap();
    let key = factory.path("factory/content-keys").join(package.file_name()).with_extension("key");
    let release = PackageRelease::read(&package.path()).unwrap();
    let other = LocalAuthority::start(&factory.path("other"), None).unwrap();
    other.delegate(&read_key(&factory.path("factory/owner/owner-root.key.pem")).unwrap(), BOARD).unwrap();
    let vendor = certificate_pem(&read_certificate(&factory.path("factory/vendor/vendor-root.pem")).unwrap());
    let lot = NewLot {
        name: "theirs".into(),
        quota: 1,
        terms: Terms::new(&release.facts, vendor),
        content_key: ContentKey::read(&key).unwrap().0,
        dies: Vec::new(),
        stations: Vec::new(),
    };
    other.create_lot(lot).unwrap();
    let station = other.issue_station("line-1").unwrap();
    let folder = factory.path("credentials");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("tls-ca.pem"), station.authority_ca).unwrap();
    fs::write(folder.join("station.pem"), station.certificate).unwrap();
    fs::write(folder.join("station.key.pem"), station.key).unwrap();
    let options = ["--authority", &other.url(), "--credentials", folder.to_str().unwrap(), "--lot", "theirs"];
    let report = factory.close("d2", &options);
    assert_eq!(&report["chip_id"], chip_id, "the die that was refused");
    assert_eq!(report["authority"], json!({"lot": "theirs", "quota": null, "issued": null, "closed": null}));
    assert!(report["csr_pem"].is_string() && report["certificate_chain_pem"].is_string());
    let counts = other.lot("theirs").unwrap().unwrap();
    assert_eq!((counts.issued, counts.closed), (1, 1));
}

/// As a company does it: the keys are on a token, the factory is given the release folder.
#[test]
fn a_release_that_a_token_signed_is_what_the_device_is_provisioned_from() {
    const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
    const PIN: &str = "a pin of a test";
    let factory = Factory::new();
    fs::create_dir(factory.path("tokens")).unwrap();
    let configuration = format!("directories.tokendir = {}\n", factory.path("tokens").display());
    fs::write(factory.path("softhsm2.conf"), configuration).unwrap();
    let run = |command: &mut Command, words: &[&str], succeeds: bool| {
        let command = command.args(words).env("KILN_DIR", factory.0.path()).current_dir(factory.0.path());
        let command = command.env("SOFTHSM2_CONF", factory.path("softhsm2.conf")).env("KILN_PIN", PIN);
        let output = command.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.success(), succeeds, "{words:?}: {said}");
        said
    };
    let xtask = || Command::new(env!("CARGO_BIN_EXE_xtask"));
    run(
        &mut Command::new("softhsm2-util"),
        &["--init-token", "--free", "--label", "owner", "--so-pin", PIN, "--pin", PIN],
        true,
    );
    let uri = format!("pkcs11:token=owner?module-path={MODULE}");
    fs::create_dir(factory.path("factory")).unwrap();
    let mut kiln = Command::new(env!("CARGO_BIN_EXE_kiln-at-the-factory"));
    run(&mut kiln, &["keys", "create", "factory/owner", "--pkcs11", &uri], true);
    run(&mut xtask(), &["release", "--payload", "--out", "r1"], true);
    let uris = fs::read_dir(factory.path("factory/owner")).unwrap();
    let private = uris.filter(|file| {
        let name = file.as_ref().unwrap().file_name().into_string().unwrap();
        name.ends_with(".key.pem")
    });
    assert_eq!(private.count(), 0, "no key is in a file");

    run(&mut xtask(), &["flash", "--release", "r1", "--device", "d", "--report", "report.json"], true);
    let report: Value = serde_json::from_slice(&fs::read(factory.path("report.json")).unwrap()).unwrap();
    assert_eq!((&report["result"], &report["lifecycle"]), (&json!("payload"), &json!("production")));
    let facts = PackageFacts::read(&factory.path("r1/package")).unwrap();
    let lot = format!("demo-{}", &hex(&facts.package_digest)[..12]);
    assert_eq!(report["authority"]["lot"], lot);

    // Another release of the same parts has the same id, and a content key of its own.
    run(&mut xtask(), &["release", "--payload", "--out", "r2"], true);
    let other = PackageFacts::read(&factory.path("r2/package")).unwrap();
    assert!(other.package_id == facts.package_id && other.package_digest != facts.package_digest);
    run(&mut xtask(), &["flash", "--release", "r2", "--device", "d2"], true);

    // Whatever is done to it, it is refused before a die is touched; so is one whose content key nobody here can open.
    let said = run(&mut xtask(), &["flash", "--release", "r1", "--payload"], false);
    assert!(said.contains("cannot be used with"), "{said}");
    fs::rename(factory.path("r1/content-key.sealed"), factory.path("sealed")).unwrap();
    let said = run(&mut xtask(), &["flash", "--release", "r1", "--device", "e"], false);
    assert!(said.contains("give --content-key FILE"), "{said}");
    fs::rename(factory.path("sealed"), factory.path("r1/content-key.sealed")).unwrap();
    let sbom = factory.path("r1/sbom.cdx.json");
    fs::write(&sbom, [&fs::read(&sbom).unwrap()[..], b" "].concat()).unwrap();
    let said = run(&mut xtask(), &["flash", "--release", "r1", "--device", "e"], false);
    assert!(said.contains("K1401 release-file-altered") && said.contains("cure"), "{said}");
    assert!(!factory.path("devices/e").exists());
}
