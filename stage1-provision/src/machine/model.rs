//! Every power cut, and an adversary who writes the journal, in a model of the device: the invariants that the order
//! has to keep, and scripts with a mistake in them that the model has to find.

use std::collections::{HashMap, HashSet};

use super::script::{SCRIPT, Task};
use super::tests::entries;
use super::*;

/// What outlives a power cut, as far as the order matters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct World {
    journal: Vec<Entry>,
    /// The store was made with the seed of this number.
    store: Option<u8>,
    /// Boot slot A holds stage2 made with the seed of this number; without one it is torn or holds stage1.
    primary: Option<u8>,
    /// Which seed the journal holds.
    seed: Option<u8>,
    seeds_drawn: u8,
    /// Which seed has been burned, in part or in whole.
    fused: Option<u8>,
    closed: bool,
}

/// What does not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Memory {
    session: bool,
    ticket: bool,
    seed: Option<u8>,
    receipt: bool,
    read_back: bool,
    backup_checked: bool,
    final_check: bool,
}

/// Does one operation and says which promise it breaks, if it breaks one. `torn`: power fails in the middle.
fn perform(operation: Operation, world: &mut World, memory: &mut Memory, torn: bool) -> Option<&'static str> {
    let holds = |entry: Entry| world.journal.contains(&entry);
    match operation {
        Operation::SelfTest | Operation::ReadJournal | Operation::ProvePlace => {}
        Operation::DrawSession | Operation::OpenSession => memory.session = true,
        Operation::AskForTicket | Operation::OpenTicket => {
            if !holds(Entry::Session) {
                return Some("asked before the session was durable");
            }
            memory.ticket = true;
        }
        Operation::DrawSeed => {
            if !memory.ticket || !holds(Entry::Ticket) {
                return Some("born without a ticket");
            }
            if world.fused.is_some() {
                return Some("a second seed over a first");
            }
            world.seeds_drawn = (world.seeds_drawn + 1).min(2);
            memory.seed = Some(world.seeds_drawn);
        }
        Operation::OpenSeed => memory.seed = world.seed,
        Operation::ReKey => {
            if !memory.ticket {
                return Some("decrypted before the ticket");
            }
            if memory.seed.is_none() || memory.seed != world.seed {
                return Some("a key of a seed that is not durable");
            }
            world.store = if torn { None } else { memory.seed };
        }
        Operation::ReadBack => memory.read_back = world.store == memory.seed,
        Operation::SendCsr | Operation::VerifyReceipt => {
            if memory.seed.is_none() || memory.seed != world.seed {
                return Some("a request for a key that is not durable");
            }
            memory.receipt = true;
        }
        Operation::CheckBackup => memory.backup_checked = true,
        Operation::ReplaceStage => {
            if !memory.backup_checked {
                return Some("the only stage1 overwritten");
            }
            if !holds(Entry::Done(Step::ReKey)) {
                return Some("replaced before the store was made");
            }
            world.primary = if torn { None } else { memory.seed };
        }
        Operation::CheckPrimary => {}
        Operation::FinalCheck => {
            let whole = world.store.is_some() && world.store == world.seed && world.primary == world.seed;
            if !(whole && memory.seed == world.seed && memory.ticket && memory.receipt) {
                return Some("failed");
            }
            memory.final_check = true;
        }
        Operation::MarkClosing => {}
        Operation::BurnFuses => {
            if !memory.final_check {
                return Some("burned without a final check");
            }
            if world.store != world.seed || world.primary != world.seed || world.seed.is_none() {
                return Some("burned before everything was in place");
            }
            if !memory.receipt {
                return Some("burned before the certificate request was acknowledged");
            }
            if world.fused.is_some() && world.fused != memory.seed {
                return Some("a second seed over a first");
            }
            world.fused = memory.seed;
            world.closed = !torn;
        }
    }
    None
}

fn record(entry: Entry, world: &mut World, memory: &Memory) {
    world.journal.push(entry);
    if entry == Entry::Seed {
        world.seed = memory.seed;
    }
}

/// What the adversary may do to the journal while the device is off.
fn tampered(world: &World) -> Vec<World> {
    let mut worlds = Vec::new();
    // An earlier state of it, written back.
    for len in 0..world.journal.len() {
        let mut earlier = world.clone();
        earlier.journal.truncate(len);
        if !earlier.journal.contains(&Entry::Seed) {
            earlier.seed = None;
        }
        worlds.push(earlier);
    }
    // The marker that comes next, which anybody can write.
    let next = entries().get(world.journal.len()).copied();
    if let Some(entry @ (Entry::Begun(_) | Entry::Done(_))) = next {
        let mut planted = world.clone();
        planted.journal.push(entry);
        worlds.push(planted);
    }
    worlds
}

