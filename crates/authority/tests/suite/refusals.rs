//! Requests that get no ticket: each with its code, an audit row, and no install.

use authority::model::{BOARD, Die};
use authority::{Refusal, Station};
use boot_crypto::host::random;
use boot_crypto::{EcKey, Key};
use boot_info::{Statement, Subject};
use factory_proto::device::{Device, Session};
use fail_code::FailCode;
use lifecycle::{Flag, FuseFacts, Record};
use sqlx::Connection as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};

use crate::common::{LOT, Named, Rig};

/// Checks that a die which `change` altered is refused for this reason, and takes no place in the quota.
async fn refuses(code: FailCode, change: impl FnOnce(&mut Die)) {
    let rig = Rig::new(1).await;
    let mut die = rig.factory.die().unwrap();
    change(&mut die);
    rig.refused(rig.ticket(&die.request(random()).unwrap()).await, code, Named::die(&die)).await;
    assert_eq!(rig.counts().await, (0, 0), "{code}");
    // It is for that reason only: the lot takes another die.
    let good = rig.factory.die().unwrap();
    rig.ticket(&good.request(random()).unwrap()).await.unwrap();
}

/// As [`refuses`], with a die whose fuses `burn` altered.
async fn refuses_fuses(code: FailCode, burn: impl FnOnce(&mut FuseFacts)) {
    refuses(code, |die| burn(&mut die.facts)).await;
}

#[tokio::test]
async fn a_die_that_is_closed_already_is_of_the_wrong_lifecycle() {
    refuses_fuses(FailCode::LifecycleWrong, |facts| {
        facts.lifecycle = lifecycle::Lifecycle::Production;
    })
    .await;
}

#[tokio::test]
async fn a_die_in_the_middle_of_closing_is_of_the_wrong_lifecycle() {
    refuses_fuses(FailCode::LifecycleWrong, |facts| facts.lifecycle = lifecycle::Lifecycle::Closing).await;
}

#[tokio::test]
async fn a_development_die_is_of_the_wrong_lifecycle() {
    refuses_fuses(FailCode::LifecycleWrong, |facts| {
        facts.lifecycle = lifecycle::Lifecycle::Development;
    })
    .await;
}

#[tokio::test]
async fn a_stage_that_the_lot_does_not_allow_gets_no_ticket() {
    refuses(FailCode::MeasurementWrong, |die| die.measurement[31] ^= 1).await;
}

#[tokio::test]
async fn a_package_of_another_lot_gets_no_ticket() {
    refuses(FailCode::PackageNotOfLot, |die| die.package[0] ^= 1).await;
}

#[tokio::test]
async fn a_die_on_another_board_gets_no_ticket() {
    refuses(FailCode::BoardWrong, |die| die.board = "zcu102".into()).await;
}

#[tokio::test]
async fn a_second_owner_root_is_noticed_in_every_spare_slot() {
    for slot in 1..4 {
        refuses_fuses(FailCode::SecondOwnerRoot, |facts| {
            facts.roots[slot].digest = Record::Whole([0xEE; 32]);
        })
        .await;
        refuses_fuses(FailCode::SecondOwnerRoot, |facts| facts.roots[slot].valid = Flag::Set).await;
    }
}

#[tokio::test]
async fn another_owner_root_in_place_of_the_lots_is_noticed() {
    refuses_fuses(FailCode::SecondOwnerRoot, |facts| facts.roots[0].digest = Record::Whole([0xEE; 32])).await;
}

#[tokio::test]
async fn a_raised_floor_is_noticed_for_every_role() {
    for role in 0..6 {
        refuses_fuses(FailCode::FloorRaised, |facts| facts.floors[role] += 1).await;
    }
}

#[tokio::test]
async fn an_open_or_half_burned_debug_lock_is_noticed() {
    for lock in [Flag::Clear, Flag::Torn] {
        refuses_fuses(FailCode::DebugNotLocked, |facts| facts.debug_lock = lock).await;
    }
}

