//! A product to make releases of.

use crate::common::Desk;

/// Its configuration.
pub(crate) const CONFIG: &str = r#"
product = "demo"
board = "qemu-virt"
version = "1.2.3"
rollback-index = 2
[owner]
keys = "keys"
[stages]
stage1 = "stage1.elf"
stage2 = "stage2.elf"
crates = "crates.json"
commit = "0123456789abcdef"
[bundle]
cmdline = "console=ttyAMA0 not-to-be-published"
[[payload]]
kind = "kernel"
file = "Image"
name = "linux"
version = "6.1"
license = "GPL-2.0-only"
[[payload]]
kind = "device-tree"
file = "board.dtb"
[[payload]]
kind = "initramfs"
file = "initramfs.cpio"
[[payload]]
kind = "secret"
file = "customer.key"
"#;
/// A desk with everything that a release is made of, but for the owner's keys.
pub(crate) fn desk() -> Desk {
    let desk = Desk::new();
    desk.put("initramfs.cpio", &[5; 700]);
    desk.put("customer.key", b"the key of a customer");
    desk.put("kiln.toml", CONFIG.as_bytes());
    desk.put(
        "crates.json",
        br#"[{"name":"aes","version":"0.9.4","license":"MIT OR Apache-2.0",
              "sha256":"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
             {"name":"hal","version":"0.1.0"}]"#,
    );
    desk
}
