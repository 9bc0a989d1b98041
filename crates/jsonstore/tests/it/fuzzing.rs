//! The fuzz targets with a plain mutator, for machines without a fuzzer.

use hearth_jsonstore::testing::{TARGETS, mutate, run_target, sample};

#[test]
fn mutated_inputs_never_panic() {
    let long = std::env::var("E2E_LONG").is_ok();
    for name in TARGETS {
        let sample = sample(name);
        assert!(!sample.is_empty());
        run_target(name, &sample);
        let slow = matches!(name, "wal" | "segment");
        let rounds = if long {
            200_000
        } else if slow {
            400
        } else {
            4_000
        };
        for seed in 0..rounds {
            run_target(name, &mutate(&sample, seed));
        }
    }
}