#[tokio::test]
async fn fuses_that_differ_in_any_other_way_are_noticed() {
    refuses_fuses(FailCode::FusePolicyWrong, |facts| facts.provisioning_key = Record::Whole([0; 32])).await;
    refuses_fuses(FailCode::FusePolicyWrong, |facts| facts.provisioning_key = Record::Torn).await;
    refuses_fuses(FailCode::FusePolicyWrong, |facts| facts.closing_measurement = Record::Torn).await;
    refuses_fuses(FailCode::FusePolicyWrong, |facts| facts.roots[0].revoked = Flag::Set).await;
    refuses_fuses(FailCode::FusePolicyWrong, |facts| facts.floors[1] -= 1).await;
    refuses_fuses(FailCode::FusePolicyWrong, |facts| facts.owner_generation = 1).await;
    refuses_fuses(FailCode::FusePolicyWrong, |facts| facts.policy[0] = Flag::Clear).await;
    refuses_fuses(FailCode::FusePolicyWrong, |facts| facts.policy[1] = Flag::Set).await;
    refuses_fuses(FailCode::FusePolicyWrong, |facts| facts.locks = lifecycle::Rows::default()).await;
}

#[tokio::test]
async fn a_statement_that_the_certified_key_did_not_sign_is_refused() {
    refuses(FailCode::StatementInvalid, |die| die.die_key = key(0x11)).await;
}

#[tokio::test]
async fn fuses_that_are_not_those_of_the_statement_are_refused() {
    let rig = Rig::new(1).await;
    let die = rig.factory.die().unwrap();
    let mut open = die.facts;
    open.debug_lock = Flag::Clear;
    let request = forged(&die, &open, &die.facts);
    rig.refused(rig.ticket(&request).await, FailCode::FuseDigestWrong, Named::die(&die)).await;
    let request = forged(&die, &die.facts, &die.facts);
    rig.ticket(&request).await.unwrap();
}

/// Makes a request whose statement was signed over some fuses, and that holds others.
fn forged(die: &Die, signed: &FuseFacts, sent: &FuseFacts) -> Vec<u8> {
    let statement = Statement {
        lifecycle: signed.lifecycle.codeword(),
        measurement: die.measurement,
        fuse_digest: signed.digest(),
        subject: Subject::StageKey(die.stage_key.public()),
    };
    let statement = statement.sign(&die.die_key);
    let chain: Vec<_> = die.chain.iter().map(Vec::as_slice).collect();
    let device = Device {
        board: BOARD,
        chip_id: &die.chip_id,
        package_id: &die.package,
        die_chain: &chain,
        statement: statement.as_bytes(),
        fuse_facts: &sent.encode(),
    };
    Session::new(device, &die.stage_key, key(0x22), random()).unwrap().request().to_vec()
}

#[tokio::test]
async fn a_request_that_the_stated_key_did_not_sign_is_refused() {
    let rig = Rig::new(1).await;
    let die = rig.factory.die().unwrap();
    let mut request = die.request(random()).unwrap();
    *request.last_mut().unwrap() ^= 1;
    rig.refused(rig.ticket(&request).await, FailCode::RequestSignature, Named::die(&die)).await;
    assert_eq!(rig.counts().await, (0, 0));
}

#[tokio::test]
async fn what_is_no_request_is_malformed() {
    let rig = Rig::new(1).await;
    let request = rig.factory.die().unwrap().request(random()).unwrap();
    let mut looked_at = 0;
    for untrusted in [&[][..], b"junk", &request[..request.len() - 1], &[&request[..], b"\0"].concat()] {
        rig.refused(rig.ticket(untrusted).await, FailCode::RequestMalformed, Named::default()).await;
        looked_at += 1;
    }
    assert_eq!(looked_at, 4);
}

#[tokio::test]
async fn a_nonce_of_another_die_is_a_replay() {
    let rig = Rig::new(2).await;
    let [first, second] = [rig.factory.die().unwrap(), rig.factory.die().unwrap()];
    let nonce = random();
    rig.ticket(&first.request(nonce).unwrap()).await.unwrap();
    let answer = rig.ticket(&second.request(nonce).unwrap()).await;
    rig.refused(answer, FailCode::NonceReplayed, Named::die(&second)).await;
    assert_eq!(rig.counts().await, (1, 0));
}

