//! Dies that ask until they are answered, over services that come and go, and ask again what they know.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use authority::client::Client;
use authority::model::{Die, Factory};
use boot_crypto::host::random;
use factory_proto::{Message, Refusal};
use fail_code::FailCode;
use rustls::ClientConfig;
use tokio::sync::{Semaphore, mpsc, watch};

use crate::common::LOT;

/// How long a die asks again before the test gives up.
const PATIENCE: Duration = Duration::from_secs(300);
/// How long a die waits after a service has left it without an answer.
const PAUSE: Duration = Duration::from_millis(10);

/// Where the service is now; `None` while it is dead.
pub(crate) type Place = watch::Receiver<Option<SocketAddr>>;

/// What a die asked, and the first answer that it got.
pub(crate) struct Answered {
    pub(crate) question: Message,
    pub(crate) body: Vec<u8>,
    pub(crate) answer: Vec<u8>,
}

/// A die's way: its answers, and why it was refused if it was.
pub(crate) struct Way {
    pub(crate) die: Die,
    pub(crate) answered: Vec<Answered>,
    pub(crate) install: Option<[u8; 32]>,
    pub(crate) refused: Option<FailCode>,
    /// The secret in its ticket.
    pub(crate) entropy: Option<[u8; 32]>,
    /// How often an answer was given again, as it was.
    pub(crate) again: u64,
    /// How often another was given.
    pub(crate) changed: u64,
}

/// How many dies may ask each question.
#[derive(Default)]
pub(crate) struct Gates([Gate; 3]);

struct Gate(Semaphore);

impl Default for Gate {
    fn default() -> Self {
        Self(Semaphore::new(0))
    }
}

impl Gates {
    fn of(&self, question: Message) -> &Semaphore {
        match question {
            Message::Request => &self.0[0].0,
            Message::Csr => &self.0[1].0,
            _ => &self.0[2].0,
        }
    }

    /// Lets more dies ask a question.
    pub(crate) fn open(&self, question: Message, dies: usize) {
        self.of(question).add_permits(dies);
    }
}

/// What a die needs to ask.
#[derive(Clone)]
pub(crate) struct Field {
    pub(crate) factory: Arc<Factory>,
    pub(crate) place: Place,
    pub(crate) tls: Arc<ClientConfig>,
    pub(crate) gates: Arc<Gates>,
    /// Whether a die that waits asks again what it knows.
    pub(crate) again: bool,
    /// Hears of each first answer: to what, and whether it was a good one.
    pub(crate) told: mpsc::UnboundedSender<(Message, bool)>,
}

impl Field {
    /// Takes a die as far as it comes.
    pub(crate) async fn provision(self) -> Way {
        let die = self.factory.die().unwrap();
        let nonce = random();
        let mut body = die.request(nonce).unwrap();
        let mut question = Message::Request;
        let mut way = Way {
            die,
            answered: Vec::new(),
            install: None,
            refused: None,
            entropy: None,
            again: 0,
            changed: 0,
        };
        loop {
            self.wait(question, &mut way).await;
            let (good, answer) = self.ask(question, &body).await;
            let _ = self.told.send((question, good));
            if !good {
                way.refused = FailCode::from_number(Refusal::decode(&answer).unwrap().code);
                return way;
            }
            way.answered.push(Answered { question, body: body.clone(), answer: answer.clone() });
            (question, body) = match question {
                Message::Request => {
                    let ticket = way.die.open(nonce, &answer).unwrap();
                    (way.install, way.entropy) = (Some(ticket.install), Some(*ticket.entropy.expose()));
                    (Message::Csr, way.die.csr(nonce, &answer).unwrap())
                }
                Message::Csr => {
                    let facts = self.factory.policy().production();
                    let proof = way.die.close(&way.install.unwrap(), &facts, self.factory.stage2);
                    (Message::ClosingProof, proof)
                }
                _ => {
                    way.die.take(&way.install.unwrap(), &answer).unwrap();
                    return way;
                }
            };
        }
    }

    /// Waits until the die may ask; meanwhile it asks every new service again what it knows already.
    async fn wait(&self, question: Message, way: &mut Way) {
        let mut place = self.place.clone();
        loop {
            tokio::select! {
                permit = self.gates.of(question).acquire() => return permit.unwrap().forget(),
                _ = place.changed() => {}
            }
            let Some(last) = way.answered.last().filter(|_| self.again) else { continue };
            let address = *place.borrow_and_update();
            if let Some((good, again)) = self.attempt(address, last.question, &last.body).await {
                let same = good && again == last.answer;
                (way.again, way.changed) = (way.again + u64::from(same), way.changed + u64::from(!same));
            }
        }
    }

    /// Asks until there is an answer: for the answer it does not matter over how many services.
    async fn ask(&self, question: Message, body: &[u8]) -> (bool, Vec<u8>) {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            let address = *self.place.borrow();
            match self.attempt(address, question, body).await {
                Some(answer) => return answer,
                None => tokio::time::sleep(PAUSE).await,
            }
        }
        panic!("no answer to a {} in {PATIENCE:?}", question.name());
    }

    /// Asks once. A service that is dead, dies, or cannot store what it would answer gives no answer.
    async fn attempt(
        &self,
        at: Option<SocketAddr>,
        question: Message,
        body: &[u8],
    ) -> Option<(bool, Vec<u8>)> {
        let path = match question {
            Message::Request => format!("/v1/lots/{LOT}/tickets"),
            Message::Csr => "/v1/csrs".into(),
            _ => "/v1/closings".into(),
        };
        let mut client = Client::connect(at?, self.tls.clone()).await.ok()?;
        let (status, answer) = client.post(&path, body.to_vec()).await.ok()?;
        (!status.is_server_error()).then(|| (status.is_success(), answer.to_vec()))
    }
}
