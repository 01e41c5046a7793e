//! A system under a rain of faults: its functions' calls break off by lot, all the while. `cargo xtask crash --systems` does it to
//! the others, by other lots.

use shipway_tests::site;

use crate::{spa_nest, system::with_breaks};

/// Which calls break off here. Calls that are made at the same time come in any order, so not the same ones in each run.
const SEED: u64 = 7;

#[test]
fn a_system_whose_calls_break_off_by_lot_stands_and_goes_like_any_other() {
    with_breaks("spa-nest", "dev", Some(SEED), async |system| {
        system.roll_out_as("broken off", "api", "spa-nest-api", 8000).await?;
        system.second_apply_changes_nothing().await?;
        system.publish("1a2b3c", site::zip([("index.html", b"home".as_slice())])?).await?;
        assert_eq!(system.visit("/").await?, (200, "home".to_owned()));
        system.consists_of(spa_nest::STANDS)?;
        system.tears_down_to_nothing().await
    });
}
