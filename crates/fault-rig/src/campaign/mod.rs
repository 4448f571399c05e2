//! Runs a stage over a bad image again and again, each time with one fault.

mod choice;
mod inject;
mod tally;

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::sync::{Arc, Mutex};

use memory_map::Region;

use crate::machine::{End, Machine, Results};
use crate::program::Program;
use crate::register::Register;

use inject::live_registers;
pub use tally::Tally;

/// How many different basic blocks outside the loops lie near a decision: so many before it, and so many with it and after it.
const NEAR: [usize; 2] = [24, 8];
/// How many instructions one fault skips at most.
const MOST: u8 = 4;

/// A bad image, alone or beside a good one, and what to watch while a stage looks at it.
pub struct Scene<'a> {
    /// What is bad.
    pub name: String,
    /// Makes the machine, at reset.
    pub make: &'a (dyn Fn() -> Machine + Sync),
    /// Makes a machine with a good image instead: how long it takes to boot tells when a run goes on without end.
    pub good: &'a (dyn Fn() -> Machine + Sync),
    /// The stage.
    pub program: &'a Program,
    /// Where faults begin: once the run comes here first.
    pub start: u64,
    /// RAM that the stage writes.
    pub ram: &'a [Region],
    /// The part of it that the stack is in: what lies below the stack pointer is dead.
    pub stack: Region,
    /// Functions at whose entry a run is compared with the one without a fault: where nothing differs, it goes on alike.
    pub marks: &'a [u64],
    /// The pure function of [`Watch`](crate::Watch).
    pub pure: u64,
    /// The loops of cryptography: functions whose instructions are sampled.
    pub loops: &'a [Range<u64>],
    /// The functions of the last check: behind its last run nothing is checked any more where another image boots.
    pub checks: &'a [Range<u64>],
    /// How much runs here take, from 0: what a scene of a lower rank executes as well is shared.
    pub rank: usize,
    /// Of the instructions that no scene of a lower rank executes, one in so many has faults where nothing is decided; none for 0.
    pub own: u64,
    /// The same of those that are shared: they are skipped in one of the scenes of this rank, the last time that they run.
    pub shared: u64,
    /// Whether faults are injected here; where not, the scene only tells which instructions it executes, so that the others have
    /// the faults that they have when all do.
    pub wanted: bool,
    /// Judges a run that left the stage's own code, at this address.
    pub left: &'a (dyn Fn(&Machine, u64) -> Left + Sync),
    /// Says what a run has given away, where it has.
    pub leaked: &'a (dyn Fn(&Machine) -> Option<String> + Sync),
}

/// What a run that left the stage's own code has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Left {
    /// It boots what it may.
    Rightly,
    /// It boots what it may, and tells of times that run backwards: those are for reports alone.
    Backwards,
    /// It boots what it may, which refuses what it is handed.
    Spoiled,
    /// It executes memory that was wiped: an undefined instruction.
    Wiped,
    /// It must not have, for this reason.
    Wrongly(String),
}

/// How many of the faults to run.
///
/// Where a scene is decided, which is where it begins to do what the boot of the good image does not, every instruction is skipped, with what
/// follows it, and every conditional branch inverted. Elsewhere outside the loops of cryptography that is done to each
/// instruction that runs in any scene, but perhaps not in each of the scenes that run it. The rest is a sample.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    /// In how many of the scenes that run it a conditional branch outside the loops is inverted: the first and the last time
    /// that it runs there.
    pub inverted: usize,
    /// In how many of the scenes that run it an instruction outside the loops is skipped.
    pub skipped: usize,
    /// Whether it is skipped both the first and the last time that it runs there, or one of the two times.
    pub both_ends: bool,
    /// At how many places a scene is decided at most.
    pub places: usize,
    /// Of the flipped bits, one in so many: outside the loops the first and the last time that an instruction runs in each
    /// scene.
    pub bits: u64,
    /// The same where the scene is decided.
    pub bits_near: u64,
    /// The same where nothing is checked any more, the last time that an instruction runs, in one scene of each rank; none for 0.
    pub bits_last: u64,
    /// Of the scenes, how many have faults in the loops.
    pub looped_scenes: usize,
    /// Of the instructions in the loops, one in so many of each scene, at one of the times that it runs: skipped, inverted,
    /// and with the same share of flipped bits.
    pub loops: u64,
    /// How many places outside the loops each half of a scene leaves out: those that a run which was cut short has been at.
    pub from: usize,
    /// How many violations of each half of a scene are told at once.
    pub told: usize,
    /// Where the random choice starts.
    pub seed: u64,
}