#[tokio::test]
async fn a_nonce_in_another_request_of_the_same_die_is_a_replay_also_after_a_restart() {
    let rig = Rig::new(2).await;
    let mut die = rig.factory.die().unwrap();
    let nonce = random();
    rig.ticket(&die.request(nonce).unwrap()).await.unwrap();
    die.stage_key = key(0x33);
    let request = die.request(nonce).unwrap();
    rig.refused(rig.ticket(&request).await, FailCode::NonceReplayed, Named::die(&die)).await;
    let rig = rig.restart().await;
    rig.refused(rig.ticket(&request).await, FailCode::NonceReplayed, Named::die(&die)).await;
}

#[tokio::test]
async fn a_die_more_than_the_quota_gets_no_ticket_and_one_of_the_quota_still_does() {
    let rig = Rig::new(2).await;
    let dies = [rig.factory.die().unwrap(), rig.factory.die().unwrap(), rig.factory.die().unwrap()];
    rig.closed(&dies[0]).await;
    rig.ticket(&dies[1].request(random()).unwrap()).await.unwrap();
    let answer = rig.ticket(&dies[2].request(random()).unwrap()).await;
    rig.refused(answer, FailCode::QuotaExhausted, Named::die(&dies[2])).await;
    rig.ticket(&dies[1].request(random()).unwrap()).await.unwrap();
    assert_eq!(rig.counts().await, (2, 1));
}

#[tokio::test]
async fn a_closed_die_gets_no_ticket_for_a_new_request_nor_for_the_old_one() {
    let rig = Rig::new(3).await;
    let die = rig.factory.die().unwrap();
    let nonce = random();
    let old = die.request(nonce).unwrap();
    let ticket = rig.ticket(&old).await.unwrap();
    let install = die.open(nonce, &ticket).unwrap().install;
    rig.authority.receipt(&rig.station, &die.csr(nonce, &ticket).unwrap()).await.unwrap();
    rig.authority.release(&rig.station, &rig.proof(&die, &install)).await.unwrap();
    for request in [old, die.request(random()).unwrap()] {
        rig.refused(rig.ticket(&request).await, FailCode::DieClosed, Named::die(&die)).await;
    }
    assert_eq!(rig.counts().await, (1, 1));
}

#[tokio::test]
async fn a_die_gets_sixteen_tickets_and_no_more() {
    let rig = Rig::new(1).await;
    let die = rig.factory.die().unwrap();
    let first = die.request(random()).unwrap();
    let ticket = rig.ticket(&first).await.unwrap();
    for _ in 1..16 {
        rig.ticket(&die.request(random()).unwrap()).await.unwrap();
    }
    let answer = rig.ticket(&die.request(random()).unwrap()).await;
    rig.refused(answer, FailCode::TicketsExhausted, Named::die(&die)).await;
    assert_eq!(rig.ticket(&first).await.unwrap(), ticket, "what was answered is answered again");
}

#[tokio::test]
async fn a_die_begins_in_one_lot_only() {
    let rig = Rig::new(1).await;
    rig.authority.create_lot(rig.factory.lot("lot-2", 1)).await.unwrap();
    let die = rig.factory.die().unwrap();
    rig.ticket(&die.request(random()).unwrap()).await.unwrap();
    let answer = rig.authority.ticket(&rig.station, "lot-2", &die.request(random()).unwrap()).await;
    let named = Named { lot: Some("lot-2"), ..Named::die(&die) };
    rig.refused(answer, FailCode::DieOfOtherLot, named).await;
}

#[tokio::test]
async fn two_dies_with_one_chip_id_are_a_conflict() {
    let rig = Rig::new(2).await;
    let [first, mut second] = [rig.factory.die().unwrap(), rig.factory.die().unwrap()];
    rig.ticket(&first.request(random()).unwrap()).await.unwrap();
    second.chip_id = first.chip_id;
    second.chain[0] = rig.factory.vendor.certify(&second.chip_id, &second.die_key.public()).unwrap();
    let answer = rig.ticket(&second.request(random()).unwrap()).await;
    rig.refused(answer, FailCode::DieConflict, Named::die(&second)).await;
    assert_eq!(rig.counts().await, (1, 0));
}

