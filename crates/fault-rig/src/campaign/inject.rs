//! Running the faults, one after the other, and judging each.

use std::time::{Duration, Instant};

use super::{Left, Point, Random, Reference, Scene, Share, Tally};
use crate::fault::Fault;
use crate::machine::{End, Machine, Snapshot};
use crate::register::Register;

/// How many events more than the boot of a good image, and a quarter of those, a run may take: as many as it takes a fault to
/// boot a bad one.
const SLACK: u64 = 5_000;
/// How often a run says how far it has come.
const TELLING: Duration = Duration::from_secs(60);
/// At one in so many places with faults it is seen that the machine which was set back ends as if there had been no fault.
const PROVED: usize = 64;

impl Scene<'_> {
    pub(super) fn inject_all(&self, reference: &Reference, points: &[Point], share: Share) -> Tally {
        let mut machine = self.machine(reference);
        let mut tally = Tally::default();
        let (mut told, mut faulted) = (Instant::now(), 0);
        for (done, point) in points.iter().enumerate() {
            if told.elapsed() > TELLING {
                told = Instant::now();
                let (all, ran, found) = (points.len(), tally.total(), tally.violations.len());
                eprintln!("{}: {done} of {all} places, {ran} faults, {found} violations", self.name);
            }
            let mut random = Random(share.seed ^ (point.event << 8 | point.into));
            let pc = reference.trace[(point.event - reference.first) as usize] + 4 * point.into;
            let wanted = |fault: &Fault| match fault {
                Fault::Skip(count) => *count <= point.skip,
                Fault::Invert => point.invert,
                Fault::Opcode(_) | Fault::Register(..) => random.one_in(point.bits),
            };
            let Some(instruction) = self.program.instruction(pc) else { continue };
            let faults: Vec<Fault> = Fault::all(instruction).into_iter().filter(wanted).collect();
            if faults.is_empty() {
                continue;
            }
            assert_eq!(machine.run(point.event, u64::MAX, &[]), End::Event);
            let block = machine.save();
            machine.run_to(pc);
            let before = machine.save();
            for fault in faults {
                let known = tally.violations.len();
                self.inject(&mut machine, reference, &before, *point, fault, &mut tally);
                // At once: a run that is cut short has told what it found. The first ones will do.
                if let Some(found) = tally.violations.get(known)
                    && known < share.told
                {
                    eprintln!("VIOLATION {found}");
                }
            }
            faulted += 1;
            if faulted % PROVED == 1 {
                machine.restore(&before);
                self.ends_as_without(&mut machine, reference);
            }
            machine.restore(&block);
        }
        tally
    }

    /// Sees how a machine that was set back ends. Its way through the basic blocks is not compared: in very long runs it differs now and then.
    ///
    /// # Panics
    /// If a machine that was set back ends otherwise than in the run without a fault, or says anything else: then what was found after other
    /// faults is worth nothing.
    fn ends_as_without(&self, machine: &mut Machine, reference: &Reference) {
        let from = machine.events();
        let end = machine.run(u64::MAX, reference.events + SLACK, &[]);
        let said = (&machine.devices().console, &machine.devices().link);
        let same = end == reference.end && said == (&reference.said.0, &reference.said.1);
        assert!(same, "{}: set back to event {from}, it ends otherwise: {end:x?}", self.name);
        let leaked = (self.leaked)(machine);
        let left =
            if let End::Outside(address) = end { (self.left)(machine, address) } else { Left::Rightly };
        assert_eq!((left, leaked), (Left::Rightly, None), "{}: set back to event {from}", self.name);
    }

    fn inject(
        &self,
        machine: &mut Machine,
        reference: &Reference,
        snapshot: &Snapshot,
        point: Point,
        fault: Fault,
        tally: &mut Tally,
    ) {
        machine.restore(snapshot);
        let pc = machine.pc();
        let computing = if reference.results.is_none() { reference.good.computing } else { 0 };
        let good = reference.good.events + computing;
        let limit = reference.events.max(point.event + good + good / 4) + SLACK;
        fault.inject(machine, limit);
        let mut next = reference.passed.partition_point(|passed| passed.events <= point.event);
        let mut violation = None;
        let (end, changed) = loop {
            match machine.run(u64::MAX, limit, self.marks) {
                End::Mark(_) => {
                    if let Some(passed) = reference.passed.get(next)
                        && passed.state.registers == live_registers(machine)
                        && machine.keeps(&passed.state.memory)
                    {
                        break ("goes on as without", machine.path() != passed.path);
                    }
                    next += 1;
                    machine.step(limit);
                }
                end => {
                    let said = (&machine.devices().console, &machine.devices().link);
                    let same_said = said == (&reference.said.0, &reference.said.1);
                    let name = match end {
                        End::Stopped if same_said => "refused with the same words",
                        End::Stopped => "refused with other words",
                        End::Outside(address) => {
                            let left = (self.left)(machine, address);
                            let name = match left {
                                Left::Rightly if same_said => "booted the good image",
                                Left::Rightly => "booted the good image with other words",
                                Left::Backwards => "booted the good image with times that run backwards",
                                Left::Spoiled => "booted the good image with a handoff that it refuses",
                                Left::Wiped => "executed wiped memory",
                                Left::Wrongly(_) => "EXECUTED WHAT IS NOT ITS OWN",
                            };
                            if let Left::Wrongly(reason) = left {
                                violation = Some(reason);
                            }
                            name
                        }
                        End::Limit => "runs without end",
                        End::Dead
                        | End::Event
                        | End::Mark(_)
                        | End::Clearing
                        | End::Cleaning
                        | End::Computing => "stands still",
                    };
                    break (name, machine.path() != reference.path || !same_said);
                }
            }
        };
        let violation = violation.or_else(|| (self.leaked)(machine));
        tally.ran[fault.kind()] += 1;
        tally.changed[fault.kind()] += u64::from(changed);
        tally.loops += u64::from(point.looped);
        *tally.ends.entry(end).or_default() += 1;
        if let Some(violation) = violation {
            let function = self.program.function(pc);
            let found = format!(
                "{}: {fault} at {pc:#x} in {function}, event {}+{}: {violation}; {end}, at {:#x}, said {:?}",
                self.name,
                point.event,
                point.into,
                machine.pc(),
                String::from_utf8_lossy(
                    machine.devices().console.get(..400).unwrap_or(&machine.devices().console)
                ),
            );
            tally.violations.push(found);
        }
    }
}

/// Returns the registers that a function may read when it is entered.
pub(super) fn live_registers(machine: &Machine) -> Vec<u64> {
    let general = (0..9).chain(19..31).map(Register::General);
    let saved = (8..16).map(Register::Saved);
    general.chain(saved).chain([Register::Stack]).map(|register| machine.register(register)).collect()
}