/// Where the run without a fault came by a mark.
struct Passed {
    state: State,
    path: u64,
    events: u64,
}

/// What a run depends on from a function's entry on.
struct State {
    registers: Vec<u64>,
    memory: Vec<(u64, Vec<u8>)>,
}

/// The run without a fault.
struct Reference {
    end: End,
    /// `None` where each is computed.
    results: Option<Arc<Results>>,
    written: Vec<Region>,
    trace: Vec<u64>,
    first: u64,
    passed: Vec<Passed>,
    events: u64,
    path: u64,
    said: (Vec<u8>, Vec<u8>),
    good: Good,
}

/// The boot of a good image.
#[derive(Clone)]
struct Good {
    /// How many events it takes, but for those of the pure function.
    events: u64,
    /// How many those of the pure function are.
    computing: u64,
    /// The basic blocks that it executes.
    blocks: Arc<HashSet<u64>>,
}

impl Reference {
    /// Tells whether a good image boots at last.
    fn boots(&self) -> bool {
        matches!(self.end, End::Outside(_))
    }
}

/// A place to inject faults: so many events after reset, so many instructions into the basic block.
#[derive(Clone, Copy)]
struct Point {
    event: u64,
    into: u64,
    /// How many instructions are skipped at most.
    skip: u8,
    invert: bool,
    /// Of the flipped bits, one in so many.
    bits: u64,
    looped: bool,
}

/// When an instruction was executed.
struct Occurrences {
    first: Point,
    last: Point,
    count: u64,
    /// One of them, each as likely as another.
    any: Point,
}

