//! The TCP front: moves bytes between sockets and [`Target`], keeps time, and cuts portals on demand.
//!
//! It decides nothing about the protocol. One task per connection, one per portal, one for timers; all of them share
//! the target behind a mutex that is never held across an await. This module alone reads a clock.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::ConnectionId;
use crate::config::{Config, Portal};
use crate::judge::Violation;
use crate::target::Target;

/// Why a server cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// No portal was given.
    #[error("no portal to listen on")]
    NoPortal,
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The portal was never configured.
    #[error("there is no portal number {0}")]
    UnknownPortal(usize),
}

/// How a portal treats the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Open,
    /// Connections are reset, new ones refused.
    Cut,
    /// Connections stand still, new ones are accepted and stand still.
    BlackHole,
}

/// What a connection's task must know from elsewhere.
#[derive(Debug, Default)]
struct Slot {
    wake: Notify,
    closed: Mutex<Option<bool>>,
}

#[derive(Debug)]
struct Inner {
    target: Target,
    slots: BTreeMap<ConnectionId, Arc<Slot>>,
}

#[derive(Debug)]
struct Shared {
    inner: Mutex<Inner>,
    timer: Notify,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

impl Shared {
    /// Runs something on the target and wakes whoever it concerns.
    fn with<R>(&self, work: impl FnOnce(&mut Target) -> R) -> R {
        let mut inner = locked(&self.inner);
        let before = inner.target.poll_timeout();
        let result = work(&mut inner.target);
        for id in inner.target.take_ready() {
            if let Some(slot) = inner.slots.get(&id) {
                slot.wake.notify_one();
            }
        }
        while let Some((id, reset)) = inner.target.poll_closed() {
            if let Some(slot) = inner.slots.get(&id) {
                *locked(&slot.closed) = Some(reset);
                slot.wake.notify_one();
            }
        }
        if inner.target.poll_timeout() != before {
            self.timer.notify_one();
        }
        result
    }

    fn enter(&self, portal: usize) -> (ConnectionId, Arc<Slot>) {
        let mut inner = locked(&self.inner);
        let id = inner.target.connect(now(), portal);
        let slot = Arc::new(Slot::default());
        inner.slots.insert(id, Arc::clone(&slot));
        (id, slot)
    }

    fn leave(&self, id: ConnectionId) {
        self.with(|target| target.peer_closed(now(), id));
        locked(&self.inner).slots.remove(&id);
    }
}

#[derive(Debug)]
struct Door {
    address: SocketAddr,
    wanted: watch::Sender<Mode>,
    applied: watch::Receiver<Mode>,
}

/// A target on TCP. Dropping it ends everything.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    doors: Vec<Door>,
    tasks: Vec<JoinHandle<()>>,
}

impl Server {
    /// Listens on every address (port 0 takes a free one) and serves. Portal groups are those of `config.portals` in
    /// the same order; the last one holds for further addresses. Runs inside a tokio runtime.
    pub async fn start(mut config: Config, addresses: &[SocketAddr]) -> Result<Self, ServeError> {
        if addresses.is_empty() {
            return Err(ServeError::NoPortal);
        }
        let mut listeners = Vec::new();
        let mut portals: Vec<Portal> = Vec::new();
        for (index, address) in addresses.iter().enumerate() {
            let fail = |source| ServeError::Listen {
                address: *address,
                source,
            };
            let listener = listen(*address).map_err(fail)?;
            let bound = listener.local_addr().map_err(fail)?;
            let group = config
                .portals
                .get(index)
                .or_else(|| config.portals.last())
                .map_or(1, |portal| portal.group);
            portals.push(Portal {
                address: bound.to_string(),
                group,
            });
            listeners.push((listener, bound));
        }
        config.portals = portals;
        let inner = Inner {
            target: Target::new(config),
            slots: BTreeMap::new(),
        };
        let shared = Arc::new(Shared {
            inner: Mutex::new(inner),
            timer: Notify::new(),
        });
        let mut doors = Vec::new();
        let mut tasks = vec![tokio::spawn(keep_time(Arc::clone(&shared)))];
        for (portal, (listener, address)) in listeners.into_iter().enumerate() {
            let (wanted, orders) = watch::channel(Mode::Open);
            let (report, applied) = watch::channel(Mode::Open);
            let gate = Gate {
                shared: Arc::clone(&shared),
                portal,
                address,
                orders,
                report,
            };
            tasks.push(tokio::spawn(gate.run(listener)));
            doors.push(Door {
                address,
                wanted,
                applied,
            });
        }
        Ok(Self {
            shared,
            doors,
            tasks,
        })
    }

