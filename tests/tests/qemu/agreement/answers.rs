//! What the authority answers: tickets, receipts, certificates of devices.

use std::io::Write as _;

use boot_crypto::host::{Es256Key, Ps256Key};
use boot_crypto::{EcKey, Key, sha256};
use boot_info::{Statement, Subject};
use factory_proto::authority::{Authority, Install, UntrustedRequest};
use factory_proto::device::{Device, Session, VerifiedTicket, verify_release};
use factory_proto::{Error, Message, Trust, content_type};
use lifecycle::{FuseFacts, Lifecycle};
use memory_map::qemu_virt::BOARD;
use release::{Artefact, Means, test_keys};
use sealed_image::host::{Signer, certify, delegation, encode_grant, sign_message};
use sealed_image::{Es256, Grant, KindSet, MAX_BOARDS, PublicKey, Role, Root, Version};
use tempfile::NamedTempFile;
use tests::forge::flip;
use tests::{Maker, fresh_key};

use super::ledger::{By, Ledger, of, verify};

const CHIP_ID: [u8; 16] = [0xC1; 16];
const PACKAGE: [u8; 32] = [0xAC; 32];
const INSTALL: [u8; 32] = [0x15; 32];
const CSR: &[u8] = b"a certificate request";
const ANSWERS: [Message; 3] = [Message::Ticket, Message::Receipt, Message::Release];

pub(crate) fn judge(ledger: &mut Ledger) {
    let die = Die::new();
    let session = die.session([0x4E; 32]);
    let bench = Bench { root: fresh_key(), session: &session, request: on_disk(session.request()) };
    for message in ANSWERS {
        bench.altered(ledger, message);
        bench.signed(ledger, message);
    }
    bench.to_other_questions(ledger, &die);
}

fn on_disk(bytes: &[u8]) -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("a file");
    file.write_all(bytes).expect("it can be written");
    file
}

/// A die that asks.
struct Die {
    die_key: EcKey,
    stage_key: EcKey,
    statement: Vec<u8>,
    fuse_facts: Vec<u8>,
}

impl Die {
    fn new() -> Self {
        let key = |seed: u8| EcKey::from_scalar(&[seed; 32]).expect("a scalar");
        let (die_key, stage_key) = (key(2), key(3));
        let mut maker = Maker::production();
        maker.lifecycle = Lifecycle::Secured;
        let facts = FuseFacts::read(&maker.otp()).expect("fuses that are whole");
        let statement = Statement {
            lifecycle: facts.lifecycle.codeword(),
            measurement: [1; 32],
            fuse_digest: facts.digest(),
            subject: Subject::StageKey(stage_key.public()),
        };
        let statement = statement.sign(&die_key).as_bytes().to_vec();
        Self { die_key, stage_key, statement, fuse_facts: facts.encode().to_vec() }
    }

    fn session(&self, nonce: [u8; 32]) -> Session<'_> {
        let ephemeral = boot_crypto::ephemeral_key(&Key::new([0xE0; 32]), &nonce);
        let device = Device {
            board: BOARD,
            chip_id: &CHIP_ID,
            package_id: &PACKAGE,
            die_chain: &[b"the vendor's certificate for the die"],
            statement: &self.statement,
            fuse_facts: &self.fuse_facts,
        };
        Session::new(device, &self.stage_key, ephemeral, nonce).expect("a request")
    }
}

/// A device that waits for answers, and whose they have to be.
struct Bench<'a> {
    root: Es256Key,
    session: &'a Session<'a>,
    request: NamedTempFile,
}

/// What an authority was given by the root.
fn certificate(root: &dyn Signer, key: &PublicKey<'_>, change: impl FnOnce(&mut Grant<'_>)) -> Vec<u8> {
    let mut boards = [""; MAX_BOARDS];
    boards[0] = BOARD;
    let mut grant = Grant {
        role: Role::Authority,
        key: *key,
        kinds: KindSet::default(),
        boards,
        min_version: Version::MIN,
        max_version: Version::MAX,
    };
    change(&mut grant);
    certify(root, &encode_grant(&grant)).expect("a root signs")
}