#[tokio::test]
async fn two_chip_ids_with_one_die_key_are_a_conflict() {
    let rig = Rig::new(2).await;
    let mut dies = [rig.factory.die().unwrap(), rig.factory.die().unwrap()];
    for die in &mut dies {
        die.die_key = key(0x44);
        die.chain[0] = rig.factory.vendor.certify(&die.chip_id, &die.die_key.public()).unwrap();
    }
    rig.ticket(&dies[0].request(random()).unwrap()).await.unwrap();
    let answer = rig.ticket(&dies[1].request(random()).unwrap()).await;
    rig.refused(answer, FailCode::DieConflict, Named::die(&dies[1])).await;
}

#[tokio::test]
async fn a_lot_that_nobody_made_is_unknown() {
    let rig = Rig::new(1).await;
    let request = rig.factory.die().unwrap().request(random()).unwrap();
    for lot in ["", "lot", "LOT-1", "lot-1/", "' OR 1=1 --"] {
        let answer = rig.authority.ticket(&rig.station, lot, &request).await;
        rig.refused(answer, FailCode::LotUnknown, Named::default()).await;
    }
}

#[tokio::test]
async fn a_die_that_the_lot_does_not_list_gets_no_ticket() {
    let rig = Rig::without_lot().await;
    let [listed, other] = [rig.factory.die().unwrap(), rig.factory.die().unwrap()];
    let mut lot = rig.factory.lot(LOT, 5);
    lot.dies = vec![listed.chip_id];
    rig.authority.create_lot(lot).await.unwrap();
    let answer = rig.ticket(&other.request(random()).unwrap()).await;
    rig.refused(answer, FailCode::DieNotListed, Named::die(&other)).await;
    rig.ticket(&listed.request(random()).unwrap()).await.unwrap();
}

#[tokio::test]
async fn a_station_that_the_lot_does_not_admit_gets_nothing_until_it_is_admitted() {
    let rig = Rig::without_lot().await;
    let other = Station { fingerprint: [0x0F; 32] };
    let mut lot = rig.factory.lot(LOT, 5);
    lot.stations = vec![other.fingerprint];
    rig.authority.create_lot(lot).await.unwrap();
    let die = rig.factory.die().unwrap();
    let request = die.request(random()).unwrap();
    rig.refused(rig.ticket(&request).await, FailCode::StationUnauthorised, Named::die(&die)).await;
    rig.authority.ledger().admit(LOT, rig.station.fingerprint).await.unwrap();
    let ticket = rig.ticket(&request).await.unwrap();
    assert_eq!(rig.authority.ticket(&other, LOT, &request).await.unwrap(), ticket, "both are admitted");
}

#[tokio::test]
async fn a_revoked_lot_answers_nothing_any_more() {
    let rig = Rig::new(5).await;
    let [die, fresh] = [rig.factory.die().unwrap(), rig.factory.die().unwrap()];
    let nonce = random();
    let request = die.request(nonce).unwrap();
    let ticket = rig.ticket(&request).await.unwrap();
    let install = die.open(nonce, &ticket).unwrap().install;
    rig.authority.ledger().revoke(LOT).await.unwrap();

    let code = FailCode::LotRevoked;
    rig.refused(rig.ticket(&request).await, code, Named::die(&die)).await;
    rig.refused(rig.ticket(&fresh.request(random()).unwrap()).await, code, Named::die(&fresh)).await;
    let answer = rig.authority.receipt(&rig.station, &die.csr(nonce, &ticket).unwrap()).await;
    rig.refused(answer, code, Named::install(&die, &install)).await;
    let answer = rig.authority.release(&rig.station, &rig.proof(&die, &install)).await;
    rig.refused(answer, code, Named::install(&die, &install)).await;
    assert_eq!(rig.counts().await, (1, 0));
}

#[tokio::test]
async fn a_voided_install_is_answered_nothing_and_its_place_stays_taken() {
    let rig = Rig::new(1).await;
    let [die, fresh] = [rig.factory.die().unwrap(), rig.factory.die().unwrap()];
    let (_, install) = rig.certified(&die).await;
    rig.authority.ledger().void(install, "the board burned").await.unwrap();
    let code = FailCode::InstallVoid;
    rig.refused(rig.ticket(&die.request(random()).unwrap()).await, code, Named::die(&die)).await;
    let answer = rig.authority.release(&rig.station, &rig.proof(&die, &install)).await;
    rig.refused(answer, code, Named::install(&die, &install)).await;
    let answer = rig.ticket(&fresh.request(random()).unwrap()).await;
    rig.refused(answer, FailCode::QuotaExhausted, Named::die(&fresh)).await;
}

