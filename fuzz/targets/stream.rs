//! Any bytes as a connection's stream: what comes out does not depend on how TCP cut it up, nothing
//! exceeds the declared limit, and there is always room to read on.
//!
//! Input: one byte of flags (digests), one for the size of the pieces, then the stream.
#![no_main]

use iscsi::wire::receiver::{Received, Receiver};

const LIMIT: u32 = 8192;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let [flags, piece, stream @ ..] = input else {
        return;
    };
    let piece = usize::from(*piece).max(1);
    assert_eq!(run(*flags, stream, piece), run(*flags, stream, usize::MAX));
});

/// What came out: headers, data, and the error that ended it.
fn run(flags: u8, mut stream: &[u8], piece: usize) -> Vec<(String, Vec<u8>)> {
    let mut receiver = Receiver::new(0, LIMIT);
    receiver.set_params(flags & 1 != 0, flags & 2 != 0, LIMIT);
    let mut out = Vec::new();
    let mut payload: Option<(String, Vec<u8>)> = None;
    loop {
        if let Some((_, data)) = &mut payload {
            let mut room = vec![0; receiver.payload_remaining()];
            let placed = receiver.place(&mut room);
            data.extend_from_slice(&room[..placed]);
            match receiver.finish_payload() {
                Ok(true) => out.extend(payload.take()),
                Ok(false) if read(&mut receiver, &mut stream, piece) => {}
                Ok(false) => return out,
                Err(error) => {
                    out.push((error.to_string(), Vec::new()));
                    payload = None;
                }
            }
            continue;
        }
        match receiver.take_pdu() {
            Ok(Received::Incomplete) => {}
            Ok(Received::Pdu { header, data }) => {
                assert!(data.len() <= LIMIT as usize);
                out.push((format!("{header:?}"), data.to_vec()));
                continue;
            }
            Ok(Received::Damaged { header }) => {
                out.push((format!("damaged: {header:?}"), Vec::new()));
                continue;
            }
            Ok(Received::DataIn { header, bytes }) => {
                assert!(bytes <= LIMIT);
                payload = Some((format!("{header:?}"), Vec::new()));
                continue;
            }
            Err(error) => {
                out.push((error.to_string(), Vec::new()));
                return out;
            }
        }
        if !read(&mut receiver, &mut stream, piece) {
            return out;
        }
    }
}

/// Reads on as a socket would; false at the end of the stream.
fn read(receiver: &mut Receiver, stream: &mut &[u8], piece: usize) -> bool {
    let space = receiver.space();
    assert!(!space.is_empty(), "no room to read on");
    let bytes = space.len().min(stream.len()).min(piece);
    let (now, later) = stream.split_at(bytes);
    space[..bytes].copy_from_slice(now);
    receiver.filled(bytes);
    *stream = later;
    bytes > 0
}
