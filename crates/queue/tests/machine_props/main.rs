//! Laws of store and dispatcher together, over random loads, delays, lost nodes and changes of leader.
//! Not here: what each does by itself (`store`, `dispatch`). `WARREN_PROPTEST_CASES` sets the number of runs, `WARREN_SEED` one seed.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation
)]

mod drain;
mod features;
mod groups;
mod laws;
mod nodes;
#[path = "../support/rows.rs"]
mod rows;
mod sessions;
mod together;
mod world;

use world::World;

fn number(name: &str, default: u64) -> u64 {
    let text = std::env::var_os(name).and_then(|it| it.into_string().ok());
    text.and_then(|it| it.parse().ok()).unwrap_or(default)
}

#[test]
fn random_life_of_a_shard_keeps_every_law() {
    let first = number("WARREN_SEED", 1);
    let cases = if first == 1 {
        number("WARREN_PROPTEST_CASES", 150)
    } else {
        1
    };
    let (mut delivered, mut starved) = (0, 0);
    for seed in first..first + cases {
        println!("WARREN_SEED={seed}");
        let mut world = World::new(seed);
        for _ in 0..400 {
            world.random_step();
        }
        world.drain();
        delivered += world.delivered;
        starved += world.starved;
    }
    assert!(
        delivered > cases * 100,
        "the runs hardly did anything: {delivered}"
    );
    assert!(cases < 16 || starved > 0, "nothing ever waited");
}
