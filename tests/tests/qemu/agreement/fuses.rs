//! Fuses: each row as it is, with as much drift as redundancy covers, and with more.

use boot_select::Selection;
use fail_code::FailCode;
use lifecycle::{Fuses, Lifecycle, OtpImage, Row};
use memory_map::qemu_virt::OTP;
use release::{Artefact, Means, test_keys};
use sealed_image::PublicKey;
use tests::{Maker, fresh_key, private_owner};

use super::ledger::{By, Ledger, of, verify};

pub(crate) fn judge(ledger: &mut Ledger) {
    for lifecycle in Lifecycle::ALL {
        let mut maker = Maker::production();
        maker.lifecycle = lifecycle;
        let class = match lifecycle {
            Lifecycle::Blank | Lifecycle::Returned => "wrong fuses",
            _ => "good",
        };
        enter(ledger, class, lifecycle.name(), &maker, &maker.otp());
        if class == "good" {
            rows(ledger, &maker);
        }
    }
    secrets(ledger);
    policy(ledger);
}

fn enter(ledger: &mut Ledger, class: &'static str, name: &str, maker: &Maker, otp: &OtpImage) {
    enter_by(ledger, class, name, *maker.owner.root(), maker, otp);
}

fn enter_by(
    ledger: &mut Ledger,
    class: &'static str,
    name: &str,
    root: [u8; 64],
    maker: &Maker,
    otp: &OtpImage,
) {
    let means = Means {
        expected: Some(Artefact::Fuses),
        development: maker.lifecycle == Lifecycle::Development,
        ..Means::new(root)
    };
    let said = verify(&otp.to_flash(OTP.size as usize), &means);
    let name = format!("fuses: {}, {name}", maker.lifecycle.name());
    ledger.enter(By::Libraries, class, &name, &of(boots(otp)), &said);
}

/// Does what stage0 does with fuses before it looks at a slot.
fn boots(otp: &OtpImage) -> Result<(), FailCode> {
    let fuses = Fuses::read(otp).map_err(|error| error.code())?;
    Selection::of(&fuses).map(|_| ())
}

/// Flips bits of each row: one, which every row bears; one in each copy; all.
fn rows(ledger: &mut Ledger, maker: &Maker) {
    type Change = (&'static str, fn(&mut [u32]));
    for row in Row::ALL {
        let words = row.words();
        let changes: [Change; 4] = [
            ("one bit", |words| words[0] ^= 1 << 9),
            ("one bit of every word", |words| words.iter_mut().for_each(|word| *word ^= 1 << 9)),
            ("all bits of the first half", |words| {
                let half = words.len() / 2;
                words[..half].iter_mut().for_each(|word| *word = !*word);
            }),
            ("never burned", |words| words.fill(0)),
        ];
        for (name, change) in changes {
            let mut otp = maker.otp();
            change(&mut otp.words_mut()[words.clone()]);
            if otp == maker.otp() {
                continue;
            }
            enter(ledger, "flipped fuse bits", &format!("{row:?}, {name}"), maker, &otp);
        }
    }
}

/// Published secrets in dies that are no development dies.
fn secrets(ledger: &mut Ledger) {
    let fresh = || Maker::production().die;
    let dies = [
        (
            "the test root",
            Maker::new(
                test_keys::owner().unwrap(),
                Lifecycle::Production,
                fresh().silicon_secret,
                fresh().device_seed,
            ),
        ),
        (
            "the published silicon secret",
            Maker::new(
                private_owner(),
                Lifecycle::Production,
                test_keys::silicon_secret(),
                fresh().device_seed,
            ),
        ),
        (
            "the published device seed",
            Maker::new(
                private_owner(),
                Lifecycle::Production,
                fresh().silicon_secret,
                test_keys::device_seed(),
            ),
        ),
    ];
    for (name, maker) in dies {
        enter(ledger, "test key", name, &maker, &maker.otp());
    }
    let maker = Maker::development();
    enter(ledger, "good", "a development die", &maker, &maker.otp());
}

/// What the boot policy asks for, and who owns the die.
fn policy(ledger: &mut Ledger) {
    let maker = Maker::production();
    let mut otp = maker.otp();
    otp.require_post_quantum();
    enter(ledger, "wrong fuses", "asks for post-quantum signatures", &maker, &otp);

    let heir = fresh_key().public();
    let mut otp = maker.otp();
    otp.root(1, &PublicKey::P256(heir).thumbprint());
    enter(ledger, "good", "two owners", &maker, &otp);
    otp.revoke_root(0);
    enter_by(ledger, "good", "the first owner revoked", heir, &maker, &otp);
    let mut otp = maker.otp();
    otp.revoke_root(0);
    enter(ledger, "revoked root", "the only one", &maker, &otp);
}
