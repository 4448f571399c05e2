//! The authority: what it judges and decides, in the order of `crates/authority/src/policy` and `answer.rs`. A question is
//! judged by what is stored, its answer is made, it is judged again inside the one transaction that stores the answer, the
//! transaction is committed, and then it is told.

use super::message::{Message, Net, Receipt, SESSIONS, Ticket};
use super::mistake::Mistake;

/// What is stored of a die.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Book {
    pub(super) installs: u8,
    /// Which ticket was made for each session, if one was, counted from 1.
    tickets: [u8; SESSIONS as usize],
    /// The newest session.
    newest: u8,
    /// Sessions and seeds of certificate requests that have a receipt.
    receipts: [u8; SESSIONS as usize],
    /// The seed whose identity is certified.
    pub(super) certificate: Option<u8>,
    /// The certificate is released.
    pub(super) closed: bool,
}

impl Book {
    /// Tells whether an answer is stored.
    pub(super) fn holds(&self, answer: Message) -> bool {
        match answer {
            Message::Ticket(ticket) => self.tickets[usize::from(ticket.session)] == ticket.made + 1,
            Message::Receipt(receipt) => self.receipts.iter().any(|seeds| seeds >> receipt.seed & 1 == 1),
            Message::Release { seed, .. } => self.closed && self.certificate == Some(seed),
            Message::Request { .. } | Message::Csr { .. } | Message::Proof { .. } => false,
        }
    }
}

/// A question on its way through the authority. It is lost with the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Flight {
    question: Message,
    answer: Message,
    new_install: bool,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stage {
    /// It was judged, and its answer is made.
    Made,
    /// It was judged again and is written, in a transaction that is not committed.
    Written,
    /// It is durable, and not told.
    Durable,
}

/// What a question may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    Stored(Message),
    New { answer: Message, new_install: bool },
    Refused,
}

/// The authority of one lot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Authority<const N: usize> {
    pub(super) books: [Book; N],
    flights: [Option<Flight>; N],
    /// Places of the quota that no die has.
    lost: u8,
}

impl<const N: usize> Default for Authority<N> {
    fn default() -> Self {
        Self { books: [Book::default(); N], flights: [None; N], lost: 0 }
    }
}

/// What the authority may do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    Take(Message),
    Decide(u8),
    Commit(u8),
    Reply(u8),
    Crash,
}

impl<const N: usize> Authority<N> {
    pub(super) fn issued(&self) -> u8 {
        self.books.iter().map(|book| book.installs).sum::<u8>() + self.lost
    }

    /// Judges a question by what is stored. `clean` tells whether the fuse facts of its session are those of the lot.
    pub(super) fn judge(
        &self,
        question: Message,
        net: &Net,
        quota: u8,
        clean: bool,
        mistake: Option<Mistake>,
    ) -> Judgement {
        match question {
            Message::Request { die, session } => {
                let book = &self.books[usize::from(die)];
                if !clean || book.closed {
                    return Judgement::Refused;
                }
                let quota_first = mistake == Some(Mistake::QuotaBeforeTheInstall);
                if quota_first && self.issued() >= quota {
                    return Judgement::Refused;
                }
                let stored = book.tickets[usize::from(session)].checked_sub(1);
                if stored.is_some() && mistake == Some(Mistake::ATicketIsToldOnce) {
                    return Judgement::Refused;
                }
                let stored = stored.filter(|_| mistake != Some(Mistake::ATicketForEachAsking));
                if let Some(made) = stored {
                    return Judgement::Stored(Message::Ticket(Ticket { die, session, made }));
                }
                let new_install = book.installs == 0 || mistake == Some(Mistake::AnInstallForEachSession);
                if new_install && self.issued() >= quota {
                    return Judgement::Refused;
                }
                // No two tickets are alike. One that nobody has seen might as well never have been made.
                let first = Message::Ticket(Ticket { die, session, made: 0 });
                let made = u8::from(net.has(first) || book.holds(first));
                let answer = Message::Ticket(Ticket { die, session, made });
                Judgement::New { answer, new_install }
            }
            Message::Csr { die, session, seed } => {
                let (book, at) = (&self.books[usize::from(die)], usize::from(session));
                let answer = Message::Receipt(Receipt { die, seed });
                if book.receipts[at] >> seed & 1 == 1 {
                    return Judgement::Stored(answer);
                }
                if book.installs == 0 || book.closed || book.tickets[at] == 0 || book.newest != session {
                    return Judgement::Refused;
                }
                Judgement::New { answer, new_install: false }
            }
            Message::Proof { die, seed } => {
                let book = &self.books[usize::from(die)];
                if book.certificate != Some(seed) {
                    return Judgement::Refused;
                }
                let answer = Message::Release { die, seed };
                if book.closed {
                    Judgement::Stored(answer)
                } else {
                    Judgement::New { answer, new_install: false }
                }
            }
            Message::Ticket(_) | Message::Receipt(_) | Message::Release { .. } => Judgement::Refused,
        }
    }

