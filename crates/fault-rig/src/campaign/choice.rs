//! Where faults go: which instructions, at which of the times that they run.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::{MOST, NEAR, Occurrences, Owners, Point, Random, Reference, Scene, Share};

impl Scene<'_> {
    fn is_looped(&self, block: u64) -> bool {
        self.loops.iter().any(|range| range.contains(&block))
    }

    /// Returns the events near those that are none of the good image's boot: near the first ones of each row of them, since what
    /// differs first need not be what decides. Where another image boots at last, the last ones belong to them. A loop counts as one
    /// time through it: the last before the decision, the first after it.
    ///
    /// # Panics
    /// If there are none.
    fn near(&self, reference: &Reference, share: Share) -> BTreeSet<u64> {
        let events = (reference.first..).zip(reference.trace.iter().copied());
        let own: Vec<(u64, u64)> = events.filter(|(_, block)| !self.is_looped(*block)).collect();
        let [before, after] = NEAR;
        let (mut near, mut places, mut behind) = (BTreeSet::new(), 0, 0);
        for (at, (_, block)) in own.iter().enumerate() {
            if reference.good.blocks.contains(block) {
                continue;
            }
            if (at >= behind || places == 0) && places < share.places {
                near.extend(different(own[..at].iter().rev(), before));
                near.extend(different(own[at..].iter(), after));
                places += 1;
            }
            behind = at + before;
        }
        assert!(places > 0, "{}: the good image takes the same way", self.name);
        if reference.boots() {
            near.extend(different(own.iter().rev(), before));
        }
        near
    }

    /// Lists the instructions that run inside the loops or outside, with when.
    pub(super) fn executed(
        &self,
        reference: &Reference,
        share: Share,
        looped: bool,
    ) -> BTreeMap<u64, Occurrences> {
        let mut random = Random(reference.first);
        let mut lengths = HashMap::new();
        let mut executed: BTreeMap<u64, Occurrences> = BTreeMap::new();
        for (event, block) in (reference.first..).zip(&reference.trace) {
            if self.is_looped(*block) != looped {
                continue;
            }
            let length = *lengths.entry(*block).or_insert_with(|| self.program.block(*block));
            for into in 0..length {
                let point = Point { event, into, skip: MOST, invert: true, bits: share.bits, looped };
                let new = || Occurrences { first: point, last: point, count: 0, any: point };
                let known = executed.entry(block + 4 * into).or_insert_with(new);
                known.last = point;
                known.count += 1;
                if random.one_in(known.count) {
                    known.any = point;
                }
            }
        }
        executed
    }

    /// Chooses where to inject faults outside the loops: where the scene is decided, and at the first and at the last time that
    /// an instruction runs. What scenes of several ranks run is chosen apart for each rank, and but for the lowest skipped the last
    /// time: on the way to the boot of a good image, and not where the bad one is refused.
    pub(super) fn points(
        &self,
        reference: &Reference,
        share: Share,
        owners: &Owners,
        number: usize,
    ) -> Vec<Point> {
        let near = self.near(reference, share);
        let unchecked = self.unchecked(reference);
        let mut points = Vec::new();
        for event in &near {
            let block = reference.trace[(event - reference.first) as usize];
            for into in 0..self.program.block(block) {
                let bits = share.bits_near;
                points.push(Point { event: *event, into, skip: MOST, invert: true, bits, looped: false });
            }
        }
        for (address, known) in self.executed(reference, share, false) {
            let owners = &owners[&address];
            let (alike, shared) = (&owners[&self.rank], owners.range(..self.rank).next().is_some());
            let (one_in, skipped) =
                if shared { (self.shared, share.skipped.min(1)) } else { (self.own, share.skipped) };
            let mut random = Random(share.seed ^ address);
            let before = alike.iter().position(|owner| *owner == number).expect("it executes this");
            let turn = (before + random.next() as usize) % alike.len();
            if share.bits_last > 0 && turn == 0 && known.last.event > unchecked {
                points.push(Point { skip: MOST, bits: share.bits_last, ..known.last });
            }
            let (skipped, invert) = (turn < skipped, turn < share.inverted);
            let either = random.next() as usize % 2;
            let chosen = if shared { 1 } else { either };
            if one_in == 0 || !random.one_in(one_in) {
                continue;
            }
            let ends = [known.first, known.last].into_iter().take(known.count as usize).enumerate();
            let skip = |end| {
                let here = share.both_ends || end == chosen || known.count == 1;
                if skipped && here { MOST } else { 0 }
            };
            let ends = ends.map(|(end, point)| Point { skip: skip(end), invert, ..point });
            points.extend(ends.filter(|point| !near.contains(&point.event)));
        }
        // Of what was chosen twice, the one with more bits.
        points.sort_unstable_by_key(|point| (point.event, point.into, point.bits));
        points.dedup_by_key(|point| (point.event, point.into));
        points
    }

    /// Returns the last event of the last check; behind all events where no other image boots.
    fn unchecked(&self, reference: &Reference) -> u64 {
        let checks = |block: &u64| self.checks.iter().any(|range| range.contains(block));
        let last = reference.trace.iter().rposition(checks).filter(|_| reference.boots());
        last.map_or(u64::MAX, |last| reference.first + last as u64)
    }

    /// Chooses instructions in the loops, each at some time that it runs.
    pub(super) fn points_in_loops(&self, reference: &Reference, share: Share) -> Vec<Point> {
        let mut random = Random(share.seed);
        let executed = self.executed(reference, share, true);
        let chosen = executed.values().filter(|_| random.one_in(share.loops));
        let mut points: Vec<Point> = chosen.map(|known| known.any).collect();
        points.sort_unstable_by_key(|point| (point.event, point.into));
        points
    }
}

/// Returns the events of the first so many different basic blocks of a way.
fn different<'a>(way: impl Iterator<Item = &'a (u64, u64)>, count: usize) -> Vec<u64> {
    let mut seen = HashSet::new();
    way.filter(|(_, block)| seen.insert(*block)).take(count).map(|(event, _)| *event).collect()
}
