//! The order of a task set (SAM-5 §8): ORDERED tasks wait for all before them, and SIMPLE ones for ORDERED and HEAD OF
//! QUEUE tasks before them.
//!
//! A task set belongs to a logical unit and holds the tasks of all sessions. Immediate delivery changes nothing here.
//! As long as nobody sends other attributes than SIMPLE, nothing is ever looked at.

use std::time::Instant;

use crate::target::Target;
use crate::task::{Progress, Task};

const ORDERED: u8 = 2;
const HEAD_OF_QUEUE: u8 = 3;
const ACA: u8 = 4;

impl Target {
    /// Notes the attribute of a new task.
    pub(crate) fn enter_task_set(&mut self, task: &Task) {
        self.attributes |= matches!(task.command.attribute, ORDERED | HEAD_OF_QUEUE);
    }

    /// Whether a task has to wait for others; it is remembered then.
    pub(crate) fn must_wait(&mut self, tsih: u16, itt: u32) -> bool {
        if !self.attributes {
            return false;
        }
        let Some(task) = self.sessions.get(&tsih).and_then(|s| s.tasks.get(&itt)) else {
            return false;
        };
        let (unit, id, attribute) = (task.execution.unit, task.id, task.command.attribute);
        if unit.is_none() || matches!(attribute, HEAD_OF_QUEUE | ACA) {
            return false;
        }
        let mut all = self.sessions.values().flat_map(|s| s.tasks.values());
        let waits = all.any(|other| {
            let before = other.id < id && other.execution.unit == unit;
            let open = matches!(other.progress, Progress::Collecting | Progress::Waiting);
            let special = matches!(other.command.attribute, ORDERED | HEAD_OF_QUEUE);
            before && open && (attribute == ORDERED || special)
        });
        if waits {
            self.waiting.insert((id, tsih, itt));
        }
        waits
    }

    /// Something has ended; those that waited for it may go on.
    pub(crate) fn advance_task_sets(&mut self, now: Instant) {
        if self.waiting.is_empty() {
            return;
        }
        for (_, tsih, itt) in std::mem::take(&mut self.waiting) {
            self.pump(now, tsih, itt);
        }
    }
}
