//! Randomness by name: each facet of a scenario draws from a generator of its own, made of the
//! seed and the facet's name. A draw more in one place then shifts nothing in another, and a test
//! that counts on what seeds contain keeps its meaning.

use fastrand::Rng;

/// Where the facets of one seed come from.
#[derive(Debug, Clone, Copy)]
pub struct Facets(pub u64);

impl Facets {
    /// The generator of a facet.
    #[must_use]
    pub fn of(self, name: &str) -> Rng {
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Rng::with_seed(mix(self.0 ^ mix(hash)))
    }

    /// Facets within a facet: of one of several things of a kind.
    #[must_use]
    pub fn within(self, name: &str, number: usize) -> Self {
        let base = self.of(name).u64(..);
        Self(mix(base ^ number as u64))
    }
}

/// Neighbouring seeds have nothing in common afterwards (the finalizer of SplitMix64).
fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_facet_depends_on_seed_and_name_only() {
        let draw = |seed, name: &str| Facets(seed).of(name).u64(..);
        let mut other = Facets(1).of("links");
        other.u64(..);
        assert_eq!(draw(1, "target"), draw(1, "target"));
        assert_ne!(draw(1, "target"), draw(2, "target"));
        assert_ne!(draw(1, "target"), draw(1, "links"));
        assert_ne!(
            Facets(1).within("path", 0).of("x").u64(..),
            Facets(1).within("path", 1).of("x").u64(..)
        );
    }
}
