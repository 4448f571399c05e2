//! The call graph of a linked program, made from its instructions.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::decode::{Reference, decode};

/// A function: it ends where the next one starts.
#[derive(Clone, Debug)]
pub(super) struct Function {
    /// Address of its first instruction.
    pub(super) start: u64,
    /// Demangled name.
    pub(super) name: String,
}

/// The bytes of the executable sections, and which of them are data.
#[derive(Default)]
pub(super) struct Code {
    sections: Vec<(u64, Vec<u8>)>,
    /// Mapping symbols: from here on it is data (true) or instructions (false).
    marks: BTreeMap<u64, bool>,
}

impl Code {
    /// Adds a section that starts at `address`.
    pub(super) fn add(&mut self, address: u64, bytes: Vec<u8>) {
        self.sections.push((address, bytes));
    }

    /// Notes a mapping symbol.
    pub(super) fn mark(&mut self, address: u64, data: bool) {
        self.marks.insert(address, data);
    }

    /// Returns every instruction with its address.
    fn instructions(&self) -> impl Iterator<Item = (u64, u32)> + '_ {
        let words = self.sections.iter().flat_map(|(start, bytes)| {
            let words =
                bytes.chunks_exact(4).filter_map(|word| Some(u32::from_le_bytes(word.try_into().ok()?)));
            (*start..).step_by(4).zip(words)
        });
        words.filter(|(at, _)| !self.marks.range(..=at).next_back().is_some_and(|(_, data)| *data))
    }

    fn word(&self, address: u64) -> Option<u64> {
        self.sections.iter().find_map(|(start, bytes)| {
            let at = usize::try_from(address.checked_sub(*start)?).ok()?;
            Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
        })
    }
}

/// Who calls whom.
pub(super) struct Graph {
    /// All functions, by address.
    pub(super) functions: Vec<Function>,
    /// Caller and callee, with one instruction for each place of the call.
    calls: BTreeMap<(usize, usize), BTreeSet<u64>>,
}

impl Graph {
    /// Builds the graph. `data` holds every word that lies in data and may be a pointer.
    pub(super) fn build(functions: Vec<Function>, code: &Code, data: &BTreeSet<u64>) -> Self {
        let mut graph = Self { functions, calls: BTreeMap::new() };
        let in_data: Vec<usize> = data.iter().filter_map(|address| graph.starting_at(*address)).collect();
        let mut pages = [None; 32];
        let mut inside = None;
        for (pc, word) in code.instructions() {
            let Some(caller) = graph.containing(pc) else { continue };
            if inside != Some(caller) {
                inside = Some(caller);
                pages = [None; 32];
            }
            match decode(word, pc) {
                Some(Reference::Branch(target)) => graph.call(caller, graph.containing(target), pc),
                Some(Reference::Indirect) => in_data.iter().for_each(|to| graph.call(caller, Some(*to), pc)),
                Some(Reference::Address(target)) => graph.call(caller, graph.starting_at(target), pc),
                Some(Reference::Page { register, page }) => pages[usize::from(register & 31)] = Some(page),
                Some(Reference::Add { to: _, from, amount }) => {
                    if let Some(page) = pages[usize::from(from & 31)] {
                        graph.call(caller, graph.starting_at(page.wrapping_add(amount)), pc);
                    }
                }
                Some(Reference::Literal(at)) => {
                    let target = code.word(at).and_then(|target| graph.starting_at(target));
                    graph.call(caller, target, pc);
                }
                None => {}
            }
        }
        graph
    }

