//! Opening TCP connections.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::name::{Host, Portal};

/// The next address of a host is tried when the one before has not answered for this long
/// (RFC 8305 §5).
const STAGGER: Duration = Duration::from_millis(250);

/// The kernel's own probes, for a driver task that is not being run: the session's pings notice
/// a silent peer much earlier.
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);

/// Unacknowledged bytes end the connection after this long.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(60);

/// Connects to the first address of the portal that answers.
pub(super) async fn connect(portal: &Portal, timeout: Duration) -> io::Result<TcpStream> {
    match tokio::time::timeout(timeout, connect_any(portal)).await {
        Ok(result) => result,
        Err(_) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("no connection within {timeout:?}"),
        )),
    }
}

async fn connect_any(portal: &Portal) -> io::Result<TcpStream> {
    let addresses: Vec<SocketAddr> = match &portal.host {
        Host::Ip(ip) => vec![SocketAddr::from((*ip, portal.port))],
        Host::Name(name) => tokio::net::lookup_host((name.as_str(), portal.port))
            .await?
            .collect(),
    };
    let [single] = addresses.as_slice() else {
        return race(addresses).await;
    };
    prepare(TcpStream::connect(single).await?)
}

async fn race(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut attempts = JoinSet::new();
    for (turn, address) in (0u32..).zip(addresses) {
        attempts.spawn(async move {
            tokio::time::sleep(STAGGER * turn).await;
            TcpStream::connect(address).await
        });
    }
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    while let Some(attempt) = attempts.join_next().await {
        match attempt {
            Ok(Ok(stream)) => return prepare(stream),
            Ok(Err(error)) => last = error,
            Err(error) => last = io::Error::other(error),
        }
    }
    Err(last)
}

fn prepare(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(&stream);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(TCP_KEEPALIVE))?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(TCP_USER_TIMEOUT))?;
    Ok(stream)
}
