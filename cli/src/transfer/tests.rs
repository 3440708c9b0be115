use super::*;
use crate::exit::Status;

fn file(data: &[u8]) -> End {
    let file = tempfile::tempfile().expect("a file");
    file.write_all_at(data, 0).expect("written");
    End::File(Arc::new(file))
}

fn content(end: &End) -> Vec<u8> {
    let End::File(file) = end else {
        panic!("no file")
    };
    let mut data = vec![0; as_usize(file.metadata().expect("examined").len())];
    file.read_exact_at(&mut data, 0).expect("read");
    data
}

fn noise(len: usize) -> Vec<u8> {
    let mut data = vec![0; len];
    fastrand::Rng::with_seed(1).fill(&mut data);
    data
}

#[tokio::test]
async fn everything_is_copied_once() {
    let interrupt = Interrupt::listen().expect("signals");
    for len in [0, 1, CHUNK_BYTES, CHUNK_BYTES * 19 + 3] {
        let data = noise(as_usize(len));
        let (from, to) = (file(&data), file(&[]));
        let progress = Progress::silent();
        copy(&from, &to, len, &progress, &interrupt)
            .await
            .expect("copied");
        assert!(content(&to) == data, "{len}");
        assert_eq!(progress.so_far(), len);
        let same = compare(&from, &to, len, &progress, &interrupt)
            .await
            .expect("compared");
        assert_eq!(same, None);
    }
}

#[tokio::test]
async fn the_first_of_many_differences_is_named() {
    let interrupt = Interrupt::listen().expect("signals");
    let data = noise(as_usize(CHUNK_BYTES * 12));
    for first in [
        0,
        17,
        as_usize(CHUNK_BYTES) - 1,
        as_usize(CHUNK_BYTES) * 5 + 1,
    ] {
        let mut other = data.clone();
        for at in (first..other.len()).step_by(65_537) {
            other[at] ^= 1;
        }
        let (one, other) = (file(&data), file(&other));
        let total = as_u64(data.len());
        let found = compare(&one, &other, total, &Progress::silent(), &interrupt).await;
        assert_eq!(found.expect("compared"), Some(as_u64(first)));
    }
}

#[tokio::test]
async fn a_source_that_shrank_is_an_error_that_says_how_far_it_got() {
    let interrupt = Interrupt::listen().expect("signals");
    let (from, to) = (file(&noise(as_usize(CHUNK_BYTES * 3))), file(&[]));
    let failed = copy(&from, &to, CHUNK_BYTES * 5, &Progress::silent(), &interrupt).await;
    let error = failed.expect_err("too short");
    let expected = format!("copied {} of {} bytes", CHUNK_BYTES * 3, CHUNK_BYTES * 5);
    assert_eq!(error.to_string(), expected);
    assert_eq!(Status::of(&error), Status::Other);
}

#[test]
fn reach_counts_no_hole() {
    let reach = Reach::from(100);
    reach.arrived(110, 10);
    assert_eq!(reach.bytes(), 0);
    reach.arrived(130, 10);
    reach.arrived(100, 10);
    assert_eq!(reach.bytes(), 20);
    reach.arrived(120, 10);
    assert_eq!(reach.bytes(), 40);
}

#[test]
fn what_was_begun_and_never_ended_is_uncertain() {
    let reach = Reach::from(0);
    assert_eq!(reach.uncertain(), None);
    for offset in [0, 10, 20, 30] {
        reach.begun(offset, 10);
    }
    reach.arrived(0, 10);
    reach.refused(30);
    assert_eq!(reach.uncertain(), Some((10, 30)));
    reach.arrived(20, 10);
    assert_eq!(reach.uncertain(), Some((10, 20)));
    let error = reach.explain(Err::<(), _>(anyhow::anyhow!("x")), String::new);
    assert_eq!(Status::of(&error.expect_err("an error")), Status::Unknown);
    reach.refused(10);
    let error = reach.explain(Err::<(), _>(anyhow::anyhow!("x")), String::new);
    assert_eq!(Status::of(&error.expect_err("an error")), Status::Other);
}

#[test]
fn differences_are_found_at_their_first_byte() {
    assert_eq!(first_difference(b"abc", b"abc"), None);
    assert_eq!(first_difference(b"abc", b"aXc"), Some(1));
    assert_eq!(first_difference(b"abc", b"ab"), Some(2));
}

proptest::proptest! {
    #[test]
    fn reach_is_the_first_missing_chunk(
        order in proptest::sample::subsequence((0_u64..24).collect::<Vec<_>>(), 0..24), seed: u64,
    ) {
        let mut shuffled = order.clone();
        fastrand::Rng::with_seed(seed).shuffle(&mut shuffled);
        let reach = Reach::from(7);
        for chunk in shuffled {
            reach.arrived(7 + chunk * 3, 3);
        }
        let missing = (0..24).find(|chunk| !order.contains(chunk)).unwrap_or(24);
        proptest::prop_assert_eq!(reach.bytes(), missing * 3);
    }
}
