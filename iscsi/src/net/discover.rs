//! Discovery over TCP.

use std::io::IoSlice;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::connector;
use super::error::{ConnectError, ConnectErrorKind};
use crate::discovery::{DiscoveredTarget, DiscoveryConfig, DiscoveryError, DiscoverySession};
use crate::login::{LoginError, REDIRECTS_MAX, RedirectTrail};
use crate::session::LossReason;
use crate::wire::receiver::{FrameError, Received, Receiver};
use crate::wire::transmit::{MAX_SLICES, Transmit};

/// The limit on a data segment during login (RFC 7143 §13.12).
const LOGIN_DATA_BYTES: u32 = 8192;

const STAGING_BYTES: usize = 64 * 1024;

/// Asks a portal for its targets (SendTargets=All).
///
/// # Errors
/// Connecting, the login or the exchange failed, or took longer than the configuration allows.
pub async fn discover(mut config: DiscoveryConfig) -> Result<Vec<DiscoveredTarget>, ConnectError> {
    let mut trail = RedirectTrail::new(config.portal.clone(), REDIRECTS_MAX);
    let mut fell_back = false;
    loop {
        let mut session = None;
        let attempt = attempt(&config, &mut session);
        let kind = match tokio::time::timeout(config.timeout, attempt).await {
            Ok(Ok(targets)) => return Ok(targets),
            Ok(Err(kind)) => kind,
            Err(_) => {
                // The answer may be there, and only the logout missing.
                if let Some(targets) = session.as_mut().and_then(|s| s.take_targets_early()) {
                    return Ok(targets);
                }
                let stage = session.as_ref().map_or("connect", DiscoverySession::stage);
                ConnectErrorKind::Timeout {
                    stage,
                    limit: config.timeout,
                }
            }
        };
        let portal = config.portal.clone();
        if let ConnectErrorKind::Discovery(DiscoveryError::Login(LoginError::Redirected {
            portal: to,
            ..
        })) = &kind
        {
            if let Err(error) = trail.follow(to) {
                let kind = ConnectErrorKind::Lost(LossReason::Redirect(error));
                return Err(ConnectError {
                    portal,
                    target: None,
                    kind,
                });
            }
            config.portal = to.clone();
            continue;
        }
        if let (false, Some(auth)) = (fell_back, session.as_ref().and_then(|s| s.fallback())) {
            fell_back = true;
            config.auth = auth.clone();
            continue;
        }
        return Err(ConnectError {
            portal,
            target: None,
            kind,
        });
    }
}

/// One connection. `session` is left behind, for the caller to see where it stood.
async fn attempt(
    config: &DiscoveryConfig,
    session: &mut Option<DiscoverySession>,
) -> Result<Vec<DiscoveredTarget>, ConnectErrorKind> {
    let lost =
        |error: std::io::Error| ConnectErrorKind::Lost(LossReason::Transport(error.to_string()));
    let mut stream = connector::connect(&config.portal, config.connect_timeout)
        .await
        .map_err(lost)?;
    let mut entropy = |bytes: &mut [u8]| {
        if getrandom::fill(bytes).is_err() {
            bytes.fill(0);
            tracing::error!("the system has no randomness");
        }
    };
    let session = session.insert(DiscoverySession::start(config, &mut entropy)?);
    let mut receiver = Receiver::new(STAGING_BYTES, LOGIN_DATA_BYTES);
    let mut out = Transmit::new();
    loop {
        send(&mut stream, session, &mut out).await.map_err(lost)?;
        if let Some(targets) = session.take_targets() {
            return Ok(targets);
        }
        loop {
            if let Some(params) = session.params() {
                let limit = params.max_recv_bytes;
                receiver.set_params(params.header_digest, params.data_digest, limit);
            }
            match receiver.take_pdu().map_err(LossReason::from)? {
                Received::Incomplete => {}
                Received::Pdu { header, data } => {
                    session.handle_pdu(&header, data)?;
                    break;
                }
                Received::Damaged { .. } => {
                    return Err(LossReason::from(FrameError::DataDigest).into());
                }
                Received::DataIn { .. } => {
                    return Err(DiscoveryError::UnexpectedPdu {
                        pdu: "SCSI Data-In",
                    }
                    .into());
                }
            }
            match stream.read(receiver.space()).await.map_err(lost)? {
                0 => return closed(session),
                bytes => receiver.filled(bytes),
            }
        }
    }
}

/// The target closed the connection. Some do so instead of answering a Logout.
fn closed(session: &mut DiscoverySession) -> Result<Vec<DiscoveredTarget>, ConnectErrorKind> {
    let reason = if session.is_logging_in() {
        LossReason::ClosedInLogin {
            stage: session.stage(),
        }
    } else {
        LossReason::ClosedByTarget
    };
    let targets = session.take_targets_early();
    targets.ok_or(ConnectErrorKind::Lost(reason))
}

async fn send(
    stream: &mut TcpStream,
    session: &mut DiscoverySession,
    out: &mut Transmit,
) -> std::io::Result<()> {
    session.poll_transmit(out);
    out.seal();
    while !out.is_empty() {
        let written = {
            let mut slices = smallvec::SmallVec::<[IoSlice<'_>; MAX_SLICES]>::new();
            out.slices(&mut slices);
            stream.write_vectored(&slices).await?
        };
        out.advance(written);
    }
    Ok(())
}
