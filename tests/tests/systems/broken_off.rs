//! A system under a rain of faults: its functions' calls break off by lot, all the while. `cargo xtask crash --systems` does it to
//! the others, by other lots.

use shipway_tests::site;

use crate::{
    inventory::{BALANCED, INSTANCES, ONE_SERVICE, Parts, SITE},
    system::with_breaks,
};

/// Which calls break off here. Calls that are made at the same time come in any order, so not the same ones in each run.
const SEED: u64 = 6;

/// What came with it, as without faults: System 1 where it has no domain.
const STANDS: &Parts = &[
    BALANCED,
    INSTANCES,
    SITE,
    ONE_SERVICE,
    &[("cloudformation describe_stacks", 6), ("ec2 describe_security_groups", 3)],
];

#[test]
fn a_system_whose_calls_break_off_by_lot_stands_and_goes_like_any_other() {
    with_breaks("next-nest", "dev", Some(SEED), async |system| {
        system.roll_out("api", "next-nest-api", 8000).await?;
        system.second_apply_changes_nothing().await?;
        system.publish("1a2b3c", site::hello("1", 6)?).await?;
        let (answered, page) = system.visit("/").await?;
        assert!(answered == 200 && page.contains("Version 1."), "{answered} {page}");
        system.consists_of(STANDS)?;
        system.tears_down_to_nothing().await
    });
}
