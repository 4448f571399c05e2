//! The whole of provisioning in a model: dies that run the shipped [`State::step`](super::State::step), the authority,
//! and between them a network and storage that belong to an adversary. `stateright` visits every state of it.
//!
//! What is done between two messages is one step: nobody sees it, and nothing else depends on it. Power may fail before, in
//! the middle of, and after each operation of it all the same, and each of these cuts is a step of its own.

mod authority;
mod die;
mod graph;
mod message;
mod mistake;
mod properties;
mod tampering;
mod world;

use std::collections::BTreeSet;
use std::sync::Arc;

use figures::Figure;
use stateright::{Checker, HasDiscoveries, Model as _, Path};

use super::script::SCRIPT;
use die::Rules;
use graph::Graph;
use mistake::{Falls, Mutant, mutants};
use properties::{GOALS, LOOKED_FOR, reached, safety};
use world::{Check, Step, World};

fn check<const N: usize>(rules: Rules, quota: u8, tamperings: u8) -> Check<N> {
    Check { rules: Arc::new(rules), quota, tamperings, graph: None, looked_for: None }
}

fn shipped<const N: usize>(quota: u8, tamperings: u8) -> Check<N> {
    check(Rules { script: SCRIPT.to_vec(), mistake: None }, quota, tamperings)
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get())
}

/// Stops a check once this property has fallen.
fn just(property: &'static str) -> HasDiscoveries {
    HasDiscoveries::AllOf(BTreeSet::from([property]))
}

/// Tells how a state comes about.
fn way<const N: usize>(path: Path<World<N>, Step<N>>) -> String {
    let last = *path.last_state();
    let steps: Vec<String> = path.into_actions().iter().map(|step| format!("{:?}", step.what)).collect();
    format!("{}; then {last:?}", steps.join(", "))
}

/// What checks have found.
#[derive(Default)]
struct Found {
    states: usize,
    depth: usize,
    violations: Vec<String>,
}

/// Visits every state, then goes backwards from those that are good.
fn explore<const N: usize>(check: Check<N>, found: &mut Found) {
    let graph = Arc::new(Graph::default());
    let with_graph = Check { graph: Some(graph.clone()), ..check.clone() };
    let done = with_graph.checker().threads(cores()).spawn_bfs().join();
    found.states += done.unique_state_count();
    found.depth = found.depth.max(done.max_depth());
    let mut discoveries = done.discoveries();
    for property in reached::<N>() {
        if discoveries.remove(property.name).is_none() {
            found.violations.push(format!("never came to: {}", property.name));
        }
    }
    let fallen = discoveries.into_iter().map(|(property, path)| format!("{property}: {}", way(path)));
    found.violations.extend(fallen);
    for (goal, (stranded, one)) in GOALS.iter().zip(graph.stranded(GOALS.len() as u8)) {
        if stranded > 0 {
            let looking = Check { looked_for: Some(one), ..check.clone() };
            let looking = looking.checker().threads(cores()).finish_when(just(LOOKED_FOR)).spawn_bfs().join();
            let way = looking.discovery(LOOKED_FOR).map(way).unwrap_or_default();
            found.violations.push(format!("{stranded} states do not lead to {goal:?}, such as {way}"));
        }
    }
}

/// Tells whether the mistake of a mutant is found, by what it has to be found by.
fn is_caught(mutant: Mutant) -> bool {
    let Mutant { script, mistake, falls, quota, tamperings, .. } = mutant;
    let check = check::<2>(Rules { script, mistake }, quota, tamperings);
    match falls {
        Falls::Property(property) => {
            let done = check.checker().threads(cores()).finish_when(just(property)).spawn_bfs().join();
            done.discovery(property).is_some()
        }
        Falls::Goal(goal) => {
            let graph = Arc::new(Graph::default());
            let check = Check { graph: Some(graph.clone()), ..check };
            check.checker().threads(cores()).spawn_bfs().join();
            let stranded = GOALS.iter().zip(graph.stranded(GOALS.len() as u8));
            stranded.into_iter().any(|(other, (states, _))| *other == goal && states > 0)
        }
    }
}

#[test]
fn every_invariant_holds_in_every_state_and_every_good_end_can_be_reached() {
    let mut found = Found::default();
    explore(shipped::<2>(1, 1), &mut found);
    explore(shipped::<2>(2, 1), &mut found);
    explore(shipped::<3>(2, 0), &mut found);
    if figures::is_long() {
        explore(shipped::<2>(1, 2), &mut found);
    }
    let Found { states, depth, mut violations } = found;
    let all = mutants().len();
    let missed = mutants().into_iter().map(|mutant| (mutant.name, is_caught(mutant)));
    let missed: Vec<&str> = missed.filter(|(_, caught)| !caught).map(|(name, _)| name).collect();
    violations.extend(missed.iter().map(|name| format!("nobody notices an implementation that {name}")));
    Figure::new("model check", "states", figures::scaled(1_000_000, 5_000_000))
        .ran(states as u64)
        .violations(&violations)
        .note(format!(
            "{} properties, {} goals, {} of {all} mutants caught, {depth} steps deep",
            safety::<2>().len(),
            GOALS.len(),
            all - missed.len()
        ))
        .report();
}
