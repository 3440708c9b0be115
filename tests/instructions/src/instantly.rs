//! A nexus that answers at once and a clock that stands still: what is left is multipath.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use mpio::Clock;
use scsi::{
    Command, Completion, DataPhase, FenceError, Incarnation, Nexus, NexusState, Outcome, ScsiAnswer,
};

/// Always up, always GOOD.
pub(crate) struct Instantly;

const LIFE: Incarnation = Incarnation(1);

impl Nexus for Instantly {
    async fn execute(&self, mut command: Command) -> Completion {
        let mut transferred = command.data.len();
        if let DataPhase::Read(buf) = &mut command.data
            && let Some(answer) = parameter_data(command.cdb.as_slice())
        {
            buf.as_mut_slice()[..answer.len()].copy_from_slice(answer);
            transferred = answer.len();
        }
        Completion {
            outcome: Outcome::Answered(ScsiAnswer::good(transferred)),
            data: command.data,
            incarnation: LIFE,
            took: Duration::ZERO,
        }
    }

    async fn fence(&self, _: Incarnation, _: Duration) -> Result<(), FenceError> {
        Ok(())
    }

    fn state(&self) -> NexusState {
        NexusState::Up(LIFE)
    }

    async fn changed(&self, _: NexusState) -> NexusState {
        std::future::pending().await
    }

    fn max_transfer_bytes(&self) -> usize {
        1 << 20
    }

    fn queue_depth(&self) -> usize {
        128
    }

    fn describe(&self) -> String {
        "instant".into()
    }
}

/// What a unit says of itself when it is looked at; `None` for reads of blocks.
fn parameter_data(cdb: &[u8]) -> Option<&'static [u8]> {
    const INQUIRY: &[u8; 36] = b"\0\0\x05\x02\x1f\0\0\x02EXAMPLE INSTANT         0001";
    Some(match (cdb[0], cdb[1] & 1, cdb[2]) {
        (0x12, 0, 0) => INQUIRY,
        (0x12, 1, 0) => &[0, 0, 0, 2, 0x80, 0x83],
        (0x12, 1, 0x80) => &[0, 0x80, 0, 1, b'1'],
        (0x12, ..) => &[0, 0x83, 0, 12, 1, 3, 0, 8, 0x50, 1, 2, 3, 4, 5, 6, 7],
        // 2^24 blocks of 512 bytes.
        (0x9e, ..) => &[0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0, 0, 2, 0],
        (0x1a, ..) => &[3, 0, 0, 0],
        _ => return None,
    })
}

/// Time stands still.
#[derive(Clone)]
pub(crate) struct Frozen(pub(crate) Instant);

impl Clock for Frozen {
    fn now(&self) -> Instant {
        self.0
    }

    fn sleep_until(&self, _: Instant) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }
}

/// The result of a future that has nothing to wait for.
pub(crate) fn at_once<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    match future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("it waits"),
    }
}
