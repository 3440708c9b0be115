//! Three views of the codec: headers written out by hand from the drawings of the RFC, properties
//! over arbitrary values and bytes, and tshark's opinion.

mod golden;
mod properties;
mod refusals;
mod segments;
mod tshark;

use scsi::{Lun, TaskAttribute};

use super::*;
use crate::name::{Cid, Isid, Tsih};
use crate::serial::{DataSn, R2tSn, StatSn};

const LUN: Lun = Lun::from_bytes([0x40, 0x07, 0, 0, 0, 0, 0, 0]);
const ITT: Itt = Itt(0x1112_1314);
const TTT: Ttt = Ttt(0x2122_2324);
const CMD_SN: CmdSn = CmdSn(0x3132_3334);
const STAT_SN: StatSn = StatSn(0x4142_4344);
const WINDOW: Window = Window {
    exp_cmd_sn: CmdSn(0x5152_5354),
    max_cmd_sn: CmdSn(0x6162_6364),
};
const ISID: Isid = Isid([0x80, 0x71, 0x72, 0x73, 0x74, 0x75]);
const EMPTY: Lengths = Lengths {
    ahs_bytes: 0,
    data_bytes: 0,
};

const fn data(data_bytes: u32) -> Lengths {
    Lengths {
        ahs_bytes: 0,
        data_bytes,
    }
}

fn command() -> ScsiCommand {
    let mut cdb = [0; 16];
    cdb[..10].copy_from_slice(&[0x28, 0, 0, 0, 0x12, 0x34, 0, 0, 8, 0]);
    ScsiCommand {
        immediate: false,
        final_: true,
        read: true,
        write: false,
        attribute: TaskAttribute::Simple,
        priority: 0xa,
        lun: LUN,
        itt: ITT,
        expected_data_bytes: 0x1000,
        cmd_sn: CMD_SN,
        exp_stat_sn: STAT_SN,
        cdb,
    }
}

fn nop_out() -> NopOut {
    NopOut {
        immediate: true,
        lun: LUN,
        itt: ITT,
        ttt: Ttt::RESERVED,
        cmd_sn: CMD_SN,
        exp_stat_sn: STAT_SN,
    }
}

fn task_request() -> TaskRequest {
    TaskRequest {
        immediate: true,
        function: TaskFunction::TaskReassign,
        lun: LUN,
        itt: ITT,
        referenced: Itt(0x8182_8384),
        cmd_sn: CMD_SN,
        exp_stat_sn: STAT_SN,
        ref_cmd_sn: CmdSn(0x9192_9394),
        exp_data_sn: DataSn(0xa1a2_a3a4),
    }
}

fn login_request() -> LoginRequest {
    LoginRequest {
        transit: true,
        continue_: false,
        current: Stage::OperationalNegotiation,
        next: Stage::FullFeaturePhase,
        version_max: 0,
        version_min: 0,
        isid: ISID,
        tsih: Tsih(0x7677),
        itt: ITT,
        cid: Cid(0x7879),
        cmd_sn: CMD_SN,
        exp_stat_sn: STAT_SN,
    }
}

fn text_request() -> TextRequest {
    TextRequest {
        immediate: false,
        final_: true,
        continue_: false,
        lun: LUN,
        itt: ITT,
        ttt: TTT,
        cmd_sn: CMD_SN,
        exp_stat_sn: STAT_SN,
    }
}

fn data_out() -> DataOut {
    DataOut {
        final_: true,
        lun: LUN,
        itt: ITT,
        ttt: TTT,
        exp_stat_sn: STAT_SN,
        data_sn: DataSn(0x8182_8384),
        buffer_offset: 0x9192_9394,
    }
}

fn logout_request() -> LogoutRequest {
    LogoutRequest {
        immediate: true,
        reason: LogoutReason::CloseConnection,
        itt: ITT,
        cid: Cid(0x7879),
        cmd_sn: CMD_SN,
        exp_stat_sn: STAT_SN,
    }
}

fn snack_request() -> SnackRequest {
    SnackRequest {
        kind: SnackKind::DataAck,
        lun: LUN,
        itt: Itt::RESERVED,
        ttt: TTT,
        exp_stat_sn: STAT_SN,
        beg_run: 0x8182_8384,
        run_length: 0,
    }
}

fn nop_in() -> NopIn {
    NopIn {
        lun: LUN,
        itt: Itt::RESERVED,
        ttt: TTT,
        stat_sn: STAT_SN,
        window: WINDOW,
    }
}

fn scsi_response() -> ScsiResponse {
    ScsiResponse {
        residual: ResidualField {
            overflow: false,
            underflow: true,
            count: 0x8182_8384,
        },
        bidirectional_read: ResidualField {
            overflow: true,
            underflow: false,
            count: 0x9192_9394,
        },
        response: 0,
        status: 0x02,
        qualifier: 0xb1b2,
        itt: ITT,
        snack_tag: 0xc1c2_c3c4,
        stat_sn: STAT_SN,
        window: WINDOW,
        exp_data_sn: DataSn(0xa1a2_a3a4),
    }
}

fn task_response() -> TaskResponse {
    TaskResponse {
        response: 5,
        additional: [0xa1, 0xa2, 0xa3],
        itt: ITT,
        stat_sn: STAT_SN,
        window: WINDOW,
    }
}

fn login_response() -> LoginResponse {
    LoginResponse {
        transit: true,
        continue_: false,
        current: Stage::SecurityNegotiation,
        next: Stage::OperationalNegotiation,
        version_max: 0,
        version_active: 0,
        isid: ISID,
        tsih: Tsih(0x7677),
        itt: ITT,
        stat_sn: STAT_SN,
        window: WINDOW,
        status_class: 2,
        status_detail: 1,
    }
}

fn text_response() -> TextResponse {
    TextResponse {
        final_: false,
        continue_: true,
        lun: LUN,
        itt: ITT,
        ttt: TTT,
        stat_sn: STAT_SN,
        window: WINDOW,
    }
}

fn data_in() -> DataIn {
    DataIn {
        final_: true,
        acknowledge: true,
        lun: LUN,
        itt: ITT,
        ttt: TTT,
        window: WINDOW,
        data_sn: DataSn(0x8182_8384),
        buffer_offset: 0x9192_9394,
        status: Some(DataInStatus {
            stat_sn: STAT_SN,
            status: 0x04,
            residual: ResidualField {
                overflow: true,
                underflow: false,
                count: 0xa1a2_a3a4,
            },
        }),
    }
}

fn logout_response() -> LogoutResponse {
    LogoutResponse {
        response: 2,
        itt: ITT,
        stat_sn: STAT_SN,
        window: WINDOW,
        time2wait_s: 0x8182,
        time2retain_s: 0x9192,
    }
}

fn r2t() -> R2t {
    R2t {
        lun: LUN,
        itt: ITT,
        ttt: TTT,
        stat_sn: STAT_SN,
        window: WINDOW,
        r2t_sn: R2tSn(0x8182_8384),
        buffer_offset: 0x9192_9394,
        desired_data_bytes: 0x0001_a3a4,
    }
}

fn async_message() -> AsyncMessage {
    AsyncMessage {
        lun: LUN,
        stat_sn: STAT_SN,
        window: WINDOW,
        event: 1,
        vendor_code: 0x0f,
        parameter1: 0x8182,
        parameter2: 0x9192,
        parameter3: 0xa1a2,
    }
}

fn reject() -> Reject {
    Reject {
        reason: 4,
        stat_sn: STAT_SN,
        window: WINDOW,
        data_sn: 0x8182_8384,
    }
}
