//! Historical service time: the path that would be done first, by how long commands took on it
//! before. What dm-multipath calls `historical-service-time`.
//!
//! Compares (commands under way + 1) x average service time. Paths whose average is within
//! [`Tuning::historical_threshold`] of the fastest's count as equally fast, so that noise does
//! not herd all I/O onto one. An idle path of which nothing is known, or nothing new, gets one
//! command to learn from.

use std::cmp::Ordering;

use super::{PathView, Tuning, Turn, least};

/// Index of the path to use.
pub(super) fn select(paths: &[PathView], tuning: &Tuning, turn: Turn) -> Option<usize> {
    let known = paths.iter().filter_map(|path| path.speed.service_ns);
    let fastest = known.min().unwrap_or(0);
    let near = fastest.saturating_mul(tuning.historical_threshold.max(1).into());
    let cost = |path: &PathView| {
        let waiting = u128::from(path.in_flight) + 1;
        match path.speed.service_ns {
            _ if is_due(path, tuning, turn) => 0,
            Some(service) if service > near => waiting * u128::from(service),
            // Unknown but busy: as good as the best, no better.
            Some(_) | None => waiting * u128::from(fastest.max(1)),
        }
    };
    least(paths, turn, |a, b| {
        cost(a).cmp(&cost(b)).then(Ordering::Equal)
    })
}

/// Whether a command should find out how fast the path is.
fn is_due(path: &PathView, tuning: &Tuning, turn: Turn) -> bool {
    if path.in_flight > 0 {
        return false;
    }
    let Some(service) = path.speed.service_ns else {
        return true;
    };
    let fresh = service.saturating_mul(tuning.historical_valid.into());
    turn.now_ns > path.speed.last_end_ns.saturating_add(fresh)
}

#[cfg(test)]
mod tests {
    use super::super::tests::view;
    use super::*;

    fn timed(id: u8, in_flight: u32, service_ns: u64) -> PathView {
        let mut path = view(id, in_flight, 0);
        path.speed.service_ns = Some(service_ns);
        path.speed.last_end_ns = NOW;
        path
    }

    const NOW: u64 = 1_000_000_000;

    fn turn(count: u64) -> Turn {
        Turn {
            count,
            now_ns: NOW,
            ..Turn::default()
        }
    }

    fn choose(paths: &[PathView], count: u64) -> usize {
        select(paths, &Tuning::default(), turn(count)).unwrap()
    }

    #[test]
    fn ten_times_as_fast_carries_ten_times_as_much() {
        let mut paths = [timed(0, 0, 1_000_000), timed(1, 0, 100_000)];
        for count in 0..110 {
            let index = choose(&paths, count);
            paths[index].in_flight += 1;
        }
        assert_eq!(paths.map(|path| path.in_flight), [10, 100]);
    }

    #[test]
    fn small_differences_are_none() {
        let mut paths = [timed(0, 0, 190_000), timed(1, 0, 100_000)];
        for count in 0..100 {
            let index = choose(&paths, count);
            paths[index].in_flight += 1;
        }
        assert_eq!(paths.map(|path| path.in_flight), [50, 50]);
    }

    #[test]
    fn an_idle_path_nothing_is_known_of_gets_one_command() {
        let mut paths = [timed(0, 0, 100), view(1, 0, 0)];
        assert_eq!([0, 1].map(|count| choose(&paths, count)), [1, 1]);
        paths[1].in_flight = 1;
        assert_eq!([0, 1].map(|count| choose(&paths, count)), [0, 0]);
    }

    #[test]
    fn so_does_one_that_has_been_idle_for_long() {
        let valid = u64::from(Tuning::default().historical_valid);
        let mut paths = [timed(0, 0, 1000), timed(1, 0, 50_000)];
        paths[1].speed.last_end_ns = NOW - 50_000 * valid;
        assert_eq!(choose(&paths, 1), 0);
        paths[1].speed.last_end_ns -= 1;
        assert_eq!(choose(&paths, 0), 1);
        paths[1].in_flight = 1;
        assert_eq!(choose(&paths, 1), 0);
    }

    #[test]
    fn paths_nothing_is_known_of_share() {
        let mut paths = [view(0, 0, 0), view(1, 0, 0), view(2, 0, 0)];
        for count in 0..30 {
            let index = choose(&paths, count);
            paths[index].in_flight += 1;
        }
        assert_eq!(paths.map(|path| path.in_flight), [10, 10, 10]);
    }

    #[test]
    fn absurd_times_do_no_harm() {
        let paths = [timed(0, u32::MAX, u64::MAX), timed(1, u32::MAX, u64::MAX)];
        assert_eq!(choose(&paths, 1), 1);
    }
}
