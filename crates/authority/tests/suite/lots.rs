//! Lots that cannot be made, and what can be changed of those that are.

use authority::{Delegation, Error, NewLot};
use boot_crypto::host::{Es256Key, random};

use crate::common::{LOT, Rig, hex};

#[tokio::test]
async fn a_name_is_taken_once() {
    let rig = Rig::new(1).await;
    let again = rig.authority.create_lot(rig.factory.lot(LOT, 100)).await;
    assert!(matches!(again, Err(Error::LotExists(name)) if name == LOT));
    assert_eq!(rig.authority.ledger().lot(LOT).await.unwrap().quota, 1);
}

#[tokio::test]
async fn terms_that_no_device_could_meet_are_refused() {
    let rig = Rig::without_lot().await;
    let lot = |change: fn(&mut NewLot)| {
        let mut lot = rig.factory.lot(LOT, 1);
        change(&mut lot);
        lot
    };
    let changes: [fn(&mut NewLot); 12] = [
        |lot| lot.name = String::new(),
        |lot| lot.name = "a/b".into(),
        |lot| lot.name = ".hidden".into(),
        |lot| lot.name = "x".repeat(33),
        |lot| lot.terms.board = String::new(),
        |lot| lot.terms.stage1.clear(),
        |lot| lot.terms.stage2.clear(),
        |lot| lot.terms.stage1 = vec![[1; 32]; 17],
        |lot| lot.terms.fuses.production_floors[1] = 0,
        |lot| lot.terms.fuses.production_floors[1] = 255,
        |lot| lot.terms.vendors = String::new(),
        |lot| lot.terms.vendors = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n".into(),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let made = rig.authority.create_lot(lot(change)).await;
        assert!(matches!(made, Err(Error::Invalid { .. })), "change {number}: {made:?}");
    }
    rig.authority.create_lot(lot(|_| {})).await.unwrap();
}

#[tokio::test]
async fn a_die_is_no_vendor() {
    let rig = Rig::without_lot().await;
    let mut lot = rig.factory.lot(LOT, 1);
    lot.terms.vendors = release::certificate_pem(&rig.factory.die().unwrap().chain[0]);
    let made = rig.authority.create_lot(lot).await;
    assert!(matches!(made, Err(Error::Invalid { .. })), "{made:?}");
}

#[tokio::test]
async fn a_lot_under_a_root_that_did_not_delegate_is_refused() {
    let rig = Rig::without_lot().await;
    let stranger = Es256Key::generate();
    let mut lot = rig.factory.lot(LOT, 1);
    let delegation = Delegation::sign(&stranger, &rig.authority.signing_key(), "qemu-virt").unwrap();
    lot.terms.fuses.root_digest = delegation.root_digest();
    let made = rig.authority.create_lot(lot).await;
    let root = hex(&delegation.root_digest());
    assert!(matches!(&made, Err(Error::NotDelegated { root: found }) if *found == root), "{made:?}");
}

#[tokio::test]
async fn a_delegation_that_devices_would_refuse_is_refused() {
    let rig = Rig::without_lot().await;
    let (root, key) = (&rig.factory.root, rig.authority.signing_key());
    let other_key = Delegation::sign(root, &Es256Key::generate().public(), "qemu-virt").unwrap();
    let other_board = Delegation::sign(root, &key, "zcu102").unwrap();
    let good = Delegation::sign(root, &key, "qemu-virt").unwrap();
    let other_root = Delegation { root: Es256Key::generate().public(), ..good.clone() };
    let cut = Delegation { certificate: good.certificate[2..].into(), ..good.clone() };
    let no_hex = Delegation { certificate: "zz".into(), ..good.clone() };
    for delegation in [other_key, other_board, other_root, cut, no_hex] {
        let taken = rig.authority.delegate(&delegation, "qemu-virt").await;
        assert!(matches!(taken, Err(Error::Delegation(_))), "{taken:?}");
    }
    rig.authority.delegate(&good, "qemu-virt").await.unwrap();
}

#[tokio::test]
async fn a_quota_is_raised_and_never_falls_below_what_is_issued() {
    let rig = Rig::new(1).await;
    let die = rig.factory.die().unwrap();
    rig.closed(&die).await;
    let ledger = rig.authority.ledger();
    assert!(matches!(ledger.set_quota(LOT, 0).await, Err(Error::QuotaBelowIssued { issued: 1, .. })));
    ledger.set_quota(LOT, 2).await.unwrap();
    rig.ticket(&rig.factory.die().unwrap().request(random()).unwrap()).await.unwrap();
    assert_eq!(rig.counts().await, (2, 1));
    assert!(matches!(ledger.set_quota("other", 2).await, Err(Error::NoSuchLot(_))));
    assert!(matches!(ledger.revoke("other").await, Err(Error::NoSuchLot(_))));
}

#[tokio::test]
async fn a_closed_install_is_not_voided() {
    let rig = Rig::new(1).await;
    let install = rig.closed(&rig.factory.die().unwrap()).await;
    let voided = rig.authority.ledger().void(install, "").await;
    assert!(matches!(voided, Err(Error::InstallClosed(_))), "{voided:?}");
    assert!(matches!(rig.authority.ledger().void([9; 32], "").await, Err(Error::NoSuchInstall(_))));
}
