//! Any bytes as a list of keys in several PDUs, then into a negotiation as the target's answers.
#![no_main]

use iscsi::text::Offer;
use iscsi::text::codec::{Assembler, decode, encode};
use iscsi::text::negotiate::{Negotiation, SessionType};

libfuzzer_sys::fuzz_target!(|input: (u8, &[u8])| {
    let (cut, bytes) = input;
    let mut assembler = Assembler::new(65536);
    let (first, second) = bytes.split_at(bytes.len().min(cut.into()));
    let joined = assembler
        .push(first, true)
        .and_then(|_| assembler.push(second, false));
    let whole = decode(bytes);
    assert_eq!(joined.map(|pairs| pairs.unwrap()), whole);

    let Ok(pairs) = whole else { return };
    assert_eq!(decode(&encode(&pairs)).as_ref(), Ok(&pairs));
    let mut negotiation = Negotiation::new(Offer::default(), SessionType::Normal, true).unwrap();
    negotiation.opening();
    if pairs.iter().all(|pair| negotiation.receive(pair).is_ok()) {
        let _ = negotiation.finish();
    }
});
