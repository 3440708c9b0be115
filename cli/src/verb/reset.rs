//! `iscsi reset`: task management functions that end what is under way.

use anyhow::Context as _;
use initiator::{ManagementFunction, TaskManagementError};
use serde::Serialize;

use crate::args::{OfferArg, ResetArgs, ResetScope};
use crate::connect::{self, Context};
use crate::exit::Failure;
use crate::output;
use crate::url::Address;

/// The key without which an I_T NEXUS RESET may not be sent (RFC 7144 §6.3).
const LEVEL: &str = "iSCSIProtocolLevel";

/// Runs the verb.
///
/// # Errors
/// Those of the login, and a target that does not carry out the function.
pub(crate) async fn run(context: &Context, args: ResetArgs) -> anyhow::Result<()> {
    let function = function_of(args.what);
    let address = Address::join(&args.unit.urls)?;
    let mut login = args.unit.login;
    if args.what.nexus && !login.keys.iter().any(|offer| offer.key == LEVEL) {
        login.keys.push(OfferArg {
            key: LEVEL.to_owned(),
            value: "2".to_owned(),
        });
    }
    let initiator = connect::initiator(context, &login)?;
    let spec = connect::spec_of(&address, login.all_paths);
    let done = connect::with_target(context, &initiator, spec, async |target| {
        let asked = async { Ok(target.task_management(address.lun, function).await) };
        let response = context.interrupt.guard(asked).await?;
        outcome(function, response)
            .with_context(|| format!("{} LUN {}", address.target, address.lun))
    })
    .await?;
    if context.output.json {
        output::print_json(&done)
    } else {
        output::print(&format!("{}: {}\n", done.function, done.response))
    }
}

fn function_of(what: ResetScope) -> ManagementFunction {
    if what.target_cold {
        ManagementFunction::TargetColdReset
    } else if what.target_warm {
        ManagementFunction::TargetWarmReset
    } else if what.nexus {
        ManagementFunction::ItNexusReset
    } else {
        ManagementFunction::LogicalUnitReset
    }
}

/// The answer; its serialized form is the JSON output.
#[derive(Debug, PartialEq, Serialize)]
struct Done {
    function: &'static str,
    response: String,
}

fn outcome(
    function: ManagementFunction,
    response: Result<initiator::TaskManagementResponse, TaskManagementError>,
) -> anyhow::Result<Done> {
    // These two cost the session, with or without a response.
    let cuts = matches!(
        function,
        ManagementFunction::TargetColdReset | ManagementFunction::ItNexusReset
    );
    let name = function.name();
    let response = match response {
        Ok(response) if response.response.is_done() => response.response.to_string(),
        Ok(response) => {
            let refusal = format!("{name}: {}", response.response);
            return Err(Failure::Refused(refusal).into());
        }
        Err(TaskManagementError::ConnectionLost) if cuts => {
            "the target dropped the session without a response".to_owned()
        }
        Err(error) => return Err(Failure::Refused(format!("{name}: {error}")).into()),
    };
    let function = name;
    Ok(Done { function, response })
}
