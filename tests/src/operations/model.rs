//! What may be on the disk and what must not: one register per slot, a run of blocks that is
//! always written as a whole and by one write at a time.
//!
//! A slot may hold the last acknowledged write, any write of uncertain fate since, and one that was
//! still running somewhere when the acknowledged one was begun. Nothing else.

use std::collections::BTreeSet;

use iscsi::session::Session;
use scsi::{Certainty, Incarnation};

/// Size of a block in bytes.
pub(super) const BLOCK: usize = 512;
/// Blocks of each slot.
const BLOCKS: [u32; 6] = [1, 2, 8, 24, 64, 128];
/// All slots.
pub(super) const SLOTS: usize = BLOCKS.len();

/// Which write it is; 0 is what the disk holds at first.
pub(super) type Tag = u32;

/// Where a slot is.
pub(super) fn place(slot: usize) -> (u64, u32) {
    let before: u32 = BLOCKS[..slot].iter().sum();
    (before.into(), BLOCKS[slot])
}

/// The contents that a write puts there.
pub(super) fn contents(slot: usize, tag: Tag) -> Vec<u8> {
    let words = BLOCKS[slot] as usize * BLOCK / 4;
    tag.to_le_bytes().repeat(words)
}

/// A write that has ended for its caller and may still run.
#[derive(Debug, Clone, Copy)]
struct Ghost {
    tag: Tag,
    life: Incarnation,
    /// Its caller went away, so its end may come without that of its life.
    abandoned: bool,
}

#[derive(Debug, Default)]
struct Slot {
    possible: BTreeSet<Tag>,
    ghosts: Vec<Ghost>,
    /// The write under way, and what ran already when it began.
    running: Option<(Tag, BTreeSet<Tag>)>,
}

/// All slots.
#[derive(Debug)]
pub(super) struct Model {
    slots: Vec<Slot>,
    last: Tag,
}

impl Model {
    pub(super) fn new() -> Self {
        let slots = (0..SLOTS).map(|_| Slot {
            possible: BTreeSet::from([0]),
            ..Slot::default()
        });
        Self {
            slots: slots.collect(),
            last: 0,
        }
    }

    /// Begins a write, unless one is under way there.
    pub(super) fn begin(&mut self, slot: usize) -> Option<Tag> {
        let it = &mut self.slots[slot];
        if it.running.is_some() {
            return None;
        }
        self.last += 1;
        let ghosts = it.ghosts.iter().map(|ghost| ghost.tag).collect();
        it.running = Some((self.last, ghosts));
        it.possible.insert(self.last);
        Some(self.last)
    }

    /// The write under way was acknowledged.
    pub(super) fn acknowledged(&mut self, slot: usize) {
        let it = &mut self.slots[slot];
        if let Some((tag, ghosts)) = it.running.take() {
            it.possible = ghosts;
            it.possible.insert(tag);
        }
    }

    /// The write under way ended otherwise.
    pub(super) fn failed(&mut self, slot: usize, certainty: Certainty, life: Incarnation) {
        let it = &mut self.slots[slot];
        let Some((tag, _)) = it.running.take() else {
            return;
        };
        if certainty == Certainty::NotSent {
            it.possible.remove(&tag);
        } else if certainty.may_still_run() {
            it.ghosts.push(Ghost {
                tag,
                life,
                abandoned: false,
            });
        }
    }

    /// The caller of the write under way went away.
    pub(super) fn abandoned(&mut self, slot: usize, life: Incarnation) {
        let it = &mut self.slots[slot];
        if let Some((tag, _)) = it.running.take() {
            it.ghosts.push(Ghost {
                tag,
                life,
                abandoned: true,
            });
        }
    }

    /// What a session says to be over cannot run any more.
    pub(super) fn look(&mut self, session: &Session) {
        let (over, unsettled) = (session.over(), session.unsettled());
        for slot in &mut self.slots {
            slot.ghosts
                .retain(|ghost| ghost.life > over && !(ghost.abandoned && unsettled == 0));
        }
    }

    /// Whether a write that has ended for its caller may still run.
    pub(super) fn is_haunted(&self) -> bool {
        self.slots.iter().any(|slot| !slot.ghosts.is_empty())
    }

    /// What a read that begins now may see.
    pub(super) fn possible(&self, slot: usize) -> BTreeSet<Tag> {
        self.slots[slot].possible.clone()
    }
}

/// Checks what a read brought.
pub(super) fn check(slot: usize, seen: &[u8], possible: &BTreeSet<Tag>) {
    for word in seen.as_chunks::<4>().0 {
        let tag = Tag::from_le_bytes(*word);
        assert!(
            possible.contains(&tag),
            "slot {slot} holds {tag}, possible are {possible:?}"
        );
    }
}
