//! Dies, the authority and the network between them, with an adversary and power cuts: every step that there is.

use std::hash::Hash;
use std::sync::Arc;

use fail_code::FailCode;
use stateright::{Model, Property};

use super::authority::{Authority, Judgement, Work};
use super::die::{Die, Doing, End, Outcome, Rules, Slot};
use super::graph::{Graph, name};
use super::message::{Message, Net};
use super::properties;
use super::tampering::Tampering;

/// All there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct World<const N: usize> {
    pub(super) dies: [Die; N],
    pub(super) authority: Authority<N>,
    pub(super) net: Net,
    /// How often somebody may still write to the storage of a die.
    tamperings: u8,
    /// Numbers of invariants that a step has broken.
    pub(super) broken: u16,
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    PowerOn(u8),
    /// Power fails at this place of what the die does next.
    Cut(u8, usize),
    Deliver(u8, Message),
    Refuse(u8),
    PowerOff(u8),
    Tamper(u8, Tampering),
    Authority(Work),
}

/// A step, and what comes of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Step<const N: usize> {
    pub(super) what: What,
    is_fault: bool,
    to: Box<World<N>>,
}

/// What is checked.
#[derive(Clone)]
pub(super) struct Check<const N: usize> {
    pub(super) rules: Arc<Rules>,
    pub(super) quota: u8,
    pub(super) tamperings: u8,
    /// Where the steps go without faults.
    pub(super) graph: Option<Arc<Graph>>,
    /// A state that the way to is looked for.
    pub(super) looked_for: Option<u64>,
}

impl<const N: usize> Check<N> {
    fn clean(world: &World<N>) -> impl Fn(Message) -> bool {
        |question| match question {
            Message::Request { die, session } => world.dies[usize::from(die)].is_clean(session),
            _ => true,
        }
    }

    /// The world after a die has run, and the worlds that cuts leave.
    fn after(
        &self,
        world: &World<N>,
        what: What,
        is_fault: bool,
        die: Die,
        outcome: Outcome,
        steps: &mut Vec<Step<N>>,
    ) {
        let at = usize::from(die.id);
        let mut to = *world;
        to.broken |= outcome.broken;
        let mut cuts: Vec<Die> = Vec::new();
        for cut in outcome.cuts {
            if cut != world.dies[at] && !cuts.contains(&cut) {
                cuts.push(cut);
            }
        }
        for (place, cut) in cuts.into_iter().enumerate() {
            let mut to = Box::new(to);
            to.dies[at] = cut;
            steps.push(Step { what: What::Cut(die.id, place), is_fault: true, to });
        }
        to.dies[at] = die;
        if let Some(message) = outcome.sent {
            to.net.send(message);
        }
        if !is_fault && !is_expected(&die, outcome.end) {
            to.broken |= 1 << 6;
        }
        if to != *world {
            steps.push(Step { what, is_fault, to: Box::new(to) });
        }
    }

    fn of_die(&self, world: &World<N>, die: &Die, messages: &[Message], steps: &mut Vec<Step<N>>) {
        match die.doing {
            Doing::Off(_) => {
                let mut on = *die;
                let outcome = on.power_on(&self.rules);
                self.after(world, What::PowerOn(die.id), false, on, outcome, steps);
                if world.tamperings > 0 {
                    for tampering in die.tamperings(&self.rules, messages) {
                        let mut to = Box::new(*world);
                        to.tamperings -= 1;
                        to.dies[usize::from(die.id)].tamper(&self.rules, tampering);
                        steps.push(Step { what: What::Tamper(die.id, tampering), is_fault: true, to });
                    }
                }
            }
            Doing::Asking { .. } | Doing::Proving => {
                for answer in messages {
                    let mut with = *die;
                    if let Some(outcome) = with.take(&self.rules, *answer) {
                        let is_fault = matches!(outcome.end, End::Stopped(code) if FOREIGN.contains(&code));
                        self.after(world, What::Deliver(die.id, *answer), is_fault, with, outcome, steps);
                    }
                }
                if let Doing::Asking { question, .. } = die.doing {
                    let clean = Self::clean(world)(question);
                    let mistake = self.rules.mistake;
                    let judged = world.authority.judge(question, &world.net, self.quota, clean, mistake);
                    let mut told = *die;
                    if judged == Judgement::Refused
                        && let Some(outcome) = told.refused(&self.rules)
                    {
                        let mut to = Box::new(*world);
                        to.broken |= outcome.broken;
                        to.dies[usize::from(die.id)] = told;
                        steps.push(Step { what: What::Refuse(die.id), is_fault: false, to });
                    }
                }
                let mut to = Box::new(*world);
                to.dies[usize::from(die.id)] = die.cut();
                steps.push(Step { what: What::PowerOff(die.id), is_fault: true, to });
            }
        }
    }

    fn goals(&self, world: &World<N>) -> u16 {
        (0..)
            .zip(properties::GOALS)
            .fold(0, |goals, (bit, goal)| goals | u16::from(goal.holds(self, world)) << bit)
    }
}

/// How a die stops at an answer for somebody else, which it has from the adversary.
const FOREIGN: [FailCode; 3] =
    [FailCode::TicketMismatch, FailCode::ReceiptInvalid, FailCode::CertificateInvalid];

/// Tells whether a run that nobody disturbs may end so.
fn is_expected(die: &Die, end: End) -> bool {
    match end {
        End::Waits | End::Closed => true,
        End::Stopped(FailCode::FuseForeign) => die.altered,
        End::Stopped(FailCode::ReadBack) => die.is_flawed() || die.spoiled,
        End::Stopped(_) => die.spoiled,
        End::Illegal | End::Dead => false,
    }
}

impl<const N: usize> Model for Check<N> {
    type State = World<N>;
    type Action = Step<N>;

    fn init_states(&self) -> Vec<World<N>> {
        let world = |flawed: bool| World {
            dies: std::array::from_fn(|id| {
                Die::new(id as u8, if flawed && id == 0 { Slot::Torn } else { Slot::Stage1 })
            }),
            authority: Authority::default(),
            net: Net::default(),
            tamperings: self.tamperings,
            broken: 0,
        };
        // Or the first die was pre-provisioned without a backup of its stage.
        vec![world(false), world(true)]
    }

    fn actions(&self, world: &World<N>, steps: &mut Vec<Step<N>>) {
        if world.broken != 0 {
            return;
        }
        let messages = world.net.messages();
        for die in &world.dies {
            self.of_die(world, die, &messages, steps);
        }
        for work in world.authority.work(&world.net) {
            let mut to = Box::new(*world);
            to.authority.perform(work, &mut to.net, self.quota, Self::clean(world), self.rules.mistake);
            if *to != *world {
                steps.push(Step { what: What::Authority(work), is_fault: work == Work::Crash, to });
            }
        }
        if let Some(graph) = &self.graph {
            let to = steps.iter().filter(|step| !step.is_fault).map(|step| name(&*step.to)).collect();
            graph.add(name(world), self.goals(world), to);
        }
    }

    fn next_state(&self, _: &World<N>, step: Step<N>) -> Option<World<N>> {
        Some(*step.to)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut all = properties::safety();
        all.extend(properties::reached());
        all.push(properties::looked_for());
        all
    }
}