/// Runs the faults in all scenes, on two threads.
///
/// # Panics
/// If a run without a fault does what it must not.
pub fn run(scenes: &[Scene<'_>], share: Share) -> Tally {
    let known = on_two_threads(scenes, |scene| scene.reference(Some(scene.learn()), scene.good_boot()));
    let mut owners = Owners::new();
    for (number, (scene, known)) in scenes.iter().zip(&known).enumerate() {
        for address in scene.executed(known, share, false).into_keys() {
            owners.entry(address).or_default().entry(scene.rank).or_default().push(number);
        }
    }
    // What takes longest first, and each in two parts, so that both threads have work to the end.
    let wanted = (0..scenes.len()).filter(|number| scenes[*number].wanted);
    let mut parts: Vec<(usize, usize)> = wanted.flat_map(|number| [(number, 0), (number, 1)]).collect();
    parts.sort_by_key(|(number, _)| Reverse(scenes[*number].rank));
    let tallies = on_two_threads(&parts, |(number, part)| {
        let (scene, known) = (&scenes[*number], &known[*number]);
        let half = |points: Vec<Point>| points.into_iter().skip(*part).step_by(2).collect::<Vec<_>>();
        let places = half(scene.points(known, share, &owners, *number));
        let mut tally = scene.inject_all(known, places.get(share.from..).unwrap_or_default(), share);
        if *number < share.looped_scenes {
            let computing = scene.reference(None, known.good.clone());
            let points = half(scene.points_in_loops(&computing, share));
            tally.add(scene.inject_all(&computing, &points, share));
        }
        tally
    });
    let mut total = Tally::default();
    tallies.into_iter().for_each(|tally| total.add(tally));
    total
}

/// The scenes that execute an instruction, by its address and their rank.
type Owners = HashMap<u64, BTreeMap<usize, Vec<usize>>>;

/// Does every piece of work, and returns the results in their order.
fn on_two_threads<J: Sync, T: Send>(jobs: &[J], work: impl Fn(&J) -> T + Sync) -> Vec<T> {
    let queue = Mutex::new(jobs.iter().enumerate());
    let done = Mutex::new(BTreeMap::new());
    let take = || {
        loop {
            let next = queue.lock().expect("no thread panicked").next();
            let Some((number, job)) = next else { return };
            let result = work(job);
            done.lock().expect("no thread panicked").insert(number, result);
        }
    };
    std::thread::scope(|scope| {
        for thread in [scope.spawn(take), scope.spawn(take)] {
            thread.join().expect("no thread panicked");
        }
    });
    done.into_inner().expect("no thread panicked").into_values().collect()
}

impl Scene<'_> {
    fn machine(&self, reference: &Reference) -> Machine {
        let mut machine = (self.make)();
        assert_eq!(machine.run(u64::MAX, u64::MAX, &[self.start]), End::Mark(self.start));
        machine.keep(self.ram, &reference.written);
        if let Some(results) = &reference.results {
            machine.know(results.clone());
        }
        machine
    }

    /// Returns what the pure function makes of its inputs in the run without a fault.
    fn learn(&self) -> Results {
        let mut machine = (self.make)();
        let mut results = Results::new();
        while machine.run(u64::MAX, u64::MAX, &[self.pure]) == End::Mark(self.pure) {
            let (inputs, result) = machine.learn();
            results.insert(inputs, result);
        }
        results
    }

    fn reference(&self, results: Option<Results>, good: Good) -> Reference {
        let results = results.map(Arc::new);
        let mut machine = (self.make)();
        assert_eq!(machine.run(u64::MAX, u64::MAX, &[self.start]), End::Mark(self.start));
        let first = machine.events();
        machine.note_writes(self.ram);
        let end = machine.run(u64::MAX, u64::MAX, &[]);
        let wrong = match end {
            End::Stopped => None,
            End::Outside(address) => {
                Some((self.left)(&machine, address)).filter(|left| *left != Left::Rightly)
            }
            end => Some(Left::Wrongly(format!("{end:?}"))),
        };
        assert_eq!(wrong, None, "{}: without a fault", self.name);
        let mut reference = Reference {
            end,
            results,
            written: machine.written(),
            trace: Vec::new(),
            first,
            passed: Vec::new(),
            events: 0,
            path: 0,
            said: (machine.devices().console.clone(), machine.devices().link.clone()),
            good,
        };
        let mut machine = self.machine(&reference);
        machine.trace();
        assert_eq!(machine.run(u64::MAX, u64::MAX, &[]), end, "it ends the same way twice");
        reference.trace = machine.traced();
        let mut machine = self.machine(&reference);
        let mut seen = u64::MAX;
        loop {
            let marks = if seen == machine.events() { &[][..] } else { self.marks };
            if marks.is_empty() {
                machine.step(u64::MAX);
                continue;
            }
            match machine.run(u64::MAX, u64::MAX, marks) {
                End::Mark(_) => {
                    seen = machine.events();
                    let passed = Passed { state: self.state(&machine), path: machine.path(), events: seen };
                    reference.passed.push(passed);
                }
                end => {
                    assert_eq!(end, reference.end, "it ends the same way twice");
                    let said = (machine.devices().console.clone(), machine.devices().link.clone());
                    assert_eq!(said, reference.said, "it says the same twice");
                    (reference.events, reference.path) = (machine.events(), machine.path());
                    return reference;
                }
            }
        }
    }

    fn good_boot(&self) -> Good {
        let mut machine = (self.good)();
        assert_eq!(machine.run(u64::MAX, u64::MAX, &[self.start]), End::Mark(self.start));
        let (first, mut computing) = (machine.events(), 0);
        machine.trace();
        loop {
            let end = machine.run(u64::MAX, u64::MAX, &[self.pure]);
            if end != End::Mark(self.pure) {
                assert!(matches!(end, End::Outside(_)), "{}: the good image boots: {end:x?}", self.name);
                let events = machine.events() - first - computing;
                return Good { events, computing, blocks: Arc::new(machine.traced().into_iter().collect()) };
            }
            let before = machine.events();
            machine.learn();
            computing += machine.events() - before;
        }
    }

    fn state(&self, machine: &Machine) -> State {
        let registers = live_registers(machine);
        let stack = machine.register(Register::Stack);
        let dead = Region::new(self.stack.base, stack.saturating_sub(self.stack.base));
        State { registers, memory: machine.kept(dead) }
    }
}

/// A generator whose numbers follow from its seed (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.next().is_multiple_of(count)
    }
}
