//! One session of our library against real targets: what no command of the CLI can ask for.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use interop::cut::{Cut, until_acknowledged};
use interop::data::{Pattern, read_at, same};
use interop::istgt::{self, Istgt};
use interop::sandbox::{Sandbox, isolated};
use interop::tgt::{self, Tgt};
use iscsi::name::Isid;
use iscsi::net::{LunNexus, SessionHandle};
use iscsi::session::config::SessionConfig;
use scsi::{
    Cdb, Command, Completion, DataPhase, IoBuf, Lun, Nexus, NexusState, Outcome, ScsiAnswer,
    Status, TaskAttribute,
};
use tokio::task::JoinSet;

const BLOCK: usize = 512;

/// tgtd's Block Limits page promises COMPARE AND WRITE, but the command is not there.
#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn a_promised_command_that_is_missing_is_a_plain_check_condition() {
    with_tgtd(async |_sandbox, _tgt, session| {
        let nexus = session.nexus(Lun::from_number(1));
        // A second disk's unit attention after login would hide the answer.
        settled(&nexus).await?;
        let mut compare_and_write = [0; 16];
        compare_and_write[0] = 0x89;
        compare_and_write[13] = 1;
        let data = DataPhase::Write(vec![0; 2 * BLOCK].into());
        let answer = answered(nexus.execute(command(&compare_and_write, data)?).await)?;
        ensure!(answer.status == Status::CHECK_CONDITION, "{answer:?}");
        // ILLEGAL REQUEST, INVALID COMMAND OPERATION CODE in fixed format.
        ensure!(answer.sense.get(2) == Some(&0x05), "{answer:?}");
        ensure!(answer.sense.get(12..14) == Some(&[0x20, 0]), "{answer:?}");
        settled(&nexus).await
    });
}

/// istgt never answers WRITE SAME (16) with NDOB: the command must end, and the session recover.
#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn a_command_without_an_answer_ends_and_the_session_recovers() {
    with_istgt(async |_sandbox, _istgt, session| {
        let nexus = session.nexus(Lun::ZERO);
        settled(&nexus).await?;
        let mut write_same = [0; 16];
        write_same[0] = 0x93;
        write_same[1] = 0x01;
        write_same[13] = 8;
        let mut command = command(&write_same, DataPhase::None)?;
        command.timeout = Duration::from_secs(1);
        let ended = tokio::time::timeout(Duration::from_secs(40), nexus.execute(command)).await;
        let ended = ended.context("the command never ended")?;
        ensure!(matches!(ended.outcome, Outcome::Failed(_)), "{ended:?}");
        back_up(&nexus).await?;
        settled(&nexus).await
    });
}

#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn many_writes_and_reads_at_once_do_not_mix_at_tgtd() {
    with_tgtd(async |_sandbox, tgt, session| {
        let nexus = session.nexus(Lun::from_number(1));
        let image = tgt.image(1)?.to_path_buf();
        stripes(&nexus, &image).await
    });
}

#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn many_writes_and_reads_at_once_do_not_mix_at_istgt() {
    with_istgt(async |_sandbox, istgt, session| {
        let image = istgt.image(0)?.to_path_buf();
        stripes(&session.nexus(Lun::ZERO), &image).await
    });
}

#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn dropped_commands_leave_a_healthy_session() {
    with_tgtd(async |_sandbox, tgt, session| {
        let nexus = session.nexus(Lun::from_number(1));
        settled(&nexus).await?;
        for round in 0..20 {
            let mut tasks = JoinSet::new();
            for index in 0..32_u32 {
                let nexus = nexus.clone();
                let read = transfer(0x28, index * 128, 128, DataPhase::Read(zeroed(128)))?;
                tasks.spawn(async move { drop(nexus.execute(read).await) });
            }
            // Some have ended by then, some are under way, some were not sent.
            for _ in 0..round {
                tasks.join_next().await;
            }
            tasks.shutdown().await;
        }
        let incarnation = session.snapshot().incarnation;
        let image = tgt.image(1)?.to_path_buf();
        stripes(&nexus, &image).await?;
        ensure!(
            session.snapshot().incarnation == incarnation,
            "the session was lost on the way"
        );
        Ok(())
    });
}

/// After a reset the target still holds the old session: only the same ISID reinstates it
/// (RFC 7143 §6.3.5), anything else would leave two.
#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn a_reset_connection_is_followed_by_reinstatement() {
    with_tgtd(async |sandbox, tgt, session| {
        let nexus = session.nexus(Lun::from_number(1));
        settled(&nexus).await?;
        let before = nexus.state();
        until_acknowledged()?;
        let cut = Cut::refuse(sandbox, "127.0.0.1:3260")?;
        let read = transfer(0x28, 0, 8, DataPhase::Read(zeroed(8)))?;
        let ended = tokio::time::timeout(Duration::from_secs(20), nexus.execute(read)).await?;
        ensure!(matches!(ended.outcome, Outcome::Failed(_)), "{ended:?}");
        let listed = tgt.sessions(sandbox)?;
        ensure!(
            listed.len() == 1,
            "the target was to keep the old session: {listed:?}"
        );
        cut.restore(sandbox)?;
        back_up(&nexus).await?;
        ensure!(nexus.state() != before, "the same life goes on?");
        let listed = tgt.sessions(sandbox)?;
        ensure!(listed.len() == 1, "the old session lives on: {listed:?}");
        settled(&nexus).await
    });
}

