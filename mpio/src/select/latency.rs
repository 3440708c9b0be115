//! Latency: in every evaluation interval each path gets a few commands as a sample; the others
//! go where (commands under way + 1) x mean latency of the last sample is least. VMware's
//! round robin by latency works like this.
//!
//! Slower to notice a change than [`super::historical`], and steadier.

use super::{PathView, Tuning, Turn, least};

/// Index of the path to use.
pub(super) fn select(paths: &[PathView], tuning: &Tuning, turn: Turn) -> Option<usize> {
    let known = paths.iter().filter_map(|path| path.speed.latency_ns);
    let fastest = known.min().unwrap_or(1);
    let key = |path: &PathView| {
        let latency = path.speed.latency_ns.unwrap_or(fastest);
        let waiting = u128::from(path.in_flight) + 1;
        let complete = missing(path, tuning, turn) == 0;
        // While samples are missing, those paths first, the idlest of them.
        (
            complete,
            if complete {
                waiting * u128::from(latency)
            } else {
                waiting
            },
        )
    };
    least(paths, turn, |a, b| key(a).cmp(&key(b)))
}

/// Commands that the path's sample still needs, besides those under way.
fn missing(path: &PathView, tuning: &Tuning, turn: Turn) -> u32 {
    let sampled = if path.speed.interval == interval(tuning, turn.now_ns) {
        path.speed.sampled
    } else {
        0
    };
    let coming = sampled.saturating_add(path.in_flight);
    tuning.latency_ios.saturating_sub(coming)
}

/// The evaluation interval a moment falls into.
pub(super) fn interval(tuning: &Tuning, now_ns: u64) -> u64 {
    let length = u64::try_from(tuning.latency_interval.as_nanos()).unwrap_or(u64::MAX);
    // Counted from 1: 0 is the interval of a path that was never sampled.
    now_ns.checked_div(length).unwrap_or(0).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::super::tests::view;
    use super::*;

    const NOW: u64 = 100_000_000_000;

    fn turn(count: u64) -> Turn {
        Turn {
            count,
            now_ns: NOW,
            ..Turn::default()
        }
    }

    fn sampled(id: u8, in_flight: u32, latency_ns: u64) -> PathView {
        let tuning = Tuning::default();
        let mut path = view(id, in_flight, 0);
        path.speed.latency_ns = Some(latency_ns);
        path.speed.interval = interval(&tuning, NOW);
        path.speed.sampled = tuning.latency_ios;
        path
    }

    fn choose(paths: &[PathView], count: u64) -> usize {
        select(paths, &Tuning::default(), turn(count)).unwrap()
    }

    #[test]
    fn the_faster_path_carries_more() {
        let mut paths = [sampled(0, 0, 1_000_000), sampled(1, 0, 250_000)];
        assert_eq!(choose(&paths, 0), 1);
        for count in 0..100 {
            let index = choose(&paths, count);
            paths[index].in_flight += 1;
        }
        assert_eq!(paths.map(|path| path.in_flight), [20, 80]);
    }

    #[test]
    fn a_slow_path_gets_its_sample_and_no_more() {
        let tuning = Tuning::default();
        let mut paths = [sampled(0, 0, 1_000), sampled(1, 0, 1_000_000)];
        paths[1].speed.sampled = 0;
        let mut on_slow = 0;
        for count in 0..100 {
            let index = choose(&paths, count);
            if index == 1 {
                on_slow += 1;
                paths[1].speed.sampled += 1;
            }
        }
        assert_eq!(on_slow, tuning.latency_ios);
        // Commands under way count: a path that does not answer gets no more than its sample.
        paths[1].speed.sampled = 0;
        paths[1].in_flight = tuning.latency_ios;
        assert_eq!(choose(&paths, 0), 0);
    }

    #[test]
    fn a_new_interval_needs_new_samples() {
        let tuning = Tuning::default();
        let mut paths = [sampled(0, 0, 1_000), sampled(1, 0, 1_000_000)];
        paths[0].speed.interval -= 1;
        paths[1].speed.interval -= 1;
        let missing = |path: &PathView| missing(path, &tuning, turn(0));
        assert_eq!(missing(&paths[1]), tuning.latency_ios);
        assert_eq!([0, 1].map(|count| choose(&paths, count)), [0, 1]);
        let zero = Tuning {
            latency_interval: std::time::Duration::ZERO,
            ..tuning
        };
        assert_eq!(interval(&zero, NOW), 1);
    }
}
