//! The command window (RFC 7143 §4.2.2.1).
//!
//! Invariants: CmdSN is taken when a command is encoded, never before, so that CmdSN order is wire
//! order; MaxCmdSN and ExpCmdSN never go back.

use crate::serial::CmdSn;
use crate::wire::Window;

/// Which commands may be sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct CommandWindow {
    next: CmdSn,
    exp: CmdSn,
    max: CmdSn,
}

impl CommandWindow {
    /// The window that a login left.
    pub(super) fn new(next: CmdSn, window: Window) -> Self {
        let mut this = Self {
            next,
            exp: window.exp_cmd_sn,
            max: window.exp_cmd_sn.plus(u32::MAX),
        };
        this.update(window);
        this
    }

    /// Takes over what a response says. Values that go back, or contradict each other, are
    /// leftovers of reordering and ignored.
    pub(super) fn update(&mut self, window: Window) {
        let Window {
            exp_cmd_sn,
            max_cmd_sn,
        } = window;
        if max_cmd_sn.precedes(exp_cmd_sn.plus(u32::MAX)) {
            return;
        }
        if self.exp.precedes(exp_cmd_sn) {
            self.exp = exp_cmd_sn;
        }
        if self.max.precedes(max_cmd_sn) {
            self.max = max_cmd_sn;
        }
    }

    /// Whether a non-immediate command may be sent now.
    pub(super) fn is_open(&self) -> bool {
        !self.max.precedes(self.next)
    }

    /// The CmdSN for a non-immediate command; it is used up.
    pub(super) fn take(&mut self) -> CmdSn {
        let sn = self.next;
        self.next = sn.next();
        sn
    }

    /// The CmdSN that an immediate command carries; it is not used up.
    pub(super) fn peek(&self) -> CmdSn {
        self.next
    }

    /// The first command that the target has not acknowledged.
    pub(super) fn acknowledged(&self) -> CmdSn {
        self.exp
    }

    /// Whether the target has acknowledged a command.
    pub(super) fn has_acknowledged(&self, cmd_sn: CmdSn) -> bool {
        cmd_sn.precedes(self.exp)
    }

    /// Commands the target would take beyond what it has acknowledged.
    pub(super) fn size(&self) -> u32 {
        self.max.next().since(self.exp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(exp: u32, max: u32) -> Window {
        Window {
            exp_cmd_sn: CmdSn(exp),
            max_cmd_sn: CmdSn(max),
        }
    }

    #[test]
    fn a_closed_window_lets_nothing_through() {
        let mut sut = CommandWindow::new(CmdSn(7), window(7, 6));
        assert!(!sut.is_open());
        sut.update(window(7, 7));
        assert!(sut.is_open());
        assert_eq!(sut.take(), CmdSn(7));
        assert!(!sut.is_open());
    }

    #[test]
    fn max_cmd_sn_never_goes_back() {
        let mut sut = CommandWindow::new(CmdSn(10), window(10, 20));
        sut.update(window(11, 15));
        assert_eq!(sut.max, CmdSn(20));
        assert_eq!(sut.exp, CmdSn(11));
    }

    #[test]
    fn contradicting_values_are_ignored() {
        let mut sut = CommandWindow::new(CmdSn(10), window(10, 20));
        sut.update(window(100, 90));
        assert_eq!((sut.exp, sut.max), (CmdSn(10), CmdSn(20)));
    }

    #[test]
    fn the_wrap_is_crossed() {
        let mut sut = CommandWindow::new(CmdSn(u32::MAX), window(u32::MAX, 0));
        assert_eq!(sut.take(), CmdSn(u32::MAX));
        assert_eq!(sut.take(), CmdSn(0));
        assert!(!sut.is_open());
        sut.update(window(0, 3));
        assert!(sut.is_open());
    }
}
