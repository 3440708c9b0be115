//! `iscsi pr`: persistent reservations of a logical unit, over all its paths at once.
//!
//! A registration belongs to the paths' session identifiers, which are kept from run to run; so
//! every run but the first takes the registration up by its key.

use initiator::reservation::{
    Capabilities, FullStatus, Registrant, Registration, Reservation, ReservationType,
};
use initiator::{KeyCount, LogicalUnit, ReservationError};
use serde::Serialize;

use crate::args::UnitArgs;
use crate::args::pr::{KeyArgs, PrAction, PrArgs};
use crate::connect::{Context, with_unit};
use crate::output;
use crate::render::table::table;

/// Runs the verb.
///
/// # Errors
/// Those of the login, and [`ReservationError`].
pub(crate) async fn run(context: &Context, args: &PrArgs) -> anyhow::Result<()> {
    let plain = Registration::default();
    match &args.action {
        PrAction::Show(unit) => show(context, unit).await,
        PrAction::Register(args) => {
            let with = Registration {
                persist: args.persist,
                ..plain
            };
            let key = args.with.key;
            on_unit(context, &args.with.unit, async |unit| {
                unit.register(key, with).await
            })
            .await
        }
        PrAction::Unregister(args) => registered(context, args, LogicalUnit::unregister).await,
        PrAction::Release(args) => {
            registered(context, args, LogicalUnit::release_reservation).await
        }
        PrAction::Clear(args) => registered(context, args, LogicalUnit::clear_reservations).await,
        PrAction::Reserve(args) => {
            let kind = args.kind.into();
            registered(context, &args.with, async |unit| unit.reserve(kind).await).await
        }
        PrAction::Preempt(args) => {
            let (victim, kind, abort) = (args.victim, args.with.kind.into(), args.abort);
            registered(context, &args.with.with, async |unit| {
                unit.preempt(victim, kind, abort).await
            })
            .await
        }
    }
}

/// Takes the registration up, then does `work`.
async fn registered(
    context: &Context,
    args: &KeyArgs,
    work: impl AsyncFnOnce(&LogicalUnit) -> Result<(), ReservationError>,
) -> anyhow::Result<()> {
    let key = args.key;
    on_unit(context, &args.unit, async |unit| {
        unit.adopt_registration(key, Registration::default())
            .await?;
        work(unit).await
    })
    .await
}

async fn on_unit(
    context: &Context,
    args: &UnitArgs,
    work: impl AsyncFnOnce(&LogicalUnit) -> Result<(), ReservationError>,
) -> anyhow::Result<()> {
    let address = args.address()?;
    with_unit(context, &args.login, &address, async |_, unit| {
        // Not cut short by a signal: half a change is worse than a late end.
        Ok(work(unit).await?)
    })
    .await
}

async fn show(context: &Context, args: &UnitArgs) -> anyhow::Result<()> {
    let address = args.address()?;
    let shown = with_unit(context, &args.login, &address, async |_, unit| {
        let look = async {
            Ok(Shown {
                keys: unit.registered_keys().await?,
                reservation: unit.reservation().await?,
                // Younger than the others, and not everywhere.
                status: unit.reservation_status().await.ok(),
                capabilities: unit.reservation_capabilities().await.ok(),
            })
        };
        context.interrupt.guard(look).await
    })
    .await?;
    if context.output.json {
        return output::print_json(&Json::from(&shown));
    }
    output::print(&shown.text())
}

struct Shown {
    keys: Vec<KeyCount>,
    reservation: Reservation,
    status: Option<FullStatus>,
    capabilities: Option<Capabilities>,
}

impl Shown {
    fn text(&self) -> String {
        let mut text = format!("generation {}\n", self.reservation.generation);
        match &self.reservation.held {
            Some(held) if held.kind.is_for_all_registrants() => {
                text.push_str(&format!("reserved: {}\n", held.kind.name()));
            }
            Some(held) => {
                text.push_str(&format!("reserved: {} by {}\n", held.kind.name(), held.key));
            }
            None => text.push_str("not reserved\n"),
        }
        if let Some(capabilities) = &self.capabilities {
            let types = types(capabilities).join(", ");
            let persist = match (capabilities.persist_capable, capabilities.persist_active) {
                (false, _) => "cannot survive",
                (true, false) => "do not survive",
                (true, true) => "survive",
            };
            text.push_str(&format!("registrations {persist} a loss of power\n"));
            if !types.is_empty() {
                text.push_str(&format!("types: {types}\n"));
            }
        }
        match &self.status {
            Some(status) if !status.registrants.is_empty() => {
                let rows = status.registrants.iter().map(|it| {
                    vec![
                        it.key.to_string(),
                        if it.holds.is_some() { "holds" } else { "-" }.to_owned(),
                        it.target_port.to_string(),
                        it.initiator.to_string(),
                    ]
                });
                let header = ["key", "reservation", "target port", "initiator port"];
                text.push_str(&table(&header, rows, &[2]));
            }
            _ => {
                let rows = self
                    .keys
                    .iter()
                    .map(|it| vec![it.key.to_string(), it.nexuses.to_string()]);
                if self.keys.is_empty() {
                    text.push_str("no registrations\n");
                } else {
                    text.push_str(&table(&["key", "paths"], rows, &[1]));
                }
            }
        }
        text
    }
}

fn types(capabilities: &Capabilities) -> Vec<&'static str> {
    let known = |kind: &ReservationType| capabilities.supports(*kind) == Some(true);
    ReservationType::ALL
        .into_iter()
        .filter(known)
        .map(ReservationType::name)
        .collect()
}

#[derive(Serialize)]
struct Json {
    generation: u32,
    reservation: Option<ReservationJson>,
    keys: Vec<KeyJson>,
    registrants: Option<Vec<RegistrantJson>>,
    types: Option<Vec<&'static str>>,
    survives_power_loss: Option<bool>,
}

#[derive(Serialize)]
struct ReservationJson {
    key: Option<String>,
    #[serde(rename = "type")]
    kind: &'static str,
}

#[derive(Serialize)]
struct KeyJson {
    key: String,
    paths: usize,
}

#[derive(Serialize)]
struct RegistrantJson {
    key: String,
    holds: bool,
    target_port: u16,
    initiator_port: String,
}

impl From<&Shown> for Json {
    fn from(shown: &Shown) -> Self {
        let registrant = |it: &Registrant| RegistrantJson {
            key: it.key.to_string(),
            holds: it.holds.is_some(),
            target_port: it.target_port,
            initiator_port: it.initiator.to_string(),
        };
        let reservation = shown.reservation.held.map(|held| ReservationJson {
            key: (!held.kind.is_for_all_registrants()).then(|| held.key.to_string()),
            kind: held.kind.name(),
        });
        let key = |it: &KeyCount| KeyJson {
            key: it.key.to_string(),
            paths: it.nexuses,
        };
        let status = shown.status.as_ref();
        Self {
            generation: shown.reservation.generation,
            reservation,
            keys: shown.keys.iter().map(key).collect(),
            registrants: status.map(|it| it.registrants.iter().map(registrant).collect()),
            types: shown.capabilities.as_ref().map(types),
            survives_power_loss: shown.capabilities.as_ref().map(|it| it.persist_active),
        }
    }
}