    /// Addresses listened on, in the order of the portals.
    #[must_use]
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.doors.iter().map(|door| door.address).collect()
    }

    /// Resets every connection of a portal and refuses new ones; returns when new ones are refused.
    pub async fn cut(&self, portal: usize) -> Result<(), ServeError> {
        self.set(portal, Mode::Cut).await
    }

    /// Lets every connection of a portal stand still: nothing is read, nothing is sent, new ones are accepted.
    pub async fn black_hole(&self, portal: usize) -> Result<(), ServeError> {
        self.set(portal, Mode::BlackHole).await
    }

    /// Ends a cut or a black hole; returns when connections are accepted again.
    pub async fn restore(&self, portal: usize) -> Result<(), ServeError> {
        self.set(portal, Mode::Open).await
    }

    async fn set(&self, portal: usize, mode: Mode) -> Result<(), ServeError> {
        let door = self
            .doors
            .get(portal)
            .ok_or(ServeError::UnknownPortal(portal))?;
        door.wanted.send_replace(mode);
        let mut applied = door.applied.clone();
        // The gate only ends when the server does.
        let _ = applied.wait_for(|now| *now == mode).await;
        Ok(())
    }

    /// Every broken initiator requirement seen so far.
    #[must_use]
    pub fn violations(&self) -> Vec<Violation> {
        locked(&self.shared.inner).target.violations().to_vec()
    }

    /// Runs something on the target, with the time to pass to it.
    pub fn with_target<R>(&self, work: impl FnOnce(&mut Target, Instant) -> R) -> R {
        self.shared.with(|target| work(target, now()))
    }

    /// Ends all tasks and closes all sockets.
    pub async fn shutdown(mut self) {
        for door in &self.doors {
            door.wanted.send_replace(Mode::Cut);
            let mut applied = door.applied.clone();
            let _ = applied.wait_for(|now| *now == Mode::Cut).await;
        }
        for task in std::mem::take(&mut self.tasks) {
            task.abort();
            let _ = task.await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(1024)
}

/// One portal's listener.
struct Gate {
    shared: Arc<Shared>,
    portal: usize,
    address: SocketAddr,
    orders: watch::Receiver<Mode>,
    report: watch::Sender<Mode>,
}

impl Gate {
    async fn run(mut self, listener: TcpListener) {
        let mut listener = Some(listener);
        // Connections end with the gate.
        let mut connections = tokio::task::JoinSet::new();
        loop {
            let mode = *self.orders.borrow_and_update();
            if mode == Mode::Cut {
                listener = None;
                while connections.join_next().await.is_some() {}
            } else if listener.is_none() {
                listener = self.reopen().await;
            }
            self.report.send_replace(mode);
            let accepted = tokio::select! {
                changed = self.orders.changed() => if changed.is_err() { return } else { None },
                accepted = accept(listener.as_ref()) => Some(accepted),
                Some(_) = connections.join_next(), if !connections.is_empty() => None,
            };
            if let Some(Ok(stream)) = accepted {
                let (shared, orders) = (Arc::clone(&self.shared), self.orders.clone());
                connections.spawn(serve(shared, stream, self.portal, orders));
            }
        }
    }

    /// Binds again; the port may be busy for a moment.
    async fn reopen(&self) -> Option<TcpListener> {
        for _ in 0..100 {
            match listen(self.address) {
                Ok(listener) => return Some(listener),
                Err(error) => {
                    tracing::debug!(%error, address = %self.address, "cannot listen again yet")
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        tracing::error!(address = %self.address, "gave up listening again");
        None
    }
}

async fn accept(listener: Option<&TcpListener>) -> io::Result<TcpStream> {
    match listener {
        Some(listener) => listener.accept().await.map(|(stream, _)| stream),
        None => std::future::pending().await,
    }
}

async fn keep_time(shared: Arc<Shared>) {
    loop {
        let deadline = locked(&shared.inner).target.poll_timeout();
        match deadline {
            Some(deadline) => {
                let sleep = tokio::time::sleep_until(deadline.into());
                tokio::select! {
                    () = sleep => shared.with(|target| target.handle_timeout(now())),
                    () = shared.timer.notified() => {}
                }
            }
            None => shared.timer.notified().await,
        }
    }
}

/// Bytes moved at once; large enough for a whole burst of the usual size.
const CHUNK: usize = 256 << 10;
/// A peer that sends without reading its answers is not read any more beyond this.
const BACKLOG_BYTES: usize = 64 << 20;

async fn serve(
    shared: Arc<Shared>,
    mut stream: TcpStream,
    portal: usize,
    mut orders: watch::Receiver<Mode>,
) {
    let _ = stream.set_nodelay(true);
    let (id, slot) = shared.enter(portal);
    let reset = pump(&shared, &mut stream, id, &slot, &mut orders).await;
    if reset {
        let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    }
    drop(stream);
    shared.leave(id);
}

/// Moves bytes until the connection ends; `true` asks for a reset.
async fn pump(
    shared: &Shared,
    stream: &mut TcpStream,
    id: ConnectionId,
    slot: &Slot,
    orders: &mut watch::Receiver<Mode>,
) -> bool {
    let mut incoming = vec![0; CHUNK];
    let mut outgoing: Vec<u8> = Vec::new();
    let mut sent = 0;
    let mut backlog = 0;
    loop {
        let mode = *orders.borrow_and_update();
        match mode {
            Mode::Cut => return true,
            Mode::BlackHole => {
                if orders.changed().await.is_err() {
                    return true;
                }
                continue;
            }
            Mode::Open => {}
        }
        if sent == outgoing.len() {
            outgoing.clear();
            sent = 0;
            backlog = shared.with(|target| {
                target.transmit(id, &mut outgoing, CHUNK);
                target.output_bytes(id)
            });
        }
        let closed = *locked(&slot.closed);
        match closed {
            Some(true) => return true,
            Some(false) if outgoing.is_empty() => {
                return linger(shared, stream, id, &mut incoming).await;
            }
            _ => {}
        }
        let (mut reader, mut writer) = stream.split();
        tokio::select! {
            changed = orders.changed() => if changed.is_err() { return true },
            read = reader.read(&mut incoming), if backlog < BACKLOG_BYTES => match read {
                Ok(0) | Err(_) => return false,
                Ok(bytes) => {
                    let part = incoming.get(..bytes).unwrap_or_default();
                    shared.with(|target| target.receive(now(), id, part));
                }
            },
            written = writer.write(outgoing.get(sent..).unwrap_or_default()), if sent < outgoing.len() => {
                match written {
                    Ok(bytes) => sent += bytes,
                    Err(_) => return false,
                }
            }
            () = slot.wake.notified() => {}
        }
    }
}

/// Closes the sending side and takes what still comes, so that nothing sent is lost to a reset.
async fn linger(
    shared: &Shared,
    stream: &mut TcpStream,
    id: ConnectionId,
    incoming: &mut [u8],
) -> bool {
    let _ = stream.shutdown().await;
    let rest = async {
        while let Ok(bytes) = stream.read(incoming).await {
            if bytes == 0 {
                return;
            }
            let part = incoming.get(..bytes).unwrap_or_default();
            shared.with(|target| target.receive(now(), id, part));
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(2), rest).await;
    false
}