    /// Lists what may be done next. Nothing of it that would change nothing.
    pub(super) fn work(&self, net: &Net) -> Vec<Work> {
        let mut work = Vec::new();
        let writing = self.flights.iter().flatten().any(|flight| flight.stage == Stage::Written);
        for message in net.messages() {
            if let Message::Request { die, .. } | Message::Csr { die, .. } | Message::Proof { die, .. } =
                message
                && self.flights[usize::from(die)].is_none()
            {
                work.push(Work::Take(message));
            }
        }
        for (die, flight) in (0..).zip(&self.flights) {
            match flight.map(|flight| flight.stage) {
                Some(Stage::Made) if !writing => work.push(Work::Decide(die)),
                Some(Stage::Written) => work.push(Work::Commit(die)),
                Some(Stage::Durable) => work.push(Work::Reply(die)),
                Some(Stage::Made) | None => {}
            }
        }
        if self.flights.iter().any(Option::is_some) {
            work.push(Work::Crash);
        }
        work
    }

    /// Does it.
    pub(super) fn perform(
        &mut self,
        work: Work,
        net: &mut Net,
        quota: u8,
        clean: impl Fn(Message) -> bool,
        mistake: Option<Mistake>,
    ) {
        match work {
            Work::Take(question) => match self.judge(question, net, quota, clean(question), mistake) {
                Judgement::Stored(answer) => net.send(answer),
                Judgement::New { answer, new_install } => {
                    let (Message::Request { die, .. }
                    | Message::Csr { die, .. }
                    | Message::Proof { die, .. }) = question
                    else {
                        return;
                    };
                    let flight = Flight { question, answer, new_install, stage: Stage::Made };
                    self.flights[usize::from(die)] = Some(flight);
                }
                Judgement::Refused => {}
            },
            Work::Decide(die) => {
                let Some(flight) = self.flights[usize::from(die)] else { return };
                if mistake != Some(Mistake::CountedOutsideTheTransaction) {
                    let now = self.judge(flight.question, net, quota, clean(flight.question), mistake);
                    let same =
                        Judgement::New { answer: flight.answer, new_install: flight.new_install } == now;
                    if !same {
                        self.flights[usize::from(die)] = None;
                        return;
                    }
                }
                if mistake == Some(Mistake::ToldBeforeTheCommit) {
                    net.send(flight.answer);
                }
                self.flights[usize::from(die)] = Some(Flight { stage: Stage::Written, ..flight });
            }
            Work::Commit(die) => {
                let Some(flight) = self.flights[usize::from(die)] else { return };
                self.store(&flight);
                self.flights[usize::from(die)] = Some(Flight { stage: Stage::Durable, ..flight });
            }
            Work::Reply(die) => {
                let Some(flight) = self.flights[usize::from(die)].take() else { return };
                net.send(flight.answer);
                if mistake == Some(Mistake::CertificateBeforeTheProof)
                    && let Message::Receipt(Receipt { die, seed }) = flight.answer
                {
                    net.send(Message::Release { die, seed });
                }
            }
            Work::Crash => {
                if mistake == Some(Mistake::APlaceIsLostWithTheProcess) {
                    self.lost = self.flights.iter().flatten().any(|flight| flight.new_install).into();
                }
                self.flights = [None; N];
            }
        }
    }

    fn store(&mut self, flight: &Flight) {
        match (flight.question, flight.answer) {
            (_, Message::Ticket(ticket)) => {
                let book = &mut self.books[usize::from(ticket.die)];
                book.installs += u8::from(flight.new_install);
                book.tickets[usize::from(ticket.session)] = ticket.made + 1;
                book.newest = ticket.session;
            }
            (Message::Csr { die, session, seed }, _) => {
                let book = &mut self.books[usize::from(die)];
                book.receipts[usize::from(session)] |= 1 << seed;
                book.certificate = Some(seed);
            }
            (Message::Proof { die, .. }, _) => self.books[usize::from(die)].closed = true,
            _ => {}
        }
    }
}