#[tokio::test]
async fn refusals_that_repeat_fill_one_row_which_counts_them() {
    let rig = Rig::new(0).await;
    let die = rig.factory.die().unwrap();
    for _ in 0..20 {
        let answer = rig.ticket(&die.request(random()).unwrap()).await;
        rig.refused(answer, FailCode::QuotaExhausted, Named::die(&die)).await;
    }
    let filter = authority::storage::Filter { code: Some(FailCode::QuotaExhausted), ..Default::default() };
    let rows = rig.authority.ledger().audit(&filter).await.unwrap();
    let counts: u32 = rows.iter().map(|row| row.count).sum();
    assert_eq!(counts, 20);
    assert!(rows.len() <= 2, "{} rows: an hour may have ended between", rows.len());
}

#[tokio::test]
async fn what_cannot_be_stored_is_not_answered() {
    let rig = Rig::new(1).await;
    let die = rig.factory.die().unwrap();
    let request = die.request(random()).unwrap();
    let path = rig.folder.path().join("authority/authority.db");
    let mut other =
        SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(path)).await.unwrap();
    let broken = "CREATE TRIGGER broken BEFORE INSERT ON tickets BEGIN SELECT RAISE(FAIL, 'no space'); END";
    sqlx::query(broken).execute(&mut other).await.unwrap();
    rig.refused(rig.ticket(&request).await, FailCode::StorageFailed, Named::die(&die)).await;
    assert_eq!(rig.counts().await, (0, 0), "the reservation was undone with the ticket");
    sqlx::query("DROP TRIGGER broken").execute(&mut other).await.unwrap();
    rig.ticket(&request).await.unwrap();
    assert_eq!(rig.counts().await, (1, 0));
}

#[tokio::test]
async fn the_database_itself_keeps_quota_and_one_install_for_a_die() {
    let rig = Rig::new(1).await;
    let die = rig.factory.die().unwrap();
    rig.ticket(&die.request(random()).unwrap()).await.unwrap();
    let path = rig.folder.path().join("authority/authority.db");
    let mut other =
        SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(path)).await.unwrap();
    let copy = |chip: &str, key: &str| {
        format!(
            "INSERT INTO installs SELECT randomblob(32), lot, {chip}, {key}, hex(randomblob(8)), state,
                tickets, session, certificate, csr, release, reserved_at, closed_at FROM installs LIMIT 1"
        )
    };
    for (broken, rule) in [
        ("UPDATE lots SET issued = issued + 1".to_owned(), "CHECK"),
        ("UPDATE lots SET quota = 0".to_owned(), "CHECK"),
        (copy("chip_id", "randomblob(64)"), "installs.chip_id"),
        (copy("randomblob(16)", "die_key"), "installs.die_key"),
    ] {
        let statement = sqlx::query(sqlx::AssertSqlSafe(broken.as_str()));
        let error = statement.execute(&mut other).await.unwrap_err().to_string();
        assert!(error.contains(rule), "{broken}: {error}");
    }
    let control = sqlx::query(sqlx::AssertSqlSafe(copy("randomblob(16)", "randomblob(64)")));
    control.execute(&mut other).await.unwrap();
}

fn key(byte: u8) -> EcKey {
    EcKey::derive(&Key::new([byte; 32]), &[], b"test")
}

#[test]
fn details_of_a_refusal_are_bounded() {
    let rig = tokio::runtime::Runtime::new().unwrap();
    rig.block_on(async {
        let rig = Rig::new(1).await;
        let request = rig.factory.die().unwrap().request(random()).unwrap();
        let lot = "\u{e9}".repeat(5000);
        let answer: Result<_, Refusal> = rig.authority.ticket(&rig.station, &lot, &request).await;
        assert!(answer.unwrap_err().detail.len() <= 200);
    });
}
