//! Reverse reachability: from where a goal can be reached once faults have stopped.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};

/// A state's name in the graph.
pub(super) fn name(state: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    state.hash(&mut hasher);
    hasher.finish()
}

/// What is known of a state.
struct Node {
    name: u64,
    /// Goals that are reached in it, one a bit.
    goals: u16,
    /// Where it leads without a fault.
    to: Vec<u64>,
}

/// All states that the checker came to.
#[derive(Default)]
pub(super) struct Graph(Mutex<Vec<Node>>);

impl Graph {
    pub(super) fn add(&self, name: u64, goals: u16, to: Vec<u64>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Node { name, goals, to });
    }

    /// Goes backwards from the states that reach each of `goals`, and returns for each how many states do not lead there,
    /// with the name of one of them.
    pub(super) fn stranded(&self, goals: u8) -> Vec<(usize, u64)> {
        let nodes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let index: HashMap<u64, usize> = nodes.iter().zip(0..).map(|(node, at)| (node.name, at)).collect();
        let mut from = vec![Vec::new(); nodes.len()];
        for (at, node) in nodes.iter().enumerate() {
            node.to.iter().filter_map(|to| index.get(to)).for_each(|to| from[*to].push(at as u32));
        }
        let back = |goal: u8| {
            let mut leads: Vec<bool> = nodes.iter().map(|node| node.goals >> goal & 1 == 1).collect();
            let mut open: Vec<usize> = (0..nodes.len()).filter(|at| leads[*at]).collect();
            while let Some(at) = open.pop() {
                for before in &from[at] {
                    if !std::mem::replace(&mut leads[*before as usize], true) {
                        open.push(*before as usize);
                    }
                }
            }
            let mut stranded = leads.iter().zip(nodes.iter()).filter(|(leads, _)| !**leads);
            let one = stranded.next().map(|(_, node)| node.name);
            (one.map_or(0, |_| 1 + stranded.count()), one.unwrap_or_default())
        };
        (0..goals).map(back).collect()
    }
}

#[test]
fn a_state_that_leads_nowhere_is_found() {
    let graph = Graph::default();
    // 1 leads to 2, which leads to 3, the goal, and to 4, which leads back to itself; 5 leads to the goal by a fault only.
    graph.add(1, 0, vec![2]);
    graph.add(2, 0, vec![3, 4]);
    graph.add(3, 0b1, vec![]);
    graph.add(4, 0b10, vec![4]);
    graph.add(5, 0, vec![]);
    assert_eq!(graph.stranded(2), [(2, 4), (2, 3)]);
}
