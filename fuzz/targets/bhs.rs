//! Any 48 bytes as a header: every decoder judges them, and what is decoded survives encoding.
#![no_main]

use iscsi::wire::*;

macro_rules! survives_encoding {
    ($bhs:expr, $($pdu:ty),*) => {$(
        if let Ok(pdu) = <$pdu>::decode($bhs) {
            assert_eq!(<$pdu>::decode(&pdu.encode(lengths($bhs))), Ok(pdu));
        }
    )*};
}

libfuzzer_sys::fuzz_target!(|bhs: Bhs| {
    let _ = Response::decode(&bhs);
    survives_encoding!(
        &bhs,
        NopIn,
        NopOut,
        ScsiCommand,
        ScsiResponse,
        TaskRequest,
        TaskResponse,
        LoginRequest,
        LoginResponse,
        TextRequest,
        TextResponse,
        DataIn,
        DataOut,
        LogoutRequest,
        LogoutResponse,
        R2t,
        SnackRequest,
        AsyncMessage,
        Reject
    );
});
