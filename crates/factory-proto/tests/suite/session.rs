//! A whole session, and what belongs to it.

use crate::common::*;
use factory_proto::authority::{CsrExpected, UntrustedCsr, verify_closing};
use factory_proto::{ClosingProof, device, identity};
use sealed_image::Es256;

#[test]
fn a_die_is_provisioned_certified_and_closed() {
    let die = Die::new(0x20);
    let session = die.session();
    let request = die.verify(session.request()).unwrap();
    assert_eq!(request.digest, *session.request_digest());
    assert_eq!((request.nonce, request.package_id, request.board), (NONCE, PACKAGE, BOARD));
    assert_eq!((request.measurement, request.fuse_facts), (MEASUREMENT, fuse_policy().secured()));

    let roots = roots();
    let ticket = session.verify_ticket::<Es256>(&die.ticket(session.request()), &trust(&roots)).unwrap();
    assert_eq!((ticket.install, ticket.serial.as_str()), (INSTALL, SERIAL));
    assert_eq!(*ticket.content_key.expose(), CONTENT_KEY);
    assert_ne!(*ticket.entropy.expose(), [0; 32]);

    let der = identity::request(&die.identity, &die.chip_id, &ticket.serial).unwrap();
    let csr = session.csr(&ticket, &der).unwrap();
    let untrusted = UntrustedCsr::parse(&csr).unwrap();
    assert_eq!((untrusted.install(), untrusted.request_digest()), (&INSTALL, session.request_digest()));
    let expected = CsrExpected {
        stage_key: &request.stage_key,
        install: &INSTALL,
        request_digest: &request.digest,
        chip_id: &die.chip_id,
        serial: SERIAL,
    };
    let verified = untrusted.verify(&expected).unwrap();
    assert_eq!((verified.der, verified.identity), (&der[..], die.identity.public()));

    let receipt = authority().receipt(&INSTALL, &verified.digest).unwrap();
    session.verify_receipt::<Es256>(&receipt, &trust(&roots), &ticket, &der).unwrap();

    let closed = Die::closed(0x20);
    let proof = ClosingProof {
        install: &INSTALL,
        chip_id: &closed.chip_id,
        statement: &closed.statement,
        fuse_facts: &closed.fuse_facts,
    }
    .encode();
    let proof = ClosingProof::decode(&proof).unwrap();
    let device_now =
        verify_closing(&proof, &die.die_key.public(), &INSTALL, &die.chip_id, &die.identity.public())
            .unwrap();
    assert_eq!(
        (device_now.measurement, device_now.fuse_facts),
        (CLOSED_MEASUREMENT, fuse_policy().production())
    );

    let release = authority().release(&INSTALL, &die.chip_id, &[b"leaf", b"issuer"]).unwrap();
    let release = device::verify_release::<Es256>(&release, &trust(&roots), &INSTALL, &die.chip_id).unwrap();
    assert_eq!(release.certificates, [&b"leaf"[..], b"issuer"]);
}
