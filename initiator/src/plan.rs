//! Which portals become paths, and which of them belong together.
//!
//! Pure: names were resolved before, nothing is asked here.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::{Portal, PortalGroupTag, PortalSpec};

/// What the names among the portals resolve to. A portal that is missing stands for itself.
pub(crate) type Addresses = BTreeMap<Portal, Vec<SocketAddr>>;

/// The portals given, and behind them those that SendTargets lists besides. What is listed
/// tells the portal group of a portal that was given without one.
///
/// Portals given twice stay: two sessions over one portal are two paths. A portal that is listed
/// under its address and was given by its name is one portal.
pub(crate) fn merge(
    given: Vec<PortalSpec>,
    listed: &[(Portal, Option<PortalGroupTag>)],
    addresses: &Addresses,
) -> Vec<PortalSpec> {
    let same = |a: &Portal, b: &Portal| {
        let other = resolved(b, addresses);
        a == b
            || resolved(a, addresses)
                .iter()
                .any(|address| other.contains(address))
    };
    let mut paths = given;
    for path in &mut paths {
        let twin = listed.iter().find(|(portal, _)| same(&path.portal, portal));
        path.group = path.group.or_else(|| twin.and_then(|(_, group)| *group));
    }
    for (portal, group) in listed {
        if !paths.iter().any(|path| same(&path.portal, portal)) {
            paths.push(PortalSpec {
                portal: portal.clone(),
                group: *group,
            });
        }
    }
    paths
}

/// A portal that is in a list twice, with its places.
pub(crate) fn twice(portals: &[PortalSpec]) -> Option<(usize, usize, Portal)> {
    let places = portals.iter().enumerate();
    places.clone().find_map(|(second, spec)| {
        let mut before = places.clone().take(second);
        let (first, _) = before.find(|(_, other)| other.portal == spec.portal)?;
        Some((first, second, spec.portal.clone()))
    })
}

fn resolved(portal: &Portal, addresses: &Addresses) -> Vec<SocketAddr> {
    match (&portal.host, addresses.get(portal)) {
        (_, Some(resolved)) => resolved.clone(),
        (crate::Host::Ip(ip), None) => vec![(*ip, portal.port).into()],
        (crate::Host::Name(_), None) => Vec::new(),
    }
}

/// The other portals of the group that path `index` belongs to, each once. None when its group
/// is not known.
pub(crate) fn peers(paths: &[(&Portal, Option<PortalGroupTag>)], index: usize) -> Vec<Portal> {
    let Some((home, Some(group))) = paths.get(index).copied() else {
        return Vec::new();
    };
    let mut peers: Vec<Portal> = Vec::new();
    for (portal, tag) in paths {
        if *tag == Some(group) && *portal != home && !peers.contains(portal) {
            peers.push((*portal).clone());
        }
    }
    peers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn portal(text: &str) -> Portal {
        text.parse().unwrap()
    }

    fn spec(text: &str, group: impl Into<Option<u16>>) -> PortalSpec {
        PortalSpec {
            portal: portal(text),
            group: group.into().map(PortalGroupTag),
        }
    }

    fn listed(rows: &[(&str, u16)]) -> Vec<(Portal, Option<PortalGroupTag>)> {
        let row = |(text, tag): &(&str, u16)| (portal(text), Some(PortalGroupTag(*tag)));
        rows.iter().map(row).collect()
    }

    #[test]
    fn listed_portals_come_behind_those_given_and_tell_their_groups() {
        let found = merge(
            vec![spec("192.0.2.2", None), spec("192.0.2.9", 7)],
            &listed(&[("192.0.2.1", 1), ("192.0.2.2", 2), ("192.0.2.9", 1)]),
            &Addresses::new(),
        );
        let expected = [
            spec("192.0.2.2", 2),
            spec("192.0.2.9", 7),
            spec("192.0.2.1", 1),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_name_and_its_address_are_one_portal() {
        let addresses = [(portal("san"), vec!["192.0.2.1:3260".parse().unwrap()])].into();
        let found = merge(
            vec![spec("san", None)],
            &listed(&[("192.0.2.1", 1), ("192.0.2.1:3261", 1)]),
            &addresses,
        );
        assert_eq!(found, [spec("san", 1), spec("192.0.2.1:3261", 1)]);
    }

    #[test]
    fn names_that_do_not_resolve_are_not_one_another() {
        let found = merge(
            vec![spec("a", None)],
            &listed(&[("b", 1)]),
            &Addresses::new(),
        );
        assert_eq!(found, [spec("a", None), spec("b", 1)]);
    }

    #[test]
    fn a_portal_given_twice_is_found_with_both_places() {
        let list = ["192.0.2.1", "192.0.2.2", "192.0.2.1"].map(|it| spec(it, None));
        let (first, second, portal) = twice(&list).unwrap();
        assert_eq!((first, second), (0, 2));
        assert_eq!(portal, list[0].portal);
        assert_eq!(twice(&list[..2]), None);
    }

    #[test]
    fn a_portal_given_twice_is_two_paths() {
        let twice = vec![spec("192.0.2.1", None), spec("192.0.2.1", None)];
        let found = merge(twice, &listed(&[("192.0.2.1", 1)]), &Addresses::new());
        assert_eq!(found, [spec("192.0.2.1", 1), spec("192.0.2.1", 1)]);
    }

    #[test]
    fn peers_share_the_group() {
        let (a, b, c, d) = (portal("a"), portal("b"), portal("c"), portal("d"));
        let tag = |tag| Some(PortalGroupTag(tag));
        let paths = [
            (&a, tag(1)),
            (&b, tag(2)),
            (&c, tag(1)),
            (&d, None),
            (&c, tag(1)),
            (&a, tag(1)),
        ];
        assert_eq!(peers(&paths, 0), std::slice::from_ref(&c));
        assert_eq!(peers(&paths, 2), std::slice::from_ref(&a));
        assert_eq!(peers(&paths, 1), []);
        assert_eq!(peers(&paths, 3), []);
        assert_eq!(peers(&paths, 9), []);
    }
}