impl Bench<'_> {
    fn authority(&self, change: impl FnOnce(&mut Grant<'_>)) -> Authority {
        let key = fresh_key();
        let certificate = certificate(&self.root, &key.public_key(), change);
        Authority::new(&self.root.public_key(), certificate, Box::new(key))
    }

    fn right(&self, message: Message) -> Vec<u8> {
        self.answer(&self.authority(|_| ()), message, self.session)
    }

    /// The authority's answer to a session.
    fn answer(&self, authority: &Authority, message: Message, session: &Session<'_>) -> Vec<u8> {
        let die_key = Die::new().die_key.public();
        match message {
            Message::Ticket => {
                let request = UntrustedRequest::parse(session.request()).expect("a request");
                let request = request.verify(&die_key).expect("a request that is right");
                let content_key = Key::new([0xCE; 32]);
                let install =
                    Install { id: &INSTALL, chip_id: &CHIP_ID, serial: "KILN-1", content_key: &content_key };
                authority.ticket(&request, &install)
            }
            Message::Receipt => authority.receipt(&INSTALL, &sha256(CSR)),
            _ => authority.release(&INSTALL, &CHIP_ID, &[b"leaf", b"issuer"]),
        }
        .expect("an answer")
    }

    /// Does what the device does with an answer.
    fn device(&self, message: Message, answer: &[u8], roots: &[Root]) -> Result<(), Error> {
        let trust = Trust { board: BOARD, roots, refuse_test_keys: true };
        let ticket = VerifiedTicket {
            install: INSTALL,
            serial: "KILN-1".into(),
            content_key: Key::new([0xCE; 32]),
            entropy: Key::new([0; 32]),
        };
        match message {
            Message::Ticket => self.session.verify_ticket::<Es256>(answer, &trust).map(|_| ()),
            Message::Receipt => self.session.verify_receipt::<Es256>(answer, &trust, &ticket, CSR),
            _ => verify_release::<Es256>(answer, &trust, &INSTALL, &CHIP_ID).map(|_| ()),
        }
    }

    fn roots(&self) -> [Root; 1] {
        [Root { digest: self.root.public_key().thumbprint(), revoked: false }]
    }

    fn enter(&self, ledger: &mut Ledger, class: &'static str, message: Message, name: &str, answer: &[u8]) {
        self.enter_by(ledger, class, message, name, answer, &self.roots(), Means::new(self.root.public()));
    }

    #[expect(clippy::too_many_arguments, reason = "each is one thing that differs between artefacts")]
    fn enter_by(
        &self,
        ledger: &mut Ledger,
        class: &'static str,
        message: Message,
        name: &str,
        answer: &[u8],
        roots: &[Root],
        means: Means,
    ) {
        let means = Means {
            expected: Some(Artefact::Message(message)),
            request: (message == Message::Ticket).then(|| self.request.path().into()),
            ..means
        };
        let taken = of(self.device(message, answer, roots).map_err(|error| error.code()));
        let name = format!("{}: {name}", message.name());
        ledger.enter(By::Libraries, class, &name, &taken, &verify(answer, &means));
    }

    /// Answers that are right, or were altered on the way.
    fn altered(&self, ledger: &mut Ledger, message: Message) {
        let right = self.right(message);
        self.enter(ledger, "good", message, "right", &right);
        for at in (0..right.len()).step_by(right.len() / 20) {
            let altered = flip(right.clone(), at);
            self.enter(ledger, "flipped byte", message, &format!("byte {at}"), &altered);
        }
        for length in [0, 1, right.len() / 2, right.len() - 1] {
            self.enter(ledger, "truncated", message, &format!("{length} bytes"), &right[..length]);
        }
    }

    /// Answers that somebody signed, and that are not for this device or not right.
    fn signed(&self, ledger: &mut Ledger, message: Message) {
        for role in Role::ALL.into_iter().filter(|role| *role != Role::Authority) {
            let answer = self.answer(&self.authority(|grant| grant.role = role), message, self.session);
            self.enter(ledger, "answer of a wrong role", message, role.name(), &answer);
        }
        for other in ANSWERS.into_iter().filter(|other| *other != message) {
            self.enter(ledger, "answer of a wrong type", message, other.name(), &self.right(other));
        }
        let elsewhere = self.authority(|grant| grant.boards[0] = "another-board");
        let answer = self.answer(&elsewhere, message, self.session);
        self.enter(ledger, "wrong board", message, "another board", &answer);
        let limited = self.authority(|grant| grant.min_version = Version(1));
        let answer = self.answer(&limited, message, self.session);
        self.enter(ledger, "wrong version", message, "limited to versions", &answer);

        let rsa = Ps256Key::generate(3072).expect("a length that is taken");
        let signed = certificate(&self.root, &rsa.public_key(), |_| ());
        let rsa = Authority::new(&self.root.public_key(), signed, Box::new(rsa));
        let answer = self.answer(&rsa, message, self.session);
        self.enter(ledger, "wrong algorithm", message, "an answer signed with PS256", &answer);

        let theirs = Bench { root: fresh_key(), session: self.session, request: on_disk(b"") };
        let answer = theirs.right(message);
        self.enter(ledger, "wrong root", message, "another owner's authority", &answer);
        let right = self.right(message);
        let revoked = [Root { revoked: true, ..self.roots()[0] }];
        let means = Means { revoked: vec![self.root.public()], ..Means::new(self.root.public()) };
        self.enter_by(ledger, "revoked root", message, "the root itself", &right, &revoked, means);

        let key = test_keys::es256(test_keys::OS);
        let published = certificate(&self.root, &key.public_key(), |_| ());
        let published = Authority::new(&self.root.public_key(), published, Box::new(key));
        let answer = self.answer(&published, message, self.session);
        self.enter(ledger, "test key", message, "that the root delegated to", &answer);

        // Another key of the same role: its delegation does not make this signature its own.
        let (mine, other) = (fresh_key(), fresh_key());
        let part =
            delegation(&self.root.public_key(), &[certificate(&self.root, &other.public_key(), |_| ())]);
        let swapped = sign_message(content_type(message), b"", &part, &[&mine]).expect("a key signs");
        self.enter(ledger, "swapped delegation", message, "another key's", &swapped);

        let own = delegation(&self.root.public_key(), &[certificate(&self.root, &mine.public_key(), |_| ())]);
        for payload in [&b""[..], b"no CBOR", &[0xA0]] {
            let signed = sign_message(content_type(message), payload, &own, &[&mine]).expect("a key signs");
            self.enter(ledger, "malformed and signed", message, &format!("{payload:?}"), &signed);
        }
    }

    /// Tickets that answer what this device has not asked.
    fn to_other_questions(&self, ledger: &mut Ledger, die: &Die) {
        for nonce in [[0x4F; 32], [0; 32]] {
            let other = die.session(nonce);
            let ticket = self.answer(&self.authority(|_| ()), Message::Ticket, &other);
            let name = format!("nonce {:02x}", nonce[0]);
            self.enter(ledger, "answer to another question", Message::Ticket, &name, &ticket);
        }
    }
}