/// Runs one power cycle from `world` without faults and calls `visit` with every world that a power cut can leave.
/// Returns the promise that was broken, and how the cycle ended.
fn cycle(
    script: &[Task],
    world: &World,
    looks_at_fuses: bool,
    visit: &mut impl FnMut(World),
) -> (Option<&'static str>, World, Option<Action>) {
    let (mut world, mut memory) = (world.clone(), Memory::default());
    let fuses = match world.fused {
        Some(_) if looks_at_fuses => ClosingFuses::Begun,
        _ => ClosingFuses::Untouched,
    };
    let mut events = vec![Event::PowerOn(fuses)];
    let mut state = State::new();
    let mut end = None;
    while let Some(event) = events.pop() {
        let Ok((next, actions)) = state.step_through(script, event) else {
            return (Some("illegal"), world, None);
        };
        state = next;
        for action in actions.as_slice() {
            match *action {
                Action::Perform(Operation::ReadJournal) => {
                    events.push(Event::JournalEnd);
                    events.extend(world.journal.iter().rev().map(|entry| Event::Found(*entry)));
                }
                Action::Perform(operation) => {
                    let mut cut = (world.clone(), memory.clone());
                    perform(operation, &mut cut.0, &mut cut.1, true);
                    visit(cut.0);
                    match perform(operation, &mut world, &mut memory, false) {
                        None => events.push(Event::Completed(operation)),
                        Some("failed") => events.push(Event::Failed(FailCode::FinalCheck)),
                        broken => return (broken, world, None),
                    }
                }
                Action::Record(entry) => {
                    record(entry, &mut world, &memory);
                    events.push(Event::Recorded(entry));
                }
                Action::Reset | Action::Stop(_) => end = Some(*action),
                Action::Wait | Action::Begin(_) | Action::End(_) | Action::Wipe => {}
            }
            visit(world.clone());
        }
    }
    (None, world, end)
}

struct Explored {
    worlds: usize,
    broken: HashMap<&'static str, World>,
    /// Worlds in which an uninterrupted run ends neither closed nor with a code.
    stuck: usize,
    ends: HashSet<String>,
}

/// Visits every world that power cuts, and an adversary who writes the journal, can lead to.
fn explore(script: &[Task], adversary: bool, looks_at_fuses: bool) -> Explored {
    let first = World::default();
    let mut seen = HashSet::from([first.clone()]);
    let mut open = vec![first];
    let mut explored = Explored { worlds: 0, broken: HashMap::new(), stuck: 0, ends: HashSet::new() };
    while let Some(world) = open.pop() {
        explored.worlds += 1;
        if world.closed {
            continue;
        }
        let mut found = Vec::new();
        let (broken, after, end) = cycle(script, &world, looks_at_fuses, &mut |world| found.push(world));
        match (broken, end) {
            (Some(promise), _) => drop(explored.broken.insert(promise, world.clone())),
            (None, Some(Action::Reset)) if after.closed => drop(explored.ends.insert("closed".into())),
            (None, Some(Action::Stop(code))) => drop(explored.ends.insert(format!("{code:?}"))),
            _ => explored.stuck += 1,
        }
        if adversary {
            found.extend(tampered(&world));
        }
        for world in found {
            if seen.insert(world.clone()) {
                open.push(world);
            }
        }
    }
    explored
}

#[test]
fn wherever_power_fails_the_next_run_closes_the_device() {
    let explored = explore(SCRIPT, false, true);
    assert!(explored.worlds > 30, "only {} worlds", explored.worlds);
    assert_eq!(explored.broken, HashMap::new());
    assert_eq!(explored.stuck, 0);
    assert_eq!(explored.ends, HashSet::from(["closed".to_owned()]));
}

#[test]
fn whoever_writes_the_journal_gets_a_closed_device_or_scrap_and_nothing_else() {
    let explored = explore(SCRIPT, true, true);
    assert!(explored.worlds > 60, "only {} worlds", explored.worlds);
    assert_eq!(explored.broken, HashMap::new());
    assert_eq!(explored.stuck, 0);
    let allowed = ["closed", "FuseForeign"].map(str::to_owned);
    assert_eq!(explored.ends, HashSet::from(allowed));
}

/// Takes the operations out and puts them before another task.
fn moved(operations: &[Operation], before: Task) -> Vec<Task> {
    let tasks: Vec<Task> = operations.iter().map(|operation| Task::Perform(*operation)).collect();
    let mut script: Vec<Task> = SCRIPT.iter().copied().filter(|task| !tasks.contains(task)).collect();
    let at = script.iter().position(|other| *other == before).unwrap();
    script.splice(at..at, tasks);
    assert_eq!(script.len(), SCRIPT.len());
    script
}

fn without(task: Task) -> Vec<Task> {
    let script: Vec<Task> = SCRIPT.iter().copied().filter(|other| *other != task).collect();
    assert_eq!(script.len() + 1, SCRIPT.len());
    script
}

#[test]
fn seeded_mistakes_are_found() {
    use Operation::*;
    let mutants = [
        ("asked before the session was durable", moved(&[AskForTicket], Task::Record(Entry::Session))),
        ("decrypted before the ticket", moved(&[ReKey], Task::Perform(AskForTicket))),
        ("born without a ticket", moved(&[DrawSeed], Task::Perform(AskForTicket))),
        ("a key of a seed that is not durable", moved(&[ReKey], Task::Record(Entry::Seed))),
        ("a request for a key that is not durable", moved(&[SendCsr], Task::Record(Entry::Seed))),
        ("the only stage1 overwritten", without(Task::Perform(CheckBackup))),
        ("replaced before the store was made", moved(&[CheckBackup, ReplaceStage], Task::Perform(ReKey))),
        ("burned without a final check", without(Task::Perform(FinalCheck))),
        ("burned without a final check", moved(&[BurnFuses], Task::Perform(ReplaceStage))),
    ];
    for (promise, script) in mutants {
        let explored = explore(&script, false, true);
        assert!(explored.broken.contains_key(promise), "{promise}: {:?}", explored.broken.keys());
    }
    // An executor that does not look at the fuses when it starts.
    let blind = explore(SCRIPT, true, false);
    assert!(blind.broken.contains_key("a second seed over a first"), "{:?}", blind.broken.keys());
}
