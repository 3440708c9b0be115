//! Protocol and path logic takes bytes, time and randomness as arguments. This finds code that
//! fetches them itself.

use super::{Findings, SourceFile};

struct Pure {
    crate_dir: &'static str,
    /// Modules that do I/O; all others are pure.
    drivers: &'static [&'static str],
}

const PURE: &[Pure] = &[
    Pure {
        crate_dir: "scsi",
        drivers: &[],
    },
    Pure {
        crate_dir: "auth",
        drivers: &[],
    },
    Pure {
        crate_dir: "iscsi",
        drivers: &["net"],
    },
    Pure {
        crate_dir: "mpio",
        drivers: &["clock"],
    },
    Pure {
        crate_dir: "tests/target",
        drivers: &["serve", "main"],
    },
];

const FORBIDDEN: &[(&str, &str)] = &[
    ("Instant::now", "reads a clock"),
    ("SystemTime", "reads a clock"),
    ("getrandom", "draws randomness"),
    ("fastrand", "draws randomness"),
    ("rand", "draws randomness"),
    ("RandomState", "draws randomness"),
    ("tokio", "does I/O"),
    ("socket2", "does I/O"),
    ("TcpStream", "does I/O"),
    ("TcpListener", "does I/O"),
    ("UdpSocket", "does I/O"),
    ("ToSocketAddrs", "asks the resolver"),
    ("std::fs", "does I/O"),
    ("std::env", "reads the environment"),
    ("std::process", "starts or ends processes"),
    ("std::thread", "starts threads or sleeps"),
];

pub(super) fn check(files: &[SourceFile], findings: &mut Findings) {
    for pure in PURE {
        for file in files.iter().filter(|file| file.crate_dir == pure.crate_dir) {
            let is_driver = file
                .module
                .first()
                .is_some_and(|module| pure.drivers.contains(&module.as_str()));
            if is_driver {
                continue;
            }
            for (word, deed) in FORBIDDEN {
                for line in file.lines_with(word) {
                    let path = file.path.display();
                    findings.problem(format!(
                        "{path}:{line}: {word} {deed}; take it as an argument"
                    ));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(path: &str, text: &str) -> usize {
        let mut findings = Findings::default();
        check(&[SourceFile::new("iscsi", path, text)], &mut findings);
        findings.problems.len()
    }

    #[test]
    fn clocks_randomness_and_io_are_found_outside_drivers() {
        for text in [
            "let now = std::time::Instant::now();",
            "use tokio::sync::Semaphore;",
            "let x = fastrand::u32(..);",
            "std::thread::sleep(x);",
        ] {
            assert_eq!(problems("src/session/mod.rs", text), 1, "{text}");
            assert_eq!(problems("src/net/driver.rs", text), 0, "{text}");
            assert_eq!(problems("src/session/tests.rs", text), 0, "{text}");
        }
    }

    #[test]
    fn taking_time_as_an_argument_is_fine() {
        let text = "#[cfg(feature = \"tokio\")]\npub mod net;\nfn f(now: Instant) {} // tokio";
        assert_eq!(problems("src/lib.rs", text), 0);
    }
}