/// Writes 64 stripes of different lengths at once, looks for them in the backing file, reads them
/// all at once.
async fn stripes(nexus: &LunNexus, image: &std::path::Path) -> Result<()> {
    const STRIDE: u32 = 1024;
    settled(nexus).await?;
    let mut tasks = JoinSet::new();
    for index in 0..64_u32 {
        let (nexus, blocks) = (nexus.clone(), 1 + index * 15);
        let data = Pattern::new(u64::from(index)).take(blocks as usize * BLOCK);
        let write = transfer(0x2a, index * STRIDE, blocks, DataPhase::Write(data.into()))?;
        tasks.spawn(async move { answered(nexus.execute(write).await) });
    }
    while let Some(answer) = tasks.join_next().await {
        let answer = answer??;
        ensure!(answer.status == Status::GOOD, "{answer:?}");
    }
    let mut reads = JoinSet::new();
    for index in 0..64_u32 {
        let (nexus, blocks) = (nexus.clone(), 1 + index * 15);
        let expected = Pattern::new(u64::from(index)).take(blocks as usize * BLOCK);
        let offset = u64::from(index * STRIDE) * BLOCK as u64;
        same(
            "a stripe on the disk",
            &expected,
            &read_at(image, offset, expected.len())?,
        )?;
        let read = transfer(
            0x28,
            index * STRIDE,
            blocks,
            DataPhase::Read(zeroed(blocks)),
        )?;
        reads.spawn(async move {
            let done = nexus.execute(read).await;
            let DataPhase::Read(buffer) = done.data else {
                anyhow::bail!("no buffer")
            };
            same("a stripe read", &expected, buffer.as_slice())
        });
    }
    while let Some(read) = reads.join_next().await {
        read??;
    }
    Ok(())
}

/// Reads a block until no unit attention is left.
async fn settled(nexus: &LunNexus) -> Result<()> {
    for _ in 0..4 {
        let read = transfer(0x28, 0, 1, DataPhase::Read(zeroed(1)))?;
        let answer = answered(nexus.execute(read).await)?;
        if answer.status == Status::GOOD {
            return Ok(());
        }
        ensure!(
            answer.sense.get(2) == Some(&0x06),
            "no unit attention: {answer:?}"
        );
    }
    anyhow::bail!("unit attentions without end")
}

/// Waits until the nexus is logged in again.
async fn back_up(nexus: &LunNexus) -> Result<()> {
    let wait = async {
        let mut state = nexus.state();
        while !matches!(state, NexusState::Up(_)) {
            state = nexus.changed(state).await;
        }
    };
    Ok(tokio::time::timeout(Duration::from_secs(30), wait).await?)
}

fn answered(completion: Completion) -> Result<ScsiAnswer> {
    match completion.outcome {
        Outcome::Answered(answer) => Ok(answer),
        Outcome::Failed(error) => Err(error.into()),
    }
}

/// A 10-byte READ or WRITE.
fn transfer(operation: u8, lba: u32, blocks: u32, data: DataPhase) -> Result<Command> {
    let [a, b, c, d] = lba.to_be_bytes();
    let [high, low] = u16::try_from(blocks)?.to_be_bytes();
    command(&[operation, 0, a, b, c, d, 0, high, low, 0], data)
}

fn command(cdb: &[u8], data: DataPhase) -> Result<Command> {
    Ok(Command {
        cdb: Cdb::from_slice(cdb).context("a CDB")?,
        data,
        attribute: TaskAttribute::Simple,
        priority: 0,
        timeout: Duration::from_secs(20),
        only_in: None,
    })
}

fn zeroed(blocks: u32) -> IoBuf {
    IoBuf::zeroed(blocks as usize * BLOCK)
}

fn with_tgtd(body: impl AsyncFnOnce(&Sandbox, &Tgt, Arc<SessionHandle>) -> Result<()>) {
    isolated(|sandbox| {
        let tgt = Tgt::builder()
            .portal("127.0.0.1:3260")
            .disk(64 << 20)
            .start(sandbox)?;
        runtime()?.block_on(async {
            let session = log_in(tgt::TARGET).await?;
            body(sandbox, &tgt, Arc::clone(&session)).await?;
            session.logout().await;
            Ok(())
        })
    });
}

fn with_istgt(body: impl AsyncFnOnce(&Sandbox, &Istgt, Arc<SessionHandle>) -> Result<()>) {
    isolated(|sandbox| {
        let istgt = Istgt::builder()
            .portal_group(&["127.0.0.1:3260"])
            .disk(64 << 20)
            .start(sandbox)?;
        runtime()?.block_on(async {
            let session = log_in(istgt::TARGET).await?;
            body(sandbox, &istgt, Arc::clone(&session)).await?;
            session.logout().await;
            Ok(())
        })
    });
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?)
}

async fn log_in(target: &str) -> Result<Arc<SessionHandle>> {
    let mut config = SessionConfig::new(
        interop::iscsi::INITIATOR.parse()?,
        target.parse()?,
        "127.0.0.1:3260".parse()?,
        Isid::random(0x1234, 1),
    );
    config.timeouts.abort_task = Duration::from_secs(2);
    config.timeouts.lu_reset = Duration::from_secs(2);
    Ok(Arc::new(SessionHandle::login(config).await?))
}
