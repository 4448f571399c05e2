//! What travels between dies and authority. Whatever was sent once stays with the adversary: he may give any of it to anybody,
//! at any time, in any order, as often as he likes, or never.

/// Dies at most.
pub(super) const DIES: u8 = 3;
/// Sessions of one die at most.
pub(super) const SESSIONS: u8 = 5;
/// Seeds of one die at most.
pub(super) const SEEDS: u8 = 4;

/// A ticket: for one request of one die. Two that were made for the same request differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Ticket {
    pub(super) die: u8,
    pub(super) session: u8,
    pub(super) made: u8,
}

/// A receipt: for the identity that follows from one seed of one die.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Receipt {
    pub(super) die: u8,
    pub(super) seed: u8,
}

/// A message. Who signed it is who it comes from: nobody else can make one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Message {
    Request { die: u8, session: u8 },
    Ticket(Ticket),
    Csr { die: u8, session: u8, seed: u8 },
    Receipt(Receipt),
    Proof { die: u8, seed: u8 },
    Release { die: u8, seed: u8 },
}

impl Message {
    /// Every message that there can be.
    fn all() -> impl Iterator<Item = Self> {
        let dies = 0..DIES;
        let session = |die| (0..SESSIONS).map(move |session| (die, session));
        let seed = |die| (0..SEEDS).map(move |seed| (die, seed));
        let sessions = dies.clone().flat_map(session);
        let seeds = dies.flat_map(seed);
        let tickets = sessions
            .clone()
            .flat_map(|(die, session)| (0..2).map(move |made| Self::Ticket(Ticket { die, session, made })));
        let csrs = sessions
            .clone()
            .flat_map(|(die, session)| (0..SEEDS).map(move |seed| Self::Csr { die, session, seed }));
        (sessions.map(|(die, session)| Self::Request { die, session }))
            .chain(tickets)
            .chain(csrs)
            .chain(seeds.clone().map(|(die, seed)| Self::Receipt(Receipt { die, seed })))
            .chain(seeds.clone().map(|(die, seed)| Self::Proof { die, seed }))
            .chain(seeds.map(|(die, seed)| Self::Release { die, seed }))
    }

    /// Its place in [`Self::all`].
    fn number(self) -> u32 {
        let (dies, sessions, seeds) = (u32::from(DIES), u32::from(SESSIONS), u32::from(SEEDS));
        let at = |die: u8, index: u8, of: u32| {
            assert!(die < DIES && u32::from(index) < of, "the model is too small for {self:?}");
            u32::from(die) * of + u32::from(index)
        };
        let tickets = dies * sessions;
        let csrs = tickets + 2 * dies * sessions;
        let receipts = csrs + dies * sessions * seeds;
        match self {
            Self::Request { die, session } => at(die, session, sessions),
            Self::Ticket(ticket) => {
                tickets + 2 * at(ticket.die, ticket.session, sessions) + u32::from(ticket.made)
            }
            Self::Csr { die, session, seed } => {
                csrs + seeds * at(die, session, sessions) + at(0, seed, seeds)
            }
            Self::Receipt(receipt) => receipts + at(receipt.die, receipt.seed, seeds),
            Self::Proof { die, seed } => receipts + dies * seeds + at(die, seed, seeds),
            Self::Release { die, seed } => receipts + 2 * dies * seeds + at(die, seed, seeds),
        }
    }
}

/// All that was ever sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Net([u64; 3]);

impl Net {
    pub(super) fn send(&mut self, message: Message) {
        let number = message.number();
        self.0[number as usize / 64] |= 1 << (number % 64);
    }

    pub(super) fn has(&self, message: Message) -> bool {
        let number = message.number();
        self.0[number as usize / 64] >> (number % 64) & 1 == 1
    }

    pub(super) fn messages(&self) -> Vec<Message> {
        thread_local!(static ALL: Vec<Message> = Message::all().collect());
        ALL.with(|all| {
            let mut found = Vec::new();
            for (word, bits) in self.0.iter().enumerate() {
                let mut bits = *bits;
                while bits != 0 {
                    found.push(all[word * 64 + bits.trailing_zeros() as usize]);
                    bits &= bits - 1;
                }
            }
            found
        })
    }
}

#[test]
fn every_message_has_a_number_of_its_own() {
    let all: Vec<Message> = Message::all().collect();
    assert!(all.iter().zip(0..).all(|(message, number)| message.number() == number));
    assert!(all.len() <= 64 * 3, "{}", all.len());
}