    /// Returns every call: caller, callee, address of the instruction.
    pub(super) fn calls(&self) -> impl Iterator<Item = (usize, usize, u64)> + '_ {
        self.calls.iter().flat_map(|((from, to), at)| at.iter().map(|pc| (*from, *to, *pc)))
    }

    /// Finds every function from which one that is `wanted` can be reached, each with its next step there.
    pub(super) fn paths_to(&self, wanted: &dyn Fn(&Function) -> bool) -> BTreeMap<usize, Option<usize>> {
        let goals = self.functions.iter().enumerate().filter(|(_, function)| wanted(function));
        let mut next: BTreeMap<usize, Option<usize>> = goals.map(|(index, _)| (index, None)).collect();
        let mut queue: VecDeque<usize> = next.keys().copied().collect();
        let mut callers: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (from, to) in self.calls.keys() {
            callers.entry(*to).or_default().push(*from);
        }
        while let Some(at) = queue.pop_front() {
            for from in callers.get(&at).into_iter().flatten() {
                if !next.contains_key(from) {
                    next.insert(*from, Some(at));
                    queue.push_back(*from);
                }
            }
        }
        next
    }

    /// Returns the names from `start` to a goal of `next`, as [`Self::paths_to`] gave it.
    pub(super) fn path(&self, start: usize, next: &BTreeMap<usize, Option<usize>>) -> Vec<&str> {
        let steps = std::iter::successors(Some(start), |at| next.get(at).copied().flatten());
        steps.map(|at| self.functions[at].name.as_str()).collect()
    }

    /// Returns the names from a function that nobody calls down to `end`.
    pub(super) fn path_from_root(&self, end: usize) -> Vec<&str> {
        let mut came_from: BTreeMap<usize, usize> = BTreeMap::new();
        let mut queue = VecDeque::from([end]);
        let mut root = end;
        while let Some(at) = queue.pop_front() {
            let callers: Vec<usize> = self
                .calls
                .keys()
                .filter(|(from, to)| *to == at && from != to)
                .map(|(from, _)| *from)
                .collect();
            if callers.is_empty() {
                root = at;
                break;
            }
            for from in callers {
                if from != end && !came_from.contains_key(&from) {
                    came_from.insert(from, at);
                    queue.push_back(from);
                }
            }
        }
        let steps = std::iter::successors(Some(root), |at| came_from.get(at).copied());
        steps.map(|at| self.functions[at].name.as_str()).collect()
    }

    fn call(&mut self, caller: usize, callee: Option<usize>, pc: u64) {
        if let Some(callee) = callee.filter(|callee| *callee != caller) {
            self.calls.entry((caller, callee)).or_default().insert(pc);
        }
    }

    fn containing(&self, address: u64) -> Option<usize> {
        self.functions.partition_point(|function| function.start <= address).checked_sub(1)
    }

    fn starting_at(&self, address: u64) -> Option<usize> {
        self.functions.binary_search_by_key(&address, |function| function.start).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn functions(names: &[&str]) -> Vec<Function> {
        (0x1000..)
            .step_by(0x10)
            .zip(names)
            .map(|(start, name)| Function { start, name: (*name).into() })
            .collect()
    }

    fn build(words: &[u32], data: &[u64]) -> Vec<(usize, usize)> {
        let mut code = Code::default();
        code.add(0x1000, words.iter().flat_map(|word| word.to_le_bytes()).collect());
        let graph = Graph::build(functions(&["a", "b", "c"]), &code, &data.iter().copied().collect());
        graph.calls.keys().copied().collect()
    }

    const NOP: u32 = 0xD503_201F;

    #[test]
    fn addresses_in_registers_and_literals_count_as_calls() {
        // a: adrp x1, 0x1000; add x0, x1, #0x20 (c); ldr x2, =b
        assert_eq!(build(&[0x9000_0001, 0x9100_8020], &[]), [(0, 2)]);
        assert_eq!(build(&[0x5800_0040, NOP, 0x1010, 0], &[]), [(0, 1)]);
        // The page is forgotten at the next function: b's add has no page of its own.
        assert_eq!(build(&[0x9000_0001, NOP, NOP, NOP, 0x9100_8020], &[]), []);
    }

    #[test]
    fn a_call_through_a_pointer_may_reach_whatever_data_points_to() {
        assert_eq!(build(&[0xD63F_0100], &[0x1020, 0x1024]), [(0, 2)]);
        assert_eq!(build(&[NOP], &[0x1020]), []);
    }

    #[test]
    fn data_between_instructions_is_not_decoded() {
        let mut code = Code::default();
        let bl_b = 0x9400_0004_u32;
        code.add(0x1000, [bl_b.to_le_bytes(), NOP.to_le_bytes()].concat());
        code.mark(0x1000, true);
        code.mark(0x1004, false);
        let graph = Graph::build(functions(&["a", "b"]), &code, &BTreeSet::new());
        assert_eq!(graph.calls().count(), 0);
    }

    #[test]
    fn loops_in_the_graph_end() {
        // a: bl b; b: bl a
        let calls = build(&[0x9400_0004, NOP, NOP, NOP, 0x97FF_FFFC], &[]);
        assert_eq!(calls, [(0, 1), (1, 0)]);
        let mut code = Code::default();
        code.add(
            0x1000,
            [0x9400_0004, NOP, NOP, NOP, 0x97FF_FFFC].iter().flat_map(|w: &u32| w.to_le_bytes()).collect(),
        );
        let graph = Graph::build(functions(&["a", "b"]), &code, &BTreeSet::new());
        assert_eq!(graph.path_from_root(0), ["a"]);
        let next = graph.paths_to(&|function| function.name == "b");
        assert_eq!(graph.path(0, &next), ["a", "b"]);
    }
}
