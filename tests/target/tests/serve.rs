//! The TCP front: bytes through real sockets, cuts, black holes.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation
)]
#![allow(missing_docs)]

mod script;

use std::net::SocketAddr;
use std::time::Duration;

use script::{NAMES, Script, TARGET};
use test_target::{Config, Server};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

const ANY: &str = "127.0.0.1:0";
/// Long enough to be sure that nothing comes; nothing is waited for with it otherwise.
const QUIET: Duration = Duration::from_millis(200);
const LIMIT: Duration = Duration::from_secs(20);

async fn server(portals: usize) -> (Server, Vec<SocketAddr>) {
    let any = vec![ANY.parse().unwrap(); portals];
    let server = Server::start(Config::default(), &any).await.unwrap();
    let addresses = server.local_addrs();
    (server, addresses)
}

/// Sends a whole login in two writes and reads the answer's header.
async fn log_in(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let script = Script::new(Config::default());
    let text = format!("{NAMES}{TARGET}");
    let mut header = script.login_header(0x87);
    header[7] = text.len() as u8;
    let bytes = script.bytes(&header, text.as_bytes());
    let (first, second) = bytes.split_at(20);
    stream.write_all(first).await.unwrap();
    stream.write_all(second).await.unwrap();
    let answer = read_pdu(&mut stream).await;
    assert_eq!((answer[0], answer[1], answer[36]), (0x23, 0x87, 0));
    stream
}

async fn read_pdu(stream: &mut TcpStream) -> Vec<u8> {
    let read = async {
        let mut pdu = vec![0; 48];
        stream.read_exact(&mut pdu).await.unwrap();
        let length = usize::from(pdu[6]) << 8 | usize::from(pdu[7]);
        pdu.resize(48 + length.div_ceil(4) * 4, 0);
        stream.read_exact(&mut pdu[48..]).await.unwrap();
        pdu
    };
    timeout(LIMIT, read).await.unwrap()
}

fn ping() -> [u8; 48] {
    let mut header = [0; 48];
    header[0] = 0x40;
    header[1] = 0x80;
    script::put(&mut header, 16, 5);
    script::put(&mut header, 20, script::FREE);
    script::put(&mut header, 24, 0xffff_fff0);
    script::put(&mut header, 28, 1);
    header
}

#[tokio::test]
async fn two_portals_serve_one_target() {
    let (server, addresses) = server(2).await;
    let mut first = log_in(addresses[0]).await;
    first.write_all(&ping()).await.unwrap();
    assert_eq!(read_pdu(&mut first).await[0], 0x20);
    let _second = log_in(addresses[1]).await;
    // One nexus: the second login ends the first session.
    let mut rest = Vec::new();
    let end = timeout(LIMIT, first.read_to_end(&mut rest)).await.unwrap();
    assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    assert!(server.violations().is_empty());
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_resets_and_refuses_until_restored() {
    let (server, addresses) = server(2).await;
    let mut stream = log_in(addresses[0]).await;
    server.cut(0).await.unwrap();
    let mut rest = Vec::new();
    let end = timeout(LIMIT, stream.read_to_end(&mut rest)).await.unwrap();
    assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    let refused = TcpStream::connect(addresses[0]).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    log_in(addresses[1]).await;
    server.restore(0).await.unwrap();
    log_in(addresses[0]).await;
    assert!(server.cut(9).await.is_err());
    server.shutdown().await;
}

#[tokio::test]
async fn a_black_hole_swallows_until_restored() {
    let (server, addresses) = server(1).await;
    let mut stream = log_in(addresses[0]).await;
    server.black_hole(0).await.unwrap();
    stream.write_all(&ping()).await.unwrap();
    assert!(timeout(QUIET, stream.read_u8()).await.is_err());
    let mut fresh = TcpStream::connect(addresses[0]).await.unwrap();
    assert!(timeout(QUIET, fresh.read_u8()).await.is_err());
    server.restore(0).await.unwrap();
    assert_eq!(read_pdu(&mut stream).await[0], 0x20);
    server.shutdown().await;
}

#[tokio::test]
async fn a_logout_closes_in_order() {
    let (server, addresses) = server(1).await;
    let mut stream = log_in(addresses[0]).await;
    let mut header = ping();
    header[0] = 0x46;
    script::put(&mut header, 20, 0);
    stream.write_all(&header).await.unwrap();
    assert_eq!(read_pdu(&mut stream).await[0], 0x26);
    assert_eq!(
        timeout(LIMIT, stream.read(&mut [0; 8]))
            .await
            .unwrap()
            .unwrap(),
        0
    );
    drop(stream);
    assert!(server.violations().is_empty());
    assert!(server.with_target(|target, _| target.sessions().is_empty()));
}

#[tokio::test]
async fn hooks_reach_the_wire_and_shutdown_frees_the_port() {
    let (server, addresses) = server(1).await;
    let mut stream = log_in(addresses[0]).await;
    server.with_target(|target, now| {
        let id = target.connections_of(0)[0];
        target.send_ping(now, id, 0, b"hello");
    });
    let ping = read_pdu(&mut stream).await;
    assert_eq!((ping[0], &ping[48..53]), (0x20, &b"hello"[..]));
    server.shutdown().await;
    assert!(TcpStream::connect(addresses[0]).await.is_err());
}

#[tokio::test]
async fn an_address_in_use_is_an_error() {
    let (_server, addresses) = server(1).await;
    assert!(Server::start(Config::default(), &addresses).await.is_err());
    assert!(Server::start(Config::default(), &[]).await.is_err());
}
